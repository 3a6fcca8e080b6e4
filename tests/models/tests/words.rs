//! Locks and sleeps: who has a lock is alone, what it wrote is seen, and no wake is lost.

use drupe_models::arch::words::owned;
use drupe_models::arch::words::shared::Words;
use drupe_models::arch::words::slept::{self, End};
use drupe_models::arch::words::{ALL, Sleep};
use drupe_models::futex::Futex;
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

/// In all orders with at most so many switches that no thread has asked for.
fn model(switches: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(f);
}

struct Owned {
    word: AtomicU32,
    futex: Futex,
    value: UnsafeCell<u32>,
}

impl Owned {
    fn new() -> Arc<Owned> {
        Arc::new(Owned { word: AtomicU32::new(0), futex: Futex::default(), value: UnsafeCell::new(0) })
    }

    fn count(&self, me: u32) {
        owned::lock(&self.word, me, &self.futex);
        assert_eq!(owned::owner(&self.word), me);
        // SAFETY: under the lock, which is what the model checks.
        self.value.with_mut(|value| unsafe { *value += 1 });
        owned::unlock(&self.word, &self.futex);
    }
}

#[test]
fn a_mutex_has_one_owner_and_wakes_the_others() {
    model(3, || {
        let lock = Owned::new();
        let others: Vec<_> = (2..4)
            .map(|me| {
                let lock = lock.clone();
                thread::spawn(move || lock.count(me))
            })
            .collect();
        lock.count(1);
        others.into_iter().for_each(|t| t.join().expect("no panic"));
        assert_eq!(lock.word.load(SeqCst) & !owned::WAITERS, 0);
        // SAFETY: nobody else is there.
        lock.value.with(|value| assert_eq!(unsafe { *value }, 3));
    });
}

#[test]
fn the_mutex_of_a_dead_owner_is_given_back() {
    model(3, || {
        let lock = Owned::new();
        // The host has ended this one in the middle.
        assert!(owned::try_lock(&lock.word, 9));
        let other = lock.clone();
        let waits = thread::spawn(move || other.count(2));
        owned::give_back(&lock.word, &lock.futex);
        lock.count(1);
        waits.join().expect("no panic");
    });
}

struct Shared {
    words: Words,
    futex: Futex,
    value: UnsafeCell<u32>,
}

impl Shared {
    fn new() -> Arc<Shared> {
        let words = Words::of(AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Shared { words, futex: Futex::default(), value: UnsafeCell::new(0) })
    }

    fn enter(&self) {
        if !self.words.try_read() {
            self.words.read_slow(&self.futex);
        }
    }

    fn read(&self) -> u32 {
        self.enter();
        // SAFETY: shared access, which is what the model checks.
        let seen = self.value.with(|value| unsafe { *value });
        self.words.unread(&self.futex);
        seen
    }

    fn write(&self, me: u32) {
        if !self.words.try_write(me) {
            self.words.write_slow(me, &self.futex);
        }
        assert_eq!(self.words.writer(), me);
        // SAFETY: exclusive access, likewise.
        self.value.with_mut(|value| unsafe { *value += 1 });
        self.words.unwrite(&self.futex);
    }
}

fn spawn(lock: &Arc<Shared>, f: impl FnOnce(&Shared) + 'static) -> thread::JoinHandle<()> {
    let lock = lock.clone();
    thread::spawn(move || f(&lock))
}

#[test]
fn a_writer_is_alone_and_nobody_sleeps_for_ever() {
    model(2, || {
        let lock = Shared::new();
        let reads = spawn(&lock, |lock| assert!(lock.read() <= 2));
        let writes = spawn(&lock, |lock| lock.write(2));
        lock.write(1);
        reads.join().expect("no panic");
        writes.join().expect("no panic");
        assert_eq!(lock.read(), 2);
        assert!(lock.words.try_write(3), "a free lock has no marks that keep anybody out");
    });
}

#[test]
fn readers_share_and_let_a_writer_in() {
    model(2, || {
        let lock = Shared::new();
        let reads = spawn(&lock, |lock| assert!(lock.read() <= 1));
        let writes = spawn(&lock, |lock| lock.write(2));
        assert!(lock.read() <= 1);
        reads.join().expect("no panic");
        writes.join().expect("no panic");
        assert_eq!(lock.read(), 1);
    });
}

#[test]
fn a_dead_writer_leaves_the_lock_to_others() {
    model(2, || {
        let lock = Shared::new();
        assert!(lock.words.try_write(9));
        let reads = spawn(&lock, |lock| assert!(lock.read() <= 1));
        let writes = spawn(&lock, |lock| lock.write(2));
        lock.words.give_back(&lock.futex);
        reads.join().expect("no panic");
        writes.join().expect("no panic");
        assert_eq!(lock.read(), 1);
    });
}

