//! `shmget(2)`, `shmat(2)`, `shmdt(2)`, `shmctl(2)`.

use crate::abi::{Errno, Result, SysResult};
use crate::ipc::perm::UserPerm;
use crate::ipc::shm::{self, Stat};
use crate::ipc::{self, Ipc};
use crate::mm::UserPtr;
use crate::mm::user::Plain;
use crate::task::CurrentTask;
use core::sync::atomic::Ordering::Relaxed;

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    perm: UserPerm,
    size: u64,
    times: [i64; 3],
    pids: [u32; 2],
    attached: u64,
    unused: [u64; 2],
}
const _: () = assert!(size_of::<Data>() == 112);
// SAFETY: integers without padding.
unsafe impl Plain for Data {}

impl From<Stat> for Data {
    fn from(s: Stat) -> Data {
        let Stat { perm, size, times, pids, attached, .. } = s;
        Data { perm, size, times, pids, attached, unused: [0; 2] }
    }
}

/// `shmget(2)`.
pub fn sys_shmget(cur: &CurrentTask, key: i32, size: u64, flags: u32) -> SysResult<i32> {
    let ns = ipc::namespace(cur);
    Ok(Ipc::of(&ns).shm.get(cur, &ns, key, size, flags)?)
}

/// `shmat(2)`.
pub fn sys_shmat(cur: &CurrentTask, id: i32, addr: u64, flags: u32) -> SysResult<u64> {
    let (at, len) = shm::attach(cur, id, addr, flags, super::mem::lock_limit(cur))?;
    if cur.mm().locks_future() {
        // An attachment that cannot be filled is one all the same.
        let _ = super::mem::populate(cur, at, at.saturating_add(len));
    }
    Ok(at)
}

/// `shmdt(2)`.
pub fn sys_shmdt(cur: &CurrentTask, addr: u64) -> SysResult<()> {
    Ok(shm::detach(cur, addr)?)
}

/// `shmctl(2)`.
pub fn sys_shmctl(cur: &CurrentTask, id: i32, command: i32, buf: UserPtr<u64>) -> SysResult<u32> {
    if command < 0 || id < 0 {
        return Err(Errno::EINVAL.into());
    }
    let ns = ipc::namespace(cur);
    let shm = &Ipc::of(&ns).shm;
    let find = || shm.ids.find(id);
    match command {
        IPC_INFO | SHM_INFO => return Ok(info(shm, command, buf)?),
        IPC_STAT => buf.cast::<Data>().write(find()?.stat(cur, &ns, false)?.into())?,
        SHM_STAT | SHM_STAT_ANY => {
            let stat = shm.ids.at(id)?.stat(cur, &ns, command == SHM_STAT_ANY)?;
            let id = stat.id;
            buf.cast::<Data>().write(stat.into())?;
            return Ok(id as u32);
        }
        IPC_SET => {
            let to = buf.cast::<Data>().read()?;
            find()?.set(cur, &ns, &to.perm)?;
        }
        IPC_RMID => find()?.remove(cur, &ns)?,
        SHM_LOCK | SHM_UNLOCK => find()?.lock(cur, &ns, command == SHM_LOCK)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `struct shminfo64` and `struct shm_info`; the highest index.
fn info(shm: &shm::Shm, command: i32, buf: UserPtr<u64>) -> Result<u32> {
    let (used, highest) = shm.ids.count();
    if command == IPC_INFO {
        let most = u64::from(shm.count.load(Relaxed));
        let words = [shm.max.load(Relaxed), 1, most, most, shm.all.load(Relaxed), 0, 0, 0, 0];
        buf.cast::<[u64; 9]>().write(words)?;
    } else {
        let words = [u64::from(used), shm.pages(), shm.resident()? / 4096, 0, 0, 0];
        buf.cast::<[u64; 6]>().write(words)?;
    }
    Ok(highest)
}
