//! `prctl(2)`, personality and capabilities.

use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, cap, secure};
use crate::host;
use crate::mm::UserPtr;
use crate::signal::NSIG;
use crate::task::{CurrentTask, Own, dispatch, limits};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use linux_raw_sys::prctl::*;

/// Replaces the caller's credentials. Whoever becomes somebody else, or more, is not dumpable any more and does not
/// hear of its parent's death (`commit_creds` in `kernel/cred.c`).
pub fn set_cred(cur: &CurrentTask, cred: Cred) {
    {
        let old = cur.cred();
        if !Arc::ptr_eq(&old.user, &cred.user) {
            let others = u64::from(cred.user.processes.fetch_add(1, SeqCst));
            let over = others > cur.group.limits.get(limits::NPROC).0 && cred.user.uid != 0;
            cur.attr.over_limit.store(over, SeqCst);
            old.user.processes.fetch_sub(1, SeqCst);
        }
        let ids = |c: &Cred| [c.euid, c.egid, c.fsuid, c.fsgid];
        if ids(old) != ids(&cred) || !old.covers(&cred) {
            cur.set_dumpable(crate::task::coredump::OF_SET_ID.get() as u32);
            cur.attr.death_signal.store(0, SeqCst);
        }
    }
    let own = Own { cred: Arc::new(cred), ..cur.own().clone() };
    drop(cur.replace_own(Some(own)));
}

fn keep_caps(cur: &CurrentTask, keep: bool) -> Result {
    let bits = cur.cred().secure_bits;
    if bits & secure::KEEP_CAPS_LOCKED != 0 {
        return Err(Errno::EPERM);
    }
    let secure_bits = if keep { bits | secure::KEEP_CAPS } else { bits & !secure::KEEP_CAPS };
    set_cred(cur, Cred { secure_bits, ..Cred::clone(cur.cred()) });
    Ok(())
}

/// A locked bit stays as it is, a lock is not opened, and bits that do not exist cannot be set.
fn set_secure_bits(cur: &CurrentTask, bits: u64) -> Result {
    let old = u64::from(cur.cred().secure_bits);
    let locks = old & u64::from(secure::LOCKS);
    let changes_locked = (locks >> 1) & (old ^ bits) != 0;
    if changes_locked || locks & !bits != 0 || bits & !u64::from(secure::ALL) != 0 {
        return Err(Errno::EPERM);
    }
    if !cur.cred().capable_here(cap::SETPCAP) && (bits == old || (bits ^ old) & !u64::from(secure::UNPRIVILEGED) != 0) {
        return Err(Errno::EPERM);
    }
    set_cred(cur, Cred { secure_bits: bits as u32, ..Cred::clone(cur.cred()) });
    Ok(())
}

fn flag(value: u64) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

