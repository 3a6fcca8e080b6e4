//! `read`, `write` and their relatives, `lseek`.
//!
//! The one place where input and output block: a file says `EAGAIN` and announces readiness on its
//! wait queue; here the task sleeps.

use super::Fd;
use super::files;
use crate::abi::linux::{self, RWF_APPEND};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::mm::{IoDst, IoSrc, IoVec, UserPtr, UserSlice, accessible};
use crate::sync::{Events, wait};
use crate::task::CurrentTask;
use crate::task::io_count::{self, Io};
use crate::time;
use crate::vfs::{self, FileType, OpCtx, OpenFile, Whence, marks, notify};
use alloc::vec::Vec;
use arrayvec::ArrayVec;

/// Most bytes that one call moves (`MAX_RW_COUNT`).
pub(super) const MAX_COUNT: usize = 0x7fff_f000;
/// Size of a page.
const PAGE: usize = 4096;
/// Of how many bytes of a guest's the pages are touched at once.
const STEP: usize = 64 << 10;
/// Most pieces of a vector (`UIO_MAXIOV`).
const MAX_VECS: usize = 1024;
/// `RWF_NOAPPEND`: a write goes to its position, whatever `O_APPEND` says.
const RWF_NOAPPEND: u32 = 0x20;
/// `RWF_NOSIGNAL`: a write that nobody will read raises no SIGPIPE.
const RWF_NOSIGNAL: u32 = 0x100;
/// `RWF_*` that are understood: HIPRI, DSYNC, SYNC, NOWAIT, APPEND, NOAPPEND, NOSIGNAL.
pub(super) const RWF_KNOWN: u32 = 0x13f;

/// Runs `attempt` until it does not say `EAGAIN`, sleeping in between unless the file is non-blocking.
#[inline(always)]
pub(super) fn block<T>(
    file: &OpenFile,
    events: Events,
    nowait: bool,
    mut attempt: impl FnMut() -> SysResult<T>,
) -> SysResult<T> {
    // Results are taken apart on the way: copied whole, they would be read back wider than they were
    // written, which stalls.
    match attempt() {
        Ok(value) => Ok(value),
        Err(SysError::Errno(Errno::EAGAIN)) if !nowait && !file.nonblock() => match file.ops.wait_queue() {
            Some(queue) => {
                let limit = file.ops.wait_limit(events);
                match wait::block_on(queue, events, limit.map(time::deadline_in), attempt) {
                    // A call that would wait anew for all of its time is not begun again.
                    Err(SysError::Restart(_)) if limit.is_some() => Err(Errno::EINTR.into()),
                    other => other,
                }
            }
            None => Err(Errno::EAGAIN.into()),
        },
        Err(e) => Err(e),
    }
}

/// Where the data is in the file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// `None`: at the description's offset, which moves.
    pub pos: Option<u64>,
    /// `RWF_*`.
    pub flags: u32,
}

const HERE: Place = Place { pos: None, flags: 0 };

impl Place {
    fn at(pos: i64) -> SysResult<Place> {
        let pos = u64::try_from(pos).map_err(|_| Errno::EINVAL)?;
        Ok(Place { pos: Some(pos), flags: 0 })
    }
    fn nowait(self) -> bool {
        self.flags & linux::RWF_NOWAIT != 0
    }
}

/// Whether `pread` and `pwrite` work: the file has an offset, here or on the host.
pub(super) fn has_positions(file: &OpenFile) -> bool {
    file.ops.has_positions() || file.ops.host_seek(linux::SEEK_CUR, 0).is_some()
}

/// Whether `len` bytes from `pos` on end behind every possible position.
fn past_all(pos: u64, len: usize) -> bool {
    pos.checked_add(len as u64).is_none_or(|end| end > i64::MAX as u64)
}

