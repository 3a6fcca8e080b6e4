//! What `/proc` says of the system, and the settings below `/proc/sys`.

use crate::abi::{Errno, Result};
use crate::cred::count::Of;
use crate::cred::{Kind, UserNamespace, cap};
use crate::fs::{aio, epoll, inotify, pipe};
use crate::host::{files, random, sched, window};
use crate::mm::budget;
use crate::sync::{Level, Mutex};
use crate::task::ns::{self, UtsNamespace};
use crate::task::pid::PidNamespace;
use crate::task::time_ns::running_ahead;
use crate::task::{coredump, kernel, seccomp, uts, work};
use crate::tty::pty;
use crate::vfs::{OpCtx, lease};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A file of the top directory.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub text: fn() -> Vec<u8>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.name == other.name
    }
}
impl Eq for Entry {}

macro_rules! entries {
    ($(#[$doc:meta])* $set:ident: $($name:literal $f:expr;)*) => {
        $(#[$doc])*
        pub static $set: &[Entry] = &[$(Entry { name: $name, text: $f }),*];
    };
}
/// The file systems that can be mounted.
pub const FILE_SYSTEMS: [&str; 7] = ["sysfs", "tmpfs", "proc", "ramfs", "devpts", "mqueue", "overlay"];

entries! {
    /// The files of the top directory.
    ENTRIES:
    "cmdline" || b"drupe\n".to_vec();
    "cpuinfo" || cpuinfo();
    "devices" || b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n128 ptm\n136 pts\n\nBlock devices:\n".to_vec();
    "filesystems" || FILE_SYSTEMS.map(|name| format!("nodev\t{name}\n")).concat().into_bytes();
    "diskstats" Vec::new;
    "interrupts" Vec::new;
    "loadavg" loadavg;
    "locks" Vec::new;
    "misc" Vec::new;
    "modules" Vec::new;
    "partitions" || b"major minor  #blocks  name\n\n".to_vec();
    "vmstat" || host_file(b"vmstat");
    "meminfo" meminfo;
    "stat" stat;
    "swaps" || b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec();
    "uptime" uptime;
    "version" version;
}

entries! {
    /// The files of `tty`.
    TERMINALS:
    "drivers" || TERMINAL_DRIVERS.to_vec();
}

/// What can be opened of terminals (`proc(5)`).
const TERMINAL_DRIVERS: &[u8] = b"\
/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
/dev/ptmx            /dev/ptmx       5       2 system\n\
pty_slave            /dev/pts      136 0-1048575 pty:slave\n\
pty_master           /dev/ptm      128 0-1048575 pty:master\n";

/// What the network says of itself: its room is not below this one.
pub struct Network {
    /// A file of `/proc/net`.
    pub text: fn(&str) -> Option<Vec<u8>>,
    /// A setting below `/proc/sys/net`, without its newline.
    pub setting: fn(&str) -> Option<String>,
    /// Sets such a setting.
    pub set: fn(&str, &[u8]),
}

static NETWORK: Mutex<Option<&'static Network>> = Mutex::new(Level::Leaf, None);

/// Says who knows of the network.
pub fn set_network(network: &'static Network) {
    *NETWORK.lock() = Some(network);
}

fn network() -> Option<&'static Network> {
    *NETWORK.lock()
}

fn net_text(name: &str) -> Vec<u8> {
    network().and_then(|n| (n.text)(name)).unwrap_or_default()
}

fn net_setting(name: &str) -> Vec<u8> {
    line(network().and_then(|n| (n.setting)(name)).unwrap_or_default().as_bytes())
}

fn set_net(name: &str, value: &[u8]) -> Result {
    if let Some(n) = network() {
        (n.set)(name, value);
    }
    Ok(())
}

/// What room `ipc`, which is not below this one, says of the running task's namespace.
pub struct Ipc {
    /// A file of `/proc/sysvipc`.
    pub text: fn(&str) -> Result<Vec<u8>>,
    /// A setting below `/proc/sys`, without its newline.
    pub setting: fn(&str) -> Option<String>,
    /// Sets such a setting.
    pub set: fn(&str, &[u8]) -> Result,
}

static IPC: Mutex<Option<&'static Ipc>> = Mutex::new(Level::Leaf, None);

/// Says who knows of IPC.
pub fn set_ipc(ipc: &'static Ipc) {
    *IPC.lock() = Some(ipc);
}

fn ipc() -> Option<&'static Ipc> {
    *IPC.lock()
}

