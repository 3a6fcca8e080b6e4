//! Memory policies (`numa(7)`) of a machine that has one node: every policy that names it is met by all memory.

use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::host::mem;
use crate::mm::{AddressSpace, UserPtr, UserSlice, Vma, VmaFlags};
use crate::task::access::{self, By, Look};
use crate::task::work::run_on;
use crate::task::{CurrentTask, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

const PAGE: u64 = 4096;

/// `MPOL_*`.
const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const BIND: u32 = 2;
const INTERLEAVE: u32 = 3;
const LOCAL: u32 = 4;
const PREFERRED_MANY: u32 = 5;
const WEIGHTED_INTERLEAVE: u32 = 6;

/// `MPOL_F_STATIC_NODES`, `MPOL_F_RELATIVE_NODES`, `MPOL_F_NUMA_BALANCING`.
const STATIC: u32 = 0x8000;
const RELATIVE: u32 = 0x4000;
const BALANCING: u32 = 0x2000;

/// Flags of `get_mempolicy(2)`.
const F_NODE: u32 = 1;
const F_ADDR: u32 = 2;
const F_MEMS_ALLOWED: u32 = 4;

/// Flags of `mbind(2)` and `move_pages(2)`.
const MF_STRICT: u32 = 1;
const MF_MOVE: u32 = 2;
const MF_MOVE_ALL: u32 = 4;

/// Most nodes that a mask may name (`MAX_NUMNODES`).
const MAX_NODES: u64 = 1024;
/// The node.
const NODE: u64 = 1;

/// A policy: its mode and flags; [`DEFAULT`] is none at all. Which nodes it names follows from the mode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Policy(u32);

impl Policy {
    fn mode(self) -> u32 {
        self.0 & !(STATIC | RELATIVE | BALANCING)
    }

    fn nodes(self) -> u64 {
        if matches!(self.mode(), DEFAULT | LOCAL) { 0 } else { NODE }
    }

    /// Whether the mode and its flags are known (`sanitize_mpol_flags`).
    fn check(mode: u32) -> Result<Policy> {
        let policy = Policy(mode);
        let both = mode & STATIC != 0 && mode & RELATIVE != 0;
        let balances = mode & BALANCING != 0 && !matches!(policy.mode(), BIND | PREFERRED_MANY);
        if policy.mode() > WEIGHTED_INTERLEAVE || both || balances { Err(Errno::EINVAL) } else { Ok(policy) }
    }

    /// The policy with these nodes (`mpol_new`, `mpol_set_nodemask`).
    fn with(self, nodes: Nodes) -> Result<Policy> {
        let flagged = self.0 & (STATIC | RELATIVE) != 0;
        match (self.mode(), nodes.any) {
            (DEFAULT, false) => return Ok(Policy(DEFAULT)),
            (PREFERRED, false) if !flagged => return Ok(Policy(LOCAL)),
            (LOCAL, false) if !flagged => return Ok(self),
            (DEFAULT | LOCAL, _) | (_, false) => return Err(Errno::EINVAL),
            _ => {}
        }
        // Nodes that are relative to the allowed ones wrap around.
        if nodes.ours || self.0 & RELATIVE != 0 { Ok(self) } else { Err(Errno::EINVAL) }
    }

    /// As it is kept with a mapping.
    fn in_flags(self) -> VmaFlags {
        VmaFlags::from_bits_retain((self.0 & 7 | self.0 >> 10) << 8) & VmaFlags::POLICY
    }

    fn of_flags(flags: VmaFlags) -> Policy {
        let bits = (flags & VmaFlags::POLICY).bits() >> 8;
        Policy(bits & 7 | (bits & 0x38) << 10)
    }
}

/// What a mask of nodes names.
#[derive(Clone, Copy)]
struct Nodes {
    any: bool,
    ours: bool,
}

/// A mask of nodes (`get_nodes`): `count` is one more than its bits.
fn nodes(mask: UserPtr<u64>, count: u64) -> Result<Nodes> {
    let bits = count.wrapping_sub(1);
    if bits == 0 || mask.is_null() {
        return Ok(Nodes { any: false, ours: false });
    }
    if bits > PAGE * 8 {
        return Err(Errno::EINVAL);
    }
    let mut words = mask.slice(bits.div_ceil(64) as usize).read_vec()?;
    if let (Some(last), rest @ 1..) = (words.last_mut(), bits % 64) {
        *last &= (1 << rest) - 1;
    }
    let (known, beyond) = words.split_at(words.len().min((MAX_NODES / 64) as usize));
    if beyond.iter().any(|&w| w != 0) {
        return Err(Errno::EINVAL);
    }
    Ok(Nodes { any: known.iter().any(|&w| w != 0), ours: known.first().is_some_and(|w| w & NODE != 0) })
}

/// Copies a mask out (`copy_nodes_to_user`): the words behind the first are zeros.
fn give(nodes: u64, mask: UserPtr<u64>, count: u64) -> Result {
    let words = (count - 1).div_ceil(64);
    if words > PAGE / 8 {
        return Err(Errno::EINVAL);
    }
    let mut all = [0u64; (PAGE / 8) as usize];
    all[0] = nodes;
    mask.slice(words as usize).write_from(&all[..words as usize])
}

/// `set_mempolicy(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_set_mempolicy(cur: &CurrentTask, mode: u32, mask: UserPtr<u64>, count: u64) -> SysResult<()> {
    let policy = Policy::check(mode)?;
    let policy = policy.with(nodes(mask, count)?)?;
    cur.attr.mempolicy.store(policy.0, Relaxed);
    Ok(())
}

