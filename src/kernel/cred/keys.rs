//! Keys and keyrings (`keyrings(7)`, Linux's `security/keys`).
//!
//! A key lives as long as a keyring, a task's credentials or a call has it; a table of all finds it by its number. No
//! key's lock is held while another's is taken: a search copies what a keyring has, and goes on without it.

use super::{Cred, cap};
use crate::abi::linux::CLOCK_REALTIME;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::host;
use crate::sync::deferred::drop_later;
use crate::sync::{Level, Mutex};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

mod search;

pub use search::{is_possessed, named, of_user, search_own};

/// What kind of key it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Type {
    /// It holds keys.
    Keyring,
    /// Data that programs read.
    User,
    /// Data that programs cannot read.
    Logon,
}

impl Type {
    /// By its name.
    pub fn of(name: &[u8]) -> Option<Type> {
        [Type::Keyring, Type::User, Type::Logon].into_iter().find(|t| t.name().as_bytes() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Type::Keyring => "keyring",
            Type::User => "user",
            Type::Logon => "logon",
        }
    }

    /// What a new key of it permits (`key_create_or_update`): its possessor all but reading what is not to be read.
    fn permissions(self) -> u32 {
        let all = perm::ALL << perm::POSSESSOR;
        let unread = if self == Type::Logon { perm::READ << perm::POSSESSOR } else { 0 };
        all & !unread | perm::VIEW << perm::USER
    }
}

/// Permission bits, and where those of whom stand.
#[allow(missing_docs)]
pub mod perm {
    pub const VIEW: u32 = 1;
    pub const READ: u32 = 2;
    pub const WRITE: u32 = 4;
    pub const SEARCH: u32 = 8;
    pub const LINK: u32 = 0x10;
    pub const SETATTR: u32 = 0x20;
    pub const ALL: u32 = 0x3f;
    pub const POSSESSOR: u32 = 24;
    pub const USER: u32 = 16;
    pub const GROUP: u32 = 8;
    /// All bits of all.
    pub const MASK: u32 = 0x3f3f_3f3f;
    /// Of keyrings of a task, of a session, of a session with a name, and of a user's.
    pub const OF_TASK: u32 = ALL << POSSESSOR | VIEW << USER;
    pub const OF_SESSION: u32 = OF_TASK | READ << USER;
    pub const OF_NAMED: u32 = OF_SESSION | LINK << USER;
    pub const OF_USER: u32 = (ALL & !SETATTR) << POSSESSOR | ALL << USER;
}

/// How deep keyrings may be nested below one that is linked, and how deep searches go.
const DEPTH_MAX: usize = 6;
/// Bytes that a link counts for.
const LINK_BYTES: u64 = 4;

type Links = BTreeMap<(Type, Vec<u8>), Arc<Key>>;

enum Payload {
    Data(Vec<u8>),
    Ring(Links),
}

struct State {
    uid: u32,
    gid: u32,
    perm: u32,
    payload: Payload,
    /// When it is no longer of use, s since the epoch; 0: never.
    expires: i64,
    revoked: bool,
    invalidated: bool,
    /// Bytes counted for its owner.
    bytes: u64,
}

/// A key.
pub struct Key {
    /// Its number.
    pub serial: i32,
    /// See [`Type`].
    pub kind: Type,
    /// What it is called.
    pub description: Vec<u8>,
    state: Mutex<State>,
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "key {}", self.serial)
    }
}

/// A key, and whether the caller has it in one of its keyrings (`key_ref_t`).
#[derive(Clone)]
pub struct Found {
    /// The key.
    pub key: Arc<Key>,
    /// Whether the possessor's permissions count.
    pub possessed: bool,
}

/// What keys count for one user.
#[derive(Clone, Copy, Default)]
pub struct Count {
    /// Keys.
    pub keys: u64,
    /// Bytes of descriptions and data.
    pub bytes: u64,
}

#[derive(Default)]
struct All {
    by_serial: BTreeMap<i32, Weak<Key>>,
    counts: BTreeMap<u32, Count>,
    /// Keyring and session keyring of users.
    users: BTreeMap<u32, (Arc<Key>, Arc<Key>)>,
}

static ALL: Mutex<All> =
    Mutex::new(Level::Leaf, All { by_serial: BTreeMap::new(), counts: BTreeMap::new(), users: BTreeMap::new() });
static SERIAL: AtomicI32 = AtomicI32::new(0x1000_0000);

/// Most keys and bytes of a user (`kernel.keys.maxkeys` and the like).
pub fn most(uid: u32) -> Count {
    if uid == 0 { Count { keys: 1_000_000, bytes: 25_000_000 } } else { Count { keys: 200, bytes: 20_000 } }
}

