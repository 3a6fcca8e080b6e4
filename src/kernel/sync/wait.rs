//! Waiting: wait queues, and the one helper that blocks.
//!
//! A task sleeps only on the word in its own slot. A waker changes the state, then bumps the word,
//! then wakes; a sleeper reads the word, registers, looks at the state, then sleeps. So neither a
//! wake nor a signal (which bumps the word as well and sets `kick`) can fall between check and wait.

use super::entries::{Inner, NONE, Target};
use super::left::{self, Left};
use super::waiting::{Kind, On, attend};
use super::{Level, Mutex};
use crate::abi::slot::{SlotHeader, Waker, kick};
use crate::abi::{Errno, Restart, SysError, SysResult};
use crate::arch;
use crate::arch::words::slept::{self, End};
use crate::host::futex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use bitflags::bitflags;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

bitflags! {
    /// Readiness, with the values of `poll(2)` and `epoll(7)`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Events: u32 {
        /// Readable.
        const IN = 0x1;
        /// Out-of-band data.
        const PRI = 0x2;
        /// Writable.
        const OUT = 0x4;
        /// Error.
        const ERR = 0x8;
        /// Hung up.
        const HUP = 0x10;
        /// Bad descriptor.
        const NVAL = 0x20;
        /// As `IN`.
        const RDNORM = 0x40;
        /// Priority band.
        const RDBAND = 0x80;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority band.
        const WRBAND = 0x200;
        /// The peer shut its writing half.
        const RDHUP = 0x2000;
        /// Urgent data came: for the owner of the file only (SIGURG), nobody polls for it.
        const URGENT = 0x1_0000;
        /// Who sleeps or polls is to look again; the owner of the file is not told by a signal.
        const QUIET = 0x2_0000;
    }
}

impl Events {
    /// With `RDNORM` beside `IN` and `WRNORM` beside `OUT`, as every wake announces them.
    const fn with_normal(self) -> Events {
        Events::from_bits_retain(self.bits() | (self.bits() & (Events::IN.bits() | Events::OUT.bits())) << 6)
    }
}

/// How a sleep ended without a wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitEnd {
    /// A signal, a stop, death or a work item waits for this task.
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

/// A wait was interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted;

impl From<Interrupted> for SysError {
    fn from(_: Interrupted) -> Self {
        SysError::Restart(Restart::Sys)
    }
}

impl Waker {
    /// Wakes the task that sleeps here, if any.
    pub fn wake(&self) {
        if self.change() {
            futex::wake(&self.word, 1);
        }
    }

    /// Makes a task that is about to sleep here stay awake; whether one has to be woken yet.
    fn change(&self) -> bool {
        slept::change(&self.word, &self.sleeping)
    }

    /// The word's value, to be read before the condition is looked at.
    pub fn ticket(&self) -> u32 {
        self.word.load(SeqCst)
    }
}

/// How long a sleeper looks before it sleeps, cycles: some microseconds, what a sleep and a wake cost
/// both sides when they are on different CPUs.
const LOOK: u64 = 20_000;
/// Cycles between two glances by which a thread knows that another one had its CPU meanwhile.
const SWITCHED: u64 = 2_500;
/// Sleeps after which a thread looks again that has looked in vain.
const RETRY: u32 = 32;
/// Bit of `patience` that says: looking has paid lately. The rest counts down to the next look, or the
/// looks in vain that are left.
const PAYS: u32 = 1 << 31;

/// Looks for a moment whether the word changes by itself: a peer on another CPU that answers at once needs
/// then neither our sleep nor its own call to wake us. Only threads for which that has paid do it each
/// time; the others now and then. Whether it did.
fn look(slot: &SlotHeader, ticket: u32) -> bool {
    let patience = slot.patience.load(Relaxed);
    if patience & PAYS == 0 && patience > 0 {
        slot.patience.store(patience - 1, Relaxed);
        return false;
    }
    // SAFETY: reads the time stamp counter, which user code may.
    let now = || unsafe { core::arch::x86_64::_rdtsc() };
    let changed = || slot.waker.word.load(SeqCst) != ticket || slot.kicked();
    // What is there already came from before, or from a peer on this very CPU that ran first: it tells nothing.
    if changed() {
        return true;
    }
    let start = now();
    let (mut last, mut switched) = (start, false);
    let came = loop {
        core::hint::spin_loop();
        let time = now();
        // Whom we make room for on this CPU may be the peer: it would have come without the look, and sooner.
        switched |= time.wrapping_sub(last) > SWITCHED;
        last = time;
        if changed() {
            break true;
        }
        if time.wrapping_sub(start) > LOOK {
            break false;
        }
    };
    let next = match (came && !switched, patience & !PAYS) {
        (true, _) => PAYS | 3,
        (false, left) if patience & PAYS != 0 && left > 0 => PAYS | (left - 1),
        (false, _) => RETRY,
    };
    slot.patience.store(next, Relaxed);
    came
}

