//! The mappings of an address space against a naive model: one entry a page.

use super::*;
use proptest::prelude::*;

const PAGE: u64 = 0x1000;
/// Pages of the address space of the model.
const PAGES: u64 = 64;

fn anon(start: u64, end: u64, prot: u32) -> Vma {
    Vma {
        start,
        end,
        prot,
        shared: false,
        backing: Backing::Anon,
        label: "",
        text: None,
        may: 7,
        flags: VmaFlags::empty(),
    }
}

fn tree_of(all: &[(u64, u64, u32)]) -> VmaTree {
    let mut t = VmaTree::default();
    for &(start, end, prot) in all {
        t.admit(1).expect("room");
        t.insert(anon(start, end, prot));
    }
    t
}

fn listed(t: &VmaTree) -> Vec<(u64, u64, u32)> {
    t.iter().map(|v| (v.start, v.end, v.prot)).collect()
}

#[test]
fn neighbours_that_are_alike_join() {
    let t = tree_of(&[(0x1000, 0x2000, 3), (0x3000, 0x4000, 3), (0x2000, 0x3000, 3)]);
    assert_eq!(t.count(), 1);
    assert_eq!(t.sizes(), Sizes { total: 0x3000, data: 0x3000, locked: 0 });
}

#[test]
fn protecting_the_middle_splits_in_three_and_back() {
    let mut t = tree_of(&[(0x1000, 0x5000, 3)]);
    assert_eq!(t.splits(0x2000, 0x3000), 2);
    t.admit(2).expect("room");
    t.change(0x2000, 0x3000, |v| v.prot = 1);
    assert_eq!(listed(&t), [(0x1000, 0x2000, 3), (0x2000, 0x3000, 1), (0x3000, 0x5000, 3)]);
    assert_eq!(t.sizes().data, 0x3000);
    t.admit(0).expect("room");
    t.change(0x2000, 0x3000, |v| v.prot = 3);
    assert_eq!(t.count(), 1);
}

#[test]
fn there_are_at_most_so_many_mappings() {
    let mut t = VmaTree::default();
    for i in 0..MAX_MAPS.get() {
        t.admit(1).expect("room");
        t.insert(anon(2 * i * PAGE, (2 * i + 1) * PAGE, 1));
    }
    assert_eq!(t.admit(1), Err(Errno::ENOMEM));
    t.admit(0).expect("what makes no mapping goes on");
    t.remove(0, PAGE);
    t.admit(1).expect("room again");
}

