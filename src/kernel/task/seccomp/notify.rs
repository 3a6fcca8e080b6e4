//! Calls that a supervisor of the guest's own answers (`SECCOMP_RET_USER_NOTIF`): the caller sleeps, and whoever has
//! the filter's descriptor reads what it asks and says what comes of it.

use super::{Verdict, again};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::sync::{Events, Kind, Level, Mutex, On, WaitQueue, wait};
use crate::task::{CurrentTask, limits};
use crate::vfs::{FileOps, OpCtx, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::any::Any;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;
/// `SECCOMP_ADDFD_FLAG_SETFD`, `SECCOMP_ADDFD_FLAG_SEND`.
pub const SETFD: u32 = 1;
/// See [`SETFD`].
pub const SEND: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has read it.
    New,
    /// Somebody has.
    Sent,
    /// It is answered.
    Answered(Answer),
}

/// What becomes of a call: `struct seccomp_notif_resp` without the number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What it returns.
    pub value: i64,
    /// Negative error number, or 0.
    pub error: i32,
    /// `CONTINUE`: it is run.
    pub flags: u32,
}

/// A descriptor that the caller of a call is to get.
pub struct Gift {
    /// What it stands for.
    pub file: Arc<OpenFile>,
    /// [`SETFD`], [`SEND`].
    pub flags: u32,
    /// Its number where `SETFD` says so.
    pub number: i32,
    /// `O_CLOEXEC` or 0.
    pub cloexec: bool,
}

struct Request {
    id: u64,
    tid: u32,
    data: [u32; 16],
    stage: Stage,
    /// Descriptors that it is to take, and where it tells what came of that.
    gifts: VecDeque<(Gift, Arc<Receipt>)>,
}

/// What came of a gift.
struct Receipt(Mutex<Option<Result<i32>>>);

impl Receipt {
    fn tell(&self, result: Result<i32>) {
        *self.0.lock() = Some(result);
    }
}

#[derive(Default)]
struct Inner {
    last_id: u64,
    requests: VecDeque<Request>,
    /// No task has the filter any more.
    forsaken: bool,
    /// Nobody has the descriptor any more.
    closed: bool,
}

impl Inner {
    fn find(&mut self, id: u64) -> Result<&mut Request> {
        self.requests.iter_mut().find(|r| r.id == id).ok_or(Errno::ENOENT)
    }

    /// A request that was read and is not answered.
    fn open(&mut self, id: u64) -> Result<&mut Request> {
        let r = self.find(id)?;
        if r.stage == Stage::Sent { Ok(r) } else { Err(Errno::EINPROGRESS) }
    }
}

/// Where the calls of a filter's tasks wait to be answered.
pub struct Notifier {
    inner: Mutex<Inner>,
    /// Those who read.
    readers: WaitQueue,
    /// Those who wait for an answer, or for a gift to be taken.
    askers: WaitQueue,
    /// Only a signal that kills interrupts a call that was read (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    killable: bool,
}

/// What a sleeping caller is woken for.
enum Woken {
    Answer(Answer),
    Gift(Gift, Arc<Receipt>),
    Nobody,
}

impl Notifier {
    pub(super) fn new(killable: bool) -> Notifier {
        Notifier {
            inner: Mutex::new(Level::Leaf, Inner::default()),
            readers: WaitQueue::new(),
            askers: WaitQueue::new(),
            killable,
        }
    }

    /// No task has the filter any more.
    pub(super) fn forsaken(&self) {
        self.inner.lock().forsaken = true;
        self.readers.wake_all();
    }

