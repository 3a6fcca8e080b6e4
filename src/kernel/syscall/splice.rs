//! Calls that move data between files: `splice`, `tee`, `vmsplice`, `sendfile`, `copy_file_range`.

use super::files;
use super::read_write::{MAX_COUNT, Place, has_positions, read_file, with_vecs, write_file};
use super::{Fd, at};
use crate::abi::linux::{self, O_APPEND};
use crate::abi::{Errno, SysResult};
use crate::fs::pipe::{Buf, PAGE, Page, PipeEnd};
use crate::mm::{IoDst, IoSrc, IoVec, UserPtr};
use crate::sync::Events;
use crate::sync::wait::block_on;
use crate::task::CurrentTask;
use crate::vfs::{FileType, OpenFile, Whence};
use alloc::vec::Vec;

/// `SPLICE_F_NONBLOCK`.
const NONBLOCK: u32 = 2;
/// Every `SPLICE_F_*`.
const ALL: u32 = 0xf;

/// Whether a file's data can be moved by these calls: regular files, devices, sockets, pipes of the host.
fn moves(file: &OpenFile) -> bool {
    match file.inode.file_type() {
        FileType::Regular => file.ops.seekable() || file.ops.host_seek(linux::SEEK_CUR, 0).is_some(),
        FileType::Char | FileType::Block | FileType::Socket | FileType::Fifo => true,
        FileType::Dir | FileType::Symlink | FileType::Anonymous => false,
    }
}

/// Runs `attempt` until it does not say `EAGAIN`, sleeping in between unless `nonblock`: whatever the file's
/// own O_NONBLOCK says.
fn wait<T>(file: &OpenFile, events: Events, nonblock: bool, mut attempt: impl FnMut() -> SysResult<T>) -> SysResult<T> {
    match file.ops.wait_queue() {
        Some(queue) if !nonblock => block_on(queue, events, None, attempt),
        _ => attempt(),
    }
}

/// Waits until `pipe`, whose description is `file`, has data; whether there is any: not when nobody can
/// write.
fn wait_for_data(file: &OpenFile, pipe: &PipeEnd, nonblock: bool) -> SysResult<bool> {
    wait(file, Events::IN, nonblock, || match (pipe.is_empty(), pipe.has_writers()) {
        (false, _) => Ok(true),
        (true, false) => Ok(false),
        (true, true) => Err(Errno::EAGAIN.into()),
    })
}

/// Waits until there is room for a buffer.
fn wait_for_room(cur: &CurrentTask, file: &OpenFile, pipe: &PipeEnd, nonblock: bool) -> SysResult<()> {
    wait(file, Events::OUT, nonblock, || {
        if !pipe.has_readers() {
            files::broken_pipe(cur);
            return Err(Errno::EPIPE.into());
        }
        if pipe.room() == 0 { Err(Errno::EAGAIN.into()) } else { Ok(()) }
    })
}

/// From a file to a pipe: at most what there is room for.
fn fill(
    cur: &CurrentTask,
    (input, mut from): (&OpenFile, Option<u64>),
    (file, pipe): (&OpenFile, &PipeEnd),
    len: usize,
    nonblock: bool,
) -> SysResult<(usize, Option<u64>)> {
    wait_for_room(cur, file, pipe, nonblock)?;
    let ctx = cur.op_ctx();
    let mut done = 0;
    while done < len && pipe.room() > 0 {
        let mut page = Page::new()?;
        let want = PAGE.min(len - done);
        // Once there is something nobody waits for more.
        let flags = if done > 0 { linux::RWF_NOWAIT } else { 0 };
        let place = Place { pos: from, flags };
        let n = match IoDst::with_kernel(&mut page.bytes()[..want], |dst| read_file(&ctx, input, dst, place)) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        pipe.force_buf(Buf::new(page, n, false, false))?;
        done += n;
        from = from.map(|p| p + n as u64);
        // A terminal waits for more whatever it is told.
        if n < want || input.ops.is_tty() {
            break;
        }
    }
    Ok((done, from))
}

