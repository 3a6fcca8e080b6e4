//! `epoll(7)`.
//!
//! Every watched file's queue knows the instance as a callback. A callback only puts the item on the ready
//! list and wakes; whether the file is ready is asked when events are collected, so that nothing is polled
//! under a queue's lock. A level-triggered item goes back to the list's end after each report and leaves it
//! when it is found not to be ready.
//!
//! An item ends with the open file description that it watches ([`Watcher::gone`]), with the instance, or
//! by `EPOLL_CTL_DEL`. The description's [`Watches`](crate::vfs::watch::Watches) own the registration with
//! the file's queue: whoever takes the entry there takes the registration back.

mod nest;
mod ready;

use crate::abi::linux::{self, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::user::{User, charge, uncharge};
use crate::sync::{Events, Kind, Knob, Level, Mutex, MutexGuard, Notify, WaitQueue};
use crate::vfs::watch::Watcher;
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file, kernel_dev};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use hashbrown::HashMap;
use nest::Nest;
use ready::Ready;

/// The part of an item's mask that is not an event.
const FLAGS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
/// What may stand beside `EPOLLEXCLUSIVE` (`EPOLLEXCLUSIVE_OK_BITS`).
const EXCLUSIVE_MAY: u32 = EXCLUSIVE_EVENTS | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
/// The events among them: IN, OUT, ERR, HUP.
const EXCLUSIVE_EVENTS: u32 = 0x1d;
/// Most files that a user's instances watch (`/proc/sys/fs/epoll/max_user_watches`).
pub static WATCHES_MAX: Knob = Knob::new(1 << 20, 0, i64::MAX as u64);

struct Item {
    fd: i32,
    file_id: u64,
    file: Weak<OpenFile>,
    /// Events and flags as given.
    mask: u32,
    data: u64,
    /// Registration with the file's queue.
    registration: u64,
    /// Tells items apart that had the same place.
    generation: u32,
    /// A one-shot item that has fired.
    spent: bool,
    /// Number of the instance that it watches, 0 for another file.
    inner: u64,
}

/// The items by place, the places by file, and what is to be looked at.
#[derive(Default)]
struct Interest {
    by_file: HashMap<(u64, i32), u32>,
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    generation: u32,
    ready: Ready,
}

/// What an item watches, with its mask and what it reports.
type Watched = (Arc<OpenFile>, u32, Event);

/// The name of an item: its place and generation.
fn key_of(at: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(at)
}

impl Interest {
    fn get(&mut self, key: u64) -> Option<&mut Item> {
        let item = self.items.get_mut(key as u32 as usize)?.as_mut()?;
        (item.generation == (key >> 32) as u32).then_some(item)
    }

    fn key(&self, fd: i32, file: &OpenFile) -> Option<u64> {
        let at = *self.by_file.get(&(file.id, fd))?;
        let item = self.items[at as usize].as_ref()?;
        Some(key_of(at, item.generation))
    }

    /// A place for an item of `file`, with its name.
    fn place(&mut self, fd: i32, file: &Arc<OpenFile>, mask: u32, data: u64) -> Result<u64> {
        if self.free.is_empty() {
            self.items.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.by_file.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            // So that every place can be given back.
            self.free.try_reserve(self.items.len() + 1).map_err(|_| Errno::ENOMEM)?;
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let item = Item {
            fd,
            file_id: file.id,
            file: Arc::downgrade(file),
            mask,
            data,
            registration: 0,
            generation,
            spent: false,
            inner: 0,
        };
        let at = self.free.last().copied().unwrap_or(self.items.len() as u32);
        self.ready.reserve(at)?;
        if self.free.pop().is_none() {
            self.items.push(None);
        }
        self.items[at as usize] = Some(item);
        self.by_file.insert((file.id, fd), at);
        Ok(key_of(at, generation))
    }

    fn remove(&mut self, key: u64) -> Option<Item> {
        self.get(key)?;
        let item = self.items[key as u32 as usize].take()?;
        self.by_file.remove(&(item.file_id, item.fd));
        self.free.push(key as u32);
        self.ready.remove(key as u32);
        Some(item)
    }

    /// What the item at a place watches; `None` if it is gone or spent.
    fn watched(&self, at: u32) -> Option<Watched> {
        let item = self.items.get(at as usize)?.as_ref()?;
        if item.spent {
            return None;
        }
        let event = Event { bits: 0, data: item.data, key: key_of(at, item.generation) };
        Some((item.file.upgrade()?, item.mask, event))
    }

    /// Takes the first item to be looked at: its place, and what it watches.
    fn next(&mut self) -> Option<(u32, Option<Watched>)> {
        let at = self.ready.pop()?;
        Some((at, self.watched(at)))
    }
}

/// An instance.
pub struct Epoll {
    id: u64,
    scan: Mutex<()>,
    interest: Mutex<Interest>,
    /// Nothing is to be looked at, nor being looked at: changed under the lock of `interest`.
    idle: AtomicBool,
    queue: WaitQueue,
    nest: Nest,
    user: Arc<User>,
    me: Weak<Epoll>,
}

struct Ops(Arc<Epoll>);

/// Makes an instance.
pub fn epoll(ctx: &OpCtx<'_>) -> Arc<OpenFile> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let instance = Arc::new_cyclic(|me| Epoll {
        id: NEXT.fetch_add(1, Relaxed),
        scan: Mutex::new(Level::EpollScan, ()),
        interest: Mutex::new(Level::Leaf, Interest::default()),
        idle: AtomicBool::new(true),
        queue: WaitQueue::of(Kind::Epoll),
        nest: Nest::default(),
        user: User::of(ctx.cred.uid),
        me: me.clone(),
    });
    anon_file("eventpoll", Box::new(Ops(instance)), linux::O_RDWR, ctx)
}