/// Reads from an open file into `dst`, at the file's offset or at `place`.
// Inlined like its hot callers: each frame above a host call costs a misprediction on the way back.
#[inline(always)]
pub(super) fn read_file(ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, place: Place) -> SysResult<usize> {
    let n = read_quietly(ctx, file, dst, place)?;
    io_count::count(Io::Read, n);
    notify::transferred(file, n, false);
    Ok(n)
}

/// About how many bytes a read of `room` bytes at the file's offset will give.
#[inline(always)]
fn to_come(file: &OpenFile, room: usize) -> usize {
    if room <= PAGE {
        return room;
    }
    let size = file.ops.seek_to(file, Whence::End, 0).unwrap_or(0);
    let left = size.saturating_sub(*file.offset.lock());
    room.min(left.min(STEP as u64) as usize).max(PAGE)
}

#[inline(always)]
fn read_quietly(ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, place: Place) -> SysResult<usize> {
    let seekable = file.ops.seekable();
    if place.pos.is_some() && !seekable && !has_positions(file) {
        return Err(Errno::ESPIPE.into());
    }
    if !file.readable() {
        return Err(Errno::EBADF.into());
    }
    if place.pos.is_some_and(|pos| past_all(pos, dst.left())) {
        return Err(Errno::EINVAL.into());
    }
    dst.limit(MAX_COUNT);
    marks::ask_read(file)?;
    if seekable && place.pos.is_none() {
        let first = to_come(file, dst.left());
        return dst.under_lock(first, |dst| {
            let mut offset = file.offset.lock();
            let n = file.ops.read(ctx, file, dst, *offset)?;
            *offset += n as u64;
            Ok(n)
        });
    }
    let pos = place.pos.unwrap_or(vfs::HERE);
    match block(file, Events::IN, place.nowait(), || file.ops.read(ctx, file, dst, pos)) {
        Ok(n) => Ok(n),
        // It waited for more than there was (`SO_RCVLOWAT`).
        Err(_) if dst.done() > 0 => Ok(dst.done()),
        Err(e) => Err(e),
    }
}

