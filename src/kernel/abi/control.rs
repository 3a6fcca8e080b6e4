//! What the host half and the kernel say to each other, encoded with postcard. Both are built from
//! this file; the build hash in [`ImageHeader`] keeps two builds apart.

use super::linux;
use super::saved::Frozen;
use super::text::{Patched, TextKey, TextPlan};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// First bytes of the image's exported header symbol `DRUPE_IMAGE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ImageHeader {
    /// `MAGIC`.
    pub magic: u64,
    /// `boot(&BootParams) -> i64`: called once in the supervisor, on its own stack; starts the host process of the
    /// first program, too. 0 or -errno.
    pub boot: unsafe extern "C" fn(*const BootParams) -> i64,
    /// Starts the mother of further host processes, when [`Event::Mother`] asks for it: 0 or `-errno`.
    pub spawn_mother: unsafe extern "C" fn() -> i64,
    /// `control(req, req_len, resp, resp_cap) -> resp_len or -errno`: serves one [`Request`].
    pub control: unsafe extern "C" fn(*const u8, usize, *mut u8, usize) -> i64,
    /// `reaped(host_pid, wait status)`: a host process ended.
    pub reaped: unsafe extern "C" fn(i32, i32),
    /// `timer() -> next deadline in monotonic ns, u64::MAX for none`: runs the timers that are due.
    pub timer: unsafe extern "C" fn() -> u64,
    /// `host_ready(host fd, poll events)`: a host descriptor that was armed became ready.
    pub host_ready: unsafe extern "C" fn(i32, u32),
    /// `next_event(buf, cap) -> len, 0 for none`: takes one [`Event`].
    pub next_event: unsafe extern "C" fn(*mut u8, usize) -> i64,
    /// `restore(&BootParams, revival, its length) -> 0 or -errno`: instead of `boot` in a window that holds a saved
    /// kernel. `config` is that of the restored sandbox; the revival is a postcard-encoded
    /// [`Revival`](super::saved::Revival).
    pub restore: unsafe extern "C" fn(*const BootParams, *const u8, usize) -> i64,
    /// Addresses that the filter lets through: after the gate's and after the sigreturn's `syscall`.
    pub gate_ip: unsafe extern "C" fn(),
    /// See `gate_ip`.
    pub sigreturn_ip: unsafe extern "C" fn(),
}

/// `drupeimg` in ASCII.
pub const MAGIC: u64 = u64::from_le_bytes(*b"drupeimg");

/// What the host half hands to `boot`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BootParams {
    /// Base of the window.
    pub base: u64,
    /// Host descriptor of the window's memory file.
    pub window_fd: i32,
    /// Host `eventfd` that wakes the supervisor's loop: new timer, new event, descriptor to arm.
    pub doorbell_fd: i32,
    /// Directory descriptor of `/proc`.
    pub proc_fd: i32,
    /// The broker's pipe, -1 for none.
    pub broker_fd: i32,
    /// Host functions of the moved vDSO (0: none): `clock_gettime`, `gettimeofday`, `time`, `getcpu`.
    pub vdso: [u64; 4],
    /// Address of the seccomp `sock_fprog` that the mother installs.
    pub filter: u64,
    /// Names of host files are looked up with what lies at [`NAMING`](super::layout::NAMING) alone: 1, else 0.
    pub naming: u64,
    /// What the processor can do (AT_HWCAP): asking it itself takes virtual machines microseconds.
    pub hwcap: u64,
    /// xsave size of a signal frame (AT_MINSIGSTKSZ), 0 if unknown.
    pub min_sigstack: u64,
    /// Postcard-encoded [`Config`].
    pub config: *const u8,
    /// Its length in bytes.
    pub config_len: usize,
}

/// What names of host files are looked up with where nothing may lead out of the directory that they are looked up in:
/// constants, so that a filter, which sees addresses alone, knows what they say.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// `struct open_how` for `openat2(2)`: flags, mode, `RESOLVE_*`.
    pub how: [u64; 3],
    /// The empty name: of the descriptor itself.
    pub nothing: [u8; 8],
}

impl Naming {
    /// Size of `how`, bytes.
    pub const HOW_LEN: u64 = 24;
    /// Where `nothing` lies.
    pub const NOTHING: u64 = Naming::HOW_LEN;
    /// What there is to be said: a place (`O_PATH`), no link followed, below the directory.
    pub const BENEATH: Naming = Naming {
        how: [
            (linux::O_PATH | linux::O_NOFOLLOW | linux::O_CLOEXEC) as u64,
            0,
            (linux::RESOLVE_BENEATH | linux::RESOLVE_NO_MAGICLINKS) as u64,
        ],
        nothing: [0; 8],
    };
}

