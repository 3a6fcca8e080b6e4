//! The settings below `/proc/sys` (`proc_sys(5)`). One that has no effect here cannot be written.

use super::system::{ipc, network};
use crate::abi::{Errno, Result};
use crate::cred::count::Of;
use crate::cred::ns::OVERFLOW;
use crate::cred::{Kind, UserNamespace, cap};
use crate::fs::{aio, epoll, fanotify, inotify, pipe};
use crate::host::random;
use crate::mm::vma;
use crate::sync::Knob;
use crate::task::attr::RR_SLICE_MS;
use crate::task::loader::RANDOMIZE;
use crate::task::ns::{self, UtsNamespace};
use crate::task::pid::PidNamespace;
use crate::task::{coredump, kernel, seccomp, syslog, uts, work};
use crate::tty::pty;
use crate::vfs::access::PROTECTED;
use crate::vfs::{OpCtx, fdtable, lease, mount};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn net_setting(name: &str) -> Vec<u8> {
    line(network().and_then(|n| (n.setting)(name)).unwrap_or_default().as_bytes())
}

fn set_net(name: &str, value: &[u8]) -> Result {
    network().map_or(Err(Errno::EINVAL), |n| (n.set)(name, value))
}

fn ipc_setting(name: &str) -> Vec<u8> {
    line(ipc().and_then(|i| (i.setting)(name)).unwrap_or_default().as_bytes())
}

fn ipc_set(name: &str, value: &[u8]) -> Result {
    ipc().map_or(Err(Errno::EINVAL), |i| (i.set)(name, value))
}

/// Names of the machine in the running task's namespace.
fn names() -> Arc<UtsNamespace> {
    let own = work::running().and_then(|task| task.shared());
    own.map_or_else(|| kernel().roots().proxy.uts.clone(), |own| own.ns.uts.clone())
}

fn set_ptys(reserve: bool, value: &[u8]) -> Result {
    pty::set_limit(reserve, decimal(value)?)
}

fn set_hostname(name: &[u8]) -> Result {
    names().set_hostname(&name[..name.len().min(uts::NAME_MAX)]);
    Ok(())
}

fn set_domainname(name: &[u8]) -> Result {
    names().set_domainname(&name[..name.len().min(uts::NAME_MAX)]);
    Ok(())
}

/// 0 and less bring the slice that it was at first (`sched_rr_handler` in `kernel/sched/rt.c`).
fn set_rr_slice(value: &[u8]) -> Result {
    let ms: i32 = decimal(value)?;
    RR_SLICE_MS.set(if ms <= 0 { 100 } else { ms as u64 })
}

fn set_pattern(pattern: &[u8]) -> Result {
    coredump::set_pattern(pattern);
    Ok(())
}

fn set_uses_pid(value: &[u8]) -> Result {
    coredump::set_uses_pid(value);
    Ok(())
}

/// A file below `/proc/sys`.
pub struct Setting {
    pub path: &'static str,
    what: What,
}

