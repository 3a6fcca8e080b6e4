//! How many namespaces users have made, and how many they may (`/proc/sys/user`, `namespaces(7)`).

use super::UserNamespace;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Of {
    User,
    Pid,
    Uts,
    Ipc,
    Net,
    Mount,
    Cgroup,
    Time,
}

/// How many kinds are counted.
const KINDS: usize = 8;

/// The counts of a user namespace.
pub struct Counts {
    /// By user id of the initial namespace and kind.
    made: Mutex<BTreeMap<(u32, Of), i32>>,
    /// `max_*_namespaces` of the namespace.
    most: [AtomicI32; KINDS],
}

impl Default for Counts {
    fn default() -> Counts {
        let made = Mutex::new(Level::Leaf, BTreeMap::new());
        Counts { made, most: [const { AtomicI32::new(i32::MAX) }; KINDS] }
    }
}

impl Counts {
    /// How many each user may make.
    pub fn most(&self, of: Of) -> i32 {
        self.most[of as usize].load(Relaxed)
    }

    /// Sets it.
    pub fn set_most(&self, of: Of, most: i32) {
        self.most[of as usize].store(most, Relaxed);
    }

    fn add(&self, uid: u32, of: Of) -> bool {
        let mut made = self.made.lock();
        let count = made.entry((uid, of)).or_insert(0);
        if *count < self.most(of) {
            *count += 1;
            return true;
        }
        if *count == 0 {
            made.remove(&(uid, of));
        }
        false
    }

    fn take(&self, uid: u32, of: Of) {
        let mut made = self.made.lock();
        if let Some(count) = made.get_mut(&(uid, of)) {
            *count -= 1;
            if *count == 0 {
                made.remove(&(uid, of));
            }
        }
    }
}

/// A namespace that counts for its maker, and for the makers of the user namespaces that it was made in.
pub struct Charge {
    ns: Arc<UserNamespace>,
    uid: u32,
    of: Of,
}

impl Drop for Charge {
    fn drop(&mut self) {
        uncharge(&self.ns, self.uid, self.of, None);
    }
}

/// Takes the counts back from `ns` upwards, up to the namespace `to`, which is left alone.
fn uncharge(ns: &Arc<UserNamespace>, uid: u32, of: Of, to: Option<&UserNamespace>) {
    let (mut at, mut uid) = (ns, uid);
    while to.is_none_or(|to| !core::ptr::eq(&**at, to)) {
        at.counts.take(uid, of);
        let Some(parent) = &at.parent else { return };
        uid = at.owner.0;
        at = parent;
    }
}

/// Counts a namespace that the user `uid` makes in `ns` (`inc_ucount`).
///
/// # Errors
/// `ENOSPC` where somebody has too many, `ENOMEM`.
pub fn charge(ns: &Arc<UserNamespace>, uid: u32, of: Of) -> Result<Charge> {
    arena::charge(Object::Namespace)?;
    let (mut at, mut who) = (ns, uid);
    loop {
        if !at.counts.add(who, of) {
            uncharge(ns, uid, of, Some(at));
            return Err(Errno::ENOSPC);
        }
        let Some(parent) = &at.parent else { break };
        who = at.owner.0;
        at = parent;
    }
    Ok(Charge { ns: ns.clone(), uid, of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_make_so_many_of_a_kind() {
        let ns = UserNamespace::initial();
        let old = ns.counts.most(Of::Uts);
        ns.counts.set_most(Of::Uts, 2);
        let (a, b) = (charge(ns, 4712, Of::Uts), charge(ns, 4712, Of::Uts));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(charge(ns, 4712, Of::Uts).map(|_| ()), Err(Errno::ENOSPC));
        assert!(charge(ns, 4713, Of::Uts).is_ok() && charge(ns, 4712, Of::Ipc).is_ok());
        drop(a);
        assert!(charge(ns, 4712, Of::Uts).is_ok());
        drop(b);
        assert!(ns.counts.made.lock().iter().all(|((uid, _), _)| *uid != 4712));
        ns.counts.set_most(Of::Uts, old);
    }
}
