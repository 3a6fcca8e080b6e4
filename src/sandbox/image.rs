//! The kernel image: unpacked from this library into the window, relocated, and protected.

use super::error::{Error, Result};
use drupe_kernel::abi::control::{ImageHeader, MAGIC};
use drupe_kernel::abi::layout;
use object::elf;
use object::read::elf::{Dyn, ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, RelocationFlags};
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// The embedded shared object.
static IMAGE: &[u8] = include_bytes!(env!("DRUPE_IMAGE_PATH"));

const PAGE: u64 = 4096;

/// The kernel image as an ELF file, for tests and for tools.
pub fn bytes() -> &'static [u8] {
    IMAGE
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::Setting(format!("the embedded kernel image is damaged: {what}"))
}

/// A loadable segment, relocated.
struct Segment {
    vaddr: u64,
    mem_len: u64,
    /// A copy only where there is something to relocate.
    bytes: Cow<'static, [u8]>,
    protection: i32,
}

/// Unpacks the image into the window's memory file and maps it at `base + layout::IMAGE`.
/// Returns its header.
///
/// # Errors
/// A damaged image; the host refusing to map executable memory.
pub fn load(base: u64, window: BorrowedFd<'_>) -> Result<ImageHeader> {
    let file = ElfFile64::<Endianness>::parse(IMAGE).map_err(bad)?;
    let load_at = base + layout::IMAGE;
    let mut segments = segments(&file)?;
    relocate(&file, load_at, &mut segments)?;
    let header = file.dynamic_symbols().find(|s| s.name() == Ok("DRUPE_IMAGE")).ok_or_else(|| bad("no header"))?;
    for segment in &segments {
        place(segment, load_at, window)?;
    }
    let at = load_at + header.address();
    let inside = |s: &Segment| header.address() >= s.vaddr && header.address() - s.vaddr < s.bytes.len() as u64;
    if !segments.iter().any(inside) || header.size() < size_of::<ImageHeader>() as u64 {
        return Err(bad("its header lies outside"));
    }
    // SAFETY: mapped just now; the symbol lies in file-backed bytes of a segment.
    if unsafe { (at as *const u64).read() } != MAGIC {
        return Err(bad("it belongs to another build"));
    }
    // SAFETY: as above; the magic says that it is an `ImageHeader` from this very build, and its
    // function pointers have been relocated.
    Ok(unsafe { (at as *const ImageHeader).read() })
}

fn segments(file: &ElfFile64<'_, Endianness>) -> Result<Vec<Segment>> {
    let endian = file.endian();
    let mut out = Vec::new();
    for ph in file.elf_program_headers() {
        match ph.p_type(endian) {
            elf::PT_LOAD => {}
            elf::PT_TLS => return Err(bad("it has thread-local data")),
            elf::PT_INTERP => return Err(bad("it wants an interpreter")),
            _ => continue,
        }
        let bytes = ph.data(endian, IMAGE).map_err(|()| bad("a segment lies outside of the file"))?;
        let (vaddr, mem_len) = (ph.p_vaddr(endian), ph.p_memsz(endian));
        if mem_len < bytes.len() as u64 || vaddr.checked_add(mem_len).is_none_or(|end| end > layout::IMAGE_MAX) {
            return Err(bad("a segment is too large"));
        }
        let flags = ph.p_flags(endian);
        if flags.contains(elf::PF_W) && flags.contains(elf::PF_X) {
            return Err(bad("a segment is writable and executable"));
        }
        let bit = |flag, prot| if flags.contains(flag) { prot } else { 0 };
        let protection =
            bit(elf::PF_R, libc::PROT_READ) | bit(elf::PF_W, libc::PROT_WRITE) | bit(elf::PF_X, libc::PROT_EXEC);
        out.push(Segment { vaddr, mem_len, bytes: Cow::Borrowed(bytes), protection });
    }
    let overlap = out.windows(2).any(|w| (w[0].vaddr + w[0].mem_len).div_ceil(PAGE) > w[1].vaddr / PAGE);
    if out.is_empty() || overlap {
        return Err(bad("its segments share pages"));
    }
    Ok(out)
}

/// Applies `R_X86_64_RELATIVE`; there must be nothing else, and no library needed.
fn relocate(file: &ElfFile64<'_, Endianness>, load_at: u64, segments: &mut [Segment]) -> Result {
    let endian = file.endian();
    let dynamic = file.elf_section_table().dynamic(endian, IMAGE).map_err(bad)?;
    for entry in dynamic.map_or(&[][..], |(entries, _)| entries) {
        if entry.tag(endian) == elf::DT_NEEDED {
            return Err(bad("it needs a library"));
        }
    }
    for (at, relocation) in file.dynamic_relocations().into_iter().flatten() {
        let RelocationFlags::Elf { r_type: elf::R_X86_64_RELATIVE } = relocation.flags() else {
            return Err(bad(format_args!("a relocation at {at:#x} is not relative")));
        };
        let value = load_at.wrapping_add(relocation.addend() as u64);
        let inside = |s: &&mut Segment| at >= s.vaddr && at - s.vaddr < s.bytes.len() as u64;
        let slot = segments
            .iter_mut()
            .find(inside)
            .and_then(|s| s.bytes.to_mut().get_mut((at - s.vaddr) as usize..)?.first_chunk_mut::<8>())
            .ok_or_else(|| bad(format_args!("a relocation at {at:#x} lies outside")))?;
        *slot = value.to_le_bytes();
    }
    Ok(())
}

/// Writes a segment into the window's file (cheaper than faulting its pages in) and maps it.
fn place(segment: &Segment, load_at: u64, window: BorrowedFd<'_>) -> Result {
    let what = "map the kernel image";
    let file = std::fs::File::from(window.try_clone_to_owned().map_err(|e| Error::host(what, e))?);
    file.write_all_at(&segment.bytes, layout::IMAGE + segment.vaddr).map_err(|e| Error::host(what, e))?;
    let start = segment.vaddr / PAGE * PAGE;
    let len = (segment.vaddr + segment.mem_len).next_multiple_of(PAGE) - start;
    // SAFETY: within the window's reservation, which this process has just made.
    let ret = unsafe {
        libc::mmap(
            (load_at + start) as *mut libc::c_void,
            len as usize,
            segment.protection,
            libc::MAP_SHARED | libc::MAP_FIXED,
            window.as_raw_fd(),
            (layout::IMAGE + start) as i64,
        )
    };
    if ret == libc::MAP_FAILED {
        let source = io::Error::last_os_error();
        if segment.protection & libc::PROT_EXEC != 0 && source.kind() == io::ErrorKind::PermissionDenied {
            return Err(Error::Unsupported("memory files cannot be mapped executable".into()));
        }
        return Err(Error::host(what, source));
    }
    Ok(())
}
