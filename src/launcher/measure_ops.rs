//! The operations that `drupe bench` measures. Raw calls, so that the C library's caches and the
//! standard library's checks are not what is measured. `unsafe` is the business of this file.

use super::measure::Operation;
use super::measure_net;
use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

type Prepare = fn() -> io::Result<Operation>;

/// Every row, in the order of the table.
pub const ROWS: &[(&str, Prepare)] = &[
    ("getppid", getppid),
    ("clock_gettime.call", clock_call),
    ("clock_gettime.vdso", clock_vdso),
    ("read.zero", read_zero),
    ("write.null", write_null),
    ("pread.tmpfs", pread_tmpfs),
    ("pwrite.tmpfs", pwrite_tmpfs),
    ("pipe.same", pipe_same),
    ("open.close", open_close),
    ("stat", stat),
    ("getdents.tmpfs", getdents),
    ("pread.host", pread_host),
    ("page.fault", page_fault),
    ("eventfd", eventfd),
    ("epoll_wait", epoll_wait),
    ("futex.wake", futex_wake),
    ("pipe.pingpong", pipe_pingpong),
    ("futex.pingpong", futex_pingpong),
    ("unix.pingpong", unix_pingpong),
    ("tcp.pingpong", tcp_pingpong),
    ("tcp.connect", measure_net::tcp_connect),
    ("tcp.64k", measure_net::tcp_piece),
    ("unix.64k", measure_net::unix_piece),
    ("mmap.munmap", mmap_munmap),
    ("mprotect", mprotect),
    ("signal.self", signal_self),
    ("thread", thread),
    ("fork", fork),
    ("fork.exec", fork_exec),
    ("vfork.exec", vfork_exec),
    // Last: its filter stays.
    (BARE_TRAP, bare_trap),
];

/// The round trip that every trapped call is made of, without a kernel in it. Only when it is asked for.
pub const BARE_TRAP: &str = "trap.bare";

pub fn check(ret: i64) -> io::Result<i64> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

pub fn new_fd(ret: i32) -> io::Result<OwnedFd> {
    check(ret.into())?;
    // SAFETY: the host has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(ret) })
}

/// An operation that is one fallible call, repeated.
pub fn each(mut call: impl FnMut() -> i64 + 'static) -> io::Result<Operation> {
    check(call())?;
    Ok(Box::new(move |n| (0..n).try_for_each(|_| check(call()).map(drop))))
}

/// A file of 64 KiB in memory, without a name.
pub fn shm_file() -> io::Result<std::fs::File> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).custom_flags(libc::O_TMPFILE).open("/dev/shm").or_else(|_| {
        let path = format!("/dev/shm/drupe-bench-{}", std::process::id());
        let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(path)?;
        io::Result::Ok(file)
    })?;
    file.write_all(&[7; 64 << 10])?;
    Ok(file)
}

fn getppid() -> io::Result<Operation> {
    // SAFETY: no arguments.
    each(|| unsafe { libc::syscall(libc::SYS_getppid) })
}

/// `getppid` in a plain process whose filter makes a SIGSYS of it, and whose handler answers a constant.
fn bare_trap() -> io::Result<Operation> {
    extern "C" fn answer(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the host passes the context of the call that trapped.
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RAX as usize] = 1 };
    }
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [
        step(0x20, 0, 0),
        step(0x15, 1, libc::SYS_getppid as u32),
        step(0x06, 0, libc::SECCOMP_RET_TRAP),
        step(0x06, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a handler that touches its context only; the filter outlives the call that copies it.
    unsafe {
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = answer as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        check(libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()).into())?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter).into())?;
    }
    getppid()
}

fn clock_call() -> io::Result<Operation> {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    each(move || unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut ts) })
}

fn clock_vdso() -> io::Result<Operation> {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    each(move || unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts).into() })
}

fn reading(file: std::fs::File, len: usize) -> io::Result<Operation> {
    let mut buf = vec![0u8; len];
    // SAFETY: reads at most the buffer's length.
    each(move || unsafe { libc::read(file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) as i64 })
}