/// A bind mount or tmpfs that the guest sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSpec {
    /// The host directory or file behind `fd` (O_PATH) appears at `dst`.
    Bind {
        /// Host descriptor, handed over to the kernel.
        fd: i32,
        /// Host path, for `/proc/mounts` and messages.
        source: String,
        /// Absolute path in the sandbox.
        dst: String,
        /// No writes.
        read_only: bool,
    },
    /// An empty tmpfs at this absolute path.
    Tmpfs {
        /// Absolute path in the sandbox.
        dst: String,
    },
}

/// Which network a sandbox sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetMode {
    /// No interfaces.
    None,
    /// A loopback inside the arena.
    Loopback,
    /// The host's; local and netlink sockets are the arena's.
    Host,
}

/// A port of the host that leads to one of the sandbox's loopback.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Publish {
    /// Host descriptor of a socket that listens and does not block, handed over to the kernel.
    pub fd: i32,
    /// The port inside.
    pub port: u16,
}

/// The sandbox's settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// O_PATH descriptor of the root directory.
    pub root_fd: i32,
    /// Its host path.
    pub root_path: String,
    /// Writes go to the host's files; otherwise into an in-memory overlay.
    pub root_writable: bool,
    /// Further mounts, in order.
    pub mounts: Vec<MountSpec>,
    /// Network.
    pub net: NetMode,
    /// Ports that are published.
    pub publish: Vec<Publish>,
    /// Host descriptor of the socket to the porter, which stays the supervisor's; -1 for none.
    pub porter: i32,
    /// Lines for `/etc/hosts` beside the sandbox's own name.
    pub hosts: Vec<String>,
    /// `uname -n`.
    pub hostname: String,
    /// Limit of memory file, kernel heap and what processes have of their own, in bytes; 0: half of the host's memory,
    /// for the first two.
    pub memory: u64,
    /// Most tasks at once; 0 for the default.
    pub pids: u32,
    /// How many CPUs programs see and run on; 0 for all that the host gives.
    pub cpus: u32,
    /// Whether call sites may be rewritten.
    pub rewrite: bool,
    /// Directory of the copies of code that earlier sandboxes have left, -1 for none.
    pub text_cache: i32,
    /// Why there is none although one was named, for the log.
    pub refused_cache: Option<String>,
    /// Calls to trace: `None` off, empty list all.
    pub strace: Option<Vec<String>>,
    /// Host descriptor that trace lines go to.
    pub strace_fd: i32,
    /// Log level 0 (off) to 5 (trace); the log goes to the ring and to `log_fd`.
    pub log_level: u8,
    /// Host descriptor for log lines, -1 for none.
    pub log_fd: i32,
    /// Seed of the kernel's own random choices.
    pub seed: [u8; 32],
    /// What the wall clock is ahead of the host's, ns.
    pub clock_ahead: i64,
    /// What happens is kept for [`Request::Records`].
    pub record: bool,
    /// The name that host processes show, empty for none: each shows its program's then.
    pub name: String,
    /// Effective uid and gid, and supplementary groups, of the first process.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// See `uid`.
    pub groups: Vec<u32>,
    /// Whether the host half has CAP_SETUID and so on (reported by `doctor`, used by hostfs).
    pub privileged: bool,
}

/// A process to start: the first of a sandbox, or one more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spawn {
    /// Looked up along PATH of `env` when it holds no slash.
    pub program: Vec<u8>,
    /// Arguments, the zeroth included.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=VALUE` strings.
    pub env: Vec<Vec<u8>>,
    /// Working directory, absolute.
    pub cwd: Vec<u8>,
    /// Uid and gid; `None`: the sandbox's.
    pub user: Option<(u32, u32)>,
    /// Host descriptors for the guest's 0, 1, 2, …; -1 leaves a number closed. Handed over to the kernel.
    pub fds: Vec<i32>,
    /// Umask.
    pub umask: u32,
    /// Soft and hard limits by resource number.
    pub rlimits: Vec<(u64, u64)>,
    /// Make stdin the controlling terminal of the new session, if it is a terminal.
    pub tty: bool,
}

