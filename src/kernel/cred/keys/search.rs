//! Finding keys.

use super::{ALL, DEPTH_MAX, Found, Key, Type, all, perm};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;

impl Found {
    /// Whether `cred` may do this with it (`key_task_permission`).
    ///
    /// # Errors
    /// `EACCES`.
    pub fn permits(&self, cred: &Cred, need: u32) -> Result {
        let (uid, gid, all) = self.key.attributes();
        let group = all >> perm::GROUP & perm::ALL != 0 && cred.in_group(gid);
        let mut may = match uid == cred.fsuid {
            true => all >> perm::USER,
            false if group => all >> perm::GROUP,
            false => all,
        };
        if self.possessed {
            may |= all >> perm::POSSESSOR;
        }
        if may & need == need { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Looks for a key that `matches` in this keyring and those in it (`keyring_search`); `checked`: those that are
    /// of no use are passed over, as are those that may not be searched.
    ///
    /// # Errors
    /// `ENOKEY`, or what stands in the way of the key that was found.
    pub fn search(&self, cred: &Cred, checked: bool, matches: impl Fn(&Key) -> bool) -> Result<Found> {
        let mut error = Errno::ENOKEY;
        let (mut todo, mut seen) = (alloc::vec![(self.key.clone(), 0)], BTreeSet::new());
        let mut next = 0;
        while let Some((ring, depth)) = todo.get(next).cloned() {
            next += 1;
            for key in ring.links()? {
                let found = Found { key, possessed: self.possessed };
                let fits = matches(&found.key);
                let is_ring = found.key.kind == Type::Keyring;
                if !fits && !is_ring {
                    continue;
                }
                let state = if checked { found.key.check_valid() } else { Ok(()) };
                let usable = state.and_then(|()| found.permits(cred, perm::SEARCH));
                match (fits, usable.is_ok()) {
                    (true, true) => return Ok(found),
                    (true, false) => error = usable.err().unwrap_or(error),
                    (false, true) if depth < DEPTH_MAX && seen.insert(found.key.serial) => {
                        todo.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                        todo.push((found.key, depth + 1));
                    }
                    _ => {}
                }
            }
        }
        Err(error)
    }
}

/// A keyring with this description that `cred` may search, by whom it was given its name (`find_keyring_by_name`).
pub fn named(cred: &Cred, description: &[u8]) -> Option<Arc<Key>> {
    let fits = |key: &Arc<Key>| {
        let found = Found { key: key.clone(), possessed: false };
        key.kind == Type::Keyring
            && key.description == description
            && key.check_valid().is_ok()
            && found.permits(cred, perm::SEARCH).is_ok()
    };
    all().into_iter().find(fits)
}

/// The keyring and the session keyring of the user `cred.uid`, made at first need.
///
/// # Errors
/// `EDQUOT`, `ENOMEM`.
pub fn of_user(cred: &Cred) -> Result<(Arc<Key>, Arc<Key>)> {
    let known = ALL.lock().users.get(&cred.uid).cloned();
    if let Some(rings) = known {
        return Ok(rings);
    }
    let owner = Cred { fsuid: cred.uid, fsgid: u32::MAX, ..cred.clone() };
    let ring = Key::ring(alloc::format!("_uid.{}", cred.uid).as_bytes(), &owner, perm::OF_USER)?;
    let session = Key::ring(alloc::format!("_uid_ses.{}", cred.uid).as_bytes(), &owner, perm::OF_USER)?;
    session.link(&ring)?;
    let mut all = ALL.lock();
    let rings = all.users.entry(cred.uid).or_insert((ring.clone(), session.clone())).clone();
    drop(all);
    Ok(rings)
}

/// A key that `matches` in one of the keyrings of a task with these credentials (`search_process_keyrings`); `checked` as for
/// [`Found::search`].
///
/// # Errors
/// As [`Found::search`].
pub fn search_own(cred: &Cred, checked: bool, matches: impl Fn(&Key) -> bool) -> Result<Found> {
    // That a keyring has nothing counts for more than what is of no use in another.
    let (mut error, mut absent) = (Errno::ENOKEY, false);
    let own = &cred.keys;
    let session = match &own.session {
        Some(ring) => ring.clone(),
        None => of_user(cred)?.1,
    };
    for key in [own.thread.clone(), own.process.clone(), Some(session)].into_iter().flatten() {
        match (Found { key, possessed: true }).search(cred, checked, &matches) {
            Ok(found) => return Ok(found),
            Err(Errno::ENOKEY) => absent = true,
            Err(e) => error = e,
        }
    }
    Err(if absent { Errno::ENOKEY } else { error })
}

/// Whether a task with these credentials has the key in one of its keyrings.
pub fn is_possessed(cred: &Cred, key: &Key) -> bool {
    let own = &cred.keys;
    let rings = [&own.thread, &own.process, &own.session];
    rings.iter().any(|r| r.as_ref().is_some_and(|r| r.serial == key.serial))
        || search_own(cred, false, |k| k.serial == key.serial).is_ok()
}