fn zeros(args: &[u64]) -> Result {
    if args.iter().all(|&a| a == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `prctl(2)`.
///
/// # Errors
/// `EINVAL` for an unknown option or argument, `EPERM`, `EFAULT`.
pub fn sys_prctl(cur: &CurrentTask, option: i32, a2: u64, a3: u64, a4: u64, a5: u64) -> SysResult<u64> {
    let attr = &cur.attr;
    let rest = [a3, a4, a5];
    let put = |v: u32| UserPtr::<u32>::new(a2).write(v).map(|()| 0);
    Ok(match option as u32 {
        PR_SET_NAME => set_name(cur, a2)?,
        PR_GET_NAME => get_name(cur, a2)?,
        PR_SET_PDEATHSIG if a2 > u64::from(NSIG) => return Err(Errno::EINVAL.into()),
        PR_SET_PDEATHSIG => {
            attr.death_signal.store(a2 as u32, Relaxed);
            0
        }
        PR_GET_PDEATHSIG => put(attr.death_signal.load(Relaxed))?,
        PR_GET_DUMPABLE => u64::from(attr.dumpable.load(Relaxed)),
        PR_SET_DUMPABLE => {
            attr.dumpable.store(u32::from(flag(a2)?), Relaxed);
            0
        }
        PR_GET_KEEPCAPS => u64::from(cur.cred().secure_bits & secure::KEEP_CAPS != 0),
        PR_SET_KEEPCAPS => {
            keep_caps(cur, flag(a2)?)?;
            0
        }
        PR_GET_TIMING => 0,
        PR_SET_TIMING => zeros(&[a2]).map(|()| 0)?,
        PR_GET_SECCOMP => u64::from(cur.seccomp.mode()),
        PR_SET_SECCOMP => super::seccomp::set_mode(cur, a2, a3)?,
        PR_GET_TSC => put(PR_TSC_ENABLE)?,
        PR_SET_TSC if a2 == u64::from(PR_TSC_ENABLE) => 0,
        PR_GET_SECUREBITS => u64::from(cur.cred().secure_bits),
        PR_SET_SECUREBITS => {
            set_secure_bits(cur, a2)?;
            0
        }
        PR_GET_TIMERSLACK => attr.timer_slack.load(Relaxed),
        PR_SET_TIMERSLACK => {
            attr.timer_slack.store(if a2 as i64 <= 0 { attr.default_slack.load(Relaxed) } else { a2 }, Relaxed);
            0
        }
        PR_SET_CHILD_SUBREAPER => {
            cur.group.subreaper.store(a2 != 0, SeqCst);
            0
        }
        PR_GET_CHILD_SUBREAPER => put(u32::from(cur.group.subreaper.load(SeqCst)))?,
        PR_SET_NO_NEW_PRIVS => {
            zeros(&[a3, a4, a5])?;
            if a2 != 1 {
                return Err(Errno::EINVAL.into());
            }
            set_cred(cur, Cred { no_new_privs: true, ..Cred::clone(cur.cred()) });
            0
        }
        PR_GET_NO_NEW_PRIVS => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(cur.no_new_privs()))?,
        PR_GET_TID_ADDRESS => UserPtr::<u64>::new(a2).write(cur.clear_child_tid.load(SeqCst)).map(|()| 0)?,
        PR_SET_THP_DISABLE => {
            zeros(&[a3, a4, a5])?;
            attr.thp_disabled.store(a2 != 0, Relaxed);
            0
        }
        PR_GET_THP_DISABLE => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(attr.thp_disabled.load(Relaxed)))?,
        PR_SET_MEMORY_MERGE => {
            zeros(&[a3, a4, a5])?;
            attr.merges.store(a2 != 0, Relaxed);
            0
        }
        PR_GET_MEMORY_MERGE => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(attr.merges.load(Relaxed)))?,
        // What the host's processor is guarded against nobody here can change (`PR_SPEC_NOT_AFFECTED`).
        PR_GET_SPECULATION_CTRL if a2 < SPECULATIONS => zeros(&[a3, a4, a5]).map(|()| 0)?,
        PR_SET_SPECULATION_CTRL if a2 < SPECULATIONS => {
            zeros(&[a4, a5])?;
            return Err(if a3.is_power_of_two() && a3 <= 16 { Errno::ENXIO } else { Errno::ERANGE }.into());
        }
        PR_GET_SPECULATION_CTRL | PR_SET_SPECULATION_CTRL => {
            zeros(if option as u32 == PR_GET_SPECULATION_CTRL { &rest } else { &rest[1..] })?;
            return Err(Errno::ENODEV.into());
        }
        PR_CAPBSET_READ => u64::from(cur.cred().cap_bounding & cap_bit(a2)? != 0),
        PR_CAPBSET_DROP => drop_bounding(cur, a2)?,
        PR_CAP_AMBIENT => ambient(cur, a2, a3, &[a4, a5])?,
        PR_MCE_KILL => mce_kill(cur, a2, a3, &[a4, a5])?,
        PR_MCE_KILL_GET => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(attr.mce_kill.load(Relaxed)))?,
        // Nobody counts events.
        PR_TASK_PERF_EVENTS_DISABLE | PR_TASK_PERF_EVENTS_ENABLE => 0,
        PR_SET_IO_FLUSHER | PR_GET_IO_FLUSHER if !cur.cred().capable(cap::SYS_RESOURCE) => {
            return Err(Errno::EPERM.into());
        }
        PR_SET_IO_FLUSHER => {
            zeros(&[a3, a4, a5])?;
            attr.io_flusher.store(flag(a2)?, Relaxed);
            0
        }
        PR_GET_IO_FLUSHER => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(attr.io_flusher.load(Relaxed)))?,
        PR_GET_MDWE => zeros(&[a2, a3, a4, a5]).map(|()| u64::from(cur.mm().mdwe()))?,
        PR_SET_MDWE => {
            zeros(&[a3, a4, a5])?;
            cur.mm().set_mdwe(a2)?;
            0
        }
        PR_SET_SYSCALL_USER_DISPATCH => {
            cur.dispatch.set(dispatch::Region::new(a2, a3, a4, a5)?);
            0
        }
        PR_SET_MM => super::prctl_mm::set_mm(cur, a2, a3, a4, a5)?,
        PR_GET_AUXV => get_auxv(cur, a2, a3, &[a4, a5])?,
        _ => return Err(Errno::EINVAL.into()),
    })
}

/// Kinds of speculation that `PR_GET_SPECULATION_CTRL` knows.
const SPECULATIONS: u64 = 3;

