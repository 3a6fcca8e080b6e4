//! `add_key(2)`, `request_key(2)`, `keyctl(2)`.
//!
//! Nothing outside of the kernel makes keys for programs: what `request_key` does not find is not there.

use crate::abi::{Errno, Result, SysResult};
use crate::cred::keys::{self, Found, Key, Rings, Type, perm};
use crate::cred::{Cred, Kind};
use crate::mm::{UserPtr, UserStr};
use crate::task::CurrentTask;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Keyrings that go by what they are of (`KEY_SPEC_*`).
const OF_THREAD: i32 = -1;
const OF_PROCESS: i32 = -2;
const OF_SESSION: i32 = -3;
const OF_USER: i32 = -4;
const OF_USER_SESSION: i32 = -5;
const OF_GROUP: i32 = -6;
/// The last of those that there are, of a program that makes keys for others.
const OF_REQUESTOR: i32 = -8;

/// Longest data of any key, description and type, bytes.
const DATA_MAX: usize = (1 << 20) - 1;
/// See [`DATA_MAX`].
const USER_MAX: usize = 32767;
const DESCRIPTION_MAX: usize = 4096;
const TYPE_MAX: usize = 32;
const PAGE: usize = 4096;

/// `KEYCTL_*`.
mod command {
    pub const GET_KEYRING_ID: u32 = 0;
    pub const JOIN_SESSION_KEYRING: u32 = 1;
    pub const UPDATE: u32 = 2;
    pub const REVOKE: u32 = 3;
    pub const CHOWN: u32 = 4;
    pub const SETPERM: u32 = 5;
    pub const DESCRIBE: u32 = 6;
    pub const CLEAR: u32 = 7;
    pub const LINK: u32 = 8;
    pub const UNLINK: u32 = 9;
    pub const SEARCH: u32 = 10;
    pub const READ: u32 = 11;
    pub const SET_REQKEY_KEYRING: u32 = 14;
    pub const SET_TIMEOUT: u32 = 15;
    pub const INSTANTIATE: u32 = 12;
    pub const NEGATE: u32 = 13;
    pub const ASSUME_AUTHORITY: u32 = 16;
    pub const GET_SECURITY: u32 = 17;
    pub const REJECT: u32 = 19;
    pub const INSTANTIATE_IOV: u32 = 20;
    pub const INVALIDATE: u32 = 21;
    pub const MOVE: u32 = 30;
    pub const CAPABILITIES: u32 = 31;
}

/// What there is (`KEYCTL_CAPABILITIES`): that question itself, invalidation, moves; names that count in a user namespace.
const CAPABILITIES: [u8; 2] = [1 | 0x20 | 0x80, 1];

/// `KEYCTL_MOVE_EXCL`.
const MOVE_EXCL: u64 = 1;

fn set_rings(cur: &CurrentTask, change: impl FnOnce(&mut Rings)) {
    let mut cred = Cred::clone(cur.cred());
    change(&mut cred.keys);
    super::prctl::set_cred(cur, cred);
}

/// The caller's keyring that `id` stands for; with `create` it is made where there is none.
fn special(cur: &CurrentTask, id: i32, create: bool) -> Result<Arc<Key>> {
    let cred = cur.cred();
    let made = |name: &[u8], perm| if create { Key::ring(name, cred, perm) } else { Err(Errno::ENOKEY) };
    match id {
        OF_THREAD => match &cred.keys.thread {
            Some(ring) => Ok(ring.clone()),
            None => {
                let ring = made(b"_tid", perm::OF_TASK)?;
                set_rings(cur, |r| r.thread = Some(ring.clone()));
                Ok(ring)
            }
        },
        OF_PROCESS => match &cred.keys.process {
            Some(ring) => Ok(ring.clone()),
            None => {
                let ring = made(b"_pid", perm::OF_TASK)?;
                set_rings(cur, |r| r.process = Some(ring.clone()));
                Ok(ring)
            }
        },
        OF_SESSION => {
            let (_, of_user) = keys::of_user(cred)?;
            match &cred.keys.session {
                Some(ring) if !create || !Arc::ptr_eq(ring, &of_user) => Ok(ring.clone()),
                None if !create => {
                    set_rings(cur, |r| r.session = Some(of_user.clone()));
                    Ok(of_user)
                }
                _ => join(cur, None),
            }
        }
        OF_USER => Ok(keys::of_user(cred)?.0),
        OF_USER_SESSION => Ok(keys::of_user(cred)?.1),
        OF_GROUP => Err(Errno::EINVAL),
        OF_REQUESTOR..OF_GROUP => Err(Errno::ENOKEY),
        _ => Err(Errno::EINVAL),
    }
}

