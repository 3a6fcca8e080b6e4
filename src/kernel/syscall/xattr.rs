//! Extended attributes: the calls by path, by path without following, and by descriptor.

use super::Fd;
use super::at;
use super::files::{self, CWD};
use crate::abi::linux::{
    AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX,
};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{Plain, UserPtr, UserStr};
use crate::task::CurrentTask;
use crate::vfs::{Path, xattr};
use alloc::vec::Vec;

fn followed(cur: &CurrentTask, path: UserStr) -> Result<Path> {
    files::place(cur, &cur.op_ctx(), CWD, path, 0)
}

fn itself(cur: &CurrentTask, path: UserStr) -> Result<Path> {
    files::place(cur, &cur.op_ctx(), CWD, path, AT_SYMLINK_NOFOLLOW)
}

fn opened(cur: &CurrentTask, fd: Fd) -> Result<Path> {
    Ok(cur.files().get(fd.0)?.path().clone())
}

/// As [`opened`]; the working directory is one, too.
fn opened_or_here(cur: &CurrentTask, fd: Fd) -> Result<Path> {
    if fd == CWD { files::itself(cur, fd) } else { opened(cur, fd) }
}

fn attribute(name: UserStr) -> Result<Vec<u8>> {
    let name = name.read(XATTR_NAME_MAX as usize + 1, Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// Copies out what fits into `size` bytes; a size of 0 asks for the length.
fn give(bytes: &[u8], out: UserPtr<u8>, size: usize) -> SysResult<usize> {
    if size > 0 {
        if bytes.len() > size {
            return Err(Errno::ERANGE.into());
        }
        out.slice(bytes.len()).write_from(bytes)?;
    }
    Ok(bytes.len())
}

/// What `setxattr(2)` is given besides the file: it is looked at first.
struct New {
    name: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
}

impl New {
    fn read(name: UserStr, value: UserPtr<u8>, size: usize, flags: u32) -> SysResult<New> {
        if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let name = attribute(name)?;
        if size > XATTR_SIZE_MAX as usize {
            return Err(Errno::E2BIG.into());
        }
        Ok(New { name, value: value.slice(size).read_vec()?, flags })
    }

    fn give(self, cur: &CurrentTask, at: &Path) -> SysResult<()> {
        Ok(xattr::set(&cur.op_ctx(), at, self.name, self.value, self.flags)?)
    }
}

fn get(cur: &CurrentTask, at: &Path, name: &[u8], out: UserPtr<u8>, size: usize) -> SysResult<usize> {
    give(&xattr::get(&cur.op_ctx(), at, name)?, out, size)
}

fn list(cur: &CurrentTask, at: &Path, out: UserPtr<u8>, size: usize) -> SysResult<usize> {
    give(&xattr::list(&cur.op_ctx(), at)?, out, size)
}

macro_rules! family {
    ($by:ident($t:ty), $named:ident: $set:ident $get:ident $list:ident $remove:ident, $what:literal) => {
        #[doc = concat!("`setxattr(2)` ", $what, ".")]
        pub fn $set(
            cur: &CurrentTask,
            at: $t,
            name: UserStr,
            value: UserPtr<u8>,
            size: usize,
            flags: u32,
        ) -> SysResult<()> {
            let new = New::read(name, value, size, flags)?;
            new.give(cur, &$named(cur, at)?)
        }
        #[doc = concat!("`getxattr(2)` ", $what, ".")]
        pub fn $get(cur: &CurrentTask, at: $t, name: UserStr, out: UserPtr<u8>, size: usize) -> SysResult<usize> {
            let name = attribute(name)?;
            get(cur, &$named(cur, at)?, &name, out, size)
        }
        #[doc = concat!("`listxattr(2)` ", $what, ".")]
        pub fn $list(cur: &CurrentTask, at: $t, out: UserPtr<u8>, size: usize) -> SysResult<usize> {
            list(cur, &$by(cur, at)?, out, size)
        }
        #[doc = concat!("`removexattr(2)` ", $what, ".")]
        pub fn $remove(cur: &CurrentTask, at: $t, name: UserStr) -> SysResult<()> {
            let name = attribute(name)?;
            Ok(xattr::remove(&cur.op_ctx(), &$by(cur, at)?, &name)?)
        }
    };
}

family!(followed(UserStr), followed: sys_setxattr sys_getxattr sys_listxattr sys_removexattr, "of a path");
family!(itself(UserStr), itself: sys_lsetxattr sys_lgetxattr sys_llistxattr sys_lremovexattr, "of a path, links not followed");
family!(opened(Fd), opened_or_here: sys_fsetxattr sys_fgetxattr sys_flistxattr sys_fremovexattr, "of a descriptor");

/// `struct xattr_args`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

// SAFETY: three numbers without padding, for which all bits are valid.
unsafe impl Plain for XattrArgs {}

/// The flags of the calls with a directory.
const AT: u32 = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;

/// The file that the calls with a directory mean. What may not be followed may not be opened otherwise, either: an empty
/// path is the descriptor itself, which must then be open for input and output.
fn located(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> Result<Path> {
    at::only(flags, AT)?;
    let empty = path.0 == 0 || path.with_path(|p| Ok(p.is_empty()))?;
    if flags & AT_EMPTY_PATH != 0 && empty && dir != CWD {
        return opened(cur, dir);
    }
    files::place_or_itself(cur, &cur.op_ctx(), dir, path, flags)
}

/// `setxattrat(2)`.
pub fn sys_setxattrat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    at_flags: u32,
    name: UserStr,
    from: UserPtr<XattrArgs>,
    size: usize,
) -> SysResult<()> {
    let a = from.read_grown(size, size_of::<XattrArgs>())?;
    at::only(at_flags, AT)?;
    let new = New::read(name, UserPtr::new(a.value), a.size as usize, a.flags)?;
    new.give(cur, &located(cur, dir, path, at_flags)?)
}

/// `getxattrat(2)`.
pub fn sys_getxattrat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    at_flags: u32,
    name: UserStr,
    from: UserPtr<XattrArgs>,
    size: usize,
) -> SysResult<usize> {
    let a = from.read_grown(size, size_of::<XattrArgs>())?;
    at::only(a.flags, 0)?;
    at::only(at_flags, AT)?;
    let name = attribute(name)?;
    get(cur, &located(cur, dir, path, at_flags)?, &name, UserPtr::new(a.value), a.size as usize)
}

/// `listxattrat(2)`.
pub fn sys_listxattrat(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    at_flags: u32,
    out: UserPtr<u8>,
    size: usize,
) -> SysResult<usize> {
    list(cur, &located(cur, dir, path, at_flags)?, out, size)
}

/// `removexattrat(2)`.
pub fn sys_removexattrat(cur: &CurrentTask, dir: Fd, path: UserStr, at_flags: u32, name: UserStr) -> SysResult<()> {
    at::only(at_flags, AT)?;
    let name = attribute(name)?;
    Ok(xattr::remove(&cur.op_ctx(), &located(cur, dir, path, at_flags)?, &name)?)
}
