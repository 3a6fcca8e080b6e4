//! System V message queues (`ipc/msg.c` is what programs see). A message that somebody waits for is handed over to
//! him, so that receivers are served in order of arrival.

use super::Ipc;
use super::ids::{End, Ids, Object};
use super::perm::{ALTER, NOWAIT, Perm, READ, UserPerm};
use super::sleeper::Sleeper;
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arena::{self, Object as Charged};
use crate::cred::{Cred, UserNamespace, cap};
use crate::sync::mend::forget_part;
use crate::sync::wait::WakeList;
use crate::sync::{Kind, Level, Mend, MendMap, Mutex, MutexGuard, On};
use crate::task::CurrentTask;
use crate::task::ns::{IpcNamespace, seen_pid};
use crate::time;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Flags of `msgrcv`.
pub const NOERROR: u32 = 0o10000;
const EXCEPT: u32 = 0o20000;
const COPY: u32 = 0o40000;

/// The queues of a namespace, and their limits.
pub struct Msgs {
    /// By id.
    pub ids: Arc<Ids<Queue>>,
    /// Largest message, bytes (`MSGMAX`).
    pub max: AtomicU32,
    /// Bytes of a new queue (`MSGMNB`).
    pub queue_bytes: AtomicU32,
    /// Queues (`MSGMNI`).
    pub count: AtomicU32,
}

impl Default for Msgs {
    fn default() -> Self {
        Msgs {
            ids: Arc::default(),
            max: AtomicU32::new(8192),
            queue_bytes: AtomicU32::new(16384),
            count: AtomicU32::new(32000),
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its text.
    pub text: Vec<u8>,
}

/// Which message a receiver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Any,
    Equal(i64),
    Except(i64),
    /// The lowest type up to this.
    Lowest(i64),
}

impl Search {
    /// `convert_mode` in Linux.
    fn of(kind: i64, flags: u32) -> Search {
        match kind {
            0 => Search::Any,
            ..0 => Search::Lowest(kind.checked_neg().unwrap_or(i64::MAX)),
            _ if flags & EXCEPT != 0 => Search::Except(kind),
            _ => Search::Equal(kind),
        }
    }

    fn takes(self, kind: i64) -> bool {
        match self {
            Search::Any => true,
            Search::Equal(k) => kind == k,
            Search::Except(k) => kind != k,
            Search::Lowest(most) => kind <= most,
        }
    }
}

struct Receiver {
    search: Search,
    /// Longest text, bytes; `None`: it is cut.
    room: Option<usize>,
    pid: u32,
    sleeper: Arc<Sleeper<Result<Message>>>,
}

struct Sender {
    len: usize,
    sleeper: Arc<Sleeper<()>>,
}

struct State {
    perm: Perm,
    gone: bool,
    messages: MendMap<u64, Message>,
    by_type: BTreeSet<(i64, u64)>,
    next: u64,
    bytes: u64,
    most: u64,
    /// Seconds: sent, received, changed.
    times: [i64; 3],
    /// Who sent and received last.
    pids: [u32; 2],
    receivers: MendMap<u64, Receiver>,
    senders: MendMap<u64, Sender>,
}

impl Mend for State {
    fn mend(&mut self) {
        self.messages.mend();
        self.receivers.mend();
        self.senders.mend();
        let by_type = self.messages.iter().map(|(at, m)| (m.kind, *at)).collect();
        forget_part(&mut self.by_type, by_type);
        self.bytes = self.messages.values().map(|m| m.text.len() as u64).sum();
        self.receivers.retain(|_, receiver| !receiver.sleeper.has_got());
        self.senders.retain(|_, sender| !sender.sleeper.has_got());
        if self.gone {
            self.end(&mut WakeList::default());
        }
    }
}

/// A queue.
pub struct Queue {
    state: Mutex<State>,
}

impl Object for Queue {
    fn perm(&self) -> Result<Perm> {
        self.live().map(|s| s.perm)
    }
    fn set_id(&self, id: i32) {
        self.state.lock().perm.id = id;
    }
}

/// What `msgctl(IPC_STAT)` says.
pub struct Stat {
    /// Owner and mode.
    pub perm: UserPerm,
    /// Id.
    pub id: i32,
    /// Seconds: sent, received, changed.
    pub times: [i64; 3],
    /// Bytes and messages in it, and most bytes.
    pub sizes: [u64; 3],
    /// Who sent and received last.
    pub pids: [u32; 2],
}

fn seconds() -> i64 {
    time::now_coarse() / 1_000_000_000
}

impl Msgs {
    /// Messages and bytes in all queues.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn totals(&self) -> Result<(u64, u64)> {
        let held = |queue: Arc<Queue>| {
            let state = queue.state.lock();
            (state.messages.len() as u64, state.bytes)
        };
        Ok(self.ids.all()?.into_iter().map(held).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
    }

