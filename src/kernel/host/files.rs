//! Host file calls.

use super::{HostFd, window};
use crate::abi::Restart;
use crate::abi::control::Naming;
use crate::abi::{Errno, Result, SysError, SysResult, linux};
use crate::arch;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

fn call(nr: u32, a: [u64; 6]) -> Result<u64> {
    // SAFETY: every pointer below is to a live buffer of ours of the stated size, or is guest memory
    // that the caller checked; the host reports a bad one as EFAULT.
    Errno::check(unsafe { arch::syscall(nr, a) })
}

fn cstr<'a>(path: &[u8], buf: &'a mut [MaybeUninit<u8>; 4097]) -> Result<&'a [MaybeUninit<u8>]> {
    if path.len() > 4095 {
        return Err(Errno::ENAMETOOLONG);
    }
    for (b, p) in buf.iter_mut().zip(path) {
        b.write(*p);
    }
    buf[path.len()].write(0);
    Ok(&buf[..path.len() + 1])
}

/// Runs `f` with `path` as a C string.
fn with_path<R>(path: &[u8], f: impl FnOnce(u64) -> Result<R>) -> Result<R> {
    let mut buf = [const { MaybeUninit::uninit() }; 4097];
    let c = cstr(path, &mut buf)?;
    f(c.as_ptr() as u64)
}

/// `openat` below a descriptor; always close-on-exec. Not for `O_PATH`, which is [`open_place`]'s.
///
/// # Errors
/// The host's.
pub fn openat(dir: i32, path: &[u8], flags: u32, mode: u32) -> Result<HostFd> {
    let flags = flags | linux::O_CLOEXEC | linux::O_NOCTTY;
    with_path(path, |p| call(linux::__NR_openat, [dir as i64 as u64, p, u64::from(flags), u64::from(mode), 0, 0]))
        .map(|fd| HostFd::new(fd as i32))
}

/// What has a name below a descriptor (`O_PATH`); a last symlink is not followed.
///
/// # Errors
/// The host's.
pub fn open_place(dir: i32, path: &[u8]) -> Result<HostFd> {
    let Some(naming) = window::naming() else { return openat(dir, path, linux::O_PATH | linux::O_NOFOLLOW, 0) };
    with_path(path, |p| call(linux::__NR_openat2, [dir as i64 as u64, p, naming, Naming::HOW_LEN, 0, 0]))
        .map(|fd| HostFd::new(fd as i32))
}

/// `statx` of a name below a descriptor, without following a last symlink; an empty name is the
/// descriptor itself.
///
/// # Errors
/// The host's.
pub fn statx(dir: i32, path: &[u8]) -> Result<linux::statx> {
    match window::naming() {
        Some(_) if path.is_empty() => statx_at(dir, 0),
        Some(_) => statx_at(open_place(dir, path)?.raw(), 0),
        None => with_path(path, |p| statx_at(dir, p)),
    }
}

/// `statx` of a C string, or of none, which is the descriptor itself.
fn statx_at(dir: i32, path: u64) -> Result<linux::statx> {
    let mut out = MaybeUninit::<linux::statx>::zeroed();
    let flags = linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH | linux::AT_NO_AUTOMOUNT;
    let mask = linux::STATX_BASIC_STATS | linux::STATX_BTIME;
    call(linux::__NR_statx, [dir as i64 as u64, path, u64::from(flags), u64::from(mask), out.as_mut_ptr() as u64, 0])?;
    // SAFETY: zeroed, then filled.
    Ok(unsafe { out.assume_init() })
}

/// `readlinkat`.
///
/// # Errors
/// The host's.
pub fn readlinkat(dir: i32, path: &[u8]) -> Result<Vec<u8>> {
    match window::naming() {
        Some(naming) if path.is_empty() => readlink_at(dir, naming + Naming::NOTHING),
        Some(naming) => readlink_at(open_place(dir, path)?.raw(), naming + Naming::NOTHING),
        None => with_path(path, |p| readlink_at(dir, p)),
    }
}

/// `readlinkat` of a C string.
fn readlink_at(dir: i32, path: u64) -> Result<Vec<u8>> {
    let mut buf: Vec<u8> = Vec::new();
    buf.try_reserve_exact(4096).map_err(|_| Errno::ENOMEM)?;
    let n = call(linux::__NR_readlinkat, [dir as i64 as u64, path, buf.as_mut_ptr() as u64, 4096, 0, 0])?;
    // SAFETY: the host filled `n` bytes.
    unsafe { buf.set_len(n as usize) };
    Ok(buf)
}

