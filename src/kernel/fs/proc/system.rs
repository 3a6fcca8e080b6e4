//! What `/proc` says of the system.

use super::sysctl::pids;
use crate::abi::Result;
use crate::host::{files, sched, window};
use crate::mm::budget;
use crate::sync::{Level, Mutex};
use crate::task::time_ns::running_ahead;
use crate::task::{kernel, uts};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

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
    "cgroups" || b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n".to_vec();
    "cmdline" || b"drupe\n".to_vec();
    "cpuinfo" || cpuinfo();
    "devices" || b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n128 ptm\n136 pts\n\nBlock devices:\n".to_vec();
    "execdomains" || b"0-0\tLinux           \t[kernel]\n".to_vec();
    "filesystems" || FILE_SYSTEMS.map(|name| format!("nodev\t{name}\n")).concat().into_bytes();
    "diskstats" Vec::new;
    "interrupts" Vec::new;
    "key-users" super::keys::users;
    "keys" super::keys::keys;
    "loadavg" loadavg;
    "locks" || super::locks::all().unwrap_or_default();
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
    ///
    /// # Errors
    /// `EINVAL` for what it cannot be.
    pub set: fn(&str, &[u8]) -> Result,
}

static NETWORK: Mutex<Option<&'static Network>> = Mutex::new(Level::Leaf, None);

/// Says who knows of the network.
pub fn set_network(network: &'static Network) {
    *NETWORK.lock() = Some(network);
}

pub(super) fn network() -> Option<&'static Network> {
    *NETWORK.lock()
}

fn net_text(name: &str) -> Vec<u8> {
    network().and_then(|n| (n.text)(name)).unwrap_or_default()
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

pub(super) fn ipc() -> Option<&'static Ipc> {
    *IPC.lock()
}

fn ipc_text(name: &str) -> Vec<u8> {
    ipc().and_then(|i| (i.text)(name).ok()).unwrap_or_default()
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
    "anycast6" || net_text("anycast6");
    "arp" || net_text("arp");
    "dev" || net_text("dev");
    "dev_mcast" || net_text("dev_mcast");
    "icmp" || net_text("icmp");
    "icmp6" || net_text("icmp6");
    "if_inet6" || net_text("if_inet6");
    "igmp" || net_text("igmp");
    "igmp6" || net_text("igmp6");
    "ipv6_route" || net_text("ipv6_route");
    "mcfilter" || net_text("mcfilter");
    "mcfilter6" || net_text("mcfilter6");
    "netlink" || net_text("netlink");
    "netstat" || net_text("netstat");
    "packet" || net_text("packet");
    "protocols" || net_text("protocols");
    "psched" || net_text("psched");
    "ptype" || net_text("ptype");
    "raw" || net_text("raw");
    "raw6" || net_text("raw6");
    "route" || net_text("route");
    "rt_cache" || net_text("rt_cache");
    "snmp" || net_text("snmp");
    "snmp6" || net_text("snmp6");
    "sockstat" || net_text("sockstat");
    "sockstat6" || net_text("sockstat6");
    "tcp" || net_text("tcp");
    "tcp6" || net_text("tcp6");
    "udp" || net_text("udp");
    "udp6" || net_text("udp6");
    "udplite" || net_text("udplite");
    "udplite6" || net_text("udplite6");
    "unix" || net_text("unix");
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

/// Gives the lines of a file of the host's `/proc`, which may be long; none where it cannot be read.
pub fn host_lines(name: &[u8], mut each: impl FnMut(&[u8])) {
    let Ok(fd) = files::openat(window::proc_fd(), name, crate::abi::linux::O_RDONLY, 0) else { return };
    let (mut block, mut kept, mut pos) = ([0u8; 4096], 0, 0u64);
    while let Ok(n) = files::pread(fd.raw(), block[kept..].as_mut_ptr() as u64, block.len() - kept, pos) {
        let end = kept + n;
        let mut start = 0;
        while let Some(len) = block[start..end].iter().position(|&b| b == b'\n') {
            each(&block[start..start + len]);
            start += len + 1;
        }
        if n == 0 {
            return;
        }
        pos += n as u64;
        // A line that is longer than the block is told in pieces.
        if start == 0 && end == block.len() {
            each(&block);
            start = end;
        }
        block.copy_within(start..end, 0);
        kept = end - start;
    }
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
    // Whoever reads this runs.
    let running = pids().tasks().iter().filter(|task| !task.sleeps()).count().max(1);
    let switches = line("ctxt");
    let soft = line("softirq");
    let _ = write!(
        out,
        "intr 0\nctxt {switches}\nbtime {boot}\nprocesses {processes}\nprocs_running {running}\nprocs_blocked 0\nsoftirq {soft}\n"
    );
    out.into_bytes()
}
