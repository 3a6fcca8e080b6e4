//! Extended attributes: the calls by path, by path without following, and by descriptor.

use super::Fd;
use super::files::{self, CWD};
use crate::abi::linux::{AT_SYMLINK_NOFOLLOW, XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX};
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{UserPtr, UserStr};
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
    Ok(cur.files().get(fd.0)?.path.clone())
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

fn set(cur: &CurrentTask, at: &Path, name: Vec<u8>, value: UserPtr<u8>, size: usize, flags: u32) -> SysResult<()> {
    if size > XATTR_SIZE_MAX as usize {
        return Err(Errno::E2BIG.into());
    }
    let value = value.slice(size).read_vec()?;
    Ok(xattr::set(&cur.op_ctx(), at, name, value, flags)?)
}

fn get(cur: &CurrentTask, at: &Path, name: &[u8], out: UserPtr<u8>, size: usize) -> SysResult<usize> {
    give(&xattr::get(&cur.op_ctx(), at, name)?, out, size)
}

fn list(cur: &CurrentTask, at: &Path, out: UserPtr<u8>, size: usize) -> SysResult<usize> {
    give(&xattr::list(&cur.op_ctx(), at)?, out, size)
}

fn check_flags(flags: u32) -> SysResult<()> {
    if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

macro_rules! family {
    ($by:ident($t:ty): $set:ident $get:ident $list:ident $remove:ident, $what:literal) => {
        #[doc = concat!("`setxattr(2)` ", $what, ".")]
        pub fn $set(
            cur: &CurrentTask,
            at: $t,
            name: UserStr,
            value: UserPtr<u8>,
            size: usize,
            flags: u32,
        ) -> SysResult<()> {
            check_flags(flags)?;
            let name = attribute(name)?;
            set(cur, &$by(cur, at)?, name, value, size, flags)
        }
        #[doc = concat!("`getxattr(2)` ", $what, ".")]
        pub fn $get(cur: &CurrentTask, at: $t, name: UserStr, out: UserPtr<u8>, size: usize) -> SysResult<usize> {
            let name = attribute(name)?;
            get(cur, &$by(cur, at)?, &name, out, size)
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

family!(followed(UserStr): sys_setxattr sys_getxattr sys_listxattr sys_removexattr, "of a path");
family!(itself(UserStr): sys_lsetxattr sys_lgetxattr sys_llistxattr sys_lremovexattr, "of a path, links not followed");
family!(opened(Fd): sys_fsetxattr sys_fgetxattr sys_flistxattr sys_fremovexattr, "of a descriptor");