fn read_zero() -> io::Result<Operation> {
    reading(std::fs::File::open("/dev/zero")?, 1)
}

fn write_null() -> io::Result<Operation> {
    let file = std::fs::File::options().write(true).open("/dev/null")?;
    // SAFETY: writes one byte of a constant.
    each(move || unsafe { libc::write(file.as_raw_fd(), b"x".as_ptr().cast(), 1) as i64 })
}

fn pread(file: std::fs::File) -> io::Result<Operation> {
    let mut buf = vec![0u8; 4096];
    // SAFETY: reads at most the buffer's length.
    each(move || unsafe { libc::pread(file.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 4096) as i64 })
}

fn pread_tmpfs() -> io::Result<Operation> {
    pread(shm_file()?)
}

fn pread_host() -> io::Result<Operation> {
    pread(std::fs::File::open("/proc/self/exe").or_else(|_| std::fs::File::open("/bin/sh"))?)
}

fn pwrite_tmpfs() -> io::Result<Operation> {
    let file = shm_file()?;
    let buf = vec![1u8; 4096];
    // SAFETY: writes the buffer.
    each(move || unsafe { libc::pwrite(file.as_raw_fd(), buf.as_ptr().cast(), buf.len(), 4096) as i64 })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// One byte in and out of a pair of descriptors.
fn byte(write: &OwnedFd, read: &OwnedFd) -> i64 {
    let mut b = 1u8;
    // SAFETY: one byte of this stack.
    unsafe {
        let sent = libc::write(write.as_raw_fd(), (&raw const b).cast(), 1);
        if sent == 1 { libc::read(read.as_raw_fd(), (&raw mut b).cast(), 1) as i64 } else { -1 }
    }
}

fn pipe_same() -> io::Result<Operation> {
    let (read, write) = pipe()?;
    each(move || byte(&write, &read))
}

fn open_close() -> io::Result<Operation> {
    // SAFETY: a constant path.
    each(|| unsafe {
        let fd = libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 { -1 } else { libc::close(fd).into() }
    })
}

fn stat() -> io::Result<Operation> {
    // SAFETY: all zeros is a valid stat, and the call writes one.
    each(|| unsafe {
        let mut st = std::mem::zeroed::<libc::stat>();
        libc::stat(c"/etc/passwd".as_ptr(), &raw mut st).into()
    })
}

fn getdents() -> io::Result<Operation> {
    let dir = format!("/dev/shm/drupe-bench-{}.d", std::process::id());
    std::fs::create_dir(&dir)?;
    let fill = || (0..100).try_for_each(|i| std::fs::write(format!("{dir}/entry-{i:03}"), b""));
    let opened = fill().and_then(|()| std::fs::File::open(&dir));
    let mut buf = vec![0u8; 32 << 10];
    let file = opened?;
    // Gone from sight at the end, whatever happens.
    struct Remove(String);
    impl Drop for Remove {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
    let remove = Remove(dir.clone());
    each(move || {
        let _keep = &remove;
        // SAFETY: writes at most the buffer's length.
        unsafe {
            libc::lseek(file.as_raw_fd(), 0, libc::SEEK_SET);
            loop {
                let n = libc::syscall(libc::SYS_getdents64, file.as_raw_fd(), buf.as_mut_ptr(), buf.len());
                if n <= 0 {
                    return n;
                }
            }
        }
    })
}

fn map(len: usize) -> *mut c_void {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping where the system likes.
    unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) }
}

fn page_fault() -> io::Result<Operation> {
    const PAGES: usize = 512;
    let area = map(PAGES * 4096);
    if area == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = area as usize;
    Ok(Box::new(move |n| {
        let mut left = n as usize;
        while left > 0 {
            let pages = left.min(PAGES);
            // SAFETY: our own mapping, of which nothing is kept.
            unsafe {
                check(libc::madvise(base as *mut c_void, PAGES * 4096, libc::MADV_DONTNEED).into())?;
                for i in 0..pages {
                    ((base + i * 4096) as *mut u8).write_volatile(1);
                }
            }
            left -= pages;
        }
        Ok(())
    }))
}

