//! How much memory a sandbox's processes have of their own, for one whose memory is bounded.
//!
//! The host says it in `/proc`, which Landlock keeps from the sandbox, the supervisor included. So a process outside of
//! it, behind a filter of its own, reads it there, of the supervisor's children alone, and tells the supervisor, who
//! asks the more often the less is left. The kernel decides what follows (`task/oom.rs`).
//!
//! It also removes the sandbox's control group, if it has one, when the last process in it has ended; when the supervisor
//! has ended it ends them: a program that owns its kernel need not end with it.
//!
//! What several processes have in common since a fork counts once: where the plain sum, which costs the host nothing,
//! is too much, the host is asked for each process's share.

use super::cgroup::Kept;
use super::error::{Error, Result};
use super::supervisor::{self, Helper};
use super::{dirents, filter, jail};
use drupe_kernel::abi::layout;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How many processes are told of one by one.
const MOST: usize = 1024;
/// As many as an answer can name: which question it is to, the sum of those that it does not name, and a pid with a size
/// for each other.
const WORDS: usize = 2 * MOST + 2;
/// The shortest and the longest time between two looks.
const OFTEN: Duration = Duration::from_millis(2);
const SELDOM: Duration = Duration::from_millis(250);
/// The longest time between two looks where little is left.
const NEAR: Duration = Duration::from_millis(10);
/// What programs may take in a second, bytes: faster than this no processor of today clears pages for them.
const RATE: u64 = 8 << 30;
/// Address space in use, bytes, beyond which a process's page tables are counted: a page of them maps 2 MiB, so those of
/// 8 GiB beside the window take at most 16 MiB.
const VAST: u64 = layout::END + (8 << 30);
/// How long an answer may take.
const PATIENCE_MS: i32 = 2000;

/// The calls that it makes; `openat` with [`LOOK`] alone.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_poll,
    // How the host goes on with a poll after a stop, as when the machine was suspended.
    libc::SYS_restart_syscall,
    libc::SYS_close,
    libc::SYS_getdents64,
    libc::SYS_unlinkat,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit_group,
];
/// Flags of its only way to open a file.
pub(super) const LOOK: i32 = libc::O_RDONLY | libc::O_CLOEXEC;

/// A running meter; it ends with this.
#[derive(Debug)]
pub struct Meter {
    /// Its process.
    pub helper: Helper,
    socket: Option<OwnedFd>,
    /// The bound, bytes.
    pub limit: u64,
    /// It has a control group to remove, and so outlives the supervisor.
    pub stays: bool,
    /// When to look next (host monotonic, ns); `u64::MAX`: never, since memory is not bounded.
    pub next: u64,
    /// Since when there is too much, ns; 0: there is not.
    pub over_since: u64,
    /// There was little left, or too much in use, at the last look.
    pub tight: bool,
    /// What a look costs when nothing else runs, ns.
    cost: u64,
    /// Number of the last question. Somebody else in the sandbox may have asked, too, and left the answer.
    asked: u64,
}

impl Meter {
    /// The descriptor by which it is asked, if it is.
    pub fn descriptor(&self) -> Option<i32> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// What it says.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Host pid and bytes of the largest processes, in order of the pids.
    pub each: Vec<(u32, u64)>,
    /// Bytes of all others.
    pub rest: u64,
}

