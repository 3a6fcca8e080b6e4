//! The operations that `drupe bench --scale` measures: what one costs beside so many things of its kind. Raw calls, as
//! in `measure_ops`. `unsafe` is the business of this file.

use super::measure::Operation;
use super::measure_names::{create, mount, open};
use super::measure_net::beside_idle;
use super::measure_ops::{check, each, forked, new_fd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

type Prepare = fn(usize) -> io::Result<Operation>;

/// A row: its key, what a person reads, how to prepare it beside so many, and beside how many it is measured.
pub struct Row {
    pub key: &'static str,
    pub name: &'static str,
    pub prepare: Prepare,
    pub sizes: &'static [usize],
}

/// Every row. The largest sizes are what the limits of an ordinary host allow.
pub const ROWS: &[Row] = &[
    Row { key: "fork", name: "fork+exit+wait beside N processes", prepare: fork, sizes: &[10, 100, 1000] },
    Row { key: "mmap", name: "mmap+munmap beside N mappings", prepare: mmap, sizes: &[10, 1000, 30_000] },
    Row { key: "wait", name: "eventfd write+read, N poll another", prepare: waiters, sizes: &[10, 1000] },
    Row { key: "queue", name: "poll of a queue that N wait in", prepare: queue, sizes: &[10, 1000] },
    Row { key: "locks", name: "file lock+unlock beside N locks", prepare: locks, sizes: &[10, 1000, 100_000] },
    Row { key: "epoll", name: "epoll_wait, one of N ready", prepare: epoll, sizes: &[10, 1000, 10_000] },
    Row { key: "futex", name: "futex wake beside N waiters", prepare: futexes, sizes: &[10, 1000] },
    Row { key: "timers", name: "timerfd set beside N armed", prepare: timers, sizes: &[10, 1000, 10_000] },
    Row { key: "ports", name: "bind of a free port+close beside N", prepare: ports, sizes: &[10, 1000, 10_000] },
    Row {
        key: "idle",
        name: "TCP byte there and back beside N idle",
        prepare: beside_idle,
        // Each takes two descriptors, of which many hosts give no more than 20,000.
        sizes: &[10, 1000, 9_500],
    },
    Row { key: "names", name: "bind of a local name+close beside N", prepare: names, sizes: &[10, 1000, 10_000] },
    Row { key: "open", name: "open+close beside N files", prepare: open, sizes: &[10, 1000, 100_000] },
    Row { key: "create", name: "create+unlink beside N files", prepare: create, sizes: &[10, 1000, 100_000] },
    Row { key: "mount", name: "bind mount+umount beside N mounts", prepare: mount, sizes: &[10, 1000, 5000] },
    Row { key: "proc", name: "listing of /proc, per process of N", prepare: proc, sizes: &[10, 1000] },
];

/// As many descriptors as the host lets this process have.
pub fn many_descriptors(wanted: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: limits on this stack.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit).into())?;
        limit.rlim_cur = limit.rlim_max.min(limit.rlim_cur.max(wanted as u64 + 64));
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit).into()).map(drop)
    }
}

