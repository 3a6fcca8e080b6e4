//! Robust lists (`get_robust_list(2)`): what a thread that ends holds becomes ownerless.

use super::pi::{OWNER_DIED, TID_MASK, WAITERS};
use super::{CurrentTask, Word, wake_word};
use crate::mm::UserPtr;
use core::sync::atomic::Ordering::SeqCst;

/// Most entries of a list that are walked (`ROBUST_LIST_LIMIT`).
const MOST: usize = 2048;
/// Bit of a pointer to an entry: the lock has an owner that the kernel knows of.
const PI: u64 = 1;

/// Marks the robust futexes that the thread holds as ownerless and wakes one waiter of each.
pub fn exit_robust_list(cur: &CurrentTask) {
    let head = cur.robust_list.swap(0, SeqCst);
    if head == 0 {
        return;
    }
    let Ok([mut next, offset, pending]) = UserPtr::<[u64; 3]>::new(head).read() else { return };
    let mut n = 0;
    while next & !PI != head && n < MOST {
        let at = next & !PI;
        let following = UserPtr::<u64>::new(at).read();
        if at != pending & !PI && !release(cur, at.wrapping_add(offset), next & PI != 0, false) {
            return;
        }
        let Ok(f) = following else { return };
        next = f;
        n += 1;
    }
    if pending != 0 {
        release(cur, (pending & !PI).wrapping_add(offset), pending & PI != 0, true);
    }
}

/// Gives up one lock (`handle_futex_death` in Linux); whether the walk can go on.
fn release(cur: &CurrentTask, addr: u64, pi: bool, pending: bool) -> bool {
    let ptr = UserPtr::<u32>::new(addr);
    if !addr.is_multiple_of(4) || Word::new(addr, true).key(cur).is_err() {
        return false;
    }
    let step = || {
        let old = ptr.load_nofault()?;
        if pending && !pi && old & TID_MASK == 0 {
            return Ok(Some(true));
        }
        if old & TID_MASK != cur.shown_tid() {
            return Ok(Some(false));
        }
        let seen = ptr.cmpxchg_nofault(old, old & WAITERS | OWNER_DIED)?;
        Ok((seen == old).then_some(!pi && old & WAITERS != 0))
    };
    loop {
        // Locks with an owner are handed over by `pi::ended`.
        match ptr.under_lock(true, step) {
            Err(_) => return false,
            Ok(None) => {}
            Ok(Some(wakes)) => {
                if wakes {
                    wake_word(cur, addr);
                }
                return true;
            }
        }
    }
}
