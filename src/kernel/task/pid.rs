//! Pids as objects, and their namespaces (`pid_namespaces(7)`).
//!
//! A [`Pid`] is what a task, a process, a process group and a session are known by. Whoever keeps one (a
//! pidfd, the owner of a descriptor) never meets another process that got the same number later: the number
//! is given away again when nothing is known by it, and the object then stands for nothing.

use super::{Task, ThreadGroup};
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::cred::count::{self, Charge, Of};
use crate::cred::{Cred, UserNamespace, cap, ns};
use crate::sync::{Level, Mutex, WaitQueue};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Largest value of `kernel.pid_max` (`PID_MAX_LIMIT`).
pub const PID_MAX_LIMIT: u32 = 1 << 22;
/// `kernel.pid_max` at boot (`PID_MAX_DEFAULT`).
pub const PID_MAX_DEFAULT: u32 = 32768;
/// Smallest value that it may be set to: more than are reserved.
pub const PID_MAX_MIN: u32 = RESERVED + 1;
/// Numbers start here again after a wrap (`RESERVED_PIDS`).
const RESERVED: u32 = 300;

/// What a [`Pid`] stands for; the tree's lock is held to change it.
#[derive(Default)]
struct Uses {
    /// The thread; a leader's until its process is reaped.
    task: Option<Arc<Task>>,
    /// The process, zombies included.
    process: Option<Arc<ThreadGroup>>,
    /// Processes of the process group, by pid, zombies included.
    group: BTreeMap<u32, Arc<ThreadGroup>>,
    /// Processes of the session, by pid, zombies included.
    session: BTreeMap<u32, Arc<ThreadGroup>>,
}

/// Kind of a set of processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// A process group.
    Group,
    /// A session.
    Session,
}

/// See the module.
pub struct Pid {
    /// The number in the initial namespace.
    number: u32,
    /// The number in each further namespace that it is seen in, outermost first.
    inner: Vec<(Arc<PidNamespace>, u32)>,
    uses: Mutex<Uses>,
    /// Woken when the process or the thread ends, and when it is reaped.
    pub exit_wait: WaitQueue,
    /// Nice value of the session's autogroup (`sched(7)`).
    pub autogroup: AtomicI32,
}

impl Pid {
    /// The number in the initial namespace.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number in `ns`, 0 where it cannot be seen.
    pub fn number_in(&self, ns: &PidNamespace) -> u32 {
        if ns.level == 0 {
            return self.number;
        }
        let same = |(n, _): &&(Arc<PidNamespace>, u32)| core::ptr::eq(&**n, ns);
        self.inner.iter().find(same).map_or(0, |(_, number)| *number)
    }

    /// The namespaces that it is seen in, outermost first (`NSpid` in `/proc/PID/status`).
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<PidNamespace>> + '_ {
        core::iter::once(&super::kernel().roots().pid).chain(self.inner.iter().map(|(ns, _)| ns))
    }

    /// The innermost namespace that it is seen in.
    pub fn namespace(&self) -> &Arc<PidNamespace> {
        self.inner.last().map_or_else(|| &super::kernel().roots().pid, |(ns, _)| ns)
    }

    /// The thread. A leader's stays until the process is reaped.
    pub fn task(&self) -> Option<Arc<Task>> {
        self.uses.lock().task.clone()
    }

    /// The process, a zombie too.
    pub fn process(&self) -> Option<Arc<ThreadGroup>> {
        self.uses.lock().process.clone()
    }

    /// The members of the process group or session with this id, zombies included, by pid.
    pub fn members(&self, set: Set) -> Vec<Arc<ThreadGroup>> {
        self.uses.lock().get(set).values().cloned().collect()
    }

    /// Whether the process group or session has members, zombies included.
    pub fn has_members(&self, set: Set) -> bool {
        !self.uses.lock().get(set).is_empty()
    }

    /// Whether a member, zombies included, has this property.
    pub fn any_member(&self, set: Set, f: impl FnMut(&Arc<ThreadGroup>) -> bool) -> bool {
        self.uses.lock().get(set).values().any(f)
    }

    pub(super) fn set_task(&self, task: &Arc<Task>) {
        self.uses.lock().task = Some(task.clone());
    }

    pub(super) fn set_process(&self, group: &Arc<ThreadGroup>) {
        self.uses.lock().process = Some(group.clone());
    }

    pub(super) fn join(&self, set: Set, group: &Arc<ThreadGroup>) {
        self.uses.lock().set(set).insert(group.pid, group.clone());
    }

    /// Takes a process out of a process group or session.
    pub(super) fn leave(&self, set: Set, group: &ThreadGroup) {
        let left = self.uses.lock().set(set).remove(&group.pid);
        self.forget_if_unused();
        drop(left);
    }

    /// Takes away the thread, and with `process` the process, that the pid stands for. Returns the thread.
    pub(super) fn clear(&self, process: bool) -> Option<Arc<Task>> {
        let (task, process) = {
            let mut uses = self.uses.lock();
            (uses.task.take(), process.then(|| uses.process.take()))
        };
        self.forget_if_unused();
        if process.is_some() {
            self.inner.iter().for_each(|(ns, _)| ns.lost_one());
        }
        drop(process);
        task
    }

    /// Gives the numbers back once they stand for nothing.
    pub(super) fn forget_if_unused(&self) {
        {
            let uses = self.uses.lock();
            let used = uses.task.is_some() || uses.process.is_some();
            if used || !uses.group.is_empty() || !uses.session.is_empty() {
                return;
            }
        }
        let outermost = (&super::kernel().roots().pid, self.number);
        for (ns, number) in core::iter::once(outermost).chain(self.inner.iter().map(|(ns, n)| (ns, *n))) {
            let mut table = ns.table.lock();
            let mine = table.pids.get(&number).is_some_and(|p| core::ptr::eq(&**p, self));
            let gone = if mine { table.pids.remove(&number) } else { None };
            drop(table);
            drop(gone);
        }
    }
}

