//! `mq_open(2)` and its family.

use super::{Fd, files};
use crate::abi::linux::{__kernel_timespec, CLOCK_REALTIME, O_CLOEXEC, O_NONBLOCK};
use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object};
use crate::ipc::mqueue::{self, Attr, Event, Message, PRIORITIES};
use crate::mm::user::Plain;
use crate::mm::{UserPtr, UserSlice, UserStr};
use crate::task::CurrentTask;
use crate::time;

// SAFETY: integers without padding.
unsafe impl Plain for Attr {}

/// `struct sigevent`, as far as it counts: value, signal, how.
type SigEvent = [u64; 2];

/// `mq_open(2)`: the descriptor is always closed by exec.
pub fn sys_mq_open(cur: &CurrentTask, name: UserStr, flags: u32, mode: u32, attr: UserPtr<Attr>) -> SysResult<Fd> {
    let attr = attr.option().map(UserPtr::read).transpose()?;
    let name = name.read_path()?;
    let file = mqueue::open(cur, &name, flags, mode, attr.as_ref())?;
    files::install(cur, file, O_CLOEXEC)
}

/// `mq_unlink(2)`.
pub fn sys_mq_unlink(cur: &CurrentTask, name: UserStr) -> SysResult<()> {
    Ok(mqueue::unlink(cur, &name.read_path()?)?)
}

fn until(timeout: UserPtr<__kernel_timespec>) -> Result<Option<u64>> {
    let Some(t) = timeout.option() else { return Ok(None) };
    let ns = super::time::to_ns(t.read()?)?;
    Ok(time::deadline_at(CLOCK_REALTIME as i32, ns))
}

/// `mq_timedsend(2)`.
pub fn sys_mq_timedsend(
    cur: &CurrentTask,
    fd: Fd,
    text: u64,
    len: usize,
    priority: u32,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult<()> {
    let deadline = until(timeout)?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL.into());
    }
    let file = cur.file(fd.0)?;
    let queue = mqueue::of_file(&file)?;
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    if len as u64 > queue.size {
        return Err(Errno::EMSGSIZE.into());
    }
    arena::charge_bytes(Object::Buffer, len as u64)?;
    let text = UserSlice::<u8>::new(text, len).read_vec()?;
    let nonblock = file.nonblock();
    drop(file);
    queue.send(cur, Message { priority, text }, nonblock, deadline)
}

/// `mq_timedreceive(2)`.
pub fn sys_mq_timedreceive(
    cur: &CurrentTask,
    fd: Fd,
    text: u64,
    len: usize,
    priority: UserPtr<u32>,
    timeout: UserPtr<__kernel_timespec>,
) -> SysResult<usize> {
    let deadline = until(timeout)?;
    let file = cur.file(fd.0)?;
    let queue = mqueue::of_file(&file)?;
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    if (len as u64) < queue.size {
        return Err(Errno::EMSGSIZE.into());
    }
    let nonblock = file.nonblock();
    drop(file);
    let message = queue.receive(cur, nonblock, deadline)?;
    if let Some(p) = priority.option() {
        p.write(message.priority)?;
    }
    UserSlice::<u8>::new(text, message.text.len()).write_from(&message.text)?;
    Ok(message.text.len())
}

/// `mq_notify(2)`.
pub fn sys_mq_notify(cur: &CurrentTask, fd: Fd, event: UserPtr<SigEvent>) -> SysResult<()> {
    let event = match event.option() {
        None => None,
        Some(p) => {
            let [value, words] = p.read()?;
            let (signal, how) = (words as i32, (words >> 32) as i32);
            let cookie = if Event::has_cookie(how) { UserPtr::new(value).read()? } else { [0; 32] };
            Some(Event { how, signal, value, cookie })
        }
    };
    Ok(mqueue::request(cur, fd.0, event.as_ref())?)
}

/// `mq_getsetattr(2)`.
pub fn sys_mq_getsetattr(cur: &CurrentTask, fd: Fd, new: UserPtr<Attr>, old: UserPtr<Attr>) -> SysResult<()> {
    let new = new.option().map(UserPtr::read).transpose()?;
    if new.is_some_and(|n| n.flags & !i64::from(O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL.into());
    }
    let file = cur.file(fd.0)?;
    let queue = mqueue::of_file(&file)?;
    let flags = i64::from(file.flags() & O_NONBLOCK);
    let attr = Attr {
        flags,
        messages: queue.messages as i64,
        size: queue.size as i64,
        current: queue.held().0 as i64,
        reserved: [0; 4],
    };
    if let Some(new) = new {
        file.set_flags(file.flags() & !O_NONBLOCK | new.flags as u32);
    }
    if let Some(p) = old.option() {
        p.write(attr)?;
    }
    Ok(())
}
