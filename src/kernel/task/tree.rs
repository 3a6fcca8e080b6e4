//! Which pids exist and who is whose parent.

use super::{Task, ThreadGroup};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex, MutexGuard};
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Largest pid plus one (`kernel.pid_max`).
pub const PID_MAX: u32 = 1 << 22;

/// See the module.
pub struct Tree {
    /// By thread id.
    pub tasks: HashMap<u32, Arc<Task>>,
    /// By process id; zombies too.
    pub groups: HashMap<u32, Arc<ThreadGroup>>,
    last: u32,
}

static TREE: Mutex<Option<Tree>> = Mutex::new(Level::Tasks, None);

/// The locked tree.
pub struct Guard(MutexGuard<'static, Option<Tree>>);

/// Locks the tree.
pub fn lock() -> Guard {
    let mut guard = TREE.lock();
    guard.get_or_insert_with(|| Tree { tasks: HashMap::new(), groups: HashMap::new(), last: 0 });
    Guard(guard)
}

impl core::ops::Deref for Guard {
    type Target = Tree;
    fn deref(&self) -> &Tree {
        self.0.as_ref().expect("lock() made it")
    }
}

impl core::ops::DerefMut for Guard {
    fn deref_mut(&mut self) -> &mut Tree {
        self.0.as_mut().expect("lock() made it")
    }
}

impl Tree {
    /// A pid that is no thread's, process's, process group's or session's.
    ///
    /// # Errors
    /// `EAGAIN` when there is none.
    pub fn new_pid(&mut self) -> Result<u32> {
        for _ in 0..PID_MAX {
            self.last = if self.last + 1 >= PID_MAX { 300 } else { self.last + 1 };
            let pid = self.last;
            let taken = self.tasks.contains_key(&pid) || self.groups.contains_key(&pid);
            if !taken && (self.groups.len() < 2 || !self.is_group_or_session(pid)) {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn is_group_or_session(&self, pid: u32) -> bool {
        // Only after a wrap-around can an old leader's id come up again.
        self.last < 300 && self.groups.values().any(|g| g.pgid() == pid || g.sid() == pid)
    }

    /// The processes of a process group.
    pub fn members(&self, pgid: u32) -> Vec<Arc<ThreadGroup>> {
        self.groups.values().filter(|g| g.pgid() == pgid && !g.is_zombie()).cloned().collect()
    }

    /// The parent of orphans: the first process.
    pub fn init(&self) -> Option<Arc<ThreadGroup>> {
        self.groups.get(&1).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_at_1_and_wrap_past_the_system_ones() {
        let mut t = Tree { tasks: HashMap::new(), groups: HashMap::new(), last: 0 };
        assert_eq!(t.new_pid(), Ok(1));
        t.last = PID_MAX - 2;
        assert_eq!(t.new_pid(), Ok(PID_MAX - 1));
        assert_eq!(t.new_pid(), Ok(300));
    }
}