/// Writes from `src` to an open file; raises SIGPIPE and SIGXFSZ.
pub(super) fn write_file(
    cur: &CurrentTask,
    ctx: &OpCtx<'_>,
    file: &OpenFile,
    src: &mut IoSrc<'_>,
    place: Place,
) -> SysResult<usize> {
    let seekable = file.ops.seekable();
    if place.pos.is_some() && !seekable && !has_positions(file) {
        return Err(Errno::ESPIPE.into());
    }
    if !file.writable() {
        return Err(Errno::EBADF.into());
    }
    src.limit(MAX_COUNT);
    let out = if !seekable {
        write_stream(cur, ctx, file, src, place)
    } else if let Some(pos) = place.pos {
        write_at(ctx, file, src, start(file, pos, place)?)
    } else {
        src.under_lock(src.left().min(STEP), |src| {
            let mut offset = file.offset.lock();
            let pos = start(file, *offset, place)?;
            let n = write_at(ctx, file, src, pos)?;
            let append = file.flags() & linux::O_APPEND != 0;
            *offset = match n {
                0 => *offset,
                _ if append => file.append_end(),
                n => pos + n as u64,
            };
            Ok(n)
        })
    };
    match out {
        Ok(n) => {
            io_count::count(Io::Wrote, n);
            notify::transferred(file, n, true);
            if place.flags & (linux::RWF_DSYNC | linux::RWF_SYNC) != 0 || file.flags() & linux::O_DSYNC != 0 {
                match file.ops.sync(file.flags() & linux::O_SYNC != linux::O_SYNC) {
                    // What has nothing to bring to a disk is written.
                    Ok(()) | Err(SysError::Errno(Errno::EINVAL)) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(n)
        }
        Err(e) => {
            match e {
                SysError::Errno(Errno::EPIPE) if place.flags & RWF_NOSIGNAL == 0 && file.ops.raises_sigpipe(0) => {
                    files::broken_pipe(cur);
                }
                SysError::Errno(Errno::EFBIG) if ctx.fsize_limit < i64::MAX as u64 => files::too_big(cur),
                _ => {}
            }
            Err(e)
        }
    }
}

/// Where a write begins that is to begin at `pos`.
#[inline(always)]
fn start(file: &OpenFile, pos: u64, place: Place) -> Result<u64> {
    if place.flags & RWF_APPEND != 0 { file.ops.seek_to(file, Whence::End, 0) } else { Ok(pos) }
}

fn write_at(ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
    if past_all(pos, src.left()) {
        return Err(Errno::EINVAL.into());
    }
    file.ops.write(ctx, file, src, pos)
}

/// A stream takes what it has room for; a blocking write waits until all is written.
fn write_stream(
    cur: &CurrentTask,
    ctx: &OpCtx<'_>,
    file: &OpenFile,
    src: &mut IoSrc<'_>,
    place: Place,
) -> SysResult<usize> {
    let whole = file.ops.writes_all();
    let mut done = 0;
    let out = block(file, Events::OUT, place.nowait(), || {
        loop {
            let n = file.ops.write(ctx, file, src, place.pos.unwrap_or(vfs::HERE))?;
            done += n;
            // What was taken need not be all that there was room for, and of room that was left nobody tells.
            if !whole || n == 0 || src.left() == 0 {
                return Ok(());
            }
        }
    });
    match out {
        Ok(()) => Ok(done),
        // SIGPIPE is raised for the part that nobody took, what was taken counts.
        Err(SysError::Errno(Errno::EPIPE)) if done > 0 && file.ops.raises_sigpipe(done) => {
            if place.flags & RWF_NOSIGNAL == 0 {
                files::broken_pipe(cur);
            }
            Ok(done)
        }
        Err(_) if done > 0 => Ok(done),
        Err(e) => Err(e),
    }
}

/// Of what one call moves to or from a file at most so much is moved before it is looked whether the thread
/// must end, bytes.
const CHUNK: usize = 4 << 20;

/// Moves much, by `step` for each piece (buffer, place), until one is not moved wholly or the thread must
/// end.
#[cold]
#[inline(never)]
fn in_chunks(
    cur: &CurrentTask,
    buf: UserPtr<u8>,
    len: usize,
    place: Place,
    mut step: impl FnMut(&[IoVec], Place) -> SysResult<usize>,
) -> SysResult<usize> {
    let len = len.min(MAX_COUNT);
    let mut done = 0;
    while done < len && (done == 0 || !cur.is_dying()) {
        let want = CHUNK.min(len - done);
        let place = Place { pos: place.pos.map(|p| p.saturating_add(done as u64)), ..place };
        match step(&[IoVec { base: buf.addr().wrapping_add(done as u64), len: want as u64 }], place) {
            Ok(n) => {
                done += n;
                if n < want {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Whether the buffer can be one, if the file was opened for this at all.
#[inline(always)]
fn check_buffer(buf: UserPtr<u8>, len: usize, may: bool) -> Result {
    if may { accessible(buf.addr(), len as u64) } else { Err(Errno::EBADF) }
}

/// `read(2)`.
#[inline(always)]
pub fn sys_read(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, len: usize) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    check_buffer(buf, len, file.readable())?;
    if len > CHUNK && file.ops.seekable() {
        return in_chunks(cur, buf, len, HERE, |v, at| read_file(&cur.op_ctx(), &file, &mut IoDst::user(v), at));
    }
    let vecs = [IoVec { base: buf.addr(), len: len.min(MAX_COUNT) as u64 }];
    read_file(&cur.op_ctx(), &file, &mut IoDst::user(&vecs), HERE)
}

/// `write(2)`.
pub fn sys_write(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, len: usize) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    check_buffer(buf, len, file.writable())?;
    if len > CHUNK && file.ops.seekable() {
        return in_chunks(cur, buf, len, HERE, |v, at| write_file(cur, &cur.op_ctx(), &file, &mut IoSrc::user(v), at));
    }
    let vecs = [IoVec { base: buf.addr(), len: len.min(MAX_COUNT) as u64 }];
    write_file(cur, &cur.op_ctx(), &file, &mut IoSrc::user(&vecs), HERE)
}

/// `pread64(2)`.
#[inline(always)]
pub fn sys_pread64(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, len: usize, pos: i64) -> SysResult<usize> {
    let place = Place::at(pos)?;
    let file = files::in_use(cur, fd)?;
    if len > CHUNK && file.ops.seekable() {
        return in_chunks(cur, buf, len, place, |v, at| read_file(&cur.op_ctx(), &file, &mut IoDst::user(v), at));
    }
    let vecs = [IoVec { base: buf.addr(), len: len.min(MAX_COUNT) as u64 }];
    read_file(&cur.op_ctx(), &file, &mut IoDst::user(&vecs), place)
}

/// `pwrite64(2)`.
pub fn sys_pwrite64(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, len: usize, pos: i64) -> SysResult<usize> {
    let place = Place::at(pos)?;
    let file = files::in_use(cur, fd)?;
    if len > CHUNK && file.ops.seekable() {
        return in_chunks(cur, buf, len, place, |v, at| write_file(cur, &cur.op_ctx(), &file, &mut IoSrc::user(v), at));
    }
    let vecs = [IoVec { base: buf.addr(), len: len.min(MAX_COUNT) as u64 }];
    write_file(cur, &cur.op_ctx(), &file, &mut IoSrc::user(&vecs), place)
}

/// Runs `f` with the pieces that a user vector names; short vectors stay on the stack.
pub(super) fn with_vecs<R>(
    vecs: UserPtr<IoVec>,
    count: usize,
    f: impl FnOnce(&[IoVec]) -> SysResult<R>,
) -> SysResult<R> {
    if count > MAX_VECS {
        return Err(Errno::EINVAL.into());
    }
    let vecs: UserSlice<IoVec> = vecs.slice(count);
    let checked = |v: &[IoVec]| -> Result {
        if v.iter().any(|v| v.len > i64::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        v.iter().try_for_each(|v| accessible(v.base, v.len))
    };
    if count <= 8 {
        let mut few: ArrayVec<IoVec, 8> = core::iter::repeat_n(IoVec::default(), count).collect();
        vecs.read_into(&mut few)?;
        checked(&few)?;
        return f(&few);
    }
    let many: Vec<IoVec> = vecs.read_vec()?;
    checked(&many)?;
    f(&many)
}

/// Terminals and tmpfs cannot say beforehand whether they would wait (`FMODE_NOWAIT`).
fn check_nowait(file: &OpenFile, place: Place) -> Result {
    let knows = || !file.ops.is_tty() && file.ops.knows_waits();
    if place.nowait() && !knows() { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

/// What comes before the vector is looked at: positions, and whether the file was opened for this.
fn check_open(file: &OpenFile, place: Place, may: bool) -> SysResult<()> {
    if place.pos.is_some() && !has_positions(file) {
        return Err(Errno::ESPIPE.into());
    }
    if may { Ok(()) } else { Err(Errno::EBADF.into()) }
}

/// The flags are looked at last, once there is something to move.
fn check_flags(place: Place, writes: bool) -> SysResult<()> {
    const BOTH: u32 = RWF_APPEND | RWF_NOAPPEND;
    match place.flags {
        f if f & !RWF_KNOWN != 0 => Err(Errno::EOPNOTSUPP.into()),
        f if writes && f & BOTH == BOTH => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

fn readv(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize, place: Place) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    check_open(&file, place, file.readable())?;
    let n = with_vecs(vecs, count, |v| {
        let mut dst = IoDst::user(v);
        if dst.left() == 0 {
            return Ok(0);
        }
        // Directories are not read by vectors, whose flags alone are looked at.
        if place.flags & !linux::RWF_HIPRI != 0 && file.inode.file_type() == FileType::Dir {
            return Err(Errno::EOPNOTSUPP.into());
        }
        check_flags(place, false)?;
        check_nowait(&file, place)?;
        read_file(&cur.op_ctx(), &file, &mut dst, place)
    })?;
    // Vectors are told of even where there was nothing to read (`vfs_readv` in Linux).
    if n == 0 && notify::active() {
        notify::accessed(&file, false);
    }
    Ok(n)
}

fn writev(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize, place: Place) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    check_open(&file, place, file.writable())?;
    with_vecs(vecs, count, |v| {
        let mut src = IoSrc::user(v);
        if src.left() == 0 {
            return Ok(0);
        }
        if place.flags & !linux::RWF_HIPRI != 0 && !file.ops.takes_write_flags() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        check_flags(place, true)?;
        check_nowait(&file, place)?;
        write_file(cur, &cur.op_ctx(), &file, &mut src, place)
    })
}

/// `readv(2)`.
pub fn sys_readv(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize) -> SysResult<usize> {
    readv(cur, fd, vecs, count, HERE)
}

/// `writev(2)`.
pub fn sys_writev(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize) -> SysResult<usize> {
    writev(cur, fd, vecs, count, HERE)
}

/// `preadv(2)`.
pub fn sys_preadv(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize, pos: i64) -> SysResult<usize> {
    readv(cur, fd, vecs, count, Place::at(pos)?)
}

/// `pwritev(2)`.
pub fn sys_pwritev(cur: &CurrentTask, fd: Fd, vecs: UserPtr<IoVec>, count: usize, pos: i64) -> SysResult<usize> {
    writev(cur, fd, vecs, count, Place::at(pos)?)
}

fn place2(pos: i64, flags: u32) -> SysResult<Place> {
    let place = if pos == -1 { HERE } else { Place::at(pos)? };
    Ok(Place { flags, ..place })
}

/// `preadv2(2)`. The fifth register is the upper half of the position, unused on 64-bit machines.
pub fn sys_preadv2(
    cur: &CurrentTask,
    fd: Fd,
    vecs: UserPtr<IoVec>,
    count: usize,
    pos: i64,
    _high: u64,
    flags: u32,
) -> SysResult<usize> {
    readv(cur, fd, vecs, count, place2(pos, flags)?)
}

/// `pwritev2(2)`.
pub fn sys_pwritev2(
    cur: &CurrentTask,
    fd: Fd,
    vecs: UserPtr<IoVec>,
    count: usize,
    pos: i64,
    _high: u64,
    flags: u32,
) -> SysResult<usize> {
    writev(cur, fd, vecs, count, place2(pos, flags)?)
}

/// `lseek(2)`.
pub fn sys_lseek(cur: &CurrentTask, fd: Fd, offset: i64, whence: u32) -> SysResult<u64> {
    let file = files::in_use(cur, fd)?;
    if whence > linux::SEEK_MAX {
        return Err(Errno::EINVAL.into());
    }
    if let Some(host) = file.ops.host_seek(whence, offset) {
        return Ok(host?);
    }
    if !file.ops.seekable() {
        // What has no type has a position that nothing moves.
        let still = file.inode.file_type() == FileType::Anonymous && file.ops.has_still_offset();
        return if still { Ok(0) } else { Err(Errno::ESPIPE.into()) };
    }
    let mut at = file.offset.lock();
    let base = match whence {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => *at as i64,
        linux::SEEK_END => file.ops.seek_to(&file, Whence::End, 0)? as i64,
        linux::SEEK_DATA => {
            *at = file.ops.seek_to(&file, Whence::Data, offset)?;
            return Ok(*at);
        }
        _ => {
            *at = file.ops.seek_to(&file, Whence::Hole, offset)?;
            return Ok(*at);
        }
    };
    let to = base.checked_add(offset).filter(|&p| p >= 0).ok_or(if base > 0 && offset > 0 {
        Errno::EOVERFLOW
    } else {
        Errno::EINVAL
    })?;
    *at = to as u64;
    Ok(*at)
}
