//! Pseudoterminals (`pty(7)`): the object, its ends and their lives.

use super::discipline::{Effects, State};
use super::slave::Slave;
use crate::abi::linux::O_NOCTTY;
use crate::abi::{Errno, Result, SysResult};
use crate::arena::{self, Object};
use crate::cred::cap;
use crate::mm::{IoDst, IoSrc};
use crate::sync::{Events, Level, Mend, Mutex, WaitQueue};
use crate::task::session::{self, Job, Terminal};
use crate::vfs::{FileOps, OpCtx, OpenFile};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

/// Major number of slaves (`UNIX98_PTY_SLAVE_MAJOR`).
pub const SLAVE_MAJOR: u32 = 136;
/// Bytes that one call moves between looks at its pty.
pub(super) const CHUNK: usize = 2048;

/// Ptys that there may be (`kernel.pty.max`).
static LIMIT: AtomicU32 = AtomicU32::new(4096);
/// Ptys that are kept for the first instance of devpts (`kernel.pty.reserve`).
static RESERVE: AtomicU32 = AtomicU32::new(1024);
/// Ptys that there are (`kernel.pty.nr`).
static COUNT: AtomicU32 = AtomicU32::new(0);

/// `kernel.pty.max`, `kernel.pty.reserve`, `kernel.pty.nr`.
pub fn limits() -> [u32; 3] {
    [&LIMIT, &RESERVE, &COUNT].map(|n| n.load(SeqCst))
}

/// Sets `kernel.pty.max` or `kernel.pty.reserve`.
///
/// # Errors
/// `EINVAL` for more than there are numbers.
pub fn set_limit(reserve: bool, value: u32) -> Result {
    if value > 1 << 20 {
        return Err(Errno::EINVAL);
    }
    let to = if reserve { &RESERVE } else { &LIMIT };
    to.store(value, SeqCst);
    Ok(())
}

/// Counts a pty while it exists.
struct Counted;

impl Counted {
    fn new(may_use_reserve: bool) -> Result<Counted> {
        let most = LIMIT.load(SeqCst).saturating_sub(if may_use_reserve { 0 } else { RESERVE.load(SeqCst) });
        if COUNT.fetch_add(1, SeqCst) >= most {
            COUNT.fetch_sub(1, SeqCst);
            return Err(Errno::ENOSPC);
        }
        Ok(Counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, SeqCst);
    }
}

/// Where a pty has its number and its name.
pub trait Home: Send + Sync + Any {
    /// The master is closed: the slave's name is gone.
    fn unname(&self, index: u32);
    /// Both ends are closed: the number is free.
    fn release(&self, index: u32);
    /// As `Any`, for its owner to recognise it.
    fn as_any(&self) -> &dyn Any;
}

/// How the ends are used.
pub(super) struct Ends {
    pub master: bool,
    pub slaves: u32,
    /// The slave was closed, and not opened again.
    pub slave_left: bool,
    /// The slave cannot be opened (TIOCSPTLCK).
    pub shut: bool,
    /// Nobody else may open it (TIOCEXCL): the slave, the master.
    pub exclusive: [bool; 2],
    /// How often it was hung up.
    pub hang_ups: u32,
    /// Rows, columns, and pixels across and down (`struct winsize`).
    pub size: [u16; 4],
}

/// What the lock guards.
pub(super) struct Inner {
    pub tty: State,
    pub ends: Ends,
}

impl Mend for Inner {
    fn mend(&mut self) {
        self.tty.mend();
    }
}

/// A pseudoterminal.
pub struct Pty {
    /// Its number.
    pub index: u32,
    /// Where it has its name.
    pub home: Arc<dyn Home>,
    inner: Mutex<Inner>,
    job: Job,
    pub(super) slave_queue: WaitQueue,
    pub(super) master_queue: WaitQueue,
    me: Weak<Pty>,
    _counted: Counted,
}

