//! What this host offers to drupe, and what to do where it does not.

use serde::Serialize;
use std::fs;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is there.
    Ok,
    /// It is missing, and something is slower or weaker for it.
    Degraded,
    /// It is missing, and nothing runs without it.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The feature.
    pub name: &'static str,
    /// Whether it is there.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do when it is missing; empty otherwise.
    pub advice: &'static str,
}

/// Oldest host kernel that drupe supports.
const OLDEST: (u32, u32) = (5, 10);

/// Looks at everything. Nothing on the host is changed.
pub fn examine() -> Vec<Finding> {
    vec![
        kernel_version(),
        processor(),
        seccomp(),
        memory_file(),
        address_space(),
        file_size(),
        open_files(),
        proc_mounted(),
        fsgsbase(),
        protection_keys(),
        jail(),
        namespaces(),
        landlock(),
        sealed_names(),
        limits(),
    ]
}

/// Whether programs can run here at all.
pub fn usable(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.verdict != Verdict::Missing)
}

fn need(name: &'static str, there: bool, detail: impl Into<String>, advice: &'static str) -> Finding {
    let verdict = if there { Verdict::Ok } else { Verdict::Missing };
    Finding { name, verdict, detail: detail.into(), advice: if there { "" } else { advice } }
}

fn want(name: &'static str, there: bool, detail: impl Into<String>, advice: &'static str) -> Finding {
    let verdict = if there { Verdict::Ok } else { Verdict::Degraded };
    Finding { name, verdict, detail: detail.into(), advice: if there { "" } else { advice } }
}

fn kernel_version() -> Finding {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    need("kernel", version >= OLDEST, release, "drupe needs Linux 5.10 or later on the host")
}

fn processor() -> Finding {
    let there = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    need("architecture", there, std::env::consts::ARCH, "drupe runs on x86-64 only")
}

/// Asks for an invalid filter: EFAULT means that a valid one would be looked at.
fn seccomp() -> Finding {
    let advice = "a container runtime or an outer filter denies seccomp(2): allow it there";
    const SECCOMP_GET_ACTION_AVAIL: u64 = 2;
    let trap = 0x0003_0000u32;
    // SAFETY: reads one word of ours.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const trap) };
    if ret == 0 {
        return need("seccomp filters", true, "traps are available", "");
    }
    need("seccomp filters", false, std::io::Error::last_os_error().to_string(), advice)
}

fn memory_file() -> Finding {
    // SAFETY: a constant name and plain flags; the descriptor is closed at once.
    let fd = unsafe { libc::memfd_create(c"drupe-doctor".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        let detail = std::io::Error::last_os_error().to_string();
        return need("memfd_create", false, detail, "an outer filter denies memfd_create(2): allow it there");
    }
    // SAFETY: maps one page of a file of ours where the host likes, and unmaps it.
    let executable = unsafe {
        libc::ftruncate(fd, 4096);
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let page = libc::mmap(std::ptr::null_mut(), 4096, prot, libc::MAP_SHARED, fd, 0);
        if page != libc::MAP_FAILED {
            libc::munmap(page, 4096);
        }
        libc::close(fd);
        page != libc::MAP_FAILED
    };
    let detail = if executable { "can be mapped executable" } else { "cannot be mapped executable" };
    need("memfd_create", executable, detail, "a security module forbids executable memory files: exempt drupe")
}

fn limit(resource: nix::sys::resource::Resource) -> u64 {
    nix::sys::resource::getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard)
}

