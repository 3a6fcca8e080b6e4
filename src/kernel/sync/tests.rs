//! Stress of the locks and queues by real threads over real futexes, and the checks of lockdep.

use super::wait::{WakeList, block_on};
use super::*;
use crate::abi::slot::Waker;
use crate::abi::{Errno, SysError};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

const THREADS: u64 = 8;
const ROUNDS: u64 = 20_000;

#[test]
fn mutex_excludes() {
    let total = Mutex::new(Level::Leaf, 0u64);
    thread::scope(|s| {
        for _ in 0..THREADS {
            s.spawn(|| {
                for _ in 0..ROUNDS {
                    *total.lock() += 1;
                }
            });
        }
    });
    assert_eq!(*total.lock(), THREADS * ROUNDS);
}

#[test]
fn try_lock_fails_while_held() {
    let m = Mutex::new(Level::Leaf, ());
    let held = m.lock();
    assert!(m.try_lock().is_none());
    drop(held);
    assert!(m.try_lock().is_some());
}

#[test]
fn rwlock_readers_see_whole_writes() {
    let pair = RwLock::new(Level::Leaf, (0u64, 0u64));
    thread::scope(|s| {
        for i in 0..THREADS {
            let pair = &pair;
            s.spawn(move || {
                for _ in 0..ROUNDS / 4 {
                    if i % 4 == 0 {
                        let mut p = pair.write();
                        p.0 += 1;
                        p.1 += 1;
                    } else {
                        let p = pair.read();
                        assert_eq!(p.0, p.1);
                    }
                }
            });
        }
    });
    assert_eq!(pair.read().0, THREADS / 4 * (ROUNDS / 4));
}

#[test]
fn no_wake_is_lost_between_check_and_sleep() {
    let queue = WaitQueue::new();
    let turn = AtomicU64::new(0);
    thread::scope(|s| {
        for me in 0..2 {
            let (queue, turn) = (&queue, &turn);
            s.spawn(move || {
                for _ in 0..5_000 {
                    let ready = || (turn.load(SeqCst) % 2 == me).then_some(());
                    queue.wait_until(Events::IN, None, ready).expect("nobody kicks");
                    turn.fetch_add(1, SeqCst);
                    queue.wake(Events::IN);
                }
            });
        }
    });
    assert_eq!(turn.load(SeqCst), 10_000);
}

#[test]
fn deadline_and_kick_end_a_wait() {
    let queue = WaitQueue::new();
    let soon = crate::host::time::clock(1).expect("monotonic clock") as u64 + 2_000_000;
    assert_eq!(queue.wait_until(Events::IN, Some(soon), || None::<()>), Err(WaitEnd::TimedOut));
    crate::arch::slot().kick.store(1, SeqCst);
    assert_eq!(queue.wait_until(Events::IN, None, || None::<()>), Err(WaitEnd::Interrupted));
    let end = block_on(&queue, Events::IN, None, || Err::<(), _>(SysError::Errno(Errno::EAGAIN)));
    assert!(matches!(end, Err(SysError::Restart(_))));
    crate::arch::slot().kick.store(0, SeqCst);
}

#[test]
fn exclusive_wakes_go_to_different_sleepers() {
    let queue = WaitQueue::new();
    let woken = AtomicU64::new(0);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let slot = crate::arch::slot();
                let ticket = slot.waker.ticket();
                let id = queue.add_current(Events::IN, true);
                wait::sleep(slot, crate::sync::On::the(crate::sync::Kind::Object), ticket, None).expect("nobody kicks");
                woken.fetch_add(1, SeqCst);
                queue.remove(id);
            });
        }
        // All three are registered before the wakes, which come in one burst.
        while queue.len() < 3 {
            thread::yield_now();
        }
        queue.wake(Events::IN);
        queue.wake(Events::IN);
        while woken.load(SeqCst) < 2 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(5));
        assert_eq!(woken.load(SeqCst), 2);
        queue.wake(Events::IN);
    });
}

