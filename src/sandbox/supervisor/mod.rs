//! The supervisor: a single-threaded process between the program that holds a sandbox and the
//! sandbox's guests. It owns the descriptor table that they all share, reaps their host processes,
//! keeps timer and poller, and carries requests into the kernel image and events out of it.
//!
//! It is the holder's program, executed once more ([`apart`]). Where that cannot be it is a fork of the holder, so until
//! its end it must not touch locks of the holder's other threads: no printing through `std`, no environment, nothing
//! but memory and host calls. Or it is the holder itself ([`here`]), if that has nothing else to do.

mod apart;
mod children;
mod guard;
mod hold;
mod keeper;
mod revive;
mod serve;
mod texts;
mod vdso;
mod window;

use super::broker::{Broker, Owner};
use super::cgroup::{Bounds, Cgroup, Kept};
use super::channel::{self, FromSupervisor};
use super::error::{Error, Result};
use super::jail::{self, Jail};
use super::meter::Meter;
use super::namespaces::{self, Given};
use super::porter::{self, Porter};
use super::{filter, image};
pub use children::{Helper, is_orphan, watch};
use drupe_kernel::abi::control::{BootParams, Config, ImageHeader, MountSpec, NetMode};
use drupe_kernel::abi::layout;
pub use keeper::{END, keep};
pub use revive::{Revived, Saved, lift};
use seccompiler::sock_filter;
pub use serve::{Means, Server};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{io, ptr};
use window::Window;

/// Exit status of a sandbox whose kernel panicked.
pub const PANIC_STATUS: i32 = 70;
/// Exit status of a supervisor that did not end when its time was over.
pub const EXPIRED_STATUS: i32 = 124;

/// What a supervisor is started with. Descriptors are numbers that mean the same after a fork.
pub struct Plan {
    /// The sandbox's settings.
    pub config: Config,
    /// Descriptors that `config` names, to be kept open.
    pub keep: Vec<OwnedFd>,
    /// Directory of copies of code, if there shall be any beyond the sandbox's life.
    pub text_cache: Option<PathBuf>,
    /// What holds the sandbox.
    pub jail: Jail,
    /// What it was given of the host, of `keep`.
    pub given: jail::Reach,
    /// How long it may live.
    pub timeout: Option<Duration>,
    /// Whether the supervisor has a filter of its own.
    pub confined: bool,
    /// The kernel's code is to be memory of no file.
    pub perf_map: bool,
    /// The kernel and its processes are those of an image.
    pub saved: Option<Revived>,
    /// Who connects to the host's network for it.
    pub porter: Option<porter::Plan>,
}

impl Plan {
    /// The descriptors that its process must have.
    fn descriptors(&self) -> Vec<RawFd> {
        let porters = self.porter.iter().flat_map(|p| [&p.line, &p.control, &p.inner].map(AsRawFd::as_raw_fd));
        self.keep.iter().map(AsRawFd::as_raw_fd).chain(porters).collect()
    }

    /// The signal that ends the process of a supervisor of its own, and with it the sandbox.
    pub fn ending(&self) -> i32 {
        if self.kept() || self.jail == Jail::Namespaces { END } else { libc::SIGKILL }
    }

    /// Whether a process stays behind that ends the sandbox whatever has become of its supervisor.
    fn kept(&self) -> bool {
        self.jail == Jail::Strict || self.jail != Jail::Namespaces && self.timeout.is_some()
    }
}

/// Starts the supervisor, with its end of the control socket, and returns its process id. In the child of a fork this
/// does not return.
///
/// # Errors
/// The host's `EAGAIN` or `ENOMEM`.
pub fn start(plan: Plan, socket: OwnedFd) -> Result<libc::pid_t> {
    // SAFETY: no preconditions.
    let (me, tid) = unsafe { (libc::getpid(), libc::gettid()) };
    if me == tid {
        return start_now(plan, socket, me);
    }
    // The host's promise to end a child with its parent is about the *thread* that forked it: do it
    // from one that lives as long as the process.
    forker::run(move || start_now(plan, socket, me))
}

fn start_now(plan: Plan, socket: OwnedFd, holder: libc::pid_t) -> Result<libc::pid_t> {
    if let Some(pid) = apart::spawn(&plan, &socket, holder) {
        return Ok(pid);
    }
    // SAFETY: glibc's fork leaves the allocator usable in the child; the child keeps to what the
    // module's introduction says.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last("start the supervisor")),
        0 => child(plan, socket, holder),
        pid => Ok(pid),
    }
}

