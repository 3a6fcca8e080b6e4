//! Boots a kernel that was saved: its memory is in the window already, and what lies outside of that is made anew.

use super::{MOTHER, SETUP, own_slot};
use crate::abi::control::{BootParams, Config};
use crate::abi::saved::Revival;
use crate::abi::slot::SlotHeader;
use crate::abi::{Errno, Result};
use crate::arch;
use crate::fs::hostfd;
use crate::host::process;
use crate::host::{log as ring, panic, random, sched, time as host_time, window};
use crate::mm::text;
use crate::syscall::strace;
use crate::task::{copies, exit, revive, zygote};
use crate::time;
use core::sync::atomic::Ordering::SeqCst;

/// Makes the saved kernel run: 0 or `-errno`. The sandbox is paused as it was.
///
/// # Safety
/// `params` is the record that the host half filled in, and `revival` are the `len` bytes of a [`Revival`].
pub unsafe extern "C" fn restore(params: *const BootParams, revival: *const u8, len: usize) -> i64 {
    // SAFETY: by the caller's promise.
    match unsafe { reassemble(&*params, core::slice::from_raw_parts(revival, len)) } {
        Ok(()) => 0,
        Err(e) => -i64::from(e.raw()),
    }
}

/// # Safety
/// As for [`restore`].
unsafe fn reassemble(params: &BootParams, revival: &[u8]) -> Result {
    let slot: &SlotHeader = arch::slot();
    let held = slot.locks_held.load(SeqCst);
    own_slot();
    // SAFETY: the host half says where its encoded settings lie.
    let config = unsafe { core::slice::from_raw_parts(params.config, params.config_len) };
    let config: Config = postcard::from_bytes(config).map_err(|_| Errno::EINVAL)?;
    ring::init(config.log_level, config.log_fd);
    if held != 0 {
        // It is saved between two of the supervisor's tasks.
        log::error!("the supervisor held {held} locks");
        return Err(Errno::EUCLEAN);
    }
    let revival: Revival = postcard::from_bytes(revival).map_err(|_| Errno::EINVAL)?;
    window::set(params.window_fd, params.proc_fd);
    window::set_broker(params.broker_fd);
    window::set_naming(params.naming != 0);
    panic::set_doorbell(params.doorbell_fd);
    let pid = process::own_pid();
    let before = process::set_supervisor(pid);
    slot.host_tid.store(pid as u32, SeqCst);
    slot.host_tgid.store(pid as u32, SeqCst);
    // SAFETY: the host half passes the address of a `sock_fprog`.
    unsafe { renew_filter(params.filter) }?;
    sched::remember_affinity(config.cpus);
    sched::remember_name(config.name.as_bytes());
    if let Some(seed) = &revival.seed {
        random::seed(seed);
    }
    host_time::set_vdso(params.vdso[0]);
    time::go_on_from(revival.monotonic);
    time::vdso::install(params.vdso[0], params.vdso[3])?;
    text::set_cache(config.text_cache);
    if let Some(calls) = &config.strace {
        strace::init(calls, config.strace_fd);
    }
    let members = revive::members(&revival)?;
    for gone in revive::others(&members, before as u32) {
        // Those in reserve, and such as were about to end.
        if gone as i32 == MOTHER.load(SeqCst) {
            MOTHER.store(0, SeqCst);
        }
        exit::reaped(gone, crate::abi::linux::SIGKILL as i32);
    }
    revive::revive(members, super::become_guest)?;
    copies::forget();
    // There is another mother where somebody needs her.
    zygote::mother_lost();
    hostfd::restored();
    time::wall_clock_has_moved();
    log::info!("kernel restored at {:#x}", params.base);
    Ok(())
}

/// Puts the host half's filter in the place of the saved one.
///
/// # Safety
/// `at` is the address of a `sock_fprog`.
unsafe fn renew_filter(at: u64) -> Result {
    // SAFETY: by the caller's promise.
    let (fresh, len) = unsafe { super::keep_filter(at) };
    let setup = SETUP.get().ok_or(Errno::EUCLEAN)?;
    if setup.filter.1 != len {
        log::error!("the filter has {len} instructions, and had {}", setup.filter.1);
        return Err(Errno::EUCLEAN);
    }
    // SAFETY: `keep_filter` made both, of this length, and nobody else knows of the new one.
    unsafe { core::ptr::copy_nonoverlapping(fresh as *const u64, setup.filter.0 as *mut u64, usize::from(len)) };
    Ok(())
}