fn ipc_text(name: &str) -> Vec<u8> {
    ipc().and_then(|i| (i.text)(name).ok()).unwrap_or_default()
}

fn ipc_setting(name: &str) -> Vec<u8> {
    line(ipc().and_then(|i| (i.setting)(name)).unwrap_or_default().as_bytes())
}

fn ipc_set(name: &str, value: &[u8]) -> Result {
    ipc().map_or(Err(Errno::EINVAL), |i| (i.set)(name, value))
}

entries! {
    /// The files of `sysvipc`.
    SYSVIPC:
    "msg" || ipc_text("msg");
    "sem" || ipc_text("sem");
    "shm" || ipc_text("shm");
}

entries! {
    /// The files of `net`.
    NET:
    "arp" || net_text("arp");
    "dev" net_dev;
    "icmp" || net_text("icmp");
    "icmp6" || net_text("icmp6");
    "if_inet6" || net_text("if_inet6");
    "ipv6_route" || net_text("ipv6_route");
    "netlink" || net_text("netlink");
    "netstat" || net_text("netstat");
    "packet" || net_text("packet");
    "protocols" || net_text("protocols");
    "raw" || net_text("raw");
    "raw6" || net_text("raw6");
    "route" || b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n".to_vec();
    "snmp" || net_text("snmp");
    "sockstat" || net_text("sockstat");
    "sockstat6" || net_text("sockstat6");
    "tcp" || net_text("tcp");
    "tcp6" || net_text("tcp6");
    "udp" || net_text("udp");
    "udp6" || net_text("udp6");
    "unix" || net_text("unix");
}

fn net_dev() -> Vec<u8> {
    let head = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";
    let zeros = "       0       0    0    0    0     0          0         0";
    format!("{head}    lo: {}{}\n", zeros.trim_start(), "        0       0    0    0    0     0       0          0")
        .into_bytes()
}

/// A file of the host's `/proc`, empty where it cannot be read.
pub fn host_file(name: &[u8]) -> Vec<u8> {
    const MOST: usize = 1 << 20;
    let mut text = Vec::new();
    let Ok(fd) = files::openat(window::proc_fd(), name, crate::abi::linux::O_RDONLY, 0) else { return text };
    let mut block = [0u8; 2048];
    while text.len() < MOST {
        match files::pread(fd.raw(), block.as_mut_ptr() as u64, block.len(), text.len() as u64) {
            Ok(n) if n > 0 && text.try_reserve(n).is_ok() => text.extend_from_slice(&block[..n]),
            _ => break,
        }
    }
    text
}

/// The host's memory; where the sandbox was given less, that, and what is left of it.
fn meminfo() -> Vec<u8> {
    let host = host_file(b"meminfo");
    let (Some(limit), Ok(text)) = (budget::limit(), core::str::from_utf8(&host)) else { return host };
    let (total, left) = (limit / 1024, limit.saturating_sub(budget::used()) / 1024);
    let mut out = String::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let Some(kib) = rest.trim().strip_suffix("kB").and_then(|n| n.trim().parse::<u64>().ok()) else {
            let _ = writeln!(out, "{line}");
            continue;
        };
        let kib = match name {
            "MemTotal" => kib.min(total),
            "MemFree" | "MemAvailable" => kib.min(left),
            "SwapTotal" | "SwapFree" | "SwapCached" => 0,
            _ => kib.min(total),
        };
        let _ = writeln!(out, "{:<16}{kib:>8} kB", format!("{name}:"));
    }
    out.into_bytes()
}

/// CPUs that the sandbox may use.
pub fn cpus() -> u32 {
    sched::cpus()
}

/// What the host says of as many processors as the sandbox has, which are all alike.
fn cpuinfo() -> Vec<u8> {
    let host = host_file(b"cpuinfo");
    let end = host.windows(2).enumerate().filter(|(_, w)| w == b"\n\n").nth(cpus() as usize - 1);
    let len = end.map_or(host.len(), |(at, _)| at + 2);
    let mut out = host;
    out.truncate(len);
    out
}

