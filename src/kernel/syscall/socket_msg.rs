//! `struct msghdr` and control messages (`cmsg(3)`): what travels with data.

use super::Fd;
use super::files;
use super::read_write::with_vecs;
use crate::abi::{Errno, Result, SysError, SysResult, linux};
use crate::cred::{Kind, cap};
use crate::fs::pidfd;
use crate::mm::{IoVec, UserPtr};
use crate::net::socket::{Cmsg, MsgFlags, RecvMsg, SOL_SOCKET, SendMsg, SocketOps, Ucred};
use crate::task::CurrentTask;
use alloc::vec::Vec;

pub use crate::mm::user::MsgHeader as Header;
pub use crate::mm::user::MultiMsgHeader as Many;

/// `SCM_RIGHTS`, `SCM_CREDENTIALS`.
const RIGHTS: u32 = 1;
const CREDENTIALS: u32 = 2;
/// `SCM_PIDFD`.
const PIDFD: u32 = 4;
/// Bytes of a `struct cmsghdr`.
const HEAD: usize = 16;
/// Most files in one message (`SCM_MAX_FD`).
const MAX_FILES: usize = 253;
/// Most bytes of control messages (`/proc/sys/net/core/optmem_max`).
const MAX_CONTROL: u64 = 131_072;
/// Most pieces of data (`UIO_MAXIOV`).
const MAX_VECS: u64 = 1024;

/// Copies a header in, in Linux's order of checks (`copy_msghdr_from_user`).
///
/// # Errors
/// `EFAULT`, `EINVAL` for a negative length of the name.
pub fn read_header(at: UserPtr<Header>) -> Result<Header> {
    let mut h = at.read()?;
    if h.name == 0 {
        h.name_len = 0;
    }
    if h.name_len > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    h.name_len = h.name_len.min(128);
    Ok(h)
}

/// Runs `f` with the pieces of data.
///
/// # Errors
/// `EMSGSIZE` for too many; `EFAULT`, `EINVAL`; what `f` says.
pub fn with_data<R>(h: &Header, f: impl FnOnce(&[IoVec]) -> SysResult<R>) -> SysResult<R> {
    if h.vec_count > MAX_VECS {
        return Err(Errno::EMSGSIZE.into());
    }
    with_vecs(UserPtr::new(h.vecs), h.vec_count as usize, f)
}

