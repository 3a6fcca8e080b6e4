//! System V semaphores (`ipc/sem.c` is what programs see).

mod queue;
mod undo;

use super::Ipc;
use super::ids::{End, Ids, Object};
use super::perm::{ALTER, Perm, READ, UserPerm};
use super::sleeper::Sleeper;
use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object as Charged};
use crate::cred::Cred;
use crate::sync::wait::WakeList;
use crate::sync::{Kind, Level, Mutex, On, WaitEnd};
use crate::task::CurrentTask;
use crate::task::ns::IpcNamespace;
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use queue::{Outcome, State, Waiting};
use undo::List;

/// Largest value of a semaphore (`SEMVMX`).
pub const VALUE_MAX: i32 = 32767;
/// `SEM_UNDO`.
const UNDO: i16 = 0x1000;

/// `struct sembuf`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SemBuf {
    pub num: u16,
    pub op: i16,
    pub flags: i16,
}

/// The sets of a namespace, and their limits.
pub struct Sems {
    /// By id.
    pub ids: Arc<Ids<SemSet>>,
    /// Semaphores of all sets.
    used: Arc<AtomicU32>,
    /// `SEMMSL`, `SEMMNS`, `SEMOPM`, `SEMMNI`.
    pub limits: [AtomicU32; 4],
}

impl Default for Sems {
    fn default() -> Self {
        let limits = [32000, 1_024_000_000, 500, 32000].map(AtomicU32::new);
        Sems { ids: Arc::default(), used: Arc::default(), limits }
    }
}

/// A set of semaphores.
pub struct SemSet {
    serial: u64,
    count: u32,
    state: Mutex<State>,
}

impl Object for SemSet {
    fn perm(&self) -> Result<Perm> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state.perm) }
    }
    fn set_id(&self, id: i32) {
        self.state.lock().perm.id = id;
    }
}

/// What `semctl(IPC_STAT)` says.
pub struct Stat {
    /// Owner and mode.
    pub perm: UserPerm,
    /// Id.
    pub id: i32,
    /// Seconds of the last operation and of the last change.
    pub times: [i64; 2],
    /// Semaphores.
    pub count: u32,
}

fn seconds() -> i64 {
    time::now_coarse() / 1_000_000_000
}

impl Sems {
    /// Semaphores of all sets.
    pub fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    /// `semget(2)`.
    ///
    /// # Errors
    /// Those of the manual page.
    pub fn get(&self, cur: &CurrentTask, ns: &IpcNamespace, key: i32, count: i32, flags: u32) -> Result<i32> {
        let limit = |i: usize| self.limits[i].load(Relaxed);
        let count = u32::try_from(count).ok().filter(|&n| n <= limit(0)).ok_or(Errno::EINVAL)?;
        arena::charge_bytes(Charged::Buffer, u64::from(count) * 8)?;
        let cred = cur.cred();
        let fits = |there: &SemSet| if there.count < count { Err(Errno::EINVAL) } else { Ok(()) };
        let make = || {
            if count == 0 {
                return Err(Errno::EINVAL);
            }
            if u64::from(self.used()) + u64::from(count) > u64::from(limit(1)) {
                return Err(Errno::ENOSPC);
            }
            let set = SemSet::new(Perm::new(cred, key, flags), count)?;
            // Before it can be found: whoever removes it counts it out.
            self.used.fetch_add(count, Relaxed);
            Ok(set)
        };
        let mut made = false;
        let id = self.ids.get((ns, cred), (key, flags), limit(3), fits, || make().inspect(|_| made = true));
        if made && id.is_err() {
            self.used.fetch_sub(count, Relaxed);
        }
        id
    }
}

/// A call that found that it cannot go on at once.
struct Blocked {
    seq: u64,
    sleeper: Arc<Sleeper<Result>>,
}

