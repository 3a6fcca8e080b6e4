//! Permission events: somebody waits until a reader of the group has written its answer.

use super::event::Event;
use super::{Fanotify, flag};
use crate::abi::{Errno, Restart, Result, SysError, SysResult};
use crate::arena::{self, Object};
use crate::mm::IoSrc;
use crate::sync::{Events, WaitEnd};
use crate::vfs::FileType;
use crate::vfs::marks::Happening;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// `FAN_ALLOW`.
pub(super) const ALLOW: u32 = 1;
/// `FAN_DENY`, with an error number in the highest byte.
pub(super) const DENY: u32 = 2;
/// `FAN_AUDIT`.
const AUDIT: u32 = 0x10;
/// `FAN_INFO`.
const INFO: u32 = 0x20;
/// Size of `struct fanotify_response_info_audit_rule`.
const AUDIT_RULE: usize = 16;

/// What somebody waits for.
#[derive(Default)]
pub(super) struct Question {
    /// 0: none yet.
    answer: AtomicU32,
}

impl Question {
    /// The first answer counts.
    pub fn answer(&self, answer: u32) {
        let _ = self.answer.compare_exchange(0, answer, SeqCst, SeqCst);
    }

    fn outcome(&self) -> Option<Result> {
        match self.answer.load(SeqCst) {
            0 => None,
            answer if answer & 3 == ALLOW => Some(Ok(())),
            answer if answer >> 24 != 0 => Some(Err(Errno::from_raw((answer >> 24) as i32))),
            _ => Some(Err(Errno::EPERM)),
        }
    }
}

impl Fanotify {
    /// Asks whether `mask` may happen to `what`, and waits.
    ///
    /// # Errors
    /// The answer's; `ERESTARTNOINTR`; `ENOMEM`.
    pub(super) fn wait_for_answer(&self, what: &Happening<'_>, mask: u32) -> SysResult<()> {
        let Some(path) = what.path else { return Ok(()) };
        if !matches!(path.inode().file_type(), FileType::Regular | FileType::Dir) {
            return Ok(());
        }
        arena::charge(Object::Watch)?;
        let question = Arc::new(Question::default());
        let event = Event::asking(self.flags, path, mask, &question);
        let lost = {
            let mut state = self.state.lock();
            if state.over {
                return Ok(());
            }
            state.queue.push(event)
        };
        self.readers.wake(Events::IN);
        // What nobody can be asked about may happen.
        if lost.1.is_some() {
            return Ok(());
        }
        match self.askers.wait_until(Events::IN, None, || question.outcome()) {
            Ok(outcome) => Ok(outcome?),
            Err(WaitEnd::Interrupted | WaitEnd::TimedOut) => {
                let gone = {
                    let mut state = self.state.lock();
                    state.asked.retain(|(_, q)| !Arc::ptr_eq(q, &question));
                    state.queue.withdraw(&question)
                };
                drop(gone);
                // Whoever answered meanwhile is heard.
                question.outcome().map_or(Err(SysError::Restart(Restart::NoIntr)), |outcome| Ok(outcome?))
            }
        }
    }

    /// Somebody writes an answer (`process_access_response` in Linux); how many bytes of it count.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`, `ENOENT` for a descriptor that was not asked about.
    pub(super) fn answered(&self, src: &mut IoSrc<'_>) -> SysResult<usize> {
        if src.left() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let mut response = [0; 8];
        src.take(&mut response)?;
        let (fd, response) = response.split_at(4);
        let number = |b: &[u8]| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
        let (fd, response) = (number(fd) as i32, number(response));
        self.check(response)?;
        let info = if response & INFO != 0 { take_rule(src)? } else { 0 };
        if fd < 0 {
            return if response & INFO != 0 && fd == -1 { Ok(info) } else { Err(Errno::EINVAL.into()) };
        }
        let question = {
            let mut state = self.state.lock();
            let at = state.asked.iter().position(|a| a.0 == fd).ok_or(Errno::ENOENT)?;
            state.asked.remove(at).1
        };
        question.answer(response);
        self.askers.wake(Events::IN);
        Ok(8 + info)
    }

    fn check(&self, response: u32) -> Result {
        let error = response >> 24;
        let known = matches!(
            Errno::from_raw(error as i32),
            Errno::EIO | Errno::EPERM | Errno::EBUSY | Errno::ETXTBSY | Errno::EAGAIN | Errno::ENOSPC | Errno::EDQUOT
        );
        let fits = match response & 3 {
            ALLOW => error == 0,
            DENY => error == 0 || known && self.has(flag::CLASS_PRE_CONTENT),
            _ => false,
        };
        let extra = response & !(3 | AUDIT | INFO | 0xff00_0000);
        if extra != 0 || !fits || response & AUDIT != 0 && !self.has(flag::ENABLE_AUDIT) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// The audit rule behind a response: it is looked at, there is no audit log.
fn take_rule(src: &mut IoSrc<'_>) -> Result<usize> {
    if src.left() != AUDIT_RULE {
        return Err(Errno::EINVAL);
    }
    let mut rule = [0; AUDIT_RULE];
    src.take(&mut rule)?;
    // Type, padding and length of its head.
    if rule[0] != 1 || rule[1] != 0 || u16::from_ne_bytes([rule[2], rule[3]]) as usize != AUDIT_RULE {
        return Err(Errno::EINVAL);
    }
    Ok(AUDIT_RULE)
}
