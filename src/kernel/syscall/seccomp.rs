//! `seccomp(2)` and the calls of a filter's supervisor.

use super::files;
use crate::abi::{Errno, Result, SysResult, linux};
use crate::mm::{UserPtr, UserSlice};
use crate::task::CurrentTask;
use crate::task::seccomp::{self, Added, bpf, flag, notify};
use crate::vfs::OpenFile;
use alloc::vec::Vec;
use bpf::Insn;

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;
/// Bytes of `seccomp_notif`, `seccomp_notif_resp` and `seccomp_data`.
const SIZES: [u16; 3] = [80, 24, bpf::DATA_BYTES as u16];

/// `seccomp(2)`.
///
/// # Errors
/// `EINVAL` for an unknown operation or flag or a bad program, `EACCES`, `EFAULT`, `EBUSY`, `ENOMEM`, `ESRCH`,
/// `EMFILE`, `EOPNOTSUPP` for an action that filters cannot answer.
pub fn sys_seccomp(cur: &CurrentTask, operation: u32, flags: u32, args: u64) -> SysResult<u64> {
    match operation {
        SET_MODE_STRICT if flags == 0 && args == 0 => Ok(seccomp::set_strict(cur).map(|()| 0)?),
        SET_MODE_FILTER => add(cur, flags, args),
        GET_ACTION_AVAIL if flags == 0 => {
            let action = UserPtr::<u32>::new(args).read()?;
            if seccomp::is_known(action) { Ok(0) } else { Err(Errno::EOPNOTSUPP.into()) }
        }
        GET_NOTIF_SIZES if flags == 0 => Ok(UserPtr::new(args).write(SIZES).map(|()| 0)?),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `prctl(PR_SET_SECCOMP)`.
///
/// # Errors
/// As [`sys_seccomp`].
pub fn set_mode(cur: &CurrentTask, mode: u64, args: u64) -> SysResult<u64> {
    match mode as u32 {
        seccomp::mode::STRICT if mode <= 2 => sys_seccomp(cur, SET_MODE_STRICT, 0, 0),
        seccomp::mode::FILTER if mode <= 2 => sys_seccomp(cur, SET_MODE_FILTER, 0, args),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Reads `struct sock_fprog` and what it points to.
fn program(cur: &CurrentTask, at: u64) -> Result<Vec<Insn>> {
    let [len, instructions] = UserPtr::<[u64; 2]>::new(at).read()?;
    let len = usize::from(len as u16);
    if len == 0 || len > bpf::MAX {
        return Err(Errno::EINVAL);
    }
    seccomp::may_add(cur)?;
    let raw: UserSlice<u64> = UserPtr::new(instructions).slice(len);
    Ok(raw.read_vec()?.into_iter().map(Insn::from).collect())
}

fn add(cur: &CurrentTask, flags: u32, args: u64) -> SysResult<u64> {
    let has = |f: u32| flags & f != 0;
    if flags & !flag::ALL != 0
        || has(flag::TSYNC) && has(flag::NEW_LISTENER) && !has(flag::TSYNC_ESRCH)
        || has(flag::WAIT_KILLABLE) && !has(flag::NEW_LISTENER)
    {
        return Err(Errno::EINVAL.into());
    }
    let program = program(cur, args)?;
    if has(flag::NEW_LISTENER) {
        cur.files().has_room(files::nofile(cur))?;
    }
    match seccomp::add(cur, program, flags)? {
        Added::Done => Ok(0),
        Added::Diverged(_) if has(flag::TSYNC_ESRCH) => Err(Errno::ESRCH.into()),
        Added::Diverged(tid) => Ok(u64::from(tid)),
        Added::Listener(notifier) => {
            let file = notify::open(cur, notifier);
            Ok(files::install(cur, file, linux::O_CLOEXEC)?.0 as u64)
        }
    }
}

const NOTIF_RECV: u32 = 0xc050_2100;
const NOTIF_SEND: u32 = 0xc018_2101;
const NOTIF_ID_VALID: u32 = 0x4008_2102;
/// As it was defined first.
const NOTIF_ID_VALID_OLD: u32 = 0x8008_2102;
const NOTIF_SET_FLAGS: u32 = 0x4008_2104;
/// Without the size of its argument, which may grow.
const NOTIF_ADDFD: u32 = 0x4000_2103;
const SIZE_BITS: u32 = 0x3fff_0000;
/// Bytes of the first `seccomp_notif_addfd`.
const ADDFD_BYTES: usize = 24;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: a hint to the scheduler.
const SYNC_WAKE_UP: u64 = 1;

/// Whether an ioctl may be one of a filter's supervisor.
pub fn is_ours(request: u32) -> bool {
    request >> 8 & 0xff == u32::from(b'!')
}

/// An ioctl of a filter's supervisor.
///
/// # Errors
/// `EINVAL` for an unknown one or for bytes that must be zero, `ENOENT`, `EINPROGRESS`, `EFAULT`, `EBADF`, `E2BIG`.
pub fn ioctl(cur: &CurrentTask, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
    let Some(listener) = notify::of_file(file) else {
        return file.ops.ioctl(&cur.op_ctx(), file, request, arg);
    };
    match request {
        NOTIF_RECV => {
            let out = UserPtr::<[u32; 20]>::new(arg);
            if out.read()? != [0; 20] {
                return Err(Errno::EINVAL.into());
            }
            let (id, tid, data) = listener.receive()?;
            let mut record = [0; 20];
            (record[0], record[1], record[2]) = (id as u32, (id >> 32) as u32, tid);
            record[4..].copy_from_slice(&data);
            out.write(record).inspect_err(|_| listener.unreceive(id))?;
        }
        NOTIF_SEND => {
            let [id, value, rest] = UserPtr::<[u64; 3]>::new(arg).read()?;
            let answer = notify::Answer { value: value as i64, error: rest as i32, flags: (rest >> 32) as u32 };
            listener.answer(id, answer)?;
        }
        NOTIF_ID_VALID | NOTIF_ID_VALID_OLD => listener.is_open(UserPtr::<u64>::new(arg).read()?)?,
        NOTIF_SET_FLAGS if arg & !SYNC_WAKE_UP == 0 => {}
        r if r & !SIZE_BITS == NOTIF_ADDFD => return give(cur, &listener, (r & SIZE_BITS) >> 16, arg),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`.
fn give(cur: &CurrentTask, listener: &notify::Notifier, size: u32, arg: u64) -> SysResult<u64> {
    let size = size as usize;
    if !(ADDFD_BYTES..4096).contains(&size) {
        return Err(Errno::EINVAL.into());
    }
    let a = UserPtr::<[u32; ADDFD_BYTES / 4]>::new(arg).read_grown(size, ADDFD_BYTES)?;
    let id = u64::from(a[0]) | u64::from(a[1]) << 32;
    let (flags, number, fd_flags) = (a[2], a[4], a[5]);
    if fd_flags & !linux::O_CLOEXEC != 0
        || flags & !(notify::SETFD | notify::SEND) != 0
        || number != 0 && flags & notify::SETFD == 0
    {
        return Err(Errno::EINVAL.into());
    }
    let file = cur.files().get(a[3] as i32)?;
    let gift = notify::Gift { file, flags, number: number as i32, cloexec: fd_flags != 0 };
    listener.give(id, gift).map(|fd| fd as u64)
}
