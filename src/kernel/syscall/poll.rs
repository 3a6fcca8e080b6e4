//! `poll(2)`, `select(2)`.

use super::signal::optional_mask;
use super::time::to_ns;
use crate::abi::linux::{__kernel_timespec, pollfd, timeval};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arch;
use crate::mm::{Plain, UserPtr};
use crate::sync::left::{self, Left};
use crate::sync::{Events, Kind, On, WaitEnd, wait};
use crate::task::attr::persona;
use crate::task::{self, CurrentTask, limits};
use crate::time;
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::Ordering::SeqCst;

/// A file and what is wanted of it.
struct Want {
    file: Arc<OpenFile>,
    events: Events,
    /// Registration on the file's queue.
    id: Option<u64>,
}

impl Left for Vec<Want> {
    fn left(&mut self) {
        unregister(self);
        self.clear();
    }
}

/// Takes back what [`wait_for`] has registered.
fn unregister(wants: &[Want]) {
    for w in wants {
        if let (Some(id), Some(queue)) = (w.id, w.file.ops.wait_queue()) {
            queue.remove(id);
        }
    }
}

/// Waits until `look` finds something among the files, or the deadline passes.
fn wait_for(wants: &mut Vec<Want>, deadline: Option<u64>, mut look: impl FnMut(&[Want]) -> usize) -> SysResult<usize> {
    let ready = look(wants);
    if ready > 0 || deadline == Some(0) {
        return Ok(ready);
    }
    let mut wants = left::on_stack(wants);
    for w in wants.iter_mut() {
        w.id = w.file.ops.wait_queue().map(|q| q.add_current(w.events | Events::ERR | Events::HUP, false));
    }
    let slot = arch::slot();
    let outcome = loop {
        let ticket = slot.waker.ticket();
        let ready = look(&wants);
        if ready > 0 {
            break Ok(ready);
        }
        match wait::sleep(slot, On::the(Kind::Poll), ticket, deadline) {
            Ok(()) => {
                // A host descriptor is watched for one event at a time: asking for its queue arms it again.
                for w in wants.iter() {
                    let _ = w.file.ops.wait_queue();
                }
            }
            Err(WaitEnd::TimedOut) => break Ok(look(&wants)),
            Err(WaitEnd::Interrupted) => break Err(SysError::Restart(Restart::NoHand)),
        }
    };
    unregister(&wants);
    outcome
}

fn do_poll(cur: &CurrentTask, fds: UserPtr<pollfd>, count: u64, deadline: Option<u64>) -> SysResult<usize> {
    if count > cur.group.limits.get(limits::NOFILE).0 {
        return Err(Errno::EINVAL.into());
    }
    let mut list = fds.slice(count as usize).read_vec()?;
    let mut wants = Vec::new();
    let mut index: Vec<Option<usize>> = Vec::new();
    for p in &list {
        let file = if p.fd < 0 { None } else { cur.files().get(p.fd).ok() };
        index.push(file.as_ref().map(|_| wants.len()));
        if let Some(file) = file {
            wants.push(Want { file, events: Events::from_bits_truncate(u32::from(p.events as u16)), id: None });
        }
    }
    let mut found = |wants: &[Want]| {
        let mut n = 0;
        for (p, at) in list.iter_mut().zip(&index) {
            let revents = match at {
                Some(at) => {
                    let w = &wants[*at];
                    w.file.ops.poll() & (w.events | Events::ERR | Events::HUP)
                }
                None if p.fd < 0 => Events::empty(),
                None => Events::NVAL,
            };
            p.revents = revents.bits() as i16;
            n += usize::from(p.revents != 0);
        }
        n
    };
    let n = wait_for(&mut wants, deadline, &mut found)?;
    for (i, p) in list.iter().enumerate() {
        // Of each entry only what was found is written: the guest may have changed the rest meanwhile.
        let revents = fds.add(i).addr() + offset_of!(pollfd, revents) as u64;
        UserPtr::<i16>::new(revents).write(p.revents)?;
    }
    Ok(n)
}