/// Records the keys that it is told.
#[derive(Default)]
struct Keys(Mutex2<Vec<u64>>);
type Mutex2<T> = std::sync::Mutex<T>;

impl Notify for Keys {
    fn notify(&self, _: Events, key: u64) -> bool {
        self.0.lock().expect("nobody panics").push(key);
        key != 7
    }
}

#[test]
fn registrations_are_told_in_linux_order_and_found_by_their_place() {
    let queue = WaitQueue::new();
    let keys = Arc::new(Keys::default());
    let target: Arc<dyn Notify> = keys.clone();
    let told = || core::mem::take(&mut *keys.0.lock().expect("nobody panics"));
    // 7 refuses to count as the one exclusive wake.
    let ids: Vec<u64> = [(7, true), (1, false), (8, true), (2, false), (9, true)]
        .map(|(key, exclusive)| queue.add_callback(Events::IN, exclusive, &target, key))
        .into();
    queue.wake(Events::IN);
    assert_eq!(told(), [2, 1, 7, 8]);
    queue.remove(ids[1]);
    queue.remove(ids[1]);
    queue.change(ids[2], Events::OUT);
    queue.wake(Events::IN);
    assert_eq!(told(), [2, 7, 9]);
    // The place of the removed one is used again, its old number is not.
    let again = queue.add_callback(Events::RDNORM, false, &target, 3);
    assert_ne!(again, ids[1]);
    queue.remove(ids[1]);
    queue.wake(Events::IN);
    assert_eq!(told(), [3, 2, 7, 9]);
    for id in [ids[0], ids[2], ids[3], ids[4], again] {
        queue.remove(id);
    }
    assert!(queue.is_empty());
    queue.wake_all();
    assert_eq!(told(), []);
}

/// Takes its registration back when dropped, as an epoll instance does.
struct Registered {
    queue: Arc<WaitQueue>,
    id: Mutex<u64>,
    called: AtomicBool,
    keep: Mutex<Option<Arc<Registered>>>,
}

impl Notify for Registered {
    fn notify(&self, _: Events, _: u64) -> bool {
        self.called.store(true, SeqCst);
        // The only other reference goes away during the call.
        self.keep.try_lock().expect("nobody else").take();
        true
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.queue.remove(*self.id.get_mut());
    }
}

#[test]
fn callback_may_die_while_it_is_called() {
    let queue = Arc::new(WaitQueue::new());
    let target = Arc::new(Registered {
        queue: queue.clone(),
        id: Mutex::new(Level::Leaf, 0),
        called: AtomicBool::new(false),
        keep: Mutex::new(Level::Leaf, None),
    });
    let as_dyn: Arc<dyn Notify> = target.clone();
    *target.id.lock() = queue.add_callback(Events::IN, false, &as_dyn, 7);
    drop(as_dyn);
    let gone: Weak<Registered> = Arc::downgrade(&target);
    let own = target.clone();
    *own.keep.lock() = Some(target);
    drop(own);
    queue.wake(Events::IN);
    assert!(gone.upgrade().is_none());
    assert_eq!(queue.len(), 0);
}

/// What a violation says. Runs in a thread of its own, as its locks stay counted.
fn violation(f: impl FnOnce() + Send) -> String {
    thread::scope(|s| {
        s.spawn(|| {
            let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("lockdep must panic");
            payload.downcast_ref::<String>().cloned().unwrap_or_default()
        })
        .join()
        .expect("the panic was caught")
    })
}

