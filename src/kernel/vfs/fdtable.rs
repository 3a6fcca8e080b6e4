//! Descriptor tables.

use super::file::{OpCtx, OpenFile};
use crate::abi::{Errno, Result};
use crate::sync::deferred::drop_later;
use crate::sync::left::Left;
use crate::sync::mend::step;
use crate::sync::{Knob, Level, Mend, Mutex, StepArray, StepQueue};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Most descriptors that a table may have (`/proc/sys/fs/nr_open`).
pub static NR_OPEN: Knob = Knob::new(1 << 20, 64, 1 << 20);

#[derive(Clone, Default)]
struct Slot {
    file: Option<Arc<OpenFile>>,
    cloexec: bool,
}

impl Slot {
    fn set(&mut self, file: Arc<OpenFile>, cloexec: bool) -> Option<Arc<OpenFile>> {
        self.cloexec = cloexec;
        step();
        self.file.replace(file)
    }
}

/// What a table holds.
pub struct Numbers {
    slots: StepArray<Slot>,
    /// No free number lies below this one.
    lowest: usize,
    /// What was taken out while the table was pinned.
    late: StepQueue<Arc<OpenFile>>,
}

impl Mend for Numbers {
    fn mend(&mut self) {
        self.slots.mend();
        self.lowest = 0;
    }
}

impl Numbers {
    /// The open file description behind a number.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<&Arc<OpenFile>> {
        self.slots.get(fd as usize).and_then(|slot| slot.file.as_ref()).ok_or(Errno::EBADF)
    }
}

/// A process's descriptors (`CLONE_FILES` shares them).
pub struct FdTable {
    inner: Mutex<Numbers>,
    /// Borrowed files of the only task that has this table ([`FdTable::pin`]).
    pins: AtomicU32,
    /// Something was taken out meanwhile.
    late: AtomicBool,
    /// Identity as the owner of POSIX locks; never reused.
    owner: u64,
}

fn new_owner() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// What a process has of a file by any of its descriptors goes as soon as it closes one of them.
fn release(owner: u64, file: &Arc<OpenFile>) {
    super::locks::release_posix(owner, file);
    file.async_io.forget_directory(owner);
}

impl FdTable {
    fn clear(&mut self) {
        // However the process ended, the locks that it owned go.
        let owner = self.owner;
        let numbers = self.inner.get_mut();
        for file in numbers.slots.iter_mut().filter_map(|slot| slot.file.take()) {
            release(owner, &file);
            drop_later(file);
        }
        numbers.late.clear();
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Left for FdTable {
    fn left(&mut self) {
        self.clear();
    }
}

impl Default for FdTable {
    fn default() -> Self {
        FdTable::new()
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> FdTable {
        FdTable::of(Vec::new(), 0)
    }

    fn of(slots: Vec<Slot>, lowest: usize) -> FdTable {
        FdTable {
            inner: Mutex::mended(
                Level::Files,
                Numbers { slots: StepArray::new(slots), lowest, late: StepQueue::new() },
            ),
            pins: AtomicU32::new(0),
            late: AtomicBool::new(false),
            owner: new_owner(),
        }
    }

    /// A copy, for fork: only as long as what is open in it needs.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork_copy(&self) -> Result<FdTable> {
        let inner = self.inner.lock();
        let used = inner.slots.iter().rposition(|slot| slot.file.is_some()).map_or(0, |last| last + 1);
        let len = used.next_multiple_of(64).min(inner.slots.len());
        let mut slots = Vec::new();
        slots.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        slots.extend(inner.slots[..len].iter().cloned());
        Ok(FdTable::of(slots, inner.lowest))
    }

    /// The open file description behind a number, for input and output.
    ///
    /// # Errors
    /// `EBADF`, also for an `O_PATH` descriptor: it stands for a place, not for an open file.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let file = self.get_any(fd)?;
        if file.flags() & crate::abi::linux::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// As [`FdTable::get`], `O_PATH` descriptors included.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get_any(&self, fd: i32) -> Result<Arc<OpenFile>> {
        self.inner.lock().get(fd).cloned()
    }

    /// The numbers without the lock, for a task that shares its table with nobody (Linux's `fdget` does
    /// likewise): others may look at it, but only that task changes it.
    pub fn unshared(&self) -> *const Numbers {
        self.inner.as_ptr()
    }

    /// From here to [`FdTable::unpin`] no description leaves the table for good. For the only task that
    /// has it: no atomic operation is needed.
    #[inline]
    pub fn pin(&self) {
        self.pins.store(self.pins.load(Relaxed) + 1, Relaxed);
    }

    /// See [`FdTable::pin`].
    #[inline]
    pub fn unpin(&self) {
        let left = self.pins.load(Relaxed) - 1;
        self.pins.store(left, Relaxed);
        if left == 0 && self.late.load(Relaxed) {
            self.late.store(false, Relaxed);
            let next = || self.inner.lock().late.pop_front();
            while let Some(late) = next() {
                drop(late);
            }
        }
    }

    /// A description is about to leave the table.
    fn leaving(&self, inner: &mut Numbers, file: &Arc<OpenFile>) {
        if self.pins.load(Relaxed) != 0 {
            inner.late.push_back(file.clone());
            self.late.store(true, Relaxed);
        }
    }

    /// Installs at the lowest free number from `min` on, below `limit` (RLIMIT_NOFILE).
    ///
    /// # Errors
    /// `EMFILE`, `EINVAL` when `min` is at the limit, `ENOMEM`.
    pub fn install(&self, file: Arc<OpenFile>, cloexec: bool, min: i32, limit: u64) -> Result<i32> {
        let mut inner = self.inner.lock();
        let min = min.max(0) as usize;
        let start = min.max(inner.lowest);
        let len = inner.slots.len();
        let fd = (start..len).find(|&i| inner.slots[i].file.is_none()).unwrap_or(len.max(start));
        if fd as u64 >= limit.min(NR_OPEN.get()) {
            return Err(Errno::EMFILE);
        }
        grow(&mut inner.slots, fd)?;
        inner.slots[fd].set(file, cloexec);
        if min <= inner.lowest {
            inner.lowest = fd + 1;
        }
        Ok(fd as i32)
    }

    /// Whether there is a free number below `limit`: asked before something is taken that could not be given back.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn has_room(&self, limit: u64) -> Result {
        let inner = self.inner.lock();
        let len = inner.slots.len();
        let fd = (inner.lowest..len).find(|&i| inner.slots[i].file.is_none()).unwrap_or(len.max(inner.lowest));
        if fd as u64 >= limit.min(NR_OPEN.get()) { Err(Errno::EMFILE) } else { Ok(()) }
    }

