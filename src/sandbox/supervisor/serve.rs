//! The supervisor's loop: one epoll over the control socket, the death of host processes, the
//! kernel's doorbell, its timer, and whatever host descriptors the kernel has armed.

use super::PANIC_STATUS;
use super::children::{self, dead_child, forget};
use super::guard::{self, Guard};
use super::texts::Builder;
use super::window::Window;
use crate::sandbox::broker::Broker;
use crate::sandbox::channel::{self, Channel, FromSupervisor, Received, ToSupervisor};
use crate::sandbox::error::{Error, Result};
use crate::sandbox::meter::Meter;
use crate::sandbox::porter::Porter;
use drupe_kernel::abi::control::{Event, ImageHeader, Request, Response};
use drupe_kernel::abi::text::TextPlan;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr};

/// Largest answer to one request.
const ANSWER_MAX: usize = 4 << 20;
/// Events taken from the host at a time.
const BATCH: usize = 64;

/// How long there may be too much memory in use before the host ends a process instead of the kernel, ns.
const GRACE: u64 = 1_000_000_000;

/// Tokens of the loop's own descriptors; an armed descriptor's token is its number.
const CONTROL: u64 = 1 << 40;
const CHILDREN: u64 = 2 << 40;
const DOORBELL: u64 = 3 << 40;
const TIMER: u64 = 4 << 40;

/// Why the loop ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// The holder said so, or is gone.
    Told,
    /// The kernel panicked.
    Panic,
}

/// Who holds the sandbox.
pub enum Holder {
    /// A process at the other end of the control socket.
    Apart(Channel),
    /// This process itself: what there is to say to it waits here.
    Here(VecDeque<FromSupervisor>),
}

/// The running supervisor.
pub struct Server {
    pub(super) holder: Holder,
    image: ImageHeader,
    window: Window,
    pub(super) epoll: OwnedFd,
    pub(super) children: OwnedFd,
    pub(super) doorbell: OwnedFd,
    pub(super) timer: OwnedFd,
    /// Deadline that the timer is set to.
    deadline: u64,
    /// How long the sandbox may live, and until when (host monotonic ns).
    limit: Option<(Duration, u64)>,
    /// What each armed descriptor waits for.
    pub(super) armed: HashMap<RawFd, u32>,
    /// Armed descriptors that the host cannot poll: plain files, always ready.
    pub(super) always_ready: Vec<(RawFd, u32)>,
    answer: Vec<u8>,
    texts: Builder,
    pub(super) broker: Option<Broker>,
    pub(super) meter: Option<Meter>,
    porter: Option<Porter>,
    guard: Option<Guard>,
    /// When one is to be made, host monotonic ns; `u64::MAX`: never.
    guard_due: u64,
    strangers: Vec<i32>,
    /// How many of the holder's programs have not ended; `None` before there was one.
    pub(super) running: Option<usize>,
    /// The kernel keeps processes in reserve, which do not end by themselves.
    pub(super) reserve: bool,
    ended: Option<End>,
    buried: bool,
    /// Descriptors that the settings name and that are none of the kernel's objects.
    pub(super) named: Vec<RawFd>,
    /// What was asked while the sandbox was held still.
    pub(super) postponed: VecDeque<(u64, Request, Vec<OwnedFd>)>,
}

/// What a server works with besides the kernel.
pub struct Means {
    /// The kernel rings it.
    pub doorbell: OwnedFd,
    /// Makes copies of code.
    pub texts: Builder,
    /// Changes mode, owner and times of the host's files, where something is writable.
    pub broker: Option<Broker>,
    /// Knows how much memory processes have, where it is bounded.
    pub meter: Option<Meter>,
    /// Connects to the host's network, where something there is allowed.
    pub porter: Option<Porter>,
    /// Whether a guard can end what outlives the supervisor.
    pub guarded: bool,
}