impl Uses {
    fn get(&self, set: Set) -> &BTreeMap<u32, Arc<ThreadGroup>> {
        match set {
            Set::Group => &self.group,
            Set::Session => &self.session,
        }
    }

    fn set(&mut self, set: Set) -> &mut BTreeMap<u32, Arc<ThreadGroup>> {
        match set {
            Set::Group => &mut self.group,
            Set::Session => &mut self.session,
        }
    }
}

/// The pids of a namespace.
struct Table {
    pids: BTreeMap<u32, Arc<Pid>>,
    /// The number that was given away last.
    last: u32,
}

/// A pid namespace.
pub struct PidNamespace {
    /// Its number, as `/proc/PID/ns/pid` shows it.
    pub ino: u32,
    /// Depth below the initial one, which has 0.
    pub level: u32,
    /// `None` for the initial one.
    pub parent: Option<Arc<PidNamespace>>,
    /// Capabilities over it count here.
    pub user_ns: Arc<UserNamespace>,
    table: Mutex<Table>,
    pid_max: AtomicU32,
    /// Its init has begun to end: nobody else comes (`PIDNS_ADDING`).
    dead: AtomicBool,
    /// The slot of its init while that waits for the last of the others; 0 for none.
    emptied: AtomicU64,
    _charge: Option<Charge>,
}

/// How deep namespaces nest (`MAX_PID_NS_LEVEL`).
pub const LEVEL_MAX: u32 = 32;

impl PidNamespace {
    /// The initial namespace.
    pub(super) fn initial() -> Arc<PidNamespace> {
        Arc::new(PidNamespace {
            ino: ns::ino::PID,
            level: 0,
            parent: None,
            user_ns: UserNamespace::initial().clone(),
            table: Mutex::new(Level::PidTable, Table { pids: BTreeMap::new(), last: 0 }),
            pid_max: AtomicU32::new(PID_MAX_DEFAULT),
            dead: AtomicBool::new(false),
            emptied: AtomicU64::new(0),
            _charge: None,
        })
    }

    /// A namespace below this one, which `cred` makes and its user namespace owns (`create_pid_namespace`).
    ///
    /// # Errors
    /// `EINVAL` for a user namespace that is not below this one's owner, `ENOSPC` too deep or for too many.
    pub fn child(self: &Arc<Self>, cred: &Cred) -> Result<Arc<PidNamespace>> {
        if !cred.user_ns.is_within(&self.user_ns) {
            return Err(Errno::EINVAL);
        }
        if self.level + 1 > LEVEL_MAX {
            return Err(Errno::ENOSPC);
        }
        let charge = count::charge(&cred.user_ns, cred.euid, Of::Pid)?;
        Ok(Arc::new(PidNamespace {
            ino: ns::new_ino(),
            level: self.level + 1,
            parent: Some(self.clone()),
            user_ns: cred.user_ns.clone(),
            table: Mutex::new(Level::PidTable, Table { pids: BTreeMap::new(), last: 0 }),
            pid_max: AtomicU32::new(self.pid_max()),
            dead: AtomicBool::new(false),
            emptied: AtomicU64::new(0),
            _charge: Some(charge),
        }))
    }

    /// Whether it has or had an init.
    pub fn is_started(&self) -> bool {
        self.level == 0 || self.table.lock().last != 0
    }

    /// Nobody else comes to it.
    pub(super) fn close(&self) {
        self.dead.store(true, SeqCst);
    }

    /// Whether nobody comes any more.
    pub(super) fn is_closed(&self) -> bool {
        self.dead.load(SeqCst)
    }