/// The instance behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<&Epoll> {
    file.ops.as_any().downcast_ref::<Ops>().map(|o| &*o.0).ok_or(Errno::EINVAL)
}

impl Notify for Epoll {
    fn notify(&self, events: Events, key: u64) -> bool {
        self.put(&mut self.interest.lock(), key as u32);
        let waited_for = !self.queue.is_empty();
        self.queue.wake(Events::IN);
        // An exclusive item's wake counts where somebody is there to take it (`ep_poll_callback`).
        waited_for && !events.is_empty()
    }
}

impl Watcher for Epoll {
    fn gone(&self, key: u64) {
        if let Some(item) = self.forget(key)
            && item.inner != 0
        {
            self.no_longer_watches(item.inner);
        }
    }
}

fn wanted(mask: u32) -> Events {
    Events::from_bits_truncate(mask & !FLAGS) | Events::ERR | Events::HUP
}

/// An event that was collected.
#[derive(Clone, Copy)]
pub struct Event {
    /// What the file is ready for.
    pub bits: u32,
    /// As given with the item.
    pub data: u64,
    key: u64,
}

/// Events that were collected. A few of them need no memory.
#[derive(Default)]
pub struct Collected {
    few: ArrayVec<Event, 16>,
    more: Vec<Event>,
}

impl Collected {
    /// `false` without memory.
    fn push(&mut self, event: Event) -> bool {
        if let Err(full) = self.few.try_push(event) {
            if self.more.try_reserve(1).is_err() {
                return false;
            }
            self.more.push(full.element());
        }
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.few.len() + self.more.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.few.iter().chain(&self.more)
    }
}

impl Epoll {
    fn watcher(&self) -> Weak<dyn Watcher> {
        self.me.clone()
    }

    /// Looks at an item for the first time after it was added or changed.
    fn look(&self, file: &OpenFile, mask: u32, key: u64) {
        if file.ops.poll().intersects(wanted(mask)) {
            self.notify(Events::IN, key);
        }
    }

    /// `EPOLL_CTL_ADD`. `outer` is the description of this instance.
    ///
    /// # Errors
    /// `EEXIST`, `ELOOP`, `EINVAL`, `ENOSPC`, `ENOMEM`, `EPERM` for a file that is always ready.
    pub fn add(&self, fd: i32, file: &Arc<OpenFile>, mask: u32, data: u64) -> Result {
        let inner = of_file(file).ok();
        if mask & EPOLLEXCLUSIVE != 0 && (inner.is_some() || mask & !EXCLUSIVE_MAY != 0) {
            return Err(Errno::EINVAL);
        }
        let _nesting = match inner {
            Some(inner) => Some(self.enter(inner)?),
            None => self.check_paths()?,
        };
        let inserted = self.insert(fd, file, mask, data);
        if let (Err(_), Some(inner)) = (&inserted, inner) {
            self.leave(inner);
        }
        inserted
    }

