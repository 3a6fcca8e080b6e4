//! Settings of a saved sandbox, and what its first program was started with.

use crate::sandbox::builder::Mount;
use crate::sandbox::{Base, Jail, LogLevel, Network, SandboxBuilder};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

/// Settings that a sandbox keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    root: PathBuf,
    root_writable: bool,
    /// Source (`None`: a tmpfs), target, read-only.
    mounts: Vec<(Option<PathBuf>, PathBuf, bool)>,
    /// Index into [`NETWORKS`].
    network: u8,
    hostname: String,
    memory: u64,
    pids: u32,
    cpus: u32,
    open_files: Option<u64>,
    file_size: Option<u64>,
    timeout: Option<Duration>,
    rewrite: bool,
    strace: Option<Vec<String>>,
    log_level: u8,
    user: Option<(u32, u32)>,
    clock_ahead: i64,
    text_cache: Option<PathBuf>,
    /// Index into [`JAILS`].
    jail: u8,
    /// Ports are published: the image has what listens on them.
    published: bool,
    /// Connections to the outside are allowed.
    allowing: bool,
}

const JAILS: [Jail; 4] = [Jail::Auto, Jail::Strict, Jail::Namespaces, Jail::Off];
const NETWORKS: [Network; 3] = [Network::None, Network::Loopback, Network::Host];
const LEVELS: [LogLevel; 6] =
    [LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

impl Settings {
    pub fn of(b: &SandboxBuilder) -> Settings {
        // A relative path means something else elsewhere.
        let absolute = |p: &PathBuf| std::path::absolute(p).unwrap_or_else(|_| p.clone());
        let mount = |m: &Mount| match m {
            Mount::Bind { source, target, read_only } => (Some(absolute(source)), target.clone(), *read_only),
            Mount::Tmpfs { target } => (None, target.clone(), false),
        };
        Settings {
            root: absolute(&b.root),
            root_writable: b.root_writable,
            mounts: b.mounts.iter().map(mount).collect(),
            network: NETWORKS.iter().position(|&n| n == b.network).unwrap_or(0) as u8,
            hostname: b.hostname.clone(),
            memory: b.memory,
            pids: b.pids,
            cpus: b.cpus,
            open_files: b.open_files,
            file_size: b.file_size,
            timeout: b.timeout,
            rewrite: b.rewrite,
            strace: b.strace.clone(),
            log_level: b.log_level as u8,
            user: b.user,
            clock_ahead: b.clock_ahead,
            text_cache: b.text_cache.clone(),
            jail: JAILS.iter().position(|&j| j == b.jail).unwrap_or(0) as u8,
            published: !b.publish.is_empty() || b.published,
            allowing: !b.allow.is_empty(),
        }
    }

    /// Whether it may connect to the host's network: what was allowed is not in the image.
    pub fn is_allowing(&self) -> bool {
        self.allowing
    }

    /// Whether the sandbox runs in namespaces of its own.
    pub fn has_namespaces(&self) -> bool {
        self.jail() == Jail::Namespaces
    }

    /// Whether the holder's child is not the supervisor but its keeper.
    pub fn is_kept(&self) -> bool {
        self.jail() == Jail::Strict || self.timeout.is_some()
    }

    fn jail(&self) -> Jail {
        JAILS.get(usize::from(self.jail)).copied().unwrap_or(Jail::Strict)
    }

    /// A builder with these.
    pub fn builder(&self) -> SandboxBuilder {
        let mount = |(source, target, read_only): &(Option<PathBuf>, PathBuf, bool)| match source {
            Some(source) => Mount::Bind { source: source.clone(), target: target.clone(), read_only: *read_only },
            None => Mount::Tmpfs { target: target.clone() },
        };
        SandboxBuilder {
            root: self.root.clone(),
            root_writable: self.root_writable,
            mounts: self.mounts.iter().map(mount).collect(),
            network: NETWORKS.get(usize::from(self.network)).copied().unwrap_or(Network::None),
            hostname: self.hostname.clone(),
            memory: self.memory,
            pids: self.pids,
            cpus: self.cpus,
            open_files: self.open_files,
            file_size: self.file_size,
            timeout: self.timeout,
            rewrite: self.rewrite,
            strace: self.strace.clone(),
            log_level: LEVELS.get(usize::from(self.log_level)).copied().unwrap_or_default(),
            user: self.user,
            clock_ahead: self.clock_ahead,
            text_cache: self.text_cache.clone(),
            jail: self.jail(),
            published: self.published,
            ..SandboxBuilder::default()
        }
    }
}

/// What the first program was started with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct First {
    /// Its pid.
    pub pid: Option<u32>,
    /// How it ended, if it has.
    pub status: Option<i32>,
    command: Vec<String>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    cwd: PathBuf,
    umask: u32,
    user: Option<(u32, u32)>,
}

impl First {
    pub fn of(pid: Option<u32>, status: Option<i32>, base: Option<&Base>) -> First {
        let Some(base) = base else { return First { pid, status, ..First::default() } };
        let pair = |(key, value): &(OsString, OsString)| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        First {
            pid,
            status,
            command: base.command.clone(),
            env: base.env.iter().map(pair).collect(),
            cwd: base.cwd.clone(),
            umask: base.umask,
            user: base.user,
        }
    }

    pub fn base(&self) -> Base {
        let pair =
            |(key, value): &(Vec<u8>, Vec<u8>)| (OsString::from_vec(key.clone()), OsString::from_vec(value.clone()));
        Base {
            command: self.command.clone(),
            env: self.env.iter().map(pair).collect(),
            cwd: self.cwd.clone(),
            umask: self.umask,
            user: self.user,
        }
    }
}