/// `getdents64` into a kernel buffer; 0 at the end.
///
/// # Errors
/// The host's.
pub fn getdents(fd: i32, buf: &mut [u8]) -> Result<usize> {
    call(linux::__NR_getdents64, [fd as u64, buf.as_mut_ptr() as u64, buf.len() as u64, 0, 0, 0]).map(|n| n as usize)
}

/// `lseek`.
///
/// # Errors
/// The host's.
pub fn lseek(fd: i32, offset: i64, whence: u32) -> Result<u64> {
    call(linux::__NR_lseek, [fd as u64, offset as u64, u64::from(whence), 0, 0, 0])
}

/// A nameless file in the host's memory, without a limit of its own.
///
/// # Errors
/// The host's.
pub fn memfd() -> Result<HostFd> {
    let name = c"drupe-file".as_ptr() as u64;
    let fd = call(linux::__NR_memfd_create, [name, u64::from(linux::MFD_CLOEXEC), 0, 0, 0, 0])?;
    Ok(HostFd::new(fd as i32))
}

/// `pread` to a raw address (guest memory that was checked, or a kernel buffer).
///
/// # Errors
/// The host's.
pub fn pread(fd: i32, addr: u64, len: usize, pos: u64) -> Result<usize> {
    call(linux::__NR_pread64, [fd as u64, addr, len as u64, pos, 0, 0]).map(|n| n as usize)
}

/// `pwrite` from a raw address.
///
/// # Errors
/// The host's.
pub fn pwrite(fd: i32, addr: u64, len: usize, pos: u64) -> Result<usize> {
    call(linux::__NR_pwrite64, [fd as u64, addr, len as u64, pos, 0, 0]).map(|n| n as usize)
}

/// Writes at the end of the file, wherever it is, atomically (`pwritev2` with `RWF_APPEND`).
///
/// # Errors
/// The host's.
pub fn append(fd: i32, addr: u64, len: usize) -> Result<usize> {
    let vec = [addr, len as u64];
    let flags = u64::from(linux::RWF_APPEND);
    call(linux::__NR_pwritev2, [fd as u64, vec.as_ptr() as u64, 1, 0, 0, flags]).map(|n| n as usize)
}

/// `fallocate`.
///
/// # Errors
/// The host's.
pub fn fallocate(fd: i32, mode: u32, offset: u64, len: u64) -> Result {
    call(linux::__NR_fallocate, [fd as u64, u64::from(mode), offset, len, 0, 0]).map(drop)
}

fn blocking(nr: u32, a: [u64; 6]) -> SysResult<usize> {
    // SAFETY: as for `call`.
    match Errno::check(unsafe { arch::syscall_blocking(nr, a) }) {
        Ok(n) => Ok(n as usize),
        Err(Errno::EINTR) => Err(SysError::Restart(Restart::Sys)),
        Err(e) => Err(e.into()),
    }
}

/// `read` that may block until a kick.
///
/// # Errors
/// The host's; `Restart::Sys` when kicked.
pub fn read_blocking(fd: i32, addr: u64, len: usize) -> SysResult<usize> {
    blocking(linux::__NR_read, [fd as u64, addr, len as u64, 0, 0, 0])
}

/// `write` that may block until a kick.
///
/// # Errors
/// The host's; `Restart::Sys` when kicked.
pub fn write_blocking(fd: i32, addr: u64, len: usize) -> SysResult<usize> {
    blocking(linux::__NR_write, [fd as u64, addr, len as u64, 0, 0, 0])
}

/// Writes a line for a person in one piece; failures are not told.
pub fn write_text(fd: i32, text: &[u8]) {
    // SAFETY: the host only reads the text.
    unsafe { arch::syscall(linux::__NR_write, [fd as u64, text.as_ptr() as u64, text.len() as u64, 0, 0, 0]) };
}

/// `poll` of one descriptor without waiting; the events that are ready.
///
/// # Errors
/// The host's.
pub fn poll_now(fd: i32, events: u32) -> Result<u32> {
    let mut p = linux::pollfd { fd, events: events as i16, revents: 0 };
    call(linux::__NR_poll, [&raw mut p as u64, 1, 0, 0, 0, 0])?;
    Ok(p.revents as u16 as u32)
}

