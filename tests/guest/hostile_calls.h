/* What each call takes, for `hostile.c`. A call that is not here gets six arguments of any kind. */

enum kind {
    ANY, FD, DIRFD, SOCK, EPOLL, TIMERFD, PIDFD, PIPE, WATCH, /* descriptors, by what the call wants */
    PATH, MOUNT, TEXT, NAME,                                  /* strings: paths, mount points, words, attributes */
    BUF, OUT, LEN, SMALL, OFF, OFFP,                          /* memory, sizes and offsets */
    ADDR, ALEN,                                               /* own mappings */
    PID, TID, ID, SIG, CPU, TIMER,                            /* numbers */
    CLOCK, TS, ITS, TV, ITV,                                  /* times */
    IOV, SA, SALEN, SALENP, MSG, MMSG, EVENT, POLLS, SET, SETLEN, INFO, ACTION, STACK, SIGEV, FDPAIR, FDS, ARGV,
    CLONEARGS, LOCK, RLIM, ATTR, CAPH, WORDS, HOW, ROBUST, BPF, WAITV,    /* structures */
    ONE, FLAGS,                                               /* one of these words, or some of them together */
};

struct arg {
    unsigned char kind, n;
    const uint64_t *set;
};

#define COUNT_OF(...) (sizeof((uint64_t[]){__VA_ARGS__}) / 8)
#define ONE(...) {ONE, COUNT_OF(__VA_ARGS__), (const uint64_t[]){__VA_ARGS__}}
#define FLAGS(...) {FLAGS, COUNT_OF(__VA_ARGS__), (const uint64_t[]){__VA_ARGS__}}
#define A(k) {k}
#define C(name, ...) [SYS_##name] = {__VA_ARGS__}

/* Newer than the headers of some distributions. */
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif
#ifndef SYS_lsm_get_self_attr
#define SYS_lsm_get_self_attr 459
#endif
#ifndef SYS_lsm_set_self_attr
#define SYS_lsm_set_self_attr 460
#endif
#ifndef SYS_lsm_list_modules
#define SYS_lsm_list_modules 461
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#endif
#ifndef SYS_getxattrat
#define SYS_getxattrat 464
#endif
#ifndef SYS_listxattrat
#define SYS_listxattrat 465
#endif
#ifndef SYS_removexattrat
#define SYS_removexattrat 466
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468
#endif
#ifndef SYS_file_setattr
#define SYS_file_setattr 469
#endif

#define OPEN_FLAGS                                                                                                    \
    FLAGS(O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_NONBLOCK, O_DIRECTORY,         \
          O_NOFOLLOW, O_CLOEXEC, O_PATH, O_SYNC, O_TMPFILE, O_NOATIME, O_ASYNC, O_DIRECT)
#define AT_FLAGS FLAGS(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_FOLLOW, AT_REMOVEDIR)
#define MODES FLAGS(0777, 0600, S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFCHR, 0, 04000, 01000)
#define PROTS FLAGS(0, PROT_READ, PROT_WRITE, PROT_EXEC, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_GROWSDOWN)
#define MSG_FLAGS                                                                                                     \
    FLAGS(MSG_DONTWAIT, MSG_DONTWAIT, MSG_PEEK, MSG_OOB, MSG_TRUNC, MSG_WAITALL, MSG_NOSIGNAL, MSG_EOR, MSG_MORE,      \
          MSG_CMSG_CLOEXEC, MSG_ERRQUEUE, MSG_WAITFORONE, MSG_CTRUNC)
#define FAMILIES ONE(AF_UNIX, AF_UNIX, AF_INET, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNSPEC)
#define TYPES                                                                                                         \
    ONE(SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW, SOCK_STREAM | SOCK_NONBLOCK, SOCK_DGRAM | SOCK_NONBLOCK,    \
        SOCK_STREAM | SOCK_CLOEXEC)
#define PROTOCOLS ONE(0, 0, 0, IPPROTO_TCP, IPPROTO_UDP, NETLINK_SOCK_DIAG, IPPROTO_ICMP, 255)
#define LEVELS ONE(SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_NETLINK, 263)
#define FD_FLAGS FLAGS(0, O_NONBLOCK, O_CLOEXEC, O_DIRECT)
#define ITIMERS ONE(ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF, 3)
#define XATTR_FLAGS FLAGS(0, 1, 2)
#define RW_FLAGS FLAGS(0, 0, RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND)
#define SPLICES FLAGS(SPLICE_F_NONBLOCK, SPLICE_F_NONBLOCK, SPLICE_F_MOVE, SPLICE_F_MORE, SPLICE_F_GIFT)
#define WAITS FLAGS(WNOHANG, WNOHANG, WNOWAIT, WEXITED, WSTOPPED, WCONTINUED, WUNTRACED, __WALL, __WCLONE, __WNOTHREAD)
#define POLICIES ONE(SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE, 6, SCHED_OTHER | 0x40000000)
#define LIMITS ONE(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
#define MOUNT_FLAGS                                                                                                   \
    FLAGS(0, MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE,     \
          MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MS_STRICTATIME, MS_SILENT)
