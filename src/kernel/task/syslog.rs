//! The kernel's log as programs see it (`syslog(2)`): what this kernel is, and what it did to them. What the kernel
//! tells the person who runs it is not for programs.

use super::uts;
use crate::sync::{Knob, Level, Mutex, WaitQueue};
use alloc::format;
use alloc::string::String;

/// Size of the log, bytes; the oldest lines beyond it go.
pub const SIZE: usize = 1 << 17;

/// Whether reading the log takes CAP_SYSLOG (`/proc/sys/kernel/dmesg_restrict`).
pub static RESTRICTED: Knob = Knob::new(0, 0, 1);

/// See the module.
pub struct Syslog {
    lines: Mutex<Lines>,
    /// Those who wait for more.
    pub readers: WaitQueue,
}

struct Lines {
    /// What was said since the start.
    said: String,
    /// How far it was read by `SYSLOG_ACTION_READ`, and cleared.
    read: usize,
    cleared: usize,
}

impl Syslog {
    /// Nothing was said.
    pub const fn new() -> Syslog {
        let lines = Lines { said: String::new(), read: 0, cleared: 0 };
        Syslog { lines: Mutex::new(Level::Leaf, lines), readers: WaitQueue::new() }
    }

    /// Appends a line of a priority (`SYSLOG(3)`: 3 an error, 4 a warning, 6 information).
    pub fn append(&self, priority: u32, text: &str) {
        let now = crate::time::clock(linux_raw_sys::general::CLOCK_BOOTTIME as i32).unwrap_or(0).max(0) as u64;
        let (s, us) = (now / 1_000_000_000, now / 1000 % 1_000_000);
        let line = format!("<{priority}>[{s:5}.{us:06}] {text}\n");
        {
            let mut lines = self.lines.lock();
            let first = first();
            let over = (first.len() + lines.said.len() + line.len()).saturating_sub(SIZE);
            if over > 0 {
                let gone =
                    lines.said.bytes().skip(over).position(|b| b == b'\n').map_or(lines.said.len(), |n| over + n + 1);
                lines.said.drain(..gone);
                let moved = |at: usize| if at <= first.len() { at } else { at.saturating_sub(gone).max(first.len()) };
                (lines.read, lines.cleared) = (moved(lines.read), moved(lines.cleared));
            }
            if lines.said.try_reserve(line.len()).is_ok() {
                lines.said.push_str(&line);
            }
        }
        self.readers.wake_all();
    }

    /// Everything, with how far it was read and how far it was cleared, bytes.
    pub fn all(&self) -> (String, usize, usize) {
        let lines = self.lines.lock();
        let mut all = first();
        all.push_str(&lines.said);
        (all, lines.read, lines.cleared)
    }

    /// The next `most` bytes that nobody has read by `SYSLOG_ACTION_READ`, which are read now.
    pub fn take(&self, most: usize) -> String {
        let mut lines = self.lines.lock();
        let mut all = first();
        all.push_str(&lines.said);
        let start = lines.read.min(all.len());
        let end = all.len().min(start.saturating_add(most));
        lines.read = end;
        String::from_utf8_lossy(&all.as_bytes()[start..end]).into_owned()
    }

    /// Clears what was said up to `at`.
    pub fn clear(&self, at: usize) {
        self.lines.lock().cleared = at;
    }
}

impl Default for Syslog {
    fn default() -> Syslog {
        Syslog::new()
    }
}

/// What is said at the start.
fn first() -> String {
    let cpus = crate::host::sched::cpus();
    format!(
        "<5>[    0.000000] Linux version {} (drupe) {}\n<6>[    0.000000] smp: Brought up 1 node, {cpus} CPUs\n",
        uts::RELEASE,
        uts::VERSION
    )
}