/// What is done to both.
#[derive(Clone, Debug)]
enum Step {
    /// Maps `len` pages at `at`, in place of what is there.
    Map(u64, u64, u32),
    /// Maps `len` pages where the search says, in `floor..top`.
    MapFree(u64, u64, u64),
    Unmap(u64, u64),
    Protect(u64, u64, u32),
    Lock(u64, u64, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (at, len, prot) = (0..PAGES, 1..12u64, 0..4u32);
    prop_oneof![
        (at.clone(), len.clone(), prot.clone()).prop_map(|(a, n, p)| Step::Map(a, n, p)),
        (at.clone(), at.clone(), len.clone()).prop_map(|(a, b, n)| Step::MapFree(a, b, n)),
        (at.clone(), len.clone()).prop_map(|(a, n)| Step::Unmap(a, n)),
        (at.clone(), len.clone(), prot).prop_map(|(a, n, p)| Step::Protect(a, n, p)),
        (at, len, any::<bool>()).prop_map(|(a, n, on)| Step::Lock(a, n, on)),
    ]
}

/// Protection, and whether it is locked, of each page that is mapped.
type Model = [Option<(u32, bool)>; PAGES as usize];

fn gap_of(model: &Model, top: u64, floor: u64, len: u64) -> Option<u64> {
    let fits = |at: &u64| (*at..at + len).all(|p| model[p as usize].is_none());
    (floor..=top.checked_sub(len)?).rev().find(fits)
}

fn apply(t: &mut VmaTree, model: &mut Model, step: &Step) {
    let range = |a: u64, n: u64| (a, (a + n).min(PAGES));
    match *step {
        Step::Map(a, n, p) => {
            let (a, b) = range(a, n);
            t.admit(1 + t.holes(a * PAGE, b * PAGE)).expect("room");
            t.remove(a * PAGE, b * PAGE);
            t.insert(anon(a * PAGE, b * PAGE, p));
            model[a as usize..b as usize].fill(Some((p, false)));
        }
        Step::MapFree(x, y, n) => {
            let (floor, top) = (x.min(y), x.max(y));
            let found = t.gap_below(top * PAGE, floor * PAGE, n * PAGE);
            assert_eq!(found, gap_of(model, top, floor, n).map(|p| p * PAGE));
            if let Some(at) = found {
                t.admit(1).expect("room");
                t.insert(anon(at, at + n * PAGE, 3));
                model[(at / PAGE) as usize..(at / PAGE + n) as usize].fill(Some((3, false)));
            }
        }
        Step::Unmap(a, n) => {
            let (a, b) = range(a, n);
            t.admit(t.holes(a * PAGE, b * PAGE)).expect("room");
            t.remove(a * PAGE, b * PAGE);
            model[a as usize..b as usize].fill(None);
        }
        Step::Protect(..) | Step::Lock(..) => {
            let ((a, b), f): (_, &dyn Fn(&mut Vma)) = match *step {
                Step::Protect(a, n, p) => (range(a, n), &move |v: &mut Vma| v.prot = p),
                Step::Lock(a, n, on) => (range(a, n), &move |v: &mut Vma| v.flags.set(VmaFlags::LOCKED, on)),
                _ => unreachable!(),
            };
            let mut at = a * PAGE;
            while let Some(v) = t.at_or_after(at).filter(|v| at < b * PAGE && v.start < b * PAGE) {
                let (from, to) = (v.start.max(at), v.end.min(b * PAGE));
                t.admit(t.splits(from, to)).expect("room");
                t.change(from, to, f);
                at = to;
            }
            for page in model[a as usize..b as usize].iter_mut().flatten() {
                match *step {
                    Step::Protect(_, _, p) => page.0 = p,
                    Step::Lock(_, _, on) => page.1 = on,
                    _ => unreachable!(),
                }
            }
        }
    }
}

/// The model's mappings: runs of pages that are alike.
fn runs(model: &Model) -> Vec<(u64, u64, u32, bool)> {
    let mut all: Vec<(u64, u64, u32, bool)> = Vec::new();
    for (i, page) in model.iter().enumerate() {
        let (i, Some((prot, locked))) = (i as u64, *page) else { continue };
        match all.last_mut() {
            Some(last) if (last.1, last.2, last.3) == (i * PAGE, prot, locked) => last.1 += PAGE,
            _ => all.push((i * PAGE, (i + 1) * PAGE, prot, locked)),
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn is_what_a_table_of_pages_says(steps in prop::collection::vec(step(), 1..80)) {
        let (mut t, mut model): (VmaTree, Model) = (VmaTree::default(), [None; PAGES as usize]);
        for step in &steps {
            apply(&mut t, &mut model, step);
            t.tree.check();
            let found: Vec<_> =
                t.iter().map(|v| (v.start, v.end, v.prot, v.flags.contains(VmaFlags::LOCKED))).collect();
            prop_assert_eq!(&found, &runs(&model));
            let mapped = model.iter().flatten();
            let sizes = Sizes {
                total: mapped.clone().count() as u64 * PAGE,
                data: mapped.clone().filter(|p| p.0 & PROT_WRITE != 0).count() as u64 * PAGE,
                locked: mapped.filter(|p| p.1).count() as u64 * PAGE,
            };
            prop_assert_eq!(t.sizes(), sizes);
            for a in 0..PAGES {
                prop_assert_eq!(t.find(a * PAGE).is_some(), model[a as usize].is_some());
            }
            for (a, b) in [(0, PAGES), (10, 20), (31, 32)] {
                let part = &model[a as usize..b as usize];
                prop_assert_eq!(t.is_free(a * PAGE, b * PAGE), part.iter().all(Option::is_none));
                prop_assert_eq!(t.is_full(a * PAGE, b * PAGE), part.iter().all(Option::is_some));
            }
        }
        let copy = t.try_copy().expect("memory");
        copy.tree.check();
        prop_assert_eq!(listed(&copy).len() <= listed(&t).len(), true);
    }
}