#[test]
fn dead_readers_are_counted_anew() {
    model(2, || {
        let lock = Shared::new();
        // One has died, of another it cannot be told whether it is counted; it is not.
        assert!(lock.words.try_read());
        let writes = spawn(&lock, |lock| lock.write(2));
        let reads = spawn(&lock, |lock| assert!(lock.read() <= 1));
        // Whoever counts sees who says that it has the lock; here the one that is dead is known, and the living reader is
        // out of it again in the end.
        if lock.words.close(&lock.futex).is_some() {
            lock.words.open(1, &lock.futex);
        } else {
            unreachable!("a reader has it");
        }
        writes.join().expect("no panic");
        reads.join().expect("no panic");
        assert_eq!(lock.read(), 1);
        assert!(lock.words.try_write(3));
    });
}

struct Slot {
    word: AtomicU32,
    sleeping: AtomicU32,
    kick: AtomicU32,
    futex: Futex,
    /// What is waited for, and work that is queued to the thread.
    ready: AtomicU32,
    work: AtomicU32,
}

/// A kick that ends sleeps, and one that does not.
const LOOK: u32 = 1;
const WORK: u32 = 2;

impl Slot {
    fn new() -> Arc<Slot> {
        let zero = || AtomicU32::new(0);
        let [word, sleeping, kick, ready, work] = std::array::from_fn(|_| zero());
        Arc::new(Slot { word, sleeping, kick, futex: Futex::default(), ready, work })
    }

    fn wake(&self) {
        if slept::change(&self.word, &self.sleeping) {
            self.futex.wake(&self.word, 1);
        }
    }

    fn kick(&self, why: u32) {
        self.kick.fetch_or(why, SeqCst);
        self.wake();
    }

    fn attend(&self, why: u32) -> bool {
        if why & WORK == 0 {
            return false;
        }
        self.kick.fetch_and(!WORK, SeqCst);
        self.work.swap(0, Relaxed);
        true
    }

    /// Sleeps until it is ready or kicked: whether it was kicked.
    fn wait(&self, heeds: u32) -> bool {
        loop {
            let ticket = self.word.load(SeqCst);
            if self.ready.load(Relaxed) != 0 {
                return false;
            }
            let words = [&self.word, &self.sleeping, &self.kick];
            let wait = || self.futex.wait(&self.word, ticket);
            if slept::sleep(words, ticket, heeds, |why| self.attend(why), wait) == End::Kicked {
                return true;
            }
        }
    }
}

fn with(slot: &Arc<Slot>, f: impl FnOnce(&Slot) + 'static) -> thread::JoinHandle<()> {
    let slot = slot.clone();
    thread::spawn(move || f(&slot))
}

#[test]
fn a_sleeper_hears_of_every_change() {
    model(3, || {
        let slot = Slot::new();
        let wakes = with(&slot, |slot| {
            slot.ready.store(1, Relaxed);
            slot.wake();
        });
        let in_vain = with(&slot, Slot::wake);
        assert!(!slot.wait(u32::MAX));
        wakes.join().expect("no panic");
        in_vain.join().expect("no panic");
    });
}

#[test]
fn a_kick_ends_a_sleep() {
    model(3, || {
        let slot = Slot::new();
        let kicks = with(&slot, |slot| slot.kick(LOOK));
        assert!(slot.wait(u32::MAX));
        kicks.join().expect("no panic");
    });
}

#[test]
fn work_is_done_within_a_sleep() {
    model(3, || {
        let slot = Slot::new();
        let works = with(&slot, |slot| {
            slot.work.store(1, Relaxed);
            slot.kick(WORK);
        });
        let wakes = with(&slot, |slot| {
            // The work is done although nothing else ends the sleep.
            slot.ready.store(1, Relaxed);
            slot.wake();
        });
        assert!(!slot.wait(u32::MAX));
        works.join().expect("no panic");
        wakes.join().expect("no panic");
        assert_eq!(slot.kick.load(SeqCst) & LOOK, 0);
    });
}

#[test]
fn a_deaf_sleeper_does_work_and_sleeps_through_a_kick() {
    model(3, || {
        let slot = Slot::new();
        let kicks = with(&slot, |slot| {
            slot.kick(LOOK);
            slot.ready.store(1, Relaxed);
            slot.kick(WORK);
        });
        assert!(!slot.wait(WORK));
        kicks.join().expect("no panic");
        assert_ne!(slot.kick.load(SeqCst) & LOOK, 0);
        assert_eq!(ALL, u32::MAX >> 1);
    });
}
