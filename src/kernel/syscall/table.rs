//! The one table of system calls. It generates dispatch, names, `--strace` decoding and the list of
//! `drupe syscalls`. A duplicate or a missing number does not compile.
//!
//! A line is `NUMBER name => handler, Full;`, `NUMBER name => handler, Partial, "what is missing";`
//! or `NUMBER name => None;`.

use super::args::{Handler, Kind, RawHandler, kinds};
use super::strace;
use crate::abi::{Errno, SysResult};
use crate::task::seccomp::{self, Verdict};
use crate::task::{CurrentTask, dispatch, kernel};

/// How much of a call there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// Everything that programs use.
    Full,
    /// The note says what is missing.
    Partial,
    /// `ENOSYS`.
    None,
}

/// A piece of [`NAMES`] or [`NOTES`]. A reference would have to be relocated at each start, in the image and in
/// whatever else shows the table.
#[derive(Clone, Copy)]
struct Text {
    at: u16,
    len: u16,
}

impl Text {
    const fn of(text: &str) -> Text {
        Text { at: 0, len: text.len() as u16 }
    }

    /// The same text, which lies at `at`, and what comes behind it.
    const fn placed(self, at: u16) -> (Text, u16) {
        (Text { at, len: self.len }, at + self.len)
    }

    fn get(self, all: &'static str) -> &'static str {
        let at = usize::from(self.at);
        &all[at..at + usize::from(self.len)]
    }
}

/// A line of the table.
#[derive(Clone, Copy)]
pub struct Entry {
    name: Text,
    note: Text,
    kinds: [Kind; 6],
    arity: u8,
    /// How much of it there is.
    pub support: Support,
}

impl Entry {
    const fn new(name: &str, support: Support, note: &str, kinds: &[Kind]) -> Entry {
        let mut six = [Kind::Hex; 6];
        let mut i = 0;
        while i < kinds.len() {
            six[i] = kinds[i];
            i += 1;
        }
        Entry { name: Text::of(name), note: Text::of(note), kinds: six, arity: kinds.len() as u8, support }
    }

    const fn is_used(&self) -> bool {
        self.name.len > 0
    }

    /// Name as in `syscalls(2)`; empty for a number that Linux does not use.
    pub fn name(&self) -> &'static str {
        self.name.get(NAMES)
    }

    /// What is missing.
    pub fn note(&self) -> &'static str {
        self.note.get(NOTES)
    }

    /// Argument kinds.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds[..usize::from(self.arity)]
    }
}

/// Size of the table; numbers from here on are `ENOSYS`.
pub const COUNT: usize = 470;

macro_rules! entry {
    ($name:ident, None) => {
        Entry::new(stringify!($name), Support::None, "", &[])
    };
    ($name:ident, $handler:path, Full) => {
        entry!($name, $handler, Full, "")
    };
    ($name:ident, $handler:path, $support:ident, $note:literal) => {
        Entry::new(stringify!($name), Support::$support, $note, kinds(&$handler))
    };
}

macro_rules! handler {
    (None) => {
        None
    };
    ($handler:path) => {
        Some(|cur, a| Handler::invoke($handler, cur, a))
    };
}

macro_rules! table {
    ($($nr:literal $name:ident => $($what:tt)::+ $(, $support:ident $(, $note:literal)?)?;)*) => {
        const NAMES: &str = concat!($(stringify!($name)),*);
        const NOTES: &str = concat!($($($($note,)?)?)*);

        /// The table, by number.
        pub static TABLE: [Entry; COUNT] = {
            let mut t = [Entry::new("", Support::None, "", &[]); COUNT];
            let (mut name_at, mut note_at) = (0, 0);
            $(
                assert!(!t[$nr].is_used(), "a number stands twice in the table");
                t[$nr] = entry!($name, $($what)::+ $(, $support $(, $note)?)?);
                (t[$nr].name, name_at) = t[$nr].name.placed(name_at);
                (t[$nr].note, note_at) = t[$nr].note.placed(note_at);
            )*
            assert!(name_at as usize == NAMES.len() && note_at as usize == NOTES.len());
            let mut i = 0;
            while i < COUNT {
                assert!(i >= 335 && i < 424 || t[i].is_used(), "a number is missing in the table");
                i += 1;
            }
            t
        };

        static HANDLERS: [Option<RawHandler>; COUNT] = {
            let mut handlers: [Option<RawHandler>; COUNT] = [None; COUNT];
            $(handlers[$nr] = handler!($($what)::+);)*
            handlers
        };
    };
}