/// From a pipe to a file: what is there.
fn drain(
    cur: &CurrentTask,
    (file, pipe): (&OpenFile, &PipeEnd),
    (out, mut to): (&OpenFile, Option<u64>),
    len: usize,
    nonblock: bool,
) -> SysResult<(usize, Option<u64>)> {
    let ctx = cur.op_ctx();
    let mut done = 0;
    if !wait_for_data(file, pipe, nonblock)? {
        return Ok((0, to));
    }
    while done < len {
        let Some(mut buf) = pipe.take_buf(len - done)? else { break };
        let want = buf.data().len();
        let place = Place { pos: to, flags: 0 };
        let put = IoSrc::with_kernel(buf.data(), |src| write_file(cur, &ctx, out, src, place));
        let n = *put.as_ref().unwrap_or(&0);
        done += n;
        to = to.map(|p| p + n as u64);
        if n < want {
            buf.skip(n);
            pipe.give_back(buf);
            return if done > 0 { Ok((done, to)) } else { put.map(|_| (0, to)) };
        }
    }
    Ok((done, to))
}

/// From one pipe to another.
fn pass(
    cur: &CurrentTask,
    (from_file, from): (&OpenFile, &PipeEnd),
    (to_file, to): (&OpenFile, &PipeEnd),
    len: usize,
    nonblock: bool,
) -> SysResult<usize> {
    let mut done = 0;
    while done == 0 {
        if !wait_for_data(from_file, from, nonblock)? {
            return Ok(0);
        }
        wait_for_room(cur, to_file, to, nonblock)?;
        while done < len && to.room() > 0 {
            let Some(buf) = from.take_buf(len - done)? else { break };
            let n = buf.data().len();
            if let Err(buf) = to.put_buf(buf) {
                from.give_back(buf);
                break;
            }
            done += n;
        }
    }
    Ok(done)
}

