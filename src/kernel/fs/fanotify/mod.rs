//! `fanotify(7)`: groups, and their marks. What events they are told of is decided by [`crate::vfs::marks`].
//!
//! [`event`] is what lies in a group's queue, [`ask`] how somebody waits for its answer, [`read`] what reading gives.

mod ask;
mod event;
mod read;

use crate::abi::linux::{self, IN_ISDIR};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::user::{User, charge, uncharge};
use crate::cred::{Cred, UserNamespace, cap};
use crate::mm::{IoDst, IoSrc, UserPtr};
use crate::sync::{Events, Kind, Knob, Level, Mutex, WaitQueue};
use crate::vfs::marks::{self, Group, Happening, Object, Seen, Target, Wishes};
use crate::vfs::{FileOps, Inode, Mount, OpCtx, OpenFile, anon_file, kernel_dev};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use ask::Question;
use core::any::Any;
use core::fmt::Write;
use event::{Event, Queue};
use hashbrown::HashMap;

/// `/proc/sys/fs/fanotify/max_queued_events`.
pub static QUEUED_MAX: Knob = Knob::new(16384, 0, i32::MAX as u64);
/// `/proc/sys/fs/fanotify/max_user_groups`.
pub static GROUPS_MAX: Knob = Knob::new(128, 0, i32::MAX as u64);
/// `/proc/sys/fs/fanotify/max_user_marks`.
pub static MARKS_MAX: Knob = Knob::new(65536, 0, i32::MAX as u64);

/// `FAN_*` of `fanotify_init(2)`.
pub mod flag {
    #![allow(missing_docs)]
    pub const CLOEXEC: u32 = 1;
    pub const NONBLOCK: u32 = 2;
    pub const CLASS_CONTENT: u32 = 4;
    pub const CLASS_PRE_CONTENT: u32 = 8;
    pub const UNLIMITED_QUEUE: u32 = 0x10;
    pub const UNLIMITED_MARKS: u32 = 0x20;
    pub const ENABLE_AUDIT: u32 = 0x40;
    pub const REPORT_PIDFD: u32 = 0x80;
    pub const REPORT_TID: u32 = 0x100;
    pub const REPORT_FID: u32 = 0x200;
    pub const REPORT_DIR_FID: u32 = 0x400;
    pub const REPORT_NAME: u32 = 0x800;
    pub const REPORT_TARGET_FID: u32 = 0x1000;
    pub const REPORT_FD_ERROR: u32 = 0x2000;
    pub const REPORT_MNT: u32 = 0x4000;
    pub const CLASS: u32 = CLASS_CONTENT | CLASS_PRE_CONTENT;
    pub const FID: u32 = REPORT_FID | REPORT_DIR_FID | REPORT_NAME | REPORT_TARGET_FID;
    /// What takes CAP_SYS_ADMIN.
    pub const PRIVILEGED: u32 = CLASS | REPORT_TID | REPORT_PIDFD | REPORT_FD_ERROR | UNLIMITED_QUEUE | UNLIMITED_MARKS;
    pub const ALL: u32 = PRIVILEGED | FID | REPORT_MNT | CLOEXEC | NONBLOCK | ENABLE_AUDIT;
}

/// What there is of a mark beyond what [`marks`] keeps.
struct Marked {
    /// Device and inode number, of a file.
    id: (u64, u64),
}

struct State {
    queue: Queue,
    /// Questions that were read and wait for an answer, with the descriptor that they were read with.
    asked: Vec<(i32, Arc<Question>)>,
    marks: HashMap<Target, Marked>,
    /// The descriptor is closed.
    over: bool,
}

/// A group.
pub struct Fanotify {
    /// [`flag`]s.
    flags: u32,
    /// `O_*` of descriptors that are read.
    event_flags: u32,
    /// Whoever made it had no privilege.
    unprivileged: bool,
    user_ns: Arc<UserNamespace>,
    user: Arc<User>,
    state: Mutex<State>,
    /// Whoever waits for events.
    readers: WaitQueue,
    /// Whoever waits for an answer.
    askers: WaitQueue,
    me: Weak<Fanotify>,
}

struct Ops(Arc<Fanotify>);

/// Makes one; `flags` and `event_flags` have been checked. `unprivileged`: without CAP_SYS_ADMIN.
///
/// # Errors
/// `EMFILE` for too many groups of the user.
pub fn group(ctx: &OpCtx<'_>, flags: u32, event_flags: u32, unprivileged: bool) -> Result<Arc<OpenFile>> {
    let user = User::of(ctx.cred.euid);
    if !charge(&user.fanotify_groups, 1, GROUPS_MAX.get()) {
        return Err(Errno::EMFILE);
    }
    let most = if flags & flag::UNLIMITED_QUEUE != 0 { usize::MAX } else { QUEUED_MAX.get() as usize };
    let group = Arc::new_cyclic(|me| Fanotify {
        flags,
        event_flags: event_flags | linux::O_LARGEFILE,
        unprivileged,
        user_ns: ctx.cred.user_ns.clone(),
        user,
        // Events come while other locks are held: nothing is called under this one.
        state: Mutex::new(
            Level::Leaf,
            State { queue: Queue::new(most), asked: Vec::new(), marks: HashMap::new(), over: false },
        ),
        readers: WaitQueue::of(Kind::Fanotify),
        askers: WaitQueue::of(Kind::Fanotify),
        me: me.clone(),
    });
    let nonblock = if flags & flag::NONBLOCK != 0 { linux::O_NONBLOCK } else { 0 };
    Ok(anon_file("fanotify", Box::new(Ops(group)), linux::O_RDWR | nonblock, ctx))
}

