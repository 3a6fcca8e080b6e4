//! Who is told when a message comes into an empty queue (`mq_notify(3)`).

use super::file;
use crate::abi::{Errno, Result};
use crate::signal::{NSIG, info};
use crate::task::{CurrentTask, ThreadGroup};
use crate::vfs::OpenFile;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use once_cell::race::OnceBox;

/// `SI_MESGQ`.
const SI_MESGQ: i32 = -3;
const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
/// Bytes that a thread of the C library is told, and what the last of them says.
const COOKIE: usize = 32;
const WOKEN_UP: u8 = 1;
const REMOVED: u8 = 2;

/// What `mq_notify(2)` was asked for.
pub struct Event {
    /// `SIGEV_*`.
    pub how: i32,
    /// Signal number, or the descriptor of a netlink socket.
    pub signal: i32,
    /// What the signal carries.
    pub value: u64,
    /// What the socket is sent.
    pub cookie: [u8; COOKIE],
}

/// How it is told.
enum Way {
    Nothing,
    Signal(u32, u64),
    Socket(Arc<OpenFile>, [u8; COOKIE]),
}

/// A process that is to be told once.
pub struct Registration {
    pid: u32,
    group: Weak<ThreadGroup>,
    way: Way,
}

/// Puts a packet into a netlink socket, or says that the file is none. Room `net` stands beside this one, so boot says
/// who does it.
pub type Deliver = fn(&OpenFile, Option<&[u8]>) -> Result;
static DELIVER: OnceBox<Deliver> = OnceBox::new();

/// Says who puts packets into netlink sockets.
pub fn set_deliver(f: Deliver) {
    let _ = DELIVER.set(Box::new(f));
}

fn deliver(file: &OpenFile, packet: Option<&[u8]>) -> Result {
    DELIVER.get().map_or(Err(Errno::EINVAL), |f| f(file, packet))
}

/// What is to be done once no lock is held.
pub struct Notice {
    registration: Registration,
    from: (u32, u32),
}

impl Event {
    /// Makes a registration of it. The descriptor of a socket is looked at before that of the queue, as in Linux.
    ///
    /// # Errors
    /// `EINVAL`, `EBADF`, `ENOTSOCK`.
    fn register(&self, cur: &CurrentTask) -> Result<Registration> {
        let way = match self.how {
            SIGEV_NONE => Way::Nothing,
            SIGEV_SIGNAL if (0..=NSIG as i32).contains(&self.signal) => {
                Way::Signal(self.signal.unsigned_abs(), self.value)
            }
            SIGEV_THREAD => {
                let file = cur.files().get(self.signal)?;
                deliver(&file, None)?;
                Way::Socket(file, self.cookie)
            }
            _ => return Err(Errno::EINVAL),
        };
        Ok(Registration { pid: cur.group.pid, group: Arc::downgrade(&cur.group), way })
    }

    /// Whether a cookie belongs to it.
    pub fn has_cookie(how: i32) -> bool {
        how == SIGEV_THREAD
    }
}

/// `mq_notify(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EBUSY`.
pub fn request(cur: &CurrentTask, fd: i32, event: Option<&Event>) -> Result {
    let new = event.map(|e| e.register(cur)).transpose()?;
    let file = cur.file(fd)?;
    file::of_file(&file)?.register(cur.group.pid, new)
}

impl Registration {
    pub(super) fn is_of(&self, pid: u32) -> bool {
        self.pid == pid
    }

    /// A message came, from the running task.
    pub(super) fn arrived(self, cur: &CurrentTask) -> Notice {
        Notice { registration: self, from: (cur.group.pid, cur.cred().uid) }
    }

    /// It was taken back.
    pub(super) fn removed(self) {
        if let Way::Socket(file, mut cookie) = self.way {
            cookie[COOKIE - 1] = REMOVED;
            let _ = deliver(&file, Some(&cookie));
        }
    }

    /// `SIGEV_*`, signal and pid, as reading the queue shows them.
    pub(super) fn shown(&self) -> (i32, u32, u32) {
        match &self.way {
            Way::Nothing => (SIGEV_NONE, 0, self.pid),
            Way::Signal(signal, _) => (SIGEV_SIGNAL, *signal, self.pid),
            Way::Socket(..) => (SIGEV_THREAD, 0, self.pid),
        }
    }
}

impl Notice {
    /// Tells it. No lock is held.
    pub fn give(self) {
        let Notice { registration: Registration { group, way, .. }, from: (pid, uid) } = self;
        match way {
            Way::Signal(signal, value) if signal != 0 => {
                let mut i = info::from_user(signal, SI_MESGQ, pid, uid);
                i.fields[1] = value;
                if let Some(group) = group.upgrade() {
                    let _ = group.send(&i);
                }
            }
            Way::Socket(file, mut cookie) => {
                cookie[COOKIE - 1] = WOKEN_UP;
                let _ = deliver(&file, Some(&cookie));
            }
            _ => {}
        }
    }
}