/// `splice(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `ESPIPE`, `EFAULT`, `EAGAIN`, `EPIPE`, and those of reading and writing.
pub fn sys_splice(
    cur: &CurrentTask,
    input: Fd,
    at_in: UserPtr<i64>,
    out: Fd,
    at_out: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> SysResult<usize> {
    if len == 0 {
        return Ok(0);
    }
    at::only(flags, ALL)?;
    let (input, out) = (files::in_use(cur, input)?, files::in_use(cur, out)?);
    let (from, to) = (PipeEnd::of_file(&input), PipeEnd::of_file(&out));
    if from.is_some() && !at_in.is_null() || to.is_some() && !at_out.is_null() {
        return Err(Errno::ESPIPE.into());
    }
    let (pos_out, pos_in) = (raw_pos(at_out)?, raw_pos(at_in)?);
    if !input.readable() || !out.writable() {
        return Err(Errno::EBADF.into());
    }
    let len = len.min(MAX_COUNT);
    let asked = flags & NONBLOCK != 0;
    match (from, to) {
        (Some(a), Some(b)) if a.is_same_pipe(b) => Err(Errno::EINVAL.into()),
        (Some(a), Some(b)) => {
            let nonblock = asked || input.nonblock() || out.nonblock();
            pass(cur, (&input, a), (&out, b), len, nonblock)
        }
        (Some(pipe), None) => {
            let pos = checked_pos(&out, pos_out)?;
            if out.flags() & O_APPEND != 0 || !moves(&out) {
                return Err(Errno::EINVAL.into());
            }
            let (n, pos) = drain(cur, (&input, pipe), (&out, pos), len, asked || input.nonblock())?;
            write_pos(at_out, pos)?;
            Ok(n)
        }
        (None, Some(pipe)) => {
            let pos = checked_pos(&input, pos_in)?;
            if !moves(&input) {
                return Err(Errno::EINVAL.into());
            }
            let (n, pos) = fill(cur, (&input, pos), (&out, pipe), len, asked || out.nonblock())?;
            write_pos(at_in, pos)?;
            Ok(n)
        }
        // A pipe of the host is none of ours, but it is one.
        _ if input.inode.file_type() == FileType::Fifo || out.inode.file_type() == FileType::Fifo => {
            let (from, to) = (checked_pos(&input, pos_in)?, checked_pos(&out, pos_out)?);
            if !moves(&input) || !moves(&out) {
                return Err(Errno::EINVAL.into());
            }
            let (n, from, to) = copy(cur, (&input, from), (&out, to), len)?;
            write_pos(at_in, from)?;
            write_pos(at_out, to)?;
            Ok(n)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `tee(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EAGAIN`, `EPIPE`, `ENOMEM`.
pub fn sys_tee(cur: &CurrentTask, input: Fd, out: Fd, len: usize, flags: u32) -> SysResult<usize> {
    at::only(flags, ALL)?;
    if len == 0 {
        return Ok(0);
    }
    let (input, out) = (files::in_use(cur, input)?, files::in_use(cur, out)?);
    if !input.readable() || !out.writable() {
        return Err(Errno::EBADF.into());
    }
    let (Some(from), Some(to)) = (PipeEnd::of_file(&input), PipeEnd::of_file(&out)) else {
        return Err(Errno::EINVAL.into());
    };
    if from.is_same_pipe(to) {
        return Err(Errno::EINVAL.into());
    }
    let nonblock = flags & NONBLOCK != 0 || input.nonblock() || out.nonblock();
    if !wait_for_data(&input, from, nonblock)? {
        return Ok(0);
    }
    wait_for_room(cur, &out, to, nonblock)?;
    let mut done = 0;
    for buf in from.copies(len, to.room())? {
        let n = buf.data().len();
        if to.put_buf(buf).is_err() {
            break;
        }
        done += n;
    }
    Ok(done)
}

/// `vmsplice(2)`. The pages are copied.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EFAULT`, `EAGAIN`, `EPIPE`, `ENOMEM`.
pub fn sys_vmsplice(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize, flags: u32) -> SysResult<usize> {
    at::only(flags, ALL)?;
    let file = files::in_use(cur, fd)?;
    if !file.readable() && !file.writable() {
        return Err(Errno::EBADF.into());
    }
    // O_NONBLOCK does not count.
    let nonblock = flags & NONBLOCK != 0;
    with_vecs(vecs, count, |vecs| {
        let mut src = IoSrc::user(vecs);
        if src.left() == 0 {
            return Ok(0);
        }
        let pipe = PipeEnd::of_file(&file).ok_or(Errno::EBADF)?;
        if !file.writable() {
            if !wait_for_data(&file, pipe, nonblock)? {
                return Ok(0);
            }
            let place = Place { pos: None, flags: linux::RWF_NOWAIT };
            return read_file(&cur.op_ctx(), &file, &mut IoDst::user(vecs), place);
        }
        wait_for_room(cur, &file, pipe, nonblock)?;
        let mut done = 0;
        // A buffer for each page of the guest's that the data touches.
        while pipe.room() > 0 {
            let (addr, len) = match src.piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            };
            let n = len.min(PAGE - (addr % PAGE as u64) as usize);
            let mut page = Page::new()?;
            match src.take(&mut page.bytes()[..n]) {
                Ok(taken) if taken == n => {}
                _ if done > 0 => break,
                _ => return Err(Errno::EFAULT.into()),
            }
            if pipe.put_buf(Buf::new(page, n, false, false)).is_err() {
                break;
            }
            done += n;
        }
        Ok(done)
    })
}

/// Moves up to `len` bytes from one file to another through a kernel buffer. Positions that are
/// `None` are the files' own.
fn copy(
    cur: &CurrentTask,
    (input, mut from): (&OpenFile, Option<u64>),
    (output, mut to): (&OpenFile, Option<u64>),
    len: usize,
) -> SysResult<(usize, Option<u64>, Option<u64>)> {
    const CHUNK: usize = 64 << 10;
    let ctx = cur.op_ctx();
    let mut buf: Vec<u8> = Vec::new();
    let size = CHUNK.min(len);
    buf.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    buf.resize(size, 0);
    let mut done = 0;
    // A stream's data is gone once read, so from there only as much is taken as there is to give.
    while done < len && (done == 0 || !cur.is_dying()) {
        let want = size.min(len - done);
        let place = Place { pos: from, flags: 0 };
        let got = match IoDst::with_kernel(&mut buf[..want], |dst| read_file(&ctx, input, dst, place)) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        let place = Place { pos: to, flags: 0 };
        let put = IoSrc::with_kernel(&buf[..got], |src| write_file(cur, &ctx, output, src, place));
        let n = *put.as_ref().unwrap_or(&0);
        done += n;
        from = from.map(|p| p + n as u64);
        to = to.map(|p| p + n as u64);
        if n < got && from.is_none() && input.ops.seekable() {
            *input.offset.lock() -= (got - n) as u64;
        }
        match put {
            Ok(n) if n < got => break,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
            Ok(_) if !input.ops.seekable() => break,
            Ok(_) => {}
        }
    }
    Ok((done, from, to))
}

fn raw_pos(at: UserPtr<i64>) -> SysResult<Option<i64>> {
    Ok(at.option().map(|p| p.read()).transpose()?)
}

/// A position that was given for a file.
fn checked_pos(file: &OpenFile, pos: Option<i64>) -> SysResult<Option<u64>> {
    let Some(pos) = pos else { return Ok(None) };
    if !has_positions(file) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Some(u64::try_from(pos).map_err(|_| Errno::EINVAL)?))
}

fn write_pos(at: UserPtr<i64>, pos: Option<u64>) -> SysResult<()> {
    match (at.option(), pos) {
        (Some(p), Some(pos)) => Ok(p.write(pos as i64)?),
        _ => Ok(()),
    }
}

/// `sendfile(2)`.
pub fn sys_sendfile(cur: &CurrentTask, out: Fd, input: Fd, at: UserPtr<i64>, len: usize) -> SysResult<usize> {
    let from = raw_pos(at)?;
    let input = files::in_use(cur, input)?;
    if !input.readable() {
        return Err(Errno::EBADF.into());
    }
    if from.is_some() && !has_positions(&input) {
        return Err(Errno::ESPIPE.into());
    }
    let from = checked_pos(&input, from)?;
    let out = files::in_use(cur, out)?;
    if !out.writable() {
        return Err(Errno::EBADF.into());
    }
    // What cannot be read again must not be lost on the way: it goes to a pipe only.
    let to_pipe = PipeEnd::of_file(&out);
    let fits = if to_pipe.is_some() { PipeEnd::of_file(&input).is_none() } else { has_positions(&input) };
    if !fits || !moves(&input) || !moves(&out) {
        return Err(Errno::EINVAL.into());
    }
    let len = len.min(MAX_COUNT);
    let (n, from) = match to_pipe {
        None if out.flags() & O_APPEND != 0 => return Err(Errno::EINVAL.into()),
        _ if len == 0 => return Ok(0),
        Some(pipe) => fill(cur, (&input, from), (&out, pipe), len, out.nonblock())?,
        None => {
            let (n, from, _) = copy(cur, (&input, from), (&out, None), len)?;
            (n, from)
        }
    };
    write_pos(at, from)?;
    Ok(n)
}

/// `copy_file_range(2)`.
pub fn sys_copy_file_range(
    cur: &CurrentTask,
    input: Fd,
    at_in: UserPtr<i64>,
    out: Fd,
    at_out: UserPtr<i64>,
    len: usize,
    flags: u32,
) -> SysResult<usize> {
    let (input, out) = (files::in_use(cur, input)?, files::in_use(cur, out)?);
    let (from, to) = (raw_pos(at_in)?, raw_pos(at_out)?);
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let kinds = [input.inode.file_type(), out.inode.file_type()];
    if kinds.contains(&FileType::Dir) {
        return Err(Errno::EISDIR.into());
    }
    if kinds != [FileType::Regular; 2] {
        return Err(Errno::EINVAL.into());
    }
    if !input.ops.seekable() || !out.ops.seekable() {
        return Err(Errno::EXDEV.into());
    }
    if !input.readable() || !out.writable() || out.flags() & linux::O_APPEND != 0 {
        return Err(Errno::EBADF.into());
    }
    let (a, b) = (input.inode.identity()?, out.inode.identity()?);
    if a.0 != b.0 {
        return Err(Errno::EXDEV.into());
    }
    let at = |file: &OpenFile, pos: Option<i64>| pos.map_or_else(|| *file.offset.lock(), |p| p as u64);
    let (first, to_first) = (at(&input, from), at(&out, to));
    if first.checked_add(len as u64).is_none() || to_first.checked_add(len as u64).is_none() {
        return Err(Errno::EOVERFLOW.into());
    }
    let there = input.ops.seek_to(&input, Whence::End, 0)?.saturating_sub(first);
    let len = len.min(MAX_COUNT).min(usize::try_from(there).unwrap_or(usize::MAX));
    if a == b && len > 0 && first < to_first.saturating_add(len as u64) && to_first < first.saturating_add(len as u64) {
        return Err(Errno::EINVAL.into());
    }
    let (from, to) = (checked_pos(&input, from)?, checked_pos(&out, to)?);
    let (n, from, to) = copy(cur, (&input, from), (&out, to), len)?;
    write_pos(at_in, from)?;
    write_pos(at_out, to)?;
    Ok(n)
}
