//! The supervisor's children, which are the sandbox's host processes and a few others: who has died, and how all are
//! ended.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr};

/// The signal that tells of children's deaths, as a set.
pub fn deaths() -> libc::sigset_t {
    // SAFETY: a set on this stack, made empty before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}

/// Children of this process that it had before it became a supervisor.
pub fn strangers() -> Vec<i32> {
    if no_child() {
        return Vec::new();
    }
    std::fs::read("/proc/thread-self/children").map_or_else(|_| Vec::new(), |list| named(&list))
}

/// Whether `pid`, which was reaped just now, was one of the strangers; it is no more.
pub(super) fn forget(strangers: &mut Vec<i32>, pid: i32) -> bool {
    let index = strangers.iter().position(|&p| p == pid);
    index.map(|i| strangers.swap_remove(i)).is_some()
}

thread_local! {
    /// Where the host lists this thread's children: Landlock may not let it be opened again.
    static LIST: OnceCell<File> = const { OnceCell::new() };
}

/// Opens the list of children, in `/proc`, whose descriptor `proc` is.
pub fn remember_list(proc: RawFd) {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a C string; a descriptor made just now is ours.
    let fd = unsafe { libc::openat(proc, c"thread-self/children".as_ptr(), flags) };
    if fd >= 0 {
        // SAFETY: as above.
        let list = unsafe { File::from_raw_fd(fd) };
        let _ = LIST.with(|known| known.set(list));
    }
}

/// The descriptor of that list, if it was opened.
pub(super) fn list_fd() -> Option<RawFd> {
    LIST.with(|known| known.get().map(AsRawFd::as_raw_fd))
}

/// Children of this process, dead ones among them; `None` where the host does not tell.
fn children() -> Option<Vec<i32>> {
    let list = LIST.with(|known| {
        let mut file = known.get()?;
        let mut list = Vec::new();
        file.seek(SeekFrom::Start(0)).ok()?;
        // Not `read_to_end`, which looks how long the file is by a call that the supervisor's filter may refuse.
        let mut piece = [0; 4096];
        loop {
            match file.read(&mut piece).ok()? {
                0 => return Some(list),
                n => list.extend_from_slice(&piece[..n]),
            }
        }
    })?;
    Some(named(&list))
}

/// The children whom a list of the host's names.
fn named(list: &[u8]) -> Vec<i32> {
    // Its descriptor is the sandbox's, too, which may have put another in its place.
    let pids = list.split(u8::is_ascii_whitespace).filter_map(|p| std::str::from_utf8(p).ok()?.parse().ok());
    pids.filter(|&pid| is_child(pid)).collect()
}

/// Whether a pid is that of a child that was not reaped, so that it means no other process.
pub(super) fn is_child(pid: i32) -> bool {
    pid > 0 && look_for_dead(libc::P_PID, pid as libc::id_t).is_ok()
}

/// Reaps one dead child, whatever it is to us.
fn reap_one() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: writes one status.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    (pid > 0).then_some((pid, status))
}

/// Looks for a dead child, of all or the one that is meant, without reaping it; an error if there is no such child at all.
fn look_for_dead(whom: libc::idtype_t, id: libc::id_t) -> io::Result<libc::siginfo_t> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: writes one record, of which every bit pattern is a value.
    match unsafe { libc::waitid(whom, id, info.as_mut_ptr(), options) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: zeroed, or written by the host.
        _ => Ok(unsafe { info.assume_init() }),
    }
}

/// A dead child that is not reaped yet, and how it ended, as `wait(2)` says it.
pub(super) fn dead_child() -> Option<(i32, i32)> {
    let info = look_for_dead(libc::P_ALL, 0).ok()?;
    // SAFETY: the record is one of a child, or zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    (pid > 0).then_some((pid, status))
}

/// Whether there is no child at all, dead or alive.
pub(super) fn no_child() -> bool {
    look_for_dead(libc::P_ALL, 0).is_err()
}

/// How long the end waits for the next killed process to be dead: a tracer of it (a debugger) may keep it for as
/// long as it likes.
const MOURNING: Duration = Duration::from_secs(2);
/// How long the end waits for a process to go by itself: twice what it takes the host.
const PARTING: Duration = Duration::from_micros(300);

