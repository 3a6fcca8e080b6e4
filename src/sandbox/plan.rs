//! What a supervisor is started with, made of a builder's settings: paths are opened, names looked up, values checked.

use super::builder::{LogLevel, Mount, Network, SandboxBuilder};
use super::error::{Error, Result};
use super::jail::{Jail, Reach};
use super::supervisor::Plan;
use super::{Given, open_path, porter};
use drupe_kernel::abi::control::{Config, MountSpec, NetMode, Publish};
use drupe_kernel::syscall::table::TABLE;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Mutex;

impl SandboxBuilder {
    /// What a supervisor is started with, and `holders`: what stays with who holds the sandbox.
    ///
    /// # Errors
    /// A setting that makes no sense; a path that cannot be opened; the host's.
    pub(super) fn plan(self, holders: &mut Given) -> Result<Plan> {
        self.check_network()?;
        let mut keep = Vec::new();
        let mut config = self.config(&mut keep)?;
        for port in &self.publish {
            let listener = above_stdio(port.listen()?)?;
            config.publish.push(Publish { fd: listener.as_raw_fd(), port: port.guest });
            keep.push(listener);
        }
        let mut porter = None;
        if !self.allow.is_empty() {
            let mut rules = Vec::new();
            for place in &self.allow {
                let resolved = place.resolve()?;
                rules.extend(resolved.rules);
                config.hosts.extend(resolved.lines);
            }
            let pair = |flags| -> Result<(OwnedFd, OwnedFd)> {
                let flags = SockFlag::SOCK_CLOEXEC | flags;
                let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
                    .map_err(|e| Error::host("make the porter's socket", e))?;
                Ok((above_stdio(a)?, above_stdio(b)?))
            };
            let (inner, line) = pair(SockFlag::empty())?;
            let (held, control) = pair(SockFlag::empty())?;
            nix::fcntl::fcntl(&inner, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
                .map_err(|e| Error::host("make the porter's socket", e))?;
            config.porter = inner.as_raw_fd();
            holders.allowing = Some(Mutex::new(held));
            porter = Some(porter::Plan { rules, line, control, inner });
        }
        let mut given = Reach::default();
        if config.root_writable { &mut given.write } else { &mut given.read }.push(config.root_fd);
        for mount in &config.mounts {
            if let MountSpec::Bind { fd, read_only, .. } = mount {
                if *read_only { &mut given.read } else { &mut given.write }.push(*fd);
            }
        }
        // A hostile program could write there what later sandboxes run.
        let text_cache = self.text_cache.filter(|_| self.jail != Jail::Strict);
        let confined = self.confined && self.jail != Jail::Off;
        Ok(Plan {
            config,
            keep,
            text_cache,
            jail: self.jail,
            given,
            timeout: self.timeout,
            confined,
            perf_map: self.perf_map,
            saved: None,
            porter,
        })
    }

    fn check_network(&self) -> Result {
        let what = match (self.network, self.publish.first(), self.allow.first()) {
            (Network::Loopback, ..) | (_, None, None) => return Ok(()),
            (Network::Host, Some(port), _) => {
                format!("publish {port}: on the host's network every port is the host's already")
            }
            (Network::None, Some(port), _) => {
                format!("publish {port}: the sandbox has no network to publish a port of")
            }
            (Network::Host, None, Some(a)) => format!("allow {}: the host's network reaches everything", a.host),
            (Network::None, None, Some(a)) => format!("allow {}: the sandbox has no network to leave", a.host),
        };
        Err(Error::Setting(what))
    }

    /// Binds of the files by which the host finds names, for a sandbox on its network with another root.
    fn names_of_the_host(&self) -> Vec<Mount> {
        if self.network != Network::Host || self.root == Path::new("/") {
            return Vec::new();
        }
        let bind = |name: &str| {
            let source = Path::new(name).canonicalize().ok()?;
            let there = self.root.join(&name[1..]).symlink_metadata();
            // A tree whose file is a link says itself where its names are; one that is written to gets no new file.
            let fits = there.map_or(!self.root_writable, |m| m.is_file());
            fits.then(|| Mount::Bind { source, target: name.into(), read_only: true })
        };
        ["/etc/resolv.conf", "/etc/hosts"].into_iter().filter_map(bind).collect()
    }

    /// The kernel's view of the settings. Opened paths are left in `files`.
    fn config(&self, files: &mut Vec<OwnedFd>) -> Result<Config> {
        let valid_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        if self.hostname.is_empty() || self.hostname.len() > 64 || !self.hostname.chars().all(valid_name) {
            return Err(Error::Setting(format!("not a host name: {:?}", self.hostname)));
        }
        if self.memory != 0 && self.memory < 4 << 20 {
            return Err(Error::Setting("a sandbox needs at least 4 MiB of memory".into()));
        }
        if self.memory > MOST_MEMORY {
            return Err(Error::Setting("there is no address space for more than 128 TiB of memory".into()));
        }
        let there = usable_cpus();
        if self.cpus > there {
            return Err(Error::Setting(format!(
                "{} CPUs were asked for, and this host has {there} for you",
                self.cpus
            )));
        }
        let target = |mount: &Mount| match mount {
            Mount::Bind { target, .. } | Mount::Tmpfs { target } => target.clone(),
        };
        if let Some(over) = self.mounts.iter().map(target).find(|target| target.starts_with("/proc")) {
            let over = over.display();
            return Err(Error::Setting(format!(
                "nothing can be mounted at {over}: /proc is the sandbox's kernel's own"
            )));
        }
        let known = |name: &str| TABLE.iter().any(|call| call.name() == name);
        let names = self.strace.iter().flatten().map(|name| name.strip_prefix('!').unwrap_or(name));
        if let Some(unknown) = names.into_iter().find(|name| name.is_empty() || !known(name)) {
            return Err(Error::Setting(format!("there is no system call {unknown:?} to trace")));
        }
        let mut keep = |fd: OwnedFd| -> Result<RawFd> {
            let fd = above_stdio(fd)?;
            let raw = fd.as_raw_fd();
            files.push(fd);
            Ok(raw)
        };
        let root_fd = open_path(&self.root)?;
        if !is_dir(&root_fd) {
            let source = std::io::Error::from_raw_os_error(libc::ENOTDIR);
            return Err(Error::Path { path: self.root.clone(), source });
        }
        let root_fd = keep(root_fd)?;
        let mut mounts = Vec::new();
        for mount in self.names_of_the_host().iter().chain(&self.mounts) {
            mounts.push(match mount {
                Mount::Bind { source, target, read_only } => MountSpec::Bind {
                    fd: keep(open_path(source)?)?,
                    source: absolute_text(&std::path::absolute(source).unwrap_or_else(|_| source.clone()))?,
                    dst: absolute_text(target)?,
                    read_only: *read_only,
                },
                Mount::Tmpfs { target } => MountSpec::Tmpfs { dst: absolute_text(target)? },
            });
        }
        let output = |file: Option<&File>| -> Result<OwnedFd> {
            match file {
                Some(file) => file.try_clone().map(OwnedFd::from).map_err(|e| Error::host("copy a descriptor", e)),
                None => copy_of(2),
            }
        };
        let strace_fd = match self.strace {
            Some(_) => output(self.strace_file.as_deref()).and_then(&mut keep)?,
            None => -1,
        };
        let log_fd = if self.log_level == LogLevel::Off { -1 } else { output(None).and_then(&mut keep).unwrap_or(-1) };
        let (uid, gid) =
            self.user.unwrap_or_else(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        let groups = match self.user {
            Some(_) => Vec::new(),
            None => groups(),
        };
        Ok(Config {
            root_fd,
            root_path: self.root.to_string_lossy().into_owned(),
            root_writable: self.root_writable,
            mounts,
            net: match self.network {
                Network::None => NetMode::None,
                Network::Loopback => NetMode::Loopback,
                Network::Host => NetMode::Host,
            },
            publish: Vec::new(),
            porter: -1,
            hosts: Vec::new(),
            hostname: self.hostname.clone(),
            memory: self.memory,
            pids: self.pids,
            cpus: self.cpus,
            rewrite: self.rewrite,
            text_cache: -1,
            refused_cache: None,
            strace: self.strace.clone(),
            strace_fd,
            log_level: self.log_level as u8,
            log_fd,
            clock_ahead: self.clock_ahead,
            record: self.name.is_some(),
            name: self.name.clone().unwrap_or_default(),
            seed: self.seed.map_or_else(entropy, Ok)?,
            uid,
            gid,
            groups,
            privileged: nix::unistd::geteuid().is_root(),
        })
    }
}

/// Memory beyond which a bound makes no sense, bytes.
const MOST_MEMORY: u64 = 1 << 47;

/// Processors that the caller may run on.
fn usable_cpus() -> u32 {
    nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_or(u32::MAX, |set| {
        (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).count() as u32
    })
}

/// A path inside of the sandbox: absolute, and text.
fn absolute_text(path: &Path) -> Result<String> {
    let text = OsString::from(path)
        .into_string()
        .map_err(|p| Error::Setting(format!("a mount's path must be UTF-8: {}", p.to_string_lossy())))?;
    if !text.starts_with('/') {
        return Err(Error::Setting(format!("a path in the sandbox must be absolute: {text}")));
    }
    Ok(text)
}

fn is_dir(fd: &OwnedFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// The caller's supplementary groups.
fn groups() -> Vec<u32> {
    // SAFETY: asks for the number only.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the buffer has that many entries.
    let filled = unsafe { libc::getgroups(count.max(0), groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(filled).unwrap_or(0));
    groups
}

pub(super) fn entropy() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    // SAFETY: fills the buffer. Requests of up to 256 bytes are never cut short.
    match unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) } {
        32 => Ok(seed),
        _ => Err(Error::last("ask the host for entropy")),
    }
}

/// The same descriptor with a number above 2: the supervisor has its own 0, 1 and 2.
pub(super) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    copy_of(fd.as_raw_fd())
}

/// A copy of the descriptor `fd`, with a number above 2.
fn copy_of(fd: RawFd) -> Result<OwnedFd> {
    super::stdio::duplicate(fd).map_err(|e| Error::host(format!("use descriptor {fd}"), e))
}
