//! A queue: messages by priority and age, and who waits for one or for room.

use super::super::sleeper::Sleeper;
use super::notify::{Notice, Registration};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::arena::{self, Object};
use crate::cred::{User, user};
use crate::sync::wait::WakeList;
use crate::sync::{Events, Interrupted, Kind, Level, Mend, MendMap, Mutex, On, WaitEnd, WaitQueue};
use crate::task::CurrentTask;
use crate::time;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Priorities are below this (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Below [`PRIORITIES`]; higher ones come first.
    pub priority: u32,
    /// Its text.
    pub text: Vec<u8>,
}

/// A place among those who wait: rank, and a running number.
type Place = (i32, u64);

struct Sender {
    /// `None` once it is in the queue.
    message: Option<Box<Message>>,
    sleeper: Arc<Sleeper<()>>,
}

/// What the lock of a queue guards. Places in order are a rank and a running number.
pub(super) struct State {
    messages: MendMap<(u32, u64), Message>,
    bytes: u64,
    next: u64,
    receivers: MendMap<Place, Arc<Sleeper<Message>>>,
    senders: MendMap<Place, Sender>,
    pub(super) registered: Option<Box<Registration>>,
    /// Access, modification, change; ns.
    pub(super) times: [i64; 3],
}

impl Mend for State {
    fn mend(&mut self) {
        self.messages.mend();
        self.receivers.mend();
        self.senders.mend();
        self.bytes = self.messages.values().map(|m| m.text.len() as u64).sum();
        self.receivers.retain(|_, receiver| !receiver.has_got());
        self.senders.retain(|_, sender| {
            let mut woken = WakeList::default();
            if sender.message.is_none() && !sender.sleeper.has_got() {
                sender.sleeper.finish((), &mut woken);
            }
            sender.message.is_some()
        });
    }
}

/// See the module.
pub struct Queue {
    /// Most messages.
    pub messages: u64,
    /// Longest message, bytes.
    pub size: u64,
    /// Whose bytes it counts with, and how many.
    charged: (Arc<User>, u64),
    /// How many queues there are.
    count: Arc<AtomicU32>,
    pub(super) state: Mutex<State>,
    pub(super) readiness: WaitQueue,
}

impl Drop for Queue {
    fn drop(&mut self) {
        user::uncharge(&self.charged.0.mq_bytes, self.charged.1);
        self.count.fetch_sub(1, Relaxed);
    }
}

/// The rank of the running task among those who wait: lower comes first (`static_prio`).
fn rank(cur: &CurrentTask) -> i32 {
    let real_time = matches!(cur.attr.policy.load(Relaxed) & 0xf, linux::SCHED_FIFO | linux::SCHED_RR);
    if real_time { 99 - cur.attr.rt_priority.load(Relaxed) as i32 } else { 120 + cur.attr.nice.load(Relaxed) }
}

impl State {
    fn place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(&mut self, message: Message) {
        self.bytes += message.text.len() as u64;
        let place = (PRIORITIES - message.priority, self.place());
        self.messages.insert(place, message);
    }

    fn first_sender(&self) -> Option<(Place, Arc<Sleeper<()>>)> {
        self.senders.first_key_value().map(|(place, sender)| (*place, sender.sleeper.clone()))
    }

    fn now(&mut self) {
        self.times = [time::now_coarse(); 3];
    }
}

impl Queue {
    pub(super) fn new(messages: u64, size: u64, charged: (Arc<User>, u64), count: Arc<AtomicU32>) -> Arc<Queue> {
        let state = State {
            messages: MendMap::new(),
            bytes: 0,
            next: 0,
            receivers: MendMap::new(),
            senders: MendMap::new(),
            registered: None,
            times: [time::now_coarse(); 3],
        };
        let state = Mutex::mended(Level::FileData, state);
        Arc::new(Queue { messages, size, charged, count, state, readiness: WaitQueue::new() })
    }

