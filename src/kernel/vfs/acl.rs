//! POSIX access control lists (`acl(5)`, Linux's `fs/posix_acl.c`).
//!
//! A file's list lies among its extended attributes in the form in which programs give and get it, with ids of the initial
//! user namespace; what a list is for ([`Kind`]) stands in a word of the inode, so that files without one cost a look at
//! that. A list that says no more than the mode is not kept, but becomes the mode.

use super::access;
use super::file::OpCtx;
use super::inode::{FileType, Inode, SetAttr};
use super::mount::Path;
use super::notify;
use crate::abi::linux::IN_ATTRIB;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::{self, Cred, cap};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What a list is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who may access the file.
    Access = 1,
    /// What files made in the directory start with.
    Default = 2,
}

/// Names of the attributes.
const ACCESS: &[u8] = b"system.posix_acl_access";
/// See [`ACCESS`].
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Version in front of a list (`POSIX_ACL_XATTR_VERSION`), and bytes of that and of each entry.
const VERSION: u32 = 2;
const HEAD: usize = 4;
const ENTRY: usize = 8;

/// Tags of entries.
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The id of entries that have none.
const NO_ID: u32 = u32::MAX;

impl Kind {
    /// By the attribute's name.
    pub fn of(name: &[u8]) -> Option<Kind> {
        match name {
            ACCESS => Some(Kind::Access),
            DEFAULT => Some(Kind::Default),
            _ => None,
        }
    }

    fn name(self) -> &'static [u8] {
        if self == Kind::Access { ACCESS } else { DEFAULT }
    }
}

/// An entry of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

fn entries(list: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    list.get(HEAD..).unwrap_or_default().chunks_exact(ENTRY).map(|e| Entry {
        tag: u16::from_le_bytes([e[0], e[1]]),
        perm: u16::from_le_bytes([e[2], e[3]]),
        id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
    })
}

fn encode(list: &[Entry]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.try_reserve_exact(HEAD + list.len() * ENTRY).map_err(|_| Errno::ENOMEM)?;
    out.extend_from_slice(&VERSION.to_le_bytes());
    for e in list {
        out.extend_from_slice(&e.tag.to_le_bytes());
        out.extend_from_slice(&e.perm.to_le_bytes());
        out.extend_from_slice(&e.id.to_le_bytes());
    }
    Ok(out)
}

fn decode(list: &[u8]) -> Result<Vec<Entry>> {
    let mut out = Vec::new();
    out.try_reserve_exact(list.len() / ENTRY).map_err(|_| Errno::ENOMEM)?;
    out.extend(entries(list));
    Ok(out)
}

/// The list that a program gives; empty where it takes the list away (`posix_acl_from_xattr`).
fn given(cred: &Cred, value: &[u8]) -> Result<Vec<Entry>> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let head = value.first_chunk::<HEAD>().ok_or(Errno::EINVAL)?;
    if u32::from_le_bytes(*head) != VERSION {
        return Err(Errno::EOPNOTSUPP);
    }
    if !(value.len() - HEAD).is_multiple_of(ENTRY) {
        return Err(Errno::EINVAL);
    }
    let mut list = decode(value)?;
    for e in &mut list {
        e.id = match e.tag {
            USER_OBJ | GROUP_OBJ | MASK | OTHER => NO_ID,
            USER => cred.user_ns.meant(cred::Kind::User, e.id)?,
            GROUP => cred.user_ns.meant(cred::Kind::Group, e.id)?,
            _ => return Err(Errno::EINVAL),
        };
    }
    Ok(list)
}