impl Meter {
    /// Forks it off. `others`: children of this process that are none of the sandbox's. `limit`: bytes, 0
    /// for none. `kept`: the capabilities that they have, without which the host lets nobody look at them. `group`: what
    /// it is to remove in the end.
    ///
    /// # Errors
    /// The host's; a host whose `/proc` does not name children.
    pub fn start(proc: RawFd, others: &[libc::pid_t], limit: u64, kept: u64, group: Option<Kept>) -> Result<Meter> {
        let mut ends = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: fills both; made just now, they are ours. A C string.
        let (ours, theirs, children) = unsafe {
            if libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) != 0 {
                return Err(Error::last("make the meter's socket"));
            }
            let [ours, theirs] = ends.map(|fd| OwnedFd::from_raw_fd(fd));
            let children = libc::openat(proc, c"thread-self/children".as_ptr(), LOOK);
            if children < 0 {
                let e = io::Error::last_os_error();
                return Err(Error::Unsupported(format!(
                    "its /proc does not name children ({e}), which --memory needs"
                )));
            }
            (ours, theirs, OwnedFd::from_raw_fd(children))
        };
        // SAFETY: no preconditions.
        let maker = unsafe { libc::getpid() };
        let stays = group.is_some();
        // SAFETY: the child keeps to host calls and its own stack.
        match unsafe { libc::fork() } {
            -1 => Err(Error::last("start the meter")),
            0 => {
                drop(ours);
                // SAFETY: no preconditions.
                let own = unsafe { libc::getpid() } as u32;
                let maker_fd = supervisor::watch(maker);
                let gauge = Gauge { socket: theirs, proc, children, others, own, limit, group, maker: maker_fd };
                if gauge.confine(maker, kept).is_ok() {
                    gauge.run();
                    gauge.clean_up(maker);
                }
                // SAFETY: ends this process without the exit handlers of its maker.
                unsafe { libc::_exit(125) }
            }
            pid => {
                let next = if limit == 0 { u64::MAX } else { 0 };
                let helper = Helper::new(pid);
                Ok(Meter {
                    helper,
                    socket: Some(ours),
                    limit,
                    stays,
                    next,
                    over_since: 0,
                    tight: false,
                    cost: u64::MAX,
                    asked: 0,
                })
            }
        }
    }

    /// How much there is; `None` if it does not answer, as when a hostile program has taken its answer.
    pub fn ask(&mut self) -> Option<Sizes> {
        let fd = self.socket.as_ref()?.as_raw_fd();
        self.asked += 1;
        let mut words = [0u64; WORDS];
        // SAFETY: one word of ours.
        if unsafe { libc::write(fd, (&raw const self.asked).cast(), 8) } != 8 {
            return None;
        }
        // Stale answers are no more than the socket holds.
        for _ in 0..1024 {
            let mut ready = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one record and a buffer of ours.
            let got = unsafe {
                if libc::poll(&raw mut ready, 1, PATIENCE_MS) != 1 {
                    return None;
                }
                libc::read(fd, words.as_mut_ptr().cast(), size_of_val(&words))
            };
            let [asked, rest, each @ ..] = words.get(..usize::try_from(got).ok()? / 8)? else { return None };
            if *asked == self.asked {
                let mut each: Vec<(u32, u64)> = each.chunks_exact(2).map(|pair| (pair[0] as u32, pair[1])).collect();
                each.sort_unstable();
                return Some(Sizes { each, rest: *rest });
            }
        }
        None
    }

    /// Plans the next look, at `now` (ns), where `used` bytes are in use; the last took `cost` ns.
    pub fn plan(&mut self, now: u64, used: u64, cost: u64) {
        let left = self.limit.saturating_sub(used);
        let until_full = Duration::from_nanos((u128::from(left) * 1_000_000_000 / u128::from(RATE)) as u64);
        self.tight = left < self.limit / 8;
        // On a busy host a look takes longer than it costs; who is measured becomes more and less with time.
        self.cost = cost.min(self.cost.saturating_add(self.cost / 16));
        // No more than a twentieth of a processor, unless it matters.
        let most = if self.tight { NEAR } else { SELDOM };
        let wait = until_full.clamp(OFTEN, SELDOM).max(Duration::from_nanos(self.cost.saturating_mul(20)).min(most));
        self.next = now.saturating_add(wait.as_nanos() as u64);
    }
}

impl Drop for Meter {
    /// Landlock lets nobody in the sandbox signal it: it ends when nobody can ask any more.
    fn drop(&mut self) {
        self.socket = None;
        if !self.stays {
            self.helper.bury();
        }
    }
}

/// The meter's own half.
struct Gauge<'a> {
    socket: OwnedFd,
    proc: RawFd,
    /// `/proc/thread-self/children` of the supervisor.
    children: OwnedFd,
    others: &'a [libc::pid_t],
    /// The meter itself.
    own: u32,
    limit: u64,
    group: Option<Kept>,
    /// The supervisor, as a process descriptor: the socket stays open as long as anybody in the sandbox lives.
    maker: Option<OwnedFd>,
}

