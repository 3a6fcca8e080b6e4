//! User and group ids (`credentials(7)`).

use super::prctl::set_cred;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, Kind, User, cap, secure};
use crate::mm::UserPtr;
use crate::task::CurrentTask;

/// "Leave it alone".
const KEEP: u32 = u32::MAX;
/// Most supplementary groups.
const NGROUPS_MAX: usize = 65536;

/// `getuid(2)`.
///
/// # Errors
/// None.
pub fn sys_getuid(cur: &CurrentTask) -> SysResult<u32> {
    let c = cur.cred();
    Ok(c.seen_uid(c.uid))
}

/// `getgid(2)`.
///
/// # Errors
/// None.
pub fn sys_getgid(cur: &CurrentTask) -> SysResult<u32> {
    let c = cur.cred();
    Ok(c.seen_gid(c.gid))
}

/// `geteuid(2)`.
///
/// # Errors
/// None.
pub fn sys_geteuid(cur: &CurrentTask) -> SysResult<u32> {
    let c = cur.cred();
    Ok(c.seen_uid(c.euid))
}

/// `getegid(2)`.
///
/// # Errors
/// None.
pub fn sys_getegid(cur: &CurrentTask) -> SysResult<u32> {
    let c = cur.cred();
    Ok(c.seen_gid(c.egid))
}

/// `getresuid(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_getresuid(cur: &CurrentTask, r: UserPtr<u32>, e: UserPtr<u32>, s: UserPtr<u32>) -> SysResult<()> {
    let c = cur.cred();
    r.write(c.seen_uid(c.uid))?;
    e.write(c.seen_uid(c.euid))?;
    Ok(s.write(c.seen_uid(c.suid))?)
}

/// `getresgid(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_getresgid(cur: &CurrentTask, r: UserPtr<u32>, e: UserPtr<u32>, s: UserPtr<u32>) -> SysResult<()> {
    let c = cur.cred();
    r.write(c.seen_gid(c.gid))?;
    e.write(c.seen_gid(c.egid))?;
    Ok(s.write(c.seen_gid(c.sgid))?)
}

/// What a change of user ids does to capabilities (`capabilities(7)`).
fn fix_capabilities(old: &Cred, new: &mut Cred) {
    if old.secure_bits & secure::NO_SETUID_FIXUP != 0 {
        return;
    }
    let Some(root) = old.user_ns.outside(Kind::User, 0) else { return };
    let was_root = [old.uid, old.euid, old.suid].contains(&root);
    let is_root = [new.uid, new.euid, new.suid].contains(&root);
    if was_root && !is_root && old.secure_bits & secure::KEEP_CAPS == 0 {
        new.cap_permitted = 0;
        new.cap_effective = 0;
    }
    if was_root && !is_root {
        new.cap_ambient = 0;
    }
    if old.euid == root && new.euid != root {
        new.cap_effective = 0;
    } else if old.euid != root && new.euid == root {
        new.cap_effective = new.cap_permitted;
    }
}

fn commit_user(cur: &CurrentTask, mut new: Cred) {
    let old = cur.cred().clone();
    new.fsuid = new.euid;
    fix_capabilities(&old, &mut new);
    if new.uid != old.uid {
        new.user = User::of(new.uid);
    }
    set_cred(cur, new);
}

fn commit_group(cur: &CurrentTask, mut new: Cred) {
    new.fsgid = new.egid;
    set_cred(cur, new);
}

/// What the caller means by a user id.
fn uid(cur: &CurrentTask, raw: u32) -> Result<u32> {
    cur.cred().user_ns.meant(Kind::User, raw)
}

/// What the caller means by a group id.
fn gid(cur: &CurrentTask, raw: u32) -> Result<u32> {
    cur.cred().user_ns.meant(Kind::Group, raw)
}

/// What the caller means by ids, each of which may be [`KEEP`].
fn each<const N: usize>(cur: &CurrentTask, kind: Kind, raw: [u32; N]) -> Result<[u32; N]> {
    let mut out = raw;
    for id in out.iter_mut().filter(|id| **id != KEEP) {
        *id = cur.cred().user_ns.meant(kind, *id)?;
    }
    Ok(out)
}

