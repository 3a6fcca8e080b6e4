//! Where things lie in the kernel window. Offsets are from the window's base, which is chosen at
//! random per sandbox, and equal to the offsets in the window's memory file descriptor.

/// Lowest and highest base. Every published layout of a sanitizer (ASan, TSan, MSan, of gcc and of clang, old and
/// new) leaves `0x7e80_0000_0000..0x7fff_ffff_ffff` to the application, and no heap of Go, a JVM or V8 lives there.
/// The window then ends below [`MMAP_LOW`].
pub const BASE_RANGE: core::ops::Range<u64> = 0x7e80_0000_0000..0x7ebc_0000_0000;
/// Where the base is when everything there is taken, in a program that holds very much memory.
pub const BASE_FALLBACK: core::ops::Range<u64> = 0x6800_0000_0000..0x6b00_0000_0000;
/// Alignment of the base, in bytes: a huge page's.
pub const BASE_ALIGN: u64 = 2 << 20;
/// Lowest address at which the search for a guest's mappings starts (downwards): 64 GiB above a window in
/// [`BASE_RANGE`].
pub const MMAP_LOW: u64 = 0x7f10_0000_0000;
const _: () = assert!(BASE_RANGE.end + END + GUARD <= MMAP_LOW - (64 << 30));

/// First byte of the kernel image; everything below is guard.
pub const IMAGE: u64 = 2 << 20;
/// Room for the image, in bytes.
pub const IMAGE_MAX: u64 = 30 << 20;
/// The guest's vDSO: one read-only page of data (`VdsoData`), then the ELF image. Mapped readable and executable.
pub const VDSO: u64 = 32 << 20;
/// Room for the guest's vDSO and, from [`HOST_VDSO`], for the host's `[vvar]` and `[vdso]`.
pub const VDSO_MAX: u64 = 1 << 20;
/// Where the host's own `[vvar]`…`[vdso]` group is moved to.
pub const HOST_VDSO: u64 = 34 << 20;
/// Room for it, in bytes.
pub const HOST_VDSO_MAX: u64 = 1 << 20;
/// A page of constants by which names of host files are looked up ([`Naming`](super::control::Naming)), where that is to
/// lead nowhere else. Nobody can change it.
pub const NAMING: u64 = 36 << 20;
/// The kernel heap.
pub const HEAP: u64 = 64 << 20;
/// Address room of the heap, in bytes (the limit in force is a run-time setting).
pub const HEAP_MAX: u64 = (4 << 30) - HEAP;
/// The task slots, [`SLOT_SIZE`] apart.
pub const SLOTS: u64 = 4 << 30;
/// One slot: header at its lowest address, kernel stack growing down from its end towards it.
pub const SLOT_SIZE: u64 = 256 << 10;
/// log2 of [`SLOT_SIZE`].
pub const SLOT_SHIFT: u32 = 18;
/// Number of slots, hence of host threads in a sandbox.
pub const SLOT_COUNT: u64 = 32768;
/// The memory file: pages of tmpfs and of shared mappings (sparse).
pub const MEMFILE: u64 = SLOTS + SLOT_SIZE * SLOT_COUNT;
/// Size of the memory file, in bytes.
pub const MEMFILE_MAX: u64 = 256 << 30;
/// End of the window's last mapping; a guard follows.
pub const END: u64 = MEMFILE + MEMFILE_MAX;
/// Guard behind the window, in bytes.
pub const GUARD: u64 = 2 << 20;
/// The end of the address space that a guest may use (`TASK_SIZE`).
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;