    /// `msgget(2)`.
    ///
    /// # Errors
    /// Those of the manual page.
    pub fn get(&self, cur: &CurrentTask, ns: &IpcNamespace, key: i32, flags: u32) -> Result<i32> {
        arena::charge(Charged::File)?;
        let cred = cur.cred();
        let make = || {
            let state = State {
                perm: Perm::new(cred, key, flags),
                gone: false,
                messages: MendMap::new(),
                by_type: BTreeSet::new(),
                next: 0,
                bytes: 0,
                most: u64::from(self.queue_bytes.load(Relaxed)),
                times: [0, 0, seconds()],
                pids: [0; 2],
                receivers: MendMap::new(),
                senders: MendMap::new(),
            };
            Ok(Arc::new(Queue { state: Mutex::mended(Level::IpcObject, state) }))
        };
        self.ids.get((ns, cred), (key, flags), self.count.load(Relaxed), |_| Ok(()), make)
    }
}

/// `msgsnd(2)`.
///
/// # Errors
/// Those of the manual page.
pub fn send(cur: &CurrentTask, id: i32, message: Message, flags: u32) -> SysResult<()> {
    let ns = super::namespace(cur);
    let queue = Ipc::of(&ns).msg.ids.find(id)?;
    let len = message.text.len();
    loop {
        let (place, sleeper) = {
            let mut woken = WakeList::default();
            let mut state = queue.live()?;
            state.perm.check(&ns, cur.cred(), ALTER)?;
            if state.has_room(len) {
                state.pids[0] = cur.group.pid;
                state.times[0] = seconds();
                queue.deliver(&mut state, message, &mut woken);
                return Ok(());
            }
            if flags & NOWAIT != 0 {
                return Err(Errno::EAGAIN.into());
            }
            arena::charge(Charged::Watch)?;
            let sleeper = Sleeper::here();
            let place = state.place();
            state.senders.insert(place, Sender { len, sleeper: sleeper.clone() });
            (place, sleeper)
        };
        let end = sleeper.wait(On { kind: Kind::MessageSend, id: Arc::as_ptr(&queue) as u64 }, None);
        if end.is_err() {
            let mut state = queue.live()?;
            if state.senders.remove(&place).is_some() {
                return Err(SysError::Restart(Restart::NoHand));
            }
        }
    }
}

/// `msgrcv(2)`: a message with at most `len` bytes of text, or longer, and then to be cut.
///
/// # Errors
/// Those of the manual page.
pub fn receive(cur: &CurrentTask, id: i32, len: usize, kind: i64, flags: u32) -> SysResult<Message> {
    let ns = super::namespace(cur);
    if id < 0 || len > i64::MAX as usize {
        return Err(Errno::EINVAL.into());
    }
    if flags & COPY != 0 && (flags & EXCEPT != 0 || flags & NOWAIT == 0) {
        return Err(Errno::EINVAL.into());
    }
    let queue = Ipc::of(&ns).msg.ids.find(id)?;
    let room = (flags & NOERROR == 0).then_some(len);
    let search = Search::of(kind, flags);
    loop {
        let (place, sleeper) = {
            let mut woken = WakeList::default();
            let mut state = queue.live()?;
            state.perm.check(&ns, cur.cred(), READ)?;
            if flags & COPY != 0 {
                return Ok(state.copy(kind, len, room)?);
            }
            if let Some(at) = state.find(search) {
                if room.is_some_and(|room| state.messages.get(&at).is_some_and(|m| m.text.len() > room)) {
                    return Err(Errno::E2BIG.into());
                }
                return Ok(queue.take(&mut state, at, cur.group.pid, &mut woken)?);
            }
            if flags & NOWAIT != 0 {
                return Err(Errno::ENOMSG.into());
            }
            arena::charge(Charged::Watch)?;
            let sleeper = Sleeper::here();
            let place = state.place();
            let receiver = Receiver { search, room, pid: cur.group.pid, sleeper: sleeper.clone() };
            state.receivers.insert(place, receiver);
            (place, sleeper)
        };
        let end = sleeper.wait(On { kind: Kind::MessageReceive, id: Arc::as_ptr(&queue) as u64 }, None);
        if end.is_err() {
            queue.state.lock().receivers.remove(&place);
        }
        match sleeper.take() {
            // The owner or the mode changed.
            Some(Err(Errno::EAGAIN)) => {}
            Some(outcome) => return Ok(outcome?),
            None => return Err(SysError::Restart(Restart::NoHand)),
        }
    }
}

impl State {
    fn place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn has_room(&self, len: usize) -> bool {
        len as u64 + self.bytes <= self.most && (self.messages.len() as u64) < self.most
    }