#define CLONE_FLAGS                                                                                                   \
    FLAGS(SIGCHLD, SIGCHLD, SIGUSR1, CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_VM | CLONE_SIGHAND, CLONE_PTRACE,           \
          CLONE_VFORK, CLONE_PARENT, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, CLONE_NEWNS, CLONE_SYSVSEM, CLONE_SETTLS, \
          CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_UNTRACED, CLONE_CHILD_SETTID, CLONE_NEWPID, CLONE_IO,        \
          CLONE_PIDFD)
#define SPACES                                                                                                        \
    FLAGS(0, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_NEWUSER, CLONE_NEWPID,         \
          CLONE_FS, CLONE_FILES, CLONE_SYSVSEM, CLONE_VM, CLONE_SIGHAND, CLONE_THREAD)
#define FCNTLS                                                                                                        \
    ONE(F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG, \
        F_SETOWN_EX, F_GETOWN_EX, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_GETLEASE, F_NOTIFY,              \
        F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT, F_SET_RW_HINT, 17, 1036)
#define IOCTLS                                                                                                        \
    ONE(FIONREAD, FIONBIO, FIOASYNC, FIOCLEX, FIONCLEX, 0x5460, TCGETS, TCSETS, TCSETSW, TIOCGWINSZ, TIOCSWINSZ,        \
        TIOCGPGRP, TIOCSPGRP, TIOCSCTTY, TIOCNOTTY, TIOCGSID, TIOCOUTQ, TIOCSTI, TIOCEXCL, 0x80045430, 0x40045431,       \
        SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFINDEX, SIOCGIFNAME, SIOCATMARK, SIOCGIFMTU, 0x89e0, 2, 1,        \
        0x40049409, 0xc020660b, 0x40085400, 0x8008660b, 0xff01, 0xff0b)
#define OPTIONS                                                                                                       \
    ONE(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 32,   \
        33, 35, 36, 37, 38, 39, 41, 47, 50, 52, 53, 55, 57, 59, 60, 61, 62, 65, 66, 67, 70, 72, 100, 103)
#define FUTEXES                                                                                                       \
    ONE(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 128, 129, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141,   \
        256, 257, 265, 393)
#define IPC_KEYS ONE(0, 0, 1, 2, 3)
#define IPC_IDS ONE(0, 1, 2, 3, 4, 5, 6, 7, 32768, 32769, 65536, -1)
#define IPC_FLAGS FLAGS(IPC_CREAT | 0600, IPC_CREAT | 0666, IPC_EXCL, 0, 010000)
#define IPC_COMMANDS ONE(0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
#define FUTEX2 FLAGS(2, 2, 2, 128, 1, 4)
#define TRACES                                                                                                        \
    ONE(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 24, 30, 31, 32, 33, 0x4200, 0x4201, 0x4202, 0x4203,        \
        0x4204, 0x4205, 0x4206, 0x4207, 0x4208, 0x4209, 0x420a, 0x420b, 0x420c, 0x420d, 0x420e, 0x420f, 0x4210, 0x4211)
#define ADVICE                                                                                                        \
    ONE(MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK, \
        MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK,        \
        MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT, 22, 23, 25)