/// A timeout as a deadline; zero means "do not wait".
fn deadline_in(ns: i64) -> Option<u64> {
    Some(if ns == 0 { 0 } else { time::deadline_in(ns as u64) })
}

/// `poll(2)`.
pub fn sys_poll(cur: &CurrentTask, fds: UserPtr<pollfd>, count: u32, timeout: i32) -> SysResult<usize> {
    let deadline = if timeout < 0 { None } else { deadline_in(i64::from(timeout) * 1_000_000) };
    poll_until(cur, fds, count, deadline)
}

/// A `poll` that goes on until the same moment when it is restarted.
pub(super) fn poll_until(
    cur: &CurrentTask,
    fds: UserPtr<pollfd>,
    count: u32,
    deadline: Option<u64>,
) -> SysResult<usize> {
    match do_poll(cur, fds, u64::from(count), deadline) {
        Err(SysError::Restart(_)) => {
            let deadline = deadline.unwrap_or(u64::MAX);
            *cur.restart.lock() = Some(task::Restart::Poll { fds: fds.addr(), count, deadline });
            Err(SysError::Restart(Restart::Block))
        }
        other => other,
    }
}

fn timespec(ptr: UserPtr<__kernel_timespec>) -> Result<Option<i64>> {
    let Some(p) = ptr.option() else { return Ok(None) };
    Ok(Some(to_ns(p.read()?)?))
}

/// Runs `f` with `mask` blocked instead of what is. If a signal ended the wait, the old mask comes
/// back when its handler returns.
pub fn with_mask(cur: &CurrentTask, mask: Option<u64>, f: impl FnOnce() -> SysResult<usize>) -> SysResult<usize> {
    let Some(mask) = mask else { return f() };
    let old = cur.blocked.load(SeqCst);
    cur.set_blocked(mask);
    let outcome = f();
    if matches!(outcome, Err(SysError::Restart(_))) {
        cur.save_mask(old);
    } else {
        cur.set_blocked(old);
    }
    outcome
}

/// Writes back how much of a timeout is left, in seconds and nanoseconds, unless the program is one that takes it to stay
/// (`STICKY_TIMEOUTS`). A call whose timeout stays as it was is not made again (`poll_select_finish`).
fn write_left<T: Plain>(
    cur: &CurrentTask,
    ptr: UserPtr<T>,
    deadline: Option<u64>,
    outcome: SysResult<usize>,
    value: impl FnOnce(i64, i64) -> T,
) -> SysResult<usize> {
    let (Some(p), Some(d)) = (ptr.option(), deadline) else { return outcome };
    let left = d.saturating_sub(time::host_monotonic()) as i64;
    let sticky = cur.attr.has_persona(persona::STICKY_TIMEOUTS);
    if !sticky && p.write(value(left / time::SECOND, left % time::SECOND)).is_ok() {
        return outcome;
    }
    outcome.map_err(|e| if e == SysError::Restart(Restart::NoHand) { Errno::EINTR.into() } else { e })
}

fn as_timespec(tv_sec: i64, tv_nsec: i64) -> __kernel_timespec {
    __kernel_timespec { tv_sec, tv_nsec }
}

/// `ppoll(2)`.
pub fn sys_ppoll(
    cur: &CurrentTask,
    fds: UserPtr<pollfd>,
    count: u32,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<u64>,
    size: usize,
) -> SysResult<usize> {
    let deadline = timespec(timeout)?.and_then(deadline_in);
    let mask = optional_mask(mask, size)?;
    let outcome = with_mask(cur, mask, || do_poll(cur, fds, u64::from(count), deadline));
    write_left(cur, timeout, deadline, outcome, as_timespec)
}