fn show(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

fn address_space() -> Finding {
    let hard = limit(nix::sys::resource::Resource::RLIMIT_AS);
    let there = hard > drupe_kernel::abi::layout::END + (16 << 30);
    need(
        "address space",
        there,
        show(hard),
        "raise the hard limit of `ulimit -v` (the kernel reserves 300 GiB, unbacked)",
    )
}

fn file_size() -> Finding {
    let hard = limit(nix::sys::resource::Resource::RLIMIT_FSIZE);
    let there = hard >= drupe_kernel::abi::layout::END;
    need("file size", there, show(hard), "raise the hard limit of `ulimit -f` (the kernel's memory is a sparse file)")
}

fn open_files() -> Finding {
    let hard = limit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let advice = "raise the hard limit of `ulimit -n`: all processes of a sandbox share one host descriptor table";
    want("open files", hard >= 4096, show(hard), advice)
}

fn proc_mounted() -> Finding {
    need("/proc", fs::metadata("/proc/self/maps").is_ok(), "mounted", "mount proc on /proc")
}

fn fsgsbase() -> Finding {
    const HWCAP2_FSGSBASE: u64 = 2;
    // SAFETY: reads the auxiliary vector.
    let there = unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE != 0;
    let advice = "thread switches cost a host call more; nothing to do on an old processor or kernel";
    want("fsgsbase", there, if there { "on" } else { "off" }, advice)
}

fn protection_keys() -> Finding {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let there = info.lines().find(|l| l.starts_with("flags")).is_some_and(|l| l.split(' ').any(|f| f == "ospke"));
    let advice = "the kernel's memory is not shielded from stray writes of guests; nothing to do on such a processor";
    want("protection keys", there, if there { "available" } else { "not available" }, advice)
}

/// The layers that hold every sandbox: one that cannot be set up is an error at the start.
fn jail() -> Finding {
    let text = "on: system call filter, no_new_privs, no core dumps, no capabilities that nothing given needs, \
                a broker for mode, owner and times, a filter of the supervisor's";
    need("jail", true, text, "")
}

/// Tries it in a child, which has one thread and is gone afterwards.
fn namespaces() -> Finding {
    let others =
        libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    let ways = [("without a user namespace", others), ("with a user namespace", others | libc::CLONE_NEWUSER)];
    let there = ways.into_iter().find(|(_, flags)| unshares(*flags));
    let advice = "--jail namespaces is an error here: allow user namespaces (user.max_user_namespaces, \
                  kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, or the outer \
                  container's filter)";
    match there {
        Some((how, _)) => {
            let detail = format!("available ({how}), off by default: --jail namespaces");
            want("namespaces", true, detail, "")
        }
        None => want("namespaces", false, "not available", advice),
    }
}

/// Whether the host has what keeps names from leading out of a root (`Window::seal_naming`): it seals nothing.
fn sealed_names() -> Finding {
    let advice = "with --root, a program that owns its kernel can look at names outside of it (not at contents): Linux \
                  6.11 has what prevents that";
    // SAFETY: no page, and a record on this stack.
    let there = unsafe {
        let mut out = std::mem::zeroed::<libc::statx>();
        let looked = libc::statx(0, std::ptr::null(), libc::AT_EMPTY_PATH, libc::STATX_BASIC_STATS, &raw mut out);
        let unnamed = looked == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EBADF);
        unnamed && libc::syscall(libc::SYS_mseal, 0, 0, 0) == 0
    };
    want("names outside of a root", there, if there { "cannot be looked at" } else { "can be looked at" }, advice)
}

fn unshares(flags: i32) -> bool {
    // SAFETY: the child makes one call and ends.
    unsafe {
        match libc::fork() {
            -1 => false,
            0 => libc::_exit(i32::from(libc::unshare(flags) != 0)),
            pid => {
                let mut status = 1;
                libc::waitpid(pid, &raw mut status, 0) == pid && status == 0
            }
        }
    }
}

/// What holds `--memory`, `--pids` and `--cpus`.
fn limits() -> Finding {
    let own = "the kernel's own accounting";
    let advice = "a program that takes over its kernel is not bounded: give the user a cgroup v2 with the memory, pids and \
                  cpu controllers (systemd: Delegate=yes), or bound the launcher from outside";
    match super::cgroup::probe() {
        Some(parent) => want("limits", true, format!("{own}, and a cgroup below {}", parent.display()), ""),
        None => want("limits", false, format!("{own}; no cgroup v2 of its own can be made"), advice),
    }
}

fn landlock() -> Finding {
    let abi = super::jail::landlock_version();
    let missing = match abi {
        0 => "not available",
        1 => "no truncation, TCP, device ioctls and signals",
        2 | 3 => "no TCP, device ioctls and signals",
        4 => "no device ioctls and signals",
        5 => "no signals",
        _ => "",
    };
    let detail = match (abi, missing) {
        (0, _) => missing.into(),
        (_, "") => format!("ABI {abi}, on by default: files, TCP, device ioctls, signals, abstract sockets"),
        _ => format!("ABI {abi}, on by default; it bounds {missing}"),
    };
    let advice = "what a hostile program that takes over its kernel writes is bounded by the user's rights alone; \
                  Linux 5.13 has Landlock, where `lsm=` names it";
    want("landlock", abi > 0, detail, advice)
}
