//! What the log says of a fault that ends a program: the line that `dmesg` has on Linux, and enough to see
//! what ran.

use crate::abi::sigctx::{SigContext, SigInfo};
use crate::mm::{AddressSpace, Backing, UserSlice};
use crate::signal::{SIG_DFL, SIG_IGN};
use crate::task::CurrentTask;
use alloc::string::String;
use core::fmt;

/// Bytes of code in front of the faulting instruction, and from it on, that are shown.
const AROUND: u64 = 16;
/// Words of the stack that are shown.
const STACK_WORDS: usize = 8;

/// An address as the mapping that it lies in, and the offset in that mapping's file.
struct Place<'a>(&'a AddressSpace, u64);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.1;
        match self.0.find(at) {
            Some(vma) => match &vma.backing {
                Backing::File { offset, name, .. } => {
                    write!(f, "{at:#x} ({}+{:#x})", String::from_utf8_lossy(name), offset + (at - vma.start))
                }
                Backing::Anon => write!(f, "{at:#x} ({}+{:#x})", vma.label, at - vma.start),
            },
            None => write!(f, "{at:#x} (not mapped)"),
        }
    }
}

/// Logs the fault if nothing handles its signal.
pub fn report(cur: &CurrentTask, sig: u32, info: &SigInfo, regs: &SigContext) {
    let action = cur.group.actions().get(sig).handler;
    if !log::log_enabled!(log::Level::Info) || !matches!(action, SIG_DFL | SIG_IGN) {
        return;
    }
    let mm = cur.mm();
    log::info!(
        "pid {} tid {}: signal {sig} code {} at {}, pc {}, rsp {}",
        cur.group.pid,
        cur.tid(),
        info.code,
        Place(mm, info.fields[0]),
        Place(mm, regs.rip),
        Place(mm, regs.rsp),
    );
    log::info!("{regs}");
    let mut code = [0u8; 2 * AROUND as usize];
    let mut stack = [0u64; STACK_WORDS];
    let start = regs.rip.wrapping_sub(AROUND);
    let code_read = UserSlice::<u8>::new(start, code.len()).read_into(&mut code).is_ok();
    let stack_read = UserSlice::<u64>::new(regs.rsp & !7, STACK_WORDS).read_into(&mut stack).is_ok();
    if code_read {
        let (before, after) = code.split_at(AROUND as usize);
        log::info!("code {before:02x?} <pc> {after:02x?}");
    }
    if stack_read {
        log::info!("stack {stack:x?}");
    }
    if let Some(hit) = mm.site_of_stub(regs.rip) {
        log::info!("pc is on the way of the call at {}", Place(mm, hit.site));
    }
}