/// Sleeps in the running thread's slot until its word differs from `ticket`, at most until
/// `deadline` (host monotonic ns). What the sleep is `on` can be seen meanwhile. Work items are done, and
/// the thread is parked, within the sleep.
///
/// # Errors
/// [`WaitEnd`]. A kick is looked at before and after the sleep.
#[track_caller]
pub fn sleep(slot: &'static SlotHeader, on: On, ticket: u32, deadline: Option<u64>) -> Result<(), WaitEnd> {
    super::may_block();
    if deadline.is_none() && look(slot, ticket) && !slot.kicked() {
        return Ok(());
    }
    on.record(slot, deadline);
    let attend = |why: u32| {
        let here = why & kick::ATTEND != 0;
        if here {
            attend(slot);
        }
        here
    };
    let wait = || futex::wait(&slot.waker.word, ticket, deadline) != Err(Errno::ETIMEDOUT);
    match slept::sleep(words_of(slot), ticket, u32::MAX, attend, wait) {
        End::Changed => Ok(()),
        End::Kicked => Err(WaitEnd::Interrupted),
        End::TimedOut => Err(WaitEnd::TimedOut),
    }
}

fn words_of(slot: &SlotHeader) -> [&AtomicU32; 3] {
    [&slot.waker.word, &slot.waker.sleeping, &slot.kick]
}

