//! System V message queues (`ipc/msg.c` is what programs see). A message that somebody waits for is handed over to
//! him, so that receivers are served in order of arrival.

use super::Ipc;
use super::ids::{End, Ids, Object};
use super::perm::{ALTER, NOWAIT, Perm, READ, UserPerm};
use super::sleeper::Sleeper;
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arena::{self, Object as Charged};
use crate::cred::{Cred, UserNamespace, cap};
use crate::sync::wait::WakeList;
use crate::sync::{Kind, Level, Mutex, MutexGuard, On};
use crate::task::CurrentTask;
use crate::task::ns::{IpcNamespace, seen_pid};
use crate::time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

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
    totals: Arc<Totals>,
}

/// What all queues hold.
#[derive(Default)]
struct Totals {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Msgs {
    fn default() -> Self {
        Msgs {
            ids: Arc::default(),
            max: AtomicU32::new(8192),
            queue_bytes: AtomicU32::new(16384),
            count: AtomicU32::new(32000),
            totals: Arc::default(),
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
    messages: BTreeMap<u64, Message>,
    by_type: BTreeSet<(i64, u64)>,
    next: u64,
    bytes: u64,
    most: u64,
    /// Seconds: sent, received, changed.
    times: [i64; 3],
    /// Who sent and received last.
    pids: [u32; 2],
    receivers: BTreeMap<u64, Receiver>,
    senders: BTreeMap<u64, Sender>,
}

/// A queue.
pub struct Queue {
    state: Mutex<State>,
    totals: Arc<Totals>,
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
    pub fn totals(&self) -> (u64, u64) {
        (self.totals.messages.load(Relaxed), self.totals.bytes.load(Relaxed))
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
                messages: BTreeMap::new(),
                by_type: BTreeSet::new(),
                next: 0,
                bytes: 0,
                most: u64::from(self.queue_bytes.load(Relaxed)),
                times: [0, 0, seconds()],
                pids: [0; 2],
                receivers: BTreeMap::new(),
                senders: BTreeMap::new(),
            };
            Ok(Arc::new(Queue { state: Mutex::new(Level::IpcObject, state), totals: self.totals.clone() }))
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
        while let Some(first) = self.senders.first_entry() {
            if !first.get().sleeper.is_there() {
                first.remove();
                continue;
            }
            bytes += first.get().len as u64;
            if !all && bytes > self.most {
                break;
            }
            first.remove().sleeper.finish((), woken);
        }
    }
}

impl Queue {
    fn live(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Hands a message to the first receiver that takes it, or keeps it.
    fn deliver(&self, state: &mut State, message: Message, woken: &mut WakeList) {
        while let Some(at) = state.receivers.iter().find(|(_, r)| r.search.takes(message.kind)).map(|(at, _)| *at) {
            let Some(receiver) = state.receivers.remove(&at) else { break };
            if !receiver.sleeper.is_there() {
                continue;
            }
            if receiver.room.is_some_and(|room| message.text.len() > room) {
                receiver.sleeper.finish(Err(Errno::E2BIG), woken);
                continue;
            }
            state.pids[1] = receiver.pid;
            state.times[1] = seconds();
            receiver.sleeper.finish(Ok(message), woken);
            return;
        }
        let at = state.place();
        state.bytes += message.text.len() as u64;
        self.totals.messages.fetch_add(1, Relaxed);
        self.totals.bytes.fetch_add(message.text.len() as u64, Relaxed);
        state.by_type.insert((message.kind, at));
        state.messages.insert(at, message);
    }

    fn take(&self, state: &mut State, at: u64, pid: u32, woken: &mut WakeList) -> Result<Message> {
        let message = state.messages.remove(&at).ok_or(Errno::ENOMSG)?;
        let len = message.text.len() as u64;
        state.by_type.remove(&(message.kind, at));
        state.bytes -= len;
        self.totals.messages.fetch_sub(1, Relaxed);
        self.totals.bytes.fetch_sub(len, Relaxed);
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
        let messages = Ipc::of(ns).msg.ids.end(self, || {
            let mut state = self.state.lock();
            let allowed = if state.gone { Err(Errno::EIDRM) } else { state.perm.check_owner(ns, cur.cred()) };
            if let Err(e) = allowed {
                return (End::Nothing, Err(e));
            }
            state.gone = true;
            for (_, receiver) in core::mem::take(&mut state.receivers) {
                receiver.sleeper.finish(Err(Errno::EIDRM), &mut woken);
            }
            state.wake_senders(true, &mut woken);
            state.by_type.clear();
            (End::All(state.perm.key), Ok(core::mem::take(&mut state.messages)))
        })?;
        self.totals.messages.fetch_sub(messages.len() as u64, Relaxed);
        self.totals.bytes.fetch_sub(messages.values().map(|m| m.text.len() as u64).sum(), Relaxed);
        Ok(())
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
        for (_, receiver) in core::mem::take(&mut state.receivers) {
            receiver.sleeper.finish(Err(Errno::EAGAIN), &mut woken);
        }
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
            messages: BTreeMap::new(),
            by_type: BTreeSet::new(),
            next: 0,
            bytes: 0,
            most: 10,
            times: [0; 3],
            pids: [0; 2],
            receivers: BTreeMap::new(),
            senders: BTreeMap::new(),
        };
        Queue { state: Mutex::new(Level::IpcObject, state), totals: Arc::default() }
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
        assert_eq!(q.totals.messages.load(Relaxed), 0);
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