/// What a setting shows and takes.
enum What {
    /// Only shown.
    Shown(fn() -> Vec<u8>),
    /// Shown and set by functions.
    Both(fn() -> Vec<u8>, fn(&[u8]) -> Result),
    /// A number.
    Number(&'static Knob),
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
pub fn pids() -> Arc<PidNamespace> {
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

fn set_aio_most(value: &[u8]) -> Result {
    aio::set_most(decimal(value)?);
    Ok(())
}

macro_rules! settings {
    ($($path:literal $($f:ident)? $(|| $made:expr)? $(, $set:expr)? $(=> $knob:expr)?;)*) => {
        static SETTINGS: &[Setting] =
            &[$(Setting { path: $path, what: settings!(@ $($f)? $(|| $made)? $(, $set)? $(=> $knob)?) }),*];
    };
    (@ $f:ident) => { What::Shown($f) };
    (@ || $made:expr) => { What::Shown(|| $made) };
    (@ || $made:expr, $set:expr) => { What::Both(|| $made, $set) };
    (@ => $knob:expr) => { What::Number(&$knob) };
}
settings! {
    "abi/vsyscall32" || b"1\n".to_vec();
    "fs/aio-max-nr" || number(aio::most()), set_aio_most;
    "fs/aio-nr" || number(aio::count());
    "fs/file-nr" || format!("{}\t0\t9223372036854775807\n", crate::host::HostFd::live()).into_bytes();
    "fs/file-max" || b"9223372036854775807\n".to_vec();
    "fs/mount-max" => mount::MOUNT_MAX;
    "fs/dentry-state" || b"0\t0\t45\t0\t0\t0\n".to_vec();
    "fs/inode-nr" || b"0\t0\n".to_vec();
    "fs/inode-state" || b"0\t0\t0\t0\t0\t0\t0\n".to_vec();
    "fs/dir-notify-enable" || b"1\n".to_vec();
    "fs/nr_open" => fdtable::NR_OPEN;
    "fs/overflowgid" || number(OVERFLOW.into());
    "fs/overflowuid" || number(OVERFLOW.into());
    "fs/pipe-max-size" || number(pipe::SIZE_MAX.get()), |v| pipe::set_size_max(unsigned(v)?);
    "fs/pipe-user-pages-hard" => pipe::USER_PAGES_HARD;
    "fs/pipe-user-pages-soft" => pipe::USER_PAGES_SOFT;
    "fs/protected_fifos" => PROTECTED.fifos;
    "fs/protected_hardlinks" => PROTECTED.hardlinks;
    "fs/protected_regular" => PROTECTED.regular;
    "fs/protected_symlinks" => PROTECTED.symlinks;
    "fs/suid_dumpable" => coredump::OF_SET_ID;
    "fs/fanotify/max_queued_events" => fanotify::QUEUED_MAX;
    "fs/fanotify/max_user_groups" => fanotify::GROUPS_MAX;
    "fs/fanotify/max_user_marks" => fanotify::MARKS_MAX;
    "fs/inotify/max_queued_events" => inotify::QUEUED_MAX;
    "fs/inotify/max_user_instances" => inotify::INSTANCES_MAX;
    "fs/inotify/max_user_watches" => inotify::WATCHES_MAX;
    "fs/epoll/max_user_watches" => epoll::WATCHES_MAX;
    "fs/lease-break-time" => lease::BREAK_TIME;
    "fs/leases-enable" => lease::ENABLED;
    "fs/mqueue/msg_default" || ipc_setting("mqueue/msg_default"), |v| ipc_set("mqueue/msg_default", v);
    "fs/mqueue/msg_max" || ipc_setting("mqueue/msg_max"), |v| ipc_set("mqueue/msg_max", v);
    "fs/mqueue/msgsize_default" || ipc_setting("mqueue/msgsize_default"), |v| ipc_set("mqueue/msgsize_default", v);
    "fs/mqueue/msgsize_max" || ipc_setting("mqueue/msgsize_max"), |v| ipc_set("mqueue/msgsize_max", v);
    "fs/mqueue/queues_max" || ipc_setting("mqueue/queues_max"), |v| ipc_set("mqueue/queues_max", v);
    "kernel/acct" || b"4\t2\t30\n".to_vec();
    "kernel/auto_msgmni" || b"0\n".to_vec();
    "kernel/core_pipe_limit" || b"0\n".to_vec();
    "kernel/cad_pid" || b"1\n".to_vec();
    "kernel/ctrl-alt-del" || b"0\n".to_vec();
    "kernel/io_uring_disabled" || b"2\n".to_vec();
    "kernel/io_uring_group" || b"-1\n".to_vec();
    "kernel/kptr_restrict" || b"1\n".to_vec();
    "kernel/numa_balancing" || b"0\n".to_vec();
    "kernel/panic_on_oops" || b"0\n".to_vec();
    "kernel/print-fatal-signals" || b"0\n".to_vec();
    "kernel/printk" || b"4\t4\t1\t7\n".to_vec();
    "kernel/printk_ratelimit" || b"5\n".to_vec();
    "kernel/sched_rt_period_us" || b"1000000\n".to_vec();
    "kernel/sched_rt_runtime_us" || b"950000\n".to_vec();
    "kernel/sched_autogroup_enabled" || b"1\n".to_vec();
    "kernel/timer_migration" || b"1\n".to_vec();
    "kernel/unprivileged_bpf_disabled" || b"2\n".to_vec();
    "kernel/arch" || b"x86_64\n".to_vec();
    "kernel/cap_last_cap" || b"40\n".to_vec();
    "kernel/core_pattern" || line(&coredump::pattern()), set_pattern;
    "kernel/core_uses_pid" || format!("{}\n", coredump::uses_pid()).into_bytes(), set_uses_pid;
    "kernel/dmesg_restrict" => syslog::RESTRICTED;
    "kernel/domainname" || line(&names().domainname()), set_domainname;
    "kernel/hostname" || line(&names().hostname()), set_hostname;
    "kernel/keys/gc_delay" || b"300\n".to_vec();
    "kernel/keys/maxbytes" || b"20000\n".to_vec();
    "kernel/keys/persistent_keyring_expiry" || b"259200\n".to_vec();
    "kernel/keys/root_maxbytes" || b"25000000\n".to_vec();
    "kernel/keys/root_maxkeys" || b"1000000\n".to_vec();
    "kernel/keys/maxkeys" || b"200\n".to_vec();
    "kernel/msg_next_id" || ipc_setting("msg_next_id"), |v| ipc_set("msg_next_id", v);
    "kernel/msgmax" || ipc_setting("msgmax"), |v| ipc_set("msgmax", v);
    "kernel/msgmnb" || ipc_setting("msgmnb"), |v| ipc_set("msgmnb", v);
    "kernel/msgmni" || ipc_setting("msgmni"), |v| ipc_set("msgmni", v);
    "kernel/ngroups_max" || b"65536\n".to_vec();
    "kernel/ns_last_pid" || number(pids().last().into()), |v| decimal(v).and_then(|n| pids().set_last(n));
    "kernel/osrelease" || line(uts::RELEASE.as_bytes());
    "kernel/ostype" || b"Linux\n".to_vec();
    "kernel/overflowgid" || number(OVERFLOW.into());
    "kernel/overflowuid" || number(OVERFLOW.into());
    "kernel/panic" || b"0\n".to_vec();
    "kernel/perf_event_paranoid" || b"4\n".to_vec();
    "kernel/pid_max" || number(pids().pid_max().into()), |v| decimal(v).and_then(|n| pids().set_pid_max(n));
    "kernel/pty/max" || number(pty::limits()[0].into()), |v| set_ptys(false, v);
    "kernel/pty/nr" || number(pty::limits()[2].into());
    "kernel/pty/reserve" || number(pty::limits()[1].into()), |v| set_ptys(true, v);
    "kernel/random/boot_id" boot_id;
    "kernel/random/entropy_avail" || b"256\n".to_vec();
    "kernel/random/poolsize" || number(256);
    "kernel/random/uuid" || uuid(random_bits());
    "kernel/randomize_va_space" => RANDOMIZE;
    "kernel/sched_rr_timeslice_ms" || number(RR_SLICE_MS.get()), set_rr_slice;
    "kernel/seccomp/actions_avail" || line(seccomp::logged::available().as_bytes());
    "kernel/seccomp/actions_logged" || line(seccomp::logged::logged().as_bytes()), seccomp::logged::set_logged;
    "kernel/sem" || ipc_setting("sem"), |v| ipc_set("sem", v);
    "kernel/sem_next_id" || ipc_setting("sem_next_id"), |v| ipc_set("sem_next_id", v);
    "kernel/shm_next_id" || ipc_setting("shm_next_id"), |v| ipc_set("shm_next_id", v);
    "kernel/shm_rmid_forced" || ipc_setting("shm_rmid_forced"), |v| ipc_set("shm_rmid_forced", v);
    "kernel/shmall" || ipc_setting("shmall"), |v| ipc_set("shmall", v);
    "kernel/shmmax" || ipc_setting("shmmax"), |v| ipc_set("shmmax", v);
    "kernel/shmmni" || ipc_setting("shmmni"), |v| ipc_set("shmmni", v);
    "kernel/sysctl_writes_strict" || number(1);
    "kernel/tainted" || b"0\n".to_vec();
    "kernel/threads-max" || number(kernel().task_limit().into()), |v| kernel().lower_task_limit(unsigned(v)?);
    "kernel/version" || line(uts::VERSION.as_bytes());
    "net/core/rmem_default" || b"212992\n".to_vec();
    "net/core/rmem_max" || net_setting("core/rmem_max"), |v| set_net("core/rmem_max", v);
    "net/core/somaxconn" || net_setting("core/somaxconn"), |v| set_net("core/somaxconn", v);
    "net/core/wmem_default" || b"212992\n".to_vec();
    "net/core/wmem_max" || net_setting("core/wmem_max"), |v| set_net("core/wmem_max", v);
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
    "vm/admin_reserve_kbytes" || b"8192\n".to_vec();
    "vm/dirty_background_ratio" || b"10\n".to_vec();
    "vm/dirty_expire_centisecs" || b"3000\n".to_vec();
    "vm/dirty_ratio" || b"20\n".to_vec();
    "vm/dirty_writeback_centisecs" || b"500\n".to_vec();
    "vm/hugetlb_shm_group" || b"0\n".to_vec();
    "vm/laptop_mode" || b"0\n".to_vec();
    "vm/legacy_va_layout" || b"0\n".to_vec();
    "vm/memfd_noexec" || b"0\n".to_vec();
    "vm/min_free_kbytes" || b"67584\n".to_vec();
    "vm/nr_overcommit_hugepages" || b"0\n".to_vec();
    "vm/oom_dump_tasks" || b"1\n".to_vec();
    "vm/oom_kill_allocating_task" || b"0\n".to_vec();
    "vm/overcommit_kbytes" || b"0\n".to_vec();
    "vm/page-cluster" || b"3\n".to_vec();
    "vm/panic_on_oom" || b"0\n".to_vec();
    "vm/stat_interval" || b"1\n".to_vec();
    "vm/unprivileged_userfaultfd" || b"0\n".to_vec();
    "vm/user_reserve_kbytes" || b"131072\n".to_vec();
    "vm/vfs_cache_pressure" || b"100\n".to_vec();
    "vm/watermark_scale_factor" || b"10\n".to_vec();
    "vm/zone_reclaim_mode" || b"0\n".to_vec();
    "vm/max_map_count" => vma::MAX_MAPS;
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
        match (self.path, &self.what) {
            (_, What::Shown(_)) => 0o444,
            // Who may restore checkpoints need not be root (`kernel/pid_namespace.c`).
            ("kernel/ns_last_pid", _) => 0o666,
            _ => 0o644,
        }
    }

    /// What it shows.
    pub fn text(&self) -> Vec<u8> {
        match &self.what {
            What::Shown(text) | What::Both(text, _) => text(),
            What::Number(knob) => number(knob.get()),
        }
    }

    /// Changes it: the root of the sandbox may, whatever its capabilities (`test_perm` in `fs/proc/proc_sysctl.c`), but
    /// for what belongs to a namespace.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL` for what it cannot be.
    pub fn write(&self, ctx: &OpCtx<'_>, bytes: &[u8]) -> Result {
        let may = match self.path {
            _ if self.is_users() => ctx.cred.capable_here(cap::SYS_RESOURCE),
            "kernel/ns_last_pid" => {
                let ns = &pids().user_ns;
                ctx.cred.capable_in(ns, cap::CHECKPOINT_RESTORE) || ctx.cred.capable_in(ns, cap::SYS_ADMIN)
            }
            _ => ctx.cred.euid == 0 || ctx.cred.capable(cap::SYS_ADMIN),
        };
        if !may || matches!(self.what, What::Shown(_)) {
            return Err(Errno::EPERM);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        match &self.what {
            What::Shown(_) => Ok(()),
            What::Both(_, set) => set(bytes.split(|&b| b == b'\n').next().unwrap_or(&[])),
            What::Number(knob) => knob.set(unsigned(bytes)?),
        }
    }
}

/// The first number of what was written, as the kernel's numbers are read (`proc_get_long` in `kernel/sysctl.c`): in
/// base 8, 10 or 16, with nothing but blanks behind it.
///
/// # Errors
/// `EINVAL`, also for a negative number.
fn unsigned(value: &[u8]) -> Result<u64> {
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?.trim_start();
    let word = text.split([' ', '\t', '\n', '\0']).next().unwrap_or("");
    let (digits, radix) = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&word[2..], 16),
        [b'0', _, ..] => (&word[1..], 8),
        _ => (word, 10),
    };
    if digits.starts_with('+') {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)
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
