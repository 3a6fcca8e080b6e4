//! `PR_SET_MM` of `prctl(2)`: where a program's code, data, heap, stack and strings lie, as a program that restores
//! another one says it.

use super::prctl::AUXV;
use crate::abi::layout::TASK_SIZE;
use crate::abi::linux::{RLIM64_INFINITY, RLIMIT_DATA};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::mm::space::{Layout, MIN_ADDR, outside_guest};
use crate::mm::{Backing, UserPtr};
use crate::task::{CurrentTask, loader};
use crate::vfs::state::DenyWrite;
use alloc::vec::Vec;
use linux_raw_sys::prctl::*;

/// Words of `struct prctl_mm_map`: the addresses in the order of [`Layout`], the vector's address, its size and the
/// descriptor of the program.
const MAP: usize = 13;
/// No descriptor.
const NO_FILE: u32 = u32::MAX;

/// `prctl(PR_SET_MM)`.
///
/// # Errors
/// `EINVAL` for an unknown option, addresses out of range or out of order, `EPERM`, `EFAULT`, `EBADF`, `EACCES`, `EBUSY`
/// while the former program's file is mapped.
pub fn set_mm(cur: &CurrentTask, option: u64, addr: u64, arg4: u64, arg5: u64) -> Result<u64> {
    let option = option as u32;
    let takes_size = matches!(option, PR_SET_MM_AUXV | PR_SET_MM_MAP | PR_SET_MM_MAP_SIZE);
    if arg5 != 0 || arg4 != 0 && !takes_size {
        return Err(Errno::EINVAL);
    }
    match option {
        PR_SET_MM_MAP_SIZE => return UserPtr::<u32>::new(addr).write((MAP * 8) as u32).map(|()| 0),
        PR_SET_MM_MAP => return set_all(cur, addr, arg4),
        _ if !cur.cred().capable(cap::SYS_RESOURCE) => return Err(Errno::EPERM),
        PR_SET_MM_EXE_FILE => return set_exe(cur, addr as i32),
        PR_SET_MM_AUXV => return set_auxv(cur, addr, arg4),
        _ => {}
    }
    let mut layout = cur.mm().layout();
    let on_stack = matches!(
        option,
        PR_SET_MM_START_STACK | PR_SET_MM_ARG_START | PR_SET_MM_ARG_END | PR_SET_MM_ENV_START | PR_SET_MM_ENV_END
    );
    let at = match option {
        PR_SET_MM_START_CODE => Layout::START_CODE,
        PR_SET_MM_END_CODE => Layout::END_CODE,
        PR_SET_MM_START_DATA => Layout::START_DATA,
        PR_SET_MM_END_DATA => Layout::END_DATA,
        PR_SET_MM_START_BRK => Layout::START_BRK,
        PR_SET_MM_BRK => Layout::BRK,
        PR_SET_MM_START_STACK => Layout::START_STACK,
        PR_SET_MM_ARG_START => Layout::ARG_START,
        PR_SET_MM_ARG_END => Layout::ARG_END,
        PR_SET_MM_ENV_START => Layout::ENV_START,
        PR_SET_MM_ENV_END => Layout::ENV_END,
        _ => return Err(Errno::EINVAL),
    };
    layout.0[at] = addr;
    check(cur, &layout)?;
    // Nothing is mapped at the address or above it (`find_vma`).
    if on_stack && cur.mm().mapped(addr, TASK_SIZE)?.is_empty() {
        return Err(Errno::EFAULT);
    }
    cur.mm().set_layout(&layout);
    Ok(0)
}

