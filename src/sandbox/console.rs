//! The terminal of a person who runs a program in a sandbox.
//!
//! Guests act on it directly, through descriptors that were handed over; what is left here is to put
//! it back in order when a guest that had changed it was killed.

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use std::io::stdin;
use std::os::fd::BorrowedFd;

/// Remembers the terminal's settings, and restores them when dropped.
#[derive(Debug)]
pub struct Console {
    saved: Option<Termios>,
}

impl Console {
    /// Looks at standard input.
    pub fn new() -> Console {
        // SAFETY: borrowed for this call. The library's own handle would come with a buffer.
        let input = unsafe { BorrowedFd::borrow_raw(0) };
        Console { saved: tcgetattr(input).ok() }
    }

    /// Whether standard input is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.saved.is_some()
    }
}

impl Default for Console {
    fn default() -> Console {
        Console::new()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            // In the background this would stop us: only whoever has the terminal may restore it.
            let foreground = nix::unistd::tcgetpgrp(stdin()).is_ok_and(|g| g == nix::unistd::getpgrp());
            if foreground && tcgetattr(stdin()).is_ok_and(|now| now != *saved) {
                let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, saved);
            }
        }
    }
}
