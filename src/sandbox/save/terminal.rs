//! Settings of terminals that were handed in, which a restored program finds on the terminal that takes their place.

use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, OwnedFd};

/// See the module; `termios(3)`. The speed is the new terminal's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Input, output, control and local modes.
    flags: [u32; 4],
    characters: Vec<u8>,
}

fn look(fd: &OwnedFd) -> Option<libc::termios> {
    // SAFETY: the host fills it in, where it says so.
    unsafe {
        let mut modes = std::mem::zeroed();
        (libc::tcgetattr(fd.as_raw_fd(), &raw mut modes) == 0).then_some(modes)
    }
}

impl Modes {
    /// Those of a terminal; `None` of anything else.
    pub fn of(fd: &OwnedFd) -> Option<Modes> {
        let m = look(fd)?;
        Some(Modes { flags: [m.c_iflag, m.c_oflag, m.c_cflag, m.c_lflag], characters: m.c_cc.to_vec() })
    }

    /// Sets them, where this is a terminal.
    pub fn set(&self, fd: &OwnedFd) {
        use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
        let Some(mut m) = look(fd) else { return };
        let speed = m.c_cflag & libc::CBAUD;
        let [input, output, control, local] = self.flags;
        (m.c_iflag, m.c_oflag, m.c_lflag) = (input, output, local);
        m.c_cflag = control & !libc::CBAUD | speed;
        for (to, from) in m.c_cc.iter_mut().zip(&self.characters) {
            *to = *from;
        }
        // A terminal that this process is in the background of is set all the same.
        let (one, mut old) = (SigSet::from(Signal::SIGTTOU), SigSet::empty());
        let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&one), Some(&mut old));
        // SAFETY: an open descriptor, and a record that is read.
        unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const m) };
        if blocked.is_ok() {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&old), None);
        }
    }
}
