//! The end of the sandbox: a kernel panic leaves its message here, rings the supervisor and stops
//! this host process. The supervisor ends everything else.

use crate::abi::linux;
use crate::arch;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};

const MAX: usize = 4096;
static STATE: AtomicU32 = AtomicU32::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);
static mut TEXT: [u8; MAX] = [0; MAX];
static DOORBELL: AtomicI32 = AtomicI32::new(-1);

/// Exit status of a host process that panicked, and of the sandbox.
pub const STATUS: i32 = 70;

/// Records the supervisor's doorbell (at boot).
pub fn set_doorbell(fd: i32) {
    DOORBELL.store(fd, SeqCst);
}

/// Wakes the supervisor's loop.
pub fn ring() {
    let one = 1u64;
    let fd = DOORBELL.load(SeqCst);
    // SAFETY: eight bytes of our stack.
    unsafe { arch::syscall(linux::__NR_write, [fd as u64, core::ptr::from_ref(&one) as u64, 8, 0, 0, 0]) };
}

struct Text;
impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let at = LEN.load(SeqCst);
        let n = s.len().min(MAX - at);
        // SAFETY: only the first panic writes (see `panic`), within bounds.
        unsafe { core::ptr::copy_nonoverlapping(s.as_ptr(), (&raw mut TEXT).cast::<u8>().add(at), n) };
        LEN.store(at + n, SeqCst);
        Ok(())
    }
}

/// Records why the sandbox must end, and rings the supervisor. The first message stands.
pub fn set_message(message: fmt::Arguments<'_>) {
    if STATE.compare_exchange(0, 1, SeqCst, SeqCst).is_ok() {
        let _ = Text.write_fmt(message);
        let slot = arch::try_slot().map_or(u32::MAX, |s| s.index.load(SeqCst));
        let _ = write!(Text, "\nslot {slot}, backtrace (image offsets): {:x?}", backtrace());
        STATE.store(2, SeqCst);
        ring();
    }
}

/// Ends the sandbox with this message, and the running host process. The first caller wins.
pub fn panic(message: fmt::Arguments<'_>) -> ! {
    set_message(message);
    if super::process::is_supervisor() {
        // Nobody is left to carry the message: it goes to the standard error that the supervisor kept.
        for text in [self::message().unwrap_or_default(), "\n"] {
            // SAFETY: bytes of ours.
            unsafe { arch::syscall(linux::__NR_write, [2, text.as_ptr() as u64, text.len() as u64, 0, 0, 0]) };
        }
    }
    super::process::exit_process(STATUS)
}

/// Return addresses of the callers, as offsets in the image; the image keeps frame pointers.
#[inline(never)]
fn backtrace() -> [u64; 16] {
    let mut trace = [0; 16];
    let image = arch::slot::window() + crate::abi::layout::IMAGE;
    let mut rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    for entry in &mut trace {
        if !rbp.is_multiple_of(8) || !arch::frame::on_slot_stack(rbp) {
            break;
        }
        // SAFETY: within the mapped slots.
        let (next, ret) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        *entry = ret.wrapping_sub(image);
        rbp = next;
    }
    trace
}

/// The message, once there was a panic.
pub fn message() -> Option<&'static str> {
    if STATE.load(SeqCst) != 2 {
        return None;
    }
    // SAFETY: complete, and never written again.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const TEXT).cast::<u8>(), LEN.load(SeqCst)) };
    Some(core::str::from_utf8(bytes).unwrap_or("kernel panic (message unreadable)"))
}
