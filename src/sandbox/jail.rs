//! What the host takes away from the sandbox's processes beyond the filter, the supervisor included: a program
//! that has taken over its kernel reaches the supervisor through the memory that they share.
//!
//! In this order, and for good: no privileges by exec, the capabilities that nothing given needs, and (Landlock)
//! every part of the host's tree that was not given, TCP (but where the host's network was given), devices' ioctls, signals to processes outside and
//! abstract sockets outside. Whatever was opened before stays open.

use super::error::{Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
/// The newest Landlock version whose rights are known here.
const NEWEST: ABI = ABI::V6;
/// What the kernel shows of the host in the `/proc` of its own, relative to it.
const PROC_FILES: [&str; 5] = ["cpuinfo", "loadavg", "meminfo", "stat", "vmstat"];

/// Which layers beyond the filter hold a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jail {
    /// Every layer that the host offers and that costs little.
    #[default]
    Auto,
    /// As `Auto`, but where the host has no Landlock nothing starts; and nothing that a hostile program could have
    /// written is used again: rewritten code is neither kept for later sandboxes nor taken from earlier ones.
    Strict,
    /// As `Auto`, and in namespaces of its own (mounts, network, IPC, host name, control groups; of processes but by
    /// [`SandboxBuilder::start_here`](super::SandboxBuilder::start_here); of users where the user is not privileged):
    /// nothing starts on a host that does not let this user make them. A start takes 2 to 3 ms longer.
    Namespaces,
    /// The filter alone, which lets a program that takes over its kernel write wherever the user may.
    Off,
}

/// What a sandbox was given of the host.
#[derive(Debug, Default)]
pub struct Reach {
    /// Files and directories that it may read.
    pub read: Vec<RawFd>,
    /// Files and directories that it may change.
    pub write: Vec<RawFd>,
    /// Directory of copies of code.
    pub cache: Option<RawFd>,
    /// Whether it has the host's network.
    pub network: bool,
    /// Its user is not root, so that what it writes to loses set-id bits.
    pub ordinary: bool,
}

impl Reach {
    /// Whether anything on the host may be changed.
    pub fn writable(&self) -> bool {
        !self.write.is_empty()
    }
}

/// Gives up what can be given up for good: no process of this tree gains privileges by exec. That is
/// also what lets an ordinary user install a seccomp filter.
///
/// # Errors
/// A host without `no_new_privs`, or one that lets nobody install filters.
pub fn enter() -> Result {
    nix::sys::prctl::set_no_new_privs().map_err(|e| Error::Unsupported(format!("no_new_privs is refused ({e})")))?;
    // The filter itself is installed by the first process behind it, which could only die of a refusal.
    let trap = libc::SECCOMP_RET_TRAP;
    // SAFETY: reads one word of ours.
    match unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const trap) } {
        0 => Ok(()),
        _ => Err(Error::Unsupported(format!("seccomp filters are refused ({})", std::io::Error::last_os_error()))),
    }
}

/// Shuts the jail around the running process and whatever it starts. One that may, leaves the host's namespaces of host
/// name, IPC and control groups, too.
/// `had`: the capabilities that the user had before, which a user namespace would widen. Whether signals reach no process
/// outside of it from then on.
///
/// # Errors
/// A layer that the host has and refuses; with [`Jail::Strict`] a host without Landlock.
pub fn shut(jail: Jail, given: &Reach, had: u64) -> Result<bool> {
    if jail == Jail::Off {
        return Ok(false);
    }
    if may_mount(had) {
        // These cost nearly nothing (`drupe bench --layers`); where they are refused there is nothing that they would add
        // to the filter's refusal.
        // SAFETY: a plain number.
        unsafe { libc::unshare(libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP) };
    }
    keep_capabilities(kept(jail, given, had))?;
    if landlock_version() == 0 {
        return match jail {
            Jail::Strict => Err(Error::Unsupported("it has no Landlock, which a strict jail needs".into())),
            _ => Ok(false),
        };
    }
    restrict(given)
        .map(|status| status.ruleset != RulesetStatus::NotEnforced && keeps_signals_inside())
        .map_err(|e| Error::Host { what: "set up Landlock".into(), source: std::io::Error::other(e.to_string()) })
}

/// Whether a user with these capabilities makes namespaces, and mounts in them.
pub fn may_mount(had: u64) -> bool {
    had >> cap::SYS_ADMIN & 1 != 0
}

/// Whether this process, which has restricted itself, is one of a domain that signals do not leave. Its parent is
/// most often its own user's, so that it can be seen.
fn keeps_signals_inside() -> bool {
    const SCOPED: u32 = 6;
    // SAFETY: plain numbers; nothing is sent.
    landlock_version() >= SCOPED && unsafe { libc::kill(libc::getppid(), 0) } != 0
}