/// What the three sets of `select` stand for (`fs/select.c`).
const SETS: [Events; 3] = [
    Events::IN.union(Events::RDNORM).union(Events::RDBAND).union(Events::HUP).union(Events::ERR),
    Events::OUT.union(Events::WRNORM).union(Events::WRBAND).union(Events::ERR),
    Events::PRI,
];

fn do_select(cur: &CurrentTask, n: i32, sets: [UserPtr<u8>; 3], deadline: Option<u64>) -> SysResult<usize> {
    if n < 0 {
        return Err(Errno::EINVAL.into());
    }
    // Numbers past the table's end are not looked at, set or not (BUGS in `man 2 select`).
    let n = (n as usize).min(cur.files().capacity());
    let bytes = n.div_ceil(64) * 8;
    let mut bits: [Vec<u8>; 3] = Default::default();
    for (b, p) in bits.iter_mut().zip(sets) {
        *b = match p.option() {
            Some(p) => p.slice(bytes).read_vec()?,
            None => Vec::new(),
        };
    }
    let has = |set: &[u8], fd: usize| set.get(fd / 8).is_some_and(|b| b >> (fd % 8) & 1 == 1);
    let mut wants = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..n {
        let mut events = Events::empty();
        for (b, e) in bits.iter().zip(SETS) {
            if has(b, fd) {
                events |= e;
            }
        }
        if !events.is_empty() {
            wants.push(Want { file: cur.files().get(fd as i32)?, events, id: None });
            numbers.push(fd);
        }
    }
    let mut out: [Vec<u8>; 3] = Default::default();
    let mut found = |wants: &[Want]| {
        let mut count = 0;
        for (o, b) in out.iter_mut().zip(&bits) {
            o.clear();
            o.resize(b.len(), 0);
        }
        for (w, &fd) in wants.iter().zip(&numbers) {
            let ready = w.file.ops.poll();
            for i in 0..3 {
                if has(&bits[i], fd) && ready.intersects(SETS[i]) {
                    out[i][fd / 8] |= 1 << (fd % 8);
                    count += 1;
                }
            }
        }
        count
    };
    let count = wait_for(&mut wants, deadline, &mut found)?;
    for (o, p) in out.iter().zip(sets) {
        if !p.is_null() {
            p.slice(bytes).write_from(o)?;
        }
    }
    Ok(count)
}

/// `select(2)`.
pub fn sys_select(
    cur: &CurrentTask,
    n: i32,
    read: UserPtr<u8>,
    write: UserPtr<u8>,
    except: UserPtr<u8>,
    timeout: UserPtr<timeval>,
) -> SysResult<usize> {
    let deadline = match timeout.option() {
        None => None,
        Some(p) => {
            let t = p.read()?;
            if t.tv_sec < 0 || t.tv_usec < 0 {
                return Err(Errno::EINVAL.into());
            }
            deadline_in(t.tv_sec.saturating_mul(time::SECOND).saturating_add(t.tv_usec.saturating_mul(1000)))
        }
    };
    let outcome = do_select(cur, n, [read, write, except], deadline);
    write_left(cur, timeout, deadline, outcome, |tv_sec, ns| timeval { tv_sec, tv_usec: ns / 1000 })
}

/// `pselect6(2)`.
pub fn sys_pselect6(
    cur: &CurrentTask,
    n: i32,
    read: UserPtr<u8>,
    write: UserPtr<u8>,
    except: UserPtr<u8>,
    timeout: UserPtr<__kernel_timespec>,
    mask: UserPtr<[u64; 2]>,
) -> SysResult<usize> {
    let deadline = timespec(timeout)?.and_then(deadline_in);
    let mask = match mask.option() {
        Some(p) => {
            let [ptr, size] = p.read()?;
            optional_mask(UserPtr::new(ptr), size as usize)?
        }
        None => None,
    };
    let outcome = with_mask(cur, mask, || do_select(cur, n, [read, write, except], deadline));
    write_left(cur, timeout, deadline, outcome, as_timespec)
}
