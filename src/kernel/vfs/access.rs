//! Permission checks (`path_resolution(7)`, "Permissions").

use super::acl;
use super::file::OpCtx;
use super::inode::{FileType, Inode};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::sync::Knob;

/// Bits of a wanted access, as in `access(2)`.
pub const READ: u32 = 4;
/// See [`READ`].
pub const WRITE: u32 = 2;
/// See [`READ`].
pub const EXEC: u32 = 1;

/// Whether `cred` may access `inode` in all the ways of `want`.
///
/// # Errors
/// `EACCES`, `EPERM` for writing what is immutable.
pub fn check(cred: &Cred, inode: &dyn Inode, want: u32) -> Result {
    if want == 0 {
        return Ok(());
    }
    if want & WRITE != 0 && inode.immutable() {
        return Err(Errno::EPERM);
    }
    let dir = inode.file_type() == FileType::Dir;
    if dir && cred.capable(cap::DAC_OVERRIDE) {
        return Ok(());
    }
    let (mode, uid, gid) = inode.permissions()?;
    if dir && cred.capable_over(cap::DAC_OVERRIDE, uid, gid) {
        return Ok(());
    }
    // A list counts only where its mask, which the mode shows as the group's bits, lets anybody do anything.
    let listed = if cred.fsuid != uid && mode & 0o070 != 0 { acl::permits(cred, inode, gid, want) } else { None };
    let permitted = listed.unwrap_or_else(|| {
        let shift = match cred.fsuid == uid {
            true => 6,
            false if cred.in_group(gid) => 3,
            false => 0,
        };
        (mode >> shift) & want == want
    });
    if permitted {
        return Ok(());
    }
    if cred.capable_over(cap::DAC_OVERRIDE, uid, gid) && (want & EXEC == 0 || mode & 0o111 != 0) {
        return Ok(());
    }
    if cred.capable_over(cap::DAC_READ_SEARCH, uid, gid) && (want == READ || dir && want & WRITE == 0) {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// The mode of a new file in `dir` for which `mode` was asked: whoever is not of the directory's group cannot make
/// programs for it, and the umask counts where the directory has no default list (`vfs_prepare_mode` in Linux).
///
/// # Errors
/// As [`Inode::stat`].
pub fn new_mode(ctx: &OpCtx<'_>, dir: &dyn Inode, is_dir: bool, mode: u32) -> Result<u32> {
    let mode = if is_dir { mode } else { without_set_gid(ctx.cred, dir, mode)? };
    Ok(mode & 0o7777 & if acl::has_default(dir) { !0 } else { !ctx.umask })
}

/// See [`new_mode`] (`mode_strip_sgid`).
fn without_set_gid(cred: &Cred, dir: &dyn Inode, mode: u32) -> Result<u32> {
    if mode & 0o2010 != 0o2010 {
        return Ok(mode);
    }
    let (dir_mode, uid, gid) = dir.permissions()?;
    let strips = dir_mode & 0o2000 != 0 && !cred.in_group(gid) && !cred.capable_over(cap::FSETID, uid, gid);
    Ok(if strips { mode & !0o2000 } else { mode })
}

/// Whether `cred` owns `inode` or may act as if.
///
/// # Errors
/// `EPERM`.
pub fn check_owner(cred: &Cred, inode: &dyn Inode) -> Result {
    let (_, uid, _) = inode.permissions()?;
    if cred.owns(uid) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether links, FIFOs and files in sticky directories that all may write to are met with suspicion, so that nobody's
/// program is led astray in `/tmp`: `/proc/sys/fs/protected_*` (`proc(5)`).
pub static PROTECTED: Protected = Protected {
    symlinks: Knob::new(0, 0, 1),
    hardlinks: Knob::new(1, 0, 1),
    fifos: Knob::new(0, 0, 2),
    regular: Knob::new(0, 0, 2),
};

/// See [`PROTECTED`].
#[derive(Debug)]
pub struct Protected {
    /// Symbolic links are followed only by their owner, or where the directory's owner made them.
    pub symlinks: Knob,
    /// Hard links are made only to files that one owns or could read and write.
    pub hardlinks: Knob,
    /// With 1, `O_CREAT` opens no FIFO of another in a directory that others than owner and group may write to; with 2
    /// also not where the group may.
    pub fifos: Knob,
    /// As that, of regular files.
    pub regular: Knob,
}

/// Whether `cred` may follow the symbolic link that was found in `dir` (`may_follow_link` in `fs/namei.c`).
///
/// # Errors
/// `EACCES`.
pub fn check_follow(cred: &Cred, dir: &dyn Inode, link: &dyn Inode) -> Result {
    if PROTECTED.symlinks.get() == 0 {
        return Ok(());
    }
    let (mode, dir_uid, _) = dir.permissions()?;
    let (_, uid, _) = link.permissions()?;
    if mode & 0o1002 != 0o1002 || cred.fsuid == uid || dir_uid == uid { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether `cred` may open by `O_CREAT` what is already there (`may_create_in_sticky` in `fs/namei.c`).
///
/// # Errors
/// `EACCES`.
pub fn check_reuse(cred: &Cred, dir: &dyn Inode, inode: &dyn Inode) -> Result {
    let level = match inode.file_type() {
        FileType::Fifo => PROTECTED.fifos.get(),
        FileType::Regular => PROTECTED.regular.get(),
        _ => 0,
    };
    if level == 0 {
        return Ok(());
    }
    let ((mode, dir_uid, _), (_, uid, _)) = (dir.permissions()?, inode.permissions()?);
    if mode & 0o1000 == 0 || uid == dir_uid || uid == cred.fsuid {
        return Ok(());
    }
    if mode & 0o002 != 0 || level > 1 && mode & 0o020 != 0 { Err(Errno::EACCES) } else { Ok(()) }
}

/// The sticky bit's rule: who may remove or rename `victim` from `dir`.
///
/// # Errors
/// `EPERM`.
pub fn check_sticky(cred: &Cred, dir: &dyn Inode, victim: &dyn Inode) -> Result {
    let (mode, dir_uid, _) = dir.permissions()?;
    if mode & 0o1000 == 0 || cred.fsuid == dir_uid {
        return Ok(());
    }
    let (_, uid, gid) = victim.permissions()?;
    if cred.fsuid == uid || cred.capable_over(cap::FOWNER, uid, gid) { Ok(()) } else { Err(Errno::EPERM) }
}
