//! The extended state in a signal frame: an xsave area in the layout of
//! `arch/x86/include/uapi/asm/sigcontext.h`, with its software magic.

use super::slot;
use crate::abi::sigctx::SigContext;
use crate::abi::slot::{FPU_AREA, FPU_AREA_MAX};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// `FP_XSTATE_MAGIC1`, at [`SW_RESERVED`].
pub const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`, behind the area.
pub const MAGIC2: u32 = 0x4650_5845;
/// Offset of the software-reserved bytes: magic1, extended size, feature mask, xstate size.
pub const SW_RESERVED: usize = 464;
/// Where the registers of the legacy part end.
const LEGACY_END: usize = 416;
/// Size of the legacy (fxsave) part.
pub const LEGACY: usize = 512;
/// Offset of the xsave header, and its length.
pub const HEADER: usize = 512;
/// See [`HEADER`].
pub const HEADER_LEN: usize = 64;
/// Power-on MXCSR: all exceptions masked.
const MXCSR_INIT: u32 = 0x1f80;

/// Bytes of the software-reserved part that say what an area holds.
const SW_BYTES: usize = 48;
/// These bytes as the host writes them, once some frame has shown them; the first word is 0 before.
static SOFTWARE: [AtomicU64; SW_BYTES / 8] = [const { AtomicU64::new(0) }; SW_BYTES / 8];

/// State components that there may be beyond those of the legacy part.
const COMPONENTS: Range<u32> = 2..20;

/// The parts of an area that the processor does not write, as offsets: behind the legacy registers, and between the
/// components (CPUID leaf 13). `features`: those that the host saves, the same in every frame.
fn holes(features: u64) -> &'static [(usize, usize)] {
    static HOLES: OnceBox<Vec<(usize, usize)>> = OnceBox::new();
    HOLES.get_or_init(|| {
        let mut parts: Vec<(usize, usize)> = COMPONENTS
            .filter(|i| features >> i & 1 != 0)
            .map(|i| __cpuid_count(13, i))
            .map(|leaf| (leaf.ebx as usize, (leaf.ebx + leaf.eax) as usize))
            .collect();
        parts.sort_unstable();
        let mut all = alloc::vec![(LEGACY_END, SW_RESERVED)];
        let mut at = HEADER + HEADER_LEN;
        for (start, end) in parts {
            if start > at {
                all.push((at, start));
            }
            at = at.max(end);
        }
        Box::new(all)
    })
}

/// Whether the host's way of saving the extended state is known.
pub fn is_known() -> bool {
    SOFTWARE[0].load(Relaxed) != 0
}

/// Learns it from a frame that the host wrote.
pub fn learn(frame: &SigContext) {
    if is_known() {
        return;
    }
    let Some(area) = FpArea::of(frame).filter(|a| a.extended() && a.size() <= FPU_AREA_MAX) else { return };
    let bytes = area.software_bytes();
    for (i, to) in SOFTWARE.iter().enumerate().rev() {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
        to.store(u64::from_le_bytes(word), Relaxed);
    }
}

/// The extended state that a frame refers to. The area lies in kernel memory (on a slot's stack).
#[derive(Clone, Copy, Debug)]
pub struct FpArea {
    base: *mut u8,
}

impl FpArea {
    /// The area of a frame on the kernel stack; `None` when it has none (initial state).
    pub fn of(frame: &SigContext) -> Option<FpArea> {
        (frame.fpstate != 0).then_some(FpArea { base: frame.fpstate as *mut u8 })
    }

    /// The running slot's own area, ready to be filled: for frames that the host did not write. `None`
    /// before the host's layout [`is_known`].
    pub fn own() -> Option<FpArea> {
        if !is_known() {
            return None;
        }
        let base = (ptr::from_ref(slot()) as u64 + FPU_AREA as u64) as *mut u8;
        // SAFETY: the slot's area, which only this thread uses; both parts lie in it.
        unsafe {
            for (i, word) in SOFTWARE.iter().enumerate() {
                base.add(SW_RESERVED + i * 8).cast::<u64>().write(word.load(Relaxed));
            }
            base.add(HEADER).write_bytes(0, HEADER_LEN);
        }
        let area = FpArea { base };
        let end = area.size() - 4;
        // SAFETY: `learn` saw that the whole area fits.
        unsafe { base.add(end).cast::<u32>().write_unaligned(MAGIC2) };
        Some(area)
    }

    /// Where it lies, for a frame to refer to.
    pub fn addr(&self) -> u64 {
        self.base as u64
    }

    /// Saves what the registers hold, with the lower halves of the vector registers from `xmm`.
    #[cfg(feature = "image")]
    pub fn save(&mut self, xmm: &[u128; 16]) {
        unsafe extern "C" {
            fn drupe_fpu_save(area: *mut u8, xmm: *const u128, low: u32, high: u32);
        }
        let features = self.features();
        // SAFETY: an aligned area of the host's size, and the vector registers are the caller's to lose.
        unsafe { drupe_fpu_save(self.base, xmm.as_ptr(), features as u32, (features >> 32) as u32) }
    }

    /// Outside the image no guest has any state.
    #[cfg(not(feature = "image"))]
    pub fn save(&mut self, _xmm: &[u128; 16]) {}

    fn sw(&self, at: usize) -> u32 {
        // SAFETY: the host wrote a whole legacy area here.
        unsafe { ptr::read_unaligned(self.base.add(SW_RESERVED + at).cast::<u32>()) }
    }

    /// Whether there is more than the legacy part.
    pub fn extended(&self) -> bool {
        self.sw(0) == MAGIC1
    }

    /// Bytes that a signal frame needs for it.
    pub fn size(&self) -> usize {
        if self.extended() { self.sw(4) as usize } else { LEGACY }
    }

    /// The state components that the host saves (XCR0 as the frame sees it).
    pub fn features(&self) -> u64 {
        u64::from(self.sw(8)) | u64::from(self.sw(12)) << 32
    }

    /// The bytes, as they go into a guest's frame: where the processor writes nothing, zeros instead of what the stack held.
    pub fn bytes(&self) -> &[u8] {
        let size = self.size();
        for &(start, end) in holes(self.features()).iter().filter(|(_, end)| *end <= size) {
            // SAFETY: within the area, which belongs to this frame alone.
            unsafe { self.base.add(start).write_bytes(0, end - start) };
        }
        // SAFETY: the host wrote `size` bytes.
        unsafe { core::slice::from_raw_parts(self.base, self.size()) }
    }

    /// The bytes, to be filled from a guest's frame; follow with [`FpArea::sanitize`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let n = self.size();
        // SAFETY: as above; the area belongs to this frame alone.
        unsafe { core::slice::from_raw_parts_mut(self.base, n) }
    }

    /// The state that a fresh handler starts with.
    pub fn reset(&mut self) {
        let extended = self.extended();
        let bytes = self.bytes_mut();
        bytes[..SW_RESERVED].fill(0);
        bytes[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        bytes[24..28].copy_from_slice(&MXCSR_INIT.to_le_bytes());
        if extended {
            bytes[HEADER..HEADER + 8].fill(0);
        }
    }

    /// Makes bytes that a guest wrote acceptable to `xrstor`: `sw` are the software-reserved bytes
    /// as the host wrote them.
    pub fn sanitize(&mut self, sw: &[u8; 48]) {
        let bytes = self.bytes_mut();
        bytes[SW_RESERVED..LEGACY].copy_from_slice(sw);
        let features = self.features();
        let extended = self.extended();
        let n = self.size();
        let bytes = self.bytes_mut();
        let mxcsr = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) & 0xffff;
        bytes[24..28].copy_from_slice(&mxcsr.to_le_bytes());
        if extended && n >= HEADER + HEADER_LEN + 4 {
            let mut bv = [0u8; 8];
            bv.copy_from_slice(&bytes[HEADER..HEADER + 8]);
            let bv = u64::from_le_bytes(bv) & features;
            bytes[HEADER..HEADER + 8].copy_from_slice(&bv.to_le_bytes());
            bytes[HEADER + 8..HEADER + HEADER_LEN].fill(0);
            bytes[n - 4..].copy_from_slice(&MAGIC2.to_le_bytes());
        }
    }

    /// The software-reserved bytes.
    pub fn software_bytes(&self) -> [u8; 48] {
        let mut out = [0; 48];
        // SAFETY: the host wrote a whole legacy area here.
        unsafe { ptr::copy_nonoverlapping(self.base.add(SW_RESERVED), out.as_mut_ptr(), out.len()) };
        out
    }
}