/// `semtimedop(2)`; `timeout` in ns.
///
/// # Errors
/// Those of the manual page.
pub fn operate(cur: &CurrentTask, id: i32, ops: Vec<SemBuf>, timeout: Option<u64>) -> SysResult<()> {
    let ns = super::namespace(cur);
    if id < 0 || ops.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    let deadline = timeout.map(time::deadline_in);
    let highest = ops.iter().map(|o| o.num).max().unwrap_or(0);
    let undoes = ops.iter().any(|o| o.flags & UNDO != 0);
    let alters = ops.iter().any(|o| o.op != 0);
    let set = Ipc::of(&ns).sem.ids.find(id)?;
    let undo = if undoes { Some(List::of(cur).prepare(&set)?) } else { None };
    let mut woken = WakeList::default();
    let blocked = {
        let mut state = set.state.lock();
        if u32::from(highest) >= set.count {
            return Err(Errno::EFBIG.into());
        }
        state.perm.check(&ns, cur.cred(), if alters { ALTER } else { READ })?;
        if state.gone {
            return Err(Errno::EIDRM.into());
        }
        match state.perform(&ops, undo, cur.group.pid) {
            Outcome::Done => {
                state.after(&ops, alters, &mut woken);
                None
            }
            Outcome::Fails(e) => return Err(e.into()),
            Outcome::Blocks(at) => {
                arena::charge(Charged::Watch)?;
                let sleeper = Sleeper::here();
                let waiting = Waiting {
                    ops: ops.into(),
                    alters,
                    blocking: at,
                    undo,
                    pid: cur.group.pid,
                    sleeper: sleeper.clone(),
                };
                Some(Blocked { seq: state.queue(waiting), sleeper })
            }
        }
    };
    drop(woken);
    match blocked {
        None => Ok(()),
        Some(blocked) => set.wait(cur, &blocked, deadline),
    }
}

