//! What only administrators do: swap areas, quotas, accounting, the end of the system.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{self, O_APPEND, O_LARGEFILE, O_RDWR, O_WRONLY};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::{UserPtr, UserStr};
use crate::task::{CurrentTask, acct, exit};
use crate::vfs::open::How;
use crate::vfs::{self, FileType, OpenFile, mount};
use alloc::sync::Arc;

/// Flags of `swapon(2)`.
const SWAP_FLAGS: u32 = 0x7_ffff;
/// Kinds of quotas: of users, groups, projects.
const QUOTA_KINDS: u32 = 3;
/// `Q_SYNC`.
const Q_SYNC: u32 = 0x80_0001;
/// Commands of quotas that only read (`quotactl_cmd_write` in `fs/quota/quota.c`).
const READING: [u32; 8] = [0x80_0004, 0x80_0005, 0x80_0007, 0x80_0009, Q_SYNC, 0x5803, 0x5805, 0x5808];
/// `LINUX_REBOOT_MAGIC*`.
const MAGIC: u32 = 0xfee1_dead;
const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];

fn open(cur: &CurrentTask, path: UserStr, flags: u32) -> SysResult<Arc<OpenFile>> {
    let ctx = cur.op_ctx();
    path.with_path(|p| vfs::open(cur.fs(), &ctx, None, p, How { flags: flags | O_LARGEFILE, mode: 0, resolve: 0 }))
}

/// `swapon(2)`: no file here can hold swapped pages, which are the host's business.
///
/// # Errors
/// `EINVAL`, `EPERM`, those of `open(2)`.
pub fn sys_swapon(cur: &CurrentTask, path: UserStr, flags: u32) -> SysResult<()> {
    if flags & !SWAP_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    no_swap(cur, path)
}

/// `swapoff(2)`: there is none.
///
/// # Errors
/// `EPERM`, `EINVAL`, those of `open(2)`.
pub fn sys_swapoff(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    no_swap(cur, path)
}

fn no_swap(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    if !cur.cred().capable(cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    open(cur, path, O_RDWR)?;
    Err(Errno::EINVAL.into())
}

/// `quotactl(2)`: no block device holds a file system.
///
/// # Errors
/// `EINVAL`, `ENODEV`, `ENOTBLK`, `EACCES`, those of path resolution.
pub fn sys_quotactl(cur: &CurrentTask, command: u32, special: UserStr, _id: u32, _addr: u64) -> SysResult<()> {
    let (command, kind) = (command >> 8, command & 0xff);
    if kind >= QUOTA_KINDS {
        return Err(Errno::EINVAL.into());
    }
    if special.0 == 0 {
        // All file systems with quotas, which are none.
        return if command == Q_SYNC { Ok(()) } else { Err(Errno::ENODEV.into()) };
    }
    let place = files::place(cur, &cur.op_ctx(), CWD, special, 0)?;
    Err(match place.inode().file_type() {
        FileType::Block if place.mount.has(mount::NODEV) => Errno::EACCES,
        FileType::Block => Errno::ENODEV,
        _ => Errno::ENOTBLK,
    }
    .into())
}

/// `quotactl_fd(2)`: no file system has quotas.
///
/// # Errors
/// `EBADF`, `EINVAL`, `EROFS`, `ENOSYS`.
pub fn sys_quotactl_fd(cur: &CurrentTask, fd: Fd, command: u32, _id: u32, _addr: u64) -> SysResult<()> {
    let file = cur.files().get_any(fd.0)?;
    if command & 0xff >= QUOTA_KINDS {
        return Err(Errno::EINVAL.into());
    }
    if !READING.contains(&(command >> 8)) {
        file.path().check_writable()?;
    }
    Err(Errno::ENOSYS.into())
}

/// `acct(2)`: from now on the end of each process is written down in the file.
///
/// # Errors
/// `EPERM`, `EACCES` for what is no regular file, `EINVAL` for one of `/proc`, those of `open(2)`.
pub fn sys_acct(cur: &CurrentTask, path: UserStr) -> SysResult<()> {
    if !cur.cred().capable(cap::SYS_PACCT) {
        return Err(Errno::EPERM.into());
    }
    if path.0 == 0 {
        acct::set(None);
        return Ok(());
    }
    let file = open(cur, path, O_WRONLY | O_APPEND)?;
    if file.inode.file_type() != FileType::Regular {
        return Err(Errno::EACCES.into());
    }
    if !file.path().mount.is_mountable() || matches!(file.path().mount.fstype, "proc" | "sysfs") {
        return Err(Errno::EINVAL.into());
    }
    acct::set(Some((file, cur.cred().clone())));
    Ok(())
}

/// `reboot(2)`: ends the first process of the pid namespace, in the sandbox's own as in any other (`reboot_pid_ns` in
/// `kernel/pid_namespace.c`).
///
/// # Errors
/// `EPERM`, `EINVAL`, `EFAULT`.
pub fn sys_reboot(cur: &CurrentTask, magic: u32, magic2: u32, command: u32, arg: UserPtr<u8>) -> SysResult<()> {
    let ns = cur.pid_namespace();
    if !cur.cred().capable_in(&ns.user_ns, cap::SYS_BOOT) {
        return Err(Errno::EPERM.into());
    }
    if magic != MAGIC || !MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL.into());
    }
    match command {
        // Ctrl-Alt-Del is nobody's here.
        linux::LINUX_REBOOT_CMD_CAD_ON | linux::LINUX_REBOOT_CMD_CAD_OFF if ns.level == 0 => Ok(()),
        linux::LINUX_REBOOT_CMD_RESTART2 if ns.level == 0 => {
            arg.read()?;
            end(cur, linux::SIGHUP)
        }
        linux::LINUX_REBOOT_CMD_RESTART | linux::LINUX_REBOOT_CMD_RESTART2 => end(cur, linux::SIGHUP),
        linux::LINUX_REBOOT_CMD_HALT | linux::LINUX_REBOOT_CMD_POWER_OFF => end(cur, linux::SIGINT),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn end(cur: &CurrentTask, status: u32) -> SysResult<()> {
    let init = cur.pid_namespace().process(1).ok_or(Errno::ESRCH)?;
    exit::begin_group_exit(&init, status as i32);
    drop(init);
    exit::exit_group(cur, 0)
}

const _: Result = Ok(());