fn uptime() -> Vec<u8> {
    // 7: CLOCK_BOOTTIME.
    let ns = crate::time::clock(7).unwrap_or(0) + running_ahead(7);
    let (sec, centi) = (ns / 1_000_000_000, ns / 10_000_000 % 100);
    format!("{sec}.{centi:02} {sec}.{centi:02}\n").into_bytes()
}

/// Names of the machine in the initial namespace.
fn names() -> &'static UtsNamespace {
    &kernel().roots().proxy.uts
}

fn set_ptys(reserve: bool, value: &[u8]) -> Result {
    pty::set_limit(reserve, decimal(value)?)
}

fn set_hostname(name: &[u8]) -> Result {
    names().set_hostname(name);
    Ok(())
}

fn set_pattern(pattern: &[u8]) -> Result {
    coredump::set_pattern(pattern);
    Ok(())
}

fn set_uses_pid(value: &[u8]) -> Result {
    coredump::set_uses_pid(value);
    Ok(())
}

fn version() -> Vec<u8> {
    format!("Linux version {} (drupe) {}\n", uts::RELEASE, uts::VERSION).into_bytes()
}

fn loadavg() -> Vec<u8> {
    let (threads, last) = (kernel().task_count(), pids().last());
    let load = String::from_utf8(host_file(b"loadavg")).unwrap_or_default();
    let mut fields = load.split(' ');
    let mut next = || fields.next().unwrap_or("0.00");
    format!("{} {} {} 1/{threads} {last}\n", next(), next(), next()).into_bytes()
}

fn stat() -> Vec<u8> {
    // The processors' time is the host's: it is their load that programs want to know.
    let host = String::from_utf8(host_file(b"stat")).unwrap_or_default();
    let line = |name: &str| {
        host.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0 0 0 0 0 0 0 0 0 0")
    };
    let mut out = format!("cpu  {}\n", line("cpu").trim_start());
    for i in 0..cpus() {
        let name = format!("cpu{i}");
        let _ = writeln!(out, "{name} {}", line(&name));
    }
    let boot = (crate::time::now() - crate::time::clock(7).unwrap_or(0) - running_ahead(7)) / 1_000_000_000;
    let processes = kernel().forks();
    let _ = write!(out, "intr 0\nctxt 0\nbtime {boot}\nprocesses {processes}\nprocs_running 1\nprocs_blocked 0\n");
    out.into_bytes()
}

/// A file below `/proc/sys`.
pub struct Setting {
    pub path: &'static str,
    pub text: fn() -> Vec<u8>,
    set: Option<fn(&[u8]) -> Result>,
}

impl PartialEq for Setting {
    fn eq(&self, other: &Setting) -> bool {
        self.path == other.path
    }
}
impl Eq for Setting {}

impl core::fmt::Debug for Setting {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.path)
    }
}

fn number(n: u64) -> Vec<u8> {
    format!("{n}\n").into_bytes()
}

/// The user namespace of the running task.
fn user_ns() -> Arc<UserNamespace> {
    ns::running_user().unwrap_or_else(|| UserNamespace::initial().clone())
}

/// The pid namespace of the running task.
fn pids() -> Arc<PidNamespace> {
    let roots = || kernel().roots().pid.clone();
    work::running().map_or_else(roots, |task| task.group.id.namespace().clone())
}

fn decimal<T: core::str::FromStr>(value: &[u8]) -> Result<T> {
    core::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok()).ok_or(Errno::EINVAL)
}

fn most_spaces(of: Of) -> Vec<u8> {
    let most = user_ns().counts.most(of);
    // Where nobody has said anything: half as many as there may be tasks (`set_max_threads` in `kernel/ucount.c`).
    let most = if most == i32::MAX && user_ns().level == 0 { kernel().task_limit() as i32 / 2 } else { most };
    format!("{most}\n").into_bytes()
}

fn set_most_spaces(of: Of, value: &[u8]) -> Result {
    let most = decimal(value).ok().filter(|n| *n >= 0).ok_or(Errno::EINVAL)?;
    user_ns().counts.set_most(of, most);
    Ok(())
}

fn set_word(word: &AtomicU32, value: &[u8]) -> Result {
    word.store(decimal(value)?, Relaxed);
    Ok(())
}

