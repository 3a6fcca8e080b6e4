//! `inotify(7)`.

use crate::abi::linux::{
    self, IN_ALL_EVENTS, IN_CLOEXEC, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_IGNORED, IN_MASK_ADD, IN_MASK_CREATE,
    IN_NONBLOCK, IN_ONESHOT, IN_Q_OVERFLOW, IN_UNMOUNT,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::user::{User, charge, uncharge};
use crate::mm::{IoDst, UserPtr};
use crate::sync::{Events, Kind, Knob, Level, Mutex, WaitQueue};
use crate::vfs::marks::Object;
use crate::vfs::notify::{self, Id, Listener};
use crate::vfs::{FileOps, Inode, OpCtx, OpenFile, anon_file, kernel_dev};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::fmt::Write;

/// `/proc/sys/fs/inotify/max_queued_events`.
pub static QUEUED_MAX: Knob = Knob::new(16384, 0, i32::MAX as u64);
/// `/proc/sys/fs/inotify/max_user_watches`.
pub static WATCHES_MAX: Knob = Knob::new(65536, 0, i32::MAX as u64);
/// `/proc/sys/fs/inotify/max_user_instances`.
pub static INSTANCES_MAX: Knob = Knob::new(128, 0, i32::MAX as u64);
/// The bits of a watch that are kept.
const KEPT: u32 = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK;
/// Size of `struct inotify_event`; names are padded to it.
const HEAD: usize = 16;

#[derive(PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Box<[u8]>,
}