static const struct arg calls[NUMBERS][6] = {
    C(read, A(FD), A(OUT), A(LEN)), C(write, A(FD), A(BUF), A(LEN)),
    C(open, A(PATH), OPEN_FLAGS, MODES), C(creat, A(PATH), MODES), C(close, A(FD)),
    C(stat, A(PATH), A(OUT)), C(fstat, A(FD), A(OUT)), C(lstat, A(PATH), A(OUT)),
    C(poll, A(POLLS), A(SMALL), A(SMALL)), C(lseek, A(FD), A(OFF), ONE(0, 1, 2, 3, 4)),
    C(mmap, A(ADDR), A(ALEN), PROTS,
      FLAGS(MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS,
            MAP_FIXED, MAP_FIXED, MAP_POPULATE, MAP_NORESERVE, MAP_GROWSDOWN, MAP_LOCKED, MAP_STACK, MAP_FIXED_NOREPLACE,
            MAP_SYNC, MAP_HUGETLB),
      A(FD), A(OFF)),
    C(mprotect, A(ADDR), A(ALEN), PROTS), C(munmap, A(ADDR), A(ALEN)), C(brk, A(ADDR)),
    C(rt_sigaction, A(SIG), A(ACTION), A(OUT), A(SETLEN)),
    C(rt_sigprocmask, ONE(SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK), A(SET), A(OUT), A(SETLEN)),
    C(ioctl, A(FD), IOCTLS, A(BUF)), C(pread64, A(FD), A(OUT), A(LEN), A(OFF)), C(pwrite64, A(FD), A(BUF), A(LEN), A(OFF)),
    C(readv, A(FD), A(IOV), A(SMALL)), C(writev, A(FD), A(IOV), A(SMALL)), C(access, A(PATH), FLAGS(0, 1, 2, 4)),
    C(pipe, A(OUT)), C(select, A(SMALL), A(FDS), A(FDS), A(FDS), A(TV)),
    C(mremap, A(ADDR), A(ALEN), A(ALEN), FLAGS(0, MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_FIXED, 4), A(ADDR)),
    C(msync, A(ADDR), A(ALEN), FLAGS(0, MS_ASYNC, MS_SYNC, MS_INVALIDATE)), C(mincore, A(ADDR), A(ALEN), A(OUT)),
    C(madvise, A(ADDR), A(ALEN), ADVICE), C(dup, A(FD)), C(dup2, A(FD), A(FD)), C(dup3, A(FD), A(FD), FD_FLAGS),
    C(nanosleep, A(TS), A(OUT)), C(getitimer, ITIMERS, A(OUT)), C(alarm, A(SMALL)),
    C(setitimer, ITIMERS, A(ITV), A(OUT)), C(sendfile, A(FD), A(FD), A(OFFP), A(LEN)), C(socket, FAMILIES, TYPES, PROTOCOLS),
    C(connect, A(SOCK), A(SA), A(SALEN)), C(accept, A(SOCK), A(OUT), A(SALENP)),
    C(sendto, A(SOCK), A(BUF), A(LEN), MSG_FLAGS, A(SA), A(SALEN)),
    C(recvfrom, A(SOCK), A(OUT), A(LEN), MSG_FLAGS, A(OUT), A(SALENP)), C(sendmsg, A(SOCK), A(MSG), MSG_FLAGS),
    C(recvmsg, A(SOCK), A(MSG), MSG_FLAGS), C(shutdown, A(SOCK), ONE(0, 1, 2, 3)), C(bind, A(SOCK), A(SA), A(SALEN)),
    C(listen, A(SOCK), A(SMALL)), C(getsockname, A(SOCK), A(OUT), A(SALENP)), C(getpeername, A(SOCK), A(OUT), A(SALENP)),
    C(socketpair, FAMILIES, TYPES, PROTOCOLS, A(OUT)), C(setsockopt, A(SOCK), LEVELS, OPTIONS, A(BUF), A(SALEN)),
    C(getsockopt, A(SOCK), LEVELS, OPTIONS, A(OUT), A(SALENP)),
    C(clone, CLONE_FLAGS, A(BUF), A(OUT), A(OUT), A(BUF)), C(execve, A(PATH), A(ARGV), A(ARGV)), C(exit, A(SMALL)),
    C(wait4, A(PID), A(OUT), WAITS, A(OUT)), C(kill, A(PID), A(SIG)), C(uname, A(OUT)), C(fcntl, A(FD), FCNTLS, A(LOCK)),
    C(flock, A(FD), FLAGS(LOCK_SH, LOCK_EX, LOCK_UN, LOCK_NB, LOCK_NB)), C(fsync, A(FD)), C(fdatasync, A(FD)),
    C(truncate, A(PATH), A(OFF)), C(ftruncate, A(FD), A(OFF)), C(getdents, A(DIRFD), A(OUT), A(LEN)), C(getcwd, A(OUT), A(LEN)),
    C(chdir, A(PATH)), C(fchdir, A(DIRFD)), C(rename, A(PATH), A(PATH)), C(mkdir, A(PATH), MODES), C(rmdir, A(PATH)),
    C(link, A(PATH), A(PATH)), C(unlink, A(PATH)), C(symlink, A(PATH), A(PATH)), C(readlink, A(PATH), A(OUT), A(LEN)),
    C(chmod, A(PATH), MODES), C(fchmod, A(FD), MODES), C(chown, A(PATH), A(ID), A(ID)), C(fchown, A(FD), A(ID), A(ID)),
    C(lchown, A(PATH), A(ID), A(ID)), C(umask, MODES), C(gettimeofday, A(OUT), A(OUT)), C(getrlimit, LIMITS, A(OUT)),
    C(getrusage, ONE(0, -1, -2, 1), A(OUT)), C(sysinfo, A(OUT)), C(times, A(OUT)), C(ptrace, TRACES, A(TID), A(ADDR), A(BUF)),
    C(syslog, ONE(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), A(OUT), A(LEN)), C(setuid, A(ID)), C(setgid, A(ID)),
    C(setpgid, A(PID), A(PID)), C(setreuid, A(ID), A(ID)), C(setregid, A(ID), A(ID)), C(getgroups, A(SMALL), A(OUT)),
    C(setgroups, A(SMALL), A(BUF)), C(setresuid, A(ID), A(ID), A(ID)), C(getresuid, A(OUT), A(OUT), A(OUT)),
    C(setresgid, A(ID), A(ID), A(ID)), C(getresgid, A(OUT), A(OUT), A(OUT)), C(getpgid, A(PID)), C(setfsuid, A(ID)),
    C(setfsgid, A(ID)), C(getsid, A(PID)), C(capget, A(CAPH), A(OUT)), C(capset, A(CAPH), A(WORDS)),
    C(rt_sigpending, A(OUT), A(SETLEN)), C(rt_sigtimedwait, A(SET), A(OUT), A(TS), A(SETLEN)),
    C(rt_sigqueueinfo, A(PID), A(SIG), A(INFO)), C(rt_sigsuspend, A(SET), A(SETLEN)), C(sigaltstack, A(STACK), A(OUT)),
    C(utime, A(PATH), A(TV)), C(mknod, A(PATH), MODES, ONE(0, 0x103, 0x105, 0x801)),
    C(personality, ONE(0, 0xffffffff, 0x40000, 0x8, 0x0040000)), C(statfs, A(PATH), A(OUT)), C(fstatfs, A(FD), A(OUT)),
    C(getpriority, ONE(0, 1, 2, 3), A(PID)), C(setpriority, ONE(0, 1, 2, 3), A(PID), ONE(0, 1, 19, -20, 100)),
    C(sched_setparam, A(TID), A(WORDS)), C(sched_getparam, A(TID), A(OUT)), C(sched_setscheduler, A(TID), POLICIES, A(WORDS)),
    C(sched_getscheduler, A(TID)), C(sched_get_priority_max, POLICIES), C(sched_get_priority_min, POLICIES),
    C(sched_rr_get_interval, A(TID), A(OUT)), C(mlock, A(ADDR), A(ALEN)), C(munlock, A(ADDR), A(ALEN)),
    C(mlockall, FLAGS(1, 2, 4)), C(pivot_root, A(MOUNT), A(MOUNT)), C(prctl, OPTIONS, A(BUF), A(BUF), A(LEN), A(SMALL)),
    C(arch_prctl, ONE(0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012, 0x5001), A(OUT)), C(adjtimex, A(WORDS)),
    C(setrlimit, LIMITS, A(RLIM)), C(chroot, A(MOUNT)), C(settimeofday, A(TV), A(OUT)),
    C(mount, A(MOUNT), A(MOUNT), A(TEXT), MOUNT_FLAGS, A(TEXT)), C(umount2, A(MOUNT), FLAGS(0, 1, 2, 4, 8)),
    C(sethostname, A(TEXT), A(SMALL)), C(setdomainname, A(TEXT), A(SMALL)), C(readahead, A(FD), A(OFF), A(LEN)),
    C(setxattr, A(PATH), A(NAME), A(BUF), A(LEN), XATTR_FLAGS), C(lsetxattr, A(PATH), A(NAME), A(BUF), A(LEN), XATTR_FLAGS),
    C(fsetxattr, A(FD), A(NAME), A(BUF), A(LEN), XATTR_FLAGS), C(getxattr, A(PATH), A(NAME), A(OUT), A(LEN)),
    C(lgetxattr, A(PATH), A(NAME), A(OUT), A(LEN)), C(fgetxattr, A(FD), A(NAME), A(OUT), A(LEN)),
    C(listxattr, A(PATH), A(OUT), A(LEN)), C(llistxattr, A(PATH), A(OUT), A(LEN)), C(flistxattr, A(FD), A(OUT), A(LEN)),
    C(removexattr, A(PATH), A(NAME)), C(lremovexattr, A(PATH), A(NAME)), C(fremovexattr, A(FD), A(NAME)),
    C(tkill, A(TID), A(SIG)), C(time, A(OUT)), C(futex, A(BUF), FUTEXES, A(SMALL), A(TS), A(BUF), A(SMALL)),
    C(sched_setaffinity, A(TID), A(SMALL), A(WORDS)), C(sched_getaffinity, A(TID), A(LEN), A(OUT)), C(epoll_create, A(SMALL)),
    C(remap_file_pages, A(ADDR), A(ALEN), ONE(0), A(SMALL), FLAGS(0, MAP_NONBLOCK)),
    C(getdents64, A(DIRFD), A(OUT), A(LEN)), C(set_tid_address, A(OUT)),
    C(fadvise64, A(FD), A(OFF), A(OFF), ONE(0, 1, 2, 3, 4, 5, 6)), C(timer_create, A(CLOCK), A(SIGEV), A(OUT)),
    C(timer_settime, A(TIMER), FLAGS(0, 1), A(ITS), A(OUT)), C(timer_gettime, A(TIMER), A(OUT)), C(timer_getoverrun, A(TIMER)),
    C(timer_delete, A(TIMER)), C(clock_settime, A(CLOCK), A(TS)), C(clock_gettime, A(CLOCK), A(OUT)),
    C(clock_getres, A(CLOCK), A(OUT)), C(clock_nanosleep, A(CLOCK), FLAGS(0, 1), A(TS), A(OUT)), C(exit_group, A(SMALL)),
    C(epoll_wait, A(EPOLL), A(OUT), A(SMALL), A(SMALL)), C(epoll_ctl, A(EPOLL), ONE(1, 1, 1, 2, 3), A(FD), A(EVENT)),
    C(tgkill, A(PID), A(TID), A(SIG)), C(utimes, A(PATH), A(TV)),
    C(waitid, ONE(0, 1, 2, 3), A(PID), A(OUT), WAITS, A(OUT)), C(ioprio_set, ONE(1, 2, 3), A(PID), ONE(0, 0x2004, 0x6007)),
    C(ioprio_get, ONE(1, 2, 3), A(PID)), C(inotify_add_watch, A(WATCH), A(PATH), FLAGS(1, 2, 4, 8, 0x100, 0x200, 0xfff, 1u << 31)),
    C(inotify_rm_watch, A(WATCH), A(SMALL)), C(openat, A(DIRFD), A(PATH), OPEN_FLAGS, MODES), C(mkdirat, A(DIRFD), A(PATH), MODES),
    C(mknodat, A(DIRFD), A(PATH), MODES, A(SMALL)), C(fchownat, A(DIRFD), A(PATH), A(ID), A(ID), AT_FLAGS),
    C(futimesat, A(DIRFD), A(PATH), A(TV)), C(newfstatat, A(DIRFD), A(PATH), A(OUT), AT_FLAGS),
    C(unlinkat, A(DIRFD), A(PATH), AT_FLAGS), C(renameat, A(DIRFD), A(PATH), A(DIRFD), A(PATH)),
    C(linkat, A(DIRFD), A(PATH), A(DIRFD), A(PATH), AT_FLAGS), C(symlinkat, A(PATH), A(DIRFD), A(PATH)),
    C(readlinkat, A(DIRFD), A(PATH), A(OUT), A(LEN)), C(fchmodat, A(DIRFD), A(PATH), MODES),
    C(faccessat, A(DIRFD), A(PATH), FLAGS(0, 1, 2, 4)), C(pselect6, A(SMALL), A(FDS), A(FDS), A(FDS), A(TS), A(WORDS)),
    C(ppoll, A(POLLS), A(SMALL), A(TS), A(SET), A(SETLEN)), C(set_robust_list, A(ROBUST), ONE(24, 24, 23)),
    C(get_robust_list, A(TID), A(OUT), A(OUT)), C(splice, A(FD), A(OFFP), A(PIPE), A(OFFP), A(LEN), SPLICES),
    C(tee, A(PIPE), A(PIPE), A(LEN), SPLICES), C(sync_file_range, A(FD), A(OFF), A(OFF), FLAGS(0, 1, 2, 4)),
    C(vmsplice, A(PIPE), A(IOV), A(SMALL), SPLICES), C(utimensat, A(DIRFD), A(PATH), A(ITS), AT_FLAGS),
    C(epoll_pwait, A(EPOLL), A(OUT), A(SMALL), A(SMALL), A(SET), A(SETLEN)), C(signalfd, A(FD), A(SET), A(SETLEN)),
    C(timerfd_create, A(CLOCK), FD_FLAGS), C(eventfd, A(SMALL)), C(fallocate, A(FD), FLAGS(0, 1, 2, 1 | 2, 8, 16, 32), A(OFF), A(OFF)),
    C(timerfd_settime, A(TIMERFD), FLAGS(0, 1, 2), A(ITS), A(OUT)), C(timerfd_gettime, A(TIMERFD), A(OUT)),
    C(accept4, A(SOCK), A(OUT), A(SALENP), FD_FLAGS), C(signalfd4, A(FD), A(SET), A(SETLEN), FD_FLAGS),
    C(eventfd2, A(SMALL), FLAGS(0, 1, O_NONBLOCK, O_CLOEXEC)), C(epoll_create1, FD_FLAGS), C(pipe2, A(OUT), FD_FLAGS),
    C(io_setup, ONE(1, 8, 100, 0, 70000), A(WORDS)), C(io_submit, A(ADDR), ONE(0, 1, 3), A(WORDS)), C(io_destroy, A(ADDR)),
    C(io_getevents, A(ADDR), A(SMALL), A(SMALL), A(WORDS), A(TS)), C(io_cancel, A(ADDR), A(WORDS), A(WORDS)),
    C(io_pgetevents, A(ADDR), A(SMALL), A(SMALL), A(WORDS), A(TS), A(WORDS)),
    C(fanotify_init, FLAGS(1, 2, 4, 8, 0x10, 0x20, 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000, 0x4000), OPEN_FLAGS),
    C(fanotify_mark, A(WATCH), FLAGS(1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400),
      FLAGS(1, 2, 4, 8, 0x10, 0x20, 0xfff, 0x1000, 0x8000000, 0x10000000, 0x40000000), A(DIRFD), A(PATH)),
    C(landlock_create_ruleset, A(WORDS), ONE(8, 16, 24), ONE(0, 1, 2)), C(landlock_add_rule, A(FD), ONE(1, 2), A(WORDS), ONE(0)),
    /* Whoever restricts itself could not go on. */
    C(landlock_restrict_self, ONE(-1), FLAGS(1, 2, 4, 8)),
    C(acct, A(PATH)), C(quotactl, FLAGS(0x80000100, 0x500, 0x80000700, 1, 2, 3), A(PATH), A(SMALL), A(OUT)),
    C(quotactl_fd, A(FD), FLAGS(0x80000100, 0x500, 0x80000700, 1, 2, 3), A(SMALL), A(OUT)), C(swapoff, A(PATH)),
    C(swapon, A(PATH), FLAGS(0x8000, 0x10000, 0x20000, 0x40000, 1)),
    /* None of the commands that end everything. */
    C(reboot, ONE(0xfee1dead, 0xfee1dead, 1), ONE(672274793, 85072278, 1), ONE(0, 0x89abcdef, 1), A(ANY)),
    C(open_tree_attr, A(DIRFD), A(PATH), FLAGS(0, 1, AT_EMPTY_PATH, 0x8000, O_CLOEXEC), A(WORDS), ONE(32, 16, 40)),
    C(inotify_init1, FD_FLAGS), C(preadv, A(FD), A(IOV), A(SMALL), A(OFF), A(OFF)), C(pwritev, A(FD), A(IOV), A(SMALL), A(OFF), A(OFF)),
    C(rt_tgsigqueueinfo, A(PID), A(TID), A(SIG), A(INFO)), C(recvmmsg, A(SOCK), A(MMSG), A(SMALL), MSG_FLAGS, A(TS)),
    C(prlimit64, A(PID), LIMITS, A(RLIM), A(OUT)), C(clock_adjtime, A(CLOCK), A(WORDS)), C(syncfs, A(FD)),
    C(sendmmsg, A(SOCK), A(MMSG), A(SMALL), MSG_FLAGS), C(getcpu, A(OUT), A(OUT)),
    C(process_vm_readv, A(PID), A(IOV), A(SMALL), A(IOV), A(SMALL), ONE(0)),
    C(process_vm_writev, A(PID), A(IOV), A(SMALL), A(IOV), A(SMALL), ONE(0)),
    C(unshare, SPACES), C(setns, A(FD), SPACES), C(kcmp, A(PID), A(PID), ONE(0, 1, 2, 3, 4, 5, 6, 7), A(FD), A(FD)), C(sched_setattr, A(TID), A(ATTR), ONE(0)),
    C(sched_getattr, A(TID), A(OUT), A(LEN), ONE(0)), C(renameat2, A(DIRFD), A(PATH), A(DIRFD), A(PATH), FLAGS(0, 1, 2, 4)),
    C(getrandom, A(OUT), A(LEN), FLAGS(0, 1, 2, 4)), C(memfd_create, A(TEXT), FLAGS(0, 1, 2, 8)),
    C(memfd_secret, FLAGS(0, 1, 02000000)),
    C(execveat, A(DIRFD), A(PATH), A(ARGV), A(ARGV), AT_FLAGS), C(membarrier, FLAGS(0, 1, 2, 4, 8, 16, 32, 64), ONE(0)),
    C(mlock2, A(ADDR), A(ALEN), FLAGS(0, 1)), C(copy_file_range, A(FD), A(OFFP), A(FD), A(OFFP), A(LEN), ONE(0)),
    C(preadv2, A(FD), A(IOV), A(SMALL), A(OFF), A(OFF), RW_FLAGS), C(pwritev2, A(FD), A(IOV), A(SMALL), A(OFF), A(OFF), RW_FLAGS),
    C(pkey_mprotect, A(ADDR), A(ALEN), PROTS, ONE(-1, 0)), C(statx, A(DIRFD), A(PATH), AT_FLAGS, FLAGS(0xfff, 0x1000, 0x2000), A(OUT)),
    C(pidfd_send_signal, A(PIDFD), A(SIG), A(INFO), FLAGS(0, 1, 2)), C(pidfd_open, A(PID), FLAGS(0, O_NONBLOCK, O_EXCL)),
    C(clone3, A(CLONEARGS), ONE(64, 72, 80, 88, 88, 88)), C(close_range, A(FD), A(FD), FLAGS(0, 2, 4)),
    C(openat2, A(DIRFD), A(PATH), A(HOW), ONE(24, 24, 32, 16)), C(pidfd_getfd, A(PIDFD), A(FD), ONE(0)),
    C(faccessat2, A(DIRFD), A(PATH), FLAGS(0, 1, 2, 4), AT_FLAGS),
    C(epoll_pwait2, A(EPOLL), A(OUT), A(SMALL), A(TS), A(SET), A(SETLEN)), C(fchmodat2, A(DIRFD), A(PATH), MODES, AT_FLAGS),
    C(shmget, IPC_KEYS, A(LEN), IPC_FLAGS), C(shmat, IPC_IDS, A(ADDR), FLAGS(0, 010000, 020000, 040000, 0100000)),
    C(shmdt, A(ADDR)), C(shmctl, IPC_IDS, IPC_COMMANDS, A(OUT)), C(semget, IPC_KEYS, A(SMALL), IPC_FLAGS),
    C(semop, IPC_IDS, A(WORDS), A(SMALL)), C(semtimedop, IPC_IDS, A(WORDS), A(SMALL), A(TS)),
    C(semctl, IPC_IDS, A(SMALL), IPC_COMMANDS, A(BUF)), C(msgget, IPC_KEYS, IPC_FLAGS),
    C(msgsnd, IPC_IDS, A(WORDS), A(SMALL), FLAGS(IPC_NOWAIT, IPC_NOWAIT, 0)),
    C(msgrcv, IPC_IDS, A(OUT), A(LEN), A(SMALL), FLAGS(IPC_NOWAIT, IPC_NOWAIT, 010000, 020000, 040000)),
    C(msgctl, IPC_IDS, IPC_COMMANDS, A(OUT)), C(mq_open, A(TEXT), OPEN_FLAGS, MODES, A(WORDS)), C(mq_unlink, A(TEXT)),
    C(mq_timedsend, A(FD), A(BUF), A(LEN), A(SMALL), A(TS)), C(mq_timedreceive, A(FD), A(OUT), A(LEN), A(OUT), A(TS)),
    C(mq_notify, A(FD), A(SIGEV)), C(mq_getsetattr, A(FD), A(WORDS), A(OUT)),
    [449] = {A(WORDS), A(SMALL), ONE(0), A(TS), A(CLOCK)}, [454] = {A(BUF), A(SMALL), A(SMALL), FUTEX2},
    [455] = {A(BUF), A(SMALL), A(SMALL), FUTEX2, A(TS), A(CLOCK)}, [456] = {A(WORDS), ONE(0), A(SMALL), A(SMALL)},
    C(seccomp, ONE(0, 1, 1, 1, 2, 3), FLAGS(0, 1, 2, 4, 8, 16, 32), A(BPF)),
    C(futex_waitv, A(WAITV), A(SMALL), ONE(0), A(TS), ONE(0, 1, 2)),
    C(futex_wake, A(BUF), A(SMALL), A(SMALL), ONE(0, 1, 2, 2, 0x82, 4)),
    C(futex_wait, A(BUF), A(SMALL), A(SMALL), ONE(0, 1, 2, 2, 0x82, 4), A(TS), ONE(0, 1, 2)),
    C(futex_requeue, A(WAITV), ONE(0), A(SMALL), A(SMALL)),
    C(ustat, A(SMALL), A(OUT)), C(sysfs, ONE(1, 2, 3), A(TEXT), A(OUT)),
    C(name_to_handle_at, A(DIRFD), A(PATH), A(BUF), A(OUT), FLAGS(0, 0x200, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW)),
    C(open_by_handle_at, A(DIRFD), A(BUF), OPEN_FLAGS), C(pkey_alloc, ONE(0), ONE(0, 1, 2)), C(pkey_free, A(SMALL)),
    C(mount_setattr, A(DIRFD), A(MOUNT), FLAGS(0, AT_EMPTY_PATH, 0x8000, AT_SYMLINK_NOFOLLOW), A(WORDS), ONE(32, 24, 40)),
    C(process_mrelease, A(PIDFD), ONE(0)), C(set_mempolicy_home_node, A(ADDR), A(ALEN), ONE(0, 1), ONE(0)),
    C(cachestat, A(FD), A(BUF), A(OUT), ONE(0, 1)), C(lsm_get_self_attr, A(SMALL), A(OUT), A(OFFP), FLAGS(0, 1)),
    C(lsm_set_self_attr, A(SMALL), A(BUF), A(LEN), ONE(0)), C(lsm_list_modules, A(OUT), A(OFFP), ONE(0)),
    C(mseal, A(ADDR), A(ALEN), ONE(0)),
    C(setxattrat, A(DIRFD), A(PATH), AT_FLAGS, A(NAME), A(WORDS), ONE(16, 24, 8)),
    C(getxattrat, A(DIRFD), A(PATH), AT_FLAGS, A(NAME), A(WORDS), ONE(16, 24, 8)),
    C(listxattrat, A(DIRFD), A(PATH), AT_FLAGS, A(OUT), A(LEN)),
    C(removexattrat, A(DIRFD), A(PATH), AT_FLAGS, A(NAME)),
    C(file_getattr, A(DIRFD), A(PATH), A(OUT), ONE(24, 32, 16), AT_FLAGS),
    C(file_setattr, A(DIRFD), A(PATH), A(BUF), ONE(24, 32, 16), AT_FLAGS),
    C(mbind, A(ADDR), A(ALEN), ONE(0, 1, 2, 3, 4, 5, 6, 0x8002), A(BUF), A(SMALL), FLAGS(0, 1, 2, 4)),
    C(set_mempolicy, ONE(0, 1, 2, 3, 4, 5, 6, 0x8002), A(BUF), A(SMALL)),
    C(get_mempolicy, A(OUT), A(OUT), A(SMALL), A(ADDR), FLAGS(0, 1, 2, 4)),
    C(migrate_pages, A(PID), A(SMALL), A(BUF), A(BUF)),
    C(move_pages, A(PID), A(SMALL), A(BUF), A(BUF), A(OUT), FLAGS(0, 2, 4)),
    C(process_madvise, A(PIDFD), A(IOV), A(SMALL), ADVICE, ONE(0)), C(fsopen, A(TEXT), ONE(0, 1)),
    C(fsconfig, A(FD), ONE(0, 1, 2, 3, 4, 5, 6, 7, 8), A(TEXT), A(TEXT), A(SMALL)),
    C(fsmount, A(FD), ONE(0, 1), FLAGS(0, 1, 2, 4, 8)), C(fspick, A(DIRFD), A(MOUNT), FLAGS(0, 1, 2, 4, 8)),
    C(open_tree, A(DIRFD), A(PATH), FLAGS(0, 1, AT_EMPTY_PATH, 0x8000, O_CLOEXEC)),
    C(add_key, A(TEXT), A(TEXT), A(BUF), A(LEN), ONE(-1, -2, -3, -4, -5)), C(request_key, A(TEXT), A(TEXT), A(TEXT), ONE(0, -1, -3)),
    C(keyctl, ONE(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 17, 21, 30), ONE(-1, -2, -3, -4, -5), ONE(-1, -2, -3, -4, -5), A(LEN), A(SMALL)),
    C(statmount, A(WORDS), A(OUT), A(LEN), ONE(0, 1)), C(listmount, A(WORDS), A(OUT), A(SMALL), ONE(0, 1, 2)),
    C(move_mount, A(DIRFD), A(MOUNT), A(DIRFD), A(MOUNT), FLAGS(0, 4, 0x40, 0x10)),
};
