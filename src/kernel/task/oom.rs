//! Who is ended when the sandbox has more memory than it was given (`mm/oom_kill.c` in Linux): the process with the
//! most, as its `oom_score_adj` shifts it, and whoever shares its memory.

use super::exit::begin_group_exit;
use super::{ThreadGroup, kernel};
use crate::abi::linux;
use crate::mm::{AddressSpace, budget};
use crate::task::group::Run;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

const PAGE: u64 = 4096;
/// `OOM_SCORE_ADJ_MIN`: never ended for want of memory.
const NEVER: i32 = -1000;

/// A process that was ended.
#[derive(Debug)]
pub struct Victim {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// What it had of memory, bytes.
    pub bytes: u64,
}

/// A process that has memory.
struct User {
    group: Arc<ThreadGroup>,
    mm: Option<Arc<AddressSpace>>,
    bytes: u64,
}

/// Takes note of what processes have of their own: host pids, ascending, with bytes; `rest` in others. Where it is too
/// much it ends one, unless one that was ended has not gone yet.
pub fn measured(sizes: &[(u32, u64)], rest: u64) -> Option<Victim> {
    let (users, sum) = users(sizes);
    budget::measured(sum.saturating_add(rest));
    let limit = budget::limit().filter(|&limit| budget::used() > limit)?;
    if users.iter().any(|u| u.group.state.lock().exiting.is_some()) {
        return None;
    }
    let worst = users.iter().filter_map(|u| Some((badness(u, limit)?, u))).max_by_key(|(points, _)| *points)?.1;
    Some(end(worst, &users))
}

/// Whose these sizes are, and their sum, in which memory that processes share (`vfork(2)`) is once. Host processes that
/// are nobody's any more are about to end, or empty.
fn users(sizes: &[(u32, u64)]) -> (Vec<User>, u64) {
    let (mut users, mut sum): (Vec<User>, u64) = (Vec::new(), 0);
    for group in kernel().roots().pid.processes() {
        let task = group.any_task();
        let host = task.as_ref().and_then(|t| t.slot()).map_or(0, |slot| slot.host_tgid.load(SeqCst));
        let Ok(at) = sizes.binary_search_by_key(&host, |s| s.0) else { continue };
        if group.state.lock().run == Run::Zombie || users.try_reserve(1).is_err() {
            continue;
        }
        // A vforked child has its maker's memory until its maker goes on, even where it has a program of its own already.
        if task.as_ref().is_some_and(|t| t.vfork.lock().is_some()) {
            continue;
        }
        let mm = task.and_then(|t| t.shared()).map(|own| own.mm);
        // On its way into a clean process: what the host still sees is its former memory, which may be another's, too.
        if mm.as_ref().is_some_and(|mm| mm.sizes().total == 0) {
            continue;
        }
        let bytes = sizes[at].1;
        if !mm.as_ref().is_some_and(|mm| users.iter().any(|u| u.has(mm))) {
            sum += bytes;
        }
        users.push(User { group, mm, bytes });
    }
    (users, sum)
}

impl User {
    /// Bytes of files in memory that it maps.
    fn shared(&self) -> u64 {
        self.mm.as_ref().map_or(0, |mm| mm.shared_memory())
    }

    fn has(&self, mm: &Arc<AddressSpace>) -> bool {
        self.mm.as_ref().is_some_and(|own| Arc::ptr_eq(own, mm))
    }
}

/// Pages that count for ending it, those of files in memory that it maps included; `None` if it must not be
/// (`oom_badness()`).
fn badness(user: &User, limit: u64) -> Option<i64> {
    let adj = user.group.oom_score_adj.load(Relaxed);
    (adj != NEVER).then(|| points(user.bytes.saturating_add(user.shared()), adj, limit))
}

fn points(bytes: u64, adj: i32, limit: u64) -> i64 {
    (bytes / PAGE) as i64 + i64::from(adj) * ((limit / PAGE) as i64 / 1000)
}

fn end(worst: &User, users: &[User]) -> Victim {
    let group = &worst.group;
    let task = group.any_task();
    let name = task.as_ref().map_or_else(String::new, |t| String::from_utf8_lossy(&t.comm.lock()).into_owned());
    // It may hold anything, and goes to terminals.
    let shown = name.escape_debug();
    let uid = task.and_then(|t| t.shared()).map_or(0, |own| own.cred.uid);
    let (pid, kib, shared) = (group.pid, worst.bytes / 1024, worst.shared() / 1024);
    let total = worst.mm.as_ref().map_or(0, |mm| mm.sizes().total / 1024);
    let adj = group.oom_score_adj.load(Relaxed);
    log::warn!("out of memory: ended process {pid} ({shown}), which had {} MiB", (kib + shared) / 1024);
    kernel().syslog().append(
        3,
        &format!(
            "Out of memory: Killed process {pid} ({shown}) total-vm:{total}kB, anon-rss:{kib}kB, file-rss:0kB, \
             shmem-rss:{shared}kB, UID:{uid} pgtables:0kB oom_score_adj:{adj}"
        ),
    );
    for user in users {
        if Arc::ptr_eq(&user.group, group) || worst.mm.as_ref().is_some_and(|mm| user.has(mm)) {
            begin_group_exit(&user.group, linux::SIGKILL as i32);
        }
    }
    Victim { pid, name, bytes: (kib + shared) * 1024 }
}

#[cfg(test)]
mod tests {
    use super::points;

    #[test]
    fn an_adjustment_is_a_share_of_all() {
        let limit = 1000 << 20;
        assert!(points(300 << 20, 0, limit) > points(200 << 20, 0, limit));
        // As if it had half of all memory more, or less.
        assert!(points(1 << 20, 500, limit) > points(400 << 20, 0, limit));
        assert!(points(600 << 20, -500, limit) < points(200 << 20, 0, limit));
    }
}