/// Sets `msg_len` of a `struct mmsghdr`.
///
/// # Errors
/// `EFAULT`.
pub fn set_length(at: UserPtr<Many>, len: usize) -> Result {
    at.cast::<Header>().add(1).cast::<u32>().write(len as u32)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let b = bytes.get(at..at + 4).ok_or(Errno::EINVAL)?;
    Ok(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// Takes a message's control messages in: files and credentials resolved where the family carries them.
///
/// # Errors
/// `ENOBUFS`, `EFAULT`, `EINVAL`, `EBADF`; `EPERM` and `ESRCH` for credentials that are not the sender's.
pub fn read_control(cur: &CurrentTask, socket: &dyn SocketOps, h: &Header, out: &mut SendMsg) -> SysResult<()> {
    if h.control_len > MAX_CONTROL {
        return Err(Errno::ENOBUFS.into());
    }
    if h.control_len == 0 {
        return Ok(());
    }
    let bytes = UserPtr::<u8>::new(h.control).slice(h.control_len as usize).read_vec()?;
    socket.has_way()?;
    let mut rest = &bytes[..];
    while rest.len() >= HEAD {
        let len = u32_at(rest, 0)? as usize;
        if len < HEAD || len > rest.len() || u32_at(rest, 4)? != 0 {
            return Err(Errno::EINVAL.into());
        }
        let data = &rest[HEAD..len];
        let (level, kind) = (u32_at(rest, 8)?, u32_at(rest, 12)?);
        match (level, kind) {
            (SOL_SOCKET, RIGHTS) if socket.carries_files() => take_files(cur, data, out)?,
            (SOL_SOCKET, CREDENTIALS) if socket.carries_files() => out.cred = Some(credentials(cur, data)?),
            // Other families pass over these two (`__sock_cmsg_send`).
            (SOL_SOCKET, RIGHTS | CREDENTIALS) => {}
            // And the local family over those of other levels.
            (level, _) if socket.carries_files() && level != SOL_SOCKET => {}
            (SOL_SOCKET, _) if socket.carries_files() => return Err(Errno::EINVAL.into()),
            _ => {
                out.control.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                out.control.push(Cmsg { level, kind, data: data.to_vec() });
            }
        }
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok(())
}

fn take_files(cur: &CurrentTask, data: &[u8], out: &mut SendMsg) -> SysResult<()> {
    let count = data.len() / 4;
    if out.files.len() + count > MAX_FILES {
        return Err(Errno::EINVAL.into());
    }
    out.files.try_reserve(count).map_err(|_| Errno::ENOMEM)?;
    for at in (0..count).map(|i| i * 4) {
        out.files.push(cur.files().get_any(u32_at(data, at)? as i32)?);
    }
    Ok(())
}

/// Credentials that the sender states (`scm_check_creds`).
fn credentials(cur: &CurrentTask, data: &[u8]) -> SysResult<Ucred> {
    if data.len() != 12 {
        return Err(Errno::EINVAL.into());
    }
    let given = Ucred { pid: u32_at(data, 0)?, uid: u32_at(data, 4)?, gid: u32_at(data, 8)? };
    let cred = cur.cred();
    let uid = cred.user_ns.meant(Kind::User, given.uid)?;
    let gid = cred.user_ns.meant(Kind::Group, given.gid)?;
    let pid_ok = given.pid == cur.group.shown || cred.capable_in(&cur.pid_namespace().user_ns, cap::SYS_ADMIN);
    let uid_ok = [cred.uid, cred.euid, cred.suid].contains(&uid) || cred.capable_here(cap::SETUID);
    let gid_ok = [cred.gid, cred.egid, cred.sgid].contains(&gid) || cred.capable_here(cap::SETGID);
    if !(pid_ok && uid_ok && gid_ok) {
        return Err(Errno::EPERM.into());
    }
    let pid = match given.pid == cur.group.shown {
        true => cur.group.pid,
        false => cur.process_of(given.pid).ok_or(Errno::ESRCH)?.pid,
    };
    Ok(Ucred { pid, uid, gid })
}

/// Where control messages are put.
struct Control {
    at: u64,
    room: usize,
    used: usize,
}

impl Control {
    /// Writes one message (`put_cmsg`): cut where room ends; whether all of it fitted.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) -> Result<bool> {
        let left = self.room.saturating_sub(self.used);
        if left < HEAD {
            return Ok(false);
        }
        let whole = HEAD + data.len();
        let len = whole.min(left);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(whole).map_err(|_| Errno::ENOMEM)?;
        bytes.extend_from_slice(&(len as u64).to_ne_bytes());
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(data);
        UserPtr::<u8>::new(self.at).add(self.used).slice(len).write_from(&bytes[..len])?;
        self.used = (self.used + whole.next_multiple_of(8)).min(self.room);
        Ok(len == whole)
    }
}

/// Gives the receiver what came beside the data, and writes the header back.
///
/// # Errors
/// `EFAULT`.
pub fn give(
    cur: &CurrentTask,
    at: UserPtr<Header>,
    h: &mut Header,
    mut out: RecvMsg,
    asked: MsgFlags,
) -> SysResult<()> {
    if h.name != 0 {
        let from = out.from.as_ref().map_or(&[][..], |a| a.bytes());
        let n = from.len().min(h.name_len as usize);
        UserPtr::<u8>::new(h.name).slice(n).write_from(&from[..n])?;
        h.name_len = from.len() as u32;
    }
    let room = if h.control == 0 { 0 } else { h.control_len as usize };
    let mut control = Control { at: h.control, room, used: 0 };
    if let Some(sender) = out.credentials.take() {
        let cred = cur.cred();
        let words =
            [cur.seen_pid(sender.pid), cred.seen_uid(sender.uid), cred.seen_gid(sender.gid)].map(u32::to_ne_bytes);
        if !control.put(SOL_SOCKET, CREDENTIALS, words.as_flattened())? {
            out.flags |= MsgFlags::CTRUNC;
        }
    }
    for c in core::mem::take(&mut out.control) {
        if !control.put(c.level, c.kind, &c.data)? {
            out.flags |= MsgFlags::CTRUNC;
        }
    }
    give_files(cur, &mut control, &mut out, asked)?;
    give_pidfd(cur, &mut control, &mut out)?;
    h.control_len = control.used as u64;
    h.flags = (out.flags | asked & MsgFlags::CMSG_CLOEXEC).bits();
    Ok(at.write(*h)?)
}

fn give_files(cur: &CurrentTask, control: &mut Control, out: &mut RecvMsg, asked: MsgFlags) -> SysResult<()> {
    let came = core::mem::take(&mut out.files);
    if came.is_empty() {
        return Ok(());
    }
    let room = control.room.saturating_sub(control.used + HEAD) / 4;
    if came.len() > room {
        out.flags |= MsgFlags::CTRUNC;
    }
    let flags = if asked.contains(MsgFlags::CMSG_CLOEXEC) { linux::O_CLOEXEC } else { 0 };
    let mut numbers = Vec::new();
    for file in came.into_iter().take(room) {
        match files::install(cur, file, flags) {
            Ok(Fd(fd)) => numbers.extend_from_slice(&fd.to_ne_bytes()),
            Err(SysError::Errno(_) | SysError::Restart(_)) => {
                out.flags |= MsgFlags::CTRUNC;
                break;
            }
        }
    }
    if !numbers.is_empty() {
        control.put(SOL_SOCKET, RIGHTS, &numbers)?;
    }
    Ok(())
}

/// Gives the receiver a descriptor of the process that sent it, where it asked for that and the process is still known.
fn give_pidfd(cur: &CurrentTask, control: &mut Control, out: &mut RecvMsg) -> SysResult<()> {
    let Some(pid) = out.pidfd else { return Ok(()) };
    if control.room.saturating_sub(control.used) < HEAD + 4 {
        out.flags |= MsgFlags::CTRUNC;
        return Ok(());
    }
    let Some(group) = crate::task::lookup_group(pid) else { return Ok(()) };
    let file = pidfd::pidfd(&cur.op_ctx(), &group.id, 0);
    match files::install(cur, file, linux::O_CLOEXEC) {
        Ok(Fd(fd)) => {
            control.put(SOL_SOCKET, PIDFD, &fd.to_ne_bytes())?;
        }
        Err(_) => out.flags |= MsgFlags::CTRUNC,
    }
    Ok(())
}
