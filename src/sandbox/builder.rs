//! The settings of a sandbox, and its start.

use super::channel::Channel;
use super::command::limits;
use super::error::{Error, Result};
use super::jail::Jail;
use super::link::Link;
use super::network::{Allowance, Publication};
use super::plan::above_stdio;
use super::{Given, Sandbox, outside, perf, save, supervisor};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Which network the sandbox sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// No interfaces.
    None,
    /// A loopback of its own.
    #[default]
    Loopback,
    /// The host's: internet sockets are sockets of the host. Local and netlink sockets are the sandbox's own.
    Host,
}

/// How much the kernel in the sandbox says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Off,
    Error,
    #[default]
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Debug)]
pub(super) enum Mount {
    Bind { source: PathBuf, target: PathBuf, read_only: bool },
    Tmpfs { target: PathBuf },
}

/// Settings of a [`Sandbox`]; made by [`Sandbox::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SandboxBuilder {
    pub(super) root: PathBuf,
    pub(super) root_writable: bool,
    pub(super) mounts: Vec<Mount>,
    pub(super) network: Network,
    pub(super) hostname: String,
    pub(super) memory: u64,
    pub(super) pids: u32,
    pub(super) cpus: u32,
    pub(super) open_files: Option<u64>,
    pub(super) file_size: Option<u64>,
    pub(super) timeout: Option<Duration>,
    pub(super) confined: bool,
    pub(super) rewrite: bool,
    pub(super) strace: Option<Vec<String>>,
    pub(super) strace_file: Option<Arc<File>>,
    pub(super) log_level: LogLevel,
    pub(super) user: Option<(u32, u32)>,
    pub(super) seed: Option<[u8; 32]>,
    pub(super) clock_ahead: i64,
    pub(super) text_cache: Option<PathBuf>,
    pub(super) jail: Jail,
    pub(super) name: Option<String>,
    pub(super) perf_map: bool,
    pub(super) publish: Vec<Publication>,
    pub(super) allow: Vec<Allowance>,
    /// Ports were published by the sandbox that this one goes on with: its listeners are in the image.
    pub(super) published: bool,
}

impl Default for SandboxBuilder {
    fn default() -> SandboxBuilder {
        SandboxBuilder {
            root: PathBuf::from("/"),
            root_writable: false,
            mounts: Vec::new(),
            network: Network::default(),
            hostname: "drupe".into(),
            memory: 0,
            pids: 0,
            cpus: 0,
            open_files: None,
            file_size: None,
            timeout: None,
            confined: false,
            rewrite: true,
            strace: None,
            strace_file: None,
            log_level: LogLevel::default(),
            user: None,
            seed: None,
            clock_ahead: 0,
            text_cache: user_cache(),
            jail: Jail::default(),
            name: None,
            perf_map: false,
            publish: Vec::new(),
            allow: Vec::new(),
            published: false,
        }
    }
}

impl SandboxBuilder {
    /// The host directory that the sandbox sees as `/`. The default is the host's own root.
    pub fn root(mut self, dir: impl Into<PathBuf>) -> Self {
        self.root = dir.into();
        self
    }

    /// Whether writes reach the root directory on the host. By default they stay in memory and are
    /// gone with the sandbox.
    pub fn writable_root(mut self, writable: bool) -> Self {
        self.root_writable = writable;
        self
    }

    /// Makes a host file or directory appear at `target`. With `read_only`, writes fail; otherwise
    /// they reach the host.
    pub fn bind(mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Self {
        self.mounts.push(Mount::Bind { source: source.into(), target: target.into(), read_only });
        self
    }

    /// Mounts an empty file system that lives in memory at `target`.
    pub fn tmpfs(mut self, target: impl Into<PathBuf>) -> Self {
        self.mounts.push(Mount::Tmpfs { target: target.into() });
        self
    }

    /// Which network the sandbox sees.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Publishes a TCP port: who connects to it on the host comes to the server on that port of the sandbox's loopback, as
    /// from 127.0.0.1 or, where the server listens there alone, `::1`. The host's port is listened on from the start on;
    /// while nobody listens inside, connections are reset.
    pub fn publish(mut self, port: Publication) -> Self {
        self.publish.push(port);
        self
    }

    /// Lets the sandbox connect, by TCP, to this host and port beyond its own network. A name is looked up at the start, on
    /// the host; inside it stands in `/etc/hosts`, unless the root is writable. A process outside of the jail makes the
    /// connections, so that a program that owns its kernel comes no further. [`Sandbox::allow`] adds to it later.
    pub fn allow(mut self, place: Allowance) -> Self {
        self.allow.push(place);
        self
    }

    /// Its host name.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = name.into();
        self
    }

