//! Descriptors and what they lead to: `dup`, `fcntl`, `flock`, `ioctl`.

use super::Fd;
use super::files::{self, nofile};
use super::owner;
use crate::abi::linux::{self, O_APPEND, O_CLOEXEC, O_DIRECT, O_NOATIME, O_NONBLOCK};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::fs::devpts;
use crate::fs::pipe::PipeEnd;
use crate::mm::UserPtr;
use crate::sync::left::Kept;
use crate::task::{CurrentTask, kernel};
use crate::vfs::async_io::O_ASYNC;
use crate::vfs::lease;
use crate::vfs::locks::{Owner, Range};
use crate::vfs::open::open_at;
use crate::vfs::{FdTable, FileType, OpenFile, Whence, access};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::ioctl;

/// Size of a file (`ioctl_list(2)`).
const FIOQSIZE: u32 = 0x5460;
/// Block of a file on its device.
const FIBMAP: u32 = 1;
/// See `ioctl_ficlonerange(2)`.
const FICLONE: u32 = 0x4004_9409;
/// As [`FICLONE`].
const FICLONERANGE: u32 = 0x4020_940d;
/// Extents of a file.
const FS_IOC_FIEMAP: u32 = 0xc020_660b;

/// How long what is written to a file will live (`fcntl(2)`).
const F_GET_RW_HINT: u32 = 1035;
/// See [`F_GET_RW_HINT`].
const F_SET_RW_HINT: u32 = 1036;
/// The last of the hints (`RWH_WRITE_LIFE_EXTREME`).
const LAST_HINT: u64 = 5;

/// `FD_CLOEXEC`.
const FD_CLOEXEC: u64 = 1;

/// `dup(2)`.
pub fn sys_dup(cur: &CurrentTask, fd: Fd) -> SysResult<Fd> {
    let file = cur.files().get_any(fd.0)?;
    files::install(cur, file, 0)
}

fn dup_to(cur: &CurrentTask, file: Arc<OpenFile>, to: Fd, cloexec: bool) -> SysResult<Fd> {
    if let Some(old) = cur.files().install_at(to.0, file, cloexec, nofile(cur))? {
        cur.files().closed(&cur.op_ctx(), &old);
    }
    Ok(to)
}

/// `dup2(2)`.
pub fn sys_dup2(cur: &CurrentTask, fd: Fd, to: Fd) -> SysResult<Fd> {
    let file = cur.files().get_any(fd.0)?;
    if fd == to {
        return Ok(to);
    }
    dup_to(cur, file, to, false)
}

/// `dup3(2)`.
pub fn sys_dup3(cur: &CurrentTask, fd: Fd, to: Fd, flags: u32) -> SysResult<Fd> {
    if flags & !O_CLOEXEC != 0 || fd == to {
        return Err(Errno::EINVAL.into());
    }
    let file = cur.files().get_any(fd.0)?;
    dup_to(cur, file, to, flags & O_CLOEXEC != 0)
}