fn count(uid: u32, keys: i64, bytes: i64) -> Result {
    let mut all = ALL.lock();
    let counted = all.counts.entry(uid).or_default();
    let (new_keys, new_bytes) = (counted.keys.wrapping_add_signed(keys), counted.bytes.wrapping_add_signed(bytes));
    let most = most(uid);
    if keys > 0 && new_keys > most.keys || bytes > 0 && new_bytes > most.bytes {
        return Err(Errno::EDQUOT);
    }
    (counted.keys, counted.bytes) = (new_keys, new_bytes);
    if new_keys == 0 && new_bytes == 0 {
        all.counts.remove(&uid);
    }
    Ok(())
}

impl Drop for Key {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let (uid, bytes) = (state.uid, state.bytes);
        if let Payload::Ring(links) = &mut state.payload {
            core::mem::take(links).into_values().for_each(drop_later);
        }
        ALL.lock().by_serial.remove(&self.serial);
        let _ = count(uid, -1, -(bytes as i64));
    }
}

fn now() -> i64 {
    host::time::clock(CLOCK_REALTIME as i32).unwrap_or(0) / 1_000_000_000
}

impl State {
    fn check_valid(&self) -> Result {
        match () {
            () if self.invalidated => Err(Errno::ENOKEY),
            () if self.revoked => Err(Errno::EKEYREVOKED),
            () if self.expires != 0 && self.expires <= now() => Err(Errno::EKEYEXPIRED),
            () => Ok(()),
        }
    }

    /// Counts `bytes` of data, or links, for it in place of what it had.
    fn recount(&mut self, before: u64, bytes: u64) -> Result {
        count(self.uid, 0, bytes as i64 - before as i64)?;
        self.bytes = self.bytes - before + bytes;
        Ok(())
    }
}

impl Key {
    fn new(kind: Type, description: &[u8], cred: &Cred, perm: u32, data: Vec<u8>) -> Result<Arc<Key>> {
        arena::charge(Object::Buffer)?;
        let bytes = description.len() as u64 + 1 + data.len() as u64;
        count(cred.fsuid, 1, bytes as i64)?;
        let payload = if kind == Type::Keyring { Payload::Ring(Links::new()) } else { Payload::Data(data) };
        let (uid, gid) = (cred.fsuid, cred.fsgid);
        let state = State { uid, gid, perm, payload, expires: 0, revoked: false, invalidated: false, bytes };
        let serial = loop {
            // Numbers are not told in order, and not again while the first has a holder.
            let n = SERIAL.fetch_add(0x0135_79b1, Relaxed) & i32::MAX;
            if n >= 3 && !ALL.lock().by_serial.contains_key(&n) {
                break n;
            }
        };
        let state = Mutex::new(Level::Key, state);
        let key = Arc::new(Key { serial, kind, description: description.to_vec(), state });
        ALL.lock().by_serial.insert(serial, Arc::downgrade(&key));
        Ok(key)
    }

    /// An empty keyring.
    ///
    /// # Errors
    /// `EDQUOT`, `ENOMEM`.
    pub fn ring(description: &[u8], cred: &Cred, perm: u32) -> Result<Arc<Key>> {
        Key::new(Type::Keyring, description, cred, perm, Vec::new())
    }

    /// Whether it is of use still (`key_validate`).
    ///
    /// # Errors
    /// `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`.
    pub fn check_valid(&self) -> Result {
        self.state.lock().check_valid()
    }

    /// Owner, group, permissions.
    pub fn attributes(&self) -> (u32, u32, u32) {
        let s = self.state.lock();
        (s.uid, s.gid, s.perm)
    }

