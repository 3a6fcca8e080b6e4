//! The broker: a process that changes mode, owner and times of files in writable binds.
//!
//! Landlock covers none of these changes: a process that may make them makes them on every file that it can open.
//! The filter therefore refuses them to the sandbox, and this process, which is outside of Landlock, but behind a
//! filter of its own, makes them, after it has seen that the file lies in a writable bind. It runs only where there
//! is one, has nothing of the sandbox's memory but the word that it answers by, and reads no file.
//!
//! A request names a descriptor of the sandbox. The broker takes hold of the file through `/proc/PID/fd` of the
//! supervisor, whose table all of them share, with `O_PATH` into a table of its own: from then on nobody can put
//! another file in its place. Where it lies is what the host says of that hold (`/proc/self/fd`), against what it
//! says of the binds now.
//!
//! It does not rely on the kernel for who may ask: where the sandbox's user is not root it gives files to that user and its
//! groups alone, and set-id bits to their files alone ([`Owner`]).

use super::error::{Error, Result};
use super::filter;
use super::jail::{self, cap};
use super::supervisor::{self, Helper};
use drupe_kernel::abi::broker::{self, Request};
use drupe_kernel::abi::layout;
use drupe_kernel::abi::slot::SlotHeader;
use std::io::Write as _;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What the broker may do of a user's privileges: more than the sandbox, which it could not look into otherwise.
const CAPABILITIES: u64 =
    1 << cap::CHOWN | 1 << cap::DAC_OVERRIDE | 1 << cap::DAC_READ_SEARCH | 1 << cap::FOWNER | 1 << cap::FSETID;

/// The calls that it makes; `openat` with [`HOLD`] alone.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_close,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_futex,
    libc::SYS_poll,
    // How the host goes on with a poll after a stop, as when the machine was suspended.
    libc::SYS_restart_syscall,
    libc::SYS_exit_group,
];
/// Flags of its only way to open a file: to hold it, not to read or write it.
pub(super) const HOLD: i32 = libc::O_PATH | libc::O_CLOEXEC;

/// Whose files it may make.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The sandbox's user; root may give files to everybody.
    pub uid: u32,
    /// Its groups.
    pub gids: Vec<u32>,
}

impl Owner {
    /// Whether a file of `now` may become one of (user, group), of which `u32::MAX` leaves each alone.
    fn may_own(&self, now: (u32, u32), new: (u32, u32)) -> bool {
        let user = [u32::MAX, now.0, self.uid].contains(&new.0);
        let group = [u32::MAX, now.1].contains(&new.1) || self.gids.contains(&new.1);
        self.uid == 0 || user && group
    }

    /// The mode that a file of `now` with `old` gets where `new` was asked for; `None` if it must not be. As Linux has
    /// it, a group that is not the user's costs the bit without a word.
    fn mode(&self, now: (u32, u32), old: u32, new: u32) -> Option<u32> {
        let fresh = new & !old;
        if self.uid == 0 {
            return Some(new);
        }
        if fresh & libc::S_ISUID != 0 && now.0 != self.uid {
            return None;
        }
        let foreign = fresh & libc::S_ISGID != 0 && !self.gids.contains(&now.1);
        Some(if foreign { new & !libc::S_ISGID } else { new })
    }
}

/// A running broker; it ends with this.
#[derive(Debug)]
pub struct Broker {
    /// Its process.
    pub helper: Helper,
    /// Where requests are written.
    requests: Option<OwnedFd>,
}

impl Broker {
    /// Forks it off, for files at and below `binds`. `window` is where the kernel's window is mapped.
    /// `owner`: who is to have them. `detached`: each bind is a mount that is nowhere else. `had`: the capabilities that the user has.
    ///
    /// # Errors
    /// The host's.
    pub fn start(binds: &[RawFd], owner: &Owner, window: u64, detached: bool, had: u64) -> Result<Broker> {
        let (requests, requested) = pipe()?;
        let maker = std::process::id() as libc::pid_t;
        // SAFETY: the child keeps to host calls and its own stack.
        match unsafe { libc::fork() } {
            -1 => Err(Error::last("start the broker")),
            0 => {
                let served = confine(maker, requests, binds, detached, had, owner).and_then(|served| served.lock_in());
                // What it would say has nobody to hear it: whoever asks gets EIO.
                if let Ok(served) = served {
                    served.run(window);
                }
                // SAFETY: ends this process without the exit handlers of its maker.
                unsafe { libc::_exit(125) }
            }
            pid => Ok(Broker { helper: Helper::new(pid), requests: Some(requested) }),
        }
    }

    /// Where requests are written.
    pub fn fd(&self) -> RawFd {
        self.requests.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Broker {
    /// Landlock lets nobody in the sandbox signal it: it ends when no request can come any more.
    fn drop(&mut self) {
        self.requests = None;
        self.helper.bury();
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: fills both; made just now, they are ours.
    unsafe {
        match libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) {
            0 => Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))),
            _ => Err(Error::last("make the broker's pipe")),
        }
    }
}