/// The group behind an open file.
///
/// # Errors
/// `EINVAL` if it is none.
pub fn of_file(file: &OpenFile) -> Result<Arc<Fanotify>> {
    file.ops.as_any().downcast_ref::<Ops>().map(|o| o.0.clone()).ok_or(Errno::EINVAL)
}

/// A change of a mark (`fanotify_mark(2)`).
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Events, and their flags.
    pub mask: u32,
    /// It is about what is ignored.
    pub ignored: bool,
    /// `FAN_MARK_IGNORE`.
    pub precise: bool,
    /// `FAN_MARK_IGNORED_SURV_MODIFY`.
    pub survives: bool,
    /// `FAN_MARK_EVICTABLE`.
    pub evictable: bool,
}

impl Fanotify {
    fn as_group(&self) -> Weak<dyn Group> {
        self.me.clone()
    }

    /// Whether it was made with any of these [`flag`]s.
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags != 0
    }

    /// Whether `cred` may mark more than files with it.
    pub fn may_mark_all(&self, cred: &Cred) -> bool {
        cred.capable_in(&self.user_ns, cap::SYS_ADMIN)
    }

    fn priority(&self) -> u8 {
        ((self.flags & flag::CLASS) / flag::CLASS_CONTENT) as u8
    }

    /// Adds to the group's mark on `target`, whose file or file system is `of`. `written`: somebody may write to it now.
    ///
    /// # Errors
    /// `EEXIST` for what would weaken the mark, `ENOSPC` for too many marks, `ENOMEM`.
    pub fn add(&self, target: Target, of: &dyn Inode, change: Change, written: bool) -> Result {
        let known = marks::find(target, &self.as_group()).map(|(wishes, _)| wishes);
        let mut wishes = known.unwrap_or(Wishes { evictable: change.evictable, ..Wishes::default() });
        if known.is_some()
            && (change.evictable && !wishes.evictable
                || change.ignored && !change.precise && wishes.precise
                || change.precise && !change.survives && wishes.survives)
        {
            return Err(Errno::EEXIST);
        }
        // What is being written would be ignored until it is written to only.
        if change.ignored && !change.survives && written {
            return Ok(());
        }
        wishes.evictable &= change.evictable;
        if change.ignored {
            wishes.ignored |= change.mask;
            wishes.survives |= change.survives;
            wishes.precise |= change.precise;
        } else {
            wishes.mask |= change.mask;
        }
        if known.is_none() {
            self.enter(target, of)?;
        }
        let set = marks::set(target, of.file_system(), &self.as_group(), self.priority(), wishes);
        if set.is_err() && known.is_none() {
            self.leave(target);
        }
        set
    }

    /// One more mark.
    fn enter(&self, target: Target, of: &dyn Inode) -> Result {
        let id = of.identity()?;
        let limited = self.flags & flag::UNLIMITED_MARKS == 0;
        if limited && !charge(&self.user.fanotify_marks, 1, MARKS_MAX.get()) {
            return Err(Errno::ENOSPC);
        }
        let mut state = self.state.lock();
        let room = state.marks.try_reserve(1).map_err(|_| Errno::ENOMEM);
        if room.is_ok() {
            state.marks.insert(target, Marked { id });
        } else if limited {
            uncharge(&self.user.fanotify_marks, 1);
        }
        room
    }

    fn leave(&self, target: Target) {
        if self.state.lock().marks.remove(&target).is_some() && self.flags & flag::UNLIMITED_MARKS == 0 {
            uncharge(&self.user.fanotify_marks, 1);
        }
    }

    /// Takes events away from the group's mark on `target`; a mark that asks for nothing goes.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn subtract(&self, target: Target, of: &dyn Inode, change: Change, also: u32) -> Result {
        let (mut wishes, _) = marks::find(target, &self.as_group()).ok_or(Errno::ENOENT)?;
        if change.ignored {
            wishes.ignored &= !change.mask;
        } else {
            wishes.mask &= !change.mask;
        }
        if (wishes.mask | wishes.ignored) & !also == 0 {
            marks::remove(target, &self.as_group());
            self.leave(target);
            return Ok(());
        }
        marks::set(target, of.file_system(), &self.as_group(), self.priority(), wishes)
    }

    /// Takes all marks on things of one kind away.
    pub fn flush(&self, kind: fn(&Target) -> bool) {
        let targets: Vec<Target> = self.state.lock().marks.keys().filter(|t| kind(t)).copied().collect();
        for target in targets {
            marks::remove(target, &self.as_group());
            self.leave(target);
        }
    }

    /// Puts an event into the queue.
    fn push(&self, event: Event) {
        let (merged, gone) = {
            let mut state = self.state.lock();
            if state.over { (true, Some(event)) } else { state.queue.push(event) }
        };
        drop(gone);
        if !merged {
            self.readers.wake(Events::IN);
        }
    }

    /// The descriptor is closed: nothing is asked any more, and what was asked may happen.
    fn release(&self) {
        let (events, asked) = {
            let mut state = self.state.lock();
            state.over = true;
            (state.queue.take_all(), core::mem::take(&mut state.asked))
        };
        for question in events.iter().filter_map(Event::question).chain(asked.iter().map(|a| &a.1)) {
            question.answer(ask::ALLOW);
        }
        self.askers.wake(Events::IN);
        drop((events, asked));
        self.flush(|_| true);
        uncharge(&self.user.fanotify_groups, 1);
    }

    /// Lines of `/proc/PID/fdinfo`, of marks of one kind only, the newest first (`show_fdinfo` in Linux).
    fn describe(&self, out: &mut String) {
        let _ = writeln!(out, "fanotify flags:{:x} event-flags:{:x}", self.flags, self.event_flags);
        let targets: Vec<_> = self.state.lock().marks.iter().map(|(t, m)| (*t, m.id)).collect();
        let group = self.as_group();
        let found = |(target, id)| marks::find(target, &group).map(|(wishes, made)| (made, target, id, wishes));
        let mut all: Vec<_> = targets.into_iter().filter_map(found).collect();
        all.sort_by_key(|m| core::cmp::Reverse(m.0));
        for (_, target, (dev, ino), wishes) in all {
            if out.try_reserve(160).is_err() {
                return;
            }
            let flags = if wishes.survives { 0x40 } else { 0 }
                | if wishes.evictable { 0x200 } else { 0 }
                | if wishes.precise { 0x400 } else { 0 };
            let rest =
                format_args!("mflags:{flags:x} mask:{:x} ignored_mask:{:x}", wishes.mask, wishes.ignored).to_string();
            let _ = match target {
                Target::Inode(_) => writeln!(out, "fanotify ino:{ino:x} sdev:{:x} {rest} ", kernel_dev(dev)),
                Target::Mount(id) => writeln!(out, "fanotify mnt_id:{id:x} {rest}"),
                Target::FileSystem(_) => writeln!(out, "fanotify sdev:{:x} {rest}", kernel_dev(dev)),
                Target::Namespace(_) => writeln!(out, "fanotify mnt_ns:{ino} {rest}"),
            };
        }
    }
}