/// Makes this process the supervisor. Its signal `SIGCHLD` stays blocked, and its limits raised.
///
/// # Errors
/// A host that lacks what drupe needs; the host's.
pub fn here(plan: Plan) -> Result<Server> {
    let strangers = children::strangers();
    // SAFETY: plain numbers.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    watch_children(libc::SIG_BLOCK);
    let mut server = setup(plan, None, strangers, jail::permitted()?)?;
    server.begin();
    Ok(server)
}

/// A thread that forks on behalf of threads that may end before their sandboxes do.
mod forker {
    use super::{Error, Result};
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    type Job = Box<dyn FnOnce() + Send>;
    /// The thread's mailbox, and the process in which it exists.
    static THREAD: Mutex<Option<(u32, Sender<Job>)>> = Mutex::new(None);

    pub fn run<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (done, answer) = channel();
        let me = std::process::id();
        {
            let mut thread = THREAD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if thread.as_ref().is_none_or(|(owner, _)| *owner != me) {
                let (sender, jobs) = channel::<Job>();
                std::thread::Builder::new()
                    .name("drupe-fork".into())
                    .spawn(move || jobs.into_iter().for_each(|job| job()))
                    .map_err(|e| Error::host("start a thread", e))?;
                *thread = Some((me, sender));
            }
            if let Some((_, sender)) = thread.as_ref() {
                let _ = sender.send(Box::new(move || drop(done.send(job()))));
            }
        }
        answer.recv().unwrap_or_else(|_| Err(Error::Setting("the forking thread has ended".into())))
    }
}

/// The life of a supervisor of its own.
fn child(plan: Plan, socket: OwnedFd, holder: libc::pid_t) -> ! {
    // A number from here on: whatever fails, the socket is still there to say so.
    let socket = socket.into_raw_fd();
    let had = jail::permitted();
    let ready =
        detach(holder).and_then(|()| own_descriptors(socket, plan.descriptors())).and_then(|()| match plan.jail {
            Jail::Namespaces => namespaces::leave_pids(plan.timeout),
            _ if plan.kept() => keeper::leave(plan.timeout).map_err(|e| Error::host("start the supervisor", e)),
            _ => Ok(()),
        });
    let ready = ready.and(had);
    let status = match ready.and_then(|had| setup(plan, Some(socket), Vec::new(), had)) {
        Ok(server) => server.run(),
        Err(e) => {
            let failed = FromSupervisor::Failed {
                errno: e.errno().unwrap_or(0),
                unsupported: matches!(e, Error::Unsupported(_)),
                message: match &e {
                    Error::Unsupported(what) => what.clone(),
                    e => e.to_string(),
                },
            };
            // SAFETY: the socket is ours until the exit below.
            let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(socket) };
            let _ = channel::send(socket, &failed, &[]);
            125
        }
    };
    // SAFETY: ends this process without running the holder's exit handlers.
    unsafe { libc::_exit(status) }
}

