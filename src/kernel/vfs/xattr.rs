//! Extended attributes (`xattr(7)`), for file systems that keep them in memory.

use super::access::{self, READ, WRITE};
use super::acl;
use super::file::OpCtx;
use super::inode::{FileType, Inode, SetAttr};
use super::mount::Path;
use super::notify;
use crate::abi::linux::{IN_ATTRIB, XATTR_CREATE, XATTR_REPLACE, XATTR_SIZE_MAX};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::exec::FileCaps;
use crate::cred::{Cred, Kind, cap};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Most bytes of all names and values of a file.
const TOTAL_MAX: usize = 256 << 10;

type Store = Mutex<BTreeMap<Vec<u8>, Vec<u8>>>;

fn store(inode: &dyn Inode) -> Result<&Store> {
    inode.xattrs().ok_or(Errno::EOPNOTSUPP)
}

/// Whether `ctx` may reach attributes of this name; for reading, `ENODATA` hides what it may not see.
fn check(ctx: &OpCtx<'_>, path: &Path, name: &[u8], write: bool) -> Result {
    let inode = &**path.inode();
    let kind = inode.file_type();
    if write && (inode.immutable() || inode.append_only()) {
        return Err(Errno::EPERM);
    }
    if name.starts_with(b"user.") {
        if !matches!(kind, FileType::Regular | FileType::Dir) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        if write && kind == FileType::Dir && inode.permissions()?.0 & 0o1000 != 0 {
            access::check_owner(ctx.cred, inode)?;
        }
        access::check(ctx.cred, inode, if write { WRITE } else { READ })?;
        return named(inode, name);
    }
    if name.starts_with(b"trusted.") {
        return match (ctx.cred.capable(cap::SYS_ADMIN), write) {
            (true, _) => named(inode, name),
            (false, true) => Err(Errno::EPERM),
            (false, false) => Err(Errno::ENODATA),
        };
    }
    if name == CAPABILITY {
        let (_, uid, gid) = inode.permissions()?;
        let may = !write || ctx.cred.capable_over(cap::SETFCAP, uid, gid);
        return if may { Ok(()) } else { Err(Errno::EPERM) };
    }
    if name.starts_with(b"security.") {
        return if write && !ctx.cred.capable_in(path.mount.user_ns(), cap::SYS_ADMIN) {
            Err(Errno::EPERM)
        } else {
            named(inode, name)
        };
    }
    // Names of no kind are looked for only where the file itself may be read or written (`xattr_permission`).
    if !name.starts_with(b"system.") {
        access::check(ctx.cred, inode, if write { WRITE } else { READ })?;
    }
    Err(Errno::EOPNOTSUPP)
}

