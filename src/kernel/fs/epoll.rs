//! `epoll(7)`.
//!
//! Every watched file's queue knows the instance as a callback. A callback only puts the item's key on
//! the ready list and wakes; whether the file is ready is asked when events are collected, so that
//! nothing is polled under a queue's lock. A level-triggered item goes back to the list's end after
//! each report and leaves it when it is found not to be ready.

use crate::abi::linux::{self, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP};
use crate::abi::{Errno, Result};
use crate::sync::{Events, Level, Mutex, Notify, WaitQueue};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hashbrown::HashSet;

/// Deepest nesting of instances (`EP_MAX_NESTS`).
const MAX_NESTS: u32 = 4;
/// The part of an item's mask that is not an event.
const FLAGS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

struct Item {
    file: Weak<OpenFile>,
    /// Events and flags as given.
    mask: u32,
    data: u64,
    /// Registration with the file's queue.
    registration: u64,
    /// A one-shot item that has fired.
    spent: bool,
}

#[derive(Default)]
struct Interest {
    by_file: BTreeMap<(i32, u64), u64>,
    items: BTreeMap<u64, Item>,
}

#[derive(Default)]
struct Ready {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ready {
    fn push(&mut self, key: u64) {
        if self.known.insert(key) {
            self.order.push_back(key);
        }
    }
    fn pop(&mut self) -> Option<u64> {
        let key = self.order.pop_front()?;
        self.known.remove(&key);
        Some(key)
    }
}

/// An instance.
pub struct Epoll {
    interest: Mutex<Interest>,
    ready: Mutex<Ready>,
    queue: WaitQueue,
    next: AtomicU64,
    me: Weak<Epoll>,
}

struct Ops(Arc<Epoll>);

/// Makes an instance.
pub fn epoll(ctx: &OpCtx<'_>) -> Arc<OpenFile> {
    let instance = Arc::new_cyclic(|me| Epoll {
        interest: Mutex::new(Level::Epoll, Interest::default()),
        ready: Mutex::new(Level::Leaf, Ready::default()),
        queue: WaitQueue::new(),
        next: AtomicU64::new(1),
        me: me.clone(),
    });
    anon_file("[eventpoll]", Box::new(Ops(instance)), linux::O_RDWR, ctx)
}

/// The instance behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<&Epoll> {
    file.ops.as_any().downcast_ref::<Ops>().map(|o| &*o.0).ok_or(Errno::EINVAL)
}

impl Notify for Epoll {
    fn notify(&self, _events: Events, key: u64) {
        self.ready.lock().push(key);
        self.queue.wake(Events::IN);
    }
}

fn wanted(mask: u32) -> Events {
    Events::from_bits_truncate(mask & !FLAGS) | Events::ERR | Events::HUP
}

/// Events that were collected: bits and data. A few of them need no memory.
#[derive(Default)]
pub struct Collected {
    few: ArrayVec<(u32, u64), 16>,
    more: Vec<(u32, u64)>,
}

impl Collected {
    /// `false` without memory.
    fn push(&mut self, event: (u32, u64)) -> bool {
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
    pub fn iter(&self) -> impl Iterator<Item = &(u32, u64)> {
        self.few.iter().chain(&self.more)
    }
}

impl Epoll {
    /// Whether `target` is reached from this instance, or too deep below it.
    fn reaches(&self, target: &Epoll, depth: u32) -> bool {
        if core::ptr::eq(self, target) || depth > MAX_NESTS {
            return true;
        }
        let files: Vec<_> = self.interest.lock().items.values().filter_map(|i| i.file.upgrade()).collect();
        files.iter().filter_map(|f| of_file(f).ok()).any(|e| e.reaches(target, depth + 1))
    }

    fn register(&self, file: &OpenFile, mask: u32, key: u64) -> Result<u64> {
        let queue = file.ops.wait_queue().ok_or(Errno::EPERM)?;
        let me: Arc<dyn Notify> = self.me.upgrade().ok_or(Errno::EBADF)?;
        Ok(queue.add_callback(wanted(mask), mask & EPOLLEXCLUSIVE != 0, &me, key))
    }

    /// Looks at an item for the first time after it was added or changed.
    fn look(&self, file: &OpenFile, mask: u32, key: u64) {
        if file.ops.poll().intersects(wanted(mask)) {
            self.notify(Events::IN, key);
        }
    }

