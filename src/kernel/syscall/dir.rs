//! Directories and names: `getdents`, `mkdir`, `unlink`, `rename`, `link`, `symlink`, `mknod`, `chdir`,
//! `getcwd`, `chroot`, `umask`.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs::open::DirFile;
use crate::vfs::{FileType, NewNode, Path, access, names};

fn make(cur: &CurrentTask, dir: Fd, path: UserStr, node: NewNode<'_>, mode: u32) -> SysResult<()> {
    let ctx = cur.op_ctx();
    path.with_path(|p| names::make(cur.fs(), &ctx, files::at(cur, dir, p)?, node, mode).map(drop))?;
    Ok(())
}

/// `mkdir(2)`.
pub fn sys_mkdir(cur: &CurrentTask, path: UserStr, mode: u32) -> SysResult<()> {
    make(cur, CWD, path, NewNode::Dir, mode & 0o1777)
}

/// `mkdirat(2)`.
pub fn sys_mkdirat(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32) -> SysResult<()> {
    make(cur, dir, path, NewNode::Dir, mode & 0o1777)
}

/// `mknod(2)`.
pub fn sys_mknod(cur: &CurrentTask, path: UserStr, mode: u32, dev: u32) -> SysResult<()> {
    sys_mknodat(cur, CWD, path, mode, dev)
}

/// `mknodat(2)`.
pub fn sys_mknodat(cur: &CurrentTask, dir: Fd, path: UserStr, mode: u32, dev: u32) -> SysResult<()> {
    let node = match mode & 0o170000 {
        0 | 0o100000 => NewNode::Regular,
        0o040000 => return Err(Errno::EPERM.into()),
        0o120000 => return Err(Errno::EINVAL.into()),
        kind @ (0o010000 | 0o020000 | 0o060000 | 0o140000) => NewNode::Node(FileType::from_mode(kind), u64::from(dev)),
        _ => return Err(Errno::EINVAL.into()),
    };
    make(cur, dir, path, node, mode)
}

/// `symlink(2)`.
pub fn sys_symlink(cur: &CurrentTask, target: UserStr, path: UserStr) -> SysResult<()> {
    sys_symlinkat(cur, target, CWD, path)
}

/// `symlinkat(2)`.
pub fn sys_symlinkat(cur: &CurrentTask, target: UserStr, dir: Fd, path: UserStr) -> SysResult<()> {
    let target = target.read_path()?;
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    make(cur, dir, path, NewNode::Symlink(&target), 0o777)
}

fn remove(cur: &CurrentTask, dir: Fd, path: UserStr, is_dir: bool) -> SysResult<()> {
    let ctx = cur.op_ctx();
    Ok(path.with_path(|p| names::remove(cur.fs(), &ctx, files::at(cur, dir, p)?, is_dir))?)
}

/// `rmdir(2)`.
pub fn sys_rmdir(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    remove(cur, CWD, path, true)
}

/// `unlink(2)`.
pub fn sys_unlink(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    remove(cur, CWD, path, false)
}

/// `unlinkat(2)`.
pub fn sys_unlinkat(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> SysResult<()> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL.into());
    }
    remove(cur, dir, path, flags & AT_REMOVEDIR != 0)
}

/// `rename(2)`.
pub fn sys_rename(cur: &CurrentTask, from: UserStr, to: UserStr) -> SysResult<()> {
    sys_renameat2(cur, CWD, from, CWD, to, 0)
}

/// `renameat(2)`.
pub fn sys_renameat(cur: &CurrentTask, from_dir: Fd, from: UserStr, to_dir: Fd, to: UserStr) -> SysResult<()> {
    sys_renameat2(cur, from_dir, from, to_dir, to, 0)
}

/// `renameat2(2)`.
pub fn sys_renameat2(
    cur: &CurrentTask,
    from_dir: Fd,
    from: UserStr,
    to_dir: Fd,
    to: UserStr,
    flags: u32,
) -> SysResult<()> {
    names::check_rename_flags(flags)?;
    let ctx = cur.op_ctx();
    Ok(from.with_path(|f| {
        let from = files::at(cur, from_dir, f)?;
        let mut found = false;
        let done = to.with_path(|t| {
            let to = files::at(cur, to_dir, t)?;
            found = true;
            names::rename(cur.fs(), &ctx, from.clone(), to, flags)
        });
        // What is wrong with the first name's directories is said before what is wrong with the second name.
        if !found {
            from.parent(cur.fs(), &ctx)?;
        }
        done
    })?)
}

