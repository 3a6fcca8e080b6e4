//! Signals: actions, pending sets, frames. Who gets them is `task`'s business.

pub mod frame;

use crate::abi::linux;
use crate::abi::sigctx::SigInfo;
use crate::arena::{self, Object};
use crate::cred::User;
use crate::sync::{Mend, MendMap, StepQueue};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

/// Number of signals.
pub const NSIG: u32 = 64;
/// `SIG_DFL`, `SIG_IGN`.
pub const SIG_DFL: u64 = 0;
/// See [`SIG_DFL`].
pub const SIG_IGN: u64 = 1;

/// `struct sigaction` as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SigAction {
    /// Handler, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while it runs.
    pub mask: u64,
}
// SAFETY: four integers.
unsafe impl crate::mm::Plain for SigAction {}

/// The bit of a signal in a mask.
pub const fn bit(sig: u32) -> u64 {
    1 << (sig - 1)
}

/// Signals that cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: u64 = bit(linux::SIGKILL) | bit(linux::SIGSTOP);
/// Signals that stop by default.
pub const STOPS: u64 = bit(linux::SIGSTOP) | bit(linux::SIGTSTP) | bit(linux::SIGTTIN) | bit(linux::SIGTTOU);
/// Signals that faults raise: delivered first.
pub const SYNCHRONOUS: u64 = bit(linux::SIGSEGV)
    | bit(linux::SIGBUS)
    | bit(linux::SIGILL)
    | bit(linux::SIGTRAP)
    | bit(linux::SIGFPE)
    | bit(linux::SIGSYS);

/// What happens without a handler (`signal(7)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// Ends the process.
    Terminate,
    /// Ends the process, with a core file where limits allow.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Lets it go on.
    Continue,
}

/// The default action of a signal.
pub fn default_action(sig: u32) -> Default {
    match sig {
        linux::SIGCHLD | linux::SIGURG | linux::SIGWINCH => Default::Ignore,
        linux::SIGCONT => Default::Continue,
        linux::SIGSTOP | linux::SIGTSTP | linux::SIGTTIN | linux::SIGTTOU => Default::Stop,
        linux::SIGQUIT
        | linux::SIGILL
        | linux::SIGTRAP
        | linux::SIGABRT
        | linux::SIGBUS
        | linux::SIGFPE
        | linux::SIGSEGV
        | linux::SIGXCPU
        | linux::SIGXFSZ
        | linux::SIGSYS => Default::Core,
        _ => Default::Terminate,
    }
}

/// A `siginfo_t` under construction.
pub mod info {
    use super::SigInfo;

    /// `SI_USER`, `SI_KERNEL`, `SI_TKILL`, `SI_TIMER`, `SI_QUEUE`.
    pub const SI_USER: i32 = 0;
    /// See [`SI_USER`].
    pub const SI_KERNEL: i32 = 0x80;
    /// See [`SI_USER`].
    pub const SI_TKILL: i32 = -6;
    /// See [`SI_USER`].
    pub const SI_TIMER: i32 = -2;
    /// See [`SI_USER`].
    pub const SI_QUEUE: i32 = -1;

