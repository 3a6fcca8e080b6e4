//! What others see of rewritten code: nothing. Sites are put back for good before a process is traced, and
//! whoever reads code gets the bytes of its file.

use super::{MappedCopy, PAGE, Patches, SYSCALL, restore};
use crate::abi::linux::{PROT_EXEC, PROT_READ};
use crate::abi::text::{Form, Front, JUMP};
use crate::host::{files, mem};
use crate::mm::UserSlice;
use crate::mm::vma::{Backing, VmaTree};
use alloc::vec::Vec;

impl Patches {
    /// Puts every site back, for good. Stubs stay: a thread may be on its way through one.
    pub fn undo(&mut self, vmas: &VmaTree) {
        let all: Vec<u64> = self.sites.keys().copied().collect();
        self.put_back(vmas, &all);
        for c in core::mem::take(&mut self.copies) {
            self.put_back_copy(vmas, &c, 0..0);
            self.copies.push(MappedCopy { put_back: true, ..c });
        }
        self.off = true;
    }

    /// No site is ever rewritten, and no copy mapped; for an address space that has none yet.
    pub fn refuse(&mut self) {
        self.off = true;
    }

    /// What was at `start..end` has moved away.
    pub fn forget(&mut self, start: u64, end: u64) {
        self.copies.retain(|c| c.end <= start || c.start >= end);
    }

    /// Writes what the process itself may not write: a copy of the page's own, whatever its protection.
    /// Returns how much.
    pub fn write_by_force(&mut self, vmas: &VmaTree, at: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let n = (bytes.len() - done).min((PAGE - (here & (PAGE - 1))) as usize);
            if self.write(vmas, here, &bytes[done..done + n]).is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Reads what the process itself may not read. Returns how much.
    pub fn read_by_force(&mut self, vmas: &VmaTree, at: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            let page = here & !(PAGE - 1);
            let n = (buf.len() - done).min((page + PAGE - here) as usize);
            let Some(prot) = vmas.find(here).map(|v| v.prot) else { break };
            if prot & PROT_READ == 0 {
                // As for a write: who is to run it meanwhile tries again.
                self.writes += 1;
                if mem::mprotect(page, PAGE, (prot | PROT_READ) & !PROT_EXEC).is_err() {
                    break;
                }
            }
            let read = UserSlice::<u8>::new(here, n).read_nofault(&mut buf[done..done + n]);
            let restored = if prot & PROT_READ == 0 { restore(&[(page, prot)]) } else { Ok(()) };
            if read.is_err() || restored.is_err() {
                break;
            }
            done += n;
        }
        done
    }

    /// Replaces what is ours in `buf`, which was read at `addr`, by what the guest mapped.
    pub fn hide(&self, vmas: &VmaTree, addr: u64, buf: &mut [u8]) {
        let end = addr + buf.len() as u64;
        for (&site, _) in self.sites.range(addr.saturating_sub(1)..end.saturating_add(u64::from(Front::MAX))) {
            match self.moved.get(&site) {
                Some(m) => put(addr, buf, m.span().0, m.was()),
                None => put(addr, buf, site, &SYSCALL),
            }
        }
        for c in self.copies.iter().filter(|c| c.start < end && c.end > addr) {
            for p in c.copy.patched() {
                let site = c.start + u64::from(p.site);
                let stub = c.start + u64::from(p.stub);
                from_file(vmas, addr, buf, stub, u64::from(p.form.stub_len()));
                let (front, relay) = match p.form {
                    Form::Before { len } => ((site - u64::from(len), u64::from(len)), None),
                    Form::Relay { at } => ((site, 2), Some(c.start + u64::from(at))),
                };
                if !c.put_back {
                    from_file(vmas, addr, buf, front.0, front.1);
                }
                if let Some(at) = relay {
                    from_file(vmas, addr, buf, at, u64::from(JUMP));
                }
            }
        }
    }
}

/// Puts those of `bytes`, which belong at `at`, into `buf` that lie in it.
fn put(addr: u64, buf: &mut [u8], at: u64, bytes: &[u8]) {
    for (i, &byte) in bytes.iter().enumerate() {
        let index = (at + i as u64).checked_sub(addr).and_then(|n| usize::try_from(n).ok());
        if let Some(to) = index.and_then(|n| buf.get_mut(n)) {
            *to = byte;
        }
    }
}

/// Puts the file's bytes of `at..at + len` into `buf`.
fn from_file(vmas: &VmaTree, addr: u64, buf: &mut [u8], at: u64, len: u64) {
    if at >= addr + buf.len() as u64 || at + len <= addr {
        return;
    }
    let Some(vma) = vmas.find(at) else { return };
    let (Some((_, fd)), Backing::File { offset, .. }) = (&vma.text, &vma.backing) else { return };
    let mut bytes = [0u8; 32];
    let n = (len as usize).min(bytes.len());
    // Behind the file's end its pages hold zeros.
    if files::pread(*fd, bytes.as_mut_ptr() as u64, n, offset + (at - vma.start)).is_ok() {
        put(addr, buf, at, &bytes[..n]);
    }
}
