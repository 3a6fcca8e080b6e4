//! What reading a group gives: `struct fanotify_event_metadata` with what follows it (`fanotify(7)`).

use super::ask::DENY;
use super::event::{Event, Files, Told};
use super::{Fanotify, Handle, flag};
use crate::abi::linux::{IN_ISDIR, O_CLOEXEC};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::fs::pidfd::pidfd;
use crate::mm::IoDst;
use crate::sync::Events;
use crate::task::work::running;
use crate::task::{Pid, limits};
use crate::vfs::marks::{self, event};
use crate::vfs::open::open_quietly;
use crate::vfs::{OpCtx, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Size of `struct fanotify_event_metadata`.
pub(super) const HEAD: usize = 24;
/// `FAN_NOFD` and `FAN_NOPIDFD`.
const NONE: i32 = -1;
/// `FAN_EPIDFD`.
const NO_PIDFD_MADE: i32 = -2;

/// `FAN_EVENT_INFO_TYPE_*`.
mod kind {
    pub const FID: u8 = 1;
    pub const DFID_NAME: u8 = 2;
    pub const DFID: u8 = 3;
    pub const PIDFD: u8 = 4;
    pub const MNT: u8 = 7;
    pub const OLD_DFID_NAME: u8 = 10;
    pub const NEW_DFID_NAME: u8 = 12;
}

/// Bytes of a record that tells of a file, with a name.
fn file_size(handle: &Handle, name: usize) -> usize {
    let named = if name > 0 { name + 1 } else { 0 };
    (4 + 8 + handle.size() + named).next_multiple_of(4)
}

fn put_file(out: &mut Vec<u8>, kind: u8, fs: u64, handle: &Handle, name: &[u8]) {
    let (start, size) = (out.len(), file_size(handle, name.len()));
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&(size as u16).to_ne_bytes());
    out.extend_from_slice(&fs.to_ne_bytes());
    handle.put(out);
    out.extend_from_slice(name);
    out.resize(start + size, 0);
}

impl Files {
    /// The name that a lone handle goes with, where the group tells names.
    fn lone_name(&self, flags: u32, mask: u32) -> &'static [u8] {
        let named = flags & flag::REPORT_NAME != 0 && mask & IN_ISDIR != 0;
        if named && self.is_lone(flags) { b"." } else { b"" }
    }

    fn is_lone(&self, flags: u32) -> bool {
        flags & flag::FID != flag::REPORT_FID && self.dir.is_none() && self.to.is_none()
    }

    fn size(&self, flags: u32, mask: u32) -> usize {
        let named = |n: &(Handle, alloc::boxed::Box<[u8]>)| file_size(&n.0, n.1.len());
        self.dir.as_ref().map_or(0, named)
            + self.to.as_ref().map_or(0, named)
            + self.object.as_ref().map_or(0, |h| file_size(h, self.lone_name(flags, mask).len()))
    }

    /// `copy_info_records_to_user` in Linux.
    fn put(&self, out: &mut Vec<u8>, flags: u32, mask: u32) {
        if let Some((dir, name)) = &self.dir {
            let kind = match name.len() {
                _ if mask & event::RENAME != 0 => kind::OLD_DFID_NAME,
                0 => kind::DFID,
                _ => kind::DFID_NAME,
            };
            put_file(out, kind, self.fs, dir, name);
        }
        if let Some((dir, name)) = &self.to {
            put_file(out, kind::NEW_DFID_NAME, self.fs, dir, name);
        }
        if let Some(object) = &self.object {
            let name = self.lone_name(flags, mask);
            let kind = match name.len() {
                0 if self.is_lone(flags) && mask & (marks::NAMES | IN_ISDIR) != 0 => kind::DFID,
                0 => kind::FID,
                _ => kind::DFID_NAME,
            };
            put_file(out, kind, self.fs, object, name);
        }
    }
}

/// Descriptors that the reader gets; they are closed again unless the event is delivered.
struct Given {
    fds: [i32; 2],
    kept: bool,
}