#[test]
#[cfg(all(debug_assertions, panic = "unwind"))]
fn lockdep_names_both_levels() {
    let inner = Mutex::new(Level::Slots, ());
    let outer = Mutex::new(Level::Tasks, ());
    let text = violation(|| {
        let _a = inner.lock();
        let _b = outer.lock();
    });
    assert!(text.contains("Tasks") && text.contains("Slots"), "{text}");
    let text = violation(|| {
        let one = Mutex::new(Level::Mm, ());
        let two = Mutex::new(Level::Mm, ());
        let _a = one.lock();
        let _b = two.lock();
    });
    assert!(text.contains("Mm"), "{text}");
    let text = violation(|| {
        let lock = RwLock::new(Level::Inode, ());
        let _a = lock.read();
        let _b = lock.read();
    });
    assert!(text.contains("already held"), "{text}");
    let text = violation(|| {
        let lock = Mutex::new(Level::Files, ());
        let _a = lock.lock();
        may_block();
    });
    assert!(text.contains("Files"), "{text}");
}

#[test]
fn lockdep_allows_the_order() {
    let outer = Mutex::new(Level::Tasks, ());
    let inode = [RwLock::new(Level::Inode, ()), RwLock::new(Level::Inode, ())];
    let leaf = Mutex::new(Level::Leaf, ());
    for _ in 0..3 {
        let a = outer.lock();
        let b = inode[0].read();
        let c = inode[1].write();
        let d = leaf.lock();
        // Not in reverse order on purpose.
        drop(a);
        drop(c);
        drop(b);
        drop(d);
    }
    assert_eq!(crate::arch::slot().locks_held.load(SeqCst), 0);
    assert_eq!(crate::arch::slot().lock_levels.load(SeqCst), 0);
    may_block();
}

/// Until the list is dropped those on it count as if a lock were held: whoever dies with it leaves them asleep.
#[test]
fn those_to_be_woken_have_seen_the_change_before_they_are() {
    let slot = crate::arch::slot();
    let waker: &'static Waker = Box::leak(Box::new(Waker { word: 0.into(), sleeping: 0.into() }));
    let (ticket, held) = (waker.ticket(), slot.waking.load(SeqCst));
    let mut list = WakeList::default();
    list.add(waker);
    assert_ne!(waker.ticket(), ticket);
    assert_eq!(slot.waking.load(SeqCst), held, "nobody sleeps there");
    waker.sleeping.store(1, SeqCst);
    for _ in 0..40 {
        list.add(waker);
    }
    assert_eq!(slot.waking.load(SeqCst), held + 1);
    drop(list);
    assert_eq!(slot.waking.load(SeqCst), held);
}

/// A slot of a number of its own, for a thread that is to die.
fn numbered(index: u32) -> &'static crate::abi::slot::SlotHeader {
    let slot = crate::arch::slot();
    slot.index.store(index, SeqCst);
    slot
}

/// What a thread holds that is gone all at once: `f` takes locks and keeps them.
fn dies<T>(index: u32, f: impl FnOnce() -> T + Send) -> &'static crate::abi::slot::SlotHeader {
    thread::scope(|s| {
        let dying = s.spawn(move || {
            let slot = numbered(index);
            core::mem::forget(f());
            slot
        });
        dying.join().expect("no panic")
    })
}

#[test]
fn the_locks_of_the_dead_are_given_back_unless_it_was_changing_something() {
    let mutex: &'static Mutex<[i32; 2]> = Box::leak(Box::new(Mutex::new(Level::Files, [1, 1])));
    let other: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(Level::Tasks, ())));
    let rw: &'static RwLock<i32> = Box::leak(Box::new(RwLock::new(Level::Inode, 1)));
    // Readers, and who has taken a lock and done nothing yet, leave all as it was.
    let dead = dies(7, || (mutex.lock(), rw.read()));
    assert!(mutex.try_lock().is_none());
    assert!(bereaved(dead).is_ok_and(|any| any));
    assert_eq!((mutex.lock()[0], *rw.write()), (1, 1));
    assert!(bereaved(dead).is_ok_and(|any| !any), "once");
    // A writer, too.
    let dead = dies(8, || {
        let mut guard = rw.write();
        *guard += 1;
        super::WriteGuard::settle(&guard);
        guard
    });
    assert!(bereaved(dead).is_ok());
    assert_eq!(*rw.read(), 2);
    // One in the middle of a change does not.
    let dead = dies(9, || {
        let mut guard = mutex.lock();
        MutexGuard::scratch(&mut guard)[1] = 5;
        guard[0] = 2;
        guard
    });
    assert!(bereaved(dead).is_err_and(|broken| broken.to_string().contains("Files")));
    assert!(mutex.try_lock().is_none());
    // Locks of what lies elsewhere say when that is whole.
    let dead = dies(10, || other.lock());
    assert!(bereaved(dead).is_err());
    let third: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(Level::Tasks, ())));
    let dead = dies(11, || {
        let guard = third.lock();
        MutexGuard::settle(&guard);
        guard
    });
    assert!(bereaved(dead).is_ok());
    drop(third.lock());
}