/// As `validate_prctl_map_addr` in `kernel/sys.c`.
fn check(cur: &CurrentTask, l: &Layout) -> Result {
    let at = |i: usize| l.0[i];
    let ordered = at(Layout::START_CODE) < at(Layout::END_CODE)
        && at(Layout::START_DATA) <= at(Layout::END_DATA)
        && at(Layout::START_BRK) <= at(Layout::BRK)
        && at(Layout::ARG_START) <= at(Layout::ARG_END)
        && at(Layout::ENV_START) <= at(Layout::ENV_END);
    if !ordered || l.0.iter().any(|&a| a < MIN_ADDR || outside_guest(a, a.saturating_add(1))) {
        return Err(Errno::EINVAL);
    }
    let limit = cur.group.limits.get(RLIMIT_DATA as usize).0;
    let data = at(Layout::BRK) - at(Layout::START_BRK) + (at(Layout::END_DATA) - at(Layout::START_DATA));
    if limit != RLIM64_INFINITY as u64 && data > limit { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `PR_SET_MM_MAP`: all at once.
fn set_all(cur: &CurrentTask, addr: u64, size: u64) -> Result<u64> {
    if size != (MAP * 8) as u64 {
        return Err(Errno::EINVAL);
    }
    let words = UserPtr::<[u64; MAP]>::new(addr).read()?;
    let mut layout = Layout::default();
    layout.0.copy_from_slice(&words[..Layout::COUNT]);
    check(cur, &layout)?;
    let (vector, vector_size, file) = (words[11], words[12] as u32 as usize, (words[12] >> 32) as u32);
    let mut bytes = [0u8; AUXV];
    if vector_size != 0 {
        if vector == 0 || vector_size > AUXV {
            return Err(Errno::EINVAL);
        }
        UserPtr::<u8>::new(vector).slice(vector_size).read_into(&mut bytes[..vector_size])?;
        bytes[AUXV - 16..].fill(0);
    }
    if file != NO_FILE {
        if !cur.cred().capable_here(cap::SYS_ADMIN) && !cur.cred().capable_here(cap::CHECKPOINT_RESTORE) {
            return Err(Errno::EPERM);
        }
        set_exe(cur, file as i32)?;
    }
    cur.mm().set_layout(&layout);
    if vector_size != 0 {
        keep_auxv(cur, &bytes);
    }
    Ok(0)
}

fn keep_auxv(cur: &CurrentTask, bytes: &[u8]) {
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|w| u64::from_le_bytes(*w)).collect();
    *cur.mm().auxv.lock() = words.into();
}

fn set_auxv(cur: &CurrentTask, addr: u64, len: u64) -> Result<u64> {
    if len > AUXV as u64 {
        return Err(Errno::EINVAL);
    }
    let len = len as usize;
    let mut bytes = [0u8; AUXV];
    UserPtr::<u8>::new(addr).slice(len).read_into(&mut bytes[..len])?;
    bytes[AUXV - 16..].fill(0);
    // What lies behind stays as it was.
    let old = cur.mm().auxv.lock().clone();
    for (to, word) in bytes.chunks_exact_mut(8).zip(old.iter()).skip(len.div_ceil(8)) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    keep_auxv(cur, &bytes);
    Ok(0)
}

/// `/proc/self/exe` leads to another program.
fn set_exe(cur: &CurrentTask, fd: i32) -> Result<u64> {
    let file = cur.files().get(fd)?;
    let path = file.path().clone();
    loader::check_exec(&cur.op_ctx(), &path).map_err(|e| if e == Errno::ELOOP { Errno::EACCES } else { e })?;
    let old = cur.group.exec_info.lock().exe.clone();
    let old = old.and_then(|exe| exe.display(&cur.fs().root()).ok());
    let is_old = |b: &Backing| matches!(b, Backing::File { name, .. } if Some(&name[..]) == old.as_deref());
    if cur.mm().mapped(0, u64::MAX)?.iter().any(|v| is_old(&v.backing)) {
        return Err(Errno::EBUSY);
    }
    let running = DenyWrite::new(path.inode()).map_err(|_| Errno::EACCES)?;
    let former = {
        let mut info = cur.group.exec_info.lock();
        (info.exe.replace(path), info.running.replace(running))
    };
    drop(former);
    Ok(0)
}
