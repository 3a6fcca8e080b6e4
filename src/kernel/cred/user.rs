//! What is counted for each user (`struct user_struct`): tasks (`RLIMIT_NPROC`), queued signals
//! (`RLIMIT_SIGPENDING`), and what has limits below `/proc/sys`.

use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The counts of one user id.
#[derive(Debug, Default)]
pub struct User {
    /// User id in the initial namespace.
    pub uid: u32,
    /// Tasks that have not been reaped.
    pub processes: AtomicU32,
    /// Signals in queues.
    pub signals: AtomicU32,
    /// Files that epoll instances watch.
    pub epoll_watches: AtomicU64,
    /// Pages that pipes have room for.
    pub pipe_pages: AtomicU64,
    /// Bytes of System V shared memory that are locked.
    pub locked_shm: AtomicU64,
    /// Bytes that POSIX message queues may take.
    pub mq_bytes: AtomicU64,
    /// inotify instances.
    pub inotify_instances: AtomicU64,
    /// inotify watches.
    pub inotify_watches: AtomicU64,
    /// fanotify groups.
    pub fanotify_groups: AtomicU64,
    /// Their marks.
    pub fanotify_marks: AtomicU64,
}

/// All users that anybody names.
struct Users {
    all: BTreeMap<u32, Weak<User>>,
    /// Unused entries are looked for when there are so many.
    tidy_at: usize,
}

static USERS: Mutex<Users> = Mutex::new(Level::Users, Users { all: BTreeMap::new(), tidy_at: 64 });

impl User {
    /// The counts of user `uid`: everybody who asks gets the same while anybody has them.
    pub fn of(uid: u32) -> Arc<User> {
        let mut users = USERS.lock();
        if let Some(user) = users.all.get(&uid).and_then(Weak::upgrade) {
            return user;
        }
        if users.all.len() >= users.tidy_at {
            users.all.retain(|_, user| user.strong_count() > 0);
            users.tidy_at = 64 + 2 * users.all.len();
        }
        let user = Arc::new(User { uid, ..User::default() });
        users.all.insert(uid, Arc::downgrade(&user));
        user
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

    #[test]
    fn users_that_nobody_names_are_forgotten() {
        for uid in 80_000..81_000 {
            let _ = User::of(uid);
        }
        assert!(USERS.lock().all.len() < 300);
    }
}
