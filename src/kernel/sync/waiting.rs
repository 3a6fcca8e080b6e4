//! What a thread waits for, as data, and what it attends to while it waits.

use crate::abi::slot::SlotHeader;
use core::sync::atomic::Ordering::Relaxed;
use once_cell::race::OnceBox;

/// Kinds of what a thread can sleep on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// Some object's wait queue.
    Object,
    /// A change of a child (`wait4`).
    Child,
    /// A pipe or FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// Several descriptors (`poll`, `select`).
    Poll,
    /// An epoll instance.
    Epoll,
    /// An eventfd.
    Event,
    /// A timerfd.
    TimerFd,
    /// A signalfd, or a signal that is waited for.
    Signal,
    /// A signal with a handler (`pause`, `sigsuspend`).
    Suspend,
    /// Time (`nanosleep`).
    Time,
    /// A futex; the id is its address.
    Futex,
    /// A file lock.
    Lock,
    /// An inotify instance.
    Inotify,
    /// An fanotify group, or its answer.
    Fanotify,
    /// A descriptor of the host.
    Host,
    /// The end of a stop.
    Stop,
    /// A tracer.
    Tracer,
    /// A vfork child.
    Vfork,
    /// The end of the other threads, by a thread that execs.
    Siblings,
    /// A work item of another task.
    Work,
    /// The end of a pause of the whole sandbox.
    Pause,
    /// System V semaphores; the id is the set's.
    Semaphore,
    /// Room in a System V message queue; the id is the queue's.
    MessageSend,
    /// A message of a System V queue; the id is the queue's.
    MessageReceive,
    /// A message of a POSIX queue, or room for one.
    MessageQueue,
}

/// Every kind with the symbol that `/proc/PID/wchan` shows on Linux.
const SYMBOLS: [(Kind, &str); 26] = [
    (Kind::Object, "wait_woken"),
    (Kind::Child, "do_wait"),
    (Kind::Pipe, "anon_pipe_read"),
    (Kind::Socket, "unix_stream_read_generic"),
    (Kind::Poll, "poll_schedule_timeout.constprop.0"),
    (Kind::Epoll, "ep_poll"),
    (Kind::Event, "eventfd_read"),
    (Kind::TimerFd, "timerfd_read_iter"),
    (Kind::Signal, "do_sigtimedwait"),
    (Kind::Suspend, "sigsuspend"),
    (Kind::Time, "hrtimer_nanosleep"),
    (Kind::Futex, "futex_do_wait"),
    (Kind::Lock, "locks_lock_inode_wait"),
    (Kind::Inotify, "inotify_read"),
    (Kind::Fanotify, "fanotify_read"),
    (Kind::Host, "wait_woken"),
    (Kind::Stop, "do_signal_stop"),
    (Kind::Tracer, "ptrace_stop"),
    (Kind::Vfork, "kernel_clone"),
    (Kind::Siblings, "de_thread"),
    (Kind::Work, "access_remote_vm"),
    (Kind::Pause, "refrigerator"),
    (Kind::Semaphore, "__do_semtimedop"),
    (Kind::MessageSend, "do_msgsnd"),
    (Kind::MessageReceive, "do_msgrcv"),
    (Kind::MessageQueue, "wq_sleep"),
];

impl Kind {
    /// The name of the function that sleeps so on Linux.
    pub fn symbol(self) -> &'static str {
        SYMBOLS[self as usize].1
    }
}

/// What a sleep is on: kind and identity of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct On {
    /// What it is.
    pub kind: Kind,
    /// Which one, for a dump; 0 where there is only one.
    pub id: u64,
}

impl On {
    /// The one object of this kind.
    pub const fn the(kind: Kind) -> On {
        On { kind, id: 0 }
    }

    /// Leaves it in the slot, with the deadline (host monotonic ns).
    pub(super) fn record(self, slot: &SlotHeader, deadline: Option<u64>) {
        slot.wait_id.store(self.id, Relaxed);
        slot.wait_until.store(deadline.unwrap_or(u64::MAX), Relaxed);
        slot.wait_kind.store(self.kind as u32, Relaxed);
    }

    /// What the thread of `slot`, which sleeps, sleeps on, and until when.
    pub fn of(slot: &SlotHeader) -> (On, Option<u64>) {
        let kind = SYMBOLS.get(slot.wait_kind.load(Relaxed) as usize).map_or(Kind::Object, |s| s.0);
        let until = slot.wait_until.load(Relaxed);
        (On { kind, id: slot.wait_id.load(Relaxed) }, (until != u64::MAX).then_some(until))
    }
}

/// Does the work items and parks; registered by `task`.
static ATTEND: OnceBox<fn(&'static SlotHeader)> = OnceBox::new();

/// Registers what a sleeper calls for [`crate::abi::slot::kick::ATTEND`].
pub fn set_attend(f: fn(&'static SlotHeader)) {
    let _ = ATTEND.set(alloc::boxed::Box::new(f));
}

/// Does what others ask of the running thread in its sleep. No lock is held.
pub(super) fn attend(slot: &'static SlotHeader) {
    match ATTEND.get() {
        Some(f) => f(slot),
        None => drop(slot.kick.fetch_and(!crate::abi::slot::kick::ATTEND, core::sync::atomic::Ordering::SeqCst)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_symbol() {
        for (i, (kind, symbol)) in SYMBOLS.iter().enumerate() {
            assert_eq!((*kind as usize, kind.symbol()), (i, *symbol));
        }
    }

    #[test]
    fn a_sleep_can_be_told() {
        let slot = crate::arch::slot();
        let on = On { kind: Kind::Futex, id: 0x1234 };
        on.record(slot, Some(5));
        assert_eq!(On::of(slot), (on, Some(5)));
        on.record(slot, None);
        assert_eq!(On::of(slot), (on, None));
    }
}