/// `fcntl(2)`.
pub fn sys_fcntl(cur: &CurrentTask, fd: Fd, command: u32, arg: u64) -> SysResult<u64> {
    let file = cur.files().get_any(fd.0)?;
    match command {
        linux::F_DUPFD => dup_from(cur, file, arg, false),
        linux::F_DUPFD_CLOEXEC => dup_from(cur, file, arg, true),
        linux::F_GETFD => Ok(u64::from(cur.files().cloexec(fd.0)?)),
        linux::F_SETFD => {
            cur.files().set_cloexec(fd.0, arg & FD_CLOEXEC != 0)?;
            Ok(0)
        }
        linux::F_GETFL => Ok(u64::from(file.flags())),
        linux::F_DUPFD_QUERY => {
            let other = cur.files().get_any(arg as i32)?;
            Ok(u64::from(Arc::ptr_eq(&file, &other)))
        }
        _ if file.flags() & linux::O_PATH != 0 => Err(Errno::EBADF.into()),
        linux::F_SETFL => {
            set_flags(cur, fd, &file, arg as u32)?;
            Ok(0)
        }
        linux::F_SETOWN
        | linux::F_GETOWN
        | linux::F_SETSIG
        | linux::F_GETSIG
        | linux::F_SETOWN_EX
        | linux::F_GETOWN_EX
        | linux::F_GETOWNER_UIDS => owner::fcntl(cur, &file, command, arg),
        linux::F_NOTIFY => {
            if file.watch_directory(cur.files().owner(), fd.0, arg as u32)? {
                owner::claim(cur, &file);
            }
            Ok(0)
        }
        linux::F_GETLK | linux::F_OFD_GETLK => get_lock(cur, &file, command, UserPtr::new(arg)),
        linux::F_SETLK | linux::F_SETLKW | linux::F_OFD_SETLK | linux::F_OFD_SETLKW => {
            set_lock(cur, fd, &file, command, UserPtr::new(arg))
        }
        linux::F_GETPIPE_SZ | linux::F_SETPIPE_SZ if PipeEnd::of_file(&file).is_none() => Err(Errno::EBADF.into()),
        F_GET_RW_HINT | F_SET_RW_HINT => write_hint(cur, &file, command, UserPtr::new(arg)),
        linux::F_GETLEASE => Ok(u64::from(lease::held(&file))),
        linux::F_SETLEASE => set_lease(cur, fd, &file, arg as u32),
        _ => file.ops.fcntl(&cur.op_ctx(), &file, command, arg),
    }
}

/// Leases are broken by opening and `truncate(2)`; nobody is told of what a name of the file goes through.
fn set_lease(cur: &CurrentTask, fd: Fd, file: &Arc<OpenFile>, kind: u32) -> SysResult<u64> {
    lease::set((cur.cred(), cur.group.pid), file, fd.0, kind, || read_by_others(file))?;
    if kind == linux::F_UNLCK {
        file.async_io.forget_lease();
    } else {
        owner::claim(cur, file);
    }
    Ok(0)
}

/// Whether a process has a description of the same file that can only read. Only write leases ask, so openers do not count.
fn read_by_others(file: &OpenFile) -> bool {
    let reads = |other: &OpenFile| {
        other.id != file.id
            && other.readable()
            && !other.writable()
            && other.flags() & linux::O_PATH == 0
            && Arc::ptr_eq(&other.inode, &file.inode)
    };
    let in_table = |files: &FdTable| files.numbers().into_iter().any(|fd| files.get_any(fd).is_ok_and(|f| reads(&f)));
    let mut seen = BTreeSet::new();
    kernel().roots().pid.tasks().iter().filter_map(|task| task.shared()).any(|own| {
        // Threads share tables.
        seen.insert(own.files.owner()) && in_table(&own.files)
    })
}

fn dup_from(cur: &CurrentTask, file: Arc<OpenFile>, min: u64, cloexec: bool) -> SysResult<u64> {
    let min = i32::try_from(min as i64).ok().filter(|&m| m >= 0 && (m as u64) < nofile(cur)).ok_or(Errno::EINVAL)?;
    Ok(cur.files().install(file, cloexec, min, nofile(cur))? as u64)
}

fn set_flags(cur: &CurrentTask, fd: Fd, file: &OpenFile, flags: u32) -> Result {
    const MAY: u32 = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
    if (file.flags() ^ flags) & O_APPEND != 0 && file.inode.append_only() {
        return Err(Errno::EPERM);
    }
    if flags & O_NOATIME != 0 && file.flags() & O_NOATIME == 0 {
        access::check_owner(cur.cred(), &*file.inode)?;
    }
    // Of pipes it is another thing; else only files with pages of their own can do without.
    let kind = file.inode.file_type();
    if flags & O_DIRECT != 0 && kind != FileType::Fifo && !(kind == FileType::Regular && file.ops.seekable()) {
        return Err(Errno::EINVAL);
    }
    if (file.flags() ^ flags) & O_ASYNC != 0 && owner::has_signals(file) {
        owner::claim_terminal(cur, file);
        file.set_async(fd.0, flags & O_ASYNC != 0)?;
    }
    file.set_flags(file.flags() & !MAY | flags & MAY);
    Ok(())
}