/// Whether a reader that dies on its way into a lock, or out of it, is counted by it already or still cannot be told.
#[test]
fn a_reader_that_dies_on_its_way_is_not_counted_for_ever() {
    use crate::abi::slot::held;
    let lock: &'static RwLock<i32> = Box::leak(Box::new(RwLock::new(Level::Inode, 0)));
    for counted in [true, false] {
        let dead = dies(13, || {
            let guard = lock.read();
            let slot = crate::arch::slot();
            slot.held[0].fetch_and(!held::HAVE, SeqCst);
            if !counted {
                drop(guard);
                slot.held[0].store(core::ptr::from_ref(lock) as u64 | held::READER, SeqCst);
                slot.locks_held.store(1, SeqCst);
            } else {
                core::mem::forget(guard);
            }
        });
        assert!(bereaved(dead).is_ok_and(|any| any));
        *lock.write() += 1;
        drop(lock.read());
    }
    assert_eq!(*lock.read(), 2);
}

#[test]
fn a_queue_of_steps_is_one() {
    let mut queue = super::StepQueue::new();
    let mut model = std::collections::VecDeque::new();
    let mut random = 12_345_u32;
    for n in 0..20_000_u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match random >> 29 {
            0..=2 => {
                queue.push_back(Arc::new(n));
                model.push_back(n);
            }
            3 => {
                queue.push_front(Arc::new(n));
                model.push_front(n);
            }
            4 => assert_eq!(queue.pop_back().map(|v| *v), model.pop_back()),
            5 if random & 0x1f00 == 0 => {
                queue.retain(|v| **v % 3 != 0);
                model.retain(|v| v % 3 != 0);
                queue.shrink();
            }
            _ => assert_eq!(queue.pop_front().map(|v| *v), model.pop_front()),
        }
        assert_eq!(queue.len(), model.len());
        assert_eq!(queue.back().map(|v| **v), model.back().copied());
    }
    assert!(queue.iter().map(|v| **v).eq(model.iter().copied()));
    let last = Arc::new(0);
    queue.push_back(last.clone());
    drop(queue);
    assert_eq!(Arc::strong_count(&last), 1);
}

