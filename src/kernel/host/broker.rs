//! Changes of mode, owner and times of the host's files: the broker makes them (see [`crate::abi::broker`]).

use super::{files, futex, time, window};
use crate::abi::broker::{self, Request};
use crate::abi::{Errno, Result, linux};
use crate::arch;
use core::sync::atomic::Ordering::SeqCst;

/// After how long without an answer to look whether there is a broker at all, ns.
const PATIENCE: u64 = 500_000_000;

/// `chmod(2)` of the file behind a descriptor that may be `O_PATH`.
///
/// # Errors
/// The host's; `EPERM` for a file that lies in no writable bind, `EIO` without a broker.
pub fn chmod(fd: i32, mode: u32) -> Result {
    ask(broker::CHMOD, fd, [i64::from(mode), 0])
}

/// `chown(2)` of it, or of a symlink itself; `u32::MAX` leaves an id alone.
///
/// # Errors
/// As [`chmod`].
pub fn chown(fd: i32, uid: u32, gid: u32) -> Result {
    ask(broker::CHOWN, fd, [i64::from(uid), i64::from(gid)])
}

/// `utimensat(2)` of it, or of a symlink itself: access and modification in ns, `None` leaves a time alone.
///
/// # Errors
/// As [`chmod`].
pub fn set_times(fd: i32, times: [Option<i64>; 2]) -> Result {
    ask(broker::TIMES, fd, times.map(|t| t.unwrap_or(broker::OMIT)))
}

fn ask(op: u32, fd: i32, args: [i64; 2]) -> Result {
    let slot = arch::slot();
    let word = &slot.broker;
    let ticket = broker::next_ticket(word.load(SeqCst));
    let asked = broker::asked(ticket);
    word.store(asked, SeqCst);
    let request = Request { op, fd, slot: slot.index.load(SeqCst), ticket, args };
    let size = size_of::<Request>();
    loop {
        // SAFETY: the host only reads the request. Pipes take so few bytes whole or not at all.
        let a = [window::broker_fd() as u64, &raw const request as u64, size as u64, 0, 0, 0];
        match Errno::check(unsafe { arch::syscall(linux::__NR_write, a) }) {
            Err(Errno::EINTR) => {}
            Ok(n) if n == size as u64 => break,
            _ => return Err(Errno::EIO),
        }
    }
    loop {
        if let Some(errno) = broker::answer(word.load(SeqCst)) {
            return if errno == 0 { Ok(()) } else { Err(Errno::from_raw(errno as i32)) };
        }
        let now = time::clock(linux::CLOCK_MONOTONIC as i32).unwrap_or(0);
        let late = futex::wait(word, asked, Some((now as u64).saturating_add(PATIENCE))) == Err(Errno::ETIMEDOUT);
        if late && files::poll_now(window::broker_fd(), 0)? != 0 {
            return Err(Errno::EIO);
        }
    }
}
