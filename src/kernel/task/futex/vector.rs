//! Waiting for one of several words (`futex_waitv(2)`).

use super::{ANY, Begun, CurrentTask, Key, NEXT, Waiter, Word, enqueue, unqueue};
use crate::abi::{Errno, Restart, SysError, SysResult};
use crate::arch;
use crate::sync::wait::{self, WaitEnd};
use crate::sync::{Kind, On};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// A word, and what it is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Which.
    pub word: Word,
    /// What it is to hold.
    pub value: u32,
}

/// The words that were entered, with their ids.
struct Entered {
    keys: Vec<Key>,
    first: u64,
}

impl Entered {
    /// Takes all back; the last one that had been woken.
    fn leave(&self) -> Option<usize> {
        let mut woken = None;
        for (i, key) in self.keys.iter().enumerate() {
            if !unqueue(self.first + i as u64, key) {
                woken = Some(i);
            }
        }
        woken
    }
}

/// Waits until one of the words is woken; which. `deadline` on the host's monotonic clock, ns.
///
/// # Errors
/// `EAGAIN` if a word differs, `ETIMEDOUT`, `EFAULT`, `EINVAL`, `ENOMEM`, a restart when interrupted.
pub fn wait_any(cur: &CurrentTask, all: &[Wanted], deadline: Option<u64>) -> SysResult<usize> {
    let mut keys = Vec::new();
    keys.try_reserve_exact(all.len()).map_err(|_| Errno::ENOMEM)?;
    for w in all {
        keys.push(w.word.key(cur)?);
    }
    let slot = arch::slot();
    let first = NEXT.fetch_add(all.len() as u64, SeqCst);
    let index = slot.index.load(SeqCst);
    slot.futex_wait.store(first, SeqCst);
    let mut entered = Entered { keys: Vec::new(), first };
    entered.keys.try_reserve_exact(all.len()).map_err(|_| Errno::ENOMEM)?;
    for (i, (w, key)) in all.iter().zip(keys).enumerate() {
        let waiter = || Waiter { bits: ANY, slot: index, id: first + i as u64, group: first, pi: None };
        let begun = w.word.ptr().under_lock(false, || enqueue(w.word, w.value, key, waiter()));
        let failed = match begun {
            Ok(Ok(Begun::Waits)) => {
                entered.keys.push(key);
                continue;
            }
            Ok(Ok(Begun::Differs)) => Errno::EAGAIN,
            Ok(Err(e)) | Err(e) => e,
        };
        // A wake that one of the others got must not be lost.
        return entered.leave().ok_or(failed.into());
    }
    let end = loop {
        let ticket = slot.waker.ticket();
        if slot.futex_wait.load(SeqCst) != first {
            break None;
        }
        if let Err(end) = wait::sleep(slot, On { kind: Kind::Futex, id: all[0].word.addr }, ticket, deadline) {
            break Some(end);
        }
    };
    match (entered.leave(), end) {
        (Some(i), _) => Ok(i),
        (None, Some(WaitEnd::TimedOut)) => Err(Errno::ETIMEDOUT.into()),
        (None, _) => Err(SysError::Restart(Restart::Sys)),
    }
}
