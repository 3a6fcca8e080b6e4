//! POSIX message queues (`mq_overview(7)`): a file system of its own, of which each namespace has one.

mod file;
mod notify;
mod queue;

pub use file::{Root, of_file};
pub use notify::{Event, request, set_deliver};
pub use queue::{Message, PRIORITIES, Queue};

use super::Ipc;
use crate::abi::linux::{O_ACCMODE, O_CREAT, O_EXCL, O_NONBLOCK};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::cred::{Cred, UserNamespace, cap, user};
use crate::sync::{Level, MendMap, Mutex};
use crate::task::ns::IpcNamespace;
use crate::task::{CurrentTask, limits};
use crate::vfs::access::{self, EXEC, READ, WRITE};
use crate::vfs::{Inode, OpenFile, mount};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use file::{MqFile, MqInode};

/// Most messages and bytes of one that anybody may ask for (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
const HARD_MESSAGES: u64 = 65536;
const HARD_SIZE: u64 = 16 << 20;
/// What each message, and each priority, counts with beside its text, bytes (`struct msg_msg`,
/// `struct posix_msg_tree_node`).
const OVERHEAD: u64 = 48;
/// Longest name.
const NAME_MAX: usize = 255;

/// `struct mq_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Attr {
    pub flags: i64,
    pub messages: i64,
    pub size: i64,
    pub current: i64,
    pub reserved: [i64; 4],
}

/// The queues of a namespace, and their limits.
pub struct Mqueues {
    names: Mutex<MendMap<Vec<u8>, Arc<MqInode>>>,
    /// `queues_max`, `msg_max`, `msgsize_max`, `msg_default`, `msgsize_default` of `/proc/sys/fs/mqueue`.
    pub limits: [AtomicU32; 5],
    /// Queues, those without a name included.
    count: Arc<AtomicU32>,
}

impl Default for Mqueues {
    fn default() -> Self {
        let limits = [256, 10, 8192, 10, 8192].map(AtomicU32::new);
        Mqueues { names: Mutex::mended(Level::FileData, MendMap::new()), limits, count: Arc::default() }
    }
}

/// Names and ranges of [`Mqueues::limits`].
pub const SETTINGS: [(&str, u32, u32); 5] = [
    ("queues_max", 0, i32::MAX as u32),
    ("msg_max", 1, HARD_MESSAGES as u32),
    ("msgsize_max", 128, HARD_SIZE as u32),
    ("msg_default", 1, HARD_MESSAGES as u32),
    ("msgsize_default", 128, HARD_SIZE as u32),
];