/// A prefix alone names nothing.
fn named(inode: &dyn Inode, name: &[u8]) -> Result {
    store(inode)?;
    if name.ends_with(b".") && name.iter().filter(|&&b| b == b'.').count() == 1 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Capabilities of a file (`capabilities(7)`).
const CAPABILITY: &[u8] = b"security.capability";
/// Bytes of its second and third version, and these versions.
const CAPABILITY_2: (usize, u32) = (20, 0x0200_0000);
const CAPABILITY_3: (usize, u32) = (24, 0x0300_0000);

/// Whether any file has ever been given capabilities: until then none can lose them.
static ANY: AtomicBool = AtomicBool::new(false);

/// A file's contents or owner change: it has no capabilities any more (`cap_inode_killpriv`).
pub fn lose_capabilities(inode: &dyn Inode) {
    if ANY.load(Relaxed)
        && let Some(store) = inode.xattrs()
    {
        // An empty value counts as none there.
        let mut all = store.lock();
        let gone = if all.get(CAPABILITY).is_some_and(|v| !v.is_empty()) { all.remove(CAPABILITY) } else { None };
        drop(all);
        drop(gone);
    }
}

fn word(value: &[u8], at: usize) -> u32 {
    value.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Capabilities of a file for the namespace whose root is the user `root`: the second version for the initial one, the
/// third for others.
fn for_root(mut value: Vec<u8>, root: u32) -> Result<Vec<u8>> {
    let bits = word(&value, 0) & 0x00ff_ffff;
    let (len, version) = if root == 0 { CAPABILITY_2 } else { CAPABILITY_3 };
    value.truncate(CAPABILITY_2.0);
    value[..4].copy_from_slice(&(bits | version).to_le_bytes());
    if root != 0 {
        value.try_reserve(4).map_err(|_| Errno::ENOMEM)?;
        value.extend_from_slice(&root.to_le_bytes());
    }
    debug_assert_eq!(value.len(), len);
    Ok(value)
}

/// A file's capabilities as they are kept: with the root user for whose namespace they count.
///
/// # Errors
/// `EINVAL` for anything else, `EPERM` (`cap_convert_nscap` in `security/commoncap.c`).
fn capabilities(cred: &Cred, path: &Path, value: Vec<u8>) -> Result<Vec<u8>> {
    let stated = match (value.len(), word(&value, 0) & 0xff00_0000) {
        CAPABILITY_2 => None,
        CAPABILITY_3 => Some(word(&value, 20)),
        _ => return Err(Errno::EINVAL),
    };
    let (_, uid, gid) = path.inode().permissions()?;
    if !cred.capable_over(cap::SETFCAP, uid, gid) {
        return Err(Errno::EPERM);
    }
    if stated.is_none() && cred.capable_in(path.mount.user_ns(), cap::SETFCAP) {
        return Ok(value);
    }
    for_root(value, cred.user_ns.meant(Kind::User, stated.unwrap_or(0))?)
}

/// A file's capabilities as they are kept, as a reader sees them (`cap_inode_getsecurity`).
///
/// # Errors
/// `EOVERFLOW` where they are those of a namespace that the reader is not in.
fn shown(cred: &Cred, value: Vec<u8>) -> Result<Vec<u8>> {
    if !matches!((value.len(), word(&value, 0) & 0xff00_0000), CAPABILITY_2 | CAPABILITY_3) {
        return Err(Errno::EINVAL);
    }
    if cred.user_ns.level == 0 {
        return Ok(value);
    }
    let Ok(caps) = FileCaps::parse(&value) else { return Ok(value) };
    match cred.user_ns.inside(Kind::User, caps.root) {
        Some(root) if root != 0 => for_root(value, root),
        _ if caps.count_in(&cred.user_ns) => for_root(value, 0),
        _ => Err(Errno::EOVERFLOW),
    }
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// The value of an attribute.
///
/// # Errors
/// `ENODATA`, `EOPNOTSUPP`, `EACCES`.
pub fn get(ctx: &OpCtx<'_>, path: &Path, name: &[u8]) -> Result<Vec<u8>> {
    if let Some(kind) = acl::Kind::of(name) {
        return acl::get(ctx, path, kind);
    }
    let inode = &**path.inode();
    if let Some((computed, value)) = inode.computed_xattr()
        && computed.as_bytes() == name
    {
        return Ok(with_nul(value));
    }
    check(ctx, path, name, false)?;
    let value = store(inode)?.lock().get(name).cloned().ok_or(Errno::ENODATA)?;
    if name == CAPABILITY { shown(ctx.cred, value) } else { Ok(value) }
}

/// Sets an attribute; `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
///
/// # Errors
/// `EEXIST`, `ENODATA`, `EOPNOTSUPP`, `EPERM`, `EACCES`, `EROFS`, `ENOSPC`, `EINVAL` for no capabilities of a file.
pub fn set(ctx: &OpCtx<'_>, path: &Path, name: Vec<u8>, value: Vec<u8>, flags: u32) -> Result {
    if let Some(kind) = acl::Kind::of(&name) {
        return acl::set(ctx, path, kind, &value);
    }
    path.check_writable()?;
    let inode = &**path.inode();
    let value = if name == CAPABILITY && !value.is_empty() { capabilities(ctx.cred, path, value)? } else { value };
    // Capabilities without any bytes are nobody's business.
    let empty = name == CAPABILITY && value.is_empty();
    check(ctx, path, &name, !empty)?;
    if empty && (inode.immutable() || inode.append_only()) {
        return Err(Errno::EPERM);
    }
    if value.len() > XATTR_SIZE_MAX as usize {
        return Err(Errno::E2BIG);
    }
    {
        let mut all = store(inode)?.lock();
        match all.contains_key(&name) {
            true if flags & XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            false if flags & XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        let total: usize = all.iter().map(|(n, v)| n.len() + v.len()).sum();
        if total + name.len() + value.len() > TOTAL_MAX {
            return Err(Errno::ENOSPC);
        }
        arena::charge(Object::Attribute)?;
        if name == CAPABILITY {
            ANY.store(true, Relaxed);
        }
        all.insert(name, value);
    }
    // Nothing but the change time moves.
    inode.set_attr(ctx, &SetAttr::default())?;
    notify::named(&path.dentry, IN_ATTRIB);
    Ok(())
}

/// Removes an attribute.
///
/// # Errors
/// As [`set`].
pub fn remove(ctx: &OpCtx<'_>, path: &Path, name: &[u8]) -> Result {
    if let Some(kind) = acl::Kind::of(name) {
        return acl::set(ctx, path, kind, &[]);
    }
    path.check_writable()?;
    let inode = &**path.inode();
    check(ctx, path, name, true)?;
    let gone = store(inode)?.lock().remove(name).ok_or(Errno::ENODATA)?;
    drop(gone);
    inode.set_attr(ctx, &SetAttr::default())?;
    notify::named(&path.dentry, IN_ATTRIB);
    Ok(())
}

/// The names, each with a NUL behind it.
///
/// # Errors
/// `ENOMEM`.
pub fn list(ctx: &OpCtx<'_>, path: &Path) -> Result<Vec<u8>> {
    let Some(store) = path.inode().xattrs() else {
        return Ok(path.inode().computed_xattr().map_or(Vec::new(), |(name, _)| with_nul(name)));
    };
    let mut out = Vec::new();
    for name in acl::names(&**path.inode()) {
        out.extend_from_slice(name);
        out.push(0);
    }
    // From the last to the first, as tmpfs tells them.
    for name in store.lock().keys().rev() {
        if acl::Kind::of(name).is_some() || name.starts_with(b"trusted.") && !ctx.cred.capable(cap::SYS_ADMIN) {
            continue;
        }
        out.try_reserve(name.len() + 1).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(name);
        out.push(0);
    }
    Ok(out)
}
