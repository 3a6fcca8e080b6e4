//! Owners and permissions of System V objects (`ipc/util.c` is what programs see).

use crate::abi::{Errno, Result};
use crate::cred::ns::Kind;
use crate::cred::{Cred, cap};
use crate::task::ns::IpcNamespace;

/// Bits for reading, and for changing, in a mode.
pub const READ: u32 = 0o444;
/// See [`READ`].
pub const ALTER: u32 = 0o222;
/// For executing, of shared memory.
pub const EXEC: u32 = 0o111;
/// The key of objects that no key leads to (`IPC_PRIVATE`).
pub const PRIVATE: i32 = 0;
/// `IPC_CREAT`.
pub const CREAT: u32 = 0o1000;
/// `IPC_EXCL`.
pub const EXCL: u32 = 0o2000;
/// `IPC_NOWAIT`.
pub const NOWAIT: u32 = 0o4000;

/// `struct kern_ipc_perm`. Ids are those of the initial user namespace.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Perm {
    pub id: i32,
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    /// Permission bits, and those of the kind of object.
    pub mode: u32,
}

/// `struct ipc64_perm`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct UserPerm {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub mode: u32,
    pub seq: u16,
    pub pad: u16,
    pub pad2: u32,
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<UserPerm>() == 48);

/// Ids as `cred`'s user namespace knows them, `overflowuid` for others.
pub fn shown(cred: &Cred, kind: Kind, id: u32) -> u32 {
    cred.user_ns.seen(kind, id)
}

impl Perm {
    /// Of an object that `cred` makes with these flags; the id is set when it is entered.
    pub fn new(cred: &Cred, key: i32, flags: u32) -> Perm {
        Perm { id: 0, key, uid: cred.euid, gid: cred.egid, cuid: cred.euid, cgid: cred.egid, mode: flags & 0o777 }
    }

    /// Whether `cred` may do what the bits of `wanted` say, in any of the three places (`ipcperms`).
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, ns: &IpcNamespace, cred: &Cred, wanted: u32) -> Result {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let mut granted = self.mode;
        if cred.euid == self.cuid || cred.euid == self.uid {
            granted >>= 6;
        } else if cred.in_group(self.cgid) || cred.in_group(self.gid) {
            granted >>= 3;
        }
        if wanted & !granted & 7 != 0 && !cred.capable_in(&ns.user_ns, cap::IPC_OWNER) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether `cred` may remove it or change its owner and mode (`ipcctl_obtain_check`).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_owner(&self, ns: &IpcNamespace, cred: &Cred) -> Result {
        let owns = cred.euid == self.cuid || cred.euid == self.uid;
        if owns || cred.capable_in(&ns.user_ns, cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `IPC_SET`: takes owner, group and permission bits.
    ///
    /// # Errors
    /// `EINVAL` for an id that the namespace of `cred` does not map.
    pub fn update(&mut self, cred: &Cred, to: &UserPerm) -> Result {
        let uid = cred.user_ns.meant(Kind::User, to.uid)?;
        let gid = cred.user_ns.meant(Kind::Group, to.gid)?;
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !0o777 | to.mode & 0o777;
        Ok(())
    }

    /// As a program sees it.
    pub fn to_user(&self, cred: &Cred) -> UserPerm {
        let user = |id| shown(cred, Kind::User, id);
        let group = |id| shown(cred, Kind::Group, id);
        UserPerm {
            key: self.key,
            uid: user(self.uid),
            gid: group(self.gid),
            cuid: user(self.cuid),
            cgid: group(self.cgid),
            mode: self.mode,
            seq: (self.id >> super::ids::SEQ_SHIFT) as u16,
            ..UserPerm::default()
        }
    }
}