    /// Limit of the memory that files in memory, its kernel and what its processes have of their own may take together, in
    /// bytes. Calls that can tell get `ENOMEM` or `ENOSPC`; where programs touch more than that, the process with the
    /// most is ended by SIGKILL, as its `oom_score_adj` shifts it ([`Happening::OutOfMemory`](super::Happening)). The
    /// host is asked every 2 to 250 ms what they have touched. 0, as without it: half of the host's memory for files and
    /// kernel, no bound for processes.
    ///
    /// With this, [`SandboxBuilder::pids`] or [`SandboxBuilder::cpus`] the sandbox comes into a control group of its own
    /// where the caller may make one (cgroup v2, with the controllers).
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// How many tasks (processes and threads) it may have at once; 4,096 unless set.
    pub fn pids(mut self, most: u32) -> Self {
        self.pids = most;
        self
    }

    /// How many CPUs its programs see and run on; all that the caller may use unless set, and no more than these.
    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// How many descriptors each process may have open (`RLIMIT_NOFILE`, hard and soft); the caller's own limits
    /// unless set, and no more than these. A process that is root in the sandbox may raise it, as natively.
    pub fn open_files(mut self, most: u64) -> Self {
        self.open_files = Some(most);
        self
    }

    /// How large a file each process may make, in bytes (`RLIMIT_FSIZE`); otherwise as [`SandboxBuilder::open_files`].
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Ends the sandbox, with all its processes, when this time has passed since its start. Whoever waits for
    /// something in it gets [`Error::Expired`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// For [`SandboxBuilder::start_here`]: whether the calling thread makes no system calls from then on but those
    /// that a launcher needs (descriptors, memory, files, its children); others end it with `SIGSYS`. A program that
    /// takes over the kernel in its own process reaches the supervisor by the memory that they share. A supervisor that
    /// is a process of its own is always confined, unless there is no jail.
    pub fn confined(mut self, on: bool) -> Self {
        self.confined = on;
        self
    }

    /// Whether hot system call sites may be rewritten to jump into the kernel. Off, every call is a
    /// trap.
    pub fn rewrite(mut self, on: bool) -> Self {
        self.rewrite = on;
        self
    }

    /// Traces system calls: those named, or all if none is; a `!` before a name leaves it out.
    pub fn strace<S: Into<String>>(mut self, calls: impl IntoIterator<Item = S>) -> Self {
        self.strace = Some(calls.into_iter().map(Into::into).collect());
        self
    }

    /// Where trace lines go; stderr otherwise.
    pub fn strace_file(mut self, file: File) -> Self {
        self.strace_file = Some(Arc::new(file));
        self
    }

