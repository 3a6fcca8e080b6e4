//! Messages beside their data: addresses, control messages, flags.

use super::SockAddr;
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;

bitflags! {
    /// `MSG_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs)]
    pub struct MsgFlags: u32 {
        const OOB = 1;
        const PEEK = 2;
        const DONTROUTE = 4;
        const CTRUNC = 8;
        const TRUNC = 0x20;
        const DONTWAIT = 0x40;
        const EOR = 0x80;
        const WAITALL = 0x100;
        const CONFIRM = 0x800;
        const ERRQUEUE = 0x2000;
        const NOSIGNAL = 0x4000;
        const MORE = 0x8000;
        const WAITFORONE = 0x1_0000;
        const ZEROCOPY = 0x400_0000;
        const FASTOPEN = 0x2000_0000;
        const CMSG_CLOEXEC = 0x4000_0000;
        const CMSG_COMPAT = 0x8000_0000;
        const _ = !0;
    }
}

/// Who sent a packet or made a connection: `struct ucred`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Ucred {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One control message (`cmsg(3)`).
#[derive(Clone, Debug)]
pub struct Cmsg {
    /// `cmsg_level`.
    pub level: u32,
    /// `cmsg_type`.
    pub kind: u32,
    /// Its data.
    pub data: Vec<u8>,
}

/// What goes with data that is sent.
#[derive(Default)]
pub struct SendMsg {
    /// `MSG_*`; `MSG_DONTWAIT` also where the description does not block.
    pub flags: MsgFlags,
    /// The destination, where one was given.
    pub to: Option<SockAddr>,
    /// Control messages other than files and credentials.
    pub control: Vec<Cmsg>,
    /// Files (`SCM_RIGHTS`).
    pub files: Vec<Arc<OpenFile>>,
    /// Most files that the sender's user may have in flight (`RLIMIT_NOFILE`).
    pub files_limit: u64,
    /// Credentials that the sender stated (`SCM_CREDENTIALS`), already checked.
    pub cred: Option<Ucred>,
}

/// What comes with data that is received.
#[derive(Default)]
pub struct RecvMsg {
    /// Flags for `msg_flags`.
    pub flags: MsgFlags,
    /// Bytes of the packet, where that may be more than was received.
    pub whole: usize,
    /// Who sent it.
    pub from: Option<SockAddr>,
    /// Control messages, in order; files follow them.
    pub control: Vec<Cmsg>,
    /// Files (`SCM_RIGHTS`).
    pub files: Vec<Arc<OpenFile>>,
    /// Whether the caller has room for control messages at all: nothing need be made otherwise.
    pub wants_control: bool,
    /// Whether the caller takes the sender's address.
    pub wants_name: bool,
    /// It is whole: what else there is does not belong to it, whatever room is left.
    pub complete: bool,
    /// The process that sent it, where the receiver gets a descriptor for it (`SCM_PIDFD`).
    pub pidfd: Option<u32>,
    /// Who sent it, where the receiver asked for that.
    pub credentials: Option<Ucred>,
    /// Who a stream's bytes are from, once there are some: those of others are not added.
    pub sender: Option<Option<Ucred>>,
}

impl RecvMsg {
    /// Adds a control message; one for which there is no memory is left out, as if there were no room.
    pub fn push_control(&mut self, level: u32, kind: u32, bytes: &[u8]) {
        let mut data = Vec::new();
        if !self.wants_control || data.try_reserve_exact(bytes.len()).is_err() || self.control.try_reserve(1).is_err() {
            self.flags |= MsgFlags::CTRUNC;
            return;
        }
        data.extend_from_slice(bytes);
        self.control.push(Cmsg { level, kind, data });
    }
}
