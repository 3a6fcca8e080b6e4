//! The kernel image: a shared object without libc, TLS or dynamic dependencies. It adds to
//! `drupe-kernel` what only a final object may define: the panic handler, the allocator and the
//! exported header through which the host half calls in.
#![no_std]

extern crate alloc;

use core::panic::PanicInfo;
use drupe_kernel::abi::control::{BootParams, ImageHeader, MAGIC};
use drupe_kernel::{arena, boot, host};

#[global_allocator]
static HEAP: arena::Heap = arena::Heap;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    host::panic::panic(format_args!("kernel panic: {info}"))
}

/// The unwinder never runs (`panic=abort`), but precompiled `core` refers to its personality.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    host::panic::panic(format_args!("kernel panic: unwinding"))
}

unsafe extern "C" {
    fn drupe_gate_ip();
    fn drupe_sigreturn_ip();
    fn drupe_call_on(stack_top: u64, f: *const (), a: u64, b: u64, c: u64, d: u64) -> i64;
}

/// Calls `f` on the supervisor's slot stack: kernel code finds its slot by the stack pointer.
fn on_slot(f: *const (), a: u64, b: u64, c: u64, d: u64) -> i64 {
    // SAFETY: the supervisor is single-threaded and its slot's stack is otherwise idle; `f` takes
    // at most four integer arguments.
    unsafe { drupe_call_on(boot::supervisor_stack(), f, a, b, c, d) }
}

unsafe extern "C" fn image_boot(params: *const BootParams) -> i64 {
    // SAFETY: the host half passes a valid record that outlives the call.
    let params = unsafe { &*params };
    if let Err(e) = boot::early(params) {
        return -i64::from(e.raw());
    }
    on_slot(boot::boot as *const (), core::ptr::from_ref(params) as u64, 0, 0, 0)
}

unsafe extern "C" fn image_restore(params: *const BootParams, revival: *const u8, len: usize) -> i64 {
    // SAFETY: as for `image_boot`.
    let params = unsafe { &*params };
    if let Err(e) = boot::early(params) {
        return -i64::from(e.raw());
    }
    on_slot(boot::restore::restore as *const (), core::ptr::from_ref(params) as u64, revival as u64, len as u64, 0)
}

unsafe extern "C" fn image_spawn_mother() -> i64 {
    on_slot(boot::spawn_mother as *const (), 0, 0, 0, 0)
}

unsafe extern "C" fn image_control(req: *const u8, req_len: usize, resp: *mut u8, resp_cap: usize) -> i64 {
    on_slot(boot::control as *const (), req as u64, req_len as u64, resp as u64, resp_cap as u64)
}

unsafe extern "C" fn image_reaped(host_pid: i32, status: i32) {
    on_slot(boot::reaped as *const (), host_pid as u64, status as u64, 0, 0);
}

unsafe extern "C" fn image_timer() -> u64 {
    on_slot(boot::timer as *const (), 0, 0, 0, 0) as u64
}

unsafe extern "C" fn image_host_ready(fd: i32, events: u32) {
    on_slot(boot::host_ready as *const (), fd as u64, u64::from(events), 0, 0);
}

unsafe extern "C" fn image_next_event(buf: *mut u8, cap: usize) -> i64 {
    on_slot(boot::next_event as *const (), buf as u64, cap as u64, 0, 0)
}

/// The header, with addresses filled in by relocation.
#[repr(transparent)]
pub struct Exported(ImageHeader);
// SAFETY: constant.
unsafe impl Sync for Exported {}

/// What the host half looks up.
#[unsafe(no_mangle)]
pub static DRUPE_IMAGE: Exported = Exported(ImageHeader {
    magic: MAGIC,
    boot: image_boot,
    spawn_mother: image_spawn_mother,
    control: image_control,
    reaped: image_reaped,
    timer: image_timer,
    host_ready: image_host_ready,
    next_event: image_next_event,
    restore: image_restore,
    gate_ip: drupe_gate_ip as unsafe extern "C" fn(),
    sigreturn_ip: drupe_sigreturn_ip as unsafe extern "C" fn(),
});
