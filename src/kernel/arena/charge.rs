//! The one place that says whether a kernel object may be made, and which error a guest sees if not.
//!
//! What an object costs is counted where it is taken: by the page source, in runs of blocks that the magazines of the
//! slots hand out, so an object costs no counter of its own. What is decided here is whether there may be one more.
//! Past a *soft limit* there may not, and twice the reserve lies between that limit and the hard one: for the small
//! allocations of calls that are under way already, which nobody can refuse (`Arc::new`, a node of a map), and for
//! calls that free something. A size that a guest chooses is asked for by `try_reserve`, or by [`charge_bytes`] first.
//!
//! Every constructor of something that a guest can have more of at will calls [`charge`] before it makes anything.

use super::KERNEL;
use crate::abi::{Errno, Result};

/// What a guest can have more of at will. The error is Linux's when there is no memory for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Object {
    /// A mapping, or a part of one that becomes a mapping of its own.
    Mapping,
    /// An open file description: files, pipes, sockets, eventfds, epoll instances and the like.
    File,
    /// A name in a file system, with its inode. A quarter of the heap stays for those who look at the names and remove
    /// them.
    Name,
    /// A name of the host's tree that is looked at. Those who remove names may look at them where none can be made.
    Import,
    /// An extended attribute.
    Attribute,
    /// A mount.
    Mount,
    /// A process or a thread.
    Task,
    /// A namespace of any kind.
    Namespace,
    /// A signal that is queued with its information.
    Signal,
    /// A timer of `timer_create(2)`.
    Timer,
    /// A watch of inotify, or an interest of epoll.
    Watch,
    /// A lock of a range of a file.
    Lock,
    /// A packet in a socket's queue.
    Packet,
    /// Data that is kept for a guest, as in a pipe. An eighth of the heap stays free of it, so that there
    /// is some left where names have taken all that they may.
    Buffer,
}

impl Object {
    /// The error of a call that would make one.
    const fn refusal(self) -> Errno {
        match self {
            Object::Name => Errno::ENOSPC,
            Object::Timer | Object::Signal => Errno::EAGAIN,
            Object::Lock => Errno::ENOLCK,
            Object::Packet => Errno::ENOBUFS,
            _ => Errno::ENOMEM,
        }
    }
}

/// Says no to one more `object`.
///
/// # Errors
/// Linux's, where the heap is past its soft limit.
#[inline]
pub fn charge(object: Object) -> Result {
    charge_bytes(object, 0)
}

/// As [`charge`], for one that takes `bytes`, where these are many.
///
/// # Errors
/// As [`charge`], where the heap would be past its soft limit.
#[inline]
pub fn charge_bytes(object: Object, bytes: u64) -> Result {
    // Elsewhere the program's own allocator serves, and this heap is never opened.
    if !cfg!(feature = "image") {
        return Ok(());
    }
    let keeps = match object {
        Object::Name => KERNEL.pages.limit() / 4,
        Object::Buffer => KERNEL.pages.limit() / 8,
        _ => 0,
    };
    KERNEL.room(bytes.saturating_add(keeps)).map_err(|_| object.refusal())
}
