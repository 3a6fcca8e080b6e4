//! The values of a set and who waits for them. Who waits is served in order of arrival; as in Linux a call with one
//! operation is only looked at when its semaphore has changed, unless calls with several wait, which may want anything.

use super::super::perm::Perm;
use super::super::sleeper::Sleeper;
use super::undo::{List, Undo};
use super::{SemBuf, VALUE_MAX, seconds};
use crate::abi::{Errno, Result};
use crate::sync::wait::WakeList;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Largest amount to put back (`SEMAEM`).
const UNDO_MAX: i32 = VALUE_MAX;
const IPC_NOWAIT: i16 = super::super::perm::NOWAIT as i16;

/// A semaphore.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sem {
    /// Its value, at most [`VALUE_MAX`].
    pub value: u16,
    /// The process that changed it last.
    pub pid: u32,
}

/// What became of a list of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All were done.
    Done,
    /// None was done: this one has to wait.
    Blocks(usize),
    /// None was done.
    Fails(Errno),
}

/// A call that waits.
pub struct Waiting {
    /// What it wants, at least one.
    pub ops: Vec<SemBuf>,
    /// Whether that changes anything.
    pub alters: bool,
    /// Which of the operations it waits for.
    pub blocking: usize,
    /// The list that takes what is to be put back.
    pub undo: Option<u64>,
    /// Its process.
    pub pid: u32,
    /// Who gets the result.
    pub sleeper: Arc<Sleeper<Result>>,
}

impl Waiting {
    fn simple(&self, seq: u64) -> Option<(u32, bool, u64)> {
        if let [op] = self.ops[..] { Some((u32::from(op.num), self.alters, seq)) } else { None }
    }
}

/// What the lock of a set guards.
pub struct State {
    pub perm: Perm,
    pub gone: bool,
    pub sems: Vec<Sem>,
    pub otime: i64,
    pub ctime: i64,
    /// Who waits, in order of arrival.
    waiting: BTreeMap<u64, Waiting>,
    /// Those with one operation: semaphore, whether it alters, order.
    simple: BTreeSet<(u32, bool, u64)>,
    /// The others: whether they alter, order.
    complex: BTreeSet<(bool, u64)>,
    next: u64,
    /// By the list that they belong to.
    pub(super) undos: BTreeMap<u64, Undo>,
}

impl State {
    pub fn new(perm: Perm, count: usize, ctime: i64) -> Result<State> {
        let mut sems = Vec::new();
        sems.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        sems.resize(count, Sem::default());
        Ok(State {
            perm,
            gone: false,
            sems,
            otime: 0,
            ctime,
            waiting: BTreeMap::new(),
            simple: BTreeSet::new(),
            complex: BTreeSet::new(),
            next: 0,
            undos: BTreeMap::new(),
        })
    }

    /// Does all operations or none.
    pub fn perform(&mut self, ops: &[SemBuf], undo: Option<u64>, pid: u32) -> Outcome {
        for (i, op) in ops.iter().enumerate() {
            let outcome = self.step(op, undo);
            if outcome != Outcome::Done {
                for done in ops[..i].iter().rev() {
                    self.revert(done, undo);
                }
                return match outcome {
                    Outcome::Blocks(_) if op.flags & IPC_NOWAIT != 0 => Outcome::Fails(Errno::EAGAIN),
                    Outcome::Blocks(_) => Outcome::Blocks(i),
                    other => other,
                };
            }
        }
        for op in ops {
            self.sems[usize::from(op.num)].pid = pid;
        }
        Outcome::Done
    }

    fn step(&mut self, op: &SemBuf, undo: Option<u64>) -> Outcome {
        let num = usize::from(op.num);
        let old = i32::from(self.sems[num].value);
        let new = old + i32::from(op.op);
        if op.op == 0 && old != 0 || new < 0 {
            return Outcome::Blocks(0);
        }
        if new > VALUE_MAX {
            return Outcome::Fails(Errno::ERANGE);
        }
        if op.flags & super::UNDO != 0
            && let Some(adjust) = undo.and_then(|list| self.undos.get_mut(&list)).map(|u| &mut u.adjust[num])
        {
            let back = i32::from(*adjust) - i32::from(op.op);
            if !(-UNDO_MAX - 1..=UNDO_MAX).contains(&back) {
                return Outcome::Fails(Errno::ERANGE);
            }
            *adjust = back as i16;
        }
        self.sems[num].value = new as u16;
        Outcome::Done
    }

    fn revert(&mut self, op: &SemBuf, undo: Option<u64>) {
        let num = usize::from(op.num);
        let value = &mut self.sems[num].value;
        *value = (i32::from(*value) - i32::from(op.op)) as u16;
        if op.flags & super::UNDO != 0
            && let Some(u) = undo.and_then(|list| self.undos.get_mut(&list))
        {
            u.adjust[num] = (i32::from(u.adjust[num]) + i32::from(op.op)) as i16;
        }
    }

    /// Enters a call; returns its place.
    pub fn queue(&mut self, w: Waiting) -> u64 {
        let seq = self.next;
        self.next += 1;
        match w.simple(seq) {
            Some(place) => self.simple.insert(place),
            None => self.complex.insert((w.alters, seq)),
        };
        self.waiting.insert(seq, w);
        seq
    }

    /// Takes a call out, if it still waits.
    pub fn unqueue(&mut self, seq: u64) -> Option<Waiting> {
        let w = self.waiting.remove(&seq)?;
        match w.simple(seq) {
            Some(place) => self.simple.remove(&place),
            None => self.complex.remove(&(w.alters, seq)),
        };
        Some(w)
    }

