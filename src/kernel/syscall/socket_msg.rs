//! `struct msghdr` and control messages (`cmsg(3)`): files and credentials that travel with data.

use super::Fd;
use super::files;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::UserPtr;
use crate::net::unix::Ucred;
use crate::task::CurrentTask;
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use crate::mm::user::MsgHeader as Header;

/// `SOL_SOCKET`.
const SOL_SOCKET: u32 = 1;
/// `SCM_RIGHTS`, `SCM_CREDENTIALS`.
const RIGHTS: u32 = 1;
const CREDENTIALS: u32 = 2;
/// Bytes of a `struct cmsghdr`.
const HEAD: usize = 16;
/// Most files in one message (`SCM_MAX_FD`).
const MAX_FILES: usize = 253;
/// `MSG_CTRUNC`.
const CTRUNC: u32 = 8;

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let b = bytes.get(at..at + 4).ok_or(Errno::EINVAL)?;
    Ok(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// The files that a message carries.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EPERM` for credentials that are not the sender's.
pub fn files_of(cur: &CurrentTask, h: &Header) -> SysResult<Vec<Arc<OpenFile>>> {
    let mut out = Vec::new();
    if h.control == 0 || h.control_len == 0 {
        return Ok(out);
    }
    if h.control_len > 20480 {
        return Err(Errno::ENOBUFS.into());
    }
    let bytes = UserPtr::<u8>::new(h.control).slice(h.control_len as usize).read_vec()?;
    let mut rest = &bytes[..];
    while rest.len() >= HEAD {
        let len = u32_at(rest, 0)? as usize;
        if len < HEAD || len > rest.len() || u32_at(rest, 4)? != 0 {
            return Err(Errno::EINVAL.into());
        }
        let data = &rest[HEAD..len];
        match (u32_at(rest, 8)?, u32_at(rest, 12)?) {
            (SOL_SOCKET, RIGHTS) => {
                if out.len() + data.len() / 4 > MAX_FILES {
                    return Err(Errno::EINVAL.into());
                }
                for at in (0..data.len() / 4).map(|i| i * 4) {
                    out.push(cur.files().get_any(u32_at(data, at)? as i32)?);
                }
            }
            (SOL_SOCKET, CREDENTIALS) => {
                let own = [cur.group.pid, cur.cred().uid, cur.cred().gid];
                let given = [u32_at(data, 0)?, u32_at(data, 4)?, u32_at(data, 8)?];
                if given != own && cur.cred().euid != 0 {
                    return Err(Errno::EPERM.into());
                }
            }
            _ => return Err(Errno::EINVAL.into()),
        }
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    Ok(out)
}

/// Writes one control message at the cursor; `false` if there is no room.
fn put(h: &Header, used: &mut usize, kind: u32, data: &[u8]) -> Result<bool> {
    let len = HEAD + data.len();
    if (h.control_len as usize) < *used + len {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.extend_from_slice(&(len as u64).to_ne_bytes());
    bytes.extend_from_slice(&SOL_SOCKET.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(data);
    UserPtr::<u8>::new(h.control).add(*used).slice(len).write_from(&bytes)?;
    *used = (*used + len.next_multiple_of(8)).min(h.control_len as usize);
    Ok(true)
}

/// Gives the receiver what came along; the header's control length says how much. Returns flags.
///
/// # Errors
/// `EFAULT`.
pub fn give_control(
    cur: &CurrentTask,
    h: &mut Header,
    came: Vec<Arc<OpenFile>>,
    cred: Option<Ucred>,
    cloexec: u32,
) -> SysResult<u32> {
    let mut used = 0;
    let mut flags = 0;
    if let Some(c) = cred {
        let data: Vec<u8> = [c.pid, c.uid, c.gid].iter().flat_map(|n| n.to_ne_bytes()).collect();
        if !put(h, &mut used, CREDENTIALS, &data)? {
            flags |= CTRUNC;
        }
    }
    if !came.is_empty() {
        let room = (h.control_len as usize).saturating_sub(used + HEAD) / 4;
        if came.len() > room {
            flags |= CTRUNC;
        }
        let open_flags = if cloexec != 0 { crate::abi::linux::O_CLOEXEC } else { 0 };
        let mut numbers = Vec::new();
        for file in came.into_iter().take(room) {
            match files::install(cur, file, open_flags) {
                Ok(Fd(fd)) => numbers.extend_from_slice(&fd.to_ne_bytes()),
                Err(_) => {
                    flags |= CTRUNC;
                    break;
                }
            }
        }
        if !numbers.is_empty() {
            put(h, &mut used, RIGHTS, &numbers)?;
        }
    }
    h.control_len = used as u64;
    Ok(flags)
}
