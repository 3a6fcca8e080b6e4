//! What a user has of the things that are counted for each user (`struct user_struct`).

use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counts of one user id.
#[derive(Default)]
pub struct User {
    uid: u32,
    /// Files that epoll instances watch.
    pub epoll_watches: AtomicU64,
    /// Pages that pipes have room for.
    pub pipe_pages: AtomicU64,
    /// inotify instances.
    pub inotify_instances: AtomicU64,
    /// inotify watches.
    pub inotify_watches: AtomicU64,
}

static USERS: Mutex<BTreeMap<u32, Weak<User>>> = Mutex::new(Level::Leaf, BTreeMap::new());

impl User {
    /// The counts of user `uid`: everybody who asks gets the same while anybody has them.
    pub fn of(uid: u32) -> Arc<User> {
        let mut users = USERS.lock();
        if let Some(user) = users.get(&uid).and_then(Weak::upgrade) {
            return user;
        }
        let mut user = User::default();
        user.uid = uid;
        let user = Arc::new(user);
        users.insert(uid, Arc::downgrade(&user));
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        if users.get(&self.uid).is_some_and(|u| u.strong_count() == 0) {
            users.remove(&self.uid);
        }
    }
}

/// Adds `n` to a count unless it would pass `most`; whether it did.
pub fn charge(count: &AtomicU64, n: u64, most: u64) -> bool {
    count.fetch_update(Relaxed, Relaxed, |c| c.checked_add(n).filter(|&c| c <= most)).is_ok()
}

/// Takes `n` back.
pub fn uncharge(count: &AtomicU64, n: u64) {
    count.fetch_sub(n, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_live_as_long_as_somebody_has_them() {
        let a = User::of(4711);
        assert!(charge(&a.epoll_watches, 3, 3));
        assert!(!charge(&User::of(4711).epoll_watches, 1, 3));
        uncharge(&a.epoll_watches, 1);
        assert!(charge(&User::of(4711).epoll_watches, 1, 3));
        drop(a);
        assert_eq!(User::of(4711).epoll_watches.load(Relaxed), 0);
    }
}