/// Whether the entries are those of a list, in their order (`posix_acl_valid`).
fn check_valid(list: &[Entry]) -> Result {
    // Which tag may come next at the latest.
    let (mut at, mut needs_mask) = (USER_OBJ, false);
    for e in list {
        if e.perm & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        at = match (at, e.tag) {
            (USER_OBJ, USER_OBJ) | (USER, USER) => USER,
            (USER, GROUP_OBJ) | (GROUP, GROUP) => GROUP,
            (GROUP, MASK) => OTHER,
            (OTHER, OTHER) => 0,
            (GROUP, OTHER) if !needs_mask => 0,
            _ => return Err(Errno::EINVAL),
        };
        needs_mask |= matches!(e.tag, USER | GROUP);
    }
    if at == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The permission bits that a list means, and whether they are all that it says (`posix_acl_equiv_mode`).
fn as_mode(list: &[Entry]) -> (u32, bool) {
    let (mut mode, mut mask, mut whole) = (0, None, true);
    for e in list {
        let perm = u32::from(e.perm & 7);
        match e.tag {
            USER_OBJ => mode |= perm << 6,
            GROUP_OBJ => mode |= perm << 3,
            OTHER => mode |= perm,
            MASK => mask = Some(perm),
            _ => {}
        }
        whole &= matches!(e.tag, USER_OBJ | GROUP_OBJ | OTHER);
    }
    (mask.map_or(mode, |m| mode & !0o070 | m << 3), whole)
}

fn kinds(inode: &dyn Inode) -> u32 {
    inode.acls().map_or(0, |kinds| kinds.load(SeqCst))
}

/// Whether files that are made in `dir` get a list, and the umask does not count.
pub fn has_default(dir: &dyn Inode) -> bool {
    kinds(dir) & Kind::Default as u32 != 0
}

fn stored<T>(inode: &dyn Inode, kind: Kind, f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    if kinds(inode) & kind as u32 == 0 {
        return None;
    }
    let all = inode.xattrs()?.lock();
    all.get(kind.name()).map(|list| f(list))
}

/// Keeps `list`, or nothing where it is empty.
fn store(inode: &dyn Inode, kind: Kind, list: &[Entry]) -> Result {
    let (Some(all), Some(kinds)) = (inode.xattrs(), inode.acls()) else { return Err(Errno::EOPNOTSUPP) };
    let old = if list.is_empty() {
        kinds.fetch_and(!(kind as u32), SeqCst);
        all.lock().remove(kind.name())
    } else {
        let value = encode(list)?;
        arena::charge(Object::Attribute)?;
        let old = all.lock().insert(kind.name().to_vec(), value);
        kinds.fetch_or(kind as u32, SeqCst);
        old
    };
    drop(old);
    Ok(())
}

/// Whether the file's list lets somebody who does not own it access it; `None` without a list (`posix_acl_permission`).
pub fn permits(cred: &Cred, inode: &dyn Inode, gid: u32, want: u32) -> Option<bool> {
    let want = want as u16 & 7;
    let has = |e: &Entry| e.perm & want == want;
    stored(inode, Kind::Access, |list| {
        let mask = || entries(list).find(|e| e.tag == MASK).is_none_or(|mask| has(&mask));
        let mut in_group = false;
        for e in entries(list) {
            match e.tag {
                USER if e.id == cred.fsuid => return has(&e) && mask(),
                GROUP_OBJ | GROUP if cred.in_group(if e.tag == GROUP { e.id } else { gid }) => {
                    in_group = true;
                    if has(&e) {
                        return mask();
                    }
                }
                OTHER => return !in_group && has(&e),
                _ => {}
            }
        }
        false
    })
}

/// The list as a program sees it (`vfs_get_acl`).
///
/// # Errors
/// `EOPNOTSUPP`, `ENODATA`, `ENOMEM`.
pub fn get(ctx: &OpCtx<'_>, path: &Path, kind: Kind) -> Result<Vec<u8>> {
    let inode = &**path.inode();
    if inode.acls().is_none() || inode.file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut list = stored(inode, kind, decode).ok_or(Errno::ENODATA)??;
    for e in &mut list {
        let of = match e.tag {
            USER => cred::Kind::User,
            GROUP => cred::Kind::Group,
            _ => continue,
        };
        if ctx.cred.user_ns.level != 0 {
            e.id = ctx.cred.user_ns.inside(of, e.id).unwrap_or(NO_ID);
        }
    }
    encode(&list)
}

/// Sets the list, or takes it away where `value` is empty (`vfs_set_acl`, `vfs_remove_acl`).
///
/// # Errors
/// `EROFS`, `EINVAL`, `EOPNOTSUPP`, `EACCES` for a default list of something else than a directory, `EPERM`, `ENOMEM`.
pub fn set(ctx: &OpCtx<'_>, path: &Path, kind: Kind, value: &[u8]) -> Result {
    let list = given(ctx.cred, value)?;
    path.check_writable()?;
    let inode = &**path.inode();
    if inode.immutable() || inode.append_only() {
        return Err(Errno::EPERM);
    }
    if inode.acls().is_none() || inode.file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind == Kind::Default && inode.file_type() != FileType::Dir {
        return if list.is_empty() { Ok(()) } else { Err(Errno::EACCES) };
    }
    access::check_owner(ctx.cred, inode)?;
    if !list.is_empty() {
        check_valid(&list)?;
    }
    let mut attr = SetAttr::default();
    let mut kept = &list[..];
    if kind == Kind::Access && !list.is_empty() {
        let (mode, whole) = as_mode(&list);
        let (old, uid, gid) = inode.permissions()?;
        let mut new = old & 0o7000 | mode;
        if !ctx.cred.in_group(gid) && !ctx.cred.capable_over(cap::FSETID, uid, gid) {
            new &= !0o2000;
        }
        attr.mode = Some(new);
        kept = if whole { &[] } else { kept };
    }
    store(inode, kind, kept)?;
    // The change time moves, and the list is not to follow the mode.
    inode.set_attr(ctx, &attr)?;
    notify::named(&path.dentry, IN_ATTRIB);
    Ok(())
}

/// The mode was changed by `chmod(2)`: the list says the same (`posix_acl_chmod`).
///
/// # Errors
/// `ENOMEM`.
pub fn follow_mode(inode: &dyn Inode, mode: u32) -> Result {
    let Some(list) = stored(inode, Kind::Access, decode) else { return Ok(()) };
    let mut list = list?;
    let group = if list.iter().any(|e| e.tag == MASK) { MASK } else { GROUP_OBJ };
    for e in &mut list {
        let shift = match e.tag {
            USER_OBJ => 6,
            OTHER => 0,
            tag if tag == group => 3,
            _ => continue,
        };
        e.perm = (mode >> shift & 7) as u16;
    }
    store(inode, Kind::Access, &list)
}

/// What a file that is made in `dir` starts with: its mode, of which `dir`'s default list takes away, and its lists
/// (`posix_acl_create`).
pub struct Inherited {
    /// The mode, with what else than permissions was asked for.
    pub mode: u32,
    access: Vec<Entry>,
    default: Vec<Entry>,
}

impl Inherited {
    /// For a new file of this type.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn from(dir: &dyn Inode, kind: FileType, mode: u32) -> Result<Inherited> {
        let none = Inherited { mode, access: Vec::new(), default: Vec::new() };
        if kind == FileType::Symlink {
            return Ok(none);
        }
        let Some(list) = stored(dir, Kind::Default, decode) else { return Ok(none) };
        let default = list?;
        let mut access = default.clone();
        let group = if access.iter().any(|e| e.tag == MASK) { MASK } else { GROUP_OBJ };
        let (mut bits, mut whole) = (mode, true);
        for e in &mut access {
            let shift = match e.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == group => 3,
                _ => continue,
            };
            e.perm &= (mode >> shift) as u16 & 7;
            bits &= u32::from(e.perm) << shift | !(7 << shift);
        }
        whole &= access.iter().all(|e| matches!(e.tag, USER_OBJ | GROUP_OBJ | OTHER));
        Ok(Inherited {
            mode: bits,
            access: if whole { Vec::new() } else { access },
            default: if kind == FileType::Dir { default } else { Vec::new() },
        })
    }

    /// Gives them to the new file.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn give(&self, inode: &dyn Inode) -> Result {
        for (kind, list) in [(Kind::Access, &self.access), (Kind::Default, &self.default)] {
            if !list.is_empty() {
                store(inode, kind, list)?;
            }
        }
        Ok(())
    }
}