    fn find(&self, search: Search) -> Option<u64> {
        match search {
            Search::Any => self.messages.first_key_value().map(|(at, _)| *at),
            Search::Equal(k) => self.by_type.range((k, 0)..=(k, u64::MAX)).next().map(|(_, at)| *at),
            Search::Lowest(most) => self.by_type.first().filter(|(k, _)| *k <= most).map(|(_, at)| *at),
            Search::Except(k) => self.messages.iter().find(|(_, m)| m.kind != k).map(|(at, _)| *at),
        }
    }

    /// `MSG_COPY`: the message in this place of the order.
    fn copy(&self, place: i64, len: usize, room: Option<usize>) -> Result<Message> {
        let place = usize::try_from(place).map_err(|_| Errno::ENOMSG)?;
        let message = self.messages.values().nth(place).ok_or(Errno::ENOMSG)?;
        if room.is_some_and(|room| message.text.len() > room) {
            return Err(Errno::E2BIG);
        }
        // A copy is not cut.
        if message.text.len() > len {
            return Err(Errno::EINVAL);
        }
        let mut text = Vec::new();
        text.try_reserve_exact(message.text.len()).map_err(|_| Errno::ENOMEM)?;
        text.extend_from_slice(&message.text);
        Ok(Message { kind: message.kind, text })
    }

    /// Lets senders try again as far as there is room for them; `all`: everyone, for an error or another limit.
    fn wake_senders(&mut self, all: bool, woken: &mut WakeList) {
        let mut bytes = self.bytes;
        while let Some((&place, first)) = self.senders.first_key_value() {
            if first.sleeper.is_there() {
                bytes += first.len as u64;
                if !all && bytes > self.most {
                    break;
                }
                first.sleeper.finish((), woken);
            }
            self.senders.remove(&place);
        }
    }

    /// The first who waits for a message of this type.
    fn taker(&self, kind: i64) -> Option<u64> {
        self.receivers.iter().find(|(_, r)| r.search.takes(kind)).map(|(at, _)| *at)
    }

    /// Everyone who waits for a message gets an error instead.
    fn refuse_receivers(&mut self, e: Errno, woken: &mut WakeList) {
        while let Some((&place, receiver)) = self.receivers.first_key_value() {
            receiver.sleeper.finish(Err(e), woken);
            self.receivers.remove(&place);
        }
    }