/// The host's Landlock version, 0 for none.
pub fn landlock_version() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: asks for the version only.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

fn restrict(given: &Reach) -> std::result::Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST))?;
    if !given.network {
        rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut rules = rules.scope(Scope::from_all(NEWEST))?.create()?.set_compatibility(CompatLevel::BestEffort);
    for &fd in &given.read {
        rules = allow(rules, fd, read)?;
    }
    // Nothing is ever executed by the host, and ioctls go to descriptors that were open before.
    let write = AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::IoctlDev);
    for &fd in &given.write {
        rules = allow(rules, fd, write)?;
    }
    if let Some(cache) = given.cache {
        let keep = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::RemoveFile | AccessFs::Truncate;
        rules = allow(rules, cache, read | keep)?;
    }
    // Most often the root is the host's own, below which these are given already.
    let own_root = super::open_path(Path::new("/")).ok().and_then(|root| identity(root.as_raw_fd()));
    let given_all = given.read.iter().chain(&given.write).any(|&fd| own_root.is_some() && identity(fd) == own_root);
    for name in if given_all { &[][..] } else { &PROC_FILES[..] } {
        // A host that does not show one has nothing to allow.
        if let Ok(file) = super::open_path(&Path::new("/proc").join(name)) {
            rules = allow(rules, file.as_raw_fd(), AccessFs::ReadFile.into())?;
        }
    }
    rules.restrict_self()
}

/// Device and inode number.
fn identity(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: the plan keeps what was given open, and the caller the rest.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::sys::stat::fstat(fd).ok().map(|s| (s.st_dev, s.st_ino))
}

/// Allows `access` at and below what `fd` stands for; a file has no rights of a directory.
fn allow(
    rules: RulesetCreated,
    fd: RawFd,
    access: BitFlags<AccessFs>,
) -> std::result::Result<RulesetCreated, RulesetError> {
    // SAFETY: the plan keeps what was given open, and the caller the rest.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let is_dir = nix::sys::stat::fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
    let access = if is_dir { access } else { access & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(fd, access))
}

/// Capability numbers of `linux/capability.h`.
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_RAW: u32 = 13;
    pub const SYS_ADMIN: u32 = 21;
}

/// The capabilities that files need that were given: to read those of every user, as the person who starts a program
/// as root expects, and to write and remove them where something is writable. The broker changes what they are. And those
/// of the host's network, where it was given: low ports and raw sockets.
fn needed(given: &Reach) -> u64 {
    let keeping = if given.ordinary { 0 } else { 1 << cap::FSETID };
    let writing = 1 << cap::DAC_OVERRIDE | 1 << cap::FOWNER | keeping;
    let networking = 1 << cap::NET_BIND_SERVICE | 1 << cap::NET_RAW;
    1 << cap::DAC_READ_SEARCH | if given.writable() { writing } else { 0 } | if given.network { networking } else { 0 }
}

/// The capabilities that the sandbox's processes have, of those that the user had.
pub fn kept(jail: Jail, given: &Reach, had: u64) -> u64 {
    if jail == Jail::Off { had } else { needed(given) & had }
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// One half of the capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn capabilities() -> Result<[Sets; 2]> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: the header and both halves of the sets are on this stack.
    match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } {
        0 => Ok(sets),
        _ => Err(Error::last("ask for capabilities")),
    }
}

/// The capabilities that the process may use.
///
/// # Errors
/// The host's.
pub fn permitted() -> Result<u64> {
    capabilities().map(|[low, high]| u64::from(high.permitted) << 32 | u64::from(low.permitted))
}

/// Keeps of the capabilities that the process has those in `kept`.
///
/// # Errors
/// The host's.
pub fn keep_capabilities(kept: u64) -> Result {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = capabilities()?;
    if sets.iter().all(|s| s.permitted | s.inheritable == 0) {
        return Ok(());
    }
    // SAFETY: plain numbers. EINVAL ends the loop: the host knows no more capabilities; EPERM: it lets only those
    // with CAP_SETPCAP shrink the bounding set, which exec would need, and no exec is ever made.
    for number in 0..64u32 {
        if kept >> number & 1 == 0 && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: plain numbers; hosts without ambient capabilities have none to clear.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let low = sets[0].permitted & kept as u32;
    sets = [Sets { effective: low, permitted: low, inheritable: 0 }, Sets::default()];
    // SAFETY: as above.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Error::last("drop capabilities")),
    }
}