    /// Its data; of a keyring the numbers of what it holds.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn read(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        state.check_valid()?;
        let mut out = Vec::new();
        match &state.payload {
            Payload::Data(data) => {
                out.try_reserve_exact(data.len()).map_err(|_| Errno::ENOMEM)?;
                out.extend_from_slice(data);
            }
            Payload::Ring(links) => {
                out.try_reserve_exact(links.len() * 4).map_err(|_| Errno::ENOMEM)?;
                links.values().for_each(|key| out.extend_from_slice(&key.serial.to_le_bytes()));
            }
        }
        Ok(out)
    }

    /// Bytes of its data, or how many keys it holds.
    pub fn size(&self) -> usize {
        match &self.state.lock().payload {
            Payload::Data(data) => data.len(),
            Payload::Ring(links) => links.len(),
        }
    }

    fn links(&self) -> Result<Vec<Arc<Key>>> {
        match &self.state.lock().payload {
            Payload::Ring(links) => Ok(links.values().cloned().collect()),
            Payload::Data(_) => Err(Errno::ENOTDIR),
        }
    }

    /// Gives it other data.
    ///
    /// # Errors
    /// `EDQUOT`.
    pub fn update(&self, data: Vec<u8>) -> Result {
        let mut state = self.state.lock();
        let Payload::Data(old) = &state.payload else { return Err(Errno::EOPNOTSUPP) };
        let before = old.len() as u64;
        state.recount(before, data.len() as u64)?;
        state.expires = 0;
        let old = core::mem::replace(&mut state.payload, Payload::Data(data));
        drop(state);
        drop(old);
        Ok(())
    }

    /// Puts `key` into this keyring, in the place of one of the same type and description.
    ///
    /// # Errors
    /// `ENOTDIR`, `EDEADLK` where that would make a circle, `ELOOP` where it would be too deep, `EDQUOT`, `EKEYREVOKED`.
    pub fn link(self: &Arc<Self>, key: &Arc<Key>) -> Result {
        if key.kind == Type::Keyring {
            self.check_circle(key)?;
        }
        arena::charge(Object::Buffer)?;
        let old = {
            let mut state = self.state.lock();
            if state.revoked {
                return Err(Errno::EKEYREVOKED);
            }
            let name = (key.kind, key.description.clone());
            let Payload::Ring(links) = &state.payload else { return Err(Errno::ENOTDIR) };
            if !links.contains_key(&name) {
                state.recount(0, LINK_BYTES)?;
            }
            let Payload::Ring(links) = &mut state.payload else { return Err(Errno::ENOTDIR) };
            links.insert(name, key.clone())
        };
        old.into_iter().for_each(drop_later);
        Ok(())
    }

    fn check_circle(self: &Arc<Self>, below: &Arc<Key>) -> Result {
        // Level by level, each keyring once: as many ways as a guest likes lead to one.
        let (mut level, mut seen) = (alloc::vec![below.clone()], BTreeSet::new());
        for depth in 0.. {
            if level.is_empty() {
                break;
            }
            if depth > DEPTH_MAX {
                return Err(Errno::ELOOP);
            }
            let mut next = Vec::new();
            for ring in level {
                if Arc::ptr_eq(&ring, self) {
                    return Err(Errno::EDEADLK);
                }
                let inner = ring.links()?.into_iter().filter(|k| k.kind == Type::Keyring && seen.insert(k.serial));
                next.extend(inner);
            }
            level = next;
        }
        Ok(())
    }

    /// Takes `key` out of this keyring.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT`.
    pub fn unlink(&self, key: &Arc<Key>) -> Result {
        let mut state = self.state.lock();
        let Payload::Ring(links) = &mut state.payload else { return Err(Errno::ENOTDIR) };
        let name = (key.kind, key.description.clone());
        if !links.get(&name).is_some_and(|k| Arc::ptr_eq(k, key)) {
            return Err(Errno::ENOENT);
        }
        let gone = links.remove(&name);
        state.recount(LINK_BYTES, 0)?;
        drop(state);
        gone.into_iter().for_each(drop_later);
        Ok(())
    }

    /// What it holds of this type and description.
    pub fn holds(&self, kind: Type, description: &[u8]) -> Option<Arc<Key>> {
        match &self.state.lock().payload {
            Payload::Ring(links) => links.get(&(kind, description.to_vec())).cloned(),
            Payload::Data(_) => None,
        }
    }

    /// Empties a keyring.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn clear(&self) -> Result {
        let mut state = self.state.lock();
        let Payload::Ring(links) = &mut state.payload else { return Err(Errno::ENOTDIR) };
        let gone = core::mem::take(links);
        state.recount(gone.len() as u64 * LINK_BYTES, 0)?;
        drop(state);
        gone.into_values().for_each(drop_later);
        Ok(())
    }

    /// It is of no use any more; what it holds is gone.
    pub fn revoke(&self) {
        let mut state = self.state.lock();
        state.revoked = true;
        let (empty, bytes) = match &state.payload {
            Payload::Data(data) => (Payload::Data(Vec::new()), data.len() as u64),
            Payload::Ring(links) => (Payload::Ring(Links::new()), links.len() as u64 * LINK_BYTES),
        };
        let _ = state.recount(bytes, 0);
        let gone = core::mem::replace(&mut state.payload, empty);
        drop(state);
        if let Payload::Ring(links) = gone {
            links.into_values().for_each(drop_later);
        }
    }

    /// It is to be forgotten at once.
    pub fn invalidate(&self) {
        self.state.lock().invalidated = true;
    }

    /// It is of use for so many seconds, or for ever (0).
    pub fn set_timeout(&self, seconds: u32) {
        self.state.lock().expires = if seconds == 0 { 0 } else { now() + i64::from(seconds) };
    }

    /// Sets the permissions.
    ///
    /// # Errors
    /// `EACCES` for who does not own it.
    pub fn set_perm(&self, cred: &Cred, perm: u32) -> Result {
        let mut state = self.state.lock();
        if state.uid != cred.fsuid && !cred.capable(cap::SYS_ADMIN) {
            return Err(Errno::EACCES);
        }
        state.perm = perm;
        Ok(())
    }

    /// Gives it to others.
    ///
    /// # Errors
    /// `EACCES`, `EDQUOT`.
    pub fn set_owner(&self, cred: &Cred, uid: Option<u32>, gid: Option<u32>) -> Result {
        let mut state = self.state.lock();
        let strange = uid.is_some_and(|u| u != state.uid) || gid.is_some_and(|g| g != state.gid && !cred.in_group(g));
        if strange && !cred.capable(cap::SYS_ADMIN) {
            return Err(Errno::EACCES);
        }
        if let Some(uid) = uid.filter(|&u| u != state.uid) {
            count(uid, 1, state.bytes as i64)?;
            let _ = count(state.uid, -1, -(state.bytes as i64));
            state.uid = uid;
        }
        state.gid = gid.unwrap_or(state.gid);
        Ok(())
    }

    /// Flags, permissions, owner and time left, as `/proc/keys` shows them.
    pub fn shown(&self) -> (u32, u32, u32, i64, [bool; 3]) {
        let s = self.state.lock();
        let left = if s.expires == 0 { -1 } else { (s.expires - now()).max(0) };
        (s.uid, s.gid, s.perm, left, [s.revoked, s.expires != 0 && left == 0, s.invalidated])
    }
}