/// The key that a program means by `id`, whether or not it may do anything with it (`lookup_user_key`).
fn found(cur: &CurrentTask, id: i32, create: bool) -> Result<Found> {
    if id < 0 {
        return Ok(Found { key: special(cur, id, create)?, possessed: true });
    }
    if id == 0 {
        return Err(Errno::EINVAL);
    }
    let key = keys::by_serial(id).ok_or(Errno::ENOKEY)?;
    let possessed = keys::is_possessed(cur.cred(), &key);
    Ok(Found { key, possessed })
}

/// As [`found`], of a key that is of use and with which the caller may do `need`.
fn key(cur: &CurrentTask, id: i32, create: bool, need: u32) -> Result<Found> {
    let found = found(cur, id, create)?;
    found.key.check_valid()?;
    found.permits(cur.cred(), need)?;
    Ok(found)
}

/// The name of a type; those that begin with a dot are the kernel's own.
fn type_name(name: UserStr) -> Result<Vec<u8>> {
    let name = name.read(TYPE_MAX, Errno::EINVAL)?;
    match name.first() {
        None => Err(Errno::EINVAL),
        Some(b'.') => Err(Errno::EPERM),
        Some(_) => Ok(name),
    }
}

/// `add_key(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`, `ENODEV` for an unknown type, `ENOTDIR`, `EACCES`, `EDQUOT`, `ENOKEY`, `EKEYREVOKED`,
/// `EKEYEXPIRED`.
pub fn sys_add_key(
    cur: &CurrentTask,
    kind: UserStr,
    description: UserStr,
    data: UserPtr<u8>,
    len: usize,
    ring: i32,
) -> SysResult<i32> {
    if len > DATA_MAX {
        return Err(Errno::EINVAL.into());
    }
    let kind = type_name(kind)?;
    let description = if description.0 == 0 { Vec::new() } else { description.read(DESCRIPTION_MAX, Errno::EINVAL)? };
    if description.first() == Some(&b'.') && kind.starts_with(b"keyring") {
        return Err(Errno::EPERM.into());
    }
    let data = data.slice(len).read_vec()?;
    let ring = key(cur, ring, true, perm::WRITE)?;
    let kind = Type::of(&kind).ok_or(Errno::ENODEV)?;
    if ring.key.kind != Type::Keyring {
        return Err(Errno::ENOTDIR.into());
    }
    check_data(kind, &data)?;
    // What a logon key is for stands in front of a colon.
    let subject = description.iter().position(|&b| b == b':').is_some_and(|at| at > 0);
    if description.is_empty() || kind == Type::Logon && !subject {
        return Err(Errno::EINVAL.into());
    }
    Ok(keys::add(cur.cred(), &ring, kind, &description, data)?.serial)
}