/// The word in which an inode keeps which lists it has.
pub type Kinds = AtomicU32;

/// Names of the lists that a file has.
pub fn names(inode: &dyn Inode) -> impl Iterator<Item = &'static [u8]> {
    let there = kinds(inode);
    [Kind::Access, Kind::Default].into_iter().filter(move |&k| there & k as u32 != 0).map(Kind::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<Entry> {
        entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect()
    }

    #[test]
    fn a_list_has_its_entries_in_their_order_and_a_mask_where_it_needs_one() {
        let whole = [(USER_OBJ, 7, NO_ID), (USER, 6, 5), (GROUP_OBJ, 5, NO_ID), (MASK, 4, NO_ID), (OTHER, 1, NO_ID)];
        assert_eq!(check_valid(&list(&whole)), Ok(()));
        assert_eq!(as_mode(&list(&whole)), (0o741, false));
        for left_out in 0..whole.len() {
            let mut some = whole.to_vec();
            some.remove(left_out);
            let ok = left_out == 1;
            assert_eq!(check_valid(&list(&some)).is_ok(), ok, "without entry {left_out}");
        }
        let plain = [(USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 0, NO_ID)];
        assert_eq!(as_mode(&list(&plain)), (0o640, true));
        assert_eq!(check_valid(&list(&[(USER_OBJ, 8, NO_ID)])), Err(Errno::EINVAL));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let all = list(&[(USER_OBJ, 7, NO_ID), (GROUP_OBJ, 5, NO_ID), (OTHER, 1, NO_ID)]);
        assert_eq!(decode(&encode(&all).expect("memory")), Ok(all));
    }
}
