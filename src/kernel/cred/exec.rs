//! What `execve(2)` makes of credentials (`capabilities(7)`; `cap_bprm_creds_from_file` in
//! `security/commoncap.c`).

use super::{Cred, UserNamespace, cap, secure};
use crate::abi::{Errno, Result};
use alloc::sync::Arc;

/// The capabilities of a file (`security.capability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCaps {
    /// Granted within the bounding set.
    pub permitted: u64,
    /// Granted if inheritable.
    pub inheritable: u64,
    /// All that is permitted is effective, too.
    pub effective: bool,
    /// The user of the initial namespace that is root where they count.
    pub root: u32,
}

/// `VFS_CAP_FLAGS_EFFECTIVE`, and the revisions.
const EFFECTIVE: u32 = 1;
const REVISION: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

impl FileCaps {
    /// Decodes the value of `security.capability`, all of whose words are little-endian.
    ///
    /// # Errors
    /// `EINVAL` for a size or revision that does not exist.
    pub fn parse(value: &[u8]) -> Result<FileCaps> {
        let (words, rest) = value.as_chunks::<4>();
        let word = |i: usize| words.get(i).copied().map_or(0, u32::from_le_bytes);
        let magic = word(0);
        let (sets, len) = match magic & REVISION {
            REVISION_1 => (1, 3),
            REVISION_2 => (2, 5),
            REVISION_3 => (2, 6),
            _ => return Err(Errno::EINVAL),
        };
        if words.len() != len || !rest.is_empty() {
            return Err(Errno::EINVAL);
        }
        let set = |first: usize| (0..sets).fold(0, |all, i| all | u64::from(word(first + 2 * i)) << (32 * i));
        Ok(FileCaps {
            permitted: set(1) & cap::ALL,
            inheritable: set(2) & cap::ALL,
            effective: magic & EFFECTIVE != 0,
            root: if magic & REVISION == REVISION_3 { word(5) } else { 0 },
        })
    }

    /// Whether they count for programs of `ns`: their root is that namespace's or one's above it.
    pub fn count_in(&self, ns: &Arc<UserNamespace>) -> bool {
        let mut at = Some(ns);
        while let Some(ns) = at {
            if ns.inside(super::ns::Kind::User, self.root) == Some(0) {
                return true;
            }
            at = ns.parent.as_ref();
        }
        false
    }
}

/// What a program's file and the circumstances say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Program {
    /// The owner, if its set-user-id bit counts.
    pub set_uid: Option<u32>,
    /// The group, if its set-group-id bit counts.
    pub set_gid: Option<u32>,
    /// The file's capabilities, if they count.
    pub caps: Option<FileCaps>,
    /// Somebody else shares root and working directory, and could change them meanwhile.
    pub shares_fs: bool,
    /// Traced by somebody without privilege.
    pub traced: bool,
}

/// What becomes of the credentials.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The new ones.
    pub cred: Cred,
    /// `AT_SECURE`.
    pub secure: bool,
    /// Privilege may have been gained: dangerous personality flags are cleared.
    pub clears_personality: bool,
    /// Ids or capabilities differ such that the program is not dumpable and the parent's death signal is forgotten.
    pub changed: bool,
}

