//! The guard: a process that ends what outlives a supervisor that has no keeper.
//!
//! A program that owns its kernel can make processes that have not promised to end with the supervisor. The guard is in
//! the same Landlock domain, which lets it signal that domain's processes and no others, so that one call reaches
//! all of them, whoever has made them (`kill(-1)`, hosts since 6.12). It has a table of descriptors of its own, nothing of the
//! kernel's memory, and takes no signal but the host's about the supervisor's end.
//!
//! A start does not wait for it: the supervisor makes it when the sandbox has lived for [`AFTER`].

use super::children::Helper;
use super::keeper::END;
use super::window::Window;
use std::ptr;
use std::time::Duration;

/// How long a sandbox lives without one.
pub const AFTER: Duration = Duration::from_millis(50);

/// A guard that stands; it ends with this.
#[derive(Debug)]
pub struct Guard {
    /// Its process.
    pub helper: Helper,
}

impl Guard {
    /// Forks it off the supervisor, whose signals Landlock keeps inside. `None` where the host has no process to give.
    pub fn start(window: &Window) -> Option<Guard> {
        // SAFETY: no preconditions; the child keeps to host calls and its own stack.
        unsafe {
            let maker = libc::getpid();
            match libc::fork() {
                -1 => None,
                0 => stand(maker, window),
                pid => Some(Guard { helper: Helper::new(pid) }),
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let pid = self.helper.pid();
        if pid != 0 {
            // SAFETY: an unreaped child of ours: the number cannot mean another process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            self.helper.bury();
        }
    }
}

/// Waits for the end of the supervisor, and ends everything in the domain.
fn stand(maker: libc::pid_t, window: &Window) -> ! {
    // SAFETY: sets and times on this stack, a string, plain numbers; the process has one thread, which uses neither the
    // window nor descriptors any more.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"drupe-guard".as_ptr());
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        window.unmap();
        libc::prctl(libc::PR_SET_PDEATHSIG, END);
        let mut ending = std::mem::zeroed();
        libc::sigemptyset(&raw mut ending);
        libc::sigaddset(&raw mut ending, END);
        while libc::getppid() == maker {
            libc::sigtimedwait(&raw const ending, ptr::null_mut(), ptr::null());
        }
        // Who forks has a signal pending then, and does not; again for one that was on its way.
        for _ in 0..3 {
            libc::kill(-1, libc::SIGKILL);
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            libc::nanosleep(&raw const pause, ptr::null_mut());
        }
        libc::_exit(0)
    }
}