impl Event {
    /// Length of the name with its NUL and padding.
    fn name_len(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEAD) }
    }

    /// Bytes that reading it gives.
    fn size(&self) -> usize {
        HEAD + self.name_len()
    }

    fn put(&self, dst: &mut IoDst<'_>) -> Result {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&self.wd.to_ne_bytes());
        head[4..8].copy_from_slice(&self.mask.to_ne_bytes());
        head[8..12].copy_from_slice(&self.cookie.to_ne_bytes());
        head[12..].copy_from_slice(&(self.name_len() as u32).to_ne_bytes());
        dst.put(&head)?;
        dst.put(&self.name)?;
        dst.put_zeros(self.name_len() - self.name.len())?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Watch {
    id: Id,
    mask: u32,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Bytes that reading all of them gives.
    bytes: usize,
    watches: BTreeMap<i32, Watch>,
    by_id: BTreeMap<Id, i32>,
    last: i32,
    /// Most events, as it was allowed when the instance was made.
    most: usize,
}

impl State {
    fn push(&mut self, event: Event) {
        // The same thing twice in a row is told once.
        if self.events.back() == Some(&event) {
            return;
        }
        let event = match self.events.len() {
            n if n < self.most => event,
            n if n == self.most => Event { wd: -1, mask: IN_Q_OVERFLOW, cookie: 0, name: Box::default() },
            _ => return,
        };
        if self.events.try_reserve(1).is_ok() {
            self.bytes += event.size();
            self.events.push_back(event);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.size();
        Some(event)
    }
}

/// An instance: its watches and what they have seen.
pub struct Inotify {
    state: Mutex<State>,
    queue: WaitQueue,
    user: Arc<User>,
    me: Weak<Inotify>,
}

struct Ops(Arc<Inotify>);

/// Makes one.
///
/// # Errors
/// `EINVAL` for unknown flags, `EMFILE` for too many instances of the user.
pub fn inotify(ctx: &OpCtx<'_>, flags: u32) -> Result<Arc<OpenFile>> {
    if flags & !(IN_CLOEXEC | IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let user = User::of(ctx.cred.uid);
    if !charge(&user.inotify_instances, 1, INSTANCES_MAX.get()) {
        return Err(Errno::EMFILE);
    }
    let instance = Arc::new_cyclic(|me| Inotify {
        user,
        // Events come while other locks are held: nothing is called under this one.
        state: Mutex::new(Level::Leaf, State { most: QUEUED_MAX.get() as usize, ..State::default() }),
        queue: WaitQueue::of(Kind::Inotify),
        me: me.clone(),
    });
    Ok(anon_file("inotify", Box::new(Ops(instance)), linux::O_RDONLY | flags & IN_NONBLOCK, ctx))
}

/// The instance behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<Arc<Inotify>> {
    file.ops.as_any().downcast_ref::<Ops>().map(|o| o.0.clone()).ok_or(Errno::EINVAL)
}

impl Inotify {
    fn listener(&self) -> Weak<dyn Listener> {
        self.me.clone()
    }

    /// Watches a file, or changes the watch that there is; its number.
    ///
    /// # Errors
    /// `EEXIST` with IN_MASK_CREATE, `ENOSPC`, `ENOMEM`.
    pub fn add(&self, inode: &dyn Inode, mask: u32) -> Result<i32> {
        let id = inode.identity()?;
        let wanted = mask & KEPT | IN_IGNORED;
        let (wd, mask) = {
            let mut state = self.state.lock();
            let known = state.by_id.get(&id).copied();
            if let Some(wd) = known
                && let Some(watch) = state.watches.get_mut(&wd)
            {
                if mask & IN_MASK_CREATE != 0 {
                    return Err(Errno::EEXIST);
                }
                watch.mask = if mask & IN_MASK_ADD != 0 { watch.mask | wanted } else { wanted };
                (wd, watch.mask)
            } else {
                crate::arena::charge(crate::arena::Object::Watch)?;
                if !charge(&self.user.inotify_watches, 1, WATCHES_MAX.get()) {
                    return Err(Errno::ENOSPC);
                }
                let mut wd = state.last;
                // Numbers go round, as Linux's do.
                while wd == state.last || state.watches.contains_key(&wd) {
                    wd = wd.checked_add(1).unwrap_or(1);
                }
                state.last = wd;
                state.watches.insert(wd, Watch { id, mask: wanted });
                state.by_id.insert(id, wd);
                (wd, wanted)
            }
        };
        // The end of a file ends its watch, whether or not anybody wants to hear of it.
        notify::watch(Object::of_inode(inode)?, &self.listener(), wd, mask | IN_DELETE_SELF)?;
        Ok(wd)
    }

    /// Ends a watch.
    ///
    /// # Errors
    /// `EINVAL` if there is none of this number.
    pub fn remove(&self, wd: i32) -> Result {
        let watch = {
            let mut state = self.state.lock();
            let watch = state.watches.remove(&wd).ok_or(Errno::EINVAL)?;
            state.by_id.remove(&watch.id);
            uncharge(&self.user.inotify_watches, 1);
            state.push(Event { wd, mask: IN_IGNORED, cookie: 0, name: Box::default() });
            watch
        };
        notify::unwatch(watch.id, &self.listener(), wd);
        self.queue.wake(Events::IN);
        Ok(())
    }
}

impl Listener for Inotify {
    fn event(&self, wd: i32, mask: u32, cookie: u32, name: &[u8]) {
        let over = {
            let mut state = self.state.lock();
            let Some(watch) = state.watches.get(&wd).copied() else { return };
            if (watch.mask | IN_UNMOUNT) & mask & (IN_ALL_EVENTS | IN_UNMOUNT) != 0 {
                state.push(Event { wd, mask, cookie, name: name.into() });
            }
            mask & (IN_DELETE_SELF | IN_UNMOUNT) != 0 || watch.mask & IN_ONESHOT != 0
        };
        if over {
            let _ = self.remove(wd);
        }
        self.queue.wake(Events::IN);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let listener = self.listener();
        let watches = core::mem::take(&mut self.state.lock().watches);
        uncharge(&self.user.inotify_watches, watches.len() as u64);
        uncharge(&self.user.inotify_instances, 1);
        for (wd, watch) in watches {
            notify::unwatch(watch.id, &listener, wd);
        }
    }
}

impl FileOps for Ops {
    fn describe(&self, out: &mut String) {
        let state = self.0.state.lock();
        for (wd, watch) in state.watches.iter().rev() {
            if out.try_reserve(160).is_err() {
                return;
            }
            let (dev, ino) = watch.id;
            let _ = writeln!(
                out,
                "inotify wd:{wd:x} ino:{ino:x} sdev:{:x} mask:{:x} ignored_mask:0 ",
                kernel_dev(dev),
                watch.mask & !IN_IGNORED
            );
        }
    }

    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        let before = dst.done();
        loop {
            let event = {
                let mut state = self.0.state.lock();
                match state.events.front() {
                    None if dst.done() == before => return Err(Errno::EAGAIN.into()),
                    Some(e) if e.size() > dst.left() && dst.done() == before => {
                        return Err(Errno::EINVAL.into());
                    }
                    Some(e) if e.size() <= dst.left() => state.pop(),
                    _ => None,
                }
            };
            let Some(event) = event else { return Ok(dst.done() - before) };
            event.put(dst)?;
        }
    }

    fn poll(&self) -> Events {
        if self.0.state.lock().events.is_empty() { Events::empty() } else { Events::IN | Events::RDNORM }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        if request != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let bytes = self.0.state.lock().bytes;
        UserPtr::<i32>::new(arg).write(bytes as i32)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
