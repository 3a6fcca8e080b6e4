//! `mount` and `umount2`.

use super::files::{self, CWD};
use crate::abi::linux::{
    AT_SYMLINK_NOFOLLOW, MNT_DETACH, MNT_EXPIRE, MNT_FORCE, MS_BIND, MS_MOVE, MS_PRIVATE, MS_REC, MS_REMOUNT,
    MS_SHARED, MS_SLAVE, MS_UNBINDABLE, UMOUNT_NOFOLLOW,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::fs::memfs;
use crate::mm::UserStr;
use crate::task::CurrentTask;
use crate::vfs::{Inode, Path, mount};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Flags that a mount keeps: RDONLY, NOSUID, NODEV, NOEXEC.
const KEPT: u32 = 0xf;

fn text(s: UserStr) -> Result<Vec<u8>> {
    if s.0 == 0 { Ok(Vec::new()) } else { s.read(4096, Errno::EINVAL) }
}

/// `mount(2)`.
pub fn sys_mount(
    cur: &CurrentTask,
    source: UserStr,
    target: UserStr,
    fstype: UserStr,
    flags: u32,
    data: UserStr,
) -> SysResult<()> {
    // The upper half once held a magic number.
    let flags = if flags & 0xffff_0000 == 0xc0ed_0000 { flags & 0xffff } else { flags };
    let ctx = cur.op_ctx();
    let at = files::place(cur, &ctx, CWD, target, 0)?;
    if !cur.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    if flags & MS_REMOUNT != 0 {
        return Ok(remount(&at, flags)?);
    }
    if flags & MS_BIND != 0 {
        let from = files::place(cur, &ctx, CWD, source, 0)?;
        let kept = from.mount.flags.load(Relaxed) & KEPT;
        let bind = if flags & MS_REC != 0 { mount::bind_all } else { mount::bind };
        return Ok(bind(&from, &at, kept)?);
    }
    if flags & (MS_PRIVATE | MS_SHARED | MS_SLAVE | MS_UNBINDABLE) != 0 {
        // There is one mount namespace: nothing propagates anywhere.
        return if Arc::ptr_eq(&at.dentry, &at.mount.root) { Ok(()) } else { Err(Errno::EINVAL.into()) };
    }
    if flags & MS_MOVE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (source, fstype, data) = (text(source)?, text(fstype)?, text(data)?);
    let (name, root) = make(&fstype, &data)?;
    let source = alloc::string::String::from_utf8_lossy(&source);
    Ok(mount::mount_fs(&at, root, flags & KEPT, name, &source)?)
}

fn remount(at: &Path, flags: u32) -> Result {
    if !Arc::ptr_eq(&at.dentry, &at.mount.root) {
        return Err(Errno::EINVAL);
    }
    at.mount.flags.store(flags & KEPT, Relaxed);
    Ok(())
}

/// A new file system of this type.
fn make(fstype: &[u8], data: &[u8]) -> Result<(&'static str, Arc<dyn Inode>)> {
    match fstype {
        b"tmpfs" => tmpfs(data).map(|root| ("tmpfs", root)),
        b"ramfs" => tmpfs(data).map(|root| ("ramfs", root)),
        b"" => Err(Errno::EINVAL),
        other => existing(other).ok_or(Errno::ENODEV),
    }
}

/// Kernel file systems of which there is one: a further mount shows the same.
fn existing(fstype: &[u8]) -> Option<(&'static str, Arc<dyn Inode>)> {
    let known = mount::all();
    let m = known.iter().find(|m| m.fstype.as_bytes() == fstype && !matches!(fstype, b"overlay" | b"hostfs"))?;
    Some((m.fstype, m.root.inode.clone()))
}

fn tmpfs(data: &[u8]) -> Result<Arc<dyn Inode>> {
    let (mut mode, mut uid, mut gid) = (0o1777, 0, 0);
    for option in data.split(|&b| b == b',').filter(|o| !o.is_empty()) {
        let (key, value) = match option.iter().position(|&b| b == b'=') {
            Some(i) => (&option[..i], &option[i + 1..]),
            None => (option, &b""[..]),
        };
        let number = |radix| {
            core::str::from_utf8(value).ok().and_then(|v| u32::from_str_radix(v, radix).ok()).ok_or(Errno::EINVAL)
        };
        match key {
            b"mode" => mode = number(8)? & 0o7777,
            b"uid" => uid = number(10)?,
            b"gid" => gid = number(10)?,
            // The memory file has one limit for all of the sandbox.
            b"size" | b"nr_blocks" | b"nr_inodes" | b"huge" | b"mpol" | b"inode64" | b"inode32" | b"noswap" => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(memfs::tmpfs(mode, uid, gid))
}

/// `umount2(2)`.
pub fn sys_umount2(cur: &CurrentTask, target: UserStr, flags: u32) -> SysResult<()> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0
        || flags & MNT_EXPIRE != 0 && flags & (MNT_FORCE | MNT_DETACH) != 0
    {
        return Err(Errno::EINVAL.into());
    }
    let follow = if flags & UMOUNT_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
    let at = files::place(cur, &cur.op_ctx(), CWD, target, follow)?;
    if !cur.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    Ok(mount::unmount(at, flags & MNT_DETACH != 0)?)
}
