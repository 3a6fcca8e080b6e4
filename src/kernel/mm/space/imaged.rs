//! Memory that a restored sandbox has from its image.
//!
//! Long runs of pages are not read: the host maps them privately from the image's file, so that restoring costs by what is
//! touched and sandboxes of one image share what none of them has written to. To the program this is private memory of
//! no file all the same. What the host does differently for mappings of files is made good here: pages that are given
//! back would show the image's contents again, some advice is for memory of no file alone, and one mapping of the program's may be
//! several of the host's.

use super::super::vma::Backing;
use super::place::map_backing;
use super::{AddressSpace, PAGE, outside_guest};
use crate::abi::linux::{
    MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED,
    MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_READ, PROT_WRITE,
};
use crate::abi::saved::{Fill, HostMap, Space};
use crate::abi::{Errno, Result};
use crate::host::{files, mem};
use core::sync::atomic::Ordering::Relaxed;

/// Runs of at least so many bytes are mapped, shorter ones are read.
const RUN_MIN: u64 = 16 * PAGE;
/// So many runs are mapped at most: the host bounds the mappings of a process (65,530 by default).
const RUNS_MAX: usize = 16384;
/// Bytes that are copied at a time.
const PIECE: u64 = 1 << 20;
/// `MADV_DONTNEED_LOCKED`.
const DONTNEED_LOCKED: u32 = 24;

impl AddressSpace {
    /// Makes the host mappings of a restored process: what was mapped, with what was written, from the images whose host
    /// descriptors these are ([`Fill::of`]). Nothing is mapped there yet.
    ///
    /// # Errors
    /// `EUCLEAN` where the image contradicts itself, `EIO` where it ends early, the host's.
    pub fn map_image(&self, space: &Space, images: &[i32]) -> Result {
        let long = |f: &&Fill| f.len >= RUN_MIN;
        // Not from a file system whose files may not be executed: the program may want to later.
        let lazy = space.fills.iter().filter(long).count() <= RUNS_MAX && images.iter().all(|&i| is_executable(i));
        self.imaged.store(lazy, Relaxed);
        let mut fills = space.fills.iter().peekable();
        for m in &space.maps {
            if outside_guest(m.start, m.end) {
                return Err(Errno::EUCLEAN);
            }
            let mut own = core::iter::from_fn(|| fills.next_if(|f| f.to < m.end)).peekable();
            let prot = if own.peek().is_some() { PROT_READ | PROT_WRITE } else { m.prot };
            map_as(m, prot)?;
            for fill in own {
                let image = *images.get(fill.of as usize).ok_or(Errno::EUCLEAN)?;
                if fill.to < m.start || fill.to.checked_add(fill.len).is_none_or(|end| end > m.end) {
                    return Err(Errno::EUCLEAN);
                }
                if lazy && m.fd < 0 && long(&fill) {
                    let flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
                    mem::mmap(fill.to, fill.len, m.prot, flags, image, fill.at)?;
                } else {
                    read_in(image, fill)?;
                }
            }
            if prot != m.prot {
                mem::mprotect(m.start, m.end - m.start, m.prot)?;
            }
        }
        if fills.next().is_some() { Err(Errno::EUCLEAN) } else { Ok(()) }
    }

    /// Has the host follow advice about `start..end`, which lies in one mapping.
    ///
    /// # Errors
    /// The host's.
    pub fn advise_host(&self, start: u64, end: u64, advice: u32) -> Result {
        if !self.imaged.load(Relaxed) {
            return mem::madvise(start, end - start, advice as i32);
        }
        if matches!(advice, MADV_DONTNEED | MADV_FREE | DONTNEED_LOCKED) {
            return self.renew(start, end, advice);
        }
        match mem::madvise(start, end - start, advice as i32) {
            Err(Errno::EINVAL) => self.settle(start, end, advice),
            other => other,
        }
    }

    /// Puts zeros in the place of private memory of no file.
    fn renew(&self, start: u64, end: u64, advice: u32) -> Result {
        let inner = self.inner.write();
        for v in inner.vmas.overlapping(start, end) {
            let (at, to) = (v.start.max(start), v.end.min(end));
            match v.backing {
                Backing::Anon if !v.shared => {
                    map_backing(at, to - at, v.prot, false, &Backing::Anon, MAP_NORESERVE)?;
                    inner.lock_pages(at, to, v.flags)?;
                }
                _ => mem::madvise(at, to - at, advice as i32)?,
            }
        }
        Ok(())
    }