/// `ioctl` with a raw argument (guest memory that was checked, a kernel buffer or a number).
///
/// # Errors
/// The host's.
pub fn ioctl(fd: i32, request: u32, arg: u64) -> Result<u64> {
    call(linux::__NR_ioctl, [fd as u64, u64::from(request), arg, 0, 0, 0])
}

/// `fstatfs`.
///
/// # Errors
/// The host's.
pub fn fstatfs(fd: i32) -> Result<linux::statfs> {
    let mut out = MaybeUninit::<linux::statfs>::zeroed();
    call(linux::__NR_fstatfs, [fd as u64, out.as_mut_ptr() as u64, 0, 0, 0, 0])?;
    // SAFETY: zeroed, then filled.
    Ok(unsafe { out.assume_init() })
}

/// `fsync` or `fdatasync`.
///
/// # Errors
/// The host's.
pub fn sync(fd: i32, data_only: bool) -> Result {
    call(if data_only { linux::__NR_fdatasync } else { linux::__NR_fsync }, [fd as u64, 0, 0, 0, 0, 0]).map(drop)
}

/// `ftruncate`.
///
/// # Errors
/// The host's.
pub fn ftruncate(fd: i32, len: u64) -> Result {
    call(linux::__NR_ftruncate, [fd as u64, len, 0, 0, 0, 0]).map(drop)
}

/// `mkdirat`.
///
/// # Errors
/// The host's.
pub fn mkdirat(dir: i32, path: &[u8], mode: u32) -> Result {
    with_path(path, |p| call(linux::__NR_mkdirat, [dir as u64, p, u64::from(mode), 0, 0, 0])).map(drop)
}

/// `unlinkat`; `dir_too` removes a directory.
///
/// # Errors
/// The host's.
pub fn unlinkat(dir: i32, path: &[u8], is_dir: bool) -> Result {
    let flags = if is_dir { linux::AT_REMOVEDIR } else { 0 };
    with_path(path, |p| call(linux::__NR_unlinkat, [dir as u64, p, u64::from(flags), 0, 0, 0])).map(drop)
}

/// `symlinkat`.
///
/// # Errors
/// The host's.
pub fn symlinkat(target: &[u8], dir: i32, path: &[u8]) -> Result {
    with_path(target, |t| with_path(path, |p| call(linux::__NR_symlinkat, [t, dir as u64, p, 0, 0, 0]))).map(drop)
}

/// `linkat` that follows: for a name in `/proc/self/fd`.
///
/// # Errors
/// The host's.
pub fn linkat_follow(from_dir: i32, from: &[u8], dir: i32, path: &[u8]) -> Result {
    let flags = u64::from(linux::AT_SYMLINK_FOLLOW);
    with_path(from, |f| with_path(path, |p| call(linux::__NR_linkat, [from_dir as u64, f, dir as u64, p, flags, 0])))
        .map(drop)
}

/// `linkat` without following.
///
/// # Errors
/// The host's.
pub fn linkat(from_dir: i32, from: &[u8], dir: i32, path: &[u8]) -> Result {
    with_path(from, |f| with_path(path, |p| call(linux::__NR_linkat, [from_dir as u64, f, dir as u64, p, 0, 0])))
        .map(drop)
}

/// `renameat2`.
///
/// # Errors
/// The host's.
pub fn renameat(from_dir: i32, from: &[u8], dir: i32, path: &[u8], flags: u32) -> Result {
    with_path(from, |f| {
        with_path(path, |p| call(linux::__NR_renameat2, [from_dir as u64, f, dir as u64, p, u64::from(flags), 0]))
    })
    .map(drop)
}

/// `mknodat`.
///
/// # Errors
/// The host's.
pub fn mknodat(dir: i32, path: &[u8], mode: u32, dev: u64) -> Result {
    with_path(path, |p| call(linux::__NR_mknodat, [dir as u64, p, u64::from(mode), dev, 0, 0])).map(drop)
}

/// `fcntl(F_GETFL)`.
///
/// # Errors
/// The host's.
pub fn get_flags(fd: i32) -> Result<u32> {
    call(linux::__NR_fcntl, [fd as u64, u64::from(linux::F_GETFL), 0, 0, 0, 0]).map(|f| f as u32)
}