    /// An information record with nothing but number and code.
    pub fn plain(sig: u32, code: i32) -> SigInfo {
        SigInfo { signo: sig as i32, errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// A fault at an address.
    pub fn fault(sig: u32, code: i32, addr: u64) -> SigInfo {
        let mut i = plain(sig, code);
        i.fields[0] = addr;
        i
    }

    /// From `kill`, `tgkill` or `sigqueue`: sender's pid and uid.
    pub fn from_user(sig: u32, code: i32, pid: u32, uid: u32) -> SigInfo {
        let mut i = plain(sig, code);
        i.fields[0] = u64::from(pid) | u64::from(uid) << 32;
        i
    }

    /// SIGCHLD: child's pid, uid, status, user and system time in clock ticks.
    pub fn child(code: i32, pid: u32, uid: u32, status: i32, utime: u64, stime: u64) -> SigInfo {
        let mut i = from_user(crate::abi::linux::SIGCHLD, code, pid, uid);
        i.fields[1] = status as u32 as u64;
        i.fields[2] = utime;
        i.fields[3] = stime;
        i
    }
}

/// Signals that wait to be taken.
#[derive(Default)]
pub struct Pending {
    set: u64,
    /// What is known of them, by signal, in order of arrival, each with the user for whom it counts.
    queues: MendMap<u32, StepQueue<(SigInfo, Arc<User>)>>,
}

impl Mend for Pending {
    fn mend(&mut self) {
        self.queues.mend();
        for (&sig, _) in self.queues.iter().filter(|(_, queue)| !queue.is_empty()) {
            self.set |= bit(sig);
        }
    }
}

/// Room for so many records is kept for a signal.
const KEPT: usize = 4;
/// For so many kinds of signals.
const KINDS_KEPT: usize = 2;

impl Pending {
    /// Nothing pending.
    pub const fn new() -> Pending {
        Pending { set: 0, queues: MendMap::new() }
    }

    /// The signals in it.
    pub fn set(&self) -> u64 {
        self.set
    }

    /// Adds a signal: a standard one at most once, real-time ones and those of timers (each of which has at most one)
    /// each time. It counts for `user`, who may have `limit` of them (`RLIMIT_SIGPENDING`); where that or memory is used
    /// up the record of a signal may be lost, and of real-time signals only that of `kill(2)`. Standard signals of the
    /// kernel or of `kill` are always recorded.
    ///
    /// # Errors
    /// `EAGAIN` for a real-time signal that cannot be queued.
    pub fn add(&mut self, info: &SigInfo, user: &Arc<User>, limit: u64) -> crate::abi::Result {
        let sig = info.signo as u32;
        let standard = sig < 32;
        if standard && self.set & bit(sig) != 0 && info.code != info::SI_TIMER {
            return Ok(());
        }
        let queued = u64::from(user.signals.fetch_add(1, Relaxed));
        let admitted = queued < limit || standard && info.code >= 0;
        if !admitted || arena::charge(Object::Signal).is_err() || !self.keep(sig, info, user) {
            user.signals.fetch_sub(1, Relaxed);
            if !standard && info.code != info::SI_USER {
                return Err(crate::abi::Errno::EAGAIN);
            }
        }
        self.set |= bit(sig);
        Ok(())
    }

    /// Keeps a record; whether there was memory for it.
    fn keep(&mut self, sig: u32, info: &SigInfo, user: &Arc<User>) -> bool {
        if !self.queues.contains_key(&sig) {
            self.queues.insert(sig, StepQueue::new());
        }
        let Some(queue) = self.queues.get_mut(&sig) else { return false };
        let fits = queue.try_reserve().is_ok();
        if fits {
            queue.push_back((*info, user.clone()));
        }
        fits
    }

    /// Takes the next signal of `mask`: faults first, then by number, each in order of arrival.
    pub fn take(&mut self, mask: u64) -> Option<SigInfo> {
        let ready = self.set & mask;
        if ready == 0 {
            return None;
        }
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        let sig = first.trailing_zeros() + 1;
        let kinds = self.queues.len();
        let queue = self.queues.get_mut(&sig);
        let known = queue.and_then(|q| q.pop_front().map(|first| (first, q.is_empty(), q.capacity() <= KEPT)));
        let Some(((info, user), last, small)) = known else {
            self.set &= !bit(sig);
            return Some(info::plain(sig, info::SI_USER));
        };
        user.signals.fetch_sub(1, Relaxed);
        if last {
            self.set &= !bit(sig);
            // A burst's memory goes with it. That of one signal now and then stays, for the next.
            if !small || kinds > KINDS_KEPT {
                self.queues.remove(&sig);
            }
        }
        Some(info)
    }

    /// Whether a record of this kind waits.
    pub fn any(&self, mut kind: impl FnMut(&SigInfo) -> bool) -> bool {
        self.queues.values().flat_map(StepQueue::iter).any(|(info, _)| kind(info))
    }

    /// Forgets the records of this kind.
    pub fn remove(&mut self, mut kind: impl FnMut(&SigInfo) -> bool) {
        let set = &mut self.set;
        self.queues.retain(|&sig, queue| {
            queue.retain(|(info, user)| {
                let goes = kind(info);
                user.signals.fetch_sub(u32::from(goes), Relaxed);
                !goes
            });
            if queue.is_empty() {
                *set &= !bit(sig);
            }
            !queue.is_empty()
        });
    }

    /// The record at this place, by signal and then in order of arrival.
    pub fn record(&self, at: u64) -> Option<SigInfo> {
        self.queues.values().flat_map(StepQueue::iter).nth(usize::try_from(at).ok()?).map(|(info, _)| *info)
    }

    /// Forgets the signals of `mask`.
    pub fn discard(&mut self, mask: u64) {
        if self.set & mask != 0 {
            self.set &= !mask;
            self.queues.retain(|&sig, queue| {
                let stays = mask & bit(sig) == 0;
                if !stays {
                    uncount(queue);
                }
                stays
            });
        }
    }
}

fn uncount(queue: &StepQueue<(SigInfo, Arc<User>)>) {
    for (_, user) in queue.iter() {
        user.signals.fetch_sub(1, Relaxed);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for queue in self.queues.values() {
            uncount(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_limit_counts_a_users_signals_and_spares_the_kernels() {
        let (mut p, mut q, user) = (Pending::new(), Pending::new(), User::of(66_001));
        let queued = |sig| info::from_user(sig, info::SI_QUEUE, 0, 0);
        p.add(&queued(40), &user, 2).unwrap();
        q.add(&queued(40), &user, 2).unwrap();
        assert_eq!(p.add(&queued(40), &user, 2), Err(crate::abi::Errno::EAGAIN));
        p.add(&info::from_user(41, info::SI_USER, 7, 0), &user, 2).unwrap();
        p.add(&info::from_user(10, info::SI_USER, 7, 0), &user, 2).unwrap();
        assert_eq!(user.signals.load(Relaxed), 3);
        drop(q);
        assert_eq!(p.take(bit(10)).map(|i| i.fields[0]), Some(7));
        assert_eq!(p.take(bit(41)).map(|i| i.fields[0]), Some(0), "the record is lost, the signal is not");
        p.discard(u64::MAX);
        assert_eq!(user.signals.load(Relaxed), 0);
    }

    #[test]
    fn standard_signals_do_not_queue_and_real_time_ones_do() {
        let (mut p, user) = (Pending::new(), User::of(0));
        for n in 0..3 {
            p.add(&info::from_user(10, 0, n, 0), &user, 99).unwrap();
            p.add(&info::from_user(40, 0, n, 0), &user, 99).unwrap();
        }
        assert_eq!(p.take(u64::MAX).map(|i| i.signo), Some(10));
        let pids: Vec<u64> = core::iter::from_fn(|| p.take(u64::MAX)).map(|i| i.fields[0]).collect();
        assert_eq!(pids, [0, 1, 2]);
        assert_eq!(p.set(), 0);
    }

    #[test]
    fn faults_come_first_and_masks_hold() {
        let (mut p, user) = (Pending::new(), User::of(0));
        for sig in [2, 11, 15] {
            p.add(&info::plain(sig, 0), &user, 99).unwrap();
        }
        assert_eq!(p.take(!bit(11)).map(|i| i.signo), Some(2));
        assert_eq!(p.take(u64::MAX).map(|i| i.signo), Some(11));
        p.discard(bit(15));
        assert!(p.take(u64::MAX).is_none());
    }
}