    fn insert(&self, fd: i32, file: &Arc<OpenFile>, mask: u32, data: u64) -> Result {
        let queue = file.ops.wait_queue().ok_or(Errno::EPERM)?;
        let me: Arc<dyn Notify> = self.me.upgrade().ok_or(Errno::EBADF)?;
        let key = {
            let mut interest = self.interest.lock();
            if interest.key(fd, file).is_some() {
                return Err(Errno::EEXIST);
            }
            if !charge(&self.user.epoll_watches, 1, WATCHES_MAX.get()) {
                return Err(Errno::ENOSPC);
            }
            interest.place(fd, file, mask, data).inspect_err(|_| uncharge(&self.user.epoll_watches, 1))?
        };
        let registration = queue.add_callback(wanted(mask), mask & EPOLLEXCLUSIVE != 0, &me, key);
        if let Err(e) = file.watches.add(self.watcher(), self.id, key, registration) {
            queue.remove(registration);
            self.forget(key);
            return Err(e);
        }
        let inner = of_file(file).map_or(0, |inner| inner.id);
        let ready = file.ops.poll().intersects(wanted(mask));
        {
            let mut interest = self.interest.lock();
            if let Some(item) = interest.get(key) {
                (item.registration, item.inner) = (registration, inner);
            }
            if ready {
                self.put(&mut interest, key as u32);
            }
        }
        if ready {
            self.queue.wake(Events::IN);
        }
        Ok(())
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL` for an exclusive item.
    pub fn modify(&self, fd: i32, file: &OpenFile, mask: u32, data: u64) -> Result {
        if mask & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let (key, registration) = {
            let mut interest = self.interest.lock();
            let key = interest.key(fd, file).ok_or(Errno::ENOENT)?;
            let item = interest.get(key).ok_or(Errno::ENOENT)?;
            if item.mask & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            (item.mask, item.data, item.spent) = (mask, data, false);
            (key, item.registration)
        };
        if let Some(queue) = file.ops.wait_queue() {
            queue.change(registration, wanted(mask));
        }
        self.look(file, mask, key);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn delete(&self, fd: i32, file: &OpenFile) -> Result {
        let (key, item) = {
            let mut interest = self.interest.lock();
            let key = interest.key(fd, file).ok_or(Errno::ENOENT)?;
            (key, interest.remove(key).ok_or(Errno::ENOENT)?)
        };
        // A callback that comes in between puts a place on the list that is free, or another's to be looked at.
        self.unregister(file, key);
        uncharge(&self.user.epoll_watches, 1);
        self.unlink(&item, file);
        Ok(())
    }

    /// Drops an item, whose registration is gone or about to go.
    fn forget(&self, key: u64) -> Option<Item> {
        let item = self.interest.lock().remove(key)?;
        uncharge(&self.user.epoll_watches, 1);
        Some(item)
    }

    fn unlink(&self, item: &Item, file: &OpenFile) {
        if item.inner != 0
            && let Ok(inner) = of_file(file)
        {
            self.leave(inner);
        }
    }

    fn unregister(&self, file: &OpenFile, key: u64) {
        if let Some(registration) = file.watches.remove(self.id, key)
            && let Some(queue) = file.ops.wait_queue()
        {
            queue.remove(registration);
        }
    }

    /// Puts an item at the end of what is to be looked at.
    fn put(&self, interest: &mut Interest, at: u32) {
        interest.ready.push(at);
        self.idle.store(false, Relaxed);
    }

    /// Ends looking at items; whether some are left.
    fn looked(&self, interest: &mut Interest) -> bool {
        let more = interest.ready.len() > 0;
        self.idle.store(!more, Relaxed);
        more
    }

    /// Takes up to `max` events: what is ready, and the data given for it.
    pub fn collect(&self, max: usize, out: &mut Collected) {
        // Whoever waits is in the queue by now, and whoever puts an item in looks there afterwards.
        if self.idle.load(SeqCst) {
            return;
        }
        // It guards no data: what it keeps apart is whole at every step.
        let scan = self.scan.lock();
        MutexGuard::settle(&scan);
        let (mut left, mut next) = {
            let mut interest = self.interest.lock();
            (interest.ready.len(), interest.next())
        };
        let mut more_ready = None;
        while let Some((at, watched)) = next.take() {
            left -= 1;
            let again = watched.is_some_and(|w| self.report(w, out));
            let more = left > 0 && out.len() < max;
            let mut interest = self.interest.lock();
            if again {
                self.put(&mut interest, at);
            }
            next = if more { interest.next() } else { None };
            if next.is_none() {
                more_ready = Some(self.looked(&mut interest));
            }
        }
        // Who found the list empty meanwhile registered as a waiter before it looked, under its lock.
        if more_ready.unwrap_or_else(|| self.looked(&mut self.interest.lock())) && !self.queue.is_idle() {
            self.queue.wake(Events::IN);
        }
    }

    /// Reports an item if it is ready; whether it goes back to the list.
    fn report(&self, (file, mask, mut event): Watched, out: &mut Collected) -> bool {
        let got = file.ops.poll() & wanted(mask);
        event.bits = got.bits();
        if !got.is_empty() {
            if !out.push(event) {
                return true;
            }
            if mask & EPOLLONESHOT != 0 {
                self.spend(&file, event.key);
            } else if mask & EPOLLET == 0 {
                return true;
            }
        }
        // The next event counts: host descriptors are watched for one at a time.
        let _ = file.ops.wait_queue();
        false
    }

    /// A one-shot item has fired: nothing wakes for it until it is changed.
    fn spend(&self, file: &OpenFile, key: u64) {
        let registration = {
            let mut interest = self.interest.lock();
            let Some(item) = interest.get(key) else { return };
            item.spent = true;
            item.registration
        };
        let Some(queue) = file.ops.wait_queue() else { return };
        queue.change(registration, Events::empty());
        // It may have been changed meanwhile: then that counts.
        let mask = self.interest.lock().get(key).filter(|item| !item.spent).map(|item| item.mask);
        if let Some(mask) = mask {
            queue.change(registration, wanted(mask));
            self.notify(Events::IN, key);
        }
    }

    /// Puts events back that could not be told.
    pub fn give_back<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        for event in events {
            let mut interest = self.interest.lock();
            let Some(item) = interest.get(event.key) else { continue };
            let spent = core::mem::take(&mut item.spent);
            let (mask, registration, file) = (item.mask, item.registration, item.file.clone());
            if !spent {
                self.put(&mut interest, event.key as u32);
                continue;
            }
            drop(interest);
            if let Some(file) = file.upgrade()
                && let Some(queue) = file.ops.wait_queue()
            {
                queue.change(registration, wanted(mask));
            }
            self.put(&mut self.interest.lock(), event.key as u32);
        }
    }

    /// Where to wait for events.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        let ep = &*self.0;
        let interest = core::mem::take(&mut *ep.interest.lock());
        uncharge(&ep.user.epoll_watches, interest.by_file.len() as u64);
        for (at, item) in interest.items.into_iter().enumerate() {
            // A description that is just ending takes its registrations back itself.
            if let Some(item) = item
                && let Some(file) = item.file.upgrade()
            {
                ep.unregister(&file, key_of(at as u32, item.generation));
                ep.unlink(&item, &file);
            }
        }
    }
}

impl FileOps for Ops {
    fn describe(&self, out: &mut String) {
        // What is watched may be dropped here, which takes locks: none is held then.
        let mut dropped = Vec::new();
        let interest = self.0.interest.lock();
        for item in interest.items.iter().flatten() {
            if out.try_reserve(160).is_err() || dropped.try_reserve(1).is_err() {
                break;
            }
            let Some(file) = item.file.upgrade() else { continue };
            let (dev, ino) = file.inode.identity().unwrap_or_default();
            let pos = file.offset.try_lock().map_or(0, |pos| *pos);
            let _ = writeln!(
                out,
                "tfd: {:8} events: {:8x} data: {:16x}  pos:{pos} ino:{ino:x} sdev:{:x}",
                item.fd,
                item.mask | linux::EPOLLERR | linux::EPOLLHUP,
                item.data,
                kernel_dev(dev)
            );
            dropped.push(file);
        }
        drop(interest);
    }

    fn poll(&self) -> Events {
        let ep = &*self.0;
        if ep.idle.load(SeqCst) {
            return Events::empty();
        }
        let scan = ep.scan.lock();
        MutexGuard::settle(&scan);
        let (mut left, mut next) = {
            let mut interest = ep.interest.lock();
            (interest.ready.len(), interest.next())
        };
        let mut found = false;
        while let Some((at, watched)) = next.take() {
            left -= 1;
            found = watched.is_some_and(|(file, mask, _)| file.ops.poll().intersects(wanted(mask)));
            let mut interest = ep.interest.lock();
            if found {
                interest.ready.push_front(at);
            } else if left > 0 {
                next = interest.next();
            }
        }
        ep.looked(&mut ep.interest.lock());
        if found { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, _arg: u64) -> SysResult<u64> {
        // EPIOCSPARAMS, EPIOCGPARAMS: nothing is polled busily.
        Err(if matches!(request, 0x4008_8a01 | 0x8008_8a02) { Errno::EOPNOTSUPP } else { Errno::EINVAL }.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