/// What it serves with.
struct Served<'a> {
    requests: OwnedFd,
    binds: &'a [RawFd],
    owner: &'a Owner,
    /// See [`Broker::start`].
    detached: bool,
    /// `/proc/PID/fd` of the supervisor.
    theirs: OwnedFd,
    /// `/proc/self/fd`
    own: OwnedFd,
    /// The supervisor.
    maker: Option<OwnedFd>,
}

/// Leaves what was inherited.
fn confine<'a>(
    maker: libc::pid_t,
    requests: OwnedFd,
    binds: &'a [RawFd],
    detached: bool,
    had: u64,
    owner: &'a Owner,
) -> Result<Served<'a>> {
    supervisor::become_helper(maker, c"drupe-broker");
    let theirs = super::open_path(format!("/proc/{maker}/fd").as_ref())?;
    let own = super::open_path("/proc/self/fd".as_ref())?;
    let watched = supervisor::watch(maker);
    let keep = [requests.as_raw_fd(), theirs.as_raw_fd(), own.as_raw_fd()];
    let keep = keep.into_iter().chain(watched.iter().map(AsRawFd::as_raw_fd));
    supervisor::close_others(&keep.chain(binds.iter().copied()).collect::<Vec<_>>())?;
    jail::keep_capabilities(CAPABILITIES & had)?;
    // SAFETY: a plain number. Nobody of the same user looks into it or writes to it.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    Ok(Served { requests, binds, owner, detached, theirs, own, maker: watched })
}

/// A file name in a directory of descriptors.
fn name_of(fd: RawFd) -> [u8; 16] {
    let mut name = [0; 16];
    // Eleven characters at most.
    let _ = write!(&mut name[..15], "{fd}");
    name
}

impl Served<'_> {
    /// Puts the filter on.
    fn lock_in(self) -> Result<Self> {
        filter::install(&filter::of_broker()).map_err(|e| Error::host("confine the broker", e))?;
        Ok(self)
    }

    /// Serves until the supervisor is gone.
    fn run(&self, window: u64) {
        let mut request = MaybeUninit::<Request>::uninit();
        while !supervisor::is_orphan(self.maker.as_ref(), self.requests.as_raw_fd(), -1) {
            let size = size_of::<Request>();
            // SAFETY: the buffer is that large.
            let got = unsafe { libc::read(self.requests.as_raw_fd(), request.as_mut_ptr().cast(), size) };
            if got <= 0 {
                return;
            }
            if got as usize != size {
                continue;
            }
            // SAFETY: filled, and any bytes are one.
            let request = unsafe { request.assume_init() };
            let errno = self.serve(&request).err().unwrap_or(0);
            answer(window, &request, errno);
        }
    }

    fn serve(&self, request: &Request) -> std::result::Result<(), i32> {
        let name = name_of(request.fd);
        // SAFETY: a C string of ours; a descriptor made just now is ours.
        let file = unsafe {
            let fd = libc::openat(self.theirs.as_raw_fd(), name.as_ptr().cast(), HOLD);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        if !self.binds.iter().any(|&bind| self.lies_in(file.as_raw_fd(), bind)) {
            return Err(libc::EPERM);
        }
        self.change(file.as_raw_fd(), request)
    }

    fn change(&self, file: RawFd, request: &Request) -> std::result::Result<(), i32> {
        let [a, b] = request.args;
        let nothing = c"".as_ptr();
        let itself = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
        let now = status(file).ok_or(libc::EIO)?;
        let (owner, mode) = ((now.stx_uid, now.stx_gid), u32::from(now.stx_mode));
        if request.op == broker::CHOWN && !self.owner.may_own(owner, (a as u32, b as u32)) {
            return Err(libc::EPERM);
        }
        let wanted = self.owner.mode(owner, mode, a as u32 & 0o7777);
        if request.op == broker::CHMOD && wanted.is_none() {
            return Err(libc::EPERM);
        }
        let wanted = wanted.unwrap_or(0);
        // SAFETY: C strings and times on this stack.
        unsafe {
            check(match request.op {
                broker::CHMOD => {
                    libc::syscall(libc::SYS_fchmodat, self.own.as_raw_fd(), name_of(file).as_ptr(), wanted) as i32
                }
                broker::CHOWN => libc::fchownat(file, nothing, a as u32, b as u32, itself),
                broker::TIMES => {
                    let times = [a, b].map(|ns| match ns {
                        broker::OMIT => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
                        ns => libc::timespec {
                            tv_sec: ns.div_euclid(1_000_000_000),
                            tv_nsec: ns.rem_euclid(1_000_000_000),
                        },
                    });
                    libc::syscall(libc::SYS_utimensat, file, nothing, times.as_ptr(), itself) as i32
                }
                _ => return Err(libc::EINVAL),
            })
        }
    }

    /// Whether `file` is what `bind` stands for, or lies below it. A file that has no name any more lies where its
    /// last one was.
    fn lies_in(&self, file: RawFd, bind: RawFd) -> bool {
        let (Some(this), Some(root)) = (status(file), status(bind)) else { return false };
        if self.detached {
            // Nothing else is reached through that mount. (What the host has mounted below the bind is not changed.)
            return this.stx_mnt_id == root.stx_mnt_id;
        }
        let identity = |s: &libc::statx| (s.stx_dev_major, s.stx_dev_minor, s.stx_ino);
        if identity(&this) == identity(&root) {
            return true;
        }
        // Of a removed directory's path another may have become the owner.
        if u32::from(root.stx_mode) & libc::S_IFMT != libc::S_IFDIR || root.stx_nlink == 0 {
            return false;
        }
        let (mut ours, mut above) = ([0; libc::PATH_MAX as usize], [0; libc::PATH_MAX as usize]);
        let (Some(path), Some(root)) = (self.path_of(file, &mut ours), self.path_of(bind, &mut above)) else {
            return false;
        };
        below(path, root)
    }

    fn path_of<'a>(&self, fd: RawFd, into: &'a mut [u8]) -> Option<&'a [u8]> {
        let name = name_of(fd);
        // SAFETY: a C string and a buffer of that length.
        let len = unsafe {
            libc::readlinkat(self.own.as_raw_fd(), name.as_ptr().cast(), into.as_mut_ptr().cast(), into.len())
        };
        // One that fills the buffer may have been cut.
        usize::try_from(len).ok().filter(|&len| len < into.len()).map(|len| &into[..len])
    }
}