/// Hints are kept with the file and nobody acts on them, as where the host's device has no use for them.
fn write_hint(cur: &CurrentTask, file: &OpenFile, command: u32, at: UserPtr<u64>) -> SysResult<u64> {
    let hint = &file.inode.state().get(&*file.inode)?.write_hint;
    if command == F_GET_RW_HINT {
        at.write(u64::from(hint.load(Relaxed)))?;
        return Ok(0);
    }
    access::check_owner(cur.cred(), &*file.inode)?;
    let wanted = at.read()?;
    if wanted > LAST_HINT {
        return Err(Errno::EINVAL.into());
    }
    hint.store(wanted as u8, Relaxed);
    Ok(0)
}

/// The bytes that a `struct flock` means, and whether it is of the open file description.
fn range(cur: &CurrentTask, file: &OpenFile, command: u32, l: &linux::flock) -> Result<Range> {
    let base = match u32::try_from(i32::from(l.l_whence)).unwrap_or(u32::MAX) {
        linux::SEEK_SET => 0,
        linux::SEEK_CUR => *file.offset.lock() as i64,
        // What has no size ends where it begins.
        linux::SEEK_END => file.ops.seek_to(file, Whence::End, 0).unwrap_or(0) as i64,
        _ => return Err(Errno::EINVAL),
    };
    let mut start = base.checked_add(l.l_start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let end = match l.l_len {
        0 => u64::MAX,
        n if n > 0 => match start.checked_add(n - 1).ok_or(Errno::EOVERFLOW)? {
            i64::MAX => u64::MAX,
            last => last as u64 + 1,
        },
        n => {
            let end = start as u64;
            start = start.checked_add(n).filter(|&s| s >= 0).ok_or(Errno::EINVAL)?;
            end
        }
    };
    if !matches!(l.l_type as u32, linux::F_RDLCK | linux::F_WRLCK | linux::F_UNLCK) {
        return Err(Errno::EINVAL);
    }
    let ofd = matches!(command, linux::F_OFD_GETLK | linux::F_OFD_SETLK | linux::F_OFD_SETLKW);
    let owner = if ofd { Owner::Description(file.id) } else { Owner::Posix(cur.files().owner()) };
    let pid = if ofd { u32::MAX } else { cur.op_ctx().tgid };
    Ok(Range { owner, pid, write: l.l_type as u32 == linux::F_WRLCK, start: start as u64, end })
}

fn get_lock(cur: &CurrentTask, file: &OpenFile, command: u32, at: UserPtr<linux::flock>) -> SysResult<u64> {
    let mut l = at.read()?;
    let ofd = command == linux::F_OFD_GETLK;
    match l.l_type as u32 {
        linux::F_RDLCK | linux::F_WRLCK => {}
        linux::F_UNLCK if ofd => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    let want = range(cur, file, command, &l)?;
    if ofd && l.l_pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let locks = &file.inode.state().get(&*file.inode)?.locks;
    // The type "none" asks for what the description itself has.
    let own = l.l_type as u32 == linux::F_UNLCK;
    match if own { locks.test_own(&want) } else { locks.test(&want) } {
        None => l.l_type = linux::F_UNLCK as i16,
        Some(held) => {
            l.l_type = if held.write { linux::F_WRLCK } else { linux::F_RDLCK } as i16;
            l.l_whence = linux::SEEK_SET as i16;
            l.l_start = held.start as i64;
            l.l_len = if held.end == u64::MAX { 0 } else { (held.end - held.start) as i64 };
            l.l_pid = if held.pid == u32::MAX { -1 } else { cur.seen_pid(held.pid) as i32 };
        }
    }
    at.write(l)?;
    Ok(0)
}

fn set_lock(
    cur: &CurrentTask,
    fd: Fd,
    file: &Arc<OpenFile>,
    command: u32,
    at: UserPtr<linux::flock>,
) -> SysResult<u64> {
    let l = at.read()?;
    let want = range(cur, file, command, &l)?;
    let kind = l.l_type as u32;
    match kind {
        linux::F_UNLCK => {}
        linux::F_RDLCK if !file.readable() => return Err(Errno::EBADF.into()),
        linux::F_WRLCK if !file.writable() => return Err(Errno::EBADF.into()),
        linux::F_RDLCK | linux::F_WRLCK => {}
        _ => return Err(Errno::EINVAL.into()),
    }
    if matches!(want.owner, Owner::Description(_)) && l.l_pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let _kept = Kept::new(file.clone());
    let locks = &file.inode.state().get(&*file.inode)?.locks;
    if kind == linux::F_UNLCK {
        locks.unset(&want)?;
        return Ok(0);
    }
    locks.set(&want, matches!(command, linux::F_SETLKW | linux::F_OFD_SETLKW))?;
    // Another thread may have closed the descriptor meanwhile, which gave all locks back: this one, too.
    let closed = !cur.files().get_any(fd.0).is_ok_and(|now| Arc::ptr_eq(&now, file));
    if closed && matches!(want.owner, Owner::Posix(_)) {
        locks.unset(&want)?;
        return Err(Errno::EBADF.into());
    }
    Ok(0)
}

/// `flock(2)`.
pub fn sys_flock(cur: &CurrentTask, fd: Fd, operation: u32) -> SysResult<()> {
    // `LOCK_MAND`, which Linux has given up: it says yes and does nothing.
    if operation & 32 != 0 {
        return Ok(());
    }
    let kind = operation & !linux::LOCK_NB;
    if !matches!(kind, linux::LOCK_UN | linux::LOCK_SH | linux::LOCK_EX) {
        return Err(Errno::EINVAL.into());
    }
    let file = Kept::new(files::file(cur, fd)?);
    if kind != linux::LOCK_UN && !file.readable() && !file.writable() {
        return Err(Errno::EBADF.into());
    }
    let (owner, pid) = (Owner::Flock(file.id), cur.op_ctx().tgid);
    let all = Range { owner, pid, write: kind == linux::LOCK_EX, start: 0, end: u64::MAX };
    let locks = &file.inode.state().get(&*file.inode)?.locks;
    if kind == linux::LOCK_UN { Ok(locks.unset(&all)?) } else { locks.set(&all, operation & linux::LOCK_NB == 0) }
}

/// `SIOCUNIXFILE`.
const SIOCUNIXFILE: u32 = 0x89e0;
/// ioctls of sockets for the owner (`asm/sockios.h`).
const FIOSETOWN: u32 = 0x8901;
/// See [`FIOSETOWN`].
const SIOCSPGRP: u32 = 0x8902;
/// See [`FIOSETOWN`].
const FIOGETOWN: u32 = 0x8903;
/// See [`FIOSETOWN`].
const SIOCGPGRP: u32 = 0x8904;

fn is_socket(file: &OpenFile) -> bool {
    file.inode.file_type() == FileType::Socket
}

/// TIOCGPTPEER: a descriptor of the slave, whatever its name's permissions say.
fn pty_peer(cur: &CurrentTask, file: &OpenFile, flags: u32) -> SysResult<u64> {
    let ctx = cur.op_ctx();
    let path = devpts::peer(&ctx, file)?;
    let slave = open_at(&ctx, path, flags & !(linux::O_CREAT | linux::O_TRUNC | linux::O_PATH), true)?;
    Ok(files::install(cur, slave, flags)?.0 as u64)
}

/// Whether a request is none of the device's own, so that Landlock lets it pass (`is_masked_device_ioctl`).
fn is_harmless(request: u32) -> bool {
    const FIFREEZE: u32 = 0xc004_5877;
    const FITHAW: u32 = 0xc004_5878;
    const FIDEDUPERANGE: u32 = 0xc018_9436;
    const GETFSUUID: u32 = 0x8011_1500;
    const GETFSSYSFSPATH: u32 = 0x8081_1501;
    let shared = [FIFREEZE, FITHAW, FIDEDUPERANGE, GETFSUUID, GETFSSYSFSPATH];
    let own = [ioctl::FIOCLEX, ioctl::FIONCLEX, ioctl::FIONBIO, ioctl::FIOASYNC, ioctl::FIGETBSZ];
    let more = [FIOQSIZE, FS_IOC_FIEMAP, FICLONE, FICLONERANGE];
    shared.contains(&request) || own.contains(&request) || more.contains(&request)
}

/// `ioctl(2)`.
pub fn sys_ioctl(cur: &CurrentTask, fd: Fd, request: u32, arg: u64) -> SysResult<u64> {
    let file = files::file(cur, fd)?;
    let number: UserPtr<i32> = UserPtr::new(arg);
    if matches!(file.inode.file_type(), FileType::Char | FileType::Block) && !is_harmless(request) {
        file.check_allowed(crate::vfs::landlock::fs::IOCTL_DEV)?;
    }
    match request {
        ioctl::FIOCLEX => cur.files().set_cloexec(fd.0, true)?,
        ioctl::FIONCLEX => cur.files().set_cloexec(fd.0, false)?,
        ioctl::FIONBIO => {
            let on = number.read()? != 0;
            file.set_flags(file.flags() & !O_NONBLOCK | if on { O_NONBLOCK } else { 0 });
        }
        ioctl::FIOASYNC => {
            let on = number.read()? != 0;
            if on != (file.flags() & O_ASYNC != 0) {
                if !owner::has_signals(&file) {
                    return Err(Errno::ENOTTY.into());
                }
                owner::claim_terminal(cur, &file);
                file.set_async(fd.0, on)?;
            }
        }
        FIOSETOWN | SIOCSPGRP if is_socket(&file) => owner::set(cur, &file, number.read()?)?,
        FIOGETOWN | SIOCGPGRP if is_socket(&file) => number.write(owner::get(cur, &file))?,
        ioctl::FIGETBSZ => number.write(file.inode.stat()?.blksize as i32)?,
        // Anonymous objects look like regular files, too, but know better.
        ioctl::FIONREAD if file.ops.seekable() && file.inode.file_type() == FileType::Regular => {
            let left = file.inode.stat()?.size.wrapping_sub(*file.offset.lock());
            number.write(left as i32)?;
        }
        _ if super::namespaces::is_ours(request) => return super::namespaces::ioctl(cur, &file, request, arg),
        _ if super::file_attr::is_ours(request) && file.inode.flags().is_some() => {
            return super::file_attr::ioctl(cur, &file, request, arg);
        }
        _ if super::seccomp::is_ours(request) => return super::seccomp::ioctl(cur, &file, request, arg),
        ioctl::TIOCGPTPEER if file.ops.is_tty() => return pty_peer(cur, &file, arg as u32),
        SIOCUNIXFILE => return super::socket::bound_file(cur, &file),
        FIOQSIZE if matches!(file.inode.file_type(), FileType::Regular | FileType::Dir | FileType::Symlink) => {
            UserPtr::<i64>::new(arg).write(file.inode.stat()?.size as i64)?;
        }
        // There are no blocks to be told of, and none to be shared.
        FIBMAP if file.inode.file_type() == FileType::Regular => {
            return Err(if cur.cred().capable(cap::SYS_RAWIO) { Errno::EINVAL } else { Errno::EPERM }.into());
        }
        FS_IOC_FIEMAP => return Err(Errno::EOPNOTSUPP.into()),
        FICLONE | FICLONERANGE => {
            let source = if request == FICLONE { arg as i32 } else { UserPtr::<i64>::new(arg).read()? as i32 };
            if cur.files().get(source)?.inode.identity()?.0 != file.inode.identity()?.0 {
                return Err(Errno::EXDEV.into());
            }
            return Err(match file.inode.file_type() {
                FileType::Dir => Errno::EISDIR,
                FileType::Regular if !file.writable() => Errno::EBADF,
                FileType::Regular => Errno::EOPNOTSUPP,
                _ => Errno::EINVAL,
            }
            .into());
        }
        _ => return file.ops.ioctl(&cur.op_ctx(), &file, request, arg),
    }
    Ok(0)
}