    /// Nobody waits any more, and nothing is kept.
    fn end(&mut self, woken: &mut WakeList) {
        self.gone = true;
        self.refuse_receivers(Errno::EIDRM, woken);
        self.wake_senders(true, woken);
        self.by_type.clear();
        self.messages.clear();
        self.bytes = 0;
    }
}

impl Queue {
    fn live(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Hands a message to the first receiver that takes it, or keeps it.
    fn deliver(&self, state: &mut State, message: Message, woken: &mut WakeList) {
        while let Some(at) = state.taker(message.kind) {
            let Some(receiver) = state.receivers.get(&at) else { break };
            let (sleeper, room, pid) = (receiver.sleeper.clone(), receiver.room, receiver.pid);
            let there = sleeper.is_there();
            let fits = room.is_none_or(|room| message.text.len() <= room);
            if there && fits {
                state.pids[1] = pid;
                state.times[1] = seconds();
                sleeper.finish(Ok(message), woken);
                state.receivers.remove(&at);
                return;
            }
            if there {
                sleeper.finish(Err(Errno::E2BIG), woken);
            }
            state.receivers.remove(&at);
        }
        let at = state.place();
        state.bytes += message.text.len() as u64;
        state.by_type.insert((message.kind, at));
        state.messages.insert(at, message);
    }

    fn take(&self, state: &mut State, at: u64, pid: u32, woken: &mut WakeList) -> Result<Message> {
        let message = state.messages.remove(&at).ok_or(Errno::ENOMSG)?;
        let len = message.text.len() as u64;
        state.by_type.remove(&(message.kind, at));
        state.bytes -= len;
        state.pids[1] = pid;
        state.times[1] = seconds();
        state.wake_senders(false, woken);
        Ok(message)
    }

    /// `IPC_RMID`.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`.
    pub fn remove(self: &Arc<Self>, cur: &CurrentTask, ns: &IpcNamespace) -> Result {
        let mut woken = WakeList::default();
        Ipc::of(ns).msg.ids.end(self, || {
            let mut state = self.state.lock();
            let allowed = if state.gone { Err(Errno::EIDRM) } else { state.perm.check_owner(ns, cur.cred()) };
            if let Err(e) = allowed {
                return (End::Nothing, Err(e));
            }
            state.end(&mut woken);
            (End::All(state.perm.key), Ok(()))
        })
    }

    /// `IPC_SET`; `most`: bytes that it may hold.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`, `EINVAL`.
    pub fn set(&self, cur: &CurrentTask, ns: &IpcNamespace, to: &UserPerm, most: u64) -> Result {
        let mut woken = WakeList::default();
        let mut state = self.live()?;
        state.perm.check_owner(ns, cur.cred())?;
        let usual = u64::from(Ipc::of(ns).msg.queue_bytes.load(Relaxed));
        if most > usual && !cur.cred().capable_in(UserNamespace::initial(), cap::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        state.perm.update(cur.cred(), to)?;
        state.most = most;
        state.times[2] = seconds();
        // Whoever waits may not be allowed to any more; there may be room for whoever sends.
        state.refuse_receivers(Errno::EAGAIN, &mut woken);
        state.wake_senders(true, &mut woken);
        Ok(())
    }

    /// `IPC_STAT` and the like; `open`: whoever asks need not be allowed to read it.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`.
    pub fn stat(&self, cur: &CurrentTask, ns: &IpcNamespace, open: bool) -> Result<Stat> {
        if !open {
            self.perm()?.check(ns, cur.cred(), READ)?;
        }
        self.look(cur.cred())
    }

    /// What it is like, as `cred` sees it.
    ///
    /// # Errors
    /// `EIDRM`.
    pub fn look(&self, cred: &Cred) -> Result<Stat> {
        let state = self.live()?;
        let mut stat = Stat {
            perm: state.perm.to_user(cred),
            id: state.perm.id,
            times: state.times,
            sizes: [state.bytes, state.messages.len() as u64, state.most],
            pids: state.pids,
        };
        drop(state);
        stat.pids = stat.pids.map(seen_pid);
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        let state = State {
            perm: Perm::new(&Cred::new(0, 0, Vec::new()), 0, 0o600),
            gone: false,
            messages: MendMap::new(),
            by_type: BTreeSet::new(),
            next: 0,
            bytes: 0,
            most: 10,
            times: [0; 3],
            pids: [0; 2],
            receivers: MendMap::new(),
            senders: MendMap::new(),
        };
        Queue { state: Mutex::mended(Level::IpcObject, state) }
    }

    fn message(kind: i64, text: &str) -> Message {
        Message { kind, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn messages_are_found_by_type() {
        let q = queue();
        let mut woken = WakeList::default();
        let mut s = q.state.lock();
        for (kind, text) in [(3, "a"), (1, "b"), (3, "c"), (2, "d")] {
            q.deliver(&mut s, message(kind, text), &mut woken);
        }
        let mut take = |kind, flags| {
            let at = s.find(Search::of(kind, flags)).unwrap();
            q.take(&mut s, at, 1, &mut woken).unwrap().text
        };
        assert_eq!(take(-2, 0), b"b");
        assert_eq!(take(3, EXCEPT), b"d");
        assert_eq!(take(0, 0), b"a");
        assert_eq!(take(i64::MIN, 0), b"c");
        assert_eq!((s.messages.len(), s.bytes), (0, 0));
    }

    #[test]
    fn a_receiver_gets_what_it_takes_and_whoever_has_too_little_room_an_error() {
        let q = queue();
        let mut woken = WakeList::default();
        let mut s = q.state.lock();
        let mut wait = |search, room| {
            let sleeper = Sleeper::here();
            let place = s.place();
            s.receivers.insert(place, Receiver { search, room, pid: 5, sleeper: sleeper.clone() });
            sleeper
        };
        let other = wait(Search::Equal(9), None);
        let (short, long) = (wait(Search::Any, Some(1)), wait(Search::Lowest(4), Some(2)));
        q.deliver(&mut s, message(4, "xy"), &mut woken);
        assert_eq!(other.take(), None);
        assert_eq!(short.take(), Some(Err(Errno::E2BIG)));
        assert_eq!(long.take(), Some(Ok(message(4, "xy"))));
        assert_eq!((s.messages.len(), s.pids), (0, [0, 5]));
    }
}