use alloc::string::ToString;

impl Group for Fanotify {
    fn tell(&self, what: &Happening<'_>, mask: u32, seen: Seen) {
        if let Some(event) = Event::of(self.flags, what, mask, seen) {
            self.push(event);
        }
    }

    fn ask(&self, what: &Happening<'_>, mask: u32) -> SysResult<()> {
        self.wait_for_answer(what, mask)
    }

    fn mounted(&self, mount: u64, mask: u32) {
        self.push(Event::of_mount(mount, mask));
    }

    fn ended(&self, target: Target) {
        self.leave(target);
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl FileOps for Ops {
    fn describe(&self, out: &mut String) {
        self.0.describe(out);
    }

    fn read(&self, ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        self.0.read(ctx, dst)
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        self.0.answered(src)
    }

    fn takes_write_flags(&self) -> bool {
        false
    }

    fn poll(&self) -> Events {
        if self.0.state.lock().queue.is_empty() { Events::empty() } else { Events::IN | Events::RDNORM }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.readers)
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        if request != linux_raw_sys::ioctl::FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        let bytes = self.0.state.lock().queue.len() * read::HEAD;
        UserPtr::<i32>::new(arg).write(bytes as i32)?;
        Ok(0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a mark on the whole file system of `mount` is on.
pub fn file_system_of(mount: &Mount) -> Target {
    Target::FileSystem(mount.root.inode.file_system())
}

const _: () = assert!(IN_ISDIR == 0x4000_0000);

/// The handle by which an event tells of a file (`struct file_handle`): the one of `name_to_handle_at(2)`, else one that is only
/// compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Handle {
    id: (u64, u64),
    lasting: bool,
}

impl Handle {
    fn of(object: &Object<'_>) -> Handle {
        let lasting = match object.dentry {
            Some(dentry) => crate::vfs::handles::handle_of(dentry).is_ok(),
            None => true,
        };
        Handle { id: object.id, lasting }
    }

    fn size(&self) -> usize {
        8 + if self.lasting { 16 } else { 12 }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (dev, ino) = self.id;
        let [bytes, kind] =
            if self.lasting { [16, crate::vfs::handles::KIND] } else { [12, crate::vfs::handles::FID_KIND] };
        out.extend_from_slice(&u32::to_ne_bytes(bytes));
        out.extend_from_slice(&kind.to_ne_bytes());
        if self.lasting {
            out.extend_from_slice(&dev.to_ne_bytes());
            out.extend_from_slice(&ino.to_ne_bytes());
        } else {
            out.extend_from_slice(&ino.to_ne_bytes());
            out.extend_from_slice(&[0; 4]);
        }
    }
}