/// `PR_MCE_KILL`: what happens on a memory error; kept, since the host sends its own.
fn mce_kill(cur: &CurrentTask, what: u64, policy: u64, rest: &[u64]) -> Result<u64> {
    zeros(rest)?;
    let policy = match (what as u32, policy as u32) {
        (PR_MCE_KILL_CLEAR, 0) => PR_MCE_KILL_DEFAULT,
        (PR_MCE_KILL_SET, PR_MCE_KILL_EARLY | PR_MCE_KILL_LATE | PR_MCE_KILL_DEFAULT) => policy as u32,
        _ => return Err(Errno::EINVAL),
    };
    cur.attr.mce_kill.store(policy, Relaxed);
    Ok(0)
}

/// Size of the auxiliary vector that Linux keeps on this machine, bytes.
pub(super) const AUXV: usize = 416;

/// `PR_GET_AUXV`: as much of it as fits; its whole size.
fn get_auxv(cur: &CurrentTask, addr: u64, len: u64, rest: &[u64]) -> Result<u64> {
    zeros(rest)?;
    let mut bytes = [0u8; AUXV];
    let words = cur.mm().auxv.lock().clone();
    for (to, word) in bytes.chunks_exact_mut(8).zip(words.iter()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let len = len.min(AUXV as u64) as usize;
    UserPtr::<u8>::new(addr).slice(len).write_from(&bytes[..len])?;
    Ok(AUXV as u64)
}

fn set_name(cur: &CurrentTask, addr: u64) -> Result<u64> {
    let name = read_name(addr)?;
    let len = name.iter().position(|&b| b == 0).unwrap_or(15);
    *cur.comm.lock() = name[..len].to_vec();
    // By its leader's name the host's `ps` knows a process: that stays what the sandbox is known by.
    if cur.tid() != cur.group.pid {
        host::sched::set_name(&name);
    }
    Ok(0)
}

/// At most 15 bytes up to a NUL (`strncpy_from_user`).
fn read_name(addr: u64) -> Result<[u8; 16]> {
    let mut name = [0u8; 16];
    for (i, byte) in name.iter_mut().enumerate().take(15) {
        *byte = UserPtr::<u8>::new(addr).add(i).read()?;
        if *byte == 0 {
            break;
        }
    }
    Ok(name)
}

fn get_name(cur: &CurrentTask, addr: u64) -> Result<u64> {
    let mut name = [0u8; 16];
    {
        let comm = cur.comm.lock();
        for (to, from) in name.iter_mut().take(15).zip(comm.iter()) {
            *to = *from;
        }
    }
    UserPtr::<[u8; 16]>::new(addr).write(name).map(|()| 0)
}

/// The bit of a capability number that exists.
fn cap_bit(n: u64) -> Result<u64> {
    if n < 41 { Ok(1 << n) } else { Err(Errno::EINVAL) }
}

fn drop_bounding(cur: &CurrentTask, n: u64) -> Result<u64> {
    if !cur.cred().capable_here(cap::SETPCAP) {
        return Err(Errno::EPERM);
    }
    let mut cred = Cred::clone(cur.cred());
    cred.cap_bounding &= !cap_bit(n)?;
    set_cred(cur, cred);
    Ok(0)
}

fn ambient(cur: &CurrentTask, what: u64, n: u64, rest: &[u64]) -> Result<u64> {
    zeros(rest)?;
    let mut cred = Cred::clone(cur.cred());
    match what as u32 {
        PR_CAP_AMBIENT_CLEAR_ALL => {
            zeros(&[n])?;
            cred.cap_ambient = 0;
        }
        PR_CAP_AMBIENT_IS_SET => return Ok(u64::from(cred.cap_ambient & cap_bit(n)? != 0)),
        PR_CAP_AMBIENT_RAISE => {
            let bit = cap_bit(n)?;
            let refused = cred.secure_bits & secure::NO_CAP_AMBIENT_RAISE != 0;
            if refused || cred.cap_permitted & cred.cap_inheritable & bit == 0 {
                return Err(Errno::EPERM);
            }
            cred.cap_ambient |= bit;
        }
        PR_CAP_AMBIENT_LOWER => cred.cap_ambient &= !cap_bit(n)?,
        _ => return Err(Errno::EINVAL),
    }
    set_cred(cur, cred);
    Ok(0)
}

/// `personality(2)`. Without effect are `ADDR_COMPAT_LAYOUT`, `MMAP_PAGE_ZERO` (as where nothing may be mapped there) and
/// what only other systems' programs know.
///
/// # Errors
/// None.
pub fn sys_personality(cur: &CurrentTask, persona: u32) -> SysResult<u32> {
    let old = cur.attr.personality.load(Relaxed);
    if persona != u32::MAX {
        cur.attr.personality.store(persona, Relaxed);
    }
    Ok(old)
}

/// Versions of the capability interface, and how many 32-bit words each set has.
const CAP_V1: u32 = 0x1998_0330;
const CAP_V2: u32 = 0x2007_1026;
const CAP_V3: u32 = 0x2008_0522;

/// Checks the header; returns the number of words and the pid.
fn cap_header(header: UserPtr<[u32; 2]>) -> Result<(usize, i32)> {
    let [version, pid] = header.read()?;
    match version {
        CAP_V1 => Ok((1, pid as i32)),
        CAP_V2 | CAP_V3 => Ok((2, pid as i32)),
        _ => {
            header.cast::<u32>().write(CAP_V3)?;
            Err(Errno::EINVAL)
        }
    }
}

/// `capget(2)`.
///
/// # Errors
/// `EINVAL`, `ESRCH`, `EFAULT`.
pub fn sys_capget(cur: &CurrentTask, header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> SysResult<()> {
    let (words, pid) = match cap_header(header) {
        // Asking for the version only.
        Err(Errno::EINVAL) if data.is_null() => return Ok(()),
        other => other?,
    };
    if data.is_null() {
        return Ok(());
    }
    if pid < 0 {
        return Err(Errno::EINVAL.into());
    }
    let cred = if pid == 0 || pid as u32 == cur.shown_tid() {
        cur.cred().clone()
    } else {
        cur.task_of(pid as u32).and_then(|t| t.shared()).ok_or(Errno::ESRCH)?.cred
    };
    for i in 0..words {
        let word = |set: u64| (set >> (32 * i)) as u32;
        data.add(i).write([word(cred.cap_effective), word(cred.cap_permitted), word(cred.cap_inheritable)])?;
    }
    Ok(())
}

/// `capset(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EFAULT`.
pub fn sys_capset(cur: &CurrentTask, header: UserPtr<[u32; 2]>, data: UserPtr<[u32; 3]>) -> SysResult<()> {
    let (words, pid) = cap_header(header)?;
    if pid != 0 && pid as u32 != cur.shown_tid() {
        return Err(Errno::EPERM.into());
    }
    let mut sets = [0u64; 3];
    for i in 0..words {
        for (set, word) in sets.iter_mut().zip(data.add(i).read()?) {
            *set |= u64::from(word) << (32 * i);
        }
    }
    let [effective, permitted, inheritable] = sets.map(|s| s & cap::ALL);
    let mut cred = Cred::clone(cur.cred());
    let more = permitted & !cred.cap_permitted != 0
        || effective & !permitted != 0
        || inheritable & !(cred.cap_inheritable | cred.cap_permitted) != 0 && !cred.capable_here(cap::SETPCAP)
        || inheritable & !(cred.cap_inheritable | cred.cap_bounding) != 0;
    if more {
        return Err(Errno::EPERM.into());
    }
    (cred.cap_effective, cred.cap_permitted, cred.cap_inheritable) = (effective, permitted, inheritable);
    cred.cap_ambient &= permitted & inheritable;
    set_cred(cur, cred);
    Ok(())
}

/// `arch_prctl(2)`: fs and gs base. Shadow stacks and CPUID faulting are refused.
///
/// # Errors
/// `EPERM` for an address outside, `EINVAL`, `EFAULT`.
pub fn sys_arch_prctl(cur: &CurrentTask, code: i32, addr: u64) -> SysResult<u64> {
    const ARCH_GET_CPUID: u32 = 0x1011;
    use crate::abi::layout::TASK_SIZE;
    use host::process::{ARCH_GET_FS, ARCH_GET_GS, ARCH_SET_FS, ARCH_SET_GS};
    match code as u32 {
        ARCH_SET_FS | ARCH_SET_GS => {
            if addr >= TASK_SIZE {
                return Err(Errno::EPERM.into());
            }
            if code as u32 == ARCH_SET_GS {
                // Rewritten call sites find their slot by gs.
                cur.mm().give_up_rewriting();
            }
            host::process::arch_prctl(code as u32, addr)?;
        }
        ARCH_GET_FS | ARCH_GET_GS => {
            let mut base = 0u64;
            if code as u32 == ARCH_GET_FS || cur.mm().guest_has_gs() {
                host::process::arch_prctl(code as u32, &raw mut base as u64)?;
            }
            UserPtr::<u64>::new(addr).write(base)?;
        }
        // Code may ask the processor what it is.
        ARCH_GET_CPUID => return Ok(1),
        _ => return Err(Errno::EINVAL.into()),
    }
    Ok(0)
}