/// Makes a key, or changes the one of the same type and description in `ring` (`key_create_or_update`).
///
/// # Errors
/// `EACCES`, `EDQUOT`, `ENOMEM`.
pub fn add(cred: &Cred, ring: &Found, kind: Type, description: &[u8], data: Vec<u8>) -> Result<Arc<Key>> {
    ring.permits(cred, perm::WRITE)?;
    if kind != Type::Keyring
        && let Some(key) = ring.key.holds(kind, description)
        && key.check_valid().is_ok()
    {
        let found = Found { key, possessed: ring.possessed };
        found.permits(cred, perm::WRITE)?;
        found.key.update(data)?;
        return Ok(found.key);
    }
    let key = Key::new(kind, description, cred, kind.permissions(), data)?;
    ring.key.link(&key)?;
    Ok(key)
}

/// The key with this number.
pub fn by_serial(serial: i32) -> Option<Arc<Key>> {
    ALL.lock().by_serial.get(&serial).and_then(Weak::upgrade)
}

/// Every key, by number.
pub fn all() -> Vec<Arc<Key>> {
    let known: Vec<Weak<Key>> = ALL.lock().by_serial.values().cloned().collect();
    known.iter().filter_map(Weak::upgrade).collect()
}

/// What keys count for each user.
pub fn counts() -> Vec<(u32, Count)> {
    ALL.lock().counts.iter().map(|(&uid, &c)| (uid, c)).collect()
}

/// A key's group as programs see it: keyrings of users have none.
pub fn seen_gid(cred: &Cred, gid: u32) -> u32 {
    if gid == u32::MAX { super::ns::OVERFLOW } else { cred.seen_gid(gid) }
}

/// The keyrings of a task.
#[derive(Clone, Default, Debug)]
pub struct Rings {
    /// Of the thread alone.
    pub thread: Option<Arc<Key>>,
    /// Of the process.
    pub process: Option<Arc<Key>>,
    /// Of the session; without one the user's session keyring counts.
    pub session: Option<Arc<Key>>,
    /// Where `request_key(2)` puts what it makes (`KEY_REQKEY_DEFL_*`).
    pub destination: u8,
}

impl Rings {
    /// What a new process has.
    pub fn inherited(&self) -> Rings {
        Rings { thread: None, process: None, session: self.session.clone(), destination: self.destination }
    }

    /// Whether it is what a new process has.
    pub fn is_inherited(&self) -> bool {
        self.thread.is_none() && self.process.is_none()
    }
}