impl SemSet {
    fn new(perm: Perm, count: u32) -> Result<Arc<SemSet>> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let state = State::new(perm, count as usize, seconds())?;
        let state = Mutex::mended(Level::IpcObject, state);
        Ok(Arc::new(SemSet { serial: SERIAL.fetch_add(1, Relaxed), count, state }))
    }

    fn wait(&self, cur: &CurrentTask, blocked: &Blocked, deadline: Option<u64>) -> SysResult<()> {
        let on = On { kind: Kind::Semaphore, id: core::ptr::from_ref(self) as u64 };
        let end = blocked.sleeper.wait(on, deadline);
        if end.is_err() {
            self.state.lock().unqueue(blocked.seq);
        }
        match (blocked.sleeper.take(), end) {
            (Some(outcome), _) => Ok(outcome?),
            (None, Err(WaitEnd::TimedOut)) => Err(Errno::EAGAIN.into()),
            (None, _) => Err(super::not_restarted(cur)),
        }
    }

    /// `IPC_RMID`.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`.
    pub fn remove(self: &Arc<Self>, cur: &CurrentTask, ns: &IpcNamespace) -> Result {
        let sems = &Ipc::of(ns).sem;
        let mut woken = WakeList::default();
        let lists = sems.ids.end(self, || {
            let mut state = self.state.lock();
            let allowed = if state.gone { Err(Errno::EIDRM) } else { state.perm.check_owner(ns, cur.cred()) };
            match allowed {
                Err(e) => (End::Nothing, Err(e)),
                Ok(()) => (End::All(state.perm.key), Ok(state.end(&mut woken))),
            }
        })?;
        sems.used.fetch_sub(self.count, Relaxed);
        for list in lists {
            list.forget(self.serial);
        }
        Ok(())
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`, `EINVAL`.
    pub fn set(&self, cur: &CurrentTask, ns: &IpcNamespace, to: &UserPerm) -> Result {
        let mut state = self.live()?;
        state.perm.check_owner(ns, cur.cred())?;
        state.perm.update(cur.cred(), to)?;
        state.ctime = seconds();
        Ok(())
    }

    /// `IPC_STAT` and the like; `open`: whoever asks need not be allowed to read it.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`.
    pub fn stat(&self, cur: &CurrentTask, ns: &IpcNamespace, open: bool) -> Result<Stat> {
        if !open {
            self.perm()?.check(ns, cur.cred(), READ)?;
        }
        self.look(cur.cred())
    }

    /// What it is like, as `cred` sees it.
    ///
    /// # Errors
    /// `EIDRM`.
    pub fn look(&self, cred: &Cred) -> Result<Stat> {
        let state = self.live()?;
        let perm = state.perm.to_user(cred);
        Ok(Stat { perm, id: state.perm.id, times: [state.otime, state.ctime], count: self.count })
    }

    fn live(&self) -> Result<crate::sync::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Number of semaphores.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// `GETVAL`, `GETPID`, `GETNCNT`, `GETZCNT` of a semaphore.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`, `EINVAL`.
    pub fn ask(&self, cur: &CurrentTask, ns: &IpcNamespace, num: i32, what: Question) -> Result<u32> {
        let state = self.live()?;
        state.perm.check(ns, cur.cred(), READ)?;
        let num = u32::try_from(num).ok().filter(|&n| n < self.count).ok_or(Errno::EINVAL)?;
        let sem = &state.sems[num as usize];
        Ok(match what {
            Question::Value => u32::from(sem.value),
            Question::Pid => {
                let pid = sem.pid;
                drop(state);
                cur.seen_pid(pid)
            }
            Question::WaitForMore => state.waiters(num, true),
            Question::WaitForZero => state.waiters(num, false),
        })
    }

    /// `GETALL`.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`, `ENOMEM`.
    pub fn values(&self, cur: &CurrentTask, ns: &IpcNamespace) -> Result<Vec<u16>> {
        let mut all = Vec::new();
        all.try_reserve_exact(self.count as usize).map_err(|_| Errno::ENOMEM)?;
        let state = self.live()?;
        state.perm.check(ns, cur.cred(), READ)?;
        all.extend(state.sems.iter().map(|s| s.value));
        Ok(all)
    }

    /// Whether the caller may set values.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`.
    pub fn check_alter(&self, cur: &CurrentTask, ns: &IpcNamespace) -> Result {
        self.live()?.perm.check(ns, cur.cred(), ALTER)
    }

    /// `SETALL`: as many values as there are semaphores.
    ///
    /// # Errors
    /// `ERANGE`, `EIDRM`.
    pub fn set_values(&self, cur: &CurrentTask, values: &[u16]) -> Result {
        if values.iter().any(|&v| i32::from(v) > VALUE_MAX) {
            return Err(Errno::ERANGE);
        }
        let mut woken = WakeList::default();
        let mut state = self.live()?;
        state.clear_undo(None);
        for (sem, &value) in state.sems.iter_mut().zip(values) {
            (sem.value, sem.pid) = (value, cur.group.pid);
        }
        state.ctime = seconds();
        if state.settle(None, &mut woken) {
            state.otime = seconds();
        }
        Ok(())
    }

    /// `SETVAL`.
    ///
    /// # Errors
    /// `EINVAL`, `EACCES`, `EIDRM`.
    pub fn set_value(&self, cur: &CurrentTask, ns: &IpcNamespace, num: i32, value: u16) -> Result {
        let mut woken = WakeList::default();
        let mut state = self.live()?;
        let num = u32::try_from(num).ok().filter(|&n| n < self.count).ok_or(Errno::EINVAL)?;
        state.perm.check(ns, cur.cred(), ALTER)?;
        state.clear_undo(Some(num as usize));
        let sem = &mut state.sems[num as usize];
        (sem.value, sem.pid) = (value, cur.group.pid);
        state.ctime = seconds();
        if state.settle(None, &mut woken) {
            state.otime = seconds();
        }
        Ok(())
    }
}

/// What [`SemSet::ask`] tells of a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its value.
    Value,
    /// The process that changed it last.
    Pid,
    /// How many wait for it to grow.
    WaitForMore,
    /// How many wait for it to be zero.
    WaitForZero,
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
