//! `statmount(2)` and `listmount(2)`: what `/proc/self/mountinfo` says, for programs that ask for one mount.

use super::at;
use super::mount_api::attributes;
use crate::abi::linux::{MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::fs::proc::mounts;
use crate::mm::UserPtr;
use crate::task::CurrentTask;
use crate::vfs::mount::{DIRSYNC, LAZYTIME, Mount, MountNamespace, RDONLY, SYNCHRONOUS};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `struct mnt_id_req`: its size and a descriptor of a namespace, a mount, a parameter, a namespace's id.
type Request = [u64; 4];
/// Bytes of its first version.
const REQUEST_0: usize = 24;

/// The root of the namespace (`LSMT_ROOT`).
const ROOT: u64 = u64::MAX;
/// `LISTMOUNT_REVERSE`.
const REVERSE: u32 = 1;
/// Most ids that are asked for at once.
const LIST_MAX: usize = 1_000_000;

/// Bytes of `struct statmount` without its strings.
const HEAD: usize = 512;

/// `STATMOUNT_*`, and the offsets of what they stand for.
mod field {
    pub const SB_BASIC: u64 = 1;
    pub const MNT_BASIC: u64 = 2;
    pub const PROPAGATE_FROM: u64 = 4;
    pub const MNT_ROOT: u64 = 8;
    pub const MNT_POINT: u64 = 0x10;
    pub const FS_TYPE: u64 = 0x20;
    pub const MNT_NS_ID: u64 = 0x40;
    pub const MNT_OPTS: u64 = 0x80;
    pub const SB_SOURCE: u64 = 0x200;
    pub const OPT_ARRAY: u64 = 0x400;
    pub const SUPPORTED: u64 = 0x1000;
    /// Those that are strings, with what is never there (sub-types, options of security modules, maps of ids).
    pub const STRINGS: u64 = MNT_ROOT | MNT_POINT | FS_TYPE | MNT_OPTS | 0x100 | SB_SOURCE | OPT_ARRAY | 0x800 | 0x6000;
    pub const ALL: u64 = 0x7fff;
}

/// The mount that is asked for, the parameter, and the caller's namespace.
fn request(cur: &CurrentTask, at: UserPtr<Request>) -> Result<(Request, Arc<MountNamespace>)> {
    let size = at.cast::<u32>().read()? as usize;
    let request: Request = at.read_grown(size, REQUEST_0)?;
    let [head, id, ..] = request;
    if id <= Mount::FIRST_UNIQUE {
        return Err(Errno::EINVAL);
    }
    let (fd, wanted) = ((head >> 32) as i32, request[3]);
    if fd != 0 && wanted != 0 {
        return Err(Errno::EINVAL);
    }
    let own = cur.fs().namespace()?;
    if fd != 0 {
        // A descriptor of another namespace than the caller's is not looked into.
        cur.files().get(fd)?;
        return Err(Errno::EINVAL);
    }
    if wanted != 0 && wanted != own.id { Err(Errno::ENOENT) } else { Ok((request, own)) }
}

/// Whether the caller, who cannot reach `mount`, may be told of it all the same.
fn may_see(cur: &CurrentTask, ns: &MountNamespace, mount: &Arc<Mount>) -> Result {
    let (_, reachable) = mount.root_path().name(&cur.fs().root())?;
    if reachable || cur.cred().capable_in(&ns.user_ns, cap::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

fn find(ns: &MountNamespace, id: u64) -> Result<Arc<Mount>> {
    ns.mounts().into_iter().find(|m| m.unique_id() == id).ok_or(Errno::ENOENT)
}

/// `listmount(2)`: the ids of the mounts below one, in the order of mounting.
///
/// # Errors
/// `EINVAL`, `EOVERFLOW`, `EFAULT`, `E2BIG`, `ENOENT`, `EPERM`.
pub fn sys_listmount(
    cur: &CurrentTask,
    from: UserPtr<Request>,
    ids: UserPtr<u64>,
    count: usize,
    flags: u32,
) -> SysResult<usize> {
    at::only(flags, REVERSE)?;
    if count > LIST_MAX {
        return Err(Errno::EOVERFLOW.into());
    }
    let ([_, id, last, _], ns) = request(cur, from)?;
    if last != 0 && last <= Mount::FIRST_UNIQUE {
        return Err(Errno::EINVAL.into());
    }
    let top = if id == ROOT { cur.fs().root() } else { find(&ns, id)?.root_path() };
    may_see(cur, &ns, &top.mount)?;
    let mut all = ns.mounts();
    if flags & REVERSE != 0 {
        all.reverse();
    }
    let mut out = Vec::new();
    out.try_reserve(count.min(all.len())).map_err(|_| Errno::ENOMEM)?;
    for m in all {
        let own = m.unique_id();
        let passed = last != 0 && if flags & REVERSE != 0 { own >= last } else { own <= last };
        if own == id || passed || !m.root_path().name(&top)?.1 {
            continue;
        }
        if out.len() == count {
            break;
        }
        out.push(own);
    }
    for (i, id) in out.iter().enumerate() {
        ids.add(i).write(*id)?;
    }
    Ok(out.len())
}

/// An answer that is being made.
struct Answer {
    wanted: u64,
    head: [u8; HEAD],
    /// The strings; the first is empty, which is what an offset of 0 means.
    strings: Vec<u8>,
    mask: u64,
}

impl Answer {
    fn word(&mut self, at: usize, value: u32) {
        self.head[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn long(&mut self, at: usize, value: u64) {
        self.head[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Whether a field is wanted; then it is there.
    fn gives(&mut self, field: u64) -> bool {
        self.mask |= field & self.wanted;
        self.wanted & field != 0
    }

    fn string(&mut self, field: u64, at: usize, text: &[u8]) -> Result {
        if text.is_empty() || !self.gives(field) {
            return Ok(());
        }
        self.strings.try_reserve(text.len() + 2).map_err(|_| Errno::ENOMEM)?;
        self.word(at, self.strings.len() as u32);
        self.strings.extend_from_slice(text);
        self.strings.push(0);
        Ok(())
    }

    fn basics(&mut self, m: &Arc<Mount>) {
        if self.gives(field::SB_BASIC) {
            let dev = m.root.inode.identity().map_or(0, |i| i.0);
            self.word(16, (dev >> 8 & 0xfff | dev >> 32 & !0xfff) as u32);
            self.word(20, (dev & 0xff | dev >> 12 & 0xffff_ff00) as u32);
            self.long(24, m.root.inode.statfs().map_or(0, |s| s.magic));
            self.word(32, m.fs_flags() & (RDONLY | SYNCHRONOUS | DIRSYNC | LAZYTIME));
        }
        let (group, master, unbindable) = m.propagation();
        if self.gives(field::MNT_BASIC) {
            let parent = m.at().map_or(m.clone(), |at| at.mount);
            self.long(40, m.unique_id());
            self.long(48, parent.unique_id());
            self.word(56, m.id as u32);
            self.word(60, parent.id as u32);
            self.long(64, attributes(m.flags.load(Relaxed)));
            let kinds = [(group.is_some(), MS_SHARED), (master.is_some(), MS_SLAVE), (unbindable, MS_UNBINDABLE)];
            let kinds = kinds.iter().filter(|k| k.0).fold(0, |all, k| all | k.1);
            self.long(72, u64::from(if kinds == 0 { MS_PRIVATE } else { kinds }));
            self.long(80, group.unwrap_or(0));
            self.long(88, master.unwrap_or(0));
        }
        if self.gives(field::PROPAGATE_FROM) {
            self.long(96, master.unwrap_or(0));
        }
    }
}

/// `statmount(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `E2BIG`, `ENOENT`, `EPERM`, `EOVERFLOW` where the strings have no room.
pub fn sys_statmount(
    cur: &CurrentTask,
    from: UserPtr<Request>,
    out: UserPtr<u8>,
    size: usize,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, 0)?;
    let ([_, id, wanted, _], ns) = request(cur, from)?;
    if wanted & field::STRINGS != 0 && size == HEAD {
        return Err(Errno::EOVERFLOW.into());
    }
    let m = find(&ns, id)?;
    may_see(cur, &ns, &m)?;
    let mut answer = Answer { wanted, head: [0; HEAD], strings: Vec::new(), mask: 0 };
    answer.basics(&m);
    if wanted & field::STRINGS != 0 {
        answer.strings.push(0);
    }
    if answer.gives(field::MNT_NS_ID) {
        answer.long(112, ns.id);
    }
    answer.string(field::FS_TYPE, 36, m.fstype.as_bytes())?;
    answer.string(field::MNT_ROOT, 104, &m.root.path_in_fs()?)?;
    let (point, reachable) = m.root_path().name(&cur.fs().root())?;
    if reachable {
        answer.string(field::MNT_POINT, 108, &point)?;
    }
    let options = mounts::of_fs(&m);
    let options = options.strip_prefix(',').unwrap_or_default();
    answer.string(field::MNT_OPTS, 4, options.as_bytes())?;
    answer.string(field::SB_SOURCE, 124, m.source.as_bytes())?;
    if !options.is_empty() && answer.wanted & field::OPT_ARRAY != 0 {
        answer.word(128, options.split(',').count() as u32);
        answer.string(field::OPT_ARRAY, 132, options.replace(',', "\0").as_bytes())?;
    }
    if answer.gives(field::SUPPORTED) {
        answer.long(144, field::ALL);
    }
    if answer.strings.len() > size.saturating_sub(HEAD).max(1) {
        return Err(Errno::EOVERFLOW.into());
    }
    let head = size.min(HEAD);
    answer.word(0, (head + answer.strings.len()) as u32);
    answer.long(8, answer.mask);
    out.add(HEAD).slice(answer.strings.len()).write_from(&answer.strings)?;
    Ok(out.slice(head).write_from(&answer.head[..head])?)
}
