//! The machine: `uname(2)`, `sysinfo(2)`, `getrandom(2)`.

use crate::abi::{Errno, SysResult};
use crate::cred::cap;
use crate::fs::dev::random_bytes;
use crate::host;
use crate::mm::{IoDst, IoVec, UserPtr, budget};
use crate::task::attr::persona;
use crate::task::{CurrentTask, kernel, uts};
use crate::tty;
use core::sync::atomic::Ordering::Relaxed;

/// `struct new_utsname`: six strings.
type UtsName = [[u8; 65]; 6];

/// `uname(2)`.
///
/// # Errors
/// `EFAULT`.
pub fn sys_uname(cur: &CurrentTask, out: UserPtr<UtsName>) -> SysResult<()> {
    let mut name: UtsName = [[0; 65]; 6];
    let (host, domain) = (cur.own().ns.uts.hostname(), cur.own().ns.uts.domainname());
    let release = if cur.attr.has_persona(persona::UNAME26) { uts::RELEASE_26 } else { uts::RELEASE };
    let system = cur.attr.personality.load(Relaxed) & persona::PER_MASK;
    let machine: &[u8] = if system == persona::PER_LINUX32 { b"i686" } else { b"x86_64" };
    let texts = [b"Linux", &host[..], release.as_bytes(), uts::VERSION.as_bytes(), machine, &domain];
    for (field, text) in name.iter_mut().zip(texts) {
        for (to, from) in field.iter_mut().take(64).zip(text) {
            *to = *from;
        }
    }
    Ok(out.write(name)?)
}

/// `vhangup(2)`.
///
/// # Errors
/// `EPERM`.
pub fn sys_vhangup(cur: &CurrentTask) -> SysResult<()> {
    Ok(tty::hang_up_own(&cur.op_ctx())?)
}

fn new_name(cur: &CurrentTask, name: UserPtr<u8>, len: i32) -> SysResult<alloc::vec::Vec<u8>> {
    if !cur.cred().capable_in(&cur.own().ns.uts.user_ns, cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    let len = usize::try_from(len).ok().filter(|&l| l <= uts::NAME_MAX).ok_or(Errno::EINVAL)?;
    Ok(name.slice(len).read_vec()?)
}

/// `sethostname(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EFAULT`.
pub fn sys_sethostname(cur: &CurrentTask, name: UserPtr<u8>, len: i32) -> SysResult<()> {
    cur.own().ns.uts.set_hostname(&new_name(cur, name, len)?);
    Ok(())
}

/// `setdomainname(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EFAULT`.
pub fn sys_setdomainname(cur: &CurrentTask, name: UserPtr<u8>, len: i32) -> SysResult<()> {
    cur.own().ns.uts.set_domainname(&new_name(cur, name, len)?);
    Ok(())
}

/// `sysinfo(2)`: the host's memory and load, our processes.
///
/// # Errors
/// `EFAULT`.
pub fn sys_sysinfo(cur: &CurrentTask, out: UserPtr<[u64; 14]>) -> SysResult<()> {
    let mut info = host::sched::sysinfo()?;
    let id = crate::abi::linux::CLOCK_BOOTTIME as i32;
    let up = crate::time::clock(id).unwrap_or(0) + cur.clock_ahead(id);
    info[0] = (up / crate::time::SECOND) as u64;
    if let Some(limit) = budget::limit() {
        // totalram, freeram, sharedram, bufferram, totalswap, freeswap; a unit is a byte on every host of 64 bits.
        let left = limit.saturating_sub(budget::used());
        info[4] = info[4].min(limit);
        info[5] = info[5].min(left);
        info[6] = info[6].min(limit);
        info[7] = info[7].min(limit);
        (info[8], info[9]) = (0, 0);
    }
    info[10] = u64::from(kernel().task_count().min(u32::from(u16::MAX)));
    Ok(out.write(info)?)
}

/// `GRND_RANDOM`, `GRND_INSECURE`; `GRND_NONBLOCK` makes no difference.
const GRND: [u32; 2] = [2, 4];

/// `getrandom(2)`.
///
/// # Errors
/// `EINVAL` for unknown flags, `EFAULT`.
pub fn sys_getrandom(_cur: &CurrentTask, buf: UserPtr<u8>, len: usize, flags: u32) -> SysResult<usize> {
    if flags & !7 != 0 || flags & (GRND[0] | GRND[1]) == GRND[0] | GRND[1] {
        return Err(Errno::EINVAL.into());
    }
    let vecs = [IoVec { base: buf.addr(), len: len.min(i32::MAX as usize & !0xfff) as u64 }];
    random_bytes(&mut IoDst::user(&vecs))
}