    /// Who is woken when one of its processes is reaped.
    pub(super) fn tell_of_leavers(&self, slot: Option<&'static SlotHeader>) {
        self.emptied.store(slot.map_or(0, |s| core::ptr::from_ref(s) as u64), SeqCst);
    }

    fn lost_one(&self) {
        let at = self.emptied.load(SeqCst);
        if at != 0 {
            // SAFETY: only addresses of slot headers are stored, which are never unmapped.
            unsafe { &*(at as *const SlotHeader) }.waker.wake();
        }
    }

    /// The number here of what has this number in the initial namespace, 0 where it cannot be seen.
    pub fn seen(&self, number: u32) -> u32 {
        if self.level == 0 {
            return number;
        }
        super::kernel().roots().pid.find(number).map_or(0, |pid| pid.number_in(self))
    }

    /// The number in the initial namespace of what has this number here.
    pub fn meant(&self, number: u32) -> Option<u32> {
        if self.level == 0 { Some(number) } else { self.find(number).map(|pid| pid.number()) }
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<PidNamespace>) -> bool {
        let mut at = self;
        while at.level > other.level
            && let Some(parent) = &at.parent
        {
            at = parent;
        }
        Arc::ptr_eq(at, other)
    }

    /// All numbers are below this one (`kernel.pid_max`).
    pub fn pid_max(&self) -> u32 {
        self.pid_max.load(Relaxed)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EINVAL` outside [`PID_MAX_MIN`]..=[`PID_MAX_LIMIT`].
    pub fn set_pid_max(&self, max: u32) -> Result {
        if !(PID_MAX_MIN..=PID_MAX_LIMIT).contains(&max) {
            return Err(Errno::EINVAL);
        }
        self.pid_max.store(max, Relaxed);
        Ok(())
    }

    /// The pid with this number here.
    pub fn find(&self, number: u32) -> Option<Arc<Pid>> {
        self.table.lock().pids.get(&number).cloned()
    }

    /// The thread with this number here.
    pub fn task(&self, number: u32) -> Option<Arc<Task>> {
        let table = self.table.lock();
        table.pids.get(&number)?.task()
    }

    /// The process with this number here, a zombie too.
    pub fn process(&self, number: u32) -> Option<Arc<ThreadGroup>> {
        let table = self.table.lock();
        table.pids.get(&number)?.process()
    }

    /// The first process with a number of at least `from`, and that number.
    pub fn next_process(&self, from: u32) -> Option<(u32, Arc<ThreadGroup>)> {
        let table = self.table.lock();
        table.pids.range(from..).find_map(|(&number, pid)| Some((number, pid.process()?)))
    }

    /// All processes, in the order of their numbers, zombies included.
    pub fn processes(&self) -> Vec<Arc<ThreadGroup>> {
        let table = self.table.lock();
        table.pids.values().filter_map(|p| p.process()).collect()
    }

    /// How many processes there are, zombies included.
    pub fn process_count(&self) -> u32 {
        self.table.lock().pids.values().filter(|p| p.process().is_some()).count() as u32
    }

    /// All threads that have not been reaped, in the order of their numbers.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        let table = self.table.lock();
        table.pids.values().filter_map(|p| p.task()).collect()
    }

    /// The number that was given away last (`/proc/loadavg`, `kernel.ns_last_pid`).
    pub fn last(&self) -> u32 {
        self.table.lock().last
    }

    /// Sets it: the next number is one more.
    ///
    /// # Errors
    /// `EINVAL` for a number that there is not.
    pub fn set_last(&self, last: u32) -> Result {
        if last >= self.pid_max() {
            return Err(Errno::EINVAL);
        }
        self.table.lock().last = last;
        Ok(())
    }

    /// The process that orphans of this namespace get for a parent.
    pub fn init(&self) -> Option<Arc<ThreadGroup>> {
        self.process(1)
    }

    /// Whether `cred` may choose this number.
    fn may_choose(&self, number: u32, cred: &Cred) -> Result {
        if number == 0 || number >= self.pid_max() || number != 1 && self.init().is_none() {
            return Err(Errno::EINVAL);
        }
        let may = |n| cred.capable_in(&self.user_ns, n);
        if may(cap::CHECKPOINT_RESTORE) || may(cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// A free number; `wanted` is one that the caller chooses (`set_tid` of `clone3(2)`).
    fn number(&self, wanted: Option<u32>, make: impl FnOnce(u32) -> Arc<Pid>) -> Result<Arc<Pid>> {
        let mut table = self.table.lock();
        let number = match wanted {
            Some(n) if table.pids.contains_key(&n) => return Err(Errno::EEXIST),
            Some(n) => n,
            None => table.next(self.pid_max())?,
        };
        let pid = make(number);
        table.pids.insert(number, pid.clone());
        Ok(pid)
    }
}

impl Table {
    /// The next free number below `max`, in a circle that leaves out the reserved ones.
    fn next(&mut self, max: u32) -> Result<u32> {
        let first = if self.last + 1 >= max { RESERVED } else { self.last + 1 };
        let number = match self.gap(first, max) {
            Some(n) => n,
            // From the first number that a wrap gives up to where the search began.
            None => self.gap(RESERVED.min(first), first).ok_or(Errno::EAGAIN)?,
        };
        self.last = number;
        Ok(number)
    }

    /// The first free number of a range.
    fn gap(&self, from: u32, to: u32) -> Option<u32> {
        let mut at = from;
        for (&taken, _) in self.pids.range(from..to) {
            if taken != at {
                break;
            }
            at += 1;
        }
        (at < to).then_some(at)
    }
}

/// A pid that stands for nothing.
fn blank(number: u32, inner: Vec<(Arc<PidNamespace>, u32)>) -> Arc<Pid> {
    Arc::new(Pid {
        number,
        inner,
        uses: Mutex::new(Level::Pid, Uses::default()),
        exit_wait: WaitQueue::new(),
        autogroup: AtomicI32::new(0),
    })
}

/// A new pid in the initial namespace that stands for nothing yet. Whoever gets it makes it stand for a task,
/// or calls [`Pid::forget_if_unused`].
///
/// # Errors
/// `EAGAIN` when all numbers are taken, `EEXIST` if the wanted one is.
pub(super) fn new_pid(wanted: Option<u32>) -> Result<Arc<Pid>> {
    super::kernel().roots().pid.number(wanted, |number| blank(number, Vec::new()))
}

/// As [`new_pid`], in `ns` and all namespaces above it. `wanted` are the numbers that `cred` wants, innermost first
/// (`set_tid` of `clone3(2)`).
///
/// # Errors
/// As [`new_pid`]; `EINVAL` for a number that there is not, and for another one than 1 in a namespace without init;
/// `EPERM` without the capability to choose; `ENOMEM` in a namespace whose init has ended.
pub(super) fn new_pid_in(ns: &Arc<PidNamespace>, wanted: &[u32], cred: &Cred) -> Result<Arc<Pid>> {
    if ns.level == 0 && wanted.is_empty() {
        return new_pid(None);
    }
    if wanted.len() > ns.level as usize + 1 {
        return Err(Errno::EINVAL);
    }
    let mut inner: Vec<(Arc<PidNamespace>, u32)> = Vec::new();
    let made = (|| {
        let (mut at, mut wanted) = (ns, wanted.iter());
        loop {
            let wish = wanted.next().copied();
            if let Some(number) = wish {
                at.may_choose(number, cred)?;
            }
            let Some(parent) = &at.parent else {
                let shown = inner.iter().rev().cloned().collect();
                return at.number(wish, |number| blank(number, shown));
            };
            if at.dead.load(SeqCst) {
                return Err(Errno::ENOMEM);
            }
            // The number is taken by a pid that stands for nothing, until there is one for all namespaces.
            let taken = at.number(wish, |number| blank(number, Vec::new()))?;
            inner.push((at.clone(), taken.number));
            at = parent;
        }
    })();
    for (ns, number) in &inner {
        let mut table = ns.table.lock();
        let before = match &made {
            // Its init may have begun to end meanwhile: then this is one more that it kills.
            Ok(pid) => table.pids.insert(*number, pid.clone()),
            Err(_) => table.pids.remove(number),
        };
        drop(table);
        drop(before);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(taken: &[u32], last: u32) -> Table {
        let pid = |number| (number, blank(number, Vec::new()));
        Table { pids: taken.iter().copied().map(pid).collect(), last }
    }

    #[test]
    fn numbers_start_at_1_and_wrap_past_the_reserved_ones() {
        assert_eq!(table(&[], 0).next(400), Ok(1));
        assert_eq!(table(&[], 398).next(400), Ok(399));
        assert_eq!(table(&[], 399).next(400), Ok(300));
        assert_eq!(table(&[300, 301], 399).next(400), Ok(302));
        assert_eq!(table(&[399], 398).next(400), Ok(300));
    }

    #[test]
    fn a_number_that_anything_is_known_by_is_not_given_again() {
        let all: Vec<u32> = (300..400).collect();
        assert_eq!(table(&all, 350).next(400), Err(Errno::EAGAIN));
        let but_one: Vec<u32> = all.iter().copied().filter(|&n| n != 340).collect();
        assert_eq!(table(&but_one, 350).next(400), Ok(340));
    }

    #[test]
    fn a_maximum_below_what_was_given_away_wraps() {
        assert_eq!(table(&[], 5000).next(400), Ok(300));
    }
}
