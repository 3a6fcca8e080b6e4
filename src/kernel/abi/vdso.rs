//! What the guest's vDSO (`asm/vdso.S`) reads: the page in front of it.

/// [`VdsoData::moved`] of a process whose clocks are apart from those of the others.
pub const ASK: u32 = 2;

/// At [`crate::abi::layout::VDSO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct VdsoData {
    /// Address of the host's `clock_gettime`, moved into the window.
    pub clock_gettime: u64,
    /// Address of its `getcpu`, 0 for none.
    pub getcpu: u64,
    /// What the sandbox's realtime clocks are ahead of the host's, ns.
    pub realtime_ahead: i64,
    /// The same of the clocks that are not set.
    pub monotonic_ahead: i64,
    /// Whether either is not 0; [`ASK`] where the kernel is to be asked.
    pub moved: u32,
    /// Pad.
    pub pad: u32,
}
