//! Signal-driven input and output: who is told by a signal that a file is ready (`F_SETOWN`, `F_SETSIG`,
//! `O_ASYNC` in `fcntl(2)`).
//!
//! Readiness is announced while locks are held, under which no signal can be sent. So it is only recorded
//! here; the announcing thread sends the signals in its exit work, the supervisor after its round
//! (`task::async_io`). The same way serves others who cannot act under those locks ([`Later`]).

use super::dnotify::DirWatch;
use super::{FileOps, OpenFile};
use crate::abi::{Errno, Result};
use crate::arch;
use crate::sync::{Events, Level, Mutex, Notify};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// The status flag (`FASYNC`).
pub const O_ASYNC: u32 = 0o20000;

/// What kind of thing an owner is (`F_OWNER_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnerKind {
    /// A thread.
    Thread = 0,
    /// A process.
    Process = 1,
    /// A process group.
    Group = 2,
}

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// See [`OwnerKind`].
    pub kind: OwnerKind,
    /// Its id; 0 for nobody.
    pub id: u32,
    /// Real and effective user of who said so: their right to send signals counts.
    pub users: [u32; 2],
}

impl Owner {
    const NONE: Owner = Owner { kind: OwnerKind::Thread, id: 0, users: [0; 2] };
}

pub(super) struct State {
    owner: Owner,
    signal: u32,
    /// The registration with the file's queue while O_ASYNC is set.
    pub(super) target: Option<(Arc<Target>, u64)>,
    /// The registration for urgent data while a socket has an owner.
    urgent: Option<(Arc<Target>, u64)>,
    /// Who is told that a lease ends.
    lease: Option<Arc<Target>>,
    /// What is watched of a directory.
    pub(super) directories: Vec<Arc<DirWatch>>,
}

impl State {
    fn new() -> State {
        State { owner: Owner::NONE, signal: 0, target: None, urgent: None, lease: None, directories: Vec::new() }
    }
}

/// What an open file description knows of it.
pub struct AsyncIo {
    on: AtomicBool,
    /// Whether the owner is told of urgent data.
    tells_urgent: AtomicBool,
    /// Whether there are watches of a directory.
    pub(super) watches: AtomicBool,
    /// Made when there is something to keep.
    state: OnceBox<Mutex<State>>,
}

/// A file that is to tell its owner.
pub struct Target {
    told: Mutex<(Owner, u32)>,
    fd: AtomicI32,
    events: AtomicU32,
    changes: AtomicU32,
    queued: AtomicBool,
    /// It tells of urgent data, and of nothing else.
    urgent: bool,
    me: alloc::sync::Weak<Target>,
}

/// What is done in the exit work of a thread that announced readiness.
pub enum Due {
    /// An owner is told.
    Tell(Arc<Target>),
    /// Something else.
    Call(Arc<dyn Later>),
}

/// Wants to do something once a file has announced that it is ready, for which no lock may be held.
pub trait Later: Send + Sync {
    /// Does it.
    fn run(&self);
}

static DUE: Mutex<Vec<Due>> = Mutex::new(Level::Leaf, Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What is to be done now.
pub fn due() -> Vec<Due> {
    if COUNT.load(SeqCst) == 0 {
        return Vec::new();
    }
    let mut due = DUE.lock();
    COUNT.store(0, SeqCst);
    core::mem::take(&mut *due)
}

/// Has it done in the running thread's exit work, unless it is `queued` for that already. Where there is no memory for that,
/// it is not done.
pub fn put_off(queued: &AtomicBool, what: impl FnOnce() -> Option<Due>) {
    if queued.swap(true, SeqCst) {
        return;
    }
    let Some(what) = what() else { return };
    let mut due = DUE.lock();
    if due.try_reserve(1).is_err() {
        queued.store(false, SeqCst);
        return;
    }
    due.push(what);
    COUNT.store(due.len(), SeqCst);
    drop(due);
    arch::slot().kick_on_exit();
}

/// What a target has to tell.
pub struct Told {
    /// Whom.
    pub owner: Owner,
    /// By which signal; 0: SIGIO without further information.
    pub signal: u32,
    /// What the file became ready for.
    pub events: Events,
    /// How many changes there were in a directory.
    pub changes: u32,
    /// The descriptor's number.
    pub fd: i32,
}

impl Target {
    fn new(told: (Owner, u32), fd: i32, urgent: bool) -> Arc<Target> {
        Arc::new_cyclic(|me| Target {
            told: Mutex::new(Level::Leaf, told),
            fd: AtomicI32::new(fd),
            events: AtomicU32::new(0),
            changes: AtomicU32::new(0),
            queued: AtomicBool::new(false),
            urgent,
            me: me.clone(),
        })
    }

    /// What there is to tell now.
    pub fn take(&self) -> Told {
        self.queued.store(false, SeqCst);
        let events = Events::from_bits_truncate(self.events.swap(0, SeqCst));
        let changes = self.changes.swap(0, SeqCst);
        let (owner, signal) = *self.told.lock();
        Told { owner, signal, events, changes, fd: self.fd.load(SeqCst) }
    }

    /// Another descriptor's number is told from now on.
    pub(super) fn rename(&self, fd: i32) {
        self.fd.store(fd, SeqCst);
    }

    /// There was a change in the directory.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, SeqCst);
        self.queue();
    }

    fn queue(&self) {
        put_off(&self.queued, || self.me.upgrade().map(Due::Tell));
    }
}