/// Host half to kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start a process; answered by [`Response::Pid`].
    Spawn(Spawn),
    /// `kill(2)` from outside: pid > 0 one process, 0 every process, < 0 a process group.
    Kill {
        /// Target.
        pid: i32,
        /// Signal number.
        signal: i32,
    },
    /// Signal the foreground process group of a terminal, or the process itself where there is none.
    KillForeground {
        /// The process whose controlling terminal is meant; 0: the first process, and the terminal that was handed in
        /// first.
        pid: u32,
        /// Signal number.
        signal: i32,
    },
    /// Suspend every task; nests.
    Pause,
    /// Undo one [`Request::Pause`].
    Unpause,
    /// Say how the sandbox can be saved, which must stand still; answered by [`Response::Frozen`]. Nothing else is
    /// served until [`Request::Thaw`], and the supervisor does nothing.
    Freeze {
        /// Copies of the address spaces are wanted, which stay until [`Request::EndCopies`].
        copies: bool,
    },
    /// The end of [`Request::Freeze`].
    Thaw,
    /// The copies of [`Request::Freeze`] are of no more use.
    EndCopies,
    /// A whole file.
    ReadFile {
        /// Absolute path.
        path: Vec<u8>,
        /// First byte.
        offset: u64,
        /// At most so many bytes.
        len: u32,
    },
    /// Create or replace a file (`offset` 0 truncates), or append a further piece.
    WriteFile {
        /// Absolute path.
        path: Vec<u8>,
        /// First byte.
        offset: u64,
        /// Contents.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// Permission bits when it is created.
        mode: u32,
    },
    /// A copy of code has been made ([`Event::BuildText`]), of the supervisor only.
    TextBuilt {
        /// What it is a copy of.
        key: TextKey,
        /// Host descriptor of the copy, handed over to the kernel; -1 if there is none.
        fd: i32,
        /// What was done to it.
        plan: TextPlan,
    },
    /// Processes: pid, parent, state letter, name.
    Ps,
    /// Stack dump of every task into the log; for people.
    Dump,
    /// What the host says that processes have of their own; answered by [`Response::Memory`].
    Measured {
        /// Host pid and bytes, in order of the pids: the largest ones.
        sizes: Vec<(u32, u64)>,
        /// Bytes of all others.
        rest: u64,
    },
    /// Counters: live host handles, heap bytes, memory file bytes, slots in use.
    Stats,
    /// Hot call sites that could not be rewritten at once; answered by [`Response::Sites`].
    Sites,
    /// What has happened; answered by [`Response::Records`].
    Records {
        /// The number of the first record that is wanted; numbers begin at 0.
        from: u64,
        /// [`Event::News`] tells of the next record that comes after this answer.
        tell: bool,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, by the sandbox's wall clock: ns since 1970.
    pub at: u64,
    /// What.
    pub what: Recorded,
}

/// See [`Record`]. Pids are those of the initial pid namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recorded {
    /// A process runs a new program.
    Exec {
        /// Its pid.
        pid: u32,
        /// The program's path as the process gave it, at most 256 bytes of it.
        path: Vec<u8>,
    },
    /// A process has ended.
    Exit {
        /// Its pid.
        pid: u32,
        /// As `wait(2)` encodes it.
        status: i32,
    },
    /// See [`Event::OutOfMemory`].
    OutOfMemory {
        /// Its pid.
        pid: u32,
        /// Its name.
        name: String,
        /// What it had of its own, bytes.
        bytes: u64,
    },
    /// See [`Event::Unimplemented`].
    Unimplemented {
        /// The program's pid.
        pid: u32,
        /// The call's number.
        call: u32,
    },
    /// A signal was sent from outside.
    Signal {
        /// As in [`Request::Kill`].
        pid: i32,
        /// Its number.
        signal: i32,
    },
    /// Every task was suspended, or may go on.
    Paused(bool),
}

/// One line of `ps`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PsEntry {
    pub pid: u32,
    pub ppid: u32,
    pub state: char,
    pub name: String,
}

/// Counters of a running sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Live host descriptors owned by the kernel.
    pub host_fds: u64,
    /// Bytes of kernel heap in use.
    pub heap: u64,
    /// Bytes of the memory file in use.
    pub memfile: u64,
    /// Slots in use.
    pub slots: u64,
    /// System calls that came by a trap, and by a rewritten site.
    pub traps: u64,
    /// See `traps`.
    pub fast_calls: u64,
    /// Processes and threads that have not ended.
    pub tasks: u32,
    /// Whether it is paused.
    pub paused: bool,
    /// Where it is, tasks that do not stand still yet.
    pub moving: u32,
    /// What became of call sites.
    pub sites: SiteStats,
}

