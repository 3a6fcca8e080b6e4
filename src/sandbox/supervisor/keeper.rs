//! The keeper: a process that stays behind as the supervisor's parent, has nothing of its memory, and ends the sandbox when
//! its time is over, when its holder is gone or says so, or when the supervisor has ended.
//!
//! A program that has taken over the supervisor does not end when that is told to. The host gives every process below the
//! keeper to it when its own parent has ended (`PR_SET_CHILD_SUBREAPER`), so it finds them all among its children. It
//! listens to nothing but signals, which Landlock lets nobody in the sandbox send.

use super::{EXPIRED_STATUS, children, close_others};
use std::ptr;
use std::time::{Duration, Instant};

/// What has a keeper end everything.
pub const END: libc::c_int = libc::SIGTERM;
/// How much longer than its time a sandbox may take to end by itself.
const GRACE: Duration = Duration::from_millis(500);
/// How long what a supervisor leaves behind may live on: the meter, which removes the control group.
const PARTING: Duration = Duration::from_millis(100);

/// Becomes a child of the calling process, which must have one thread and stays behind as the keeper, for `limit` at most.
///
/// # Errors
/// The host's.
pub fn leave(limit: Option<Duration>) -> std::io::Result<()> {
    // SAFETY: as fork(2), in a process with one thread; plain numbers.
    unsafe {
        let keeper = libc::getpid();
        match libc::fork() {
            -1 => Err(std::io::Error::last_os_error()),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != keeper {
                    libc::_exit(125);
                }
                Ok(())
            }
            supervisor => keep(supervisor, limit),
        }
    }
}

/// Waits for the end of the supervisor, ends what is left of the sandbox, and ends as it did, or with [`EXPIRED_STATUS`].
/// The calling process must have one thread.
pub fn keep(supervisor: libc::pid_t, limit: Option<Duration>) -> ! {
    let until = limit.and_then(|limit| Instant::now().checked_add(limit.saturating_add(GRACE)));
    let told = prepare();
    let mut ended = None;
    let expired = loop {
        if let Some(status) = reap(supervisor) {
            ended = Some(status);
            break false;
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break true;
        }
        if await_signal(&told, left) == END {
            break false;
        }
    };
    if ended.is_some() {
        let until = Instant::now() + PARTING;
        while !children::no_child() && Instant::now() < until {
            await_signal(&told, Some(until.saturating_duration_since(Instant::now())));
            reap(supervisor);
        }
    }
    children::bury(&mut Vec::new(), || {});
    // SAFETY: ends this process, in which nobody else runs.
    unsafe {
        match ended {
            _ if expired => libc::_exit(EXPIRED_STATUS),
            Some(status) if libc::WIFSIGNALED(status) => {
                let mut none = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
                libc::kill(libc::getpid(), libc::WTERMSIG(status));
                libc::_exit(125)
            }
            Some(status) => libc::_exit(libc::WEXITSTATUS(status)),
            None => libc::_exit(125),
        }
    }
}

/// Leaves what was inherited. Returns the signals that it waits for.
fn prepare() -> libc::sigset_t {
    let mut told = children::deaths();
    // SAFETY: sets on this stack, strings and plain numbers.
    unsafe {
        libc::sigaddset(&raw mut told, END);
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        // The holder's end is its own only when it has ended the rest. (It was checked when SIGKILL was set.)
        let holder = libc::getppid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_PDEATHSIG, END);
        if libc::getppid() != holder {
            libc::kill(libc::getpid(), END);
        }
        libc::prctl(libc::PR_SET_NAME, c"drupe-keeper".as_ptr());
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let proc = libc::open(c"/proc".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        children::remember_list(proc);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    let _ = close_others(&children::list_fd().into_iter().collect::<Vec<_>>());
    told
}

/// Reaps every dead child; how the supervisor has ended, if it is among them.
fn reap(supervisor: libc::pid_t) -> Option<libc::c_int> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: writes one status.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) } {
            pid if pid == supervisor => ended = Some(status),
            pid if pid > 0 => {}
            _ => return ended,
        }
    }
}

/// The next signal of a set, or -1 when there was none for so long.
fn await_signal(set: &libc::sigset_t, left: Option<Duration>) -> libc::c_int {
    let time = left.map(|left| libc::timespec {
        tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    // SAFETY: a set, and a time or none, on this stack.
    unsafe { libc::sigtimedwait(set, ptr::null_mut(), time.as_ref().map_or(ptr::null(), ptr::from_ref)) }
}