fn check_data(kind: Type, data: &[u8]) -> Result {
    let fits = match kind {
        Type::Keyring => data.is_empty(),
        _ => (1..=USER_MAX).contains(&data.len()),
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `request_key(2)`.
///
/// # Errors
/// `ENOKEY`, `ENOENT` where somebody is to make the key, `EINVAL`, `EPERM`, `EFAULT`, `EACCES`, `EKEYREVOKED`,
/// `EKEYEXPIRED`.
pub fn sys_request_key(
    cur: &CurrentTask,
    kind: UserStr,
    description: UserStr,
    callout: UserStr,
    ring: i32,
) -> SysResult<i32> {
    let kind = type_name(kind)?;
    let description = description.read(DESCRIPTION_MAX, Errno::EINVAL)?;
    if callout.0 != 0 {
        callout.read(PAGE, Errno::EINVAL)?;
    }
    let to = if ring == 0 { None } else { Some(key(cur, ring, true, perm::WRITE)?) };
    let kind = Type::of(&kind).ok_or(Errno::ENOKEY)?;
    // What has expired is passed over.
    let fits = |k: &Key| k.kind == kind && k.description == description;
    let found = keys::search_own(cur.cred(), true, fits);
    let found = found.map_err(|e| match e {
        // Who would make the key, `/sbin/request-key`, is not to be found by a kernel in a program's memory.
        Errno::ENOKEY | Errno::EKEYEXPIRED if callout.0 != 0 && kind == Type::Keyring => Errno::EPERM,
        Errno::ENOKEY | Errno::EKEYEXPIRED if callout.0 != 0 => Errno::ENOENT,
        Errno::EKEYEXPIRED => Errno::ENOKEY,
        e => e,
    })?;
    if let Some(to) = to {
        found.permits(cur.cred(), perm::LINK)?;
        to.key.link(&found.key)?;
    }
    Ok(found.key.serial)
}

/// `keyctl(2)`.
///
/// # Errors
/// `EOPNOTSUPP` for an unknown command, and each command's.
pub fn sys_keyctl(cur: &CurrentTask, op: u32, a: u64, b: u64, c: u64, d: u64) -> SysResult<i64> {
    let (id, second) = (a as i32, b as i32);
    let done = |r: Result| r.map(|()| 0);
    let out = match op {
        command::GET_KEYRING_ID => key(cur, id, second != 0, perm::SEARCH).map(|found| i64::from(found.key.serial)),
        command::JOIN_SESSION_KEYRING => join_named(cur, UserStr(a)),
        command::UPDATE => done(update(cur, id, UserPtr::new(b), c as usize)),
        command::REVOKE => done(revoke(cur, id)),
        command::CHOWN => done(chown(cur, id, b as u32, c as u32)),
        command::SETPERM => done(set_perm(cur, id, b as u32)),
        command::DESCRIBE => describe(cur, id, UserPtr::new(b), c as usize),
        command::CLEAR => done(key(cur, id, true, perm::WRITE).and_then(|ring| ring.key.clear())),
        command::LINK => done(link(cur, id, second)),
        command::UNLINK => done(unlink(cur, id, second)),
        command::SEARCH => search(cur, id, UserStr(b), UserStr(c), d as i32),
        command::READ => read(cur, id, UserPtr::new(b), c as usize),
        command::SET_REQKEY_KEYRING => set_destination(cur, id),
        command::SET_TIMEOUT => done(key(cur, id, true, perm::SETATTR).map(|k| k.key.set_timeout(b as u32))),
        command::GET_SECURITY => {
            // There is no security module that would give keys a label.
            key(cur, id, true, perm::VIEW).and_then(|_| give(b"\0", UserPtr::new(b), c as usize))
        }
        command::INVALIDATE => done(key(cur, id, false, perm::SEARCH).map(|k| k.key.invalidate())),
        // Nobody is asked to make keys, so nobody has the right to one that is being made.
        command::REJECT if !(1..4096).contains(&c) || matches!(c, 512..=516) => Err(Errno::EINVAL),
        command::INSTANTIATE | command::NEGATE | command::REJECT | command::INSTANTIATE_IOV => Err(Errno::EPERM),
        command::ASSUME_AUTHORITY if id < 0 => Err(Errno::EINVAL),
        command::ASSUME_AUTHORITY if id == 0 => Ok(0),
        command::ASSUME_AUTHORITY => Err(Errno::ENOKEY),
        command::MOVE => done(move_key(cur, id, second, c as i32, d)),
        command::CAPABILITIES => capabilities(UserPtr::new(a), b as usize),
        _ => Err(Errno::EOPNOTSUPP),
    };
    Ok(out?)
}

/// What does not fit is left out, what is too much is zero, up to a page.
fn capabilities(out: UserPtr<u8>, len: usize) -> Result<i64> {
    let told = len.min(CAPABILITIES.len());
    out.slice(told).write_from(&CAPABILITIES[..told])?;
    const ZEROS: [u8; 64] = [0; 64];
    for at in (told..len.min(PAGE)).step_by(ZEROS.len()) {
        let n = (len.min(PAGE) - at).min(ZEROS.len());
        out.add(at).slice(n).write_from(&ZEROS[..n])?;
    }
    Ok(CAPABILITIES.len() as i64)
}

/// The caller gets a new session keyring, or the one with a name.
fn join(cur: &CurrentTask, name: Option<&[u8]>) -> Result<Arc<Key>> {
    let cred = cur.cred();
    let ring = match name {
        None => Key::ring(b"_ses", cred, perm::OF_SESSION)?,
        Some(name) => match keys::named(cred, name) {
            Some(ring) => ring,
            None => Key::ring(name, cred, perm::OF_NAMED)?,
        },
    };
    set_rings(cur, |r| r.session = Some(ring.clone()));
    Ok(ring)
}

fn join_named(cur: &CurrentTask, name: UserStr) -> Result<i64> {
    let name = match name.0 {
        0 => None,
        _ => Some(name.read(DESCRIPTION_MAX, Errno::EINVAL)?),
    };
    if name.as_ref().is_some_and(|n| n.first() == Some(&b'.')) {
        return Err(Errno::EPERM);
    }
    Ok(join(cur, name.as_deref())?.serial.into())
}

fn update(cur: &CurrentTask, id: i32, data: UserPtr<u8>, len: usize) -> Result {
    if len > PAGE {
        return Err(Errno::EINVAL);
    }
    let data = data.slice(len).read_vec()?;
    let found = key(cur, id, false, perm::WRITE)?;
    if found.key.kind == Type::Keyring {
        return Err(Errno::EOPNOTSUPP);
    }
    check_data(found.key.kind, &data)?;
    found.key.update(data)
}

fn revoke(cur: &CurrentTask, id: i32) -> Result {
    let found = match key(cur, id, false, perm::WRITE) {
        Err(Errno::EACCES) => key(cur, id, false, perm::SETATTR)?,
        other => other?,
    };
    found.key.revoke();
    Ok(())
}

fn chown(cur: &CurrentTask, id: i32, uid: u32, gid: u32) -> Result {
    let meant = |kind, id| match id {
        u32::MAX => Ok(None),
        id => cur.cred().user_ns.meant(kind, id).map(Some),
    };
    let (uid, gid) = (meant(Kind::User, uid)?, meant(Kind::Group, gid)?);
    if uid.or(gid).is_none() {
        return Ok(());
    }
    key(cur, id, true, perm::SETATTR)?.key.set_owner(cur.cred(), uid, gid)
}

fn set_perm(cur: &CurrentTask, id: i32, new: u32) -> Result {
    if new & !perm::MASK != 0 {
        return Err(Errno::EINVAL);
    }
    key(cur, id, true, perm::SETATTR)?.key.set_perm(cur.cred(), new)
}

/// Copies out what has room as a whole; how much it is.
fn give(bytes: &[u8], out: UserPtr<u8>, len: usize) -> Result<i64> {
    if !out.is_null() && len >= bytes.len() {
        out.slice(bytes.len()).write_from(bytes)?;
    }
    Ok(bytes.len() as i64)
}

fn describe(cur: &CurrentTask, id: i32, out: UserPtr<u8>, len: usize) -> Result<i64> {
    let found = key(cur, id, false, perm::VIEW)?;
    let (uid, gid, all) = found.key.attributes();
    let (uid, gid) = (cur.cred().seen_uid(uid), keys::seen_gid(cur.cred(), gid));
    let mut text = format!("{};{};{};{all:08x};", found.key.kind.name(), uid as i32, gid as i32).into_bytes();
    text.extend_from_slice(&found.key.description);
    text.push(0);
    give(&text, out, len)
}

fn read(cur: &CurrentTask, id: i32, out: UserPtr<u8>, len: usize) -> Result<i64> {
    let found = found(cur, id, false).map_err(|_| Errno::ENOKEY)?;
    // Whoever possesses a key may read it where it may be searched for.
    if found.permits(cur.cred(), perm::READ).is_err() && !found.possessed {
        return Err(Errno::EACCES);
    }
    if found.key.kind == Type::Logon {
        return Err(Errno::EOPNOTSUPP);
    }
    if found.key.kind == Type::Keyring && len <= PAGE && !len.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    give(&found.key.read()?, out, len)
}

fn link(cur: &CurrentTask, id: i32, ring: i32) -> Result {
    let ring = key(cur, ring, true, perm::WRITE)?;
    let found = key(cur, id, true, perm::LINK)?;
    ring.key.link(&found.key)
}

fn unlink(cur: &CurrentTask, id: i32, ring: i32) -> Result {
    let ring = key(cur, ring, false, perm::WRITE)?;
    let found = found(cur, id, false)?;
    ring.key.unlink(&found.key)
}

fn move_key(cur: &CurrentTask, id: i32, from: i32, to: i32, flags: u64) -> Result {
    if flags & !MOVE_EXCL != 0 {
        return Err(Errno::EINVAL);
    }
    let found = key(cur, id, true, perm::LINK)?;
    let from = key(cur, from, false, perm::WRITE)?;
    let to = key(cur, to, true, perm::WRITE)?;
    if Arc::ptr_eq(&from.key, &to.key) {
        return Ok(());
    }
    if from.key.kind != Type::Keyring || to.key.kind != Type::Keyring {
        return Err(Errno::ENOTDIR);
    }
    let same = |ring: &Found| ring.key.holds(found.key.kind, &found.key.description);
    if !same(&from).is_some_and(|k| Arc::ptr_eq(&k, &found.key)) {
        return Err(Errno::ENOENT);
    }
    if flags & MOVE_EXCL != 0 && same(&to).is_some() {
        return Err(Errno::EEXIST);
    }
    to.key.link(&found.key)?;
    from.key.unlink(&found.key)
}

fn search(cur: &CurrentTask, id: i32, kind: UserStr, description: UserStr, to: i32) -> Result<i64> {
    let kind = type_name(kind)?;
    let description = description.read(DESCRIPTION_MAX, Errno::EINVAL)?;
    let ring = key(cur, id, false, perm::SEARCH)?;
    let to = if to == 0 { None } else { Some(key(cur, to, true, perm::WRITE)?) };
    let kind = Type::of(&kind).ok_or(Errno::ENOKEY)?;
    if ring.key.kind != Type::Keyring {
        return Err(Errno::ENOTDIR);
    }
    let found = ring.search(cur.cred(), true, |k| k.kind == kind && k.description == description)?;
    if let Some(to) = to {
        found.permits(cur.cred(), perm::LINK)?;
        to.key.link(&found.key)?;
    }
    Ok(found.key.serial.into())
}

/// Where `request_key` puts what is made for it (`KEY_REQKEY_DEFL_*`): the one before is returned.
fn set_destination(cur: &CurrentTask, to: i32) -> Result<i64> {
    let old = i64::from(cur.cred().keys.destination);
    let made = match to {
        -1 => return Ok(old),
        1 => Some(OF_THREAD),
        2 => Some(OF_PROCESS),
        0 | 3..=5 | 7 => None,
        _ => return Err(Errno::EINVAL),
    };
    if let Some(ring) = made {
        special(cur, ring, true)?;
    }
    set_rings(cur, |r| r.destination = to as u8);
    Ok(old)
}
