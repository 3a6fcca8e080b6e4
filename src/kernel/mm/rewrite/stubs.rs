//! The memory that stubs lie in, and how one is written.

use super::{ENTRY, STUB, StubHit};
use crate::abi::Result;
use crate::abi::text::Front;
use crate::host::window as host_window;
use crate::mm::memfile::Extent;
use crate::mm::{HostRun, Mappable};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// The memory of one stub mapping; shared by all processes that descend from its maker.
pub(super) struct StubMemory {
    pub(super) extent: Extent,
    /// Stubs by offset.
    pub(super) used: Mutex<BTreeMap<u64, Stub>>,
}

/// A stub.
#[derive(Clone, Copy)]
pub(super) struct Stub {
    pub(super) site: u64,
    /// What it begins with, of what lay in front of the site: bytes, and where instructions begin ([`Front`]).
    pub(super) front: (u8, u16),
}

impl Stub {
    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        STUB + u64::from(self.front.0)
    }

    /// What it begins with, if anything.
    pub(super) fn front(&self) -> Option<(u8, u16)> {
        (self.front.0 > 0).then_some(self.front)
    }

    /// What a thread is at that is `at` bytes behind its begin.
    pub(super) fn hit(&self, at: u64) -> Option<StubHit> {
        let (site, front) = (self.site, u64::from(self.front.0));
        if at < front {
            return Some(StubHit { site, resume: site - front + at, early: true });
        }
        (at < self.len()).then_some(StubHit { site, resume: site, early: false })
    }
}

impl Mappable for StubMemory {
    fn run(&self, offset: u64, _len: u64, _shared_write: bool) -> Result<HostRun> {
        Ok(HostRun { fd: host_window::fd(), offset: self.extent.offset() + offset, lasting: false })
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (0, 0, Vec::new())
    }
}

/// A mapping of such memory.
#[derive(Clone)]
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) memory: Arc<StubMemory>,
}

impl Region {
    /// Writes the stub of `site` at one of the 256 places from `first` on; the same one again for a
    /// site that has been here before.
    pub(super) fn add(&self, first: u64, site: u64) -> Option<u64> {
        let base = first - self.start;
        let mut used = self.memory.used.lock();
        let same = |s: &Stub| s.site == site && s.front().is_none();
        if let Some((&offset, _)) = used.range(base..base + 256).find(|(_, s)| same(s)) {
            return Some(self.start + offset);
        }
        let mut offset = base;
        for (&taken, stub) in used.range(base.saturating_sub(STUB + u64::from(Front::MAX))..base + 255 + STUB) {
            if offset + STUB <= taken {
                break;
            }
            offset = offset.max(taken + stub.len());
        }
        if offset > base + 255 || offset + STUB > self.end - self.start {
            return None;
        }
        self.write(&mut used, offset, site, &[], &Front::default())
    }

    /// Writes the stub of `site`, which begins with `moved`; returns where it is.
    pub(super) fn write(
        &self,
        used: &mut BTreeMap<u64, Stub>,
        offset: u64,
        site: u64,
        moved: &[u8],
        front: &Front,
    ) -> Option<u64> {
        let stub = self.start + offset;
        let mut code = [0u8; STUB as usize + Front::MAX as usize];
        let (begin, end) = code.split_at_mut_checked(moved.len())?;
        let distance = i32::try_from((site + 2).wrapping_sub(stub + moved.len() as u64 + 7) as i64).ok()?;
        begin.copy_from_slice(moved);
        end[..3].copy_from_slice(&[0x48, 0x8d, 0x0d]);
        end[3..7].copy_from_slice(&distance.to_le_bytes());
        end[7..13].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
        end[13..STUB as usize].copy_from_slice(&ENTRY.load(Relaxed).to_le_bytes());
        let len = moved.len() + STUB as usize;
        // SAFETY: within the extent, and no thread runs here before the site is written, but for one that has been
        // here before, where the same bytes are.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), self.memory.extent.ptr().add(offset as usize), len) };
        used.insert(offset, Stub { site, front: (front.len, front.begins) });
        Some(stub)
    }
}