/// A name as `mq_open(2)` takes it: one component.
fn check_name(name: &[u8]) -> Result {
    match name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        n if n.contains(&b'/') => Err(Errno::EACCES),
        n if n.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

impl Mqueues {
    fn limit(&self, i: usize) -> u64 {
        u64::from(self.limits[i].load(Relaxed))
    }

    /// Makes a queue called `name` with these permission bits; `most`: `RLIMIT_MSGQUEUE`.
    fn create(&self, cred: &Cred, name: &[u8], mode: u32, attr: Option<&Attr>, most: u64) -> Result<Arc<MqInode>> {
        arena::charge(Object::Name)?;
        let free = cred.capable_in(UserNamespace::initial(), cap::SYS_RESOURCE);
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        if u64::from(self.count.load(Relaxed)) >= self.limit(0) && !free {
            return Err(Errno::ENOSPC);
        }
        let (messages, size) = match attr {
            None => (self.limit(1).min(self.limit(3)), self.limit(2).min(self.limit(4))),
            Some(a) => {
                let positive = |n: i64| u64::try_from(n).ok().filter(|&n| n > 0).ok_or(Errno::EINVAL);
                (positive(a.messages)?, positive(a.size)?)
            }
        };
        let hard = if free { (HARD_MESSAGES, HARD_SIZE) } else { (self.limit(1), self.limit(2)) };
        if messages > hard.0 || size > hard.1 {
            return Err(Errno::EINVAL);
        }
        let bytes = messages * size + messages * OVERHEAD + messages.min(u64::from(PRIORITIES)) * OVERHEAD;
        if !user::charge(&cred.user.mq_bytes, bytes, most) {
            return Err(Errno::EMFILE);
        }
        self.count.fetch_add(1, Relaxed);
        let queue = Queue::new(messages, size, (cred.user.clone(), bytes), self.count.clone());
        let inode = MqInode::new(queue, (mode, cred.fsuid, cred.fsgid));
        names.insert(name.to_vec(), inode.clone());
        Ok(inode)
    }

    fn find(&self, name: &[u8]) -> Result<Arc<MqInode>> {
        self.names.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// Removes a name, if it is that of `inode` or whichever it is.
    fn forget(&self, name: &[u8], inode: Option<&Arc<dyn Inode>>) -> Result {
        let mut names = self.names.lock();
        let there = names.get(name).ok_or(Errno::ENOENT)?;
        if inode.is_some_and(|i| !i.as_any().downcast_ref::<MqInode>().is_some_and(|i| core::ptr::eq(i, &**there))) {
            return Err(Errno::ENOENT);
        }
        let gone = names.remove(name);
        drop(names);
        if let Some(gone) = &gone {
            gone.unlinked();
        }
        Ok(())
    }
}

/// `mq_open(2)`, but for the descriptor.
///
/// # Errors
/// Those of the manual page.
pub fn open(cur: &CurrentTask, name: &[u8], flags: u32, mode: u32, attr: Option<&Attr>) -> Result<Arc<OpenFile>> {
    let ns = super::namespace(cur);
    let queues = &Ipc::of(&ns).mq;
    check_name(name)?;
    let ctx = cur.op_ctx();
    let inode = match queues.find(name) {
        Ok(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(Errno::EEXIST),
        Ok(there) => {
            let want = match flags & O_ACCMODE {
                0 => READ,
                1 => WRITE,
                2 => READ | WRITE,
                _ => return Err(Errno::EINVAL),
            };
            access::check(ctx.cred, &*there, want)?;
            there
        }
        Err(_) if flags & O_CREAT == 0 => return Err(Errno::ENOENT),
        Err(_) => {
            let most = cur.group.limits.get(limits::MSGQUEUE).0;
            queues.create(ctx.cred, name, mode & !ctx.umask & 0o7777, attr, most)?
        }
    };
    let source = format!("/{}", alloc::string::String::from_utf8_lossy(name));
    let path = mount::detached_named(inode.clone(), "mqueue", &source);
    let ops = Box::new(MqFile(inode.queue.clone()));
    Ok(OpenFile::new(ops, inode, path, flags & (O_ACCMODE | O_NONBLOCK)))
}

/// `mq_unlink(2)`.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EPERM`.
pub fn unlink(cur: &CurrentTask, name: &[u8]) -> Result {
    let ns = super::namespace(cur);
    let queues = &Ipc::of(&ns).mq;
    check_name(name)?;
    let there = queues.find(name)?;
    let cred = cur.cred();
    access::check(cred, &Root::of(&ns), WRITE | EXEC)?;
    // The directory is a sticky one.
    let (_, owner, group) = there.permissions()?;
    if cred.fsuid != owner && cred.fsuid != 0 && !cred.capable_over(cap::FOWNER, owner, group) {
        return Err(Errno::EPERM);
    }
    queues.forget(name, None)
}

/// The file system of a namespace, to be mounted.
pub fn root(ns: &Arc<IpcNamespace>) -> Arc<dyn Inode> {
    Arc::new(Root::of(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_components() {
        assert_eq!(check_name(b"a"), Ok(()));
        assert_eq!(check_name(b""), Err(Errno::ENOENT));
        assert_eq!(check_name(b"a/b"), Err(Errno::EACCES));
        assert_eq!(check_name(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn what_queues_may_take_is_counted_for_their_maker() {
        let all = Mqueues::default();
        let cred = Cred::new(7311, 7311, Vec::new());
        let attr = |messages, size| Attr { messages, size, ..Attr::default() };
        let make = |name: &[u8], a: &Attr, most| all.create(&cred, name, 0o600, Some(a), most).map(drop);
        assert_eq!(make(b"a", &attr(11, 1), u64::MAX), Err(Errno::EINVAL));
        assert_eq!(make(b"a", &attr(0, 1), u64::MAX), Err(Errno::EINVAL));
        assert_eq!(make(b"a", &attr(2, 100), 391), Err(Errno::EMFILE));
        assert_eq!(make(b"a", &attr(2, 100), 392), Ok(()));
        assert_eq!(make(b"a", &attr(2, 100), 392), Err(Errno::EEXIST));
        assert_eq!(make(b"b", &attr(1, 1), 392), Err(Errno::EMFILE));
        all.forget(b"a", None).unwrap();
        assert_eq!(make(b"b", &attr(1, 1), 392), Ok(()));
        assert_eq!(all.count.load(Relaxed), 1);
    }
}