    /// How many wait for a semaphore to grow, or to be zero.
    pub fn waiters(&self, num: u32, grow: bool) -> u32 {
        let simple = self.simple.range((num, grow, 0)..=(num, grow, u64::MAX)).count();
        let waits = |w: &Waiting| {
            let op = w.ops[w.blocking];
            u32::from(op.num) == num && if grow { op.op < 0 } else { op.op == 0 }
        };
        let complex = self.complex.iter().filter(|(_, seq)| self.waiting.get(seq).is_some_and(waits)).count();
        (simple + complex) as u32
    }

    /// After a call was done at once.
    pub fn after(&mut self, ops: &[SemBuf], alters: bool, woken: &mut WakeList) {
        if alters && !self.waiting.is_empty() {
            self.settle(Some(ops), woken);
        }
        self.otime = seconds();
    }

    /// Does for those who wait what has become possible by `ops`, or by any change; whether anything was done.
    pub fn settle(&mut self, ops: Option<&[SemBuf]>, woken: &mut WakeList) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let mut any = self.serve_zero(ops, woken);
        if self.complex.range((true, 0)..).next().is_some() {
            return any | self.serve(None, woken);
        }
        match ops {
            Some(ops) => {
                for op in ops.iter().filter(|op| op.op > 0) {
                    any |= self.serve(Some(u32::from(op.num)), woken);
                }
            }
            None => {
                // Only semaphores that somebody waits for.
                let mut at = (0, true, 0);
                while let Some(&(num, ..)) = self.simple.range(at..).find(|s| s.1) {
                    any |= self.serve(Some(num), woken);
                    at = (num + 1, true, 0);
                }
            }
        }
        any
    }

    /// Those who wait for zero, of the semaphores that `ops` named or of all; and those who wait for several zeros.
    fn serve_zero(&mut self, ops: Option<&[SemBuf]>, woken: &mut WakeList) -> bool {
        let mut any = false;
        match ops {
            Some(ops) => {
                for op in ops {
                    any |= self.serve_zero_of(u32::from(op.num), woken);
                }
            }
            None => {
                let mut at = (0, false, 0);
                while let Some(&(num, ..)) = self.simple.range(at..).find(|s| !s.1) {
                    any |= self.serve_zero_of(num, woken);
                    at = (num + 1, false, 0);
                }
            }
        }
        let mut at = 0;
        while let Some(&(_, seq)) = self.complex.range((false, at)..(true, 0)).next() {
            any |= self.attempt(seq, woken).is_some_and(|(done, _)| done);
            at = seq + 1;
        }
        any
    }

    fn serve_zero_of(&mut self, num: u32, woken: &mut WakeList) -> bool {
        let mut any = false;
        while self.sems[num as usize].value == 0
            && let Some(&(.., seq)) = self.simple.range((num, false, 0)..=(num, false, u64::MAX)).next()
        {
            any |= self.attempt(seq, woken).is_some_and(|(done, _)| done);
        }
        any
    }

    /// Those who alter: of one semaphore, or all in order of arrival. Whoever changes something may have made way for
    /// somebody before him.
    fn serve(&mut self, num: Option<u32>, woken: &mut WakeList) -> bool {
        let (mut any, mut at) = (false, 0);
        loop {
            let next = match num {
                Some(num) if self.sems[num as usize].value == 0 => None,
                Some(num) => self.simple.range((num, true, at)..=(num, true, u64::MAX)).next().map(|s| s.2),
                None => self.waiting.range(at..).find(|(_, w)| w.alters).map(|(seq, _)| *seq),
            };
            let Some(seq) = next else { return any };
            at = seq + 1;
            if let Some((true, done)) = self.attempt(seq, woken) {
                any = true;
                self.serve_zero(Some(&done.ops), woken);
                if num.is_none() {
                    at = 0;
                }
            }
        }
    }

    /// Tries to do what a call waits for. `None`: it goes on waiting; else whether it was done, and what it was.
    fn attempt(&mut self, seq: u64, woken: &mut WakeList) -> Option<(bool, Waiting)> {
        if !self.waiting.get(&seq)?.sleeper.is_there() {
            self.unqueue(seq);
            return None;
        }
        let w = self.waiting.get_mut(&seq)?;
        let (ops, undo, pid) = (core::mem::take(&mut w.ops), w.undo, w.pid);
        let outcome = self.perform(&ops, undo, pid);
        let w = self.waiting.get_mut(&seq)?;
        w.ops = ops;
        let result = match outcome {
            Outcome::Blocks(at) => {
                w.blocking = at;
                return None;
            }
            Outcome::Done => Ok(()),
            Outcome::Fails(e) => Err(e),
        };
        let w = self.unqueue(seq)?;
        w.sleeper.finish(result, woken);
        Some((result.is_ok(), w))
    }

    /// Nothing is to be put back of a semaphore, or of all, any more.
    pub fn clear_undo(&mut self, num: Option<usize>) {
        for undo in self.undos.values_mut() {
            match num {
                Some(num) => undo.adjust[num] = 0,
                None => undo.adjust.fill(0),
            }
        }
    }

    /// Ends the set: whoever waits gets `EIDRM`. Returns the lists that know it.
    pub fn end(&mut self, woken: &mut WakeList) -> Vec<Arc<List>> {
        self.gone = true;
        for (_, w) in core::mem::take(&mut self.waiting) {
            w.sleeper.finish(Err(Errno::EIDRM), woken);
        }
        self.simple.clear();
        self.complex.clear();
        core::mem::take(&mut self.undos).into_values().filter_map(|u| u.list.upgrade()).collect()
    }
}
