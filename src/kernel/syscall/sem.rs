//! `semget(2)`, `semop(2)`, `semtimedop(2)`, `semctl(2)`.

use crate::abi::linux::__kernel_timespec;
use crate::abi::{Errno, Result, SysResult};
use crate::ipc::perm::UserPerm;
use crate::ipc::sem::{self, Question, SemBuf, Sems, Stat, VALUE_MAX};
use crate::ipc::{self, Ipc};
use crate::mm::user::Plain;
use crate::mm::{UserPtr, UserSlice};
use crate::task::CurrentTask;
use core::sync::atomic::Ordering::Relaxed;

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// `struct semid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    perm: UserPerm,
    otime: i64,
    unused1: u64,
    ctime: i64,
    unused2: u64,
    count: u64,
    unused3: [u64; 2],
}
const _: () = assert!(size_of::<Data>() == 104);
// SAFETY: integers without padding.
unsafe impl Plain for Data {}
// SAFETY: integers without padding.
unsafe impl Plain for SemBuf {}

impl From<Stat> for Data {
    fn from(s: Stat) -> Data {
        let [otime, ctime] = s.times;
        Data { perm: s.perm, otime, ctime, count: u64::from(s.count), ..Data::default() }
    }
}

/// `semget(2)`.
pub fn sys_semget(cur: &CurrentTask, key: i32, count: i32, flags: u32) -> SysResult<i32> {
    let ns = ipc::namespace(cur);
    Ok(Ipc::of(&ns).sem.get(cur, &ns, key, count, flags)?)
}

/// `semop(2)`.
pub fn sys_semop(cur: &CurrentTask, id: i32, ops: UserPtr<SemBuf>, count: u32) -> SysResult<()> {
    sys_semtimedop(cur, id, ops, count, UserPtr::new(0))
}

/// `semtimedop(2)`.
pub fn sys_semtimedop(
    cur: &CurrentTask,
    id: i32,
    ops: UserPtr<SemBuf>,
    count: u32,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult<()> {
    let timeout = timeout.option().map(UserPtr::read).transpose()?;
    let ns = ipc::namespace(cur);
    if count > Ipc::of(&ns).sem.limits[2].load(Relaxed) {
        return Err(Errno::E2BIG.into());
    }
    if count < 1 {
        return Err(Errno::EINVAL.into());
    }
    let ops = ops.slice(count as usize).read_vec()?;
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let timeout = timeout.map(super::time::to_ns).transpose()?;
    sem::operate(cur, id, ops, timeout.map(|ns| ns as u64))
}

/// `semctl(2)`.
pub fn sys_semctl(cur: &CurrentTask, id: i32, num: i32, command: i32, arg: u64) -> SysResult<u32> {
    if id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let ns = ipc::namespace(cur);
    let sems = &Ipc::of(&ns).sem;
    let find = || sems.ids.find(id);
    let data = UserPtr::<Data>::new(arg);
    match command {
        IPC_INFO | SEM_INFO => return Ok(info(sems, command, UserPtr::new(arg))?),
        IPC_STAT => data.write(find()?.stat(cur, &ns, false)?.into())?,
        SEM_STAT | SEM_STAT_ANY => {
            let stat = sems.ids.at(id)?.stat(cur, &ns, command == SEM_STAT_ANY)?;
            let id = stat.id;
            data.write(stat.into())?;
            return Ok(id as u32);
        }
        GETVAL => return Ok(find()?.ask(cur, &ns, num, Question::Value)?),
        GETPID => return Ok(find()?.ask(cur, &ns, num, Question::Pid)?),
        GETNCNT => return Ok(find()?.ask(cur, &ns, num, Question::WaitForMore)?),
        GETZCNT => return Ok(find()?.ask(cur, &ns, num, Question::WaitForZero)?),
        GETALL => {
            let values = find()?.values(cur, &ns)?;
            UserSlice::<u16>::new(arg, values.len()).write_from(&values)?;
        }
        SETALL => {
            let set = find()?;
            set.check_alter(cur, &ns)?;
            let values = UserSlice::<u16>::new(arg, set.count() as usize).read_vec()?;
            set.set_values(cur, &values)?;
        }
        SETVAL => {
            let value = arg as i32;
            if !(0..=VALUE_MAX).contains(&value) {
                return Err(Errno::ERANGE.into());
            }
            find()?.set_value(cur, &ns, num, value as u16)?;
        }
        IPC_SET => {
            let to = data.read()?;
            find()?.set(cur, &ns, &to.perm)?;
        }
        IPC_RMID => find()?.remove(cur, &ns)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `struct seminfo`; the highest index.
fn info(sems: &Sems, command: i32, buf: UserPtr<[u32; 10]>) -> Result<u32> {
    const MNS: u32 = 1_024_000_000;
    let (sets, highest) = sems.ids.count();
    let [msl, mns, opm, mni] = [0, 1, 2, 3].map(|i: usize| sems.limits[i].load(Relaxed));
    let (usz, aem) = if command == SEM_INFO { (sets, sems.used()) } else { (20, VALUE_MAX as u32) };
    buf.write([MNS, mni, mns, MNS, msl, opm, 500, usz, VALUE_MAX as u32, aem])?;
    Ok(highest)
}