impl Given {
    /// Gives the running process a descriptor; in its place the error's number.
    fn give(&mut self, at: usize, file: SysResult<Arc<OpenFile>>, cloexec: bool) -> i32 {
        let installed = (|| -> Result<i32> {
            let file = file.map_err(SysError::errno)?;
            let task = running().ok_or(Errno::ESRCH)?;
            let own = task.shared().ok_or(Errno::ESRCH)?;
            own.files.install(file, cloexec, 0, task.group.limits.get(limits::NOFILE).0)
        })();
        match installed {
            Ok(fd) => {
                self.fds[at] = fd;
                fd
            }
            Err(e) => -e.raw(),
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(own) = running().and_then(|task| task.shared()) {
            for fd in self.fds.into_iter().filter(|fd| *fd >= 0) {
                drop(own.files.remove(fd));
            }
        }
    }
}

impl Fanotify {
    fn size_of(&self, event: &Event) -> usize {
        let told = match &event.told {
            Told::Files(files) => files.size(self.flags, event.mask),
            Told::Mount(_) => 16,
            Told::Place(_) | Told::Overflow => 0,
        };
        HEAD + told + if self.has(flag::REPORT_PIDFD) { 8 } else { 0 }
    }

    /// Gives as many events as fit.
    pub(super) fn read(&self, ctx: &OpCtx<'_>, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let before = dst.done();
        loop {
            let event = {
                let mut state = self.state.lock();
                match state.queue.front() {
                    None if dst.done() == before => return Err(Errno::EAGAIN.into()),
                    Some(e) if self.size_of(e) > dst.left() && dst.done() == before => return Err(Errno::EINVAL.into()),
                    Some(e) if self.size_of(e) <= dst.left() => state.queue.pop(),
                    _ => None,
                }
            };
            let Some(event) = event else { return Ok(dst.done() - before) };
            let outcome = self.deliver(ctx, &event, dst);
            if let Some(question) = event.question() {
                // What nobody has read nobody can answer.
                let pending = outcome.as_ref().ok().filter(|fd| **fd >= 0);
                let entered = pending.is_some_and(|fd| {
                    let mut state = self.state.lock();
                    !state.over
                        && state.asked.try_reserve(1).map(|()| state.asked.push((*fd, question.clone()))).is_ok()
                });
                if !entered {
                    question.answer(DENY);
                    self.askers.wake(Events::IN);
                }
            }
            outcome?;
        }
    }

    /// Copies one event; the descriptor that it comes with.
    fn deliver(&self, ctx: &OpCtx<'_>, event: &Event, dst: &mut IoDst<'_>) -> SysResult<i32> {
        let mut given = Given { fds: [NONE; 2], kept: false };
        let cloexec = self.event_flags & O_CLOEXEC != 0;
        let mut fd = NONE;
        if let (Told::Place(path), false) = (&event.told, self.unprivileged) {
            let got = given.give(0, open_quietly(ctx, path.clone(), self.event_flags), cloexec);
            fd = if got >= 0 || self.has(flag::REPORT_FD_ERROR) { got } else { NONE };
        }
        let mut out = Vec::new();
        let size = self.size_of(event);
        out.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        out.extend_from_slice(&(size as u32).to_ne_bytes());
        out.extend_from_slice(&[3, 0]);
        out.extend_from_slice(&(HEAD as u16).to_ne_bytes());
        out.extend_from_slice(&u64::from(event.mask).to_ne_bytes());
        out.extend_from_slice(&fd.to_ne_bytes());
        out.extend_from_slice(&self.seen_by_reader(event.by.as_ref()).to_ne_bytes());
        match &event.told {
            Told::Files(files) => files.put(&mut out, self.flags, event.mask),
            Told::Mount(id) => {
                out.extend_from_slice(&[kind::MNT, 0, 16, 0, 0, 0, 0, 0]);
                out.extend_from_slice(&id.to_ne_bytes());
            }
            Told::Place(_) | Told::Overflow => {}
        }
        if self.has(flag::REPORT_PIDFD) {
            let live = event.by.as_ref().filter(|pid| pid.process().is_some());
            let pidfd = match live {
                None => NONE,
                Some(pid) => match given.give(1, Ok(pidfd(ctx, pid, 0)), true) {
                    fd if fd >= 0 => fd,
                    error if self.has(flag::REPORT_FD_ERROR) => error,
                    _ => NO_PIDFD_MADE,
                },
            };
            out.extend_from_slice(&[kind::PIDFD, 0, 8, 0]);
            out.extend_from_slice(&pidfd.to_ne_bytes());
        }
        dst.put(&out)?;
        given.kept = true;
        Ok(fd)
    }

    /// The number by which the reader knows who did it; others' are not for readers without privilege.
    fn seen_by_reader(&self, by: Option<&Arc<Pid>>) -> u32 {
        let (Some(pid), Some(reader)) = (by, running()) else { return 0 };
        if self.unprivileged && !Arc::ptr_eq(pid, &reader.group.id) {
            return 0;
        }
        pid.number_in(reader.group.id.namespace())
    }
}
