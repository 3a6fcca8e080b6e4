//! Contexts of asynchronous input and output (`io_setup(2)`, `fs/aio.c` in Linux): what was asked for and is not
//! done, and what is done and was not fetched.
//!
//! Reads, writes and syncs are done by the submitting call, as Linux does where the file cannot do them by itself;
//! only waiting for readiness goes on in the background. The ring that is mapped into the program holds nothing, not
//! even its magic number, so that the C library asks by system calls.

use super::eventfd;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::wait::WaitEnd;
use crate::sync::{Events, Level, Mutex, Notify, WaitQueue};
use crate::vfs::OpenFile;
use crate::vfs::async_io::{Due, Later, put_off};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// Most requests that all contexts together may be made for (`fs.aio-max-nr`).
static MOST: AtomicU64 = AtomicU64::new(65536);
/// How many they are made for (`fs.aio-nr`).
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Size of `struct aio_ring` and of each event behind it, bytes.
const UNIT: u64 = 32;
const PAGE: u64 = 4096;
/// Most events of one ring, by its size (`ioctx_alloc`).
const EVENTS_MAX: u64 = 0x1000_0000 / UNIT;

/// `fs.aio-nr`.
pub fn count() -> u64 {
    COUNT.load(SeqCst)
}

/// `fs.aio-max-nr`.
pub fn most() -> u64 {
    MOST.load(SeqCst)
}

/// Sets `fs.aio-max-nr`.
pub fn set_most(most: u64) {
    MOST.store(most, SeqCst);
}

/// `struct io_event`: what was said with the request, the request's address, the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// The request's `aio_data`.
    pub data: u64,
    /// Address of the request.
    pub request: u64,
    /// What the call would have returned, errors negative.
    pub result: i64,
}

/// Counts a context's requests in `fs.aio-nr`.
struct Share(u64);

impl Share {
    fn take(n: u64) -> Result<Share> {
        let more = |count: u64| count.checked_add(n).filter(|&c| c <= most());
        COUNT.fetch_update(SeqCst, SeqCst, more).map_err(|_| Errno::EAGAIN)?;
        Ok(Share(n))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        COUNT.fetch_sub(self.0, SeqCst);
    }
}

#[derive(Default)]
struct State {
    /// Requests that are being done and events that are not fetched.
    taken: u64,
    done: VecDeque<Done>,
    /// Waits for readiness, by the request's address and a number.
    polls: BTreeMap<(u64, u64), Arc<Poll>>,
    next: u64,
    /// It was destroyed.
    over: bool,
}

/// A context.
pub struct Context {
    /// Bytes of its ring.
    pub ring: u64,
    /// Most requests that one call submits.
    pub batch: u64,
    state: Mutex<State>,
    queue: WaitQueue,
    _share: Share,
}

impl Context {
    /// One for `events` requests at least, on a machine with `cpus`.
    ///
    /// # Errors
    /// `EINVAL` for more than any ring can hold, `EAGAIN` beyond `fs.aio-max-nr`, `ENOMEM`.
    pub fn new(events: u32, cpus: u32) -> Result<Arc<Context>> {
        // As Linux gives each processor a share and rounds up to pages, there is room for more (`ioctx_alloc`).
        let wanted = u64::from(events.max(cpus * 4)) * 2;
        if wanted > EVENTS_MAX {
            return Err(Errno::EINVAL);
        }
        arena::charge(Object::File)?;
        let share = Share::take(u64::from(events))?;
        let ring = ((wanted + 2) * UNIT + UNIT).next_multiple_of(PAGE);
        let state = Mutex::new(Level::Leaf, State::default());
        Ok(Arc::new(Context { ring, batch: (ring - UNIT) / UNIT, state, queue: WaitQueue::new(), _share: share }))
    }

    /// Takes the place of one event.
    ///
    /// # Errors
    /// `EAGAIN` if none is free.
    pub fn reserve(self: &Arc<Context>) -> Result<Place> {
        let mut s = self.state.lock();
        if s.over || s.taken >= self.batch - 1 {
            return Err(Errno::EAGAIN);
        }
        // So that there is room for it when it comes.
        let more = s.taken as usize + 1 - s.done.len();
        s.done.try_reserve(more).map_err(|_| Errno::EAGAIN)?;
        s.taken += 1;
        drop(s);
        Ok(Place { context: self.clone(), used: false })
    }

    fn give(&self, done: Done) {
        self.state.lock().done.push_back(done);
        self.queue.wake(Events::IN);
    }

    /// Fetches `least` to `most` events, and fewer at the deadline (ns; `None`: never).
    ///
    /// # Errors
    /// `EINTR` if there are none by then.
    pub fn fetch(&self, least: usize, most: usize, deadline: Option<u64>) -> Result<Vec<Done>> {
        let mut got = Vec::new();
        let mut take = || {
            let mut s = self.state.lock();
            let n = s.done.len().min(most - got.len());
            if got.try_reserve(n).is_err() {
                return Some(());
            }
            got.extend(s.done.drain(..n));
            s.taken -= n as u64;
            (got.len() >= least || s.over).then_some(())
        };
        let end = match deadline {
            Some(0) => {
                take();
                Ok(())
            }
            _ => self.queue.wait_until(Events::IN, deadline, take),
        };
        match end {
            Err(WaitEnd::Interrupted) if got.is_empty() => Err(Errno::EINTR),
            _ => Ok(got),
        }
    }

