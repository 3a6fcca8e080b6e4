//! Credentials: ids, supplementary groups, capabilities.

pub mod user;

use alloc::vec::Vec;

/// A task's credentials (`credentials(7)`); immutable, replaced as a whole.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub suid: u32,
    pub sgid: u32,
    pub fsuid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    /// Effective, permitted, inheritable, bounding, ambient capability sets (bit = `CAP_*`).
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
    pub no_new_privs: bool,
}

/// Capability numbers that the kernel asks for.
#[allow(missing_docs)]
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const SYS_RAWIO: u32 = 17;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const MKNOD: u32 = 27;
    pub const WAKE_ALARM: u32 = 35;
    /// Every capability that exists (40 of them).
    pub const ALL: u64 = (1 << 41) - 1;
}

impl Cred {
    /// The credentials of a fresh process with these ids: root has every capability, others none.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Cred {
        let caps = if uid == 0 { cap::ALL } else { 0 };
        Cred {
            uid,
            gid,
            euid: uid,
            egid: gid,
            suid: uid,
            sgid: gid,
            fsuid: uid,
            fsgid: gid,
            groups,
            cap_effective: caps,
            cap_permitted: caps,
            cap_inheritable: 0,
            cap_bounding: cap::ALL,
            cap_ambient: 0,
            no_new_privs: false,
        }
    }

    /// Whether capability number `n` is in effect.
    pub fn capable(&self, n: u32) -> bool {
        self.cap_effective & (1 << n) != 0
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