    /// Waits for the answer to a call.
    pub(super) fn ask(&self, cur: &CurrentTask, nr: u64, args: &[u64; 6], data: &[u32; 16]) -> Verdict {
        let id = match self.enter(cur.tid(), data) {
            Ok(id) => id,
            Err(e) => return Verdict::Skip(Err(e.into())),
        };
        self.readers.wake(Events::IN);
        let verdict = loop {
            match self.askers.wait_until(Events::IN, None, || self.woken(id)) {
                Ok(Woken::Answer(a)) if a.flags & CONTINUE != 0 => break Verdict::Run(nr, *args),
                Ok(Woken::Answer(a)) => {
                    break Verdict::Skip(Ok(if a.error != 0 { i64::from(a.error) as u64 } else { a.value as u64 }));
                }
                Ok(Woken::Gift(gift, receipt)) => self.take(cur, id, gift, &receipt),
                Ok(Woken::Nobody) => break Verdict::Skip(Err(Errno::ENOSYS.into())),
                Err(_) if cur.must_end() => break again(),
                Err(_) if self.killable && self.was_read(id) => {
                    // The signal stays pending, and the answer is waited for.
                    if let Some(end) = self.wait_deaf(cur, id) {
                        break end;
                    }
                }
                Err(_) => break again(),
            }
        };
        let gone = {
            let mut inner = self.inner.lock();
            let at = inner.requests.iter().position(|r| r.id == id);
            at.and_then(|at| inner.requests.remove(at))
        };
        for (_, receipt) in gone.iter().flat_map(|r| &r.gifts) {
            receipt.tell(Err(Errno::ESRCH));
        }
        self.askers.wake_all();
        self.readers.wake(Events::OUT);
        drop(gone);
        verdict
    }

