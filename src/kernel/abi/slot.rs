//! The task slot's header: what asm, the trap path, wakers and the supervisor share of a host thread.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Value of [`SlotHeader::canary`]; the kernel stack grows down towards it.
pub const CANARY: u64 = 0x6472_7570_6573_746b;

/// Offset in the slot of the allocator's magazines: they share the header's page, so that a new
/// process faults that page in once for both.
pub const MAGAZINES: usize = 1024;
/// Offset in the slot of the held-locks record (debug builds' lockdep), in the header's page too.
pub const HELD_LOCKS: usize = 2560;
/// Offset in the slot of an extended state that the kernel itself saves or restores.
pub const FPU_AREA: usize = HEADER_PAGE;
/// Room for it, in bytes.
pub const FPU_AREA_MAX: usize = 16 << 10;
/// Bytes at the lowest address of a slot that the header, the magazines and the held-locks record
/// share; the kernel stack lies above.
pub const HEADER_PAGE: usize = 4096;

/// Where the host thread of a slot is, as far as a kicker needs to know.
pub mod place {
    /// It runs guest code (or is about to): a kick needs the host signal.
    pub const GUEST: u32 = 0;
    /// It runs kernel code and will look at `kick` before it leaves.
    pub const KERNEL: u32 = 1;
    /// It is in, or about to enter, a host call that can block: a kick needs the host signal.
    pub const HOST_CALL: u32 = 2;
}

/// Bits of [`SlotHeader::kick`]: why a thread is to look around before it enters the guest.
pub mod kick {
    /// Signals, stops, death: ends a sleep.
    pub const LOOK: u32 = 1;
    /// Work items of other tasks wait (`task::work`); done within a sleep.
    pub const WORK: u32 = 2;
    /// The sandbox is to stand still; parked within a sleep.
    pub const PARK: u32 = 4;
    /// What a sleeper attends to without its sleep ending.
    pub const ATTEND: u32 = WORK | PARK;
}

/// Entries of [`SlotHeader::held`]: the address of the lock's first word with these bits above it, 0 for a lock that was
/// given back before one taken later.
pub mod held {
    /// So many locks one thread holds at most.
    pub const MAX: usize = 24;
    /// The address.
    pub const ADDRESS: u64 = (1 << 48) - 1;
    /// What kind of lock it is.
    pub const KIND: u64 = 3 << 48;
    /// A mutex: its word says who holds it.
    pub const MUTEX: u64 = 0;
    /// A lock for reading: [`HAVE`] says that it is held.
    pub const READER: u64 = 1 << 48;
    /// The same lock for writing: its word says who holds it.
    pub const WRITER: u64 = 2 << 48;
    /// One of the allocator's locks (`arena::lock`): likewise.
    pub const ALLOCATOR: u64 = 3 << 48;
    /// A reader has its lock for certain. Without it, it waits for it, or is on its way in or out.
    pub const HAVE: u64 = 1 << 50;
    /// It does not have the lock for certain.
    pub const ASLEEP: u64 = 1 << 51;
    /// Where the lock's level lies (`sync::Level`).
    pub const LEVEL_SHIFT: u32 = 56;
}

/// Entries of [`SlotHeader::left`].
pub mod left {
    /// So many there are.
    pub const MAX: usize = 8;
}

/// How a call from a rewritten site goes on, as the kernel tells `asm/rewrite.S`.
pub mod fast {
    /// Back to the guest; the frame holds the result.
    pub const RETURN: u64 = 0;
    /// By a trap: what is left to do wants a frame that the host writes.
    pub const DEFER: u64 = 1;
    /// Back to the guest with every register from the frame, the extended state included.
    pub const WHOLE: u64 = 2;
}

/// In [`SlotHeader::still`]: the thread has no task, waits for work, and holds nothing.
pub const IDLE: u64 = 1;

/// What a task sleeps on. The word only ever counts up; a sleeper reads it, looks at its condition,
/// then waits for it to change, so that no wake can be lost in between.
#[repr(C)]
#[derive(Debug)]
pub struct Waker {
    /// The host futex word.
    pub word: AtomicU32,
    /// Set while a sleeper is, or may be, in the host's futex wait.
    pub sleeping: AtomicU32,
}