/// Builds the window and boots the kernel in it. `had`: the capabilities that the user had before anything was done.
fn setup(plan: Plan, socket: Option<RawFd>, mut strangers: Vec<i32>, had: u64) -> Result<Server> {
    let Plan { mut config, keep, text_cache, jail, mut given, timeout, confined, perf_map, saved, porter } = plan;
    if !config.name.is_empty() {
        show_name(&config.name);
    }
    given.network = config.net == NetMode::Host;
    given.ordinary = config.uid != 0;
    raise_limits();
    jail::enter()?;
    unregister_rseq();
    if let Some(saved) = &saved {
        saved.take_places()?;
    }

    let mut texts = texts::Builder { cache: None };
    if config.rewrite {
        texts.cache = text_cache.as_deref().and_then(|dir| {
            texts::Cache::open(dir).unwrap_or_else(|why| {
                config.refused_cache = Some(format!("the cache of code {} is not used: {why}", dir.display()));
                None
            })
        });
        if let Some(cache) = &texts.cache {
            config.text_cache = cache.fd();
            given.cache = Some(cache.fd());
        }
    }
    let [a, b, c, d, e, f, g, h, ..] = config.seed;
    let window = match &saved {
        Some(saved) => saved.window()?,
        None => Window::new([a, b, c, d, e, f, g, h])?,
    };
    let header = image::load(window.base, window.as_fd(), perf_map, saved.is_some())?;
    window.map_data()?;
    let doorbell = event_fd()?;
    let proc = super::open_path(Path::new("/proc"))?;
    let bounds = Bounds { memory: config.memory, pids: config.pids, cpus: config.cpus };
    let group = if bounds == Bounds::default() { None } else { Cgroup::make(bounds) };
    let writable = jail == Jail::Off || given.writable();
    let porter = porter.map(Porter::start).transpose()?;
    let bridges = porter.is_some() || !config.publish.is_empty() || saved.as_ref().is_some_and(|s| s.published);
    // Whether names could lead out of what was given.
    let mut leads_out = jail != Jail::Off && jail != Jail::Namespaces && config.root_path != "/";
    if jail == Jail::Namespaces {
        namespaces::enter(&along(&given, proc.as_raw_fd(), &texts), given.network)?;
    } else if leads_out && may_leave(&given, socket.is_some()) && jail::may_mount(had) {
        leads_out = !namespaces::leave_mounts(&along(&given, proc.as_raw_fd(), &texts))?;
    }
    let naming = leads_out && window.seal_naming().is_ok();
    children::remember_list(proc.as_raw_fd());
    let detached = jail == Jail::Namespaces;
    let owner = Owner { uid: config.uid, gids: config.groups.iter().copied().chain([config.gid]).collect() };
    let broker =
        given.writable().then(|| Broker::start(&given.write, &owner, window.base, detached, had)).transpose()?;
    let others = |b: &Option<Broker>| {
        let helpers = b.as_ref().map(|b| b.helper.pid()).into_iter().chain(porter.as_ref().map(|p| p.helper.pid()));
        strangers.iter().copied().chain(helpers).collect::<Vec<_>>()
    };
    let kept = jail::kept(jail, &given, had);
    // Root removes a group from a directory that nobody may write to by this alone.
    let removing = if group.is_some() { 1 << jail::cap::DAC_OVERRIDE & had } else { 0 };
    let kept = kept | removing;
    let meter =
        bound(&config, group, |limit, group| Meter::start(proc.as_raw_fd(), &others(&broker), limit, kept, group))?;
    // One that stays is not ours to wait for.
    strangers.extend(meter.as_ref().filter(|m| m.stays).map(|m| m.helper.pid()));
    let (gate, sigreturn) = (header.gate_ip as *const () as u64, header.sigreturn_ip as *const () as u64);
    let naming = naming.then_some(window.base + layout::NAMING);
    let may = filter::May { write: writable, network: given.network, naming };
    let program = filter::build(gate, sigreturn, may)?;
    let inside = jail::shut(jail, &given, had)?;
    let standing = Standing {
        doorbell: doorbell.as_raw_fd(),
        proc: proc.as_raw_fd(),
        broker: broker.as_ref().map_or(-1, Broker::fd),
        naming: naming.is_some(),
    };
    let booted = boot(&header, &window, &standing, &config, &program, saved.as_ref());
    // The kernel owns these from here on, even if it has failed.
    std::mem::forget((proc, keep));
    if let Err(e) = booted {
        drop((broker, meter, porter));
        children::bury(&mut strangers, || {});
        return Err(e);
    }
    let cached = texts.cache.is_some();
    // One that has a keeper has it since before the jail was shut.
    let has_keeper = socket.is_some() && (jail == Jail::Strict || jail == Jail::Namespaces || timeout.is_some());
    let guarded = inside && !has_keeper;
    let means = Means { doorbell, texts, broker, meter, porter, guarded };
    let mut server = Server::new(socket, header, window, means, timeout, strangers)?;
    if let Some(saved) = saved {
        server.take_over(&saved);
    }
    server.knows([config.text_cache, config.log_fd, config.strace_fd, standing.proc]);
    if confined {
        // Not earlier: the host processes that boot makes would inherit it, and need it for nothing.
        filter::install(&filter::of_supervisor(cached, bridges, may)?)
            .map_err(|e| Error::host("confine the supervisor", e))?;
    }
    Ok(server)
}