    /// Installs at exactly `fd`; returns what was there.
    ///
    /// # Errors
    /// `EBADF` past the limit, `ENOMEM`.
    pub fn install_at(&self, fd: i32, file: Arc<OpenFile>, cloexec: bool, limit: u64) -> Result<Option<Arc<OpenFile>>> {
        if fd < 0 || fd as u64 >= limit.min(NR_OPEN.get()) {
            return Err(Errno::EBADF);
        }
        let mut inner = self.inner.lock();
        grow(&mut inner.slots, fd as usize)?;
        let old = inner.slots[fd as usize].set(file, cloexec);
        Ok(old.inspect(|file| self.leaving(&mut inner, file)))
    }

    /// Takes a number out of the table; closing happens when the last reference goes.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let mut inner = self.inner.lock();
        let file = inner.slots.get_mut(fd as usize).and_then(|slot| slot.file.take()).ok_or(Errno::EBADF)?;
        inner.lowest = inner.lowest.min(fd as usize);
        self.leaving(&mut inner, &file);
        Ok(file)
    }

    /// Closes a number: POSIX locks of the owner go, the file is told.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&self, ctx: &OpCtx<'_>, fd: i32) -> Result {
        let file = self.remove(fd)?;
        self.closed(ctx, &file);
        Ok(())
    }

    /// What closing a descriptor of `file` entails.
    pub fn closed(&self, ctx: &OpCtx<'_>, file: &Arc<OpenFile>) {
        release(self.owner(), file);
        file.ops.flush(ctx);
    }

    /// How many numbers Linux's table would have room for by now: `select(2)` looks no further.
    /// It starts with 64 and doubles (`alloc_fdtable` in `fs/file.c`).
    pub fn capacity(&self) -> usize {
        self.inner.lock().slots.len().max(64).next_power_of_two()
    }

    /// Identity of this table as the owner of POSIX locks.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// The close-on-exec flag.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let inner = self.inner.lock();
        inner.slots.get(fd as usize).filter(|s| s.file.is_some()).map(|s| s.cloexec).ok_or(Errno::EBADF)
    }

    /// Sets the close-on-exec flag.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_cloexec(&self, fd: i32, cloexec: bool) -> Result {
        let mut inner = self.inner.lock();
        let slot = inner.slots.get_mut(fd as usize).filter(|s| s.file.is_some()).ok_or(Errno::EBADF)?;
        slot.cloexec = cloexec;
        Ok(())
    }

    /// Closes everything marked close-on-exec.
    pub fn close_on_exec(&self, ctx: &OpCtx<'_>) {
        self.close_where(ctx, 0, usize::MAX, true);
    }

    /// Closes every number in `first..=last`.
    pub fn close_range(&self, ctx: &OpCtx<'_>, first: u32, last: u32) {
        self.close_where(ctx, first as usize, last as usize, false);
    }

    /// Marks every number in `first..=last` close-on-exec.
    pub fn cloexec_range(&self, first: u32, last: u32) {
        let mut inner = self.inner.lock();
        for (i, slot) in inner.slots.iter_mut().enumerate() {
            if (first as usize..=last as usize).contains(&i) {
                slot.cloexec = true;
            }
        }
    }

    fn close_where(&self, ctx: &OpCtx<'_>, first: usize, last: usize, only_cloexec: bool) {
        let mut at = first;
        loop {
            let file = {
                let mut inner = self.inner.lock();
                let end = inner.slots.len().min(last.saturating_add(1));
                let hit =
                    (at..end).find(|&i| inner.slots[i].file.is_some() && (!only_cloexec || inner.slots[i].cloexec));
                let Some(fd) = hit else { return };
                at = fd + 1;
                inner.lowest = inner.lowest.min(fd);
                let file = inner.slots[fd].file.take();
                if let Some(file) = &file {
                    self.leaving(&mut inner, file);
                }
                file
            };
            if let Some(file) = file {
                self.closed(ctx, &file);
            }
        }
    }

    /// The numbers in use.
    pub fn numbers(&self) -> Vec<i32> {
        let inner = self.inner.lock();
        (0..inner.slots.len()).filter(|&i| inner.slots[i].file.is_some()).map(|i| i as i32).collect()
    }
}

/// Makes room for a number; twice as much as there was, so that many of them cost little each.
fn grow(slots: &mut StepArray<Slot>, fd: usize) -> Result {
    if fd < slots.len() {
        return Ok(());
    }
    let len = (fd + 1).next_multiple_of(32);
    slots.grow(len.max(slots.len() * 2)).or_else(|_| slots.grow(len))
}