    fn enter(&self, tid: u32, data: &[u32; 16]) -> Result<u64> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Errno::ENOSYS);
        }
        inner.requests.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        inner.last_id += 1;
        let id = inner.last_id;
        inner.requests.push_back(Request { id, tid, data: *data, stage: Stage::New, gifts: VecDeque::new() });
        Ok(id)
    }

    fn woken(&self, id: u64) -> Option<Woken> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Some(Woken::Nobody);
        }
        let r = inner.find(id).ok()?;
        if let Some((gift, receipt)) = r.gifts.pop_front() {
            return Some(Woken::Gift(gift, receipt));
        }
        if let Stage::Answered(a) = r.stage { Some(Woken::Answer(a)) } else { None }
    }

    /// Whether nobody can read any more.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    fn was_read(&self, id: u64) -> bool {
        self.inner.lock().find(id).is_ok_and(|r| r.stage != Stage::New)
    }

    /// Sleeps on although a signal waits, until there is something to do (`None`) or the thread has to end.
    fn wait_deaf(&self, cur: &CurrentTask, id: u64) -> Option<Verdict> {
        let slot = crate::arch::slot();
        let registered = self.askers.add_current(Events::IN, false);
        let end = loop {
            let ticket = slot.waker.ticket();
            let ready = {
                let mut inner = self.inner.lock();
                inner.closed || inner.find(id).is_ok_and(|r| !r.gifts.is_empty() || r.stage != Stage::Sent)
            };
            if ready || cur.must_end() {
                break cur.must_end().then(again);
            }
            wait::sleep_deaf(slot, On::the(Kind::Object), ticket);
        };
        self.askers.remove(registered);
        end
    }

    /// The caller takes a descriptor.
    fn take(&self, cur: &CurrentTask, id: u64, gift: Gift, receipt: &Receipt) {
        let limit = cur.group.limits.get(limits::NOFILE).0;
        let files = cur.files();
        let result = if gift.flags & SETFD != 0 {
            files.install_at(gift.number, gift.file, gift.cloexec, limit).map(|old| {
                if let Some(old) = old {
                    files.closed(&cur.op_ctx(), &old);
                }
                gift.number
            })
        } else {
            files.install(gift.file, gift.cloexec, 0, limit)
        };
        if gift.flags & SEND != 0
            && let Ok(fd) = result
            && let Ok(r) = self.inner.lock().find(id)
        {
            r.stage = Stage::Answered(Answer { value: i64::from(fd), error: 0, flags: 0 });
        }
        receipt.tell(result);
        self.askers.wake_all();
    }

    /// Waits for a call to be asked about: its number, who makes it, `struct seccomp_data`.
    ///
    /// # Errors
    /// `ENOENT` when no task has the filter any more; a restart.
    pub fn receive(&self) -> SysResult<(u64, u32, [u32; 16])> {
        let next = || {
            let mut inner = self.inner.lock();
            match inner.requests.iter_mut().find(|r| r.stage == Stage::New) {
                Some(r) => {
                    r.stage = Stage::Sent;
                    Ok((r.id, r.tid, r.data))
                }
                None => Err(if inner.forsaken { Errno::ENOENT } else { Errno::EAGAIN }.into()),
            }
        };
        let got = wait::block_on(&self.readers, Events::IN, None, next)?;
        self.readers.wake(Events::OUT);
        Ok(got)
    }

    /// A call that was received could not be told: the next one to ask receives it.
    pub fn unreceive(&self, id: u64) {
        if let Ok(r) = self.inner.lock().open(id) {
            r.stage = Stage::New;
        }
        self.readers.wake(Events::IN);
    }

    /// Answers a call.
    ///
    /// # Errors
    /// `EINVAL` for an unknown flag or a result of a call that is run, `ENOENT` for a call that does not wait,
    /// `EINPROGRESS` for one that was not received or is answered.
    pub fn answer(&self, id: u64, answer: Answer) -> Result {
        let runs = answer.flags & CONTINUE != 0;
        if answer.flags & !CONTINUE != 0 || runs && (answer.error != 0 || answer.value != 0) {
            return Err(Errno::EINVAL);
        }
        self.inner.lock().open(id)?.stage = Stage::Answered(answer);
        self.askers.wake_all();
        Ok(())
    }

    /// Whether a call was received and waits to be answered.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn is_open(&self, id: u64) -> Result {
        self.inner.lock().open(id).map(drop).map_err(|_| Errno::ENOENT)
    }

    /// Gives the caller of a call a descriptor; returns its number there.
    ///
    /// # Errors
    /// `ENOENT`, `EINPROGRESS` as with [`Notifier::answer`]; what taking it came to; a restart.
    pub fn give(&self, id: u64, gift: Gift) -> SysResult<i32> {
        let receipt = Arc::new(Receipt(Mutex::new(Level::Leaf, None)));
        {
            let mut inner = self.inner.lock();
            let r = inner.open(id)?;
            r.gifts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            // An answer would come before what is given with it.
            if gift.flags & SEND != 0 && !r.gifts.is_empty() {
                return Err(Errno::EBUSY.into());
            }
            r.gifts.push_back((gift, receipt.clone()));
        }
        self.askers.wake_all();
        let taken = || Ok((*receipt.0.lock()).ok_or(Errno::EAGAIN)??);
        let outcome = wait::block_on(&self.askers, Events::IN, None, taken);
        if outcome.is_err() {
            let unused = self.inner.lock().find(id).ok().and_then(|r| {
                let at = r.gifts.iter().position(|g| Arc::ptr_eq(&g.1, &receipt))?;
                r.gifts.remove(at)
            });
            drop(unused);
        }
        outcome
    }
}

/// The descriptor of a filter's supervisor.
struct Listener(Arc<Notifier>);

/// Makes it.
pub fn open(cur: &CurrentTask, notifier: Arc<Notifier>) -> Arc<OpenFile> {
    anon_file("seccomp notify", Box::new(Listener(notifier)), linux::O_RDWR, &cur.op_ctx())
}

/// What an open file receives, if it is such a descriptor.
pub fn of_file(file: &OpenFile) -> Option<Arc<Notifier>> {
    file.ops.as_any().downcast_ref::<Listener>().map(|l| l.0.clone())
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.inner.lock().closed = true;
        self.0.askers.wake_all();
    }
}

impl FileOps for Listener {
    fn poll(&self) -> Events {
        let inner = self.0.inner.lock();
        let has = |stage| inner.requests.iter().any(|r| r.stage == stage);
        let mut events = Events::empty();
        events.set(Events::IN, has(Stage::New));
        events.set(Events::OUT, has(Stage::Sent));
        events.set(Events::HUP, inner.forsaken);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.readers)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, _request: u32, _arg: u64) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
