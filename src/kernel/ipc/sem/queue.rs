//! The values of a set and who waits for them. Who waits is served in order of arrival; as in Linux a call with one
//! operation is only looked at when its semaphore has changed, unless calls with several wait, which may want anything.

use super::super::perm::Perm;
use super::super::sleeper::Sleeper;
use super::undo::{List, Undo};
use super::{SemBuf, VALUE_MAX, seconds};
use crate::abi::{Errno, Result};
use crate::sync::mend::{forget_part, step};
use crate::sync::wait::WakeList;
use crate::sync::{Mend, MendMap, StepQueue};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
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
    pub ops: Arc<[SemBuf]>,
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

/// What a list of operations has changed so far: it counts when all of it is done. If the host ends the thread before,
/// all of it is put back.
#[derive(Default)]
struct Journal {
    /// Set while entries count.
    open: bool,
    /// For whom it is done, if that is one who waits: then it also counts once he has been told.
    waiting: Option<Arc<Sleeper<Result>>>,
    /// The list that takes what is to be put back at an end.
    undo: Option<u64>,
    /// Semaphore, its value before, and what was to be put back, if that changes.
    old: StepQueue<(usize, u16, Option<i16>)>,
}

/// What the lock of a set guards.
pub struct State {
    pub perm: Perm,
    pub gone: bool,
    pub sems: Box<[Sem]>,
    pub otime: i64,
    pub ctime: i64,
    /// Who waits, in order of arrival.
    waiting: MendMap<u64, Waiting>,
    /// Those with one operation: semaphore, whether it alters, order.
    simple: BTreeSet<(u32, bool, u64)>,
    /// The others: whether they alter, order.
    complex: BTreeSet<(bool, u64)>,
    next: u64,
    /// By the list that they belong to.
    pub(super) undos: MendMap<u64, Undo>,
    journal: Journal,
}

impl Journal {
    /// Begins to keep what is changed.
    fn open(&mut self, undo: Option<u64>, waiting: Option<Arc<Sleeper<Result>>>) {
        self.old.clear();
        (self.undo, self.waiting) = (undo, waiting);
        step();
        self.open = true;
        step();
    }

    /// Keeps what a semaphore was before it is changed.
    fn keep(&mut self, num: usize, value: u16, adjust: Option<i16>) -> Result {
        self.old.try_reserve()?;
        self.old.push_back((num, value, adjust));
        step();
        Ok(())
    }

    /// What was done counts.
    fn close(&mut self) {
        step();
        self.open = false;
        step();
        self.waiting = None;
    }
}

impl Mend for State {
    fn mend(&mut self) {
        self.waiting.mend();
        self.undos.mend();
        if self.journal.open && !self.journal.waiting.as_ref().is_some_and(|w| w.has_got()) {
            self.roll_back();
        }
        forget_part(&mut self.journal, Journal::default());
        self.waiting.retain(|_, w| !w.sleeper.has_got());
        let simple = self.waiting.iter().filter_map(|(seq, w)| w.simple(*seq)).collect();
        forget_part(&mut self.simple, simple);
        let complex = self.waiting.iter().filter(|(seq, w)| w.simple(**seq).is_none());
        let complex = complex.map(|(seq, w)| (w.alters, *seq)).collect();
        forget_part(&mut self.complex, complex);
        let mut woken = WakeList::default();
        if self.gone {
            self.end(&mut woken);
        } else {
            // What it made possible, and did not live to do.
            self.settle(None, &mut woken);
        }
    }
}

impl State {
    pub fn new(perm: Perm, count: usize, ctime: i64) -> Result<State> {
        let mut sems = Vec::new();
        sems.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        sems.resize(count, Sem::default());
        Ok(State {
            perm,
            gone: false,
            sems: sems.into_boxed_slice(),
            otime: 0,
            ctime,
            waiting: MendMap::new(),
            simple: BTreeSet::new(),
            complex: BTreeSet::new(),
            next: 0,
            undos: MendMap::new(),
            journal: Journal::default(),
        })
    }

    /// Does all operations or none.
    pub fn perform(&mut self, ops: &[SemBuf], undo: Option<u64>, pid: u32) -> Outcome {
        let outcome = self.begin(ops, undo, pid, None);
        self.journal.close();
        outcome
    }

    /// As [`State::perform`], but what was done counts when the journal is closed.
    fn begin(&mut self, ops: &[SemBuf], undo: Option<u64>, pid: u32, of: Option<Arc<Sleeper<Result>>>) -> Outcome {
        self.journal.open(undo, of);
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
            if let Err(e) = self.journal.keep(num, old as u16, Some(*adjust)) {
                return Outcome::Fails(e);
            }
            *adjust = back as i16;
        } else if let Err(e) = self.journal.keep(num, old as u16, None) {
            return Outcome::Fails(e);
        }
        self.sems[num].value = new as u16;
        Outcome::Done
    }

    /// Puts back what the open journal says.
    fn roll_back(&mut self) {
        for &(num, value, adjust) in self.journal.old.iter().rev() {
            self.sems[num].value = value;
            let undo = self.journal.undo.and_then(|list| self.undos.get_mut(&list));
            if let (Some(u), Some(adjust)) = (undo, adjust) {
                u.adjust[num] = adjust;
            }
        }
    }

    /// Puts back at a semaphore what the list with this id has to, as the process `pid`.
    pub(super) fn put_back(&mut self, list: u64, num: usize, pid: u32) {
        let Some(undo) = self.undos.get_mut(&list) else { return };
        let adjust = i32::from(undo.adjust[num]);
        if adjust == 0 {
            return;
        }
        self.journal.open(Some(list), None);
        let sem = &mut self.sems[num];
        if self.journal.keep(num, sem.value, Some(adjust as i16)).is_err() {
            return self.journal.close();
        }
        undo.adjust[num] = 0;
        sem.value = (i32::from(sem.value) + adjust).clamp(0, VALUE_MAX) as u16;
        sem.pid = pid;
        self.journal.close();
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
        let w = self.waiting.get(&seq)?;
        let (ops, undo, pid, sleeper) = (w.ops.clone(), w.undo, w.pid, w.sleeper.clone());
        let outcome = self.begin(&ops, undo, pid, Some(sleeper.clone()));
        let result = match outcome {
            Outcome::Blocks(at) => {
                self.journal.close();
                self.waiting.get_mut(&seq)?.blocking = at;
                return None;
            }
            Outcome::Done => Ok(()),
            Outcome::Fails(e) => Err(e),
        };
        sleeper.finish(result, woken);
        self.journal.close();
        let w = self.unqueue(seq)?;
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
        while let Some((&seq, w)) = self.waiting.first_key_value() {
            w.sleeper.finish(Err(Errno::EIDRM), woken);
            self.unqueue(seq);
        }
        let lists = self.undos.values().filter_map(|u| u.list.upgrade()).collect();
        self.undos.clear();
        lists
    }
}
