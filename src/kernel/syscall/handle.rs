//! `name_to_handle_at`, `open_by_handle_at`.

use super::Fd;
use super::at;
use super::files::{self, CWD};
use crate::abi::linux::{self, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, O_CREAT, O_EXCL, O_PATH};
use crate::abi::{Errno, SysResult};
use crate::cred::cap;
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs::handles::{FID_KIND, KIND};
use crate::vfs::open::open_at;
use crate::vfs::{FileType, handles};

/// Most bytes of a handle (`MAX_HANDLE_SZ`).
const MAX_HANDLE: u32 = 128;
/// Bytes of ours: device and inode number.
const HANDLE: u32 = 16;
/// Bytes of one that is only compared: inode number and generation.
const FID_HANDLE: u32 = 12;
/// `AT_HANDLE_FID`: the handle is only compared.
const FID: u32 = 0x200;
/// `AT_HANDLE_CONNECTABLE`: the handle leads to the file's directory as well.
const CONNECTABLE: u32 = 2;
/// Bits of a handle's type that say so: `FILEID_IS_CONNECTABLE`, `FILEID_IS_DIR`.
const CONNECTED: u32 = 0x1_0000;
const OF_DIR: u32 = 0x2_0000;
/// `AT_HANDLE_MNT_ID_UNIQUE`: the mount's id has 64 bits.
const UNIQUE: u32 = 1;

/// `name_to_handle_at(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EOVERFLOW` with the size that is needed, `EOPNOTSUPP`, those of path resolution.
pub fn sys_name_to_handle_at(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    handle: UserPtr<[u32; 2]>,
    mount: UserPtr<u32>,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | FID | UNIQUE | CONNECTABLE)?;
    // Whoever only compares needs no way to the directory; what has no path has no directory to be told.
    if flags & CONNECTABLE != 0 && flags & (FID | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { 0 } else { AT_SYMLINK_NOFOLLOW };
    let place = files::place(cur, &cur.op_ctx(), dir, path, follow | flags & AT_EMPTY_PATH)?;
    let only_compared = flags & FID != 0 && !handles::lasting(&**place.inode());
    let (dev, ino) = match only_compared {
        true => place.inode().identity()?,
        false => handles::handle_of(&place.dentry)?,
    };
    let (size, kind) = if only_compared { (FID_HANDLE, FID_KIND) } else { (HANDLE, KIND) };
    let [room, _] = handle.read()?;
    if room > MAX_HANDLE {
        return Err(Errno::EINVAL.into());
    }
    if flags & UNIQUE != 0 {
        mount.cast::<u64>().write(place.mount.unique_id())?;
    } else {
        mount.write(place.mount.id as u32)?;
    }
    let kind = match flags & CONNECTABLE {
        0 => kind,
        _ if place.dentry.is_dir() => kind | CONNECTED | OF_DIR,
        _ => kind | CONNECTED,
    };
    handle.write([size, kind])?;
    if room < size {
        return Err(Errno::EOVERFLOW.into());
    }
    if only_compared {
        handle.add(1).cast::<u64>().write(ino)?;
        return Ok(handle.add(2).cast::<u32>().write(0)?);
    }
    Ok(handle.add(1).cast::<[u64; 2]>().write([dev, ino])?)
}

/// `open_by_handle_at(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EBADF`, `EPERM`, `ESTALE`, `ELOOP` for a symbolic link, those of `open(2)`.
pub fn sys_open_by_handle_at(cur: &CurrentTask, mount: Fd, handle: UserPtr<[u32; 2]>, flags: u32) -> SysResult<Fd> {
    let [size, kind] = handle.read()?;
    if size == 0 || size > MAX_HANDLE || kind & 0xffff_0000 & !(CONNECTED | OF_DIR) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let kind = kind & 0xffff;
    let at = if mount == CWD { cur.fs().cwd() } else { cur.files().get_any(mount.0)?.path().clone() };
    if !cur.cred().capable(cap::DAC_READ_SEARCH) {
        return Err(Errno::EPERM.into());
    }
    if size < HANDLE || kind != KIND {
        return Err(Errno::ESTALE.into());
    }
    let [dev, ino] = handle.add(1).cast::<[u64; 2]>().read()?;
    let place = handles::found(&at, (dev, ino))?;
    if place.inode().file_type() == FileType::Symlink && flags & O_PATH == 0 {
        return Err(Errno::ELOOP.into());
    }
    let large = if flags & O_PATH == 0 { linux::O_LARGEFILE } else { 0 };
    let file = open_at(&cur.op_ctx(), place, flags & !(O_CREAT | O_EXCL) | large, false)?;
    files::install(cur, file, flags)
}
