//! Credentials: ids, supplementary groups, capabilities, user namespaces.

pub mod count;
pub mod exec;
pub mod keys;
pub mod landlock;
pub mod map;
pub mod ns;
pub mod user;

pub use ns::{Kind, UserNamespace};
pub use user::User;

use alloc::sync::Arc;
use alloc::vec::Vec;

/// A task's credentials (`credentials(7)`); immutable, replaced as a whole.
#[derive(Clone, Debug)]
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
    /// `SECBIT_*`, of which `PR_SET_KEEPCAPS` is one.
    pub secure_bits: u32,
    /// The namespace in which the capabilities count.
    pub user_ns: Arc<UserNamespace>,
    /// What is counted for the real user.
    pub user: Arc<User>,
    /// Keyrings.
    pub keys: keys::Rings,
    /// What it has forbidden itself.
    pub landlock: Option<Arc<landlock::Domain>>,
}

/// Bits of [`Cred::secure_bits`] (`linux/securebits.h`); each has a lock, the next bit.
#[allow(missing_docs)]
pub mod secure {
    pub const NOROOT: u32 = 1 << 0;
    pub const NO_SETUID_FIXUP: u32 = 1 << 2;
    pub const KEEP_CAPS: u32 = 1 << 4;
    pub const KEEP_CAPS_LOCKED: u32 = 1 << 5;
    pub const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    /// The locks of all.
    pub const LOCKS: u32 = 0xaaa;
    /// Bits and locks that take no privilege: interpreters alone go by them (`EXEC_RESTRICT_FILE`,
    /// `EXEC_DENY_INTERACTIVE`).
    pub const UNPRIVILEGED: u32 = 0xf00;
    /// All bits and locks that this kernel has.
    pub const ALL: u32 = 0xfff;
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
    pub const LINUX_IMMUTABLE: u32 = 9;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const IPC_OWNER: u32 = 15;
    pub const SYS_RAWIO: u32 = 17;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_PACCT: u32 = 20;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_BOOT: u32 = 22;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const SYS_TTY_CONFIG: u32 = 26;
    pub const MKNOD: u32 = 27;
    pub const LEASE: u32 = 28;
    pub const AUDIT_WRITE: u32 = 29;
    pub const SETFCAP: u32 = 31;
    pub const WAKE_ALARM: u32 = 35;
    pub const SYSLOG: u32 = 34;
    pub const CHECKPOINT_RESTORE: u32 = 40;
    /// Every capability that exists (40 of them).
    pub const ALL: u64 = (1 << 41) - 1;
    /// Those that follow the file-system user (`CAP_FS_SET`): with LINUX_IMMUTABLE and MAC_OVERRIDE.
    pub const FS_SET: u64 = 0x1f | 1 << 9 | 1 << MKNOD | 1 << 32;
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
            secure_bits: 0,
            user_ns: UserNamespace::initial().clone(),
            user: User::of(uid),
            keys: keys::Rings::default(),
            landlock: None,
        }
    }

    /// Whether capability number `n` is in effect in the initial user namespace (`capable` in Linux): for what is the
    /// whole machine's.
    pub fn capable(&self, n: u32) -> bool {
        self.capable_here(n) && self.user_ns.level == 0
    }

    /// Whether capability number `n` is in effect in the user namespace of these credentials.
    pub fn capable_here(&self, n: u32) -> bool {
        self.cap_effective & (1 << n) != 0
    }

    /// Whether capability number `n` counts for a file with this owner and group: both must be known in the user
    /// namespace (`capable_wrt_inode_uidgid` in Linux).
    pub fn capable_over(&self, n: u32, uid: u32, gid: u32) -> bool {
        self.capable_here(n) && self.user_ns.has(Kind::User, uid) && self.user_ns.has(Kind::Group, gid)
    }

    /// Whether these credentials own a file of `uid`, or may act as if (`inode_owner_or_capable`).
    pub fn owns(&self, uid: u32) -> bool {
        self.fsuid == uid || self.capable_here(cap::FOWNER) && self.user_ns.has(Kind::User, uid)
    }

    /// A user id as programs with these credentials see it.
    pub fn seen_uid(&self, uid: u32) -> u32 {
        self.user_ns.seen(Kind::User, uid)
    }

    /// A group id as programs with these credentials see it.
    pub fn seen_gid(&self, gid: u32) -> u32 {
        self.user_ns.seen(Kind::Group, gid)
    }

    /// Whether capability number `n` counts for objects of the namespace `ns` (`cap_capable` in
    /// `security/commoncap.c`): it is in effect there or above, or the maker of a child namespace asks.
    pub fn capable_in(&self, ns: &Arc<UserNamespace>, n: u32) -> bool {
        let mut at = ns;
        loop {
            if Arc::ptr_eq(at, &self.user_ns) {
                return self.capable_here(n);
            }
            if at.level <= self.user_ns.level {
                return false;
            }
            let Some(parent) = &at.parent else { return false };
            if Arc::ptr_eq(parent, &self.user_ns) && at.owner.0 == self.euid {
                return true;
            }
            at = parent;
        }
    }

    /// Moves to a user namespace, in which they have every capability (`set_cred_user_ns`).
    pub fn enter(&mut self, ns: Arc<UserNamespace>) {
        self.secure_bits = 0;
        (self.cap_inheritable, self.cap_ambient) = (0, 0);
        (self.cap_permitted, self.cap_effective, self.cap_bounding) = (cap::ALL, cap::ALL, cap::ALL);
        self.user_ns = ns;
    }

    /// Whether all capabilities of `other` are among these, or come with a namespace that these own
    /// (`cred_cap_issubset`).
    pub fn covers(&self, other: &Cred) -> bool {
        if Arc::ptr_eq(&self.user_ns, &other.user_ns) && other.cap_permitted & !self.cap_permitted == 0 {
            return true;
        }
        let mut at = &other.user_ns;
        while let Some(parent) = &at.parent {
            if Arc::ptr_eq(parent, &self.user_ns) && at.owner.0 == self.euid {
                return true;
            }
            at = parent;
        }
        false
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