    /// Messages and bytes in it.
    pub fn held(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.messages.len() as u64, state.bytes)
    }

    /// `mq_timedsend(2)`: `deadline` on the host's monotonic clock, ns.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ENOMEM`; interrupted.
    pub fn send(&self, cur: &CurrentTask, message: Message, nonblock: bool, deadline: Option<u64>) -> SysResult<()> {
        let mut woken = WakeList::default();
        let mut state = self.state.lock();
        if (state.messages.len() as u64) < self.messages {
            state.now();
            let notice = self.deliver(&mut state, message, cur, &mut woken);
            drop(state);
            drop(woken);
            self.readiness.wake(Events::IN);
            if let Some(notice) = notice {
                notice.give();
            }
            return Ok(());
        }
        if nonblock {
            return Err(Errno::EAGAIN.into());
        }
        arena::charge(Object::Watch)?;
        let sleeper = Sleeper::here();
        let place = (rank(cur), state.place());
        state.senders.insert(place, Sender { message: Some(Box::new(message)), sleeper: sleeper.clone() });
        drop(state);
        let end = self.sleep(&sleeper, deadline);
        let Err(end) = end else { return Ok(()) };
        let still = self.state.lock().senders.remove(&place).is_some();
        if still { Err(broken(end)) } else { Ok(()) }
    }

    /// Hands a message to the first receiver or keeps it; whoever is to be told of that.
    fn deliver(&self, state: &mut State, message: Message, cur: &CurrentTask, woken: &mut WakeList) -> Option<Notice> {
        while let Some((place, receiver)) = state.receivers.first_key_value().map(|(at, r)| (*at, r.clone())) {
            if receiver.is_there() {
                receiver.finish(message, woken);
                state.receivers.remove(&place);
                return None;
            }
            state.receivers.remove(&place);
        }
        state.insert(message);
        if state.messages.len() != 1 {
            return None;
        }
        state.registered.take().map(|r| (*r).arrived(cur))
    }

    /// `mq_timedreceive(2)`: the oldest message of the highest priority.
    ///
    /// # Errors
    /// `EAGAIN`, `ETIMEDOUT`, `ENOMEM`; interrupted.
    pub fn receive(&self, cur: &CurrentTask, nonblock: bool, deadline: Option<u64>) -> SysResult<Message> {
        let mut woken = WakeList::default();
        let mut state = self.state.lock();
        if let Some((_, message)) = state.messages.pop_first() {
            state.bytes -= message.text.len() as u64;
            state.now();
            // The sender that waits longest puts its message in.
            while let Some((place, sleeper)) = state.first_sender() {
                let message = state.senders.get_mut(&place).and_then(|s| s.message.take());
                let there = message.filter(|_| sleeper.is_there());
                let served = there.is_some();
                if let Some(message) = there {
                    state.insert(*message);
                    sleeper.finish((), &mut woken);
                }
                state.senders.remove(&place);
                if served {
                    break;
                }
            }
            drop(state);
            drop(woken);
            self.readiness.wake(Events::OUT);
            return Ok(message);
        }
        if nonblock {
            return Err(Errno::EAGAIN.into());
        }
        arena::charge(Object::Watch)?;
        let sleeper = Sleeper::here();
        let place = (rank(cur), state.place());
        state.receivers.insert(place, sleeper.clone());
        drop(state);
        let end = self.sleep(&sleeper, deadline);
        if end.is_err() {
            self.state.lock().receivers.remove(&place);
        }
        match (sleeper.take(), end) {
            (Some(message), _) => Ok(message),
            (None, Err(end)) => Err(broken(end)),
            (None, Ok(())) => Err(Errno::EAGAIN.into()),
        }
    }

    fn sleep<T>(&self, sleeper: &Sleeper<T>, deadline: Option<u64>) -> core::result::Result<(), WaitEnd> {
        let id = core::ptr::from_ref(self) as u64;
        sleeper.wait(On { kind: Kind::MessageQueue, id }, deadline)
    }

    /// `mq_notify(2)`: registers, or takes the caller's registration back.
    ///
    /// # Errors
    /// `EBUSY` when somebody else is registered.
    pub(super) fn register(&self, pid: u32, new: Option<Registration>) -> Result {
        let mut state = self.state.lock();
        match (&state.registered, new) {
            (Some(_), Some(new)) => {
                drop(state);
                drop(new);
                Err(Errno::EBUSY)
            }
            (None, Some(new)) => {
                state.registered = Some(Box::new(new));
                state.times[0] = time::now_coarse();
                state.times[2] = state.times[0];
                Ok(())
            }
            (_, None) => {
                drop(state);
                self.unregister(pid);
                Ok(())
            }
        }
    }

    /// The process `pid` is not to be told any more.
    pub(super) fn unregister(&self, pid: u32) {
        let gone = {
            let mut state = self.state.lock();
            if state.registered.as_ref().is_some_and(|r| r.is_of(pid)) { state.registered.take() } else { None }
        };
        if let Some(gone) = gone {
            gone.removed();
        }
    }

    pub(super) fn ready(&self) -> Events {
        let (held, _) = self.held();
        let mut events = Events::empty();
        if held > 0 {
            events |= Events::IN | Events::RDNORM;
        }
        if held < self.messages {
            events |= Events::OUT | Events::WRNORM;
        }
        events
    }
}

fn broken(end: WaitEnd) -> crate::abi::SysError {
    match end {
        WaitEnd::TimedOut => Errno::ETIMEDOUT.into(),
        WaitEnd::Interrupted => Interrupted.into(),
    }
}
