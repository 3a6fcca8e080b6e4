//! Names of flags and signals, and how single calls show their arguments.

use super::decode::Show::{
    self, Auto, Choice, DirFd, Environment, Flags as F, In, Int, IntOut, Octal, Out, Pair, Set, Strings, Text, Time,
    TimeOut,
};
use crate::abi::linux;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// Names of bits or values.
pub struct Flags(&'static [(u64, &'static str)]);

macro_rules! flags {
    ($($set:ident: $($name:ident)*;)*) => {
        $(static $set: Flags = Flags(&[$((linux::$name as u64, stringify!($name))),*]);)*
    };
}

impl Flags {
    /// Every bit's name; a name of zero stands where no bit of the lowest two is set.
    pub fn all(&self, value: u64) -> String {
        let mut out = String::new();
        let mut rest = value;
        for &(bits, name) in self.0 {
            // O_RDONLY and its like are the absence of the access mode's bits.
            let here = if bits == 0 { value & 3 == 0 } else { rest & bits == bits };
            if here {
                out.push_str(if out.is_empty() { "" } else { "|" });
                out.push_str(name);
                rest &= !bits;
            }
        }
        match (rest, out.is_empty()) {
            (0, true) => String::from("0"),
            (0, false) => out,
            (_, true) => format!("{rest:#x}"),
            (_, false) => format!("{out}|{rest:#x}"),
        }
    }

    /// The value's name.
    pub fn one(&self, value: u64) -> String {
        let known = self.0.iter().find(|(v, _)| *v == value);
        known.map_or_else(|| format!("{value:#x}"), |(_, name)| String::from(*name))
    }
}

flags! {
    OPEN: O_RDONLY O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_LARGEFILE
        O_TMPFILE O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH;
    PIPE: O_CLOEXEC O_NONBLOCK O_DIRECT;
    PROT: PROT_NONE PROT_READ PROT_WRITE PROT_EXEC;
    MAP: MAP_SHARED_VALIDATE MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_STACK
        MAP_HUGETLB MAP_FIXED_NOREPLACE;
    REMAP: MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP;
    ADVICE: MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_DONTFORK MADV_DOFORK
        MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_POPULATE_READ MADV_POPULATE_WRITE;
    CLONE: CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD CLONE_NEWNS
        CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED CLONE_CHILD_SETTID
        CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO;
    AT: AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH;
    WHENCE: SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE;
    HOW: SIG_BLOCK SIG_UNBLOCK SIG_SETMASK;
    FCNTL: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW
        F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS;
    FUTEX: FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI
        FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_PRIVATE FUTEX_WAKE_PRIVATE FUTEX_REQUEUE_PRIVATE FUTEX_CMP_REQUEUE_PRIVATE
        FUTEX_WAKE_OP_PRIVATE FUTEX_LOCK_PI_PRIVATE FUTEX_UNLOCK_PI_PRIVATE FUTEX_WAIT_BITSET_PRIVATE FUTEX_WAKE_BITSET_PRIVATE;
    WAIT: WNOHANG WUNTRACED WEXITED WCONTINUED WNOWAIT;
    CLOCK: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
        CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_TAI;
    LOCK: LOCK_SH LOCK_EX LOCK_NB LOCK_UN;
    EPOLL: EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD;
    ARCH: ARCH_SET_FS;
    RLIMIT: RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE RLIMIT_MEMLOCK
        RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME;
}