impl Server {
    /// Sets the loop's descriptors up. A socket becomes its own unless that fails. `strangers` are children of
    /// this process that it had before.
    ///
    /// # Errors
    /// The host's.
    pub fn new(
        socket: Option<RawFd>,
        image: ImageHeader,
        window: Window,
        means: Means,
        timeout: Option<Duration>,
        strangers: Vec<i32>,
    ) -> Result<Server> {
        let Means { doorbell, texts, broker, meter, porter, guarded } = means;
        let owned = |fd: i32, what: &str| match fd {
            -1 => Err(Error::last(what)),
            // SAFETY: made just now.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        };
        // SAFETY: plain numbers, and a signal set on this stack.
        let (epoll, children, timer) = unsafe {
            let set = children::deaths();
            (
                owned(libc::epoll_create1(libc::EPOLL_CLOEXEC), "make a poller")?,
                owned(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK), "watch children")?,
                owned(
                    libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK),
                    "make a timer",
                )?,
            )
        };
        let poll = |fd: RawFd, token| {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
            // SAFETY: reads one event of ours.
            match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
                0 => Ok(()),
                _ => Err(Error::last("poll")),
            }
        };
        if let Some(socket) = socket {
            poll(socket, CONTROL)?;
        }
        poll(children.as_raw_fd(), CHILDREN)?;
        poll(doorbell.as_raw_fd(), DOORBELL)?;
        poll(timer.as_raw_fd(), TIMER)?;
        let holder = match socket {
            // SAFETY: the caller's, which leaves it to us.
            Some(socket) => Holder::Apart(Channel::new(unsafe { OwnedFd::from_raw_fd(socket) })),
            None => Holder::Here(VecDeque::new()),
        };
        Ok(Server {
            holder,
            image,
            window,
            epoll,
            children,
            doorbell,
            timer,
            deadline: u64::MAX,
            limit: timeout.map(|limit| (limit, now().saturating_add(limit.as_nanos().min(u64::MAX.into()) as u64))),
            armed: HashMap::new(),
            always_ready: Vec::new(),
            answer: vec![0; ANSWER_MAX],
            texts,
            broker,
            meter,
            porter,
            guard: None,
            guard_due: if guarded { now().saturating_add(guard::AFTER.as_nanos() as u64) } else { u64::MAX },
            strangers,
            running: None,
            reserve: false,
            ended: None,
            buried: false,
            named: Vec::new(),
            postponed: VecDeque::new(),
        })
    }

    /// Serves until the end and returns the exit status; no process of the sandbox is left then.
    pub fn run(mut self) -> i32 {
        // What boot has left to do comes first.
        let mut turn = self.say(FromSupervisor::Started).and_then(|()| self.after_kernel());
        let end = loop {
            if let Err(end) = turn {
                break end;
            }
            turn = self.turn(true);
        };
        self.bury();
        match end {
            End::Told => 0,
            End::Panic => PANIC_STATUS,
        }
    }

    /// Does what boot has left to do.
    pub fn begin(&mut self) {
        self.ended = self.after_kernel().err();
    }

    /// What there is to say to the holder in this process; with `wait`, when there is something. The sandbox
    /// lives on in these calls only: [`Server::as_fd`] is readable when one is due.
    pub fn receive(&mut self, wait: bool) -> Received<FromSupervisor> {
        let mut looked = false;
        loop {
            if let Holder::Here(said) = &mut self.holder
                && let Some(message) = said.pop_front()
            {
                return Received::Message(message, Vec::new());
            }
            if self.ended.is_some() {
                return Received::HungUp;
            }
            if looked && !wait {
                return Received::Pending;
            }
            looked = true;
            self.ended = self.turn(wait).err();
        }
    }

    /// Puts a request of the holder in this process; the answer is the next thing said.
    ///
    /// # Errors
    /// `EPIPE` after the end.
    pub fn request(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) -> io::Result<()> {
        if self.ended.is_none() {
            let response = self.ask(request, fds);
            let told = self.say(FromSupervisor::Reply { id, response }).and_then(|()| self.after_kernel());
            self.ended = told.err();
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::EPIPE))
    }

    /// Ends the sandbox, with every process in it.
    pub fn bury(&mut self) {
        self.ended.get_or_insert(End::Told);
        if std::mem::replace(&mut self.buried, true) {
            return;
        }
        (self.broker, self.meter, self.porter, self.guard) = (None, None, None, None);
        // Most often the only program has ended, and its process is about to.
        if self.running == Some(0) && !self.reserve {
            self.window.unmap();
            if !children::none_left(&mut self.strangers) {
                children::bury(&mut self.strangers, || {});
            }
            return;
        }
        // While they end: what the host has to take down for us takes it as long.
        children::bury(&mut self.strangers, || self.window.unmap());
    }

    /// Serves what is due; with `wait`, when there is something.
    fn turn(&mut self, wait: bool) -> Result<(), End> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let wait = if wait && self.always_ready.is_empty() { -1 } else { 0 };
        // SAFETY: the host writes at most BATCH events.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), BATCH as i32, wait) };
        for (fd, ready) in std::mem::take(&mut self.always_ready) {
            // SAFETY: an image entry, from the supervisor's only thread.
            unsafe { (self.image.host_ready)(fd, ready) };
        }
        for event in events.iter().take(n.max(0) as usize) {
            self.one(event.u64, event.events)?;
        }
        self.after_kernel()?;
        if !self.always_ready.is_empty() && matches!(self.holder, Holder::Here(_)) {
            self.ring();
        }
        Ok(())
    }

    /// Makes the poller's descriptor readable: there is something due that the host will not tell of.
    pub(super) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of ours; the descriptor does not block.
        unsafe { libc::write(self.doorbell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn one(&mut self, token: u64, ready: u32) -> Result<(), End> {
        match token {
            CONTROL => self.requests()?,
            CHILDREN => {
                drain(self.children.as_raw_fd(), 128);
                self.reap();
            }
            DOORBELL => drain(self.doorbell.as_raw_fd(), 8),
            TIMER => {
                drain(self.timer.as_raw_fd(), 8);
                self.deadline = u64::MAX;
                if let Some((limit, until)) = self.limit
                    && now() >= until
                {
                    self.say(FromSupervisor::Expired(limit))?;
                    return Err(End::Told);
                }
            }
            fd => {
                let fd = fd as RawFd;
                self.armed.remove(&fd);
                // epoll and poll share these bits.
                // SAFETY: an image entry, from the supervisor's only thread.
                unsafe { (self.image.host_ready)(fd, ready) };
            }
        }
        Ok(())
    }

    /// Looks how much memory there is in use, when that is due, and has the kernel decide what follows.
    fn measure(&mut self) {
        let Some(meter) = self.meter.as_mut().filter(|m| m.next <= now()) else { return };
        let started = now();
        let sizes = meter.ask().unwrap_or_default();
        let cost = now() - started;
        let largest = sizes.each.iter().max_by_key(|s| s.1).map(|s| s.0);
        let request = Request::Measured { sizes: sizes.each, rest: sizes.rest };
        let Response::Memory(used) = self.ask(request, Vec::new()) else { return };
        let Some(meter) = &mut self.meter else { return };
        meter.plan(now(), used, cost);
        if used <= meter.limit {
            meter.over_since = 0;
            return;
        }
        if meter.over_since == 0 {
            meter.over_since = started;
        }
        // Whom the kernel has ended does not go.
        if started - meter.over_since > GRACE
            && let Some(pid) = largest
            && children::is_child(pid as i32)
        {
            meter.over_since = started;
            // SAFETY: an unreaped child of ours: the number cannot mean another process.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    }

    /// Whatever the kernel did: run due timers, set the next one, pass its events on.
    fn after_kernel(&mut self) -> Result<(), End> {
        self.measure();
        if self.guard_due != u64::MAX && self.guard_due <= now() {
            self.guard_due = u64::MAX;
            self.guard = Guard::start(&self.window);
        }
        // SAFETY: an image entry, from the supervisor's only thread.
        let next = unsafe { (self.image.timer)() }
            .min(self.limit.map_or(u64::MAX, |(_, until)| until))
            .min(self.meter.as_ref().map_or(u64::MAX, |m| m.next))
            .min(self.guard_due);
        if next != self.deadline {
            self.deadline = next;
            self.set_timer(next);
        }
        loop {
            // SAFETY: the buffer is ours and of that size.
            let len = unsafe { (self.image.next_event)(self.answer.as_mut_ptr(), self.answer.len()) };
            if len <= 0 {
                return Ok(());
            }
            let Ok(event) = postcard::from_bytes::<Event>(&self.answer[..len as usize]) else { continue };
            match event {
                Event::Arm { fd, events } => self.arm(fd, events),
                Event::BuildText { key, fd, sites, kept } => {
                    let (fd, plan) = match self.texts.build(fd, &key, &sites, &kept) {
                        Ok((file, plan)) => (file.into_raw_fd(), plan),
                        Err(_) => (-1, TextPlan::default()),
                    };
                    self.ask(Request::TextBuilt { key, fd, plan }, Vec::new());
                }
                Event::TextChecked { key, sum } => self.texts.checked(&key, sum),
                Event::Mother => {
                    self.reserve = true;
                    // SAFETY: an image entry, from the supervisor's only thread. The kernel tells those who wait
                    // if it fails.
                    unsafe { (self.image.spawn_mother)() };
                }
                Event::Panic(_) => {
                    let _ = self.say(FromSupervisor::Event(event));
                    return Err(End::Panic);
                }
                event => {
                    if let (Event::Exited { .. }, Some(running)) = (&event, &mut self.running) {
                        *running = running.saturating_sub(1);
                    }
                    self.say(FromSupervisor::Event(event))?;
                }
            }
        }
    }

    fn set_timer(&self, deadline: u64) {
        // All zeros disarm it; a deadline that has passed fires at once.
        let (sec, nsec) =
            if deadline == u64::MAX { (0, 0) } else { (deadline / 1_000_000_000, deadline % 1_000_000_000) };
        let nsec = if deadline == 0 { 1 } else { nsec };
        let mut spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: i64::try_from(sec).unwrap_or(i64::MAX), tv_nsec: nsec as i64 },
        };
        // SAFETY: one record on this stack.
        unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw mut spec, ptr::null_mut())
        };
    }

    pub(super) fn arm(&mut self, fd: RawFd, events: u32) {
        let for_good = events & libc::EPOLLET as u32 != 0;
        let wanted = if for_good { events } else { self.armed.get(&fd).copied().unwrap_or(0) | events };
        let flags = if for_good { wanted } else { wanted | libc::EPOLLONESHOT as u32 };
        let token = fd as u64;
        let armed = match self.control(libc::EPOLL_CTL_MOD, fd, flags, token) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => self.control(libc::EPOLL_CTL_ADD, fd, flags, token),
            other => other,
        };
        match armed {
            Ok(()) if for_good => {}
            Ok(()) => {
                self.armed.insert(fd, wanted);
            }
            // Plain files are always ready; a descriptor that is gone shall be looked at again, too.
            Err(_) => self.always_ready.push((fd, events)),
        }
    }

    fn control(&self, op: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: one event on this stack.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Tells the kernel of every host process that has ended.
    fn reap(&mut self) {
        while let Some((pid, status)) = dead_child() {
            let helper = self.broker.as_mut().is_some_and(|b| b.helper.reaped(pid))
                || self.meter.as_mut().is_some_and(|m| m.helper.reaped(pid))
                || self.porter.as_mut().is_some_and(|p| p.helper.reaped(pid))
                || self.guard.as_mut().is_some_and(|g| g.helper.reaped(pid));
            if !helper && !forget(&mut self.strangers, pid) {
                // SAFETY: an image entry, from the supervisor's only thread.
                unsafe { (self.image.reaped)(pid, status) };
            }
            // What it had is there for others at once.
            if let Some(meter) = self.meter.as_mut().filter(|m| m.tight) {
                meter.next = 0;
            }
            // Only now, when the kernel knows of none by this pid any more, may the host give it to another.
            children::reap(pid);
        }
    }

    fn requests(&mut self) -> Result<(), End> {
        loop {
            let Holder::Apart(channel) = &mut self.holder else { return Ok(()) };
            match channel.receive::<ToSupervisor>(false) {
                Ok(Received::Message(ToSupervisor::Request { id, request }, fds)) => {
                    let request = request.into_owned();
                    let freezes = matches!(request, Request::Freeze { .. });
                    let response = self.ask(request, fds);
                    let frozen = freezes && matches!(response, Response::Frozen(_));
                    self.say(FromSupervisor::Reply { id, response })?;
                    if frozen {
                        self.hold()?;
                    }
                }
                Ok(Received::Pending) => return Ok(()),
                Ok(Received::HungUp) | Err(_) => return Err(End::Told),
            }
        }
    }

    /// Puts one request to the kernel.
    pub(super) fn ask(&mut self, mut request: Request, fds: Vec<OwnedFd>) -> Response {
        if let Request::Spawn(spawn) = &mut request {
            let mut given: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
            for slot in &mut spawn.fds {
                let fd = usize::try_from(*slot).ok().and_then(|i| given.get_mut(i)).and_then(Option::take);
                // The kernel owns them from here on, whatever becomes of the request.
                *slot = fd.map_or(-1, IntoRawFd::into_raw_fd);
            }
        }
        let failed = |errno: i32, what: &str| Response::Err { errno, message: what.to_string() };
        let Ok(bytes) = postcard::to_stdvec(&request) else { return failed(libc::EINVAL, "the request is malformed") };
        // SAFETY: both buffers are ours and of these sizes.
        let len =
            unsafe { (self.image.control)(bytes.as_ptr(), bytes.len(), self.answer.as_mut_ptr(), self.answer.len()) };
        let response = match usize::try_from(len) {
            Ok(len) => postcard::from_bytes(&self.answer[..len.min(ANSWER_MAX)])
                .unwrap_or_else(|_| failed(libc::EIO, "the kernel's answer is malformed")),
            Err(_) => {
                let errno = -len as i32;
                failed(errno, &io::Error::from_raw_os_error(errno).to_string())
            }
        };
        let mut response = response;
        if let Response::Frozen(frozen) = &mut response {
            self.complete(frozen);
        }
        if matches!(response, Response::Pid(_)) {
            *self.running.get_or_insert(0) += 1;
        }
        response
    }

    pub(super) fn say(&mut self, message: FromSupervisor) -> Result<(), End> {
        match &mut self.holder {
            Holder::Apart(channel) => channel::send(channel.as_fd(), &message, &[]).map_err(|_| End::Told),
            Holder::Here(said) => {
                said.push_back(message);
                Ok(())
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.bury();
    }
}

/// Readable when something is due.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The host's monotonic clock, ns.
fn now() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills one record of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Empties a descriptor that counts.
fn drain(fd: RawFd, size: usize) {
    let mut buf = [0u8; 1024];
    // SAFETY: the descriptor does not block, and the buffer is large enough.
    while unsafe { libc::read(fd, buf.as_mut_ptr().cast(), size.max(8) * 8) } > 0 {
        if size == 8 {
            break;
        }
    }
}
