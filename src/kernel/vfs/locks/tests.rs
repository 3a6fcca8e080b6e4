//! Held ranges and waits against naive models.

use super::ranges::Ranges;
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// One state per byte and owner.
const BYTES: u64 = 24;
const OWNERS: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Set { owner: u64, write: bool, start: u64, end: u64 },
    Unset { owner: u64, start: u64, end: u64 },
    Release { owner: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..BYTES, 1..=BYTES).prop_map(|(start, len)| (start, (start + len).min(BYTES)));
    prop_oneof![
        6 => (0..OWNERS, any::<bool>(), range.clone())
            .prop_map(|(owner, write, (start, end))| Op::Set { owner, write, start, end }),
        3 => (0..OWNERS, range).prop_map(|(owner, (start, end))| Op::Unset { owner, start, end }),
        1 => (0..OWNERS).prop_map(|owner| Op::Release { owner }),
    ]
}

/// What each owner has of each byte: nothing, a read lock (`Some(false)`), a write lock.
type Model = Vec<Vec<Option<bool>>>;

fn conflicts(model: &Model, owner: u64, write: bool, start: u64, end: u64) -> bool {
    (0..OWNERS)
        .filter(|&o| o != owner)
        .any(|o| model[o as usize][start as usize..end as usize].iter().any(|held| held.is_some_and(|w| w || write)))
}

/// The runs of equal locks in the model, as the kernel should hold them.
fn runs(model: &Model) -> Vec<(u64, u64, u64, bool)> {
    let mut out = Vec::new();
    for (owner, bytes) in model.iter().enumerate() {
        let mut at = 0;
        while at < bytes.len() {
            let len = bytes[at..].iter().take_while(|b| **b == bytes[at]).count();
            if let Some(write) = bytes[at] {
                out.push((owner as u64, at as u64, (at + len) as u64, write));
            }
            at += len;
        }
    }
    out.sort_unstable();
    out
}

proptest! {
    #[test]
    fn ranges_hold_what_a_table_of_bytes_holds(ops in proptest::collection::vec(op(), 1..200)) {
        let mut ranges = Ranges::default();
        let mut model: Model = vec![vec![None; BYTES as usize]; OWNERS as usize];
        for op in ops {
            match op {
                Op::Set { owner, write, start, end } => {
                    let want = Range { owner: Owner::Posix(owner), pid: 1, write, start, end };
                    let blocked = conflicts(&model, owner, write, start, end);
                    prop_assert_eq!(ranges.blocker(&want).is_some(), blocked);
                    prop_assert_eq!(ranges.conflict(&want).is_some(), blocked);
                    if let Some(by) = ranges.conflict(&want) {
                        prop_assert!(by.start < end && by.end > start && by.owner != want.owner);
                    }
                    if !blocked {
                        prop_assert_eq!(ranges.set(&want), Ok(()));
                        model[owner as usize][start as usize..end as usize].fill(Some(write));
                    }
                }
                Op::Unset { owner, start, end } => {
                    let had = model[owner as usize][start as usize..end as usize].iter().any(Option::is_some);
                    prop_assert_eq!(ranges.unset(Owner::Posix(owner), start, end), Ok(had));
                    model[owner as usize][start as usize..end as usize].fill(None);
                }
                Op::Release { owner } => {
                    ranges.release(Owner::Posix(owner));
                    model[owner as usize].fill(None);
                }
            }
            let mut held: Vec<_> = ranges
                .all()
                .into_iter()
                .map(|r| match r.owner {
                    Owner::Posix(o) => (o, r.start, r.end, r.write),
                    other => panic!("{other:?}"),
                })
                .collect();
            held.sort_unstable();
            prop_assert_eq!(held, runs(&model));
        }
    }

    #[test]
    fn a_deadlock_is_found_where_the_waits_make_a_circle(
        edges in proptest::collection::vec((0..8u64, 0..8u64), 1..40),
    ) {
        // Owners of their own, as tests run side by side.
        static NEXT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1 << 40);
        let base = NEXT.fetch_add(8, SeqCst);
        let mut model = [[false; 8]; 8];
        let mut entered = Vec::new();
        for (from, to) in edges {
            // Warshall's closure of what is there.
            let mut reach = model;
            for k in 0..8 {
                for i in 0..8 {
                    for j in 0..8 {
                        reach[i][j] |= reach[i][k] && reach[k][j];
                    }
                }
            }
            let circle = from == to || reach[to as usize][from as usize];
            let edge = Some((base + from, base + to));
            prop_assert_eq!(graph::add(edge), if circle { Err(Errno::EDEADLK) } else { Ok(()) });
            if !circle {
                model[from as usize][to as usize] = true;
                entered.push(edge);
            }
        }
        entered.into_iter().for_each(graph::remove);
    }
}

#[test]
fn a_lock_goes_to_the_waiter_that_came_first() {
    let locks = Arc::new(FileLocks::default());
    let range = |owner, write| Range { owner: Owner::Posix(owner), pid: owner as u32, write, start: 0, end: 10 };
    locks.set(&range(1, true), false).expect("free");
    assert_eq!(locks.set(&range(2, true), false), Err(Errno::EAGAIN.into()));
    let order = Arc::new(Mutex::new(Level::Leaf, Vec::new()));
    let mut threads = Vec::new();
    for owner in 2..6 {
        let (locks, order) = (locks.clone(), order.clone());
        let waiting = owner as usize - 1;
        let known = locks.clone();
        threads.push(std::thread::spawn(move || {
            locks.set(&range(owner, true), true).expect("given");
            order.lock().push(owner);
            locks.release(Owner::Posix(owner));
        }));
        // The next one comes after this one waits.
        while known.state.lock().as_ref().map_or(0, |s| s.waiters.len()) < waiting {
            std::thread::yield_now();
        }
    }
    assert_eq!(locks.test(&range(9, false)).map(|r| r.pid), Some(1));
    locks.release(Owner::Posix(1));
    threads.into_iter().for_each(|t| t.join().expect("ended"));
    assert_eq!(*order.lock(), [2, 3, 4, 5]);
    assert_eq!(locks.used.load(SeqCst), 0);
}