/// The credentials with which a program starts.
///
/// # Errors
/// `EPERM` when the file's capabilities exceed the bounding set and the program would not know of it.
pub fn exec(old: &Cred, program: &Program) -> Result<Outcome> {
    let mut new = Cred { keys: old.keys.inherited(), ..old.clone() };
    if !old.no_new_privs {
        new.euid = program.set_uid.unwrap_or(old.euid);
        new.egid = program.set_gid.unwrap_or(old.egid);
    }
    let root = old.user_ns.outside(super::ns::Kind::User, 0);
    let is_root = |id: u32| Some(id) == root;
    let caps = program.caps.filter(|c| c.count_in(&old.user_ns));
    let mut effective = caps.is_some_and(|c| c.effective);
    new.cap_permitted = 0;
    if let Some(c) = caps {
        new.cap_permitted = old.cap_bounding & c.permitted | old.cap_inheritable & c.inheritable;
        if effective && c.permitted & !new.cap_permitted != 0 {
            return Err(Errno::EPERM);
        }
    }
    let root_counts = old.secure_bits & secure::NOROOT == 0;
    // A set-user-id-root program with capabilities of its own gets these only.
    let own_only = caps.is_some() && is_root(new.euid) && !is_root(new.uid);
    if root_counts && !own_only {
        if is_root(new.euid) || is_root(new.uid) {
            new.cap_permitted = old.cap_bounding | old.cap_inheritable;
        }
        effective |= is_root(new.euid);
    }
    let gained = new.cap_permitted & !old.cap_permitted != 0;
    // Also where the group is what it was, if setfsgid(2) has left it (`in_group_p` in `cap_bprm_creds_from_file`).
    let in_new_group = !old.groups.contains(&new.egid) && new.egid != old.fsgid;
    let ids_change = new.euid != old.euid || in_new_group;
    if (ids_change || gained) && (old.no_new_privs || program.shares_fs || program.traced) {
        if !old.capable_here(cap::SETUID) || old.no_new_privs {
            (new.euid, new.egid) = (new.uid, new.gid);
        }
        new.cap_permitted &= old.cap_permitted;
    }
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    if caps.is_some() || ids_change {
        new.cap_ambient = 0;
    }
    new.cap_permitted |= new.cap_ambient;
    new.cap_effective = if effective { new.cap_permitted } else { new.cap_ambient };
    new.secure_bits &= !secure::KEEP_CAPS;
    let beyond_ambient = new.cap_permitted & !new.cap_ambient != 0;
    let other_ids = new.euid != old.uid || new.egid != old.gid;
    Ok(Outcome {
        secure: ids_change || other_ids || !is_root(new.uid) && (effective || beyond_ambient),
        clears_personality: program.set_uid.is_some() || program.set_gid.is_some() || gained,
        changed: (new.euid, new.egid, new.fsuid, new.fsgid) != (old.euid, old.egid, old.fsuid, old.fsgid)
            || new.cap_permitted & !old.cap_permitted != 0,
        cred: new,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const ALL: u64 = cap::ALL;
    const NET: u64 = 1 << 13;

    fn user(uid: u32) -> Cred {
        Cred::new(uid, uid, Vec::new())
    }

    fn file(permitted: u64, effective: bool) -> Program {
        let caps = FileCaps { permitted, inheritable: 0, effective, root: 0 };
        Program { caps: Some(caps), ..Program::default() }
    }

    /// Ids (real, effective, saved), the permitted, effective and ambient sets, AT_SECURE.
    type Row = ([u32; 3], [u64; 3], bool);

    fn after(old: &Cred, program: &Program) -> Row {
        let out = exec(old, program).unwrap();
        let c = &out.cred;
        ([c.uid, c.euid, c.suid], [c.cap_permitted, c.cap_effective, c.cap_ambient], out.secure)
    }

    #[test]
    fn table() {
        let plain = Program::default();
        let suid = Program { set_uid: Some(0), ..plain };
        let kept = Cred { cap_permitted: ALL, secure_bits: secure::KEEP_CAPS, ..user(65534) };
        let ambient = Cred { cap_permitted: NET, cap_inheritable: NET, cap_ambient: NET, ..user(1000) };
        let noroot = Cred { secure_bits: secure::NOROOT, ..user(0) };
        let bounded = Cred { cap_bounding: NET, ..user(0) };
        let nnp = Cred { no_new_privs: true, ..user(1000) };
        let real_root = Cred { euid: 1000, suid: 1000, cap_effective: 0, ..user(0) };
        let u = [1000; 3];
        let table: &[(&str, &Cred, &Program, Row)] = &[
            ("root keeps everything", &user(0), &plain, ([0; 3], [ALL, ALL, 0], false)),
            ("a user has nothing", &user(1000), &plain, (u, [0; 3], false)),
            ("what KEEPCAPS kept is gone", &kept, &plain, ([65534; 3], [0; 3], false)),
            ("ambient capabilities stay", &ambient, &plain, (u, [NET, NET, NET], false)),
            ("ambient capabilities end at set-user-id", &ambient, &suid, ([1000, 0, 0], [ALL, ALL, 0], true)),
            ("ambient capabilities end at a file's", &ambient, &file(0, false), (u, [0; 3], false)),
            ("set-user-id root", &user(1000), &suid, ([1000, 0, 0], [ALL, ALL, 0], true)),
            ("set-user-id another", &user(1000), &Program { set_uid: Some(7), ..plain }, ([1000, 7, 7], [0; 3], true)),
            ("root is nothing special", &noroot, &plain, ([0; 3], [0; 3], false)),
            ("the bounding set bounds root", &bounded, &plain, ([0; 3], [NET, NET, 0], false)),
            ("only the real user is root", &real_root, &plain, ([0, 1000, 1000], [ALL, 0, 0], true)),
            ("file capabilities", &user(1000), &file(NET, true), (u, [NET, NET, 0], true)),
            ("permitted only", &user(1000), &file(NET, false), (u, [NET, 0, 0], true)),
            ("no new privileges: set-user-id", &nnp, &suid, (u, [0; 3], false)),
            ("no new privileges: file", &nnp, &file(NET, true), (u, [0; 3], true)),
            ("traced", &user(1000), &Program { traced: true, ..suid }, (u, [0; 3], true)),
            ("shared directories", &user(1000), &Program { shares_fs: true, ..suid }, (u, [0; 3], true)),
        ];
        for (name, old, program, want) in table {
            assert_eq!(&after(old, program), want, "{name}");
        }
    }

    #[test]
    fn keep_caps_is_cleared_and_other_secure_bits_stay() {
        let old = Cred { secure_bits: secure::KEEP_CAPS | secure::NOROOT, ..user(1000) };
        assert_eq!(exec(&old, &Program::default()).unwrap().cred.secure_bits, secure::NOROOT);
    }

    #[test]
    fn a_program_that_cannot_know_what_it_lacks_is_refused() {
        let old = Cred { cap_bounding: ALL & !NET, ..user(1000) };
        assert_eq!(exec(&old, &file(NET, true)).map(|_| ()), Err(Errno::EPERM));
        assert_eq!(exec(&old, &file(NET, false)).unwrap().cred.cap_permitted, 0);
    }

    #[test]
    fn inheritable_capabilities_meet_those_of_the_file() {
        let old = Cred { cap_inheritable: NET, ..user(1000) };
        let caps = FileCaps { permitted: 0, inheritable: NET, effective: true, root: 0 };
        let out = exec(&old, &Program { caps: Some(caps), ..Program::default() }).unwrap();
        assert_eq!((out.cred.cap_permitted, out.cred.cap_effective), (NET, NET));
    }

    #[test]
    fn values_of_the_attribute() {
        let v2 = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let caps = FileCaps::parse(&v2).unwrap();
        assert_eq!(caps, FileCaps { permitted: NET | 1 << 32, inheritable: 0, effective: true, root: 0 });
        let mut v3 = v2.to_vec();
        v3[3] = 3;
        assert_eq!(FileCaps::parse(&v3), Err(Errno::EINVAL));
        v3.extend([0xe8, 3, 0, 0]);
        let caps = FileCaps::parse(&v3).unwrap();
        assert_eq!(caps.root, 1000);
        assert!(!caps.count_in(UserNamespace::initial()));
        assert_eq!(FileCaps::parse(&[]), Err(Errno::EINVAL));
    }
}
