//! `setsockopt(2)` and `getsockopt(2)`.

use super::super::{Fd, files};
use super::{ctx, opened};
use crate::abi::{Errno, SysResult, linux};
use crate::fs::pidfd;
use crate::mm::UserPtr;
use crate::net::socket::{self, OptionValue, SOL_SOCKET, SocketOps, filter, so};
use crate::task::CurrentTask;

/// `SO_PEERPIDFD`.
const PEERPIDFD: u32 = 77;
/// Most room for an option's value that is not negative.
const MAX_ROOM: u32 = i32::MAX as u32;

/// `setsockopt(2)`.
pub fn sys_setsockopt(
    cur: &CurrentTask,
    fd: Fd,
    level: u32,
    option: u32,
    value: UserPtr<u8>,
    len: u32,
) -> SysResult<()> {
    let it = opened(cur, fd)?;
    if len > i32::MAX as u32 {
        return Err(Errno::EINVAL.into());
    }
    let value = OptionValue { at: value, len };
    let ctx = ctx(cur);
    let common = match level == SOL_SOCKET && !it.socket.is_host() {
        true => socket::set_common(&ctx, &*it.socket, option, value),
        false => None,
    };
    let outcome = common.unwrap_or_else(|| it.socket.set_option(&ctx, level, option, value));
    // What is open, but no program (`SO_ATTACH_BPF`).
    if outcome == Err(Errno::EBADF)
        && level == SOL_SOCKET
        && so::TAKES_PROGRAM.contains(&option)
        && value.int().is_ok_and(|fd| cur.files().get_any(fd).is_ok())
    {
        return Err(Errno::EINVAL.into());
    }
    Ok(outcome?)
}

/// `SO_PEERPIDFD`: a descriptor of the process that made the other end.
fn peer_pidfd(
    cur: &CurrentTask,
    socket: &dyn SocketOps,
    out: UserPtr<u8>,
    len: UserPtr<u32>,
    room: u32,
) -> SysResult<()> {
    let pid = socket.peer_process().ok_or(Errno::ENODATA)?;
    let group = crate::task::lookup_group(pid).ok_or(Errno::ESRCH)?;
    let fd = files::install(cur, pidfd::pidfd(&cur.op_ctx(), &group.id, 0), linux::O_CLOEXEC)?;
    let n = room.min(4) as usize;
    let told = out.slice(n).write_from(&fd.0.to_ne_bytes()[..n]).and_then(|()| len.write(n as u32));
    if told.is_err() {
        let _ = cur.files().close(&cur.op_ctx(), fd.0);
    }
    Ok(told?)
}

/// `getsockopt(2)`.
pub fn sys_getsockopt(
    cur: &CurrentTask,
    fd: Fd,
    level: u32,
    option: u32,
    out: UserPtr<u8>,
    len: UserPtr<u32>,
) -> SysResult<()> {
    let it = opened(cur, fd)?;
    let room = match len.read() {
        Ok(room) => room,
        // A level that there is not is told before the room is looked at.
        Err(e) if level != SOL_SOCKET => {
            return Err(match it.socket.negative_room(level, option) {
                Err(other @ (Errno::ENOPROTOOPT | Errno::EOPNOTSUPP)) => other.into(),
                _ => e.into(),
            });
        }
        Err(e) => return Err(e.into()),
    };
    if let Some(filled) = it.socket.get_option_there(level, option, out, room) {
        return Ok(len.write(filled?)?);
    }
    let room = match room {
        0..=MAX_ROOM => room,
        _ if level == SOL_SOCKET => return Err(Errno::EINVAL.into()),
        _ => it.socket.negative_room(level, option).map(|()| MAX_ROOM)?,
    };
    let ctx = ctx(cur);
    if (level, option) == (SOL_SOCKET, PEERPIDFD) && it.socket.carries_files() {
        return peer_pidfd(cur, &*it.socket, out, len, room);
    }
    if level == SOL_SOCKET && filter::is_program(option) {
        // The room and the answer's length are counts of instructions.
        let program = it.socket.core().filter_program(room as usize)?;
        if room > 0 {
            for (i, insn) in program.iter().enumerate() {
                out.cast::<u64>().add(i).write(*insn)?;
            }
        }
        return Ok(len.write(program.len() as u32)?);
    }
    let family = || it.socket.get_option(&ctx, level, option, OptionValue { at: out, len: room });
    let bytes = if level == SOL_SOCKET {
        match family() {
            // What a family knows better than the common answer comes first.
            Err(Errno::ENOPROTOOPT) => {
                socket::get_common(&*it.socket, option, room as usize).unwrap_or(Err(Errno::ENOPROTOOPT))
            }
            other => other,
        }
    } else {
        family()
    }?;
    let n = bytes.len().min(room as usize);
    // Only the options that all sockets have are written before their length.
    if level != SOL_SOCKET {
        len.write(n as u32)?;
    }
    out.slice(n).write_from(&bytes[..n])?;
    Ok(len.write(n as u32)?)
}