/// `setuid(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`.
pub fn sys_setuid(cur: &CurrentTask, id: u32) -> SysResult<()> {
    let uid = uid(cur, id)?;
    let mut c = Cred::clone(cur.cred());
    if c.capable_here(cap::SETUID) {
        (c.uid, c.suid) = (uid, uid);
    } else if uid != c.uid && uid != c.suid {
        return Err(Errno::EPERM.into());
    }
    c.euid = uid;
    commit_user(cur, c);
    Ok(())
}

/// `setgid(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`.
pub fn sys_setgid(cur: &CurrentTask, id: u32) -> SysResult<()> {
    let gid = gid(cur, id)?;
    let mut c = Cred::clone(cur.cred());
    if c.capable_here(cap::SETGID) {
        (c.gid, c.sgid) = (gid, gid);
    } else if gid != c.gid && gid != c.sgid {
        return Err(Errno::EPERM.into());
    }
    c.egid = gid;
    commit_group(cur, c);
    Ok(())
}

/// Whether `new` may become an id of somebody without privilege.
fn among(new: u32, allowed: &[u32]) -> Result {
    if new == KEEP || allowed.contains(&new) { Ok(()) } else { Err(Errno::EPERM) }
}

/// `setreuid(2)`.
///
/// # Errors
/// `EINVAL` for an id that the user namespace does not map, `EPERM`.
pub fn sys_setreuid(cur: &CurrentTask, ruid: u32, euid: u32) -> SysResult<()> {
    let [ruid, euid] = each(cur, Kind::User, [ruid, euid])?;
    let mut c = Cred::clone(cur.cred());
    let old = c.uid;
    if !c.capable_here(cap::SETUID) {
        among(ruid, &[c.uid, c.euid])?;
        among(euid, &[c.uid, c.euid, c.suid])?;
    }
    if ruid != KEEP {
        c.uid = ruid;
    }
    if euid != KEEP {
        c.euid = euid;
    }
    if ruid != KEEP || euid != KEEP && euid != old {
        c.suid = c.euid;
    }
    commit_user(cur, c);
    Ok(())
}

/// `setregid(2)`.
///
/// # Errors
/// `EINVAL` for an id that the user namespace does not map, `EPERM`.
pub fn sys_setregid(cur: &CurrentTask, rgid: u32, egid: u32) -> SysResult<()> {
    let [rgid, egid] = each(cur, Kind::Group, [rgid, egid])?;
    let mut c = Cred::clone(cur.cred());
    let old = c.gid;
    if !c.capable_here(cap::SETGID) {
        among(rgid, &[c.gid, c.egid])?;
        among(egid, &[c.gid, c.egid, c.sgid])?;
    }
    if rgid != KEEP {
        c.gid = rgid;
    }
    if egid != KEEP {
        c.egid = egid;
    }
    if rgid != KEEP || egid != KEEP && egid != old {
        c.sgid = c.egid;
    }
    commit_group(cur, c);
    Ok(())
}

/// `setresuid(2)`.
///
/// # Errors
/// `EINVAL` for an id that the user namespace does not map, `EPERM`.
pub fn sys_setresuid(cur: &CurrentTask, ruid: u32, euid: u32, suid: u32) -> SysResult<()> {
    let [ruid, euid, suid] = each(cur, Kind::User, [ruid, euid, suid])?;
    let mut c = Cred::clone(cur.cred());
    if changes_nothing([ruid, euid, suid], [c.uid, c.euid, c.suid], c.fsuid) {
        return Ok(());
    }
    if !c.capable_here(cap::SETUID) {
        let own = [c.uid, c.euid, c.suid];
        for new in [ruid, euid, suid] {
            among(new, &own)?;
        }
    }
    for (field, new) in [(&mut c.uid, ruid), (&mut c.euid, euid), (&mut c.suid, suid)] {
        if new != KEEP {
            *field = new;
        }
    }
    commit_user(cur, c);
    Ok(())
}