impl Gauge<'_> {
    /// Leaves what was inherited.
    fn confine(&self, maker: libc::pid_t, kept: u64) -> Result {
        supervisor::become_helper(maker, c"drupe-meter");
        let mut keep = vec![self.socket.as_raw_fd(), self.proc, self.children.as_raw_fd()];
        keep.extend(self.maker.iter().map(AsRawFd::as_raw_fd));
        if let Some(group) = &self.group {
            keep.extend([group.parent.as_raw_fd(), group.before.as_raw_fd()]);
            keep.extend(group.kill.iter().map(AsRawFd::as_raw_fd));
            // SAFETY: a plain number. It goes when all others have gone.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
        }
        supervisor::close_others(&keep)?;
        jail::keep_capabilities(kept)?;
        // SAFETY: a plain number. Nobody of the same user looks into it or writes to it.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        filter::install(&filter::of_meter()).map_err(|e| Error::host("confine the meter", e))
    }

    /// Serves until the supervisor is gone.
    fn run(&self) {
        let mut all = [(0u32, 0u64); 2 * MOST];
        let mut question = 0u64;
        // SAFETY: one word of ours.
        while !self.is_orphan(-1) && unsafe { libc::read(self.socket.as_raw_fd(), (&raw mut question).cast(), 8) } > 0 {
            let (mut count, mut rest) = self.measure(&mut all, Gauge::resident);
            let sum = all[..count].iter().fold(rest, |sum, s| sum.saturating_add(s.1));
            if self.limit != 0 && sum > self.limit && count > 1 {
                (count, rest) = self.measure(&mut all, Gauge::share);
            }
            all[..count].sort_unstable_by_key(|s| std::cmp::Reverse(s.1));
            rest += all[..count].iter().skip(MOST).map(|s| s.1).sum::<u64>();
            let mut words = [0u64; WORDS];
            (words[0], words[1]) = (question, rest);
            let told = count.min(MOST);
            for (i, (pid, bytes)) in all[..told].iter().enumerate() {
                (words[2 * i + 2], words[2 * i + 3]) = (u64::from(*pid), *bytes);
            }
            let len = 8 * (2 * told + 2);
            // SAFETY: as many bytes of ours.
            if unsafe { libc::write(self.socket.as_raw_fd(), words.as_ptr().cast(), len) } < 0 {
                return;
            }
        }
    }

    /// Whether the supervisor has ended. Waits for a question for so long, ms; -1 for ever.
    fn is_orphan(&self, wait: libc::c_int) -> bool {
        supervisor::is_orphan(self.maker.as_ref(), self.socket.as_raw_fd(), wait)
    }

    /// Removes the control group once nothing is in it; the supervisor, which may go on for something else, is moved.
    fn clean_up(&self, maker: libc::pid_t) {
        let Some(group) = &self.group else { return };
        let who = Name::of(maker as u32);
        for _ in 0..400 {
            let pause = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let kill = group.kill.as_ref().filter(|_| self.is_orphan(0));
            // SAFETY: strings and a record of ours.
            unsafe {
                if let Some(kill) = kill {
                    libc::write(kill.as_raw_fd(), c"1".as_ptr().cast(), 1);
                }
                libc::write(group.before.as_raw_fd(), who.text.as_ptr().cast(), who.len);
                let gone = libc::unlinkat(group.parent.as_raw_fd(), group.name.as_ptr(), libc::AT_REMOVEDIR) == 0;
                if gone || io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) {
                    return;
                }
                libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const pause, std::ptr::null_mut());
            }
        }
    }

    /// Measures all processes: into `all` as many as fit, the sum of the others, and how many were measured.
    fn measure(&self, all: &mut [(u32, u64)], one: impl Fn(&Self, u32) -> u64) -> (usize, u64) {
        let (mut count, mut rest) = (0, 0);
        self.each_child(|pid| {
            let bytes = one(self, pid);
            match all.get_mut(count) {
                Some(entry) => {
                    *entry = (pid, bytes);
                    count += 1;
                }
                None => rest += bytes,
            }
        });
        (count, rest)
    }

    fn each_child(&self, mut f: impl FnMut(u32)) {
        let (mut at, mut pid, mut buf) = (0, 0u32, [0u8; 4096]);
        loop {
            // SAFETY: a buffer of ours.
            let got = unsafe { libc::pread(self.children.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), at) };
            if got <= 0 {
                return;
            }
            at += got as libc::off_t;
            for &byte in &buf[..got as usize] {
                match byte {
                    b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
                    _ => {
                        if pid != 0 && pid != self.own && !self.others.contains(&(pid as i32)) {
                            f(pid);
                        }
                        pid = 0;
                    }
                }
            }
        }
    }

    /// Bytes of anonymous memory that a process has, those that it has in common with others in full, and of its page
    /// tables.
    fn resident(&self, pid: u32) -> u64 {
        let own = |of: Name| {
            let [size, resident, shared] = self.sizes(&of);
            match resident.saturating_sub(shared) {
                0 => 0,
                own => own.saturating_add(self.tables(&of, size)),
            }
        };
        match own(Name::of(pid)) {
            // Its first thread may have ended before the others.
            0 => self.first_thread(pid).map_or(0, |tid| own(Name::of(pid).and(b"/task/").and_number(tid))),
            bytes => bytes,
        }
    }

    /// As [`Gauge::resident`], where what `n` processes have in common is an `n`th part for each.
    fn share(&self, pid: u32) -> u64 {
        let of = Name::of(pid);
        match self.field(&of.and(b"/smaps_rollup"), b"Pss_Anon:") {
            Some(bytes) => bytes.saturating_add(self.tables(&of, self.sizes(&of)[0])),
            None => self.resident(pid),
        }
    }

    /// Bytes of address space, of memory that is there, and of that which is a file's or shared.
    fn sizes(&self, of: &Name) -> [u64; 3] {
        let mut buf = [0; 128];
        let mut fields = self.read(&of.and(b"/statm"), &mut buf).split(|&b| b == b' ').map(number);
        std::array::from_fn(|_| fields.next().unwrap_or(0) * 4096)
    }

    /// Bytes of page tables of a process with so much address space, where they can matter.
    fn tables(&self, of: &Name, size: u64) -> u64 {
        if size > VAST { self.field(&of.and(b"/status"), b"VmPTE:").unwrap_or(0) } else { 0 }
    }

    /// Bytes that a line with this label says, in a file where they are told in kB.
    fn field(&self, file: &Name, label: &[u8]) -> Option<u64> {
        let mut buf = [0; 4096];
        let line = self.read(file, &mut buf).split(|&b| b == b'\n').find_map(|l| l.strip_prefix(label))?;
        Some(number(line.trim_ascii_start()) * 1024)
    }

    /// A thread of a process whose first one has ended.
    fn first_thread(&self, pid: u32) -> Option<u32> {
        let dir = self.open(&Name::of(pid).and(b"/task"))?;
        let mut buf = [0u8; 1024];
        // SAFETY: a buffer of ours.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buf.as_mut_ptr(), buf.len()) };
        let tids = dirents::names(buf.get(..usize::try_from(got).ok()?)?).map(|name| number(name.to_bytes()) as u32);
        tids.into_iter().find(|&tid| tid != 0 && tid != pid)
    }

    fn open(&self, name: &Name) -> Option<OwnedFd> {
        // SAFETY: a C string; a descriptor made just now is ours.
        unsafe {
            let fd = libc::openat(self.proc, name.text.as_ptr().cast(), LOOK);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        }
    }

    fn read<'b>(&self, name: &Name, buf: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.open(name) else { return &[] };
        // SAFETY: a buffer of that length.
        let got = unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
        &buf[..usize::try_from(got).unwrap_or(0)]
    }
}