    /// Puts events back that could not be handed over.
    pub fn put_back(&self, events: &[Done]) {
        let mut s = self.state.lock();
        if s.done.try_reserve(events.len()).is_ok() {
            s.taken += events.len() as u64;
            events.iter().rev().for_each(|e| s.done.push_front(*e));
        }
        drop(s);
        self.queue.wake(Events::IN);
    }

    /// Ends the wait for readiness that the request at `address` asked for; it gives an event all the same.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn cancel(&self, address: u64) -> Result {
        let mut s = self.state.lock();
        let key = s.polls.range((address, 0)..=(address, u64::MAX)).next().map(|p| *p.0).ok_or(Errno::EINVAL)?;
        let poll = s.polls.remove(&key);
        drop(s);
        if let Some(poll) = poll {
            poll.finish(self, Events::empty());
        }
        Ok(())
    }

    fn end(&self) {
        let mut s = self.state.lock();
        s.over = true;
        let polls = core::mem::take(&mut s.polls);
        drop(s);
        drop(polls);
        self.queue.wake_all();
    }
}

/// A place for one event that is to come. Dropped unused, it is free again.
pub struct Place {
    context: Arc<Context>,
    used: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.used {
            self.context.state.lock().taken -= 1;
        }
    }
}

impl Place {
    /// Puts the event there.
    pub fn fill(mut self, done: Done) {
        self.used = true;
        self.context.give(done);
    }

    /// Waits in the background until `file` is ready for any of `events`. An eventfd `signal` is told then.
    ///
    /// # Errors
    /// `EINVAL` for a file that is always ready and now is not, `ENOMEM`.
    pub fn poll(
        mut self,
        request: Done,
        file: &Arc<OpenFile>,
        events: Events,
        signal: Option<Arc<OpenFile>>,
    ) -> Result {
        let events = events | Events::ERR | Events::HUP;
        let Some(queue) = file.ops.wait_queue() else {
            let ready = file.ops.poll() & events;
            if ready.is_empty() {
                return Err(Errno::EINVAL);
            }
            self.fill(Done { result: i64::from(ready.bits()), ..request });
            tell(signal.as_ref());
            return Ok(());
        };
        arena::charge(Object::Watch)?;
        let context = self.context.clone();
        let mut s = context.state.lock();
        s.next += 1;
        let key = (request.request, s.next);
        let poll = Arc::new_cyclic(|me: &Weak<Poll>| Poll {
            context: Arc::downgrade(&context),
            key,
            request,
            events,
            file: file.clone(),
            registration: OnceBox::new(),
            signal,
            queued: AtomicBool::new(false),
            me: me.clone(),
        });
        s.polls.insert(key, poll.clone());
        drop(s);
        self.used = true;
        let callback: Arc<dyn Notify> = poll.clone();
        let _ = poll.registration.set(Box::new(queue.add_callback(events, false, &callback, 0)));
        poll.run();
        Ok(())
    }
}

/// Tells an eventfd that an event has come.
pub fn tell(signal: Option<&Arc<OpenFile>>) {
    if let Some(event) = signal.and_then(|s| eventfd::of_file(s).ok()) {
        event.signal();
    }
}

/// A wait for readiness.
struct Poll {
    context: Weak<Context>,
    key: (u64, u64),
    request: Done,
    events: Events,
    file: Arc<OpenFile>,
    /// With the file's queue.
    registration: OnceBox<u64>,
    signal: Option<Arc<OpenFile>>,
    queued: AtomicBool,
    me: Weak<Poll>,
}

impl Poll {
    fn finish(&self, context: &Context, ready: Events) {
        context.give(Done { result: i64::from(ready.bits()), ..self.request });
        tell(self.signal.as_ref());
    }
}

impl Notify for Poll {
    fn notify(&self, _events: Events, _key: u64) -> bool {
        put_off(&self.queued, || Some(Due::Call(self.me.upgrade()?)));
        false
    }
}

impl Later for Poll {
    fn run(&self) {
        self.queued.store(false, SeqCst);
        let Some(context) = self.context.upgrade() else { return };
        let ready = self.file.ops.poll() & self.events;
        if ready.is_empty() {
            return;
        }
        let mine = context.state.lock().polls.remove(&self.key);
        if mine.is_some() {
            self.finish(&context, ready);
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if let (Some(registration), Some(queue)) = (self.registration.get(), self.file.ops.wait_queue()) {
            queue.remove(*registration);
        }
    }
}

/// The contexts of an address space, by the addresses of their rings.
pub struct Contexts(Mutex<BTreeMap<u64, Arc<Context>>>);

/// Where an address space keeps them.
pub type Kept = OnceBox<Box<dyn Any + Send + Sync>>;

impl Contexts {
    /// Those that are kept there.
    pub fn of(kept: &Kept) -> Option<&Contexts> {
        kept.get()?.downcast_ref()
    }

    /// As [`Contexts::of`]; made if there are none.
    pub fn made(kept: &Kept) -> Option<&Contexts> {
        kept.get_or_init(|| Box::new(Box::new(Contexts(Mutex::new(Level::Leaf, BTreeMap::new())))));
        Contexts::of(kept)
    }

    /// The context whose ring lies at `id`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn find(&self, id: u64) -> Result<Arc<Context>> {
        self.0.lock().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Adds one.
    pub fn add(&self, id: u64, context: Arc<Context>) {
        let had = self.0.lock().insert(id, context);
        if let Some(had) = had {
            had.end();
        }
    }

    /// Ends one: who waits for its events is woken, what it waits for is forgotten.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn remove(&self, id: u64) -> Result<Arc<Context>> {
        let context = self.0.lock().remove(&id).ok_or(Errno::EINVAL)?;
        context.end();
        Ok(context)
    }
}