    /// `EPOLL_CTL_ADD`.
    ///
    /// # Errors
    /// `EEXIST`, `ELOOP`, `EINVAL`, `EPERM` for a file that is always ready.
    pub fn add(&self, fd: i32, file: &Arc<OpenFile>, mask: u32, data: u64) -> Result {
        if let Ok(other) = of_file(file) {
            if core::ptr::eq(other, self) || mask & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            if other.reaches(self, 1) {
                return Err(Errno::ELOOP);
            }
        }
        let key = self.next.fetch_add(1, Relaxed);
        if self.interest.lock().by_file.contains_key(&(fd, file.id)) {
            return Err(Errno::EEXIST);
        }
        let registration = self.register(file, mask, key)?;
        let item = Item { file: Arc::downgrade(file), mask, data, registration, spent: false };
        let raced = {
            let mut interest = self.interest.lock();
            let raced = interest.by_file.contains_key(&(fd, file.id));
            if !raced {
                interest.by_file.insert((fd, file.id), key);
                interest.items.insert(key, item);
            }
            raced
        };
        if raced {
            unregister(file, registration);
            return Err(Errno::EEXIST);
        }
        self.look(file, mask, key);
        Ok(())
    }

    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// `ENOENT`, `EINVAL` for an exclusive item.
    pub fn modify(&self, fd: i32, file: &Arc<OpenFile>, mask: u32, data: u64) -> Result {
        let key = *self.interest.lock().by_file.get(&(fd, file.id)).ok_or(Errno::ENOENT)?;
        if mask & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let registration = self.register(file, mask, key)?;
        let old = {
            let mut interest = self.interest.lock();
            let Some(item) = interest.items.get_mut(&key) else {
                drop(interest);
                unregister(file, registration);
                return Err(Errno::ENOENT);
            };
            (item.mask, item.data, item.spent) = (mask, data, false);
            core::mem::replace(&mut item.registration, registration)
        };
        unregister(file, old);
        self.look(file, mask, key);
        Ok(())
    }

    /// `EPOLL_CTL_DEL`.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn delete(&self, fd: i32, file: &Arc<OpenFile>) -> Result {
        let item = {
            let mut interest = self.interest.lock();
            let key = interest.by_file.remove(&(fd, file.id)).ok_or(Errno::ENOENT)?;
            interest.items.remove(&key)
        };
        if let Some(item) = item {
            unregister(file, item.registration);
        }
        Ok(())
    }

    /// What an item is ready for now, with its mask and data; `None` if it is gone or spent.
    fn state(&self, key: u64) -> Option<(Arc<OpenFile>, u32, u64)> {
        let mut interest = self.interest.lock();
        let item = interest.items.get(&key)?;
        if item.spent {
            return None;
        }
        match item.file.upgrade() {
            Some(file) => Some((file, item.mask, item.data)),
            // Its last descriptor was closed.
            None => {
                interest.items.remove(&key);
                interest.by_file.retain(|_, k| *k != key);
                None
            }
        }
    }

    /// Takes up to `max` events: what is ready, and the data given for it.
    pub fn collect(&self, max: usize, out: &mut Collected) {
        let (mut left, mut next) = {
            let mut ready = self.ready.lock();
            (ready.order.len(), ready.pop())
        };
        let mut returned = false;
        while let Some(key) = next.take() {
            left -= 1;
            let again = self.report(key, out);
            let more = left > 0 && out.len() < max;
            if again || more {
                let mut ready = self.ready.lock();
                if again {
                    ready.push(key);
                    returned = true;
                }
                if more {
                    next = ready.pop();
                }
            }
        }
        // Who found the list empty meanwhile registered as a waiter before it looked, under its lock.
        if returned && !self.queue.is_idle() {
            self.queue.wake(Events::IN);
        }
    }

    /// Reports an item if it is ready; whether it goes back to the list.
    fn report(&self, key: u64, out: &mut Collected) -> bool {
        let Some((file, mask, data)) = self.state(key) else { return false };
        let got = file.ops.poll() & wanted(mask);
        if !got.is_empty() && out.push((got.bits(), data)) {
            if mask & EPOLLONESHOT != 0 {
                if let Some(item) = self.interest.lock().items.get_mut(&key) {
                    item.spent = true;
                }
            } else if mask & EPOLLET == 0 {
                return true;
            }
        }
        // The next event counts: host descriptors are watched for one at a time.
        let _ = file.ops.wait_queue();
        false
    }

    /// Where to wait for events.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

fn unregister(file: &OpenFile, registration: u64) {
    if let Some(queue) = file.ops.wait_queue() {
        queue.remove(registration);
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        let items = core::mem::take(&mut *self.0.interest.lock()).items;
        for item in items.into_values() {
            if let Some(file) = item.file.upgrade() {
                unregister(&file, item.registration);
            }
        }
    }
}

impl FileOps for Ops {
    fn poll(&self) -> Events {
        let keys: Vec<u64> = self.0.ready.lock().order.iter().copied().collect();
        let ready = keys
            .into_iter()
            .any(|key| self.0.state(key).is_some_and(|(file, mask, _)| file.ops.poll().intersects(wanted(mask))));
        if ready { Events::IN | Events::RDNORM } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