    /// Makes private memory of no file what it is to the host as well, and tells the host again.
    fn settle(&self, start: u64, end: u64, advice: u32) -> Result {
        let mut inner = self.inner.write();
        let spare = inner.choose(0, (end - start).min(PIECE), 0)?;
        for v in inner.vmas.overlapping(start, end).filter(|v| !v.shared && matches!(v.backing, Backing::Anon)) {
            let (mut at, to) = (v.start.max(start), v.end.min(end));
            // Not readable while it is copied would be a fault of the kernel's.
            mem::mprotect(at, to - at, PROT_READ)?;
            while at < to {
                let len = (to - at).min(PIECE);
                let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
                mem::mmap(spare, len, PROT_READ | PROT_WRITE, flags, -1, 0)?;
                // SAFETY: both ranges are whole mapped pages of this process, `spare` was free until now, and the lock keeps
                // either from being unmapped.
                unsafe { core::ptr::copy_nonoverlapping(at as *const u8, spare as *mut u8, len as usize) };
                mem::mprotect(spare, len, v.prot)?;
                mem::mremap(spare, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at)?;
                at += len;
            }
        }
        drop(inner);
        mem::madvise(start, end - start, advice as i32)
    }
}

/// Whether what is mapped from a file may be executed.
fn is_executable(file: i32) -> bool {
    // Where a guest may map nothing, and nothing is.
    let at = super::MIN_ADDR;
    let flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
    let probe = mem::mmap(at, PAGE, PROT_READ | PROT_EXEC, flags, file, 0);
    probe.is_ok_and(|at| mem::munmap(at, PAGE).is_ok())
}

fn map_as(m: &HostMap, prot: u32) -> Result {
    let kind = if m.shared { MAP_SHARED } else { MAP_PRIVATE };
    let none = if m.fd < 0 { MAP_ANONYMOUS } else { 0 };
    let flags = kind | none | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    mem::mmap(m.start, m.end - m.start, prot, flags, m.fd, m.offset).map(drop)
}

fn read_in(image: i32, fill: &Fill) -> Result {
    let mut done = 0;
    while done < fill.len {
        match files::pread(image, fill.to + done, (fill.len - done) as usize, fill.at + done)? {
            0 => return Err(Errno::EIO),
            n => done += n as u64,
        }
    }
    Ok(())
}

/// Moves `len` bytes of host mappings by `mremap`. Hosts before 6.17 move no more than one of theirs at a time, and say
/// `EFAULT`: then it is done in pieces.
///
/// # Errors
/// The host's; everything is where it was.
pub(super) fn move_pages(
    old: u64,
    len: u64,
    flags: u32,
    to: u64,
    mremap: impl Fn(u64, u64, u64, u32, u64) -> Result<u64>,
) -> Result {
    let (mut done, mut piece) = (0, len);
    while done < len {
        match mremap(old + done, piece, piece, flags, to + done) {
            Ok(_) => {
                done += piece;
                piece = len - done;
            }
            Err(Errno::EFAULT) if piece > PAGE => piece = (piece / 2).next_multiple_of(PAGE),
            Err(e) => {
                if done > 0 {
                    move_pages(to, done, MREMAP_MAYMOVE | MREMAP_FIXED, old, mremap)?;
                }
                return Err(e);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    /// A host that moves whole mappings of its own only: their edges, in pages.
    struct Host {
        edges: Vec<u64>,
        moved: RefCell<Vec<(u64, u64, u64)>>,
        broken: Option<u64>,
    }

    impl Host {
        fn run(&self, old: u64, len: u64, to: u64) -> Result {
            move_pages(old, len, MREMAP_MAYMOVE | MREMAP_FIXED, to, |at, len, _, _, to| {
                let (first, last) = (at / PAGE, (at + len) / PAGE);
                if self.edges.iter().any(|e| first < *e && *e < last) {
                    return Err(Errno::EFAULT);
                }
                if self.broken.is_some_and(|b| (first..last).contains(&b)) {
                    return Err(Errno::ENOMEM);
                }
                self.moved.borrow_mut().push((first, last - first, to / PAGE));
                Ok(to)
            })
        }
    }

    #[test]
    fn several_mappings_move_in_pieces() {
        let host = Host { edges: Vec::from([13, 14, 40]), moved: RefCell::default(), broken: None };
        assert_eq!(host.run(10 * PAGE, 50 * PAGE, 1000 * PAGE), Ok(()));
        let moved = host.moved.borrow();
        let mut at = 10;
        for &(first, len, to) in moved.iter() {
            assert_eq!((first, to), (at, 990 + at));
            at += len;
        }
        assert_eq!(at, 60);
        assert!(moved.len() < 30, "{moved:?}");
    }

    #[test]
    fn what_cannot_be_moved_stays_where_it_was() {
        let host = Host { edges: Vec::from([13, 14, 40]), moved: RefCell::default(), broken: Some(30) };
        assert_eq!(host.run(10 * PAGE, 50 * PAGE, 1000 * PAGE), Err(Errno::ENOMEM));
        let moved = host.moved.borrow();
        let (there, back): (Vec<_>, Vec<_>) = moved.iter().partition(|(first, ..)| *first < 1000);
        let sum = |all: &[(u64, u64, u64)]| all.iter().map(|m| m.1).sum::<u64>();
        assert_eq!(sum(&there), sum(&back));
        assert!(back.iter().all(|(first, _, to)| first - 990 == *to));
    }
}