/// `get_mempolicy(2)`.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn sys_get_mempolicy(
    cur: &CurrentTask,
    mode: UserPtr<i32>,
    mask: UserPtr<u64>,
    count: u64,
    addr: u64,
    flags: u32,
) -> SysResult<()> {
    if flags & !(F_NODE | F_ADDR | F_MEMS_ALLOWED) != 0 || !mask.is_null() && count < 1 {
        return Err(Errno::EINVAL.into());
    }
    let (told, named) = if flags & F_MEMS_ALLOWED != 0 {
        if flags != F_MEMS_ALLOWED {
            return Err(Errno::EINVAL.into());
        }
        (0, NODE)
    } else {
        let policy = if flags & F_ADDR != 0 {
            Policy::of_flags(cur.mm().find(addr).ok_or(Errno::EFAULT)?.flags)
        } else if addr != 0 {
            return Err(Errno::EINVAL.into());
        } else {
            Policy(cur.attr.mempolicy.load(Relaxed))
        };
        let interleaves = matches!(policy.mode(), INTERLEAVE | WEIGHTED_INTERLEAVE);
        match flags & (F_NODE | F_ADDR) {
            F_NODE if !interleaves => return Err(Errno::EINVAL.into()),
            // The number of the node.
            f if f & F_NODE != 0 => (0, policy.nodes()),
            _ => (policy.0, policy.nodes()),
        }
    };
    if let Some(out) = mode.option() {
        out.write(told as i32)?;
    }
    if let Some(out) = mask.option() {
        give(named, out, count)?;
    }
    Ok(())
}

/// A range of whole pages from a page's start on; `None`: there is nothing in it.
fn range(start: u64, len: u64) -> Result<Option<(u64, u64)>> {
    let len = len.wrapping_add(PAGE - 1) & !(PAGE - 1);
    match start.checked_add(len) {
        None => Err(Errno::EINVAL),
        Some(end) => Ok((end > start).then_some((start, end))),
    }
}

/// `mbind(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT` for bad pointers and holes, `ENOMEM`.
pub fn sys_mbind(
    cur: &CurrentTask,
    start: u64,
    len: u64,
    mode: u32,
    mask: UserPtr<u64>,
    count: u64,
    flags: u32,
) -> SysResult<()> {
    let policy = Policy::check(mode)?;
    let nodes = nodes(mask, count)?;
    if flags & !(MF_STRICT | MF_MOVE | MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & MF_MOVE_ALL != 0 && !cur.cred().capable(cap::SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL.into());
    }
    let Some((start, end)) = range(start, len)? else { return Ok(()) };
    let policy = policy.with(nodes)?;
    if !cur.mm().is_mapped(start, end) {
        return Err(Errno::EFAULT.into());
    }
    let with = |flags: VmaFlags| (flags - VmaFlags::POLICY) | policy.in_flags();
    Ok(cur.mm().change_flags(start, end, u64::MAX, with, |_, _, _| Ok(()))?)
}