#[test]
fn a_map_is_made_anew_from_its_list() {
    use super::{Mend, MendMap};
    let map: &'static Mutex<MendMap<u32, Arc<u32>>> = Box::leak(Box::new(Mutex::mended(Level::Files, MendMap::new())));
    let value = Arc::new(7);
    {
        let mut map = map.lock();
        for key in [5, 1, 9, 3] {
            map.insert(key, value.clone());
        }
        assert!(map.insert(9, value.clone()).is_some());
        assert!(map.remove(&1).is_some());
        map.retain(|&key, _| key != 3);
    }
    // The index of whoever died may hold anything.
    let dead = dies(14, || {
        let mut guard = map.lock();
        guard.insert(7, value.clone());
        guard
    });
    assert!(bereaved(dead).is_ok_and(|any| any), "it is mended");
    let mut map = map.lock();
    assert!(map.iter().map(|(key, _)| *key).eq([5, 7, 9]));
    map.mend();
    assert_eq!((map.first_key_value().map(|(k, _)| *k), map.len()), (Some(5), 3));
    assert_eq!(map.pop_first().map(|(key, _)| key), Some(5));
    map.clear();
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn an_array_grows_and_keeps_what_it_has() {
    let mut array = super::StepArray::new(Vec::new());
    let value = Arc::new(1);
    for len in [1, 7, 300] {
        array.grow(len).unwrap();
        array[len - 1] = Some(value.clone());
    }
    array.grow(5).unwrap();
    assert_eq!((array.len(), array.iter().flatten().count()), (300, 3));
    super::Mend::mend(&mut array);
    drop(array);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Whoever dies while it waits for a lock leaves it as if it had not come.
#[test]
fn a_death_in_the_queue_for_a_lock_does_not_hold_it_up() {
    let lock: &'static RwLock<i32> = Box::leak(Box::new(RwLock::new(Level::Inode, 0)));
    let held = lock.read();
    thread::scope(|s| {
        let (tell, told) = std::sync::mpsc::channel();
        let writer = s.spawn(move || {
            let slot = numbered(12);
            tell.send(core::ptr::from_ref(slot) as usize).expect("somebody listens");
            *lock.write() += 1;
            slot
        });
        // SAFETY: headers of test threads are leaked.
        let theirs = unsafe { &*(told.recv().expect("it says") as *const crate::abi::slot::SlotHeader) };
        while theirs.locks_held.load(SeqCst) == 0 {
            thread::yield_now();
        }
        // As if it were dead: a reader that stood behind it comes in, at the latest when it looks again.
        assert!(bereaved(theirs).is_ok_and(|any| any));
        s.spawn(move || drop(lock.read())).join().expect("no panic");
        // It is not, and goes on.
        theirs.locks_held.store(1, SeqCst);
        drop(held);
        writer.join().expect("it gets the lock");
    });
    assert_eq!(*lock.read(), 1);
}

/// A chain whose links hold the next one.
struct ChainLink {
    next: Vec<Arc<ChainLink>>,
    dropped: Arc<AtomicU64>,
}

impl Drop for ChainLink {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, SeqCst);
        for next in core::mem::take(&mut self.next) {
            super::deferred::drop_later(next);
        }
    }
}

#[test]
fn a_chain_of_any_length_is_dropped_on_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(64 << 10);
    let run = small.spawn(|| {
        let dropped = Arc::new(AtomicU64::new(0));
        let mut last = Arc::new(ChainLink { next: Vec::new(), dropped: dropped.clone() });
        for i in 1..200_000 {
            // Some have many children, so that the list outgrows its fixed part.
            let leaves = if i % 1000 == 0 { 20 } else { 0 };
            let mut next = vec![last];
            next.extend((0..leaves).map(|_| Arc::new(ChainLink { next: Vec::new(), dropped: dropped.clone() })));
            last = Arc::new(ChainLink { next, dropped: dropped.clone() });
        }
        super::deferred::drop_later(last);
        dropped.load(SeqCst)
    });
    let dropped = run.expect("a thread").join().expect("no overflow");
    assert_eq!(dropped, 200_000 + 199 * 20);
}

#[test]
fn a_hash_map_is_made_anew_from_its_chain() {
    use super::{Mend, MendHashMap};
    let value = Arc::new(7);
    let mut map = MendHashMap::default();
    for key in 0..1000u32 {
        assert!(map.insert(key, value.clone()).is_none());
    }
    assert!(map.insert(9, value.clone()).is_some() && map.remove(&1).is_some() && map.remove(&1).is_none());
    map.mend();
    assert!((0..1000).all(|key| map.get(&key).is_some() == (key != 1)));
    *map.get_mut(&9).unwrap() = Arc::new(8);
    assert_eq!(Arc::strong_count(&value), 999);
    drop(map);
    assert_eq!(Arc::strong_count(&value), 1);
}