impl Notify for Target {
    fn notify(&self, events: Events, _key: u64) -> bool {
        let events = if self.urgent { events & Events::URGENT } else { events - Events::URGENT };
        if events.is_empty() || events.contains(Events::QUIET) {
            return false;
        }
        self.events.fetch_or(events.bits(), SeqCst);
        self.queue();
        false
    }
}

impl AsyncIo {
    /// Nobody is told.
    pub(super) const fn new() -> AsyncIo {
        let (on, tells_urgent) = (AtomicBool::new(false), AtomicBool::new(false));
        AsyncIo { on, tells_urgent, watches: AtomicBool::new(false), state: OnceBox::new() }
    }

    pub(super) fn state(&self) -> &Mutex<State> {
        self.state.get_or_init(|| Box::new(Mutex::new(Level::Leaf, State::new())))
    }

    /// The owner, with id 0 for none.
    pub fn owner(&self) -> Owner {
        self.state.get().map_or(Owner::NONE, |s| s.lock().owner)
    }

    /// The signal, 0 for SIGIO without further information.
    pub fn signal(&self) -> u32 {
        self.state.get().map_or(0, |s| s.lock().signal)
    }

    /// Sets the signal.
    pub fn set_signal(&self, signal: u32) {
        self.change(|s| s.signal = signal);
    }

    fn change(&self, f: impl FnOnce(&mut State)) {
        let mut s = self.state().lock();
        f(&mut s);
        let told = (s.owner, s.signal);
        let directories = s.directories.iter().map(|w| w.target());
        let targets: Vec<_> =
            s.target.iter().chain(&s.urgent).map(|t| &t.0).chain(&s.lease).chain(directories).cloned().collect();
        drop(s);
        for target in targets {
            *target.told.lock() = told;
        }
    }

    /// The owner is told by this one that the description's lease ends.
    pub(super) fn set_lease(&self, target: Arc<Target>) {
        let old = self.state().lock().lease.replace(target);
        drop(old);
    }

    /// The lease has ended: nobody is told of anything any more (`lease_modify`).
    pub fn forget_lease(&self) {
        self.change(|s| (s.owner, s.signal) = (Owner::NONE, 0));
        let old = self.state().lock().lease.take();
        drop(old);
    }

    /// One that tells the owner of what happens to descriptor `fd`.
    pub(super) fn target(&self, fd: i32) -> Arc<Target> {
        let s = self.state().lock();
        Target::new((s.owner, s.signal), fd, false)
    }

    /// The description of `ops` ends.
    pub(super) fn end(&self, ops: &dyn FileOps) {
        if !self.on.load(SeqCst) && !self.tells_urgent.load(SeqCst) {
            return;
        }
        let had = {
            let mut s = self.state().lock();
            [s.target.take(), s.urgent.take()]
        };
        if let Some(queue) = ops.wait_queue() {
            for (_, registration) in had.into_iter().flatten() {
                queue.remove(registration);
            }
        }
    }
}

impl OpenFile {
    /// Sets the owner, who is also told of urgent data where the file may have such.
    pub fn set_owner(&self, owner: Owner) {
        let io = &self.async_io;
        io.change(|s| s.owner = owner);
        let Some(queue) = self.ops.wait_queue().filter(|_| self.ops.has_urgent_data()) else { return };
        if owner.id == 0 || io.tells_urgent.swap(true, SeqCst) {
            return;
        }
        let target = Target::new((owner, 0), 0, true);
        let callback: Arc<dyn Notify> = target.clone();
        let registration = queue.add_callback(Events::URGENT, false, &callback, 0);
        io.state().lock().urgent = Some((target, registration));
    }

    /// Sets or clears O_ASYNC; `fd` is what the signal will name. The file has a queue.
    ///
    /// # Errors
    /// `ENOTTY` for a file that is always ready.
    pub fn set_async(&self, fd: i32, on: bool) -> Result {
        let queue = self.ops.wait_queue().ok_or(Errno::ENOTTY)?;
        let io = &self.async_io;
        let had = io.state().lock().target.take();
        if let Some((_, registration)) = had {
            queue.remove(registration);
        }
        io.on.store(on, SeqCst);
        if !on {
            self.set_flags(self.flags() & !O_ASYNC);
            return Ok(());
        }
        let target = io.target(fd);
        let mut wanted = Events::empty();
        if self.readable() {
            wanted |= Events::IN | Events::PRI | Events::HUP | Events::RDHUP;
        }
        if self.writable() {
            wanted |= Events::OUT;
        }
        let callback: Arc<dyn Notify> = target.clone();
        let registration = queue.add_callback(wanted, false, &callback, 0);
        let other = io.state().lock().target.replace((target, registration));
        if let Some((_, registration)) = other {
            queue.remove(registration);
        }
        self.set_flags(self.flags() | O_ASYNC);
        Ok(())
    }
}