impl Terminal for Pty {
    fn device(&self) -> u64 {
        slave_device(self.index)
    }
    fn job(&self) -> &Job {
        &self.job
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Device number of the slave with this number, in the user's encoding.
pub fn slave_device(index: u32) -> u64 {
    let minor = u64::from(index);
    minor & 0xff | u64::from(SLAVE_MAJOR) << 8 | (minor & !0xff) << 12
}

impl Pty {
    /// A pty with this number, whose master is open. `may_use_reserve`: of the first instance of devpts.
    ///
    /// # Errors
    /// `ENOSPC` if there are too many, `ENOMEM`.
    pub fn new(home: Arc<dyn Home>, index: u32, may_use_reserve: bool) -> Result<Arc<Pty>> {
        arena::charge(Object::File)?;
        let counted = Counted::new(may_use_reserve)?;
        let ends = Ends {
            master: true,
            slaves: 0,
            slave_left: false,
            shut: true,
            exclusive: [false; 2],
            hang_ups: 0,
            size: [0; 4],
        };
        let inner = Inner { tty: State::new(), ends };
        Ok(Arc::new_cyclic(|me| Pty {
            index,
            home,
            inner: Mutex::mended(Level::FileData, inner),
            job: Job::default(),
            slave_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
            me: me.clone(),
            _counted: counted,
        }))
    }

    /// Changes the pty under its lock; what follows is done afterwards.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Inner, &mut Effects) -> R) -> R {
        let mut fx = Effects::default();
        let r = {
            let mut inner = self.inner.lock();
            let r = f(&mut inner, &mut fx);
            // Its owner is told of room only where the last write did not find enough (`TTY_DO_WRITE_WAKEUP`).
            if fx.slave.contains(Events::OUT) && !core::mem::take(&mut inner.tty.asks_room) {
                fx.slave -= Events::OUT;
                fx.slave_quietly |= Events::OUT;
            }
            r
        };
        self.follow(&fx);
        r
    }

    fn follow(&self, fx: &Effects) {
        if !fx.slave.is_empty() {
            self.slave_queue.wake(fx.slave);
        }
        if !fx.master.is_empty() {
            self.master_queue.wake(fx.master);
        }
        for (queue, events) in [(&self.slave_queue, fx.slave_quietly), (&self.master_queue, fx.master_quietly)] {
            if !events.is_empty() {
                queue.wake(events | Events::QUIET);
            }
        }
        let mut signals = fx.signals;
        while signals != 0 {
            self.job.signal(signals.trailing_zeros());
            signals &= signals - 1;
        }
    }

    /// Looks at the pty under its lock.
    pub(super) fn look<R>(&self, f: impl FnOnce(&Inner) -> R) -> R {
        f(&self.inner.lock())
    }

    /// The pty's own reference.
    pub(super) fn arc(&self) -> Option<Arc<Pty>> {
        self.me.upgrade()
    }

    /// Opens the slave (`pty_open`).
    ///
    /// # Errors
    /// `EBUSY` after TIOCEXCL; `EIO` while it is locked and once the master is closed.
    pub fn open_slave(&self, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        let me = self.arc().ok_or(Errno::EIO)?;
        let hang_ups = self.with(|i, fx| {
            if i.ends.exclusive[0] && !ctx.cred.capable(cap::SYS_ADMIN) {
                return Err(Errno::EBUSY);
            }
            if !i.ends.master || i.ends.shut {
                return Err(Errno::EIO);
            }
            i.ends.slaves += 1;
            i.ends.slave_left = false;
            fx.master |= Events::OUT;
            Ok(i.ends.hang_ups)
        })?;
        let slave = Box::new(Slave { pty: me.clone(), hang_ups });
        if flags & O_NOCTTY == 0 && flags & 3 != 1 {
            let terminal: Arc<dyn Terminal> = me;
            session::claim_opened(ctx.tgid, &terminal);
        }
        Ok(slave)
    }

    /// Hangs the slave up: descriptors that are open are of no more use, settings are as at the beginning.
    pub fn hang_up(&self) {
        self.with(|i, fx| {
            i.ends.hang_ups += 1;
            i.tty.reset(fx);
        });
        self.slave_queue.wake_all();
        self.master_queue.wake_all();
        session::hang_up(self);
    }

    /// A slave's description ends.
    pub(super) fn slave_closed(&self) {
        let (left, free) = self.with(|i, _| {
            i.ends.slaves -= 1;
            let left = i.ends.slaves == 0;
            i.ends.slave_left |= left;
            (left, left && !i.ends.master)
        });
        if left {
            self.master_queue.wake_all();
        }
        if free {
            self.home.release(self.index);
        }
    }
}

/// The master of a pty.
pub struct Master {
    /// The pty.
    pub pty: Arc<Pty>,
    /// TIOCVHANGUP was called on it.
    pub(super) hung: AtomicBool,
}

impl Master {
    /// The only master of a new pty.
    pub fn new(pty: Arc<Pty>) -> Box<Master> {
        Box::new(Master { pty, hung: AtomicBool::new(false) })
    }