/// Puts the sandbox into its control group, and starts the meter where there is something for it to do.
fn bound(
    config: &Config,
    group: Option<Cgroup>,
    start: impl Fn(u64, Option<Kept>) -> Result<Meter>,
) -> Result<Option<Meter>> {
    let kept = group.as_ref().and_then(|g| g.keep().ok());
    if config.memory == 0 && kept.is_none() {
        return Ok(None);
    }
    let meter = start(config.memory, kept)?;
    if let Some(mut group) = group {
        // Where it cannot be entered after all, the kernel's own accounting is what there is.
        let _ = group.enter();
    }
    Ok(Some(meter))
}

/// Whether nothing needs names as the host has them: the broker of writable binds does, and so does who saves the sandbox
/// of a supervisor that is a process of its own (`apart`).
fn may_leave(given: &jail::Reach, apart: bool) -> bool {
    !given.writable() && !apart
}

/// What the sandbox takes along where it leaves the host's mounts.
fn along(given: &jail::Reach, proc: RawFd, texts: &texts::Builder) -> Vec<Given> {
    let bind = |writable| move |&fd: &RawFd| Given { fd, writable, at: None };
    let mut all: Vec<Given> = given.read.iter().map(bind(false)).chain(given.write.iter().map(bind(true))).collect();
    all.push(Given { fd: proc, writable: false, at: Some(namespaces::PROC) });
    if let Some(cache) = &texts.cache {
        all.push(Given { fd: cache.fd(), writable: true, at: Some("cache") });
    }
    all
}

/// Leaves the holder's session, signals and fate in its host's hands: ends with it.
fn detach(holder: libc::pid_t) -> Result {
    // SAFETY: plain numbers, and signal sets on this stack; the process has one thread.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != holder {
            libc::_exit(125);
        }
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"drupe".as_ptr());
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        watch_children(libc::SIG_SETMASK);
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        libc::sigaltstack(&raw const none, ptr::null_mut());
    }
    Ok(())
}

/// Has the host's `ps` show this process as `drupe: NAME`, as far as there is room (15 bytes).
fn show_name(name: &str) {
    if let Ok(text) = std::ffi::CString::new(format!("drupe: {name}")) {
        // SAFETY: a C string, of which the host takes a copy.
        unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
    }
}

/// Makes a fork of the supervisor, whose pid is `maker`, a helper that ends with it and that no terminal concerns.
pub fn become_helper(maker: libc::pid_t, name: &CStr) {
    // SAFETY: plain numbers, a C string, and a signal set on this stack; the process has one thread.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != maker {
            libc::_exit(0);
        }
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// Blocks the signal of children's deaths, which is read from a descriptor; the only one with `SIG_SETMASK`.
fn watch_children(how: i32) {
    let set = children::deaths();
    // SAFETY: a set on this stack.
    unsafe { libc::sigprocmask(how, &raw const set, ptr::null_mut()) };
}

/// Keeps the socket, the plan's descriptors and stderr (for messages); everything else goes.
fn own_descriptors(socket: RawFd, mut keep: Vec<RawFd>) -> Result {
    keep.extend([socket, 2]);
    close_others(&keep)?;
    // 0, 1 and 2 must never be a guest's files: something may print there.
    // SAFETY: opens the null device and copies the descriptor; none of them is anybody's.
    unsafe {
        let mut fd = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        while (0..2).contains(&fd) {
            fd = libc::dup(fd);
        }
        if fd > 2 {
            libc::close(fd);
        }
    }
    Ok(())
}

/// Closes all descriptors but these.
///
/// # Errors
/// A host without `close_range(2)`.
pub fn close_others(keep: &[RawFd]) -> Result {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut next = 0;
    for fd in keep.into_iter().filter(|&fd| fd >= 0) {
        if fd > next {
            close_range(next as u32, fd as u32 - 1)?;
        }
        next = next.max(fd + 1);
    }
    close_range(next as u32, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result {
    // SAFETY: the fork's copies of the holder's descriptors belong to nobody in this process.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(Error::Unsupported("close_range is missing: the host's kernel is older than 5.10".into())),
    }
}

/// As many descriptors, and as large a file, as the host lets us have; no core dumps of the window.
fn raise_limits() {
    let core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // Only the privileged may; what a program may lock is decided by its own limits.
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: limits on this stack.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const core);
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all);
        for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_FSIZE, libc::RLIMIT_AS, libc::RLIMIT_MEMLOCK] {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::getrlimit(resource, &raw mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(resource, &raw const limit);
            }
        }
    }
}

