//! Frames on a slot's stack from which `rt_sigreturn` starts a thread.

use super::fpu::FpArea;
use crate::abi::layout::SLOT_SIZE;
use crate::abi::sigctx::{SigContext, SigStack, UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS, UContext};
use crate::abi::slot::{FPU_AREA, FPU_AREA_MAX, SlotHeader};
use core::mem::size_of;

/// User code and stack segments of 64-bit Linux.
pub const USER_CS: u16 = 0x33;
/// See [`USER_CS`].
pub const USER_SS: u16 = 0x2b;

/// `struct user_regs_struct`, as ptrace and core dumps have it: `call` is `orig_rax`, `bases` those of fs and gs.
pub fn user_regs(r: &SigContext, call: u64, bases: [u64; 2]) -> [u64; 27] {
    [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        call,
        r.rip,
        u64::from(USER_CS),
        r.eflags,
        r.rsp,
        u64::from(USER_SS),
        bases[0],
        bases[1],
        0,
        0,
        0,
        0,
    ]
}
/// Bytes at a slot's start that are not stack.
pub const SLOT_HEADER: u64 = (FPU_AREA + FPU_AREA_MAX) as u64;

/// Address of a slot's header.
pub fn slot_base(slot: &SlotHeader) -> u64 {
    core::ptr::from_ref(slot) as u64
}

/// First address above a slot's stack.
pub fn stack_top(slot: &SlotHeader) -> u64 {
    slot_base(slot) + SLOT_SIZE
}

/// The alternate signal stack of a slot, as `sigaltstack` takes it.
pub fn signal_stack(slot: &SlotHeader) -> SigStack {
    SigStack { sp: slot_base(slot) + SLOT_HEADER, flags: 0, pad: 0, size: SLOT_SIZE - SLOT_HEADER }
}

/// Whether `addr` lies on some slot's stack.
pub fn on_slot_stack(addr: u64) -> bool {
    use crate::abi::layout::{MEMFILE, SLOTS};
    let base = super::slot::window();
    (base + SLOTS..base + MEMFILE).contains(&addr)
}

/// The guest's registers of the call that the thread of a slot is in, as they were a moment ago: nothing
/// keeps it there.
pub fn registers(slot: &SlotHeader) -> Option<SigContext> {
    use core::sync::atomic::Ordering::SeqCst;
    let at = slot.frame.load(SeqCst);
    let inside = at >= slot_base(slot) + SLOT_HEADER && at + size_of::<SigContext>() as u64 <= stack_top(slot);
    // SAFETY: within the slot's stack, which is mapped for ever; every bit pattern is a value.
    inside.then(|| unsafe { core::ptr::read_volatile(at as *const SigContext) })
}

/// Replaces them, but for where the extended state lies.
///
/// # Safety
/// The slot's thread does not use them meanwhile: it sleeps in a stop.
pub unsafe fn set_registers(slot: &SlotHeader, regs: &SigContext) {
    use core::sync::atomic::Ordering::SeqCst;
    let at = slot.frame.load(SeqCst);
    if at >= slot_base(slot) + SLOT_HEADER && at + size_of::<SigContext>() as u64 <= stack_top(slot) {
        let at = at as *mut SigContext;
        // SAFETY: by the caller's promise; within the slot's stack.
        unsafe { at.write(SigContext { fpstate: (*at).fpstate, ..*regs }) };
    }
}

/// Bytes at a stack's top that `exec` puts its first frame into.
const FIRST_FRAME: u64 = 1024;

/// The stack of a slot without the place of its first frame: where zygotes start.
pub fn zygote_stack(slot: &SlotHeader) -> u64 {
    stack_top(slot) - FIRST_FRAME
}

/// Lays a frame with these registers and the initial extended state above [`zygote_stack`] of the
/// running thread's slot.
pub fn place_first(regs: &SigContext) -> *mut UContext {
    let slot = super::slot();
    let mut mcontext = *regs;
    mcontext.fpstate = 0;
    mcontext.cs = USER_CS;
    mcontext.ss = USER_SS;
    let flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    let uc = UContext { flags, link: 0, stack: signal_stack(slot), mcontext, sigmask: 0 };
    let at = zygote_stack(slot) as *mut UContext;
    // SAFETY: nobody starts above `zygote_stack` on the stack of a zygote, and a UContext fits.
    unsafe { at.write(uc) };
    at
}

/// Lays a frame with these registers at the top of `slot`'s stack, with a copy of the extended
/// state that `regs` refers to (`copy_fpu`) or the initial one. Returns the ucontext's address;
/// the stack below it is free.
///
/// # Safety
/// Nobody may run on the slot's stack, and `regs.fpstate`, unless 0, must be a host-written area.
pub unsafe fn place(slot: &SlotHeader, regs: &SigContext, copy_fpu: bool) -> *mut UContext {
    let mut sp = stack_top(slot) - 64;
    let mut mcontext = *regs;
    mcontext.fpstate = 0;
    if copy_fpu && let Some(area) = FpArea::of(regs) {
        let bytes = area.bytes();
        sp = (sp - bytes.len() as u64) & !63;
        // SAFETY: free stack of the slot.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), sp as *mut u8, bytes.len()) };
        mcontext.fpstate = sp;
    }
    mcontext.cs = USER_CS;
    mcontext.ss = USER_SS;
    mcontext.gs = 0;
    mcontext.fs = 0;
    sp = (sp - size_of::<UContext>() as u64) & !63;
    let flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | if mcontext.fpstate != 0 { UC_FP_XSTATE } else { 0 };
    let uc = UContext { flags, link: 0, stack: signal_stack(slot), mcontext, sigmask: 0 };
    let at = sp as *mut UContext;
    // SAFETY: free stack of the slot, aligned.
    unsafe { at.write(uc) };
    at
}

/// A frame from which `rt_sigreturn` puts the running thread where `regs` says, with the extended state
/// that they refer to.
pub fn of_running(regs: &SigContext) -> UContext {
    let flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | if regs.fpstate != 0 { UC_FP_XSTATE } else { 0 };
    let mcontext = SigContext { cs: USER_CS, ss: USER_SS, gs: 0, fs: 0, ..*regs };
    UContext { flags, link: 0, stack: signal_stack(super::slot()), mcontext, sigmask: 0 }
}