/// Runs call number `nr` for the current task.
///
/// # Errors
/// `ENOSYS` for what is not there; else the handler's.
#[inline]
pub fn dispatch(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> SysResult<u64> {
    if seccomp::looks_at_calls() {
        return looked_at(cur, nr, args);
    }
    run(cur, nr, args)
}

#[cold]
fn looked_at(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> SysResult<u64> {
    if strace::on() { strace::traced(cur, nr, args) } else { filtered(cur, nr, args) }
}

/// Runs the call if neither the program takes it itself nor its own filters refuse it.
pub(super) fn filtered(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> SysResult<u64> {
    if dispatch::takes(cur, nr) {
        return Ok(nr);
    }
    match seccomp::look(cur, nr, args) {
        Verdict::Run(nr, args) => run(cur, nr, &args),
        Verdict::Skip(result) => result,
    }
}

#[inline]
fn run(cur: &CurrentTask, nr: u64, args: &[u64; 6]) -> SysResult<u64> {
    match HANDLERS.get(nr as usize).copied().flatten() {
        Some(handler) => handler(cur, args),
        None => {
            kernel().unimplemented(cur.group.pid, nr);
            Err(Errno::ENOSYS.into())
        }
    }
}

table! {
    0 read => super::read_write::sys_read, Full;
    1 write => super::read_write::sys_write, Full;
    2 open => super::open::sys_open, Full;
    3 close => super::open::sys_close, Full;
    4 stat => super::stat::sys_stat, Full;
    5 fstat => super::stat::sys_fstat, Full;
    6 lstat => super::stat::sys_lstat, Full;
    7 poll => super::poll::sys_poll, Full;
    8 lseek => super::read_write::sys_lseek, Full;
    9 mmap => super::mem::sys_mmap, Full;
    10 mprotect => super::mem::sys_mprotect, Full;
    11 munmap => super::mem::sys_munmap, Full;
    12 brk => super::mem::sys_brk, Full;
    13 rt_sigaction => super::signal::sys_rt_sigaction, Full;
    14 rt_sigprocmask => super::signal::sys_rt_sigprocmask, Full;
    15 rt_sigreturn => super::signal::sys_rt_sigreturn, Full;
    16 ioctl => super::fcntl::sys_ioctl, Full;
    17 pread64 => super::read_write::sys_pread64, Full;
    18 pwrite64 => super::read_write::sys_pwrite64, Full;
    19 readv => super::read_write::sys_readv, Full;
    20 writev => super::read_write::sys_writev, Full;
    21 access => super::stat::sys_access, Full;
    22 pipe => super::event::sys_pipe, Full;
    23 select => super::poll::sys_select, Full;
    24 sched_yield => super::sched::sys_sched_yield, Full;
    25 mremap => super::mem::sys_mremap, Full;
    26 msync => super::mem::sys_msync, Full;
    27 mincore => super::mem::sys_mincore, Full;
    28 madvise => super::mem::sys_madvise, Full;
    29 shmget => super::shm::sys_shmget, Partial, "huge pages";
    30 shmat => super::shm::sys_shmat, Full;
    31 shmctl => super::shm::sys_shmctl, Partial, "locked segments are counted, the host decides what stays in memory";
    32 dup => super::fcntl::sys_dup, Full;
    33 dup2 => super::fcntl::sys_dup2, Full;
    34 pause => super::signal::sys_pause, Full;
    35 nanosleep => super::time::sys_nanosleep, Full;
    36 getitimer => super::timers::sys_getitimer, Full;
    37 alarm => super::timers::sys_alarm, Full;
    38 setitimer => super::timers::sys_setitimer, Full;
    39 getpid => super::process::sys_getpid, Full;
    40 sendfile => super::splice::sys_sendfile, Full;
    41 socket => super::socket::sys_socket, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    42 connect => super::socket::sys_connect, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    43 accept => super::socket::sys_accept, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    44 sendto => super::socket::sys_sendto, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    45 recvfrom => super::socket::sys_recvfrom, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    46 sendmsg => super::socket::sys_sendmsg, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    47 recvmsg => super::socket::sys_recvmsg, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    48 shutdown => super::socket::sys_shutdown, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    49 bind => super::socket::sys_bind, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    50 listen => super::socket::sys_listen, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    51 getsockname => super::socket::sys_getsockname, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    52 getpeername => super::socket::sys_getpeername, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    53 socketpair => super::socket::sys_socketpair, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    54 setsockopt => super::socket::sys_setsockopt, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    55 getsockopt => super::socket::sys_getsockopt, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route, sock_diag)";
    56 clone => super::process::sys_clone, Full;
    57 fork => super::process::sys_fork, Full;
    58 vfork => super::process::sys_vfork, Full;
    59 execve => super::process::sys_execve, Full;
    60 exit => super::process::sys_exit, Full;
    61 wait4 => super::process::sys_wait4, Full;
    62 kill => super::signal::sys_kill, Full;
    63 uname => super::misc::sys_uname, Full;
    64 semget => super::sem::sys_semget, Full;
    65 semop => super::sem::sys_semop, Full;
    66 semctl => super::sem::sys_semctl, Full;
    67 shmdt => super::shm::sys_shmdt, Full;
    68 msgget => super::msg::sys_msgget, Full;
    69 msgsnd => super::msg::sys_msgsnd, Full;
    70 msgrcv => super::msg::sys_msgrcv, Full;
    71 msgctl => super::msg::sys_msgctl, Full;
    72 fcntl => super::fcntl::sys_fcntl, Partial, "a write lease is given although another has the file mapped for reading or in flight";
    73 flock => super::fcntl::sys_flock, Full;
    74 fsync => super::attr::sys_fsync, Full;
    75 fdatasync => super::attr::sys_fdatasync, Full;
    76 truncate => super::attr::sys_truncate, Full;
    77 ftruncate => super::attr::sys_ftruncate, Full;
    78 getdents => super::dir::sys_getdents, Full;
    79 getcwd => super::dir::sys_getcwd, Full;
    80 chdir => super::dir::sys_chdir, Full;
    81 fchdir => super::dir::sys_fchdir, Full;
    82 rename => super::dir::sys_rename, Full;
    83 mkdir => super::dir::sys_mkdir, Full;
    84 rmdir => super::dir::sys_rmdir, Full;
    85 creat => super::open::sys_creat, Full;
    86 link => super::dir::sys_link, Full;
    87 unlink => super::dir::sys_unlink, Full;
    88 symlink => super::dir::sys_symlink, Full;
    89 readlink => super::stat::sys_readlink, Full;
    90 chmod => super::attr::sys_chmod, Full;
    91 fchmod => super::attr::sys_fchmod, Full;
    92 chown => super::attr::sys_chown, Full;
    93 fchown => super::attr::sys_fchown, Full;
    94 lchown => super::attr::sys_lchown, Full;
    95 umask => super::dir::sys_umask, Full;
    96 gettimeofday => super::time::sys_gettimeofday, Full;
    97 getrlimit => super::limits::sys_getrlimit, Full;
    98 getrusage => super::limits::sys_getrusage, Full;
    99 sysinfo => super::misc::sys_sysinfo, Full;
    100 times => super::limits::sys_times, Full;
    101 ptrace => super::ptrace::sys_ptrace, Partial, "watched addresses are looked at after each instruction: reading one is not seen";
    102 getuid => super::ids::sys_getuid, Full;
    103 syslog => super::syslog::sys_syslog, Full;
    104 getgid => super::ids::sys_getgid, Full;
    105 setuid => super::ids::sys_setuid, Full;
    106 setgid => super::ids::sys_setgid, Full;
    107 geteuid => super::ids::sys_geteuid, Full;
    108 getegid => super::ids::sys_getegid, Full;
    109 setpgid => super::process::sys_setpgid, Full;
    110 getppid => super::process::sys_getppid, Full;
    111 getpgrp => super::process::sys_getpgrp, Full;
    112 setsid => super::process::sys_setsid, Full;
    113 setreuid => super::ids::sys_setreuid, Full;
    114 setregid => super::ids::sys_setregid, Full;
    115 getgroups => super::ids::sys_getgroups, Full;
    116 setgroups => super::ids::sys_setgroups, Full;
    117 setresuid => super::ids::sys_setresuid, Full;
    118 getresuid => super::ids::sys_getresuid, Full;
    119 setresgid => super::ids::sys_setresgid, Full;
    120 getresgid => super::ids::sys_getresgid, Full;
    121 getpgid => super::process::sys_getpgid, Full;
    122 setfsuid => super::ids::sys_setfsuid, Full;
    123 setfsgid => super::ids::sys_setfsgid, Full;
    124 getsid => super::process::sys_getsid, Full;
    125 capget => super::prctl::sys_capget, Full;
    126 capset => super::prctl::sys_capset, Full;
    127 rt_sigpending => super::signal::sys_rt_sigpending, Full;
    128 rt_sigtimedwait => super::signal::sys_rt_sigtimedwait, Full;
    129 rt_sigqueueinfo => super::signal::sys_rt_sigqueueinfo, Full;
    130 rt_sigsuspend => super::signal::sys_rt_sigsuspend, Full;
    131 sigaltstack => super::signal::sys_sigaltstack, Full;
    132 utime => super::attr::sys_utime, Full;
    133 mknod => super::dir::sys_mknod, Full;
    134 uselib => None;
    135 personality => super::prctl::sys_personality, Full;
    136 ustat => super::system::sys_ustat, Full;
    137 statfs => super::stat::sys_statfs, Full;
    138 fstatfs => super::stat::sys_fstatfs, Full;
    139 sysfs => super::system::sys_sysfs, Full;
    140 getpriority => super::sched::sys_getpriority, Partial, "kept, the host decides";
    141 setpriority => super::sched::sys_setpriority, Partial, "kept, the host decides";
    142 sched_setparam => super::sched::sys_sched_setparam, Partial, "kept, the host decides";
    143 sched_getparam => super::sched::sys_sched_getparam, Partial, "kept, the host decides";
    144 sched_setscheduler => super::sched::sys_sched_setscheduler, Partial, "kept, the host decides";
    145 sched_getscheduler => super::sched::sys_sched_getscheduler, Partial, "kept, the host decides";
    146 sched_get_priority_max => super::sched::sys_sched_get_priority_max, Full;
    147 sched_get_priority_min => super::sched::sys_sched_get_priority_min, Full;
    148 sched_rr_get_interval => super::sched::sys_sched_rr_get_interval, Partial, "kept, the host decides";
    149 mlock => super::mem::sys_mlock, Full;
    150 munlock => super::mem::sys_munlock, Full;
    151 mlockall => super::mem::sys_mlockall, Full;
    152 munlockall => super::mem::sys_munlockall, Full;
    153 vhangup => super::misc::sys_vhangup, Full;
    154 modify_ldt => None;
    155 pivot_root => super::mount::sys_pivot_root, Full;
    156 _sysctl => None;
    157 prctl => super::prctl::sys_prctl, Partial, "memory layout and speculation control are refused";
    158 arch_prctl => super::prctl::sys_arch_prctl, Partial, "no shadow stack, no CPUID faulting";
    159 adjtimex => super::timex::sys_adjtimex, Partial, "the clock's speed and TAI cannot be changed";
    160 setrlimit => super::limits::sys_setrlimit, Full;
    161 chroot => super::dir::sys_chroot, Full;
    162 sync => super::attr::sys_sync, Full;
    163 acct => super::admin::sys_acct, Partial, "memory, input and output are zero in the records";
    164 settimeofday => super::time::sys_settimeofday, Full;
    165 mount => super::mount::sys_mount, Partial, "what mappings bring in counts against a tmpfs's size only later; its huge= and mpol= (but never, default), quotas; MS_SYNCHRONOUS, MS_MANDLOCK";
    166 umount2 => super::mount::sys_umount2, Full;
    167 swapon => super::admin::sys_swapon, Partial, "nothing can be a swap area";
    168 swapoff => super::admin::sys_swapoff, Full;
    169 reboot => super::admin::sys_reboot, Full;
    170 sethostname => super::misc::sys_sethostname, Full;
    171 setdomainname => super::misc::sys_setdomainname, Full;
    172 iopl => None;
    173 ioperm => None;
    174 create_module => None;
    175 init_module => None;
    176 delete_module => None;
    177 get_kernel_syms => None;
    178 query_module => None;
    179 quotactl => super::admin::sys_quotactl, Full;
    180 nfsservctl => None;
    181 getpmsg => None;
    182 putpmsg => None;
    183 afs_syscall => None;
    184 tuxcall => None;
    185 security => None;
    186 gettid => super::process::sys_gettid, Full;
    187 readahead => super::attr::sys_readahead, Full;
    188 setxattr => super::xattr::sys_setxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    189 lsetxattr => super::xattr::sys_lsetxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    190 fsetxattr => super::xattr::sys_fsetxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    191 getxattr => super::xattr::sys_getxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    192 lgetxattr => super::xattr::sys_lgetxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    193 fgetxattr => super::xattr::sys_fgetxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    194 listxattr => super::xattr::sys_listxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    195 llistxattr => super::xattr::sys_llistxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    196 flistxattr => super::xattr::sys_flistxattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    197 removexattr => super::xattr::sys_removexattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    198 lremovexattr => super::xattr::sys_lremovexattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    199 fremovexattr => super::xattr::sys_fremovexattr, Partial, "attributes of the host's files below an overlay, access control lists among them";
    200 tkill => super::signal::sys_tkill, Full;
    201 time => super::time::sys_time, Full;
    202 futex => super::futex::sys_futex, Partial, "an owner does not run with its waiters' priority: the host decides";
    203 sched_setaffinity => super::sched::sys_sched_setaffinity, Full;
    204 sched_getaffinity => super::sched::sys_sched_getaffinity, Full;
    205 set_thread_area => None;
    206 io_setup => super::aio::sys_io_setup, Partial, "the ring in memory stays empty";
    207 io_destroy => super::aio::sys_io_destroy, Full;
    208 io_getevents => super::aio::sys_io_getevents, Full;
    209 io_submit => super::aio::sys_io_submit, Partial, "only POLL goes on in the background";
    210 io_cancel => super::aio::sys_io_cancel, Full;
    211 get_thread_area => None;
    212 lookup_dcookie => None;
    213 epoll_create => super::epoll::sys_epoll_create, Full;
    214 epoll_ctl_old => None;
    215 epoll_wait_old => None;
    216 remap_file_pages => super::mem::sys_remap_file_pages, Full;
    217 getdents64 => super::dir::sys_getdents64, Full;
    218 set_tid_address => super::process::sys_set_tid_address, Full;
    219 restart_syscall => super::time::sys_restart_syscall, Full;
    220 semtimedop => super::sem::sys_semtimedop, Full;
    221 fadvise64 => super::attr::sys_fadvise64, Full;
    222 timer_create => super::timers::sys_timer_create, Full;
    223 timer_settime => super::timers::sys_timer_settime, Full;
    224 timer_gettime => super::timers::sys_timer_gettime, Full;
    225 timer_getoverrun => super::timers::sys_timer_getoverrun, Full;
    226 timer_delete => super::timers::sys_timer_delete, Full;
    227 clock_settime => super::time::sys_clock_settime, Full;
    228 clock_gettime => super::time::sys_clock_gettime, Full;
    229 clock_getres => super::time::sys_clock_getres, Full;
    230 clock_nanosleep => super::time::sys_clock_nanosleep, Full;
    231 exit_group => super::process::sys_exit_group, Full;
    232 epoll_wait => super::epoll::sys_epoll_wait, Full;
    233 epoll_ctl => super::epoll::sys_epoll_ctl, Full;
    234 tgkill => super::signal::sys_tgkill, Full;
    235 utimes => super::attr::sys_utimes, Full;
    236 vserver => None;
    237 mbind => super::numa::sys_mbind, Full;
    238 set_mempolicy => super::numa::sys_set_mempolicy, Full;
    239 get_mempolicy => super::numa::sys_get_mempolicy, Full;
    240 mq_open => super::mqueue::sys_mq_open, Full;
    241 mq_unlink => super::mqueue::sys_mq_unlink, Full;
    242 mq_timedsend => super::mqueue::sys_mq_timedsend, Full;
    243 mq_timedreceive => super::mqueue::sys_mq_timedreceive, Full;
    244 mq_notify => super::mqueue::sys_mq_notify, Full;
    245 mq_getsetattr => super::mqueue::sys_mq_getsetattr, Full;
    246 kexec_load => None;
    247 waitid => super::process::sys_waitid, Full;
    248 add_key => super::keys::sys_add_key, Partial, "types other than keyring, user and logon";
    249 request_key => super::keys::sys_request_key, Partial, "no program makes what is not found";
    250 keyctl => super::keys::sys_keyctl, Partial, "SESSION_TO_PARENT, RESTRICT_KEYRING, WATCH_KEY, persistent keyrings, public keys";
    251 ioprio_set => super::sched::sys_ioprio_set, Partial, "kept, the host decides";
    252 ioprio_get => super::sched::sys_ioprio_get, Partial, "kept, the host decides";
    253 inotify_init => super::inotify::sys_inotify_init, Full;
    254 inotify_add_watch => super::inotify::sys_inotify_add_watch, Partial, "changes on the host's side";
    255 inotify_rm_watch => super::inotify::sys_inotify_rm_watch, Full;
    256 migrate_pages => super::numa::sys_migrate_pages, Full;
    257 openat => super::open::sys_openat, Full;
    258 mkdirat => super::dir::sys_mkdirat, Full;
    259 mknodat => super::dir::sys_mknodat, Full;
    260 fchownat => super::attr::sys_fchownat, Full;
    261 futimesat => super::attr::sys_futimesat, Full;
    262 newfstatat => super::stat::sys_newfstatat, Full;
    263 unlinkat => super::dir::sys_unlinkat, Full;
    264 renameat => super::dir::sys_renameat, Full;
    265 linkat => super::dir::sys_linkat, Full;
    266 symlinkat => super::dir::sys_symlinkat, Full;
    267 readlinkat => super::stat::sys_readlinkat, Full;
    268 fchmodat => super::attr::sys_fchmodat, Full;
    269 faccessat => super::stat::sys_faccessat, Full;
    270 pselect6 => super::poll::sys_pselect6, Full;
    271 ppoll => super::poll::sys_ppoll, Full;
    272 unshare => super::namespaces::sys_unshare, Full;
    273 set_robust_list => super::futex::sys_set_robust_list, Full;
    274 get_robust_list => super::futex::sys_get_robust_list, Full;
    275 splice => super::splice::sys_splice, Full;
    276 tee => super::splice::sys_tee, Full;
    277 sync_file_range => super::attr::sys_sync_file_range, Full;
    278 vmsplice => super::splice::sys_vmsplice, Partial, "pages are copied, not given";
    279 move_pages => super::numa::sys_move_pages, Full;
    280 utimensat => super::attr::sys_utimensat, Full;
    281 epoll_pwait => super::epoll::sys_epoll_pwait, Full;
    282 signalfd => super::event::sys_signalfd, Full;
    283 timerfd_create => super::event::sys_timerfd_create, Full;
    284 eventfd => super::event::sys_eventfd, Full;
    285 fallocate => super::attr::sys_fallocate, Full;
    286 timerfd_settime => super::event::sys_timerfd_settime, Full;
    287 timerfd_gettime => super::event::sys_timerfd_gettime, Full;
    288 accept4 => super::socket::sys_accept4, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route)";
    289 signalfd4 => super::event::sys_signalfd4, Full;
    290 eventfd2 => super::event::sys_eventfd2, Full;
    291 epoll_create1 => super::epoll::sys_epoll_create1, Full;
    292 dup3 => super::fcntl::sys_dup3, Full;
    293 pipe2 => super::event::sys_pipe2, Full;
    294 inotify_init1 => super::inotify::sys_inotify_init1, Full;
    295 preadv => super::read_write::sys_preadv, Full;
    296 pwritev => super::read_write::sys_pwritev, Full;
    297 rt_tgsigqueueinfo => super::signal::sys_rt_tgsigqueueinfo, Full;
    298 perf_event_open => None;
    299 recvmmsg => super::socket::sys_recvmmsg, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route)";
    300 fanotify_init => super::fanotify::sys_fanotify_init, Full;
    301 fanotify_mark => super::fanotify::sys_fanotify_mark, Partial, "changes on the host's side";
    302 prlimit64 => super::limits::sys_prlimit64, Full;
    303 name_to_handle_at => super::handle::sys_name_to_handle_at, Partial, "files in /proc and in writable binds have no handles";
    304 open_by_handle_at => super::handle::sys_open_by_handle_at, Partial, "a clean file of the host is found while it is remembered";
    305 clock_adjtime => super::timex::sys_clock_adjtime, Partial, "the clock's speed and TAI cannot be changed";
    306 syncfs => super::attr::sys_syncfs, Full;
    307 sendmmsg => super::socket::sys_sendmmsg, Partial, "AF_UNIX, AF_INET, AF_INET6 (TCP, UDP on loopback), AF_NETLINK (route)";
    308 setns => super::namespaces::sys_setns, Full;
    309 getcpu => super::sched::sys_getcpu, Full;
    310 process_vm_readv => super::process_vm::sys_process_vm_readv, Full;
    311 process_vm_writev => super::process_vm::sys_process_vm_writev, Full;
    312 kcmp => super::kcmp::sys_kcmp, Partial, "KCMP_EPOLL_TFD";
    313 finit_module => None;
    314 sched_setattr => super::sched::sys_sched_setattr, Partial, "kept, the host decides";
    315 sched_getattr => super::sched::sys_sched_getattr, Partial, "kept, the host decides";
    316 renameat2 => super::dir::sys_renameat2, Full;
    317 seccomp => super::seccomp::sys_seccomp, Partial, "strict mode does not forbid rdtsc";
    318 getrandom => super::misc::sys_getrandom, Full;
    319 memfd_create => super::event::sys_memfd_create, Partial, "huge pages";
    320 kexec_file_load => None;
    321 bpf => None;
    322 execveat => super::process::sys_execveat, Full;
    323 userfaultfd => None;
    324 membarrier => super::sched::sys_membarrier, Partial, "a registration outlasts an exec in place";
    325 mlock2 => super::mem::sys_mlock2, Full;
    326 copy_file_range => super::splice::sys_copy_file_range, Full;
    327 preadv2 => super::read_write::sys_preadv2, Full;
    328 pwritev2 => super::read_write::sys_pwritev2, Full;
    329 pkey_mprotect => super::mem::sys_pkey_mprotect, Full;
    330 pkey_alloc => super::advice::sys_pkey_alloc, Full;
    331 pkey_free => super::advice::sys_pkey_free, Full;
    332 statx => super::stat::sys_statx, Full;
    333 io_pgetevents => super::aio::sys_io_pgetevents, Full;
    334 rseq => None;
    335 uretprobe => None;
    424 pidfd_send_signal => super::event::sys_pidfd_send_signal, Full;
    425 io_uring_setup => None;
    426 io_uring_enter => None;
    427 io_uring_register => None;
    428 open_tree => super::mount_api::sys_open_tree, Full;
    429 move_mount => super::mount_api::sys_move_mount, Full;
    430 fsopen => super::mount_api::sys_fsopen, Partial, "messages";
    431 fsconfig => super::mount_api::sys_fsconfig, Partial, "paths, descriptors and blobs, which no file system here takes";
    432 fsmount => super::mount_api::sys_fsmount, Full;
    433 fspick => super::mount_api::sys_fspick, Full;
    434 pidfd_open => super::event::sys_pidfd_open, Full;
    435 clone3 => super::process::sys_clone3, Full;
    436 close_range => super::open::sys_close_range, Full;
    437 openat2 => super::open::sys_openat2, Full;
    438 pidfd_getfd => super::process_vm::sys_pidfd_getfd, Full;
    439 faccessat2 => super::stat::sys_faccessat2, Full;
    440 process_madvise => super::advice::sys_process_madvise, Full;
    441 epoll_pwait2 => super::epoll::sys_epoll_pwait2, Full;
    442 mount_setattr => super::mount_api::sys_mount_setattr, Partial, "mounts with other owners";
    443 quotactl_fd => super::admin::sys_quotactl_fd, Full;
    444 landlock_create_ruleset => super::landlock::sys_landlock_create_ruleset, Full;
    445 landlock_add_rule => super::landlock::sys_landlock_add_rule, Full;
    446 landlock_restrict_self => super::landlock::sys_landlock_restrict_self, Partial, "signals of a file's owner are not kept within a scope";
    447 memfd_secret => super::event::sys_memfd_secret, Partial, "the host may swap its pages; `vmsplice` copies them";
    448 process_mrelease => super::advice::sys_process_mrelease, Full;
    449 futex_waitv => super::futex::sys_futex_waitv, Full;
    450 set_mempolicy_home_node => super::numa::sys_set_mempolicy_home_node, Full;
    451 cachestat => super::advice::sys_cachestat, Partial, "files of the host count as cached wholly";
    452 fchmodat2 => super::attr::sys_fchmodat2, Full;
    453 map_shadow_stack => None;
    454 futex_wake => super::futex::sys_futex_wake, Full;
    455 futex_wait => super::futex::sys_futex_wait, Full;
    456 futex_requeue => super::futex::sys_futex_requeue, Full;
    457 statmount => super::statmount::sys_statmount, Partial, "mounts of other namespaces than the caller's";
    458 listmount => super::statmount::sys_listmount, Partial, "mounts of other namespaces than the caller's";
    459 lsm_get_self_attr => super::system::sys_lsm_get_self_attr, Full;
    460 lsm_set_self_attr => super::system::sys_lsm_set_self_attr, Full;
    461 lsm_list_modules => super::system::sys_lsm_list_modules, Full;
    462 mseal => super::advice::sys_mseal, Full;
    463 setxattrat => super::xattr::sys_setxattrat, Partial, "attributes of the host's files below an overlay, access control lists among them";
    464 getxattrat => super::xattr::sys_getxattrat, Partial, "attributes of the host's files below an overlay, access control lists among them";
    465 listxattrat => super::xattr::sys_listxattrat, Partial, "attributes of the host's files below an overlay, access control lists among them";
    466 removexattrat => super::xattr::sys_removexattrat, Partial, "attributes of the host's files below an overlay, access control lists among them";
    467 open_tree_attr => super::mount_api::sys_open_tree_attr, Partial, "mounts with other owners";
    468 file_getattr => super::file_attr::sys_file_getattr, Partial, "in writable binds";
    469 file_setattr => super::file_attr::sys_file_setattr, Partial, "in writable binds";
}