fn eventfd() -> io::Result<Operation> {
    // SAFETY: plain numbers.
    let fd = new_fd(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    let mut value = 1u64;
    // SAFETY: eight bytes of ours.
    each(move || unsafe {
        libc::write(fd.as_raw_fd(), (&raw const value).cast(), 8);
        libc::read(fd.as_raw_fd(), (&raw mut value).cast(), 8) as i64
    })
}

fn epoll_wait() -> io::Result<Operation> {
    // SAFETY: plain numbers.
    let (poller, ready) =
        unsafe { (new_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC))?, new_fd(libc::eventfd(1, libc::EFD_CLOEXEC))?) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: one event of ours.
    check(
        unsafe { libc::epoll_ctl(poller.as_raw_fd(), libc::EPOLL_CTL_ADD, ready.as_raw_fd(), &raw mut event) }.into(),
    )?;
    each(move || {
        let _keep = &ready;
        // SAFETY: room for one event.
        unsafe { libc::epoll_wait(poller.as_raw_fd(), &raw mut event, 1, -1).into() }
    })
}

fn futex(word: &AtomicU32, op: i32, value: u32) -> i64 {
    // SAFETY: a live word; no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op | libc::FUTEX_PRIVATE_FLAG, value, 0usize) }
}

fn futex_wake() -> io::Result<Operation> {
    let word = AtomicU32::new(0);
    each(move || futex(&word, libc::FUTEX_WAKE, 1))
}

/// Round trips with a thread that answers every byte.
fn pingpong(to: OwnedFd, there: OwnedFd, back: OwnedFd, from: OwnedFd) -> Operation {
    std::thread::spawn(move || {
        let mut b = 0u8;
        // SAFETY: one byte of this stack.
        unsafe {
            while libc::read(there.as_raw_fd(), (&raw mut b).cast(), 1) == 1
                && libc::write(back.as_raw_fd(), (&raw const b).cast(), 1) == 1
            {}
        }
    });
    Box::new(move |n| (0..n).try_for_each(|_| check(byte(&to, &from)).map(drop)))
}

fn pipe_pingpong() -> io::Result<Operation> {
    let ((there, to), (from, back)) = (pipe()?, pipe()?);
    Ok(pingpong(to, there, back, from))
}

fn unix_pingpong() -> io::Result<Operation> {
    let (a, b) = std::os::unix::net::UnixStream::pair()?;
    Ok(pingpong(a.try_clone()?.into(), b.try_clone()?.into(), b.into(), a.into()))
}

fn tcp_pingpong() -> io::Result<Operation> {
    let (a, b) = measure_net::connected()?;
    Ok(pingpong(a.try_clone()?.into(), b.try_clone()?.into(), b.into(), a.into()))
}

/// Two threads take turns on one word: even is ours, odd is the other's, `u32::MAX` ends it.
fn futex_pingpong() -> io::Result<Operation> {
    let word = Arc::new(AtomicU32::new(0));
    let other = word.clone();
    std::thread::spawn(move || {
        loop {
            let now = other.load(SeqCst);
            if now & 1 == 0 {
                futex(&other, libc::FUTEX_WAIT, now);
                continue;
            }
            other.store(now.wrapping_add(1), SeqCst);
            futex(&other, libc::FUTEX_WAKE, 1);
        }
    });
    Ok(Box::new(move |n| {
        for _ in 0..n {
            let mine = word.fetch_add(1, SeqCst).wrapping_add(1);
            futex(&word, libc::FUTEX_WAKE, 1);
            while word.load(SeqCst) == mine {
                futex(&word, libc::FUTEX_WAIT, mine);
            }
        }
        Ok(())
    }))
}

fn mmap_munmap() -> io::Result<Operation> {
    each(|| match map(4096) {
        libc::MAP_FAILED => -1,
        // SAFETY: mapped just now, unused.
        at => unsafe { libc::munmap(at, 4096).into() },
    })
}