/// `set_mempolicy_home_node(2)`: there is one node that can be home.
///
/// # Errors
/// `EINVAL`, `ENOENT` where no policy was set, `EOPNOTSUPP` for policies without a home.
pub fn sys_set_mempolicy_home_node(cur: &CurrentTask, start: u64, len: u64, node: u64, flags: u64) -> SysResult<()> {
    if !start.is_multiple_of(PAGE) || flags != 0 || node != 0 {
        return Err(Errno::EINVAL.into());
    }
    let Some((start, end)) = range(start, len)? else { return Ok(()) };
    let mut outcome = Err(Errno::ENOENT);
    for v in cur.mm().mapped(start, end)? {
        match Policy::of_flags(v.flags).mode() {
            DEFAULT => {}
            BIND | PREFERRED_MANY => outcome = Ok(()),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
    }
    Ok(outcome?)
}

/// The task whose pages a call is about, which the caller may look at; 0 is the caller.
fn target(cur: &CurrentTask, pid: i32) -> SysResult<Arc<Task>> {
    if pid == 0 {
        return Ok((**cur).clone());
    }
    let task = u32::try_from(pid).ok().and_then(|pid| cur.task_of(pid)).ok_or(Errno::ESRCH)?;
    access::may_look(cur.subject(), &task, Look::Read, By::RealCreds)?;
    Ok(task)
}

/// `migrate_pages(2)`: all pages are where they can be.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ESRCH`, `EPERM`.
pub fn sys_migrate_pages(
    cur: &CurrentTask,
    pid: i32,
    count: u64,
    from: UserPtr<u64>,
    to: UserPtr<u64>,
) -> SysResult<u64> {
    nodes(from, count)?;
    let to = nodes(to, count)?;
    let task = target(cur, pid)?;
    if to.any && !to.ours && !cur.cred().capable(cap::SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    if !to.ours || task.shared().is_none() {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

/// Where the page at `addr` is: on the node, nowhere yet (`ENOENT`), or not mapped (`EFAULT`). By a thread that lives
/// in `mm`.
fn status(mm: &AddressSpace, addr: u64) -> i32 {
    let errno = |e: Errno| -e.raw();
    let there = |_: Vma| {
        let mut byte = [0u8; 1];
        mem::mincore(addr & !(PAGE - 1), PAGE, &mut byte).is_ok() && byte[0] & 1 != 0
    };
    match mm.find(addr).map(there) {
        None => errno(Errno::EFAULT),
        Some(false) => errno(Errno::ENOENT),
        Some(true) => 0,
    }
}

/// `move_pages(2)`: tells where pages are, which is where they are wanted.
///
/// # Errors
/// `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`, `ENODEV` for nodes that there are not.
pub fn sys_move_pages(
    cur: &CurrentTask,
    pid: i32,
    count: u64,
    pages: UserPtr<u64>,
    wanted: UserPtr<i32>,
    out: UserPtr<i32>,
    flags: u32,
) -> SysResult<()> {
    if flags & !(MF_MOVE | MF_MOVE_ALL) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & MF_MOVE_ALL != 0 && !cur.cred().capable(cap::SYS_NICE) {
        return Err(Errno::EPERM.into());
    }
    let task = target(cur, pid)?;
    let mm = task.shared().ok_or(Errno::EINVAL)?.mm;
    const AT_ONCE: u64 = 512;
    let mut at = 0;
    while at < count {
        if cur.is_dying() {
            return Err(Errno::EINTR.into());
        }
        let n = AT_ONCE.min(count - at) as usize;
        let part: UserSlice<u64> = pages.add(at as usize).slice(n);
        let addresses: Vec<u64> = part.read_vec()?;
        if !wanted.is_null() && wanted.add(at as usize).slice(n).read_vec()?.iter().any(|&node| node != 0) {
            return Err(Errno::ENODEV.into());
        }
        let there = mm.clone();
        let found: Vec<i32> = run_on(&task, move |_| addresses.iter().map(|&a| status(&there, a)).collect())?;
        out.add(at as usize).slice(n).write_from(&found)?;
        at += n as u64;
    }
    Ok(())
}