/// Tasks to be woken once the lock is free under which they were found. The host lets a woken thread run at once on
/// its waker's CPU, where it would find the lock taken, and have to sleep again for it.
///
/// Made before the lock is taken, so that it is dropped, and wakes them, after it.
#[derive(Default)]
pub struct WakeList(ArrayVec<&'static Waker, 16>);

impl WakeList {
    /// Adds the task that sleeps here, if any.
    pub fn add(&mut self, waker: &'static Waker) {
        if !waker.change() {
            return;
        }
        // Whoever dies now leaves the others asleep: then all are woken (`task::exit::reaped`).
        if self.0.is_empty() {
            let waking = &arch::slot().waking;
            waking.store(waking.load(Relaxed) + 1, Relaxed);
        }
        if let Err(full) = self.0.try_push(waker) {
            futex::wake(&full.element().word, 1);
        }
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        for waker in &self.0 {
            futex::wake(&waker.word, 1);
        }
        let waking = &arch::slot().waking;
        waking.store(waking.load(Relaxed).wrapping_sub(1), Relaxed);
    }
}

/// Is told about readiness without sleeping: epoll, signal-driven I/O, the supervisor.
pub trait Notify: Send + Sync {
    /// `events` became ready on the queue that was registered under `key`. Returns whether that counts as
    /// the one wake of an exclusive registration. Called with the queue's lock held: it may only take locks
    /// of level `WaitQueue` and later.
    fn notify(&self, events: Events, key: u64) -> bool;
}

/// The tasks and callbacks that wait for one object.
pub struct WaitQueue {
    inner: Mutex<Inner>,
    kind: Kind,
    len: core::sync::atomic::AtomicU32,
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> WaitQueue {
        WaitQueue::of(Kind::Object)
    }

    /// An empty queue of an object of this kind.
    pub const fn of(kind: Kind) -> WaitQueue {
        WaitQueue {
            kind,
            inner: Mutex::new(Level::WaitQueue, Inner::new()),
            len: core::sync::atomic::AtomicU32::new(0),
        }
    }

    fn add(&self, events: Events, exclusive: bool, target: Target) -> u64 {
        let mut inner = self.inner.lock();
        let id = inner.insert(events, exclusive, target);
        self.len.store(inner.live, SeqCst);
        id
    }

    /// Registrations at the moment.
    pub fn len(&self) -> usize {
        self.len.load(SeqCst) as usize
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers the running task; returns the registration's id. An exclusive one is woken once:
    /// whoever sleeps again registers again.
    pub fn add_current(&self, events: Events, exclusive: bool) -> u64 {
        self.add(events, exclusive, Target::Task(&arch::slot().waker))
    }

    /// Registers a callback (held weakly); returns the registration's id.
    pub fn add_callback(&self, events: Events, exclusive: bool, target: &Arc<dyn Notify>, key: u64) -> u64 {
        self.add(events, exclusive, Target::Callback(Arc::downgrade(target), key))
    }

    /// Changes what a registration waits for.
    pub fn change(&self, id: u64, events: Events) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.find(id) {
            inner.entries[at as usize].events = events;
        }
    }

    /// Takes a registration back.
    pub fn remove(&self, id: u64) {
        let mut inner = self.inner.lock();
        let target = inner.remove(id);
        self.len.store(inner.live, SeqCst);
        drop(inner);
        drop(target);
    }

    /// Whether nobody waits. Only for a waker that shares a lock with whoever registers and then looks:
    /// others need the order that [`WaitQueue::wake`] makes.
    pub fn is_idle(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Wakes everyone who waits for any of `events`, but of the exclusive ones only the first.
    #[inline]
    pub fn wake(&self, events: Events) {
        self.wake_n(events, 1);
    }

    /// As [`WaitQueue::wake`], with at most `exclusive` exclusive waiters.
    #[inline]
    pub fn wake_n(&self, events: Events, exclusive: usize) {
        // Sleepers register before they look at the state; so whoever is not counted yet will see it.
        arch::barrier();
        if self.len.load(SeqCst) != 0 {
            self.wake_some(events, exclusive);
        }
    }

    #[inline(never)]
    fn wake_some(&self, events: Events, mut exclusive: usize) {
        let events = events.with_normal();
        // A callback's last reference may go away while it is called; its drop takes registrations
        // back, hence must wait until this queue is unlocked.
        let mut called = ArrayVec::<Arc<dyn Notify>, 8>::new();
        let mut more = Vec::new();
        let mut woken = WakeList::default();
        let mut inner = self.inner.lock();
        let mut at = inner.head;
        while at != NONE {
            let e = &inner.entries[at as usize];
            let (this, next) = (at, e.next);
            at = next;
            if !e.events.intersects(events) {
                continue;
            }
            let only_one = e.exclusive;
            let took = match &e.target {
                Target::Task(w) => {
                    woken.add(w);
                    if only_one {
                        inner.unlink(this);
                    }
                    true
                }
                Target::Callback(c, key) => match c.upgrade() {
                    Some(c) => {
                        let took = c.notify(events, *key);
                        if let Err(full) = called.try_push(c) {
                            more.push(full.element());
                        }
                        took
                    }
                    None => false,
                },
                Target::Free => false,
            };
            if only_one && took {
                exclusive -= 1;
                if exclusive == 0 {
                    break;
                }
            }
        }
        drop(inner);
    }

    /// Wakes everyone, whatever they wait for.
    pub fn wake_all(&self) {
        self.wake_n(Events::all(), usize::MAX);
    }

    /// Sleeps until `ready` gives a value. `ready` is called with no queue lock held.
    ///
    /// # Errors
    /// [`WaitEnd`]: the deadline (host monotonic ns) passed or the task was kicked.
    pub fn wait_until<T>(
        &self,
        events: Events,
        deadline: Option<u64>,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        self.wait(events, false, deadline, ready)
    }

    /// As [`WaitQueue::wait_until`], as one of those of whom a wake wakes the longest waiting only.
    ///
    /// # Errors
    /// As there. A wake that comes together with them is used: `ready` is asked once more.
    pub fn wait_exclusive<T>(
        &self,
        events: Events,
        deadline: Option<u64>,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        self.wait(events, true, deadline, ready)
    }

    fn wait<T>(
        &self,
        events: Events,
        exclusive: bool,
        deadline: Option<u64>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitEnd> {
        if let Some(v) = ready() {
            return Ok(v);
        }
        let slot = arch::slot();
        let mut registration = Registration { queue: self, id: self.add_current(events, exclusive), events, exclusive };
        let mut registration = left::on_stack(&mut registration);
        loop {
            let ticket = slot.waker.ticket();
            if let Some(v) = ready() {
                break Ok(v);
            }
            let on = On { kind: self.kind, id: core::ptr::from_ref(self) as u64 };
            if let Err(e) = sleep(slot, on, ticket, deadline) {
                // What came together with the signal or at the deadline counts.
                break ready().ok_or(e);
            }
            if exclusive {
                self.remove(registration.id);
                registration.id = self.add_current(events, true);
            }
        }
    }
}

/// A sleeping thread's place in a queue.
struct Registration<'a> {
    queue: &'a WaitQueue,
    id: u64,
    events: Events,
    exclusive: bool,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}

impl Left for Registration<'_> {
    fn left(&mut self) {
        self.queue.remove(self.id);
        // The wake that it got may have been another's.
        if self.exclusive {
            self.queue.wake(self.events);
        }
    }
}

/// Runs `attempt` until it says something else than `EAGAIN`, sleeping on `queue` in between:
/// the one way in which a read, a write, an accept blocks.
///
/// # Errors
/// What `attempt` says; `Restart::Sys` when interrupted; `EAGAIN` when the deadline passed.
pub fn block_on<T>(
    queue: &WaitQueue,
    events: Events,
    deadline: Option<u64>,
    mut attempt: impl FnMut() -> SysResult<T>,
) -> SysResult<T> {
    let outcome = queue.wait_until(events | Events::ERR | Events::HUP, deadline, || match attempt() {
        Err(SysError::Errno(Errno::EAGAIN)) => None,
        other => Some(other),
    });
    match outcome {
        Ok(result) => result,
        Err(WaitEnd::Interrupted) => Err(Interrupted.into()),
        Err(WaitEnd::TimedOut) => Err(Errno::EAGAIN.into()),
    }
}

/// Sleeps until the slot's word differs from `ticket`, whether or not the thread is kicked: for
/// waits that look at the reasons for a kick themselves. Work items are done and the thread is parked
/// within the sleep.
#[track_caller]
pub fn sleep_deaf(slot: &'static SlotHeader, on: On, ticket: u32) {
    super::may_block();
    on.record(slot, None);
    let attend = |_| {
        attend(slot);
        true
    };
    let wait = || futex::wait(&slot.waker.word, ticket, None) != Err(Errno::ETIMEDOUT);
    let _ = slept::sleep(words_of(slot), ticket, kick::ATTEND, attend, wait);
}
