//! The x86-64 signal frame as the kernel lays it out (`asm/sigcontext.h`, `asm/ucontext.h`).

/// `struct sigcontext_64`: also the kernel's own register frame, so that a trap needs no copying.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    /// Address of the extended state (an `xsave` area with its software magic), 0 for none.
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// The general registers but for the two that say where the code is, for a log.
impl core::fmt::Display for SigContext {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let SigContext { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, eflags, .. } = self;
        write!(
            f,
            "rax {rax:#x} rbx {rbx:#x} rcx {rcx:#x} rdx {rdx:#x} rsi {rsi:#x} rdi {rdi:#x} rbp {rbp:#x} r8 {r8:#x} \
             r9 {r9:#x} r10 {r10:#x} r11 {r11:#x} r12 {r12:#x} r13 {r13:#x} r14 {r14:#x} r15 {r15:#x} flags {eflags:#x}"
        )
    }
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct SigStack {
    pub sp: u64,
    pub flags: i32,
    pub pad: u32,
    pub size: u64,
}

/// `struct ucontext`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct UContext {
    pub flags: u64,
    pub link: u64,
    pub stack: SigStack,
    pub mcontext: SigContext,
    pub sigmask: u64,
}

/// `siginfo_t`, all 128 bytes: the three leading ints and the union.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    /// The union, from offset 16.
    pub fields: [u64; 14],
}

/// `struct rt_sigframe`: what lies at rsp when a handler starts.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct RtSigFrame {
    pub pretcode: u64,
    pub uc: UContext,
    pub info: SigInfo,
}

/// uc_flags: the extended state is in xsave format.
pub const UC_FP_XSTATE: u64 = 1;
/// uc_flags: ss is meaningful.
pub const UC_SIGCONTEXT_SS: u64 = 2;
/// uc_flags: restore ss as given.
pub const UC_STRICT_RESTORE_SS: u64 = 4;