// Where glibc (2.35 and later) says what it has registered: addresses of two of its variables, 0 in another C
// library. The dynamic linker finds them at the start; asking it here would cost a look-up in every fork.
std::arch::global_asm!(
    ".weak __rseq_offset, __rseq_size",
    ".globl drupe_rseq_variables",
    ".hidden drupe_rseq_variables",
    ".type drupe_rseq_variables, @function",
    "drupe_rseq_variables:",
    "mov rax, [rip + __rseq_offset@GOTPCREL]",
    "mov rdx, [rip + __rseq_size@GOTPCREL]",
    "ret",
);

/// What a function returns in rax and rdx.
#[repr(C)]
struct RseqVariables {
    offset: *const isize,
    size: *const u32,
}

unsafe extern "C" {
    fn drupe_rseq_variables() -> RseqVariables;
}

/// Withdraws the C library's rseq registration: a cloned child would inherit it, and die when its
/// page is gone.
fn unregister_rseq() {
    const RSEQ_FLAG_UNREGISTER: i32 = 1;
    const RSEQ_SIG: u32 = 0x5305_3053;
    // SAFETY: reads two variables of the C library where it has them; the system call only withdraws what it
    // finds registered for this thread.
    unsafe {
        let RseqVariables { offset, size } = drupe_rseq_variables();
        if offset.is_null() || size.is_null() || *size == 0 {
            return;
        }
        let thread: usize;
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly));
        let area = thread.wrapping_add_signed(*offset);
        // The length must be the registered one, which newer C libraries do not tell.
        let size = *size;
        let known = libc::getauxval(27 /* AT_RSEQ_FEATURE_SIZE */) as u32;
        for len in [size, 32, size.next_multiple_of(32), known, known.next_multiple_of(32), 64] {
            if libc::syscall(libc::SYS_rseq, area, len, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0 {
                return;
            }
        }
    }
}

fn event_fd() -> Result<OwnedFd> {
    // SAFETY: plain numbers; a descriptor made just now is ours.
    unsafe {
        match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
            -1 => Err(Error::last("make an event descriptor")),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// What the kernel has from the beginning, beside its settings: descriptors, and whether it names files with what the
/// window holds sealed.
struct Standing {
    doorbell: RawFd,
    proc: RawFd,
    broker: RawFd,
    naming: bool,
}

/// What was to be done with a mount.
fn mounting(mount: &MountSpec) -> String {
    match mount {
        MountSpec::Bind { source, dst, .. } => format!("bind {source} at {dst}"),
        MountSpec::Tmpfs { dst } => format!("mount a tmpfs at {dst}"),
    }
}

/// Calls the image's `boot`.
fn boot(
    header: &ImageHeader,
    window: &Window,
    standing: &Standing,
    config: &Config,
    program: &[sock_filter],
    saved: Option<&Revived>,
) -> Result {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr() as *mut libc::sock_filter };
    let mounts = &config.mounts;
    let config = postcard::to_stdvec(config).map_err(|e| Error::Setting(format!("settings cannot be encoded: {e}")))?;
    let params = BootParams {
        base: window.base,
        window_fd: window.fd(),
        doorbell_fd: standing.doorbell,
        proc_fd: standing.proc,
        broker_fd: standing.broker,
        vdso: vdso::move_to(window.base + layout::HOST_VDSO),
        filter: &raw const filter as u64,
        naming: u64::from(standing.naming),
        // SAFETY: reads the auxiliary vector.
        hwcap: unsafe { libc::getauxval(libc::AT_HWCAP) },
        // SAFETY: as above.
        min_sigstack: unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) },
        config: config.as_ptr(),
        config_len: config.len(),
    };
    // SAFETY: the header comes from the image that was mapped just now; the parameters, the filter
    // and the settings outlive the call.
    let answer = unsafe {
        match saved {
            Some(saved) => (header.restore)(&raw const params, saved.revival.as_ptr(), saved.revival.len()),
            None => (header.boot)(&raw const params),
        }
    };
    if answer < 0 && saved.is_some() {
        return Err(Error::host("restore the kernel", io::Error::from_raw_os_error(-answer as i32)));
    }
    if answer < 0 {
        let (which, errno) = ((-answer >> 16) as usize, (-answer & 0xffff) as i32);
        let what = which.checked_sub(1).and_then(|i| mounts.get(i)).map_or("boot the kernel".into(), mounting);
        return Err(Error::host(what, io::Error::from_raw_os_error(errno)));
    }
    Ok(())
}