/// `link(2)`.
pub fn sys_link(cur: &CurrentTask, from: UserStr, to: UserStr) -> SysResult<()> {
    sys_linkat(cur, CWD, from, CWD, to, 0)
}

/// `linkat(2)`.
pub fn sys_linkat(
    cur: &CurrentTask,
    from_dir: Fd,
    from: UserStr,
    to_dir: Fd,
    to: UserStr,
    flags: u32,
) -> SysResult<()> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let ctx = cur.op_ctx();
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let from = files::place(cur, &ctx, from_dir, from, follow | flags & AT_EMPTY_PATH)?;
    Ok(to.with_path(|t| names::link(cur.fs(), &ctx, &from, files::at(cur, to_dir, t)?))?)
}

fn enter(cur: &CurrentTask, to: &Path) -> Result {
    if !to.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    access::check(cur.cred(), &**to.inode(), access::EXEC)
}

/// `chdir(2)`.
pub fn sys_chdir(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    let to = files::place(cur, &cur.op_ctx(), CWD, path, 0)?;
    enter(cur, &to)?;
    cur.fs().set_cwd(to);
    Ok(())
}

/// `fchdir(2)`.
pub fn sys_fchdir(cur: &CurrentTask, fd: Fd) -> SysResult<()> {
    let file = cur.files().get_any(fd.0)?;
    enter(cur, file.path())?;
    cur.fs().set_cwd(file.path().clone());
    Ok(())
}

/// `chroot(2)`.
pub fn sys_chroot(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    let to = files::place(cur, &cur.op_ctx(), CWD, path, 0)?;
    enter(cur, &to)?;
    if !cur.cred().capable_here(cap::SYS_CHROOT) {
        return Err(Errno::EPERM.into());
    }
    cur.fs().set_root(to);
    Ok(())
}

/// `getcwd(2)`: the length with the NUL.
pub fn sys_getcwd(cur: &CurrentTask, buf: UserPtr<u8>, size: usize) -> SysResult<usize> {
    let cwd = cur.fs().cwd();
    if cwd.dentry.unlinked() {
        return Err(Errno::ENOENT.into());
    }
    let (mut name, reachable) = cwd.name(&cur.fs().root())?;
    if !reachable {
        name.splice(0..0, *b"(unreachable)");
    }
    name.push(0);
    if name.len() > size {
        return Err(Errno::ERANGE.into());
    }
    buf.slice(name.len()).write_from(&name)?;
    Ok(name.len())
}

/// `umask(2)`.
pub fn sys_umask(cur: &CurrentTask, mask: u32) -> SysResult<u32> {
    Ok(cur.fs().set_umask(mask))
}

/// `getdents64(2)`.
pub fn sys_getdents64(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, size: u32) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    let dir = file.ops.as_any().downcast_ref::<DirFile>().ok_or(Errno::ENOTDIR)?;
    let ctx = cur.op_ctx();
    dir.read_entries(&ctx, &file, size as usize, |records| buf.slice(records.len()).write_from(records))
}

/// `getdents(2)`: the same records with the type in the last byte.
pub fn sys_getdents(cur: &CurrentTask, fd: Fd, buf: UserPtr<u8>, size: u32) -> SysResult<usize> {
    let file = files::in_use(cur, fd)?;
    let dir = file.ops.as_any().downcast_ref::<DirFile>().ok_or(Errno::ENOTDIR)?;
    let ctx = cur.op_ctx();
    dir.read_entries(&ctx, &file, size as usize, |records| {
        let mut old = alloc::vec::Vec::new();
        old.try_reserve_exact(records.len()).map_err(|_| Errno::ENOMEM)?;
        let mut rest = records;
        while rest.len() > 19 {
            let len = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let (record, tail) = rest.split_at(len.min(rest.len()));
            // ino, off, reclen as they are; the name moves one down, its padding ends in the type.
            old.extend_from_slice(&record[..18]);
            old.extend_from_slice(&record[19..]);
            old.push(record[18]);
            rest = tail;
        }
        buf.slice(old.len()).write_from(&old)
    })
}