/// Reaps a child that is known to be dead.
pub(super) fn reap(pid: i32) {
    // SAFETY: no memory is written.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
}

/// A child that helps the supervisor and is none of the sandbox's: its host pid.
#[derive(Debug)]
pub struct Helper(libc::pid_t);

impl Helper {
    /// One that was forked off just now.
    pub fn new(pid: libc::pid_t) -> Helper {
        Helper(pid)
    }

    /// Its process; 0 once it is reaped.
    pub fn pid(&self) -> libc::pid_t {
        self.0
    }

    /// The supervisor has found `pid` dead; whether it was this one, whose number may be another process's soon.
    pub fn reaped(&mut self, pid: libc::pid_t) -> bool {
        let own = self.0 == pid;
        if own {
            self.0 = 0;
        }
        own
    }

    /// Waits for its end, which nothing keeps it from.
    pub fn bury(&self) {
        if self.0 != 0 {
            bury_one(self.0);
        }
    }
}

/// A descriptor that becomes readable when the supervisor has ended. Helpers look at it: the host's promise to end them with
/// it (`PDEATHSIG`) is a signal of the supervisor's, and Landlock lets it signal nobody outside; and their sockets and pipes
/// stay open as long as anybody in the sandbox lives, since all have one table of descriptors.
pub fn watch(supervisor: libc::pid_t) -> Option<OwnedFd> {
    // SAFETY: plain numbers; a descriptor made just now is ours. (It is close-on-exec.)
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, supervisor, 0) as RawFd;
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Whether the supervisor that is watched has ended. Waits for something to read from `fd` for so long, ms; -1 for ever.
pub fn is_orphan(watched: Option<&OwnedFd>, fd: RawFd, wait: libc::c_int) -> bool {
    let poll = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [poll(watched.map_or(-1, AsRawFd::as_raw_fd)), poll(fd)];
    // SAFETY: two records of ours.
    unsafe { libc::poll(fds.as_mut_ptr(), 2, wait) > 0 && fds[0].revents != 0 }
}

/// Waits for the end of a child that is about to end by itself, but not for one that somebody keeps.
fn bury_one(pid: i32) {
    // SAFETY: a child of ours that was not reaped.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG | libc::__WALL) } == 0 {
        if !await_death(MOURNING) {
            return;
        }
    }
}

/// Waits for the death of a child; whether it was told of one.
fn await_death(limit: Duration) -> bool {
    let limit = libc::timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let set = deaths();
    // SAFETY: a signal set and a limit on this stack; the signal is blocked, as signalfd wants it.
    let told = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit) };
    told >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EAGAIN)
}

/// Reaps a process that is about to end by itself; whether there is no other child. Most often there is none, and
/// the host's list of them costs more than anything else here.
pub(super) fn none_left(strangers: &mut Vec<i32>) -> bool {
    let mut reap = || reap_one().is_some_and(|(pid, _)| !forget(strangers, pid));
    (reap() || await_death(PARTING) && reap()) && no_child()
}

/// Reaps one child that was killed just now; `false` when there is none, or somebody keeps it.
fn reap_killed(strangers: &mut Vec<i32>) -> bool {
    loop {
        match reap_one() {
            Some((pid, _)) if forget(strangers, pid) => continue,
            Some(_) => return true,
            None if no_child() => return false,
            None => {}
        }
        if !await_death(MOURNING) {
            return false;
        }
    }
}

/// Kills every host process of the sandbox and reaps it. All are children of this one, as `strangers` are,
/// which are left alone; more may come while we look, from those that are not dead yet.
///
/// `meanwhile` is called while they end.
pub fn bury(strangers: &mut Vec<i32>, meanwhile: impl Fn()) {
    for round in 0..1000 {
        // Without the list the host ends them when this process ends (PDEATHSIG).
        let Some(mut list) = children() else { return };
        list.retain(|pid| !strangers.contains(pid));
        for &pid in &list {
            // SAFETY: an unreaped child of ours: the number cannot mean another process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        if round == 0 {
            meanwhile();
        }
        // As many as were killed; when none is left that says so, too.
        if list.is_empty() || !list.iter().all(|_| reap_killed(strangers)) || no_child() {
            return;
        }
    }
}