const SIG: Show = Show::Signal;
/// Calls that are shown better than by the table's kinds.
static CALLS: &[(&str, &[Show])] = &[
    ("read", &[Int, Out, Int]),
    ("write", &[Int, In(2), Int]),
    ("pread64", &[Int, Out, Int, Int]),
    ("pwrite64", &[Int, In(2), Int, Int]),
    ("open", &[Text, F(&OPEN), Octal]),
    ("openat", &[DirFd, Text, F(&OPEN), Octal]),
    ("creat", &[Text, Octal]),
    ("stat", &[Text, Auto]),
    ("lstat", &[Text, Auto]),
    ("newfstatat", &[DirFd, Text, Auto, F(&AT)]),
    ("statx", &[DirFd, Text, F(&AT), Auto, Auto]),
    ("access", &[Text, Octal]),
    ("faccessat", &[DirFd, Text, Octal]),
    ("faccessat2", &[DirFd, Text, Octal, F(&AT)]),
    ("lseek", &[Int, Int, Choice(&WHENCE)]),
    ("mmap", &[Auto, Auto, F(&PROT), F(&MAP), DirFd, Auto]),
    ("mprotect", &[Auto, Auto, F(&PROT)]),
    ("mremap", &[Auto, Auto, Auto, F(&REMAP), Auto]),
    ("madvise", &[Auto, Auto, Choice(&ADVICE)]),
    ("rt_sigaction", &[SIG, Auto, Auto, Int]),
    ("rt_sigprocmask", &[Choice(&HOW), Set, Auto, Int]),
    ("rt_sigsuspend", &[Set, Int]),
    ("rt_sigtimedwait", &[Set, Auto, Time, Int]),
    ("rt_sigreturn", &[]),
    ("kill", &[Int, SIG]),
    ("tkill", &[Int, SIG]),
    ("tgkill", &[Int, Int, SIG]),
    ("pipe", &[Pair]),
    ("pipe2", &[Pair, F(&PIPE)]),
    ("socketpair", &[Int, Int, Int, Pair]),
    ("dup3", &[Int, Int, F(&OPEN)]),
    ("fcntl", &[Int, Choice(&FCNTL), Auto]),
    ("flock", &[Int, F(&LOCK)]),
    ("nanosleep", &[Time, Auto]),
    ("clock_nanosleep", &[Choice(&CLOCK), Int, Time, Auto]),
    ("clock_gettime", &[Choice(&CLOCK), TimeOut]),
    ("clock_getres", &[Choice(&CLOCK), TimeOut]),
    ("gettimeofday", &[TimeOut, Auto]),
    ("clone", &[F(&CLONE), Auto, Auto, Auto, Auto]),
    ("unshare", &[F(&CLONE)]),
    ("execve", &[Text, Strings, Environment]),
    ("execveat", &[DirFd, Text, Strings, Environment, F(&AT)]),
    ("wait4", &[Int, IntOut, F(&WAIT), Auto]),
    ("waitid", &[Int, Int, Auto, F(&WAIT), Auto]),
    ("getcwd", &[Out, Int]),
    ("readlink", &[Text, Out, Int]),
    ("readlinkat", &[DirFd, Text, Out, Int]),
    ("getrandom", &[Out, Int, Auto]),
    ("mkdir", &[Text, Octal]),
    ("mkdirat", &[DirFd, Text, Octal]),
    ("chmod", &[Text, Octal]),
    ("fchmod", &[Int, Octal]),
    ("fchmodat", &[DirFd, Text, Octal]),
    ("umask", &[Octal]),
    ("unlinkat", &[DirFd, Text, F(&AT)]),
    ("symlinkat", &[Text, DirFd, Text]),
    ("linkat", &[DirFd, Text, DirFd, Text, F(&AT)]),
    ("renameat", &[DirFd, Text, DirFd, Text]),
    ("renameat2", &[DirFd, Text, DirFd, Text, Auto]),
    ("utimensat", &[DirFd, Text, Auto, F(&AT)]),
    ("futex", &[Auto, Choice(&FUTEX), Int, Auto, Auto, Auto]),
    ("epoll_ctl", &[Int, Choice(&EPOLL), Int, Auto]),
    ("arch_prctl", &[Choice(&ARCH), Show::Hex]),
    ("prlimit64", &[Int, Choice(&RLIMIT), Auto, Auto]),
    ("getrlimit", &[Choice(&RLIMIT), Auto]),
    ("setrlimit", &[Choice(&RLIMIT), Auto]),
    ("set_robust_list", &[Show::Hex, Int]),
];

/// How a call is shown, if better than by the table's kinds.
pub fn call(name: &str) -> Option<&'static [Show]> {
    CALLS.iter().find(|(n, _)| *n == name).map(|(_, shows)| *shows)
}

/// A signal by name.
pub struct Signal(pub u64);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 32] = [
            "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
            "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
            "PROF", "WINCH", "IO", "PWR", "SYS",
        ];
        match (self.0, NAMES.get(self.0 as usize)) {
            (0, _) => f.write_str("0"),
            (_, Some(name)) => write!(f, "SIG{name}"),
            (32..=64, None) => write!(f, "SIGRT_{}", self.0 - 32),
            (n, None) => write!(f, "{}", n as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_in_c() {
        assert_eq!(OPEN.all(0), "O_RDONLY");
        assert_eq!(OPEN.all(0o2001101), "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC");
        assert_eq!(PROT.all(0), "PROT_NONE");
        assert_eq!(PROT.all(5), "PROT_READ|PROT_EXEC");
        assert_eq!(MAP.all(0x22), "MAP_PRIVATE|MAP_ANONYMOUS");
        assert_eq!(WHENCE.one(2), "SEEK_END");
        assert_eq!(WHENCE.one(77), "0x4d");
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(format!("{} {} {}", Signal(9), Signal(17), Signal(34)), "SIGKILL SIGCHLD SIGRT_2");
    }

    #[test]
    fn calls_are_in_the_table() {
        for (name, _) in CALLS {
            assert!(crate::syscall::TABLE.iter().any(|e| e.name() == *name), "{name}");
        }
    }
}
