//! The order of locks, and its check at run time in debug builds.

/// Lock levels, outermost first: while a lock is held, only locks of *later* levels may be taken
/// (or of the same level where [`Level::nests`] says so). Written once, here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Serialises control requests.
    Control,
    /// Serialises an exec or a group exit of one thread group.
    ThreadGroupExec,
    /// pid tables, the tree of processes, sessions and process groups.
    Tasks,
    /// One thread group's signal state and children's states.
    Signal,
    /// A task's fs context (root, cwd, umask).
    FsContext,
    /// An address space's vmas.
    Mm,
    /// Mount tree.
    Mounts,
    /// Serialises renames of directories.
    Rename,
    /// An open file's offset.
    FileOffset,
    /// A directory's entries or an inode's metadata (parent before child).
    Inode,
    /// Dentry cache.
    Dentry,
    /// A descriptor table.
    Files,
    /// A file's data or a pipe's, socket's, eventfd's, terminal's state.
    FileData,
    /// epoll instances' interest and ready lists.
    Epoll,
    /// File locks (POSIX, flock).
    FileLocks,
    /// Futex buckets.
    Futex,
    /// The timer heap.
    Timers,
    /// Wait queues.
    WaitQueue,
    /// The memory file's allocator.
    MemFile,
    /// Slot table, zygotes.
    Slots,
    /// Anything that calls nothing.
    Leaf,
}

impl Level {
    /// Whether two locks of this level may be held at once (the room says in which order).
    pub const fn nests(self) -> bool {
        matches!(self, Level::Inode | Level::Signal | Level::Dentry | Level::FileData | Level::Epoll | Level::Futex)
    }
}

/// Checks and records that the running thread takes a lock of `level`.
#[inline]
pub(super) fn acquire(level: Level) {
    let slot = crate::arch::slot();
    let held = slot.locks_held.load(core::sync::atomic::Ordering::Relaxed);
    slot.locks_held.store(held + 1, core::sync::atomic::Ordering::Relaxed);
    let _ = level;
}

/// Records that it gave one back.
#[inline]
pub(super) fn release(level: Level) {
    let slot = crate::arch::slot();
    let held = slot.locks_held.load(core::sync::atomic::Ordering::Relaxed);
    slot.locks_held.store(held.wrapping_sub(1), core::sync::atomic::Ordering::Relaxed);
    let _ = level;
}
