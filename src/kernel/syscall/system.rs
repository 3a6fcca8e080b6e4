//! What there is: `sysfs`, `ustat`, and which security modules answer.

use crate::abi::{Errno, SysResult};
use crate::fs::proc::FILE_SYSTEMS;
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;

/// `LSM_ID_*`: none, and that of capabilities, the one module there is.
const LSM_ID_CAPABILITY: u64 = 100;
/// `LSM_ATTR_UNDEF`.
const ATTR_UNDEF: u32 = 0;

/// `sysfs(2)`: names of file systems, their numbers, and how many there are.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_sysfs(_cur: &CurrentTask, option: i32, a: u64, b: UserPtr<u8>) -> SysResult<u64> {
    match option {
        1 => {
            let name = UserStr(a).read_path()?;
            if name.is_empty() {
                return Err(Errno::ENOENT.into());
            }
            let at = FILE_SYSTEMS.iter().position(|f| f.as_bytes() == name).ok_or(Errno::EINVAL)?;
            Ok(at as u64)
        }
        2 => {
            let name = usize::try_from(a).ok().and_then(|n| FILE_SYSTEMS.get(n)).ok_or(Errno::EINVAL)?;
            b.slice(name.len()).write_from(name.as_bytes())?;
            b.add(name.len()).write(0)?;
            Ok(0)
        }
        3 => Ok(FILE_SYSTEMS.len() as u64),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `ustat(2)`: what is free on the file system with this device number.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_ustat(cur: &CurrentTask, dev: u32, out: UserPtr<[u64; 4]>) -> SysResult<()> {
    let mounts = cur.fs().namespace()?.mounts();
    let of = |m: &alloc::sync::Arc<crate::vfs::mount::Mount>| {
        m.root.inode.identity().is_ok_and(|(d, _)| d == u64::from(dev))
    };
    let mount = mounts.iter().find(|m| of(m)).ok_or(Errno::EINVAL)?;
    let s = mount.root.inode.statfs()?;
    // `struct ustat`: 32 bits of blocks, a hole, inodes, and names that nobody fills in.
    Ok(out.write([s.bfree & 0xffff_ffff, s.ffree, 0, 0])?)
}

/// `lsm_list_modules(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `E2BIG` where the list is longer than what there is room for.
pub fn sys_lsm_list_modules(_cur: &CurrentTask, ids: UserPtr<u64>, size: UserPtr<u32>, flags: u32) -> SysResult<u64> {
    const NEEDED: u32 = 8;
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let room = size.read()?;
    size.write(NEEDED)?;
    if room < NEEDED {
        return Err(Errno::E2BIG.into());
    }
    ids.write(LSM_ID_CAPABILITY)?;
    Ok(1)
}

/// `lsm_get_self_attr(2)`: the one module has none.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `EOPNOTSUPP`.
pub fn sys_lsm_get_self_attr(
    _cur: &CurrentTask,
    attr: u32,
    _out: UserPtr<u8>,
    size: UserPtr<u32>,
    flags: u32,
) -> SysResult<u64> {
    if attr == ATTR_UNDEF || size.is_null() || flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    size.read()?;
    Err(Errno::EOPNOTSUPP.into())
}

/// `lsm_set_self_attr(2)`: the one module has none.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EFAULT`, `EOPNOTSUPP`.
pub fn sys_lsm_set_self_attr(
    _cur: &CurrentTask,
    _attr: u32,
    from: UserPtr<[u64; 4]>,
    size: u32,
    flags: u32,
) -> SysResult<()> {
    const HEADER: u64 = 32;
    if flags != 0 || u64::from(size) < HEADER {
        return Err(Errno::EINVAL.into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let [_, _, len, value] = from.read()?;
    if len < HEADER || len > u64::from(size) || value > len - HEADER {
        return Err(Errno::EINVAL.into());
    }
    Err(Errno::EOPNOTSUPP.into())
}