fn event() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    new_fd(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Sleeping children that end with this value.
struct Sleepers(Vec<libc::pid_t>);

impl Sleepers {
    fn new(n: usize) -> io::Result<Sleepers> {
        let mut all = Sleepers(Vec::with_capacity(n));
        for _ in 0..n {
            // SAFETY: the child makes plain calls only.
            match unsafe { libc::fork() } {
                -1 => return Err(io::Error::last_os_error()),
                // SAFETY: as above.
                0 => loop {
                    unsafe { libc::pause() };
                },
                pid => all.0.push(pid),
            }
        }
        Ok(all)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // SAFETY: children of ours that nobody has waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for &pid in &self.0 {
            // SAFETY: as above; no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// Threads with small stacks that wait until this value goes.
fn threads(n: usize, wait: impl Fn(usize) + Send + Sync + 'static) -> io::Result<()> {
    let wait = Arc::new(wait);
    let begun = Arc::new(AtomicU32::new(0));
    for i in 0..n {
        let (wait, begun) = (wait.clone(), begun.clone());
        std::thread::Builder::new().stack_size(32 << 10).spawn(move || {
            begun.fetch_add(1, SeqCst);
            wait(i);
        })?;
    }
    while (begun.load(SeqCst) as usize) < n {
        std::thread::yield_now();
    }
    // The last of them may still be on their way to sleep.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Ok(())
}

fn fork(n: usize) -> io::Result<Operation> {
    let sleepers = Sleepers::new(n)?;
    each(move || {
        let _keep = &sleepers;
        forked(|| {})
    })
}

fn mmap(n: usize) -> io::Result<Operation> {
    let map = |protection| {
        // SAFETY: a new mapping.
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }
    };
    // Neighbours differ, so that none becomes one with another.
    for i in 0..n {
        if map(if i % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE }) == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
    }
    each(move || match map(libc::PROT_READ | libc::PROT_WRITE) {
        libc::MAP_FAILED => -1,
        // SAFETY: mapped just now, used by nobody.
        at => unsafe { libc::munmap(at, 4096).into() },
    })
}

fn poll_one(fd: i32, timeout: i32) -> i64 {
    let mut one = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one record of ours.
    unsafe { libc::poll(&raw mut one, 1, timeout).into() }
}

fn write_and_read(fd: i32) -> i64 {
    let mut value = 1u64;
    // SAFETY: eight bytes of ours.
    unsafe {
        if libc::write(fd, (&raw const value).cast(), 8) < 0 {
            -1
        } else {
            libc::read(fd, (&raw mut value).cast(), 8) as i64
        }
    }
}

fn waiters(n: usize) -> io::Result<Operation> {
    let (other, own) = (Arc::new(event()?), event()?);
    let watched = other.clone();
    threads(n, move |_| {
        poll_one(watched.as_raw_fd(), -1);
    })?;
    each(move || {
        let _keep = &other;
        write_and_read(own.as_raw_fd())
    })
}

fn queue(n: usize) -> io::Result<Operation> {
    let quiet = Arc::new(event()?);
    let watched = quiet.clone();
    threads(n, move |_| {
        poll_one(watched.as_raw_fd(), -1);
    })?;
    // Into the queue and out of it again: with a limit that is over at once the host does not even enter it.
    each(move || {
        let mut fds = [libc::pollfd { fd: quiet.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        let limit = libc::timespec { tv_sec: 0, tv_nsec: 1 };
        // SAFETY: one record and a limit of ours.
        unsafe { libc::ppoll(fds.as_mut_ptr(), 1, &raw const limit, std::ptr::null()).into() }
    })
}

fn locks(n: usize) -> io::Result<Operation> {
    let file = super::measure_ops::shm_file()?;
    let lock = move |file: &std::fs::File, kind: i32, at: usize| {
        // SAFETY: all zeros are one.
        let mut range = unsafe { std::mem::zeroed::<libc::flock>() };
        range.l_type = kind as libc::c_short;
        range.l_whence = libc::SEEK_SET as libc::c_short;
        (range.l_start, range.l_len) = (at as i64, 1);
        // SAFETY: reads one record.
        unsafe { i64::from(libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const range)) }
    };
    // Not side by side: those would be one.
    for i in 0..n {
        check(lock(&file, libc::F_WRLCK, 2 * i))?;
    }
    // In the middle of them.
    let at = n / 2 * 2 + 1;
    each(move || match lock(&file, libc::F_WRLCK, at) {
        -1 => -1,
        _ => lock(&file, libc::F_UNLCK, at),
    })
}

fn epoll(n: usize) -> io::Result<Operation> {
    many_descriptors(n)?;
    // SAFETY: plain numbers.
    let poller = new_fd(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    let mut all = Vec::new();
    for _ in 0..n {
        let fd = event()?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: one event of ours.
        check(
            unsafe { libc::epoll_ctl(poller.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) }.into(),
        )?;
        all.push(fd);
    }
    let one = 1u64;
    // SAFETY: eight bytes of ours.
    check(unsafe { libc::write(all[n / 2].as_raw_fd(), (&raw const one).cast(), 8) as i64 })?;
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    each(move || {
        let _keep = &all;
        // SAFETY: room for one event.
        unsafe { libc::epoll_wait(poller.as_raw_fd(), &raw mut event, 1, -1).into() }
    })
}

fn futex(word: &AtomicU32, op: i32) -> i64 {
    // SAFETY: a live word; no timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            op | libc::FUTEX_PRIVATE_FLAG,
            i32::from(op == libc::FUTEX_WAKE),
            0usize,
        )
    }
}

fn futexes(n: usize) -> io::Result<Operation> {
    // One word in each cache line, as in programs.
    let words: Arc<Vec<AtomicU32>> = Arc::new((0..(n + 1) * 16).map(|_| AtomicU32::new(0)).collect());
    let theirs = words.clone();
    threads(n, move |i| {
        futex(&theirs[i * 16], libc::FUTEX_WAIT);
    })?;
    each(move || futex(&words[n * 16], libc::FUTEX_WAKE))
}

fn timers(n: usize) -> io::Result<Operation> {
    many_descriptors(n)?;
    let arm = |fd: &OwnedFd, seconds: usize| {
        let at = libc::timespec { tv_sec: seconds as i64, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        // SAFETY: reads one record.
        i64::from(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) })
    };
    let mut all = Vec::new();
    for i in 0..n {
        // SAFETY: plain numbers.
        let fd = new_fd(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) })?;
        check(arm(&fd, 1000 + i))?;
        all.push(fd);
    }
    let mut turn = 0;
    each(move || {
        turn += 1;
        arm(&all[n / 2], 1000 + turn % n)
    })
}

/// A TCP socket that has some free port.
fn bound() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let socket = new_fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: all zeros are one.
    let mut at = unsafe { std::mem::zeroed::<libc::sockaddr_in>() };
    at.sin_family = libc::AF_INET as libc::sa_family_t;
    at.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
    // SAFETY: reads one address.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size_of_val(&at) as u32).into() })?;
    Ok(socket)
}

fn ports(n: usize) -> io::Result<Operation> {
    many_descriptors(n)?;
    let all: Vec<OwnedFd> = (0..n).map(|_| bound()).collect::<io::Result<_>>()?;
    each(move || {
        let _keep = &all;
        if bound().is_ok() { 0 } else { -1 }
    })
}

/// A local socket with a name that no file stands for.
fn named(name: &str) -> io::Result<std::os::unix::net::UnixDatagram> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

fn names(n: usize) -> io::Result<Operation> {
    many_descriptors(n)?;
    let id = std::process::id();
    let all: Vec<_> = (0..n).map(|i| named(&format!("drupe-bench-{id}-{i}"))).collect::<io::Result<_>>()?;
    let another = format!("drupe-bench-{id}-another");
    each(move || {
        let _keep = &all;
        if named(&another).is_ok() { 0 } else { -1 }
    })
}

fn proc(n: usize) -> io::Result<Operation> {
    let sleepers = Sleepers::new(n)?;
    let list = || -> io::Result<usize> { Ok(std::fs::read_dir("/proc")?.count()) };
    list()?;
    Ok(Box::new(move |times| {
        let _keep = &sleepers;
        // What is counted is processes: their number is what the cost is told for.
        (0..times.div_ceil(n as u64)).try_for_each(|_| list().map(drop))
    }))
}
