//! `msgget(2)`, `msgsnd(2)`, `msgrcv(2)`, `msgctl(2)`.

use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object};
use crate::ipc::msg::{self, Message, Msgs, Stat};
use crate::ipc::perm::UserPerm;
use crate::ipc::{self, Ipc};
use crate::mm::user::Plain;
use crate::mm::{UserPtr, UserSlice};
use crate::task::CurrentTask;
use core::sync::atomic::Ordering::Relaxed;

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// `struct msqid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    perm: UserPerm,
    times: [i64; 3],
    /// Bytes and messages in it, and most bytes.
    sizes: [u64; 3],
    pids: [u32; 2],
    unused: [u64; 2],
}
const _: () = assert!(size_of::<Data>() == 120);
// SAFETY: integers without padding.
unsafe impl Plain for Data {}

impl From<Stat> for Data {
    fn from(s: Stat) -> Data {
        let Stat { perm, times, sizes, pids, .. } = s;
        Data { perm, times, sizes, pids, unused: [0; 2] }
    }
}

/// `msgget(2)`.
pub fn sys_msgget(cur: &CurrentTask, key: i32, flags: u32) -> SysResult<i32> {
    let ns = ipc::namespace(cur);
    Ok(Ipc::of(&ns).msg.get(cur, &ns, key, flags)?)
}

/// `msgsnd(2)`.
pub fn sys_msgsnd(cur: &CurrentTask, id: i32, from: UserPtr<i64>, len: usize, flags: u32) -> SysResult<()> {
    let kind = from.read()?;
    let most = Ipc::of(&ipc::namespace(cur)).msg.max.load(Relaxed);
    if len > most as usize || id < 0 || kind < 1 {
        return Err(Errno::EINVAL.into());
    }
    arena::charge_bytes(Object::Buffer, len as u64)?;
    let text = UserSlice::<u8>::new(from.add(1).addr(), len).read_vec()?;
    msg::send(cur, id, Message { kind, text }, flags)
}

/// `msgrcv(2)`.
pub fn sys_msgrcv(cur: &CurrentTask, id: i32, to: UserPtr<i64>, len: usize, kind: i64, flags: u32) -> SysResult<usize> {
    let message = msg::receive(cur, id, len, kind, flags)?;
    let len = message.text.len().min(len);
    to.write(message.kind)?;
    UserSlice::<u8>::new(to.add(1).addr(), len).write_from(&message.text[..len])?;
    Ok(len)
}

/// `msgctl(2)`.
pub fn sys_msgctl(cur: &CurrentTask, id: i32, command: i32, buf: UserPtr<u64>) -> SysResult<u32> {
    if id < 0 || command < 0 {
        return Err(Errno::EINVAL.into());
    }
    let ns = ipc::namespace(cur);
    let msgs = &Ipc::of(&ns).msg;
    let find = || msgs.ids.find(id);
    let data = buf.cast::<Data>();
    match command {
        IPC_INFO | MSG_INFO => return Ok(info(msgs, command, buf.cast())?),
        IPC_STAT => data.write(find()?.stat(cur, &ns, false)?.into())?,
        MSG_STAT | MSG_STAT_ANY => {
            let stat = msgs.ids.at(id)?.stat(cur, &ns, command == MSG_STAT_ANY)?;
            let id = stat.id;
            data.write(stat.into())?;
            return Ok(id as u32);
        }
        IPC_SET => {
            let to = data.read()?;
            find()?.set(cur, &ns, &to.perm, to.sizes[2])?;
        }
        IPC_RMID => find()?.remove(cur, &ns)?,
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `struct msginfo`; the highest index.
fn info(msgs: &Msgs, command: i32, buf: UserPtr<[u32; 8]>) -> Result<u32> {
    // Figures that mean nothing since Linux 2.4, but are told.
    const POOL: u32 = 512_000;
    const BYTES: u32 = 16384;
    const SEGMENT: u32 = 16;
    const SEGMENTS: u32 = 0xffff;
    let (queues, highest) = msgs.ids.count();
    let (pool, map, tql) = if command == MSG_INFO {
        let (messages, bytes) = msgs.totals()?;
        (queues, messages as u32, bytes as u32)
    } else {
        (POOL, BYTES, BYTES)
    };
    let [max, mnb, mni] = [&msgs.max, &msgs.queue_bytes, &msgs.count].map(|n| n.load(Relaxed));
    buf.write([pool, map, max, mnb, mni, SEGMENT, tql, SEGMENTS])?;
    Ok(highest)
}