    /// What the kernel writes to stderr.
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.log_level = level;
        self
    }

    /// User and group of its processes; the caller's own by default.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Seed of the kernel's own random choices; from the host's entropy by default.
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What the sandbox's wall clock is ahead of the host's, in nanoseconds (292 years at most either way).
    pub fn clock_ahead(mut self, ns: i64) -> Self {
        self.clock_ahead = ns;
        self
    }

    /// Directory in which copies of code with rewritten call sites are kept for later sandboxes; by default
    /// `drupe` in the user's own cache directory (`XDG_CACHE_HOME`, `~/.cache`). With `None` they end with
    /// the sandbox. A directory that others can write to is not used.
    pub fn text_cache(mut self, dir: Option<PathBuf>) -> Self {
        self.text_cache = dir;
        self
    }

    /// What holds the sandbox's processes beyond the filter: a program that takes over the kernel in its address
    /// space reaches what these layers leave it.
    pub fn jail(mut self, jail: Jail) -> Self {
        self.jail = jail;
        self
    }

    /// The name by which others reach the running sandbox ([`outside`](super::outside), `drupe ps`): letters, digits, `_`,
    /// `.` and `-`. It is in use for as long as the sandbox lives, and registered in `$XDG_RUNTIME_DIR/drupe` where that
    /// is the caller's, in `/run/drupe` for root and in `/tmp/drupe-UID` for others: only they themselves, and root, can reach it there.
    /// The sandbox does not see this directory. Threads of the calling process serve those who ask.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Writes `/tmp/perf-PID.map` for each host process of the sandbox, in which `perf` on the host finds the names of the
    /// kernel's functions. A thread of the calling process does so, every 10 ms. They stay when the sandbox has ended.
    pub fn perf_map(mut self, on: bool) -> Self {
        self.perf_map = on;
        self
    }

    /// Starts the sandbox: boots a kernel, in a process of its own. No process runs in it yet.
    ///
    /// That process is the calling program, executed once more as far as the constructors of its libraries, so that
    /// neither how much memory the caller has nor its threads count. Where that cannot be (a program that was started with
    /// privileges, `/proc` that is not mounted) it is a fork of the caller.
    ///
    /// # Errors
    /// A setting that makes no sense, a path that cannot be opened, a host that lacks what drupe
    /// needs.
    pub fn start(mut self) -> Result<Sandbox> {
        let mut given = self.given(None);
        self.confined = true;
        let claim = self.name.as_deref().map(outside::claim).transpose()?;
        if claim.is_some() {
            self.hide_registry();
        }
        let perf_map = self.perf_map;
        let settings = save::settings_of(&self);
        let plan = self.plan(&mut given)?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| Error::host("make the control socket", e))?;
        let ours = above_stdio(ours)?;
        let (ending, limit) = (plan.ending(), plan.timeout);
        let pid = supervisor::start(plan, above_stdio(theirs)?)?;
        let sandbox = Sandbox::over(Link::apart(Channel::new(ours), pid, ending, limit), given, claim, Some(settings))?;
        if perf_map {
            super::without_signals(|| std::thread::Builder::new().spawn(move || perf::follow(pid as u32)))
                .map_err(|e| Error::host("start a thread", e))?;
        }
        Ok(sandbox)
    }

    /// As [`SandboxBuilder::start`], with the kernel and the processes of an image.
    pub(super) fn start_saved(mut self, saved: supervisor::Saved) -> Result<Sandbox> {
        let mut given = self.given(None);
        self.confined = true;
        let claim = self.name.as_deref().map(outside::claim).transpose()?;
        let settings = save::settings_of(&self);
        let published = self.published;
        let plan = self.plan(&mut given)?.with_saved(saved, published)?;
        let floor = plan.floor();
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| Error::host("make the control socket", e))?;
        let (ending, limit) = (plan.ending(), plan.timeout);
        let pid = supervisor::start(plan, supervisor::lift(theirs, floor)?)?;
        Sandbox::over(Link::apart(Channel::new(above_stdio(ours)?), pid, ending, limit), given, claim, Some(settings))
    }

    /// Puts an empty directory in the place of the one in which running sandboxes are registered, wherever it would be
    /// seen.
    fn hide_registry(&mut self) {
        let Some(place) = outside::own_place().and_then(|p| p.canonicalize().ok()) else { return };
        let seen_at = |source: &Path, target: &Path| {
            let below = place.strip_prefix(source.canonicalize().ok()?).ok()?.to_path_buf();
            Some(if below.as_os_str().is_empty() { target.to_path_buf() } else { target.join(below) })
        };
        let binds = self.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { source, target, .. } => seen_at(source, target),
            Mount::Tmpfs { .. } => None,
        });
        let hidden: Vec<_> = seen_at(&self.root, Path::new("/")).into_iter().chain(binds).collect();
        self.mounts.extend(hidden.into_iter().map(|target| Mount::Tmpfs { target }));
    }

    /// As [`SandboxBuilder::start`], with the calling process as the supervisor: for a launcher, which has
    /// nothing else to do. A start takes less time so.
    ///
    /// The sandbox is served, and its clocks' timers run, only while the calling thread, and no other, waits in
    /// a call of the sandbox or of its children, or calls [`Child::try_change`](super::Child::try_change)
    /// whenever the sandbox's descriptor is readable. It ends with that thread. The process must have no other
    /// threads that start or await children: every child is reaped here. `SIGCHLD` stays blocked, its limits
    /// are raised, it can gain no more privileges by exec, it is in the jail itself (so it signals no process outside of
    /// the sandbox, opens what was given alone, and, where it was privileged, has an IPC namespace of its own), and it must keep its descriptors 0, 1 and 2 open.
    ///
    /// # Errors
    /// As [`SandboxBuilder::start`].
    pub fn start_here(self) -> Result<Sandbox> {
        if self.name.is_some() || self.perf_map {
            return Err(Error::Setting("a sandbox with a name or a perf map needs a supervisor of its own".into()));
        }
        let mut given = self.given(Some(limits()));
        if self.jail == Jail::Namespaces {
            given.cwd = std::env::current_dir().ok();
        }
        let server = supervisor::here(self.plan(&mut given)?)?;
        let link = Link::here(server).map_err(|e| Error::host("copy a descriptor", e))?;
        Sandbox::over(link, given, None, None)
    }

    fn given(&self, limits: Option<Vec<(u64, u64)>>) -> Given {
        let most = [(libc::RLIMIT_NOFILE, self.open_files), (libc::RLIMIT_FSIZE, self.file_size)];
        let most = most.into_iter().filter_map(|(resource, most)| Some((resource as usize, most?))).collect();
        Given {
            host_tree: self.root == Path::new("/"),
            limits,
            cwd: None,
            most,
            allowing: None,
            own_hosts: !self.root_writable,
        }
    }
}

/// Where a user's caches are (XDG base directory specification).
fn user_cache() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|p| p.is_absolute()).map(|h| h.join(".cache"));
    own.or_else(home).map(|p| p.join("drupe"))
}