/// Whether an absolute path leads below `root`, another one.
fn below(path: &[u8], root: &[u8]) -> bool {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"))
}

fn check(ret: i32) -> std::result::Result<(), i32> {
    if ret < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
}

fn status(fd: RawFd) -> Option<libc::statx> {
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    // SAFETY: fills one record of ours.
    unsafe {
        let ret = libc::syscall(libc::SYS_statx, fd, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, out.as_mut_ptr());
        (ret == 0).then(|| out.assume_init())
    }
}

/// Answers in the asking thread's slot, unless that thread waits for something else by now.
fn answer(window: u64, request: &Request, errno: i32) {
    if u64::from(request.slot) >= layout::SLOT_COUNT {
        return;
    }
    let at =
        window + layout::SLOTS + u64::from(request.slot) * layout::SLOT_SIZE + offset_of!(SlotHeader, broker) as u64;
    // SAFETY: an aligned word of the window, which is mapped as long as this process lives.
    let word = unsafe { AtomicU32::from_ptr(at as *mut u32) };
    let (asked, answered) = (broker::asked(request.ticket), broker::answered(request.ticket, errno as u32));
    if word.compare_exchange(asked, answered, SeqCst, SeqCst).is_ok() {
        // SAFETY: only looks the address up.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, below};

    #[test]
    fn files_become_those_of_the_sandboxs_user_alone() {
        const KEEP: u32 = u32::MAX;
        let user = Owner { uid: 1000, gids: vec![1000, 44] };
        let root = Owner { uid: 0, gids: vec![0] };
        for (new, may) in [
            ((1000, 1000), true),
            ((KEEP, 44), true),
            ((0, 0), true),
            ((1000, 0), true),
            ((KEEP, 45), false),
            ((1001, KEEP), false),
        ] {
            assert_eq!((user.may_own((0, 0), new), root.may_own((0, 0), new)), (may, true), "{new:?}");
        }
        assert!(!user.may_own((1000, 1000), (0, KEEP)) && !user.may_own((1000, 1000), (KEEP, 0)));
        assert_eq!(user.mode((1000, 1000), 0o644, 0o6755), Some(0o6755));
        assert_eq!(user.mode((0, 1000), 0o644, 0o4755), None);
        assert_eq!(user.mode((0, 0), 0o755, 0o700), Some(0o700));
        assert_eq!(user.mode((0, 0), 0o755, 0o2755), Some(0o755));
        // What the host has given to all below a directory stays.
        assert_eq!(user.mode((1000, 7), 0o2755, 0o2700), Some(0o2700));
        assert_eq!(root.mode((5, 5), 0, 0o6755), Some(0o6755));
    }

    #[test]
    fn a_path_below_another() {
        for (path, root) in [("/a/b", "/a"), ("/a/b/c", "/a/b"), ("/a", "/"), ("/a/x (deleted)", "/a")] {
            assert!(below(path.as_bytes(), root.as_bytes()), "{path} {root}");
        }
        for (path, root) in [("/ab", "/a"), ("/a", "/a"), ("/a", "/a/b"), ("pipe:[1]", "/"), ("(unreachable)/a", "/a")]
        {
            assert!(!below(path.as_bytes(), root.as_bytes()), "{path} {root}");
        }
    }
}