fn set_aio_most(value: &[u8]) -> Result {
    aio::set_most(decimal(value)?);
    Ok(())
}

macro_rules! settings {
    ($($path:literal $f:expr $(, $set:expr)?;)*) => {
        static SETTINGS: &[Setting] = &[$(Setting { path: $path, text: $f, set: settings!(@ $($set)?) }),*];
    };
    (@) => { None };
    (@ $set:expr) => { Some($set) };
}
settings! {
    "fs/aio-max-nr" || number(aio::most()), set_aio_most;
    "fs/aio-nr" || number(aio::count());
    "fs/file-nr" || format!("{}\t0\t9223372036854775807\n", crate::host::HostFd::live()).into_bytes();
    "fs/file-max" || b"9223372036854775807\n".to_vec();
    "fs/nr_open" || b"1048576\n".to_vec();
    "fs/pipe-max-size" || number(pipe::SIZE_MAX as u64);
    "fs/pipe-user-pages-hard" || number(0);
    "fs/pipe-user-pages-soft" || number(pipe::USER_PAGES_SOFT);
    "fs/lease-break-time" || number(u64::from(lease::BREAK_TIME.load(Relaxed))), |v| set_word(&lease::BREAK_TIME, v);
    "fs/leases-enable" || number(u64::from(lease::ENABLED.load(Relaxed))), |v| set_word(&lease::ENABLED, v);
    "fs/inotify/max_queued_events" || number(inotify::QUEUED_MAX as u64);
    "fs/inotify/max_user_instances" || number(inotify::INSTANCES_MAX);
    "fs/inotify/max_user_watches" || number(inotify::WATCHES_MAX);
    "fs/epoll/max_user_watches" || number(epoll::WATCHES_MAX);
    "fs/mqueue/msg_default" || ipc_setting("mqueue/msg_default"), |v| ipc_set("mqueue/msg_default", v);
    "fs/mqueue/msg_max" || ipc_setting("mqueue/msg_max"), |v| ipc_set("mqueue/msg_max", v);
    "fs/mqueue/msgsize_default" || ipc_setting("mqueue/msgsize_default"), |v| ipc_set("mqueue/msgsize_default", v);
    "fs/mqueue/msgsize_max" || ipc_setting("mqueue/msgsize_max"), |v| ipc_set("mqueue/msgsize_max", v);
    "fs/mqueue/queues_max" || ipc_setting("mqueue/queues_max"), |v| ipc_set("mqueue/queues_max", v);
    "kernel/cap_last_cap" || b"40\n".to_vec();
    "kernel/core_pattern" || line(&coredump::pattern()), set_pattern;
    "kernel/core_uses_pid" || format!("{}\n", coredump::uses_pid()).into_bytes(), set_uses_pid;
    "kernel/domainname" || line(&names().domainname());
    "kernel/hostname" || line(&names().hostname()), set_hostname;
    "kernel/keys/maxkeys" || b"200\n".to_vec();
    "kernel/msg_next_id" || ipc_setting("msg_next_id"), |v| ipc_set("msg_next_id", v);
    "kernel/msgmax" || ipc_setting("msgmax"), |v| ipc_set("msgmax", v);
    "kernel/msgmnb" || ipc_setting("msgmnb"), |v| ipc_set("msgmnb", v);
    "kernel/msgmni" || ipc_setting("msgmni"), |v| ipc_set("msgmni", v);
    "kernel/ngroups_max" || b"65536\n".to_vec();
    "kernel/ns_last_pid" || number(pids().last().into()), |v| decimal(v).and_then(|n| pids().set_last(n));
    "kernel/osrelease" || line(uts::RELEASE.as_bytes());
    "kernel/ostype" || b"Linux\n".to_vec();
    "kernel/overflowgid" || b"65534\n".to_vec();
    "kernel/overflowuid" || b"65534\n".to_vec();
    "kernel/panic" || b"0\n".to_vec();
    "kernel/perf_event_paranoid" || b"4\n".to_vec();
    "kernel/pid_max" || number(pids().pid_max().into()), |v| decimal(v).and_then(|n| pids().set_pid_max(n));
    "kernel/pty/max" || number(pty::limits()[0].into()), |v| set_ptys(false, v);
    "kernel/pty/nr" || number(pty::limits()[2].into());
    "kernel/pty/reserve" || number(pty::limits()[1].into()), |v| set_ptys(true, v);
    "kernel/random/boot_id" boot_id;
    "kernel/random/entropy_avail" || b"256\n".to_vec();
    "kernel/random/uuid" || uuid(random_bits());
    "kernel/randomize_va_space" || b"2\n".to_vec();
    "kernel/seccomp/actions_avail" || line(seccomp::logged::available().as_bytes());
    "kernel/seccomp/actions_logged" || line(seccomp::logged::logged().as_bytes()), seccomp::logged::set_logged;
    "kernel/sem" || ipc_setting("sem"), |v| ipc_set("sem", v);
    "kernel/sem_next_id" || ipc_setting("sem_next_id"), |v| ipc_set("sem_next_id", v);
    "kernel/shm_next_id" || ipc_setting("shm_next_id"), |v| ipc_set("shm_next_id", v);
    "kernel/shm_rmid_forced" || ipc_setting("shm_rmid_forced"), |v| ipc_set("shm_rmid_forced", v);
    "kernel/shmall" || ipc_setting("shmall"), |v| ipc_set("shmall", v);
    "kernel/shmmax" || ipc_setting("shmmax"), |v| ipc_set("shmmax", v);
    "kernel/shmmni" || ipc_setting("shmmni"), |v| ipc_set("shmmni", v);
    "kernel/tainted" || b"0\n".to_vec();
    "kernel/threads-max" || format!("{}\n", kernel().task_limit()).into_bytes();
    "kernel/version" || line(uts::VERSION.as_bytes());
    "net/core/rmem_default" || b"212992\n".to_vec();
    "net/core/rmem_max" || b"4194304\n".to_vec();
    "net/core/somaxconn" || net_setting("core/somaxconn"), |v| set_net("core/somaxconn", v);
    "net/core/wmem_default" || b"212992\n".to_vec();
    "net/core/wmem_max" || b"4194304\n".to_vec();
    "net/ipv4/ip_default_ttl" || net_setting("ipv4/ip_default_ttl"), |v| set_net("ipv4/ip_default_ttl", v);
    "net/ipv4/ip_forward" || b"0\n".to_vec();
    "net/ipv4/ip_local_port_range" || net_setting("ipv4/ip_local_port_range"), |v| set_net("ipv4/ip_local_port_range", v);
    "net/ipv4/ip_nonlocal_bind" || net_setting("ipv4/ip_nonlocal_bind"), |v| set_net("ipv4/ip_nonlocal_bind", v);
    "net/ipv4/ip_unprivileged_port_start" || net_setting("ipv4/ip_unprivileged_port_start"), |v| set_net("ipv4/ip_unprivileged_port_start", v);
    "net/ipv4/ping_group_range" || net_setting("ipv4/ping_group_range"), |v| set_net("ipv4/ping_group_range", v);
    "net/ipv4/tcp_available_congestion_control" || b"cubic reno\n".to_vec();
    "net/ipv4/tcp_congestion_control" || b"cubic\n".to_vec();
    "net/ipv4/tcp_fastopen" || b"1\n".to_vec();
    "net/ipv4/tcp_fin_timeout" || b"60\n".to_vec();
    "net/ipv4/tcp_keepalive_intvl" || b"75\n".to_vec();
    "net/ipv4/tcp_keepalive_probes" || b"9\n".to_vec();
    "net/ipv4/tcp_keepalive_time" || b"7200\n".to_vec();
    "net/ipv4/tcp_rmem" || b"4096\t131072\t33554432\n".to_vec();
    "net/ipv4/tcp_sack" || b"1\n".to_vec();
    "net/ipv4/tcp_syncookies" || b"1\n".to_vec();
    "net/ipv4/tcp_timestamps" || b"1\n".to_vec();
    "net/ipv4/tcp_window_scaling" || b"1\n".to_vec();
    "net/ipv4/tcp_wmem" || b"4096\t16384\t4194304\n".to_vec();
    "net/ipv6/bindv6only" || net_setting("ipv6/bindv6only"), |v| set_net("ipv6/bindv6only", v);
    "user/max_cgroup_namespaces" || most_spaces(Of::Cgroup), |v| set_most_spaces(Of::Cgroup, v);
    "user/max_ipc_namespaces" || most_spaces(Of::Ipc), |v| set_most_spaces(Of::Ipc, v);
    "user/max_mnt_namespaces" || most_spaces(Of::Mount), |v| set_most_spaces(Of::Mount, v);
    "user/max_net_namespaces" || most_spaces(Of::Net), |v| set_most_spaces(Of::Net, v);
    "user/max_pid_namespaces" || most_spaces(Of::Pid), |v| set_most_spaces(Of::Pid, v);
    "user/max_time_namespaces" || most_spaces(Of::Time), |v| set_most_spaces(Of::Time, v);
    "user/max_user_namespaces" || most_spaces(Of::User), |v| set_most_spaces(Of::User, v);
    "user/max_uts_namespaces" || most_spaces(Of::Uts), |v| set_most_spaces(Of::Uts, v);
    "vm/max_map_count" || b"65530\n".to_vec();
    "vm/mmap_min_addr" || b"65536\n".to_vec();
    "vm/nr_hugepages" || b"0\n".to_vec();
    "vm/overcommit_memory" || b"0\n".to_vec();
    "vm/overcommit_ratio" || b"50\n".to_vec();
    "vm/swappiness" || b"60\n".to_vec();
}