/// What became of the call sites that trapped.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SiteStats {
    /// Sites that trapped, once per address space.
    pub seen: u64,
    /// Rewritten in place.
    pub in_place: u64,
    /// Of these, put back.
    pub put_back: u64,
    /// Not rewritten in place: writable, shared or no code; no call there any more; the process cannot or
    /// must not; no room for a stub.
    pub refused: [u64; 4],
    /// Sites of files that are remembered.
    pub remembered: u64,
    /// Of these, rewritten in copies.
    pub in_copies: u64,
    /// Mappings of such copies.
    pub copies_mapped: u64,
}

/// A hot call site that could not be rewritten as soon as it was hot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrappingSite {
    /// The file that its code is of; empty for memory.
    pub file: Vec<u8>,
    /// Where it is in the file, or its address.
    pub offset: u64,
    /// How often it trapped, about, since it was hot.
    pub traps: u64,
    /// Of these, about so many since it was rewritten: the program jumps to the call itself.
    pub later: u64,
    /// Why it still traps, as in [`SiteStats::refused`]; `None`: it was rewritten later.
    pub left: Option<u8>,
}

/// Kernel to host half, as the answer to a [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Ok,
    /// The new process.
    Pid(u32),
    /// File contents; shorter than asked at the end.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Processes.
    Ps(Vec<PsEntry>),
    /// Text for a person.
    Text(String),
    /// Counters.
    Stats(Stats),
    /// Call sites, those with the most traps first.
    Sites(Vec<TrappingSite>),
    /// What has happened.
    Records {
        /// As many as fit into an answer, in order.
        list: Vec<Record>,
        /// The number of the first one; a higher one than was asked for where older ones were given up.
        first: u64,
    },
    /// Bytes of memory in use of those that the sandbox was given.
    Memory(u64),
    /// What is to be saved.
    Frozen(Frozen),
    /// The program of a [`Request::Spawn`] is not there, or is none that can be run.
    Unrunnable {
        /// Error number.
        errno: i32,
        /// For a person.
        message: String,
    },
    /// It failed: an errno, and a sentence that names what was looked up and why it failed.
    Err {
        /// Error number.
        errno: i32,
        /// For a person.
        message: String,
    },
}

/// Kernel to host half, unasked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A process that was started from outside, or the first one, ended with this wait status.
    Exited {
        /// Its pid.
        pid: u32,
        /// As `wait(2)` encodes it.
        status: i32,
    },
    /// Watch this host descriptor for these `poll(2)` events, once, or, with `EPOLLET` among them, for good.
    Arm {
        /// Host descriptor.
        fd: i32,
        /// `POLLIN` and so on.
        events: u32,
    },
    /// Make a copy of code in which these call sites are rewritten; answered by [`Request::TextBuilt`].
    BuildText {
        /// The code.
        key: TextKey,
        /// Host descriptor of its file, which stays the kernel's.
        fd: i32,
        /// The sites, offsets in the code, in order.
        sites: Vec<u32>,
        /// Those that the copy before has, whose stubs stay where they are.
        kept: Vec<Patched>,
    },
    /// A copy of code in the cache was read as a whole: it is to be sealed, or removed.
    TextChecked {
        /// The code.
        key: TextKey,
        /// The copy's sum; `None` when it is damaged, or not the user's own.
        sum: Option<u64>,
    },
    /// A program made a call that is not there. At most 100 a second are told of, after a burst of 1,000.
    Unimplemented {
        /// The program's pid.
        pid: u32,
        /// The call's number.
        call: u32,
    },
    /// The sandbox had more memory than it was given, and this process was ended.
    OutOfMemory {
        /// Its pid.
        pid: u32,
        /// Its name.
        name: String,
        /// What it had of its own, bytes.
        bytes: u64,
    },
    /// There is a record that was not there at the last [`Request::Records`] that asked to be told.
    News,
    /// Host processes are in demand: start the mother.
    Mother,
    /// The kernel panicked; the text says why. The sandbox must end.
    Panic(String),
    /// Every process stopped on SIGTSTP and the like: the launcher may stop itself.
    Stopped {
        /// Its pid.
        pid: u32,
        /// The signal.
        signal: i32,
    },
}
