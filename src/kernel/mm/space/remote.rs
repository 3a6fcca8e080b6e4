//! Reading and writing an address space for somebody else: by a thread that lives in it.

use super::super::rewrite;
use super::super::{IoDst, IoSrc, IoVec};
use super::{AddressSpace, Inner, window};
use crate::abi::layout::VDSO;
use crate::abi::linux::{PROT_NONE, PROT_READ, PROT_WRITE};
use crate::arch;

const PAGE: u64 = 4096;

/// Whose rights a copy has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// The mapping's protection holds (`process_vm_readv`).
    No,
    /// A debugger's: what the process may never write itself is written nevertheless, as a copy of its own
    /// (`/proc/PID/mem`, `ptrace`).
    Yes,
}

/// Bytes from `addr` on, at most `len`, that are mapped without a hole, are the guest's and not secret, and have the
/// protection `prot`: the processor lets programs read what may be written or run only, others may not.
fn mapped(inner: &Inner, addr: u64, len: u64, prot: u32) -> u64 {
    let end = addr.saturating_add(len);
    let mut at = addr;
    for v in inner.vmas.overlapping(addr, end) {
        if v.start > at || v.label == rewrite::LABEL || v.is_secret() || v.prot & prot != prot {
            break;
        }
        at = v.end;
    }
    at.min(end) - addr
}

/// The vDSO lies in the window, and is read from there.
fn read_vdso(addr: u64, buf: &mut [u8]) -> usize {
    let image = arch::vdso::image();
    let Some(at) = addr.checked_sub(window() + VDSO + PAGE) else { return 0 };
    // Whole pages, zeros behind the image.
    let end = (image.len() as u64).next_multiple_of(PAGE);
    let n = end.saturating_sub(at).min(buf.len() as u64) as usize;
    buf[..n].fill(0);
    let from = image.get(at as usize..).unwrap_or(&[]);
    let real = from.len().min(n);
    buf[..real].copy_from_slice(&from[..real]);
    n
}

impl AddressSpace {
    /// Puts every rewritten site back, for good. By a thread that lives here.
    pub fn undo_rewriting(&self) {
        self.exclusively(|inner| inner.patches.undo(&inner.vmas));
    }

    /// Nothing that will be mapped here is ever rewritten.
    pub fn refuse_rewriting(&self) {
        self.inner.write().patches.refuse();
    }

    /// Reads for somebody else; returns how many bytes there were in front of the first that cannot be read.
    /// Code reads as its file says. By a thread that lives here.
    pub fn peek(&self, addr: u64, buf: &mut [u8], force: Force) -> usize {
        let forced = |inner: &mut Inner, buf: &mut [u8]| {
            let prot = if force == Force::No { PROT_READ } else { PROT_NONE };
            let n = mapped(inner, addr, buf.len() as u64, prot) as usize;
            if force == Force::No || n == 0 {
                return (n, 0);
            }
            let done = inner.patches.read_by_force(&inner.vmas, addr, &mut buf[..n]);
            inner.patches.hide(&inner.vmas, addr, &mut buf[..done]);
            (n, done)
        };
        let (n, done) = self.exclusively(|inner| forced(inner, buf));
        if n == 0 {
            return read_vdso(addr, buf);
        }
        if force == Force::Yes {
            return done;
        }
        let done = IoSrc::user(&[IoVec { base: addr, len: n as u64 }]).take(&mut buf[..n]).unwrap_or(0);
        let inner = self.inner.read();
        inner.patches.hide(&inner.vmas, addr, &mut buf[..done]);
        done
    }

    /// Writes for somebody else; returns how many bytes there were in front of the first that cannot be
    /// written. By a thread that lives here.
    pub fn poke(&self, addr: u64, bytes: &[u8], force: Force) -> usize {
        let (n, done) = self.exclusively(|inner| {
            let prot = if force == Force::No { PROT_WRITE } else { PROT_NONE };
            let n = mapped(inner, addr, bytes.len() as u64, prot) as usize;
            let done = if force == Force::Yes { inner.force_writes(addr, &bytes[..n]) } else { Some(0) };
            (n, done)
        });
        // `None`: the rest is writable by itself.
        match done {
            Some(done) if force == Force::Yes => return done,
            _ => {}
        }
        IoDst::user(&[IoVec { base: addr, len: n as u64 }]).put(&bytes[..n]).unwrap_or(0)
    }
}

impl Inner {
    /// Writes by force; `None` where nothing of the range needs force. Returns how much was written.
    fn force_writes(&mut self, addr: u64, bytes: &[u8]) -> Option<usize> {
        let end = addr + bytes.len() as u64;
        if self.vmas.overlapping(addr, end).all(|v| v.prot & PROT_WRITE != 0) {
            return None;
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + done as u64;
            let Some(v) = self.vmas.find(at) else { break };
            // A shared mapping has no copies of its own.
            if v.shared && v.prot & PROT_WRITE == 0 {
                break;
            }
            let len = (bytes.len() - done).min((v.end - at) as usize);
            self.patches.before_change(&self.vmas, at, at + len as u64, false);
            let wrote = self.patches.write_by_force(&self.vmas, at, &bytes[done..done + len]);
            done += wrote;
            if wrote < len {
                break;
            }
        }
        Some(done)
    }
}