    /// The master that an open file is.
    pub fn of(file: &OpenFile) -> Option<&Master> {
        file.ops.as_any().downcast_ref()
    }

    /// Whether TIOCVHANGUP was called on it.
    pub fn is_hung(&self) -> bool {
        self.hung.load(SeqCst)
    }

    /// Gives a reader what there is, under the lock (`n_tty_read` of the master).
    fn give(&self, dst: &mut IoDst<'_>) -> SysResult<usize> {
        self.pty.with(|i, fx| {
            let tty = &mut i.tty;
            if tty.packet && tty.status != 0 {
                if dst.done() > 0 {
                    return Ok(0);
                }
                let n = dst.put(&[tty.status])?;
                tty.status = 0;
                return Ok(n);
            }
            if tty.output.is_empty() {
                return Err(if i.ends.slave_left { Errno::EIO } else { Errno::EAGAIN }.into());
            }
            let mut done = 0;
            if tty.packet && dst.done() == 0 {
                done += dst.put(&[0])?;
            }
            while dst.left() > 0 && !tty.output.is_empty() {
                let front = tty.output.front();
                let want = front.len().min(dst.left());
                let n = match dst.put(&front[..want]) {
                    Ok(n) => n,
                    Err(_) if done > 0 => break,
                    Err(e) => return Err(e.into()),
                };
                tty.output.skip(n);
                done += n;
                if n < want {
                    break;
                }
            }
            tty.flush_echoes(fx);
            fx.slave |= Events::OUT;
            Ok(done)
        })
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let pty = &self.pty;
        let free = pty.with(|i, _| {
            i.ends.master = false;
            i.ends.hang_ups += 1;
            i.tty.packet = false;
            i.ends.slaves == 0
        });
        pty.home.unname(pty.index);
        pty.slave_queue.wake_all();
        if free {
            pty.home.release(pty.index);
        }
        // No descriptor leads to it any more, but sessions may.
        session::hang_up_later(pty.clone());
    }
}

impl FileOps for Master {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        if self.hung.load(SeqCst) || dst.left() == 0 {
            return Ok(0);
        }
        dst.limit(super::line::SIZE);
        let first = dst.left();
        dst.under_lock(first, |dst| self.give(dst))
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        if self.hung.load(SeqCst) {
            return Err(Errno::EIO.into());
        }
        super::slave::write_chunks(src, |bytes| self.pty.with(|i, fx| i.tty.input(bytes, fx)))
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn poll(&self) -> Events {
        if self.hung.load(SeqCst) {
            return super::slave::HUNG;
        }
        self.pty.look(|i| {
            let mut events = Events::empty();
            if !i.tty.output.is_empty() {
                events |= Events::IN | Events::RDNORM;
            }
            if i.tty.packet && i.tty.status != 0 {
                events |= Events::IN | Events::RDNORM | Events::PRI;
            }
            if i.ends.slave_left {
                events |= Events::HUP;
            }
            if i.tty.takes_input() {
                events |= Events::OUT | Events::WRNORM;
            }
            events
        })
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pty.master_queue)
    }

    fn ioctl(&self, ctx: &OpCtx<'_>, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        super::ioctl::master(ctx, file, self, request, arg)
    }

    fn is_tty(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The terminal that an open file is, if it is the slave of a pty.
pub fn of_file(file: &OpenFile) -> Option<Arc<dyn Terminal>> {
    let slave = file.ops.as_any().downcast_ref::<Slave>()?;
    let terminal: Arc<dyn Terminal> = slave.pty.clone();
    Some(terminal)
}
