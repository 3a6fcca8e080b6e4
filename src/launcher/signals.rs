//! The signals that a person or another program sends to the launcher and means for the guest.
//!
//! They come while the launcher waits, and nowhere else. A descriptor for them would be in the table that it shares with
//! guests: a program that owns its kernel could close it, and nothing but SIGKILL would end the launcher then.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// See the module.
pub struct Signals {
    /// The mask with which the launcher waits.
    waiting: SigSet,
}

const FORWARDED: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Those that have come, as bits by number.
static COME: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: libc::c_int) {
    COME.fetch_or(1 << signal, SeqCst);
}

impl Signals {
    /// Blocks them but for [`Signals::wait`]. Signals that were ignored stay so (nohup).
    pub fn take() -> anyhow::Result<Signals> {
        let set: SigSet = FORWARDED.into_iter().collect();
        let mut waiting = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut waiting))?;
        FORWARDED.iter().for_each(|&signal| waiting.remove(signal));
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::all());
        for signal in FORWARDED {
            // SAFETY: the handler changes one number.
            let before = unsafe { sigaction(signal, &action)? };
            if before.handler() == SigHandler::SigIgn {
                // SAFETY: no handler.
                unsafe { sigaction(signal, &before)? };
            }
        }
        Ok(Signals { waiting })
    }

    /// Waits until `fd` is readable or a signal has come.
    ///
    /// # Errors
    /// The host's; `EBADF` when the descriptor is open no more.
    pub fn wait(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match ppoll(&mut fds, None, Some(self.waiting)) {
            Ok(_) if fds[0].revents().is_some_and(|e| e.contains(PollFlags::POLLNVAL)) => Err(Errno::EBADF),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// One that has come, if there is one.
    pub fn next(&self) -> Option<Signal> {
        let come = COME.load(SeqCst);
        if come == 0 {
            return None;
        }
        let signal = come.trailing_zeros();
        COME.fetch_and(!(1 << signal), SeqCst);
        Signal::try_from(signal as i32).ok()
    }
}

/// Whether this is one that a terminal sends to whoever has it.
pub fn is_of_terminal(signal: Signal) -> bool {
    matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGWINCH)
}