/// `setresgid(2)`.
///
/// # Errors
/// `EINVAL` for an id that the user namespace does not map, `EPERM`.
pub fn sys_setresgid(cur: &CurrentTask, rgid: u32, egid: u32, sgid: u32) -> SysResult<()> {
    let [rgid, egid, sgid] = each(cur, Kind::Group, [rgid, egid, sgid])?;
    let mut c = Cred::clone(cur.cred());
    if changes_nothing([rgid, egid, sgid], [c.gid, c.egid, c.sgid], c.fsgid) {
        return Ok(());
    }
    if !c.capable_here(cap::SETGID) {
        let own = [c.gid, c.egid, c.sgid];
        for new in [rgid, egid, sgid] {
            among(new, &own)?;
        }
    }
    for (field, new) in [(&mut c.gid, rgid), (&mut c.egid, egid), (&mut c.sgid, sgid)] {
        if new != KEEP {
            *field = new;
        }
    }
    commit_group(cur, c);
    Ok(())
}

/// Whether `setresuid(2)` or `setresgid(2)` has nothing to do: then the id for files stays another one, too.
fn changes_nothing(new: [u32; 3], old: [u32; 3], fs: u32) -> bool {
    let same = new.iter().zip(old).all(|(&new, old)| new == KEEP || new == old);
    same && (new[1] == KEEP || new[1] == fs)
}

/// `setfsuid(2)`: the old id, whether or not it changed.
///
/// # Errors
/// None.
pub fn sys_setfsuid(cur: &CurrentTask, uid: u32) -> SysResult<u32> {
    let mut c = Cred::clone(cur.cred());
    let old = c.fsuid;
    let seen = c.seen_uid(old);
    let Ok(uid) = c.user_ns.meant(Kind::User, uid) else { return Ok(seen) };
    let own = [c.uid, c.euid, c.suid, c.fsuid];
    if uid != old && (own.contains(&uid) || c.capable_here(cap::SETUID)) {
        c.fsuid = uid;
        let root = c.user_ns.outside(Kind::User, 0);
        if c.secure_bits & secure::NO_SETUID_FIXUP == 0 {
            match (Some(old) == root, Some(uid) == root) {
                (true, false) => c.cap_effective &= !cap::FS_SET,
                (false, true) => c.cap_effective |= c.cap_permitted & cap::FS_SET,
                _ => {}
            }
        }
        set_cred(cur, c);
    }
    Ok(seen)
}

/// `setfsgid(2)`: the old id, whether or not it changed.
///
/// # Errors
/// None.
pub fn sys_setfsgid(cur: &CurrentTask, gid: u32) -> SysResult<u32> {
    let mut c = Cred::clone(cur.cred());
    let old = c.fsgid;
    let seen = c.seen_gid(old);
    let Ok(gid) = c.user_ns.meant(Kind::Group, gid) else { return Ok(seen) };
    let own = [c.gid, c.egid, c.sgid, c.fsgid];
    if gid != old && (own.contains(&gid) || c.capable_here(cap::SETGID)) {
        c.fsgid = gid;
        set_cred(cur, c);
    }
    Ok(seen)
}

/// `getgroups(2)`.
///
/// # Errors
/// `EINVAL` for a list that is too small, `EFAULT`.
pub fn sys_getgroups(cur: &CurrentTask, size: i32, list: UserPtr<u32>) -> SysResult<usize> {
    let groups = &cur.cred().groups;
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size != 0 {
        if groups.len() > size {
            return Err(Errno::EINVAL.into());
        }
        if cur.cred().user_ns.level == 0 {
            list.slice(groups.len()).write_from(groups)?;
        } else {
            for (i, &gid) in groups.iter().enumerate() {
                list.add(i).write(cur.cred().seen_gid(gid))?;
            }
        }
    }
    Ok(groups.len())
}

/// `setgroups(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `ENOMEM`, `EFAULT`.
pub fn sys_setgroups(cur: &CurrentTask, size: u32, list: UserPtr<u32>) -> SysResult<()> {
    let cred = cur.cred();
    if !cred.capable_here(cap::SETGID) || !cred.user_ns.may_setgroups() {
        return Err(Errno::EPERM.into());
    }
    if size as usize > NGROUPS_MAX {
        return Err(Errno::EINVAL.into());
    }
    let mut groups = list.slice(size as usize).read_vec()?;
    for group in &mut groups {
        *group = gid(cur, *group)?;
    }
    groups.sort_unstable();
    set_cred(cur, Cred { groups, ..Cred::clone(cur.cred()) });
    Ok(())
}