/// Lies at the lowest address of a slot. Slots are never unmapped, only reused, so a `&'static`
/// to a header or its waker stays valid; a wake that comes too late is merely spurious.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SlotHeader {
    /// [`CANARY`], else the kernel stack overflowed.
    pub canary: AtomicU64,
    /// The `Task` that runs here (a raw `Arc`), 0 for none. Only kernel code reads it.
    pub task: AtomicU64,
    /// What this thread sleeps on.
    pub waker: Waker,
    /// Why the thread has to look around: bits of [`kick`].
    pub kick: AtomicU32,
    /// Exit work of the thread's own making; looked at by nobody else.
    pub exit_work: AtomicU32,
    /// One of [`place`].
    pub place: AtomicU32,
    /// Host thread id; the host clears it when the thread ends (CLONE_CHILD_CLEARTID).
    pub host_tid: AtomicU32,
    /// Host thread group id.
    pub host_tgid: AtomicU32,
    /// How many entries of `held` are in use.
    pub locks_held: AtomicU32,
    /// Lock levels held, one bit each (debug builds; the supervisor and dumps read it).
    pub lock_levels: AtomicU64,
    /// First address above the kernel stack (= end of the slot).
    pub stack_top: AtomicU64,
    /// Guest's rsp while a call from a rewritten site is in the kernel.
    pub user_sp: AtomicU64,
    /// Where such a call returns to.
    pub user_ip: AtomicU64,
    /// Its result, or its number where it has to be made again, for `fast_work`.
    pub user_ax: AtomicU64,
    /// What is left to do for it on a whole frame (see `entry::fast`).
    pub fast_work: AtomicU64,
    /// The kernel's entry for stubs of remembered text, which know it by this place in the slot.
    pub fast_entry: AtomicU64,
    /// Calls from rewritten sites.
    pub fast_calls: AtomicU64,
    /// How often, or how soon again, this thread looks for a moment before it sleeps; its own business.
    pub patience: AtomicU32,
    /// Index of this slot.
    pub index: AtomicU32,
    /// Generation: counts reuse.
    pub generation: AtomicU32,
    /// Number of the last system call.
    pub last_call: AtomicU32,
    /// Number of the futex wait that the thread is in, 0 once it was woken.
    pub futex_wait: AtomicU64,
    /// Per-slot data of the host-handle and mm rooms: the address space the host thread has loaded.
    pub mm: AtomicU64,
    /// Lists of tasks that the thread has found and not yet woken.
    pub waking: AtomicU32,
    /// Which failure to fetch an instruction made this thread try again last.
    pub text_retry: AtomicU64,
    /// The list of values that this thread drops later (`sync::deferred`), 0 while it drops none.
    pub deferred: AtomicU64,
    /// The guest's registers of the call that the thread is in or made last (a `SigContext` on its stack).
    pub frame: AtomicU64,
    /// What the thread sleeps on: a `sync::wait::Kind`, the object's id, and the deadline (`u64::MAX`: none).
    pub wait_kind: AtomicU32,
    /// See `wait_kind`.
    pub wait_id: AtomicU64,
    /// See `wait_kind`.
    pub wait_until: AtomicU64,
    /// Stack pointer of a parked thread, 0 while it is not parked: what its function preserves lies there
    /// (`asm/park.S`).
    pub parked: AtomicU64,
    /// What the host has of a parked thread beyond its registers (a `task::park::Still` on its stack), or [`IDLE`]; 0
    /// while the thread may change something.
    pub still: AtomicU64,
    /// What the supervisor asks of a parked thread, and is answered (`task::copies`).
    pub copying: AtomicU64,
    /// Where the broker answers (`abi::broker`).
    pub broker: AtomicU32,
    /// The child that the thread is making (a raw `Arc<Task>`): it is known, and may not have a host thread yet.
    pub making: AtomicU64,
    /// The zygote that this thread has set aside or makes (a raw `Arc`), or 1: it waits for one.
    pub ticket: AtomicU64,
    /// The zygote that this thread is (a raw `Arc`), until a task has moved in.
    pub zygote: AtomicU64,
    /// How many entries of `left` are in use.
    pub left_len: AtomicU32,
    /// What is to be dropped if the host ends the thread, the newest last: how, and what (`sync::left`).
    pub left: [[AtomicU64; 2]; left::MAX],
    /// The kernel locks that this thread holds or waits for, innermost last (`abi::held`).
    pub held: [AtomicU64; held::MAX],
}
const _: () = assert!(size_of::<SlotHeader>() <= MAGAZINES);

impl SlotHeader {
    /// Makes this thread look at its exit work before it enters the guest, without ending its sleeps.
    pub fn kick_on_exit(&self) {
        self.exit_work.store(1, Ordering::SeqCst);
    }

    /// Whether exit work waits.
    pub fn kicked(&self) -> bool {
        self.kick.load(Ordering::SeqCst) != 0
    }

    /// Leaves these bits of [`kick`] for the thread.
    pub fn mark(&self, bits: u32) {
        self.kick.fetch_or(bits, Ordering::SeqCst);
    }
}
