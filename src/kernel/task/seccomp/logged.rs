//! Which answers of filters are written to the log (`/proc/sys/kernel/seccomp`).

use super::answer;
use crate::abi::{Errno, Result};
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// All answers, in the order in which they are listed.
const NAMES: [(&str, u32); 8] = [
    ("kill_process", answer::KILL_PROCESS),
    ("kill_thread", answer::KILL_THREAD),
    ("trap", answer::TRAP),
    ("errno", answer::ERRNO),
    ("user_notif", answer::USER_NOTIF),
    ("trace", answer::TRACE),
    ("log", answer::LOG),
    ("allow", answer::ALLOW),
];
/// All but the last.
const MAY_LOG: usize = 7;

/// A bit for each of [`NAMES`].
static LOGGED: AtomicU32 = AtomicU32::new((1 << MAY_LOG) - 1);

fn listed(wanted: u32) -> String {
    let mut out = String::new();
    for (i, (name, _)) in NAMES.iter().enumerate().filter(|(i, _)| wanted >> i & 1 != 0) {
        out.push_str(if i > 0 && !out.is_empty() { " " } else { "" });
        out.push_str(name);
    }
    out
}

/// What filters can answer.
pub fn available() -> String {
    listed(u32::MAX)
}

/// What is logged of that.
pub fn logged() -> String {
    listed(LOGGED.load(Relaxed))
}

/// Sets it: names with blanks in between.
///
/// # Errors
/// `EINVAL` for a name that there is not, and for `allow`.
pub fn set_logged(value: &[u8]) -> Result {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    let mut bits = 0;
    for word in text.split_ascii_whitespace() {
        let at = NAMES[..MAY_LOG].iter().position(|(name, _)| *name == word).ok_or(Errno::EINVAL)?;
        bits |= 1 << at;
    }
    LOGGED.store(bits, Relaxed);
    Ok(())
}

/// Whether an answer is to be logged. `asked`: its filter asks for that.
pub(super) fn logs(action: u32, asked: bool) -> bool {
    let named = NAMES.iter().position(|(_, answer)| *answer == action);
    let may = named.is_some_and(|at| LOGGED.load(Relaxed) >> at & 1 != 0);
    may && (asked || matches!(action, answer::LOG | answer::KILL_PROCESS | answer::KILL_THREAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(available(), "kill_process kill_thread trap errno user_notif trace log allow");
        assert_eq!(set_logged(b"trap allow"), Err(Errno::EINVAL));
        assert_eq!(set_logged(b"log  trap"), Ok(()));
        assert_eq!(logged(), "trap log");
        assert!(logs(answer::TRAP, true) && !logs(answer::TRAP, false) && !logs(answer::ERRNO, true));
        assert_eq!(set_logged(b"kill_process kill_thread trap errno user_notif trace log"), Ok(()));
    }
}