/// The number that a text starts with.
fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
}

/// A name below `/proc`, as a C string.
#[derive(Clone, Copy)]
struct Name {
    text: [u8; 64],
    len: usize,
}

impl Name {
    fn of(pid: u32) -> Name {
        Name { text: [0; 64], len: 0 }.and_number(pid)
    }

    fn and(mut self, more: &[u8]) -> Name {
        for &byte in more {
            if self.len + 1 < self.text.len() {
                self.text[self.len] = byte;
                self.len += 1;
            }
        }
        self
    }

    fn and_number(self, mut n: u32) -> Name {
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.and(&digits[at..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let name = Name::of(1207).and(b"/task/").and_number(0).and(b"/statm");
        assert_eq!(&name.text[..=name.len], b"1207/task/0/statm\0");
        assert_eq!((number(b"12 kB"), number(b"x"), number(b"")), (12, 0, 0));
    }

    #[test]
    fn it_looks_more_often_the_less_is_left() {
        let mut meter = Meter {
            helper: Helper::new(0),
            socket: None,
            limit: 1 << 30,
            stays: false,
            next: 0,
            over_since: 0,
            tight: false,
            cost: u64::MAX,
            asked: 0,
        };
        let mut waits = Vec::new();
        for used in [0, 512 << 20, 900 << 20, 1 << 30, 2 << 30] {
            meter.plan(5, used, 0);
            waits.push(meter.next - 5);
        }
        assert!(waits.is_sorted_by(|a, b| a >= b), "{waits:?}");
        assert_eq!((waits[4], waits[0] > 100_000_000), (2_000_000, true));
        // What a look costs keeps it from looking all the time, but not for long where little is left...
        meter.cost = u64::MAX;
        meter.plan(5, 2 << 30, 1_000_000);
        assert_eq!((meter.next - 5, meter.tight), (10_000_000, true));
        meter.plan(5, 800 << 20, 1_000_000);
        assert_eq!((meter.next - 5, meter.tight), (27_343_750, false));
        // ...nor where one was kept waiting.
        meter.plan(5, 1 << 30, 100_000);
        meter.plan(5, 1 << 30, 50_000_000);
        assert_eq!(meter.next - 5, 2_125_000);
    }
}
