//! Flags of files (`chattr(1)`): `FS_IOC_GETFLAGS` and its relatives, `file_getattr`, `file_setattr`.

use super::Fd;
use super::{at, files};
use crate::abi::linux::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs::inode::flags::{APPEND, IMMUTABLE, NOATIME, NODUMP};
use crate::vfs::{OpenFile, Path, access};

/// ioctls (`ioctl_iflags(2)`, `ioctl_xfs_fsgetxattr(2)`).
const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;

/// What a flag is as `FS_XFLAG_*`.
const XFLAGS: [(u32, u32); 4] = [(IMMUTABLE, 0x8), (APPEND, 0x10), (NOATIME, 0x40), (NODUMP, 0x80)];

/// Whether an ioctl is one of these.
pub(super) fn is_ours(request: u32) -> bool {
    matches!(request, GETFLAGS | SETFLAGS | FSGETXATTR | FSSETXATTR)
}

/// The ioctls.
///
/// # Errors
/// `ENOTTY` where the file system keeps no flags; `EFAULT`, `EOPNOTSUPP`, `EPERM`, `EROFS`.
pub(super) fn ioctl(cur: &CurrentTask, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
    let had = file.inode.flags().ok_or(Errno::ENOTTY)?;
    match request {
        GETFLAGS => UserPtr::<u32>::new(arg).write(had)?,
        SETFLAGS => set(cur, file.path(), UserPtr::<u32>::new(arg).read()?)?,
        FSGETXATTR => {
            // `struct fsxattr`: flags, sizes of extents, number of extents, project, and room.
            UserPtr::<[u32; 7]>::new(arg).write([to_x(had), 0, 0, 0, 0, 0, 0])?;
        }
        _ => {
            let [x, extent, _, project, cow, ..] = UserPtr::<[u32; 7]>::new(arg).read()?;
            set(cur, file.path(), of_x(x, [extent, project, cow])?)?;
        }
    }
    Ok(0)
}

fn to_x(flags: u32) -> u32 {
    XFLAGS.iter().filter(|(f, _)| flags & f != 0).fold(0, |all, (_, x)| all | x)
}

/// The flags that `FS_XFLAG_*` mean; there are no sizes of extents and no projects.
fn of_x(x: u32, others: [u32; 3]) -> Result<u32> {
    let known = XFLAGS.iter().fold(0, |all, (_, x)| all | x);
    if x & !known != 0 || others != [0; 3] {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(XFLAGS.iter().filter(|(_, bit)| x & bit != 0).fold(0, |all, (f, _)| all | f))
}

/// Gives a file these flags (`vfs_fileattr_set` in Linux).
fn set(cur: &CurrentTask, path: &Path, flags: u32) -> Result {
    path.check_writable()?;
    let inode = &**path.inode();
    access::check_owner(cur.cred(), inode)?;
    let had = inode.flags().ok_or(Errno::EOPNOTSUPP)?;
    if (flags ^ had) & (IMMUTABLE | APPEND) != 0 && !cur.cred().capable(cap::LINUX_IMMUTABLE) {
        return Err(Errno::EPERM);
    }
    if flags & !(IMMUTABLE | APPEND | NOATIME | NODUMP) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    inode.set_flags(flags)
}

/// Bytes of the first `struct file_attr`.
const SIZE: usize = 24;

/// `file_getattr(2)`.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EFAULT`, `EOPNOTSUPP`, those of path resolution.
pub fn sys_file_getattr(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    out: UserPtr<u32>,
    size: usize,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    UserPtr::<u32>::check_size(size, SIZE)?;
    let place = files::place_or_itself(cur, &cur.op_ctx(), dir, path, flags)?;
    let x = to_x(place.inode().flags().ok_or(Errno::EOPNOTSUPP)?);
    let mut all = [0u32; 1024];
    all[0] = x;
    let words = size / 4;
    out.slice(words).write_from(&all[..words])?;
    Ok(())
}

/// `file_setattr(2)`.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EFAULT`, `EOPNOTSUPP`, `EPERM`, `EROFS`, those of path resolution.
pub fn sys_file_setattr(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    from: UserPtr<u32>,
    size: usize,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    // `struct file_attr`: flags in 64 bits, then as in `struct fsxattr`.
    let [x, high, extent, _, project, cow] = from.cast::<[u32; 6]>().read_grown(size, SIZE)?;
    at::only(high, 0)?;
    let wanted = of_x(x, [extent, project, cow])?;
    let place = files::place_or_itself(cur, &cur.op_ctx(), dir, path, flags)?;
    Ok(set(cur, &place, wanted)?)
}