fn mprotect() -> io::Result<Operation> {
    let area = map(8192) as usize;
    let mut writable = false;
    each(move || {
        writable = !writable;
        let prot = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a mapping of ours that nothing else uses.
        unsafe { libc::mprotect(area as *mut c_void, 4096, prot).into() }
    })
}

fn signal_self() -> io::Result<Operation> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    // SAFETY: plain numbers; the handler is set.
    each(|| unsafe { libc::raise(libc::SIGUSR1).into() })
}

fn thread() -> io::Result<Operation> {
    Ok(Box::new(|n| {
        (0..n).try_for_each(|_| {
            let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {})?;
            thread.join().map_err(|_| io::Error::other("the thread panicked"))
        })
    }))
}

/// Forks a child that does `there` and waits for it to end with status 0.
pub fn forked(there: impl Fn()) -> i64 {
    // SAFETY: the child makes system calls only.
    unsafe {
        match libc::fork() {
            0 => {
                there();
                libc::_exit(0)
            }
            pid => ended(pid),
        }
    }
}

fn ended(pid: i32) -> i64 {
    let mut status = 0;
    // SAFETY: writes one status.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if pid > 0 && reaped == pid && status == 0 { 0 } else { -1 }
}

fn fork() -> io::Result<Operation> {
    each(|| forked(|| {}))
}

/// A dynamic program that does nothing.
fn program() -> io::Result<CString> {
    let path = ["/bin/true", "/usr/bin/true"].into_iter().find(|p| std::path::Path::new(p).exists());
    path.and_then(|p| CString::new(p).ok()).ok_or_else(|| io::Error::other("there is no /bin/true"))
}

fn fork_exec() -> io::Result<Operation> {
    let program = program()?;
    each(move || {
        forked(|| {
            let argv = [program.as_ptr(), std::ptr::null()];
            // SAFETY: null-terminated lists of strings.
            unsafe {
                libc::execve(program.as_ptr(), argv.as_ptr(), [std::ptr::null()].as_ptr());
                libc::_exit(127);
            }
        })
    })
}

fn vfork_exec() -> io::Result<Operation> {
    let program = program()?;
    each(move || {
        let argv = [program.as_ptr().cast_mut(), std::ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: null-terminated lists of strings; posix_spawn is a vfork in the C library.
        let failed = unsafe {
            let (actions, attributes) = (std::ptr::null(), std::ptr::null());
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions,
                attributes,
                argv.as_ptr(),
                [std::ptr::null_mut()].as_ptr(),
            )
        };
        if failed == 0 { ended(pid) } else { -1 }
    })
}

/// Key of the row that is measured call by call.
pub const PATCH: &str = "patch";

/// What rewriting one site costs over a call that traps, ns: fresh code, each site called until it must
/// have become hot, its dearest call against its usual one.
pub fn patch() -> io::Result<Vec<f64>> {
    /// `mov $110, %eax; syscall; cmp $-4095, %rax; ret`: getppid as the C library has it.
    const CODE: [u8; 14] = [0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3];
    const SITES: usize = 64;
    const CALLS: usize = 12;
    let area = map(4096);
    if area == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh page of ours, which becomes code before it is called.
    unsafe {
        for i in 0..SITES {
            std::ptr::copy_nonoverlapping(CODE.as_ptr(), area.cast::<u8>().add(i * 64), CODE.len());
        }
        check(libc::mprotect(area, 4096, libc::PROT_READ | libc::PROT_EXEC).into())?;
    }
    let mut costs = Vec::new();
    for i in 0..SITES {
        // SAFETY: the code above.
        let call = unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(area as usize + i * 64) };
        let mut ns: Vec<f64> = (0..CALLS)
            .map(|_| {
                let start = std::time::Instant::now();
                call();
                start.elapsed().as_nanos() as f64
            })
            .collect();
        ns.sort_by(f64::total_cmp);
        // Calls behind the patch are cheap, those in front of it trap; it comes once.
        costs.push(ns[CALLS - 1] - ns[CALLS - 2]);
    }
    Ok(costs)
}