impl Setting {
    /// Whether it is the running task's user namespace's, whose root may change it.
    fn is_users(&self) -> bool {
        self.path.starts_with("user/")
    }

    /// Permission bits that count when it is opened: what is a user namespace's is open to whoever may pass over limits
    /// there (`set_permissions` in `kernel/ucount.c`).
    pub fn access(&self) -> u32 {
        let may = || work::running().is_some_and(|task| task.cred().capable_here(cap::SYS_RESOURCE));
        match self.is_users() {
            true if may() => 0o666,
            true => 0o444,
            false => self.mode(),
        }
    }

    /// Owner and group.
    pub fn owner(&self) -> (u32, u32) {
        let root = |kind| user_ns().outside(kind, 0).unwrap_or(0);
        if self.is_users() { (root(Kind::User), root(Kind::Group)) } else { (0, 0) }
    }

    /// Permission bits.
    pub fn mode(&self) -> u32 {
        if self.set.is_some() { 0o644 } else { 0o444 }
    }

    /// Changes it.
    pub fn write(&self, ctx: &OpCtx<'_>, bytes: &[u8]) -> Result {
        let set = self.set.ok_or(Errno::EPERM)?;
        let may =
            if self.is_users() { ctx.cred.capable_here(cap::SYS_RESOURCE) } else { ctx.cred.capable(cap::SYS_ADMIN) };
        if !may {
            return Err(Errno::EPERM);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        set(bytes.split(|&b| b == b'\n').next().unwrap_or(&[]))
    }
}

/// A child of a directory below `/proc/sys`.
pub enum Sub {
    Dir(&'static str),
    Setting(&'static Setting),
}

/// The children of the directory `path` (empty, or with a slash at the end), each once.
pub fn children(path: &'static str, mut emit: impl FnMut(&'static str, Sub)) {
    let mut last = "";
    for s in SETTINGS {
        let Some(rest) = s.path.strip_prefix(path) else { continue };
        match rest.find('/') {
            None => emit(rest, Sub::Setting(s)),
            Some(at) => {
                // The table is grouped by directory.
                if &rest[..at] != last {
                    last = &rest[..at];
                    emit(last, Sub::Dir(&s.path[..path.len() + at + 1]));
                }
            }
        }
    }
}

fn line(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    out.push(b'\n');
    out
}

fn random_bits() -> u128 {
    u128::from(random::next_u64()) << 64 | u128::from(random::next_u64())
}

fn boot_id() -> Vec<u8> {
    static ID: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    for half in &ID {
        let _ = half.compare_exchange(0, random::next_u64() | 1, Relaxed, Relaxed);
    }
    uuid(u128::from(ID[0].load(Relaxed)) << 64 | u128::from(ID[1].load(Relaxed)))
}

/// A random (version 4) UUID.
fn uuid(bits: u128) -> Vec<u8> {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]).into_bytes()
}
