//! What a sandbox's handles share: requests to the supervisor, and what comes from it.

use super::channel::{FromSupervisor, Received};
use super::link::Wait;
use super::network::{Allowance, Resolved};
use super::{Change, End, Error, Happening, Inner, Result, State, lock, porter};
use drupe_kernel::abi::control::{Event, Request, Response};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long a supervisor may take to pass a signal on.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names are added to an `/etc/hosts` of up to so many bytes.
const HOSTS_MAX: u32 = 256 << 10;

/// Of how many processes changes are kept that nobody has asked for: more than there can be.
const MOST_CHANGED: usize = 1 << 16;
/// How many changes of one process are kept.
const MOST_CHANGES: usize = 64;

/// Adds a change; of too many the oldest goes.
fn put(changes: &mut VecDeque<Change>, change: Change) {
    if changes.len() == MOST_CHANGES {
        changes.pop_front();
    }
    changes.push_back(change);
}

impl Inner {
    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Response> {
        let id = {
            let mut state = lock(&self.state);
            if let Some(end) = &state.end {
                return Err(end.error());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.asked.insert(id);
            id
        };
        let signals = matches!(request, Request::Kill { .. } | Request::KillForeground { .. });
        match self.link.request(id, request, fds) {
            Ok(()) => {}
            // It is gone: its last words say why.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {}
            Err(e) => return Err(Error::host("send a request to the supervisor", e)),
        }
        let answer = if signals { self.promptly(id)? } else { self.until(|state| state.replies.remove(&id))? };
        match answer {
            Response::Err { errno, message } => Err(Error::Refused { errno, message }),
            other => Ok(other),
        }
    }

    /// The answer to a request that takes a supervisor no time. One that gives none for [`PATIENCE`] is not ours any more, and
    /// the sandbox ends: who sends its programs a signal most often wants that.
    fn promptly(&self, id: u64) -> Result<Response> {
        loop {
            let wait = Wait::Until(Instant::now() + PATIENCE);
            if let Some(answer) = self.poll(wait, |state| state.replies.remove(&id))? {
                return Ok(answer);
            }
            // While it is saved it answers nothing.
            if self.saving.try_lock().is_ok() {
                // Before others hear that it has hung up.
                const WHY: &str = "its supervisor does not answer";
                lock(&self.state).end.get_or_insert(End::Lost(WHY.into()));
                self.link.lost(WHY, true);
            }
        }
    }

    pub(super) fn ask_ok(&self, request: Request) -> Result {
        self.ask(request, Vec::new()).map(drop)
    }

    /// See [`Sandbox::allow`](super::Sandbox::allow).
    pub(super) fn allow(&self, allowance: &Allowance) -> Result {
        let Some(control) = &self.given.allowing else {
            return Err(Error::Setting("the sandbox was started without anything allowed: there is no porter".into()));
        };
        let Resolved { rules, lines } = allowance.resolve()?;
        {
            let control = lock(control);
            for rule in rules {
                porter::allow(&control, rule)?;
            }
        }
        if !self.given.own_hosts || lines.is_empty() {
            return Ok(());
        }
        let path = b"/etc/hosts".to_vec();
        let Ok(Response::Data(there)) =
            self.ask(Request::ReadFile { path: path.clone(), offset: 0, len: HOSTS_MAX }, Vec::new())
        else {
            return Ok(());
        };
        let known = String::from_utf8_lossy(&there);
        let fresh: String =
            lines.iter().filter(|l| !known.lines().any(|k| k == *l)).map(|l| format!("{l}\n")).collect();
        if fresh.is_empty() || there.len() >= HOSTS_MAX as usize {
            return Ok(());
        }
        self.ask_ok(Request::WriteFile { path, offset: there.len() as u64, data: fresh.into_bytes(), mode: 0o644 })
    }

    /// Waits until the kernel has booted.
    pub(super) fn booted(&self) -> Result {
        self.until(|state| state.booted.then_some(()))
    }

    /// Waits until `found` finds something.
    pub(super) fn until<T>(&self, found: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        // With `wait` there is always an answer.
        self.poll(Wait::Ever, found)?.ok_or_else(|| Error::Ended("nothing more will come".into()))
    }

    /// Takes messages in until `found` finds something, or `wait` is over and there are none.
    pub(super) fn poll<T>(&self, wait: Wait, mut found: impl FnMut(&mut State) -> Option<T>) -> Result<Option<T>> {
        if wait == Wait::Not
            && let Some(bell) = &self.bell
        {
            let _ = bell.read();
        }
        let mut state = lock(&self.state);
        loop {
            if let Some(t) = found(&mut state) {
                return Ok(Some(t));
            }
            if let Some(end) = &state.end {
                return Err(end.error());
            }
            if state.reading {
                let left = match wait {
                    Wait::Not => Duration::ZERO,
                    Wait::Until(end) => end.saturating_duration_since(Instant::now()),
                    Wait::Ever => Duration::MAX,
                };
                if left.is_zero() {
                    return Ok(None);
                }
                state.waiting += 1;
                state = match wait {
                    Wait::Ever => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                    _ => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                };
                state.waiting -= 1;
                continue;
            }
            state.reading = true;
            drop(state);
            let received = self.link.receive(wait);
            state = lock(&self.state);
            state.reading = false;
            let pending = matches!(received, Ok(Received::Pending));
            self.apply(&mut state, received);
            self.tell(&state);
            if pending && wait != Wait::Ever {
                return Ok(found(&mut state));
            }
        }
    }

    /// Something in the state has changed.
    fn tell(&self, state: &State) {
        // Nearly always there is nobody, and the host need not be asked to look.
        if state.waiting > 0 {
            self.changed.notify_all();
        }
        if let Some(bell) = &self.bell {
            let _ = bell.write(1);
        }
    }

    /// Whoever waits for news looks again.
    pub(super) fn stir(&self) {
        let mut state = lock(&self.state);
        state.news += 1;
        self.tell(&state);
    }

    fn apply(&self, state: &mut State, received: io::Result<Received<FromSupervisor>>) {
        match received {
            Ok(Received::Message(FromSupervisor::Reply { id, response }, _)) => {
                if !state.asked.remove(&id) {
                    return self.broken(state);
                }
                if let Response::Pid(pid) = response {
                    // Numbers come round again: this is a new process.
                    state.changes.remove(&pid);
                    state.first.get_or_insert(pid);
                }
                state.replies.insert(id, response);
            }
            Ok(Received::Message(FromSupervisor::Event(event), _)) => self.event(state, event),
            Ok(Received::Message(FromSupervisor::Failed { errno, unsupported, message }, _)) => {
                state.end.get_or_insert(match unsupported {
                    true => End::Unsupported(message),
                    false => End::Refused { errno, message },
                });
            }
            Ok(Received::Message(FromSupervisor::Started, _)) => state.booted = true,
            Ok(Received::Message(FromSupervisor::Expired(limit), _)) => {
                state.end.get_or_insert(End::Expired(limit));
            }
            Ok(Received::Pending) => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => self.broken(state),
            Ok(Received::HungUp) | Err(_) => {
                if state.end.is_none() {
                    let when = if state.booted { "" } else { " while the kernel booted" };
                    state.end = Some(self.link.lost(&format!("its supervisor has ended{when}"), false));
                }
            }
        }
    }

    /// The supervisor says what it never says: a program has taken it over. The sandbox ends.
    fn broken(&self, state: &mut State) {
        if state.end.is_none() {
            state.end = Some(self.link.lost("its supervisor does not keep to the protocol", true));
        }
    }

    fn event(&self, state: &mut State, event: Event) {
        match event {
            Event::Exited { pid, .. } | Event::Stopped { pid, .. }
                if state.changes.len() >= MOST_CHANGED && !state.changes.contains_key(&pid) =>
            {
                self.broken(state);
            }
            Event::Exited { pid, status } => {
                if state.first == Some(pid) && state.first_status.is_none() {
                    state.first_status = Some(status);
                }
                put(state.changes.entry(pid).or_default(), Change::Exited(ExitStatus::from_raw(status)));
            }
            Event::Stopped { pid, signal } => {
                put(state.changes.entry(pid).or_default(), Change::Stopped(signal));
            }
            Event::Panic(text) => {
                state.end.get_or_insert(End::Panic(text));
            }
            Event::OutOfMemory { pid, mut name, bytes } => {
                // (A task's has 15 bytes.)
                if name.len() > 64 {
                    name.clear();
                }
                state.happened(Happening::OutOfMemory { pid, name, bytes });
            }
            Event::Unimplemented { pid, call } => state.happened(Happening::Unimplemented { pid, call }),
            Event::News => state.news += 1,
            // Between supervisor and kernel only.
            Event::Arm { .. } | Event::Mother | Event::BuildText { .. } | Event::TextChecked { .. } => {}
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.state).end.get_or_insert(End::Stopped);
        self.tell(&lock(&self.state));
        self.link.end();
        self.tell(&lock(&self.state));
    }
}
