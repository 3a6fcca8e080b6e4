//! The kernel image: mapped from this library's own file into the window, its data relocated.
//!
//! The embedded object is page-aligned in the file that it is embedded in, so its code is never copied:
//! the supervisor moves the pages that the host's loader has mapped already, and all sandboxes share
//! them in the page cache. What is relocated and then only read is private to the supervisor and inherited; only
//! what is written to lies in the window's memory file.

use super::error::{Error, Result};
use drupe_kernel::abi::control::{ImageHeader, MAGIC};
use drupe_kernel::abi::layout;
use object::elf::{self, FileHeader64, ProgramHeader64, Rela64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, pod};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr;

/// Bytes that begin at a page of the file that holds them.
#[repr(C, align(4096))]
struct Paged<T: ?Sized>(T);

/// The embedded shared object.
static IMAGE: &Paged<[u8]> = &Paged(*include_bytes!(env!("DRUPE_IMAGE_PATH")));

const PAGE: u64 = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// The kernel image as an ELF file, for tests and for tools.
pub fn bytes() -> &'static [u8] {
    &IMAGE.0
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::Setting(format!("the embedded kernel image is damaged: {what}"))
}

/// A loadable segment.
struct Segment {
    vaddr: u64,
    mem_len: u64,
    bytes: &'static [u8],
    protection: i32,
    /// It is written to by relocation only.
    relro: bool,
}

impl Segment {
    fn writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }

    /// The file's bytes of `len` bytes from address `at` on.
    fn at(&self, at: u64, len: u64) -> Option<&'static [u8]> {
        let from = at.checked_sub(self.vaddr)?;
        self.bytes.get(from as usize..from.checked_add(len)? as usize)
    }

    /// First page and length of what is mapped.
    fn pages(&self) -> (u64, u64) {
        let start = self.vaddr / PAGE * PAGE;
        (start, (self.vaddr + self.mem_len).next_multiple_of(PAGE) - start)
    }
}

/// Maps the image at `base + layout::IMAGE`, its data in the window's memory file. Returns its header. `anonymous`: its
/// code is a copy in memory of no file, whose names `perf` takes from a map ([`symbols`]). `saved`: the window holds the
/// data of a kernel that runs, which stays as it is.
///
/// # Errors
/// A damaged image; the host refusing to map executable memory.
pub fn load(base: u64, window: BorrowedFd<'_>, anonymous: bool, saved: bool) -> Result<ImageHeader> {
    let header = FileHeader64::<Endianness>::parse(bytes()).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    let program = header.program_headers(endian, bytes()).map_err(bad)?;
    let load_at = base + layout::IMAGE;
    let segments = segments(endian, program)?;
    let mut sealed = Vec::new();
    let kept = |s: &Segment| saved && s.writable() && !s.relro;
    for segment in &segments {
        if anonymous && segment.protection & libc::PROT_EXEC != 0 {
            copy_text(segment, load_at)?;
        } else if !segment.writable() {
            place_text(segment, load_at, window)?;
        } else if segment.relro && move_own_pages(segment, load_at) {
            let (start, len) = segment.pages();
            // All pages in one call, where the host can: each would be a fault of its own.
            // SAFETY: pages that were mapped just now.
            unsafe { libc::madvise((load_at + start) as *mut libc::c_void, len as usize, libc::MADV_POPULATE_WRITE) };
            sealed.push((start, len));
        } else if kept(segment) {
            map_file(segment, load_at, window)?;
        } else {
            place_data(segment, load_at, window)?;
        }
    }
    relocate(endian, program, load_at, &segments, kept)?;
    for (start, len) in sealed {
        // SAFETY: pages of the image that nobody writes to from here on.
        unsafe { libc::mprotect((load_at + start) as *mut libc::c_void, len as usize, libc::PROT_READ) };
    }
    // The image's entry point is its header.
    let at = header.e_entry(endian);
    if !segments.iter().any(|s| s.at(at, size_of::<ImageHeader>() as u64).is_some()) || at % 8 != 0 {
        return Err(bad("its header lies outside"));
    }
    let at = load_at + at;
    // SAFETY: mapped just now; it lies in file-backed bytes of a segment.
    if unsafe { (at as *const u64).read() } != MAGIC {
        return Err(bad("it belongs to another build"));
    }
    // SAFETY: as above; the magic says that it is an `ImageHeader` from this very build, and its
    // function pointers have been relocated.
    Ok(unsafe { (at as *const ImageHeader).read() })
}

fn segments(endian: Endianness, program: &[ProgramHeader64<Endianness>]) -> Result<Vec<Segment>> {
    let mut out = Vec::new();
    let relro = program.iter().find(|ph| ph.p_type(endian) == elf::PT_GNU_RELRO);
    let relro = relro.map(|ph| (ph.p_vaddr(endian), ph.p_memsz(endian)));
    for ph in program {
        match ph.p_type(endian) {
            elf::PT_LOAD => {}
            elf::PT_TLS => return Err(bad("it has thread-local data")),
            elf::PT_INTERP => return Err(bad("it wants an interpreter")),
            _ => continue,
        }
        let data = ph.data(endian, bytes()).map_err(|()| bad("a segment lies outside of the file"))?;
        let (vaddr, mem_len) = (ph.p_vaddr(endian), ph.p_memsz(endian));
        if mem_len < data.len() as u64 || vaddr.checked_add(mem_len).is_none_or(|end| end > layout::IMAGE_MAX) {
            return Err(bad("a segment is too large"));
        }
        let flags = ph.p_flags(endian);
        if flags.contains(elf::PF_W) && flags.contains(elf::PF_X) {
            return Err(bad("a segment is writable and executable"));
        }
        let bit = |flag, prot| if flags.contains(flag) { prot } else { 0 };
        let protection =
            bit(elf::PF_R, libc::PROT_READ) | bit(elf::PF_W, libc::PROT_WRITE) | bit(elf::PF_X, libc::PROT_EXEC);
        let relro = relro == Some((vaddr, mem_len));
        out.push(Segment { vaddr, mem_len, bytes: data, protection, relro });
    }
    let overlap = out.windows(2).any(|w| (w[0].vaddr + w[0].mem_len).div_ceil(PAGE) > w[1].vaddr / PAGE);
    if out.is_empty() || overlap {
        return Err(bad("its segments share pages"));
    }
    Ok(out)
}

/// Applies `R_X86_64_RELATIVE` to data that is in place; there must be nothing else, and no library
/// needed.
fn relocate(
    endian: Endianness,
    program: &[ProgramHeader64<Endianness>],
    load_at: u64,
    segments: &[Segment],
    kept: impl Fn(&Segment) -> bool,
) -> Result {
    let (mut table, mut len) = (0, 0);
    for ph in program {
        for d in ph.dynamic(endian, bytes()).map_err(bad)?.unwrap_or_default() {
            match d.tag(endian) {
                elf::DT_NEEDED => return Err(bad("it needs a library")),
                elf::DT_RELA => table = d.val(endian),
                elf::DT_RELASZ => len = d.val(endian),
                elf::DT_RELR => return Err(bad("its relocations are packed")),
                _ => {}
            }
        }
    }
    let outside = || bad("its relocations lie outside");
    let table = segments.iter().find_map(|s| s.at(table, len)).ok_or_else(outside)?;
    let count = table.len() / size_of::<Rela64<Endianness>>();
    let (entries, _) = pod::slice_from_bytes::<Rela64<Endianness>>(table, count).map_err(|()| outside())?;
    let mut segment: Option<&Segment> = None;
    for entry in entries {
        let at = entry.r_offset.get(endian);
        if entry.r_type(endian, false) != elf::R_X86_64_RELATIVE {
            return Err(bad(format_args!("a relocation at {at:#x} is not relative")));
        }
        let holds = |s: &&Segment| s.writable() && s.at(at, 8).is_some();
        if !segment.as_ref().is_some_and(holds) {
            segment = segments.iter().find(holds);
        }
        if segment.is_none() {
            return Err(bad(format_args!("a relocation at {at:#x} lies outside")));
        }
        if segment.is_some_and(&kept) {
            continue;
        }
        let value = load_at.wrapping_add(entry.r_addend.get(endian) as u64);
        // SAFETY: eight bytes of a writable segment, which was mapped just now and which nobody reads yet.
        unsafe { ((load_at + at) as *mut u64).write_unaligned(value) };
    }
    Ok(())
}

fn failed(segment: &Segment, source: io::Error) -> Error {
    if segment.protection & libc::PROT_EXEC != 0 && source.kind() == io::ErrorKind::PermissionDenied {
        return Error::Unsupported("memory files cannot be mapped executable".into());
    }
    Error::host("map the kernel image", source)
}

/// Maps a segment from the window's memory file.
fn map_file(segment: &Segment, load_at: u64, window: BorrowedFd<'_>) -> Result {
    let (start, len) = segment.pages();
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
    if ret == libc::MAP_FAILED { Err(failed(segment, io::Error::last_os_error())) } else { Ok(()) }
}

/// Maps a writable segment and copies its bytes there.
fn place_data(segment: &Segment, load_at: u64, window: BorrowedFd<'_>) -> Result {
    debug_assert_eq!(segment.protection, RW);
    map_file(segment, load_at, window)?;
    let at = load_at + segment.vaddr;
    let start = at / PAGE * PAGE;
    let len = (at + segment.bytes.len() as u64).next_multiple_of(PAGE) - start;
    // SAFETY: the segment's own pages, mapped writable just now and used by nobody.
    unsafe {
        // All pages in one call, where the host can: each would be a fault of its own.
        libc::madvise(start as *mut libc::c_void, len as usize, libc::MADV_POPULATE_WRITE);
        ptr::copy_nonoverlapping(segment.bytes.as_ptr(), at as *mut u8, segment.bytes.len());
    }
    Ok(())
}

/// Maps a segment that is only read: the pages of our own file, or (hosts before 5.13, or a file that
/// must not be executed) a copy in the window's memory file.
fn place_text(segment: &Segment, load_at: u64, window: BorrowedFd<'_>) -> Result {
    if move_own_pages(segment, load_at) {
        return Ok(());
    }
    let file = File::from(window.try_clone_to_owned().map_err(|e| Error::host("copy a descriptor", e))?);
    file.write_all_at(segment.bytes, layout::IMAGE + segment.vaddr)
        .map_err(|e| Error::host("copy the kernel image", e))?;
    map_file(segment, load_at, window)
}

/// Maps a segment as private memory of no file.
fn copy_text(segment: &Segment, load_at: u64) -> Result {
    let (start, len) = segment.pages();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let to = (load_at + start) as *mut libc::c_void;
    // SAFETY: within the window's reservation, which this process has just made; the bytes fit the segment.
    let mapped = unsafe {
        let mapped = libc::mmap(to, len as usize, RW, flags, -1, 0) == to;
        if mapped {
            let at = (load_at + segment.vaddr) as *mut u8;
            ptr::copy_nonoverlapping(segment.bytes.as_ptr(), at, segment.bytes.len());
        }
        mapped && libc::mprotect(to, len as usize, segment.protection) == 0
    };
    if mapped { Ok(()) } else { Err(failed(segment, io::Error::last_os_error())) }
}

/// The image's functions: where each begins behind the window's base, its length, and its name.
pub fn symbols() -> Vec<(u64, u64, String)> {
    use object::{Object, ObjectSymbol, SymbolKind};
    let Ok(file) = object::File::parse(bytes()) else { return Vec::new() };
    let functions = file.symbols().filter(|s| matches!(s.kind(), SymbolKind::Text | SymbolKind::Label));
    let mut all: Vec<_> = functions
        .filter_map(|s| {
            Some((layout::IMAGE + s.address(), s.size(), format!("{:#}", rustc_demangle::demangle(s.name().ok()?))))
        })
        .filter(|s| s.0 > layout::IMAGE)
        .collect();
    all.sort();
    // What is written in assembly has no length.
    for i in 1..all.len() {
        let next = all[i].0;
        let before = &mut all[i - 1];
        if before.1 == 0 {
            before.1 = next - before.0;
        }
    }
    all.retain(|s| s.1 > 0);
    all
}

/// A second mapping, private, of the pages that hold the segment in our own file.
fn move_own_pages(segment: &Segment, load_at: u64) -> bool {
    let (start, len) = segment.pages();
    let from = segment.bytes.as_ptr() as u64 - (segment.vaddr - start);
    // Zeros that the file does not have would be another mapping; padding of the last page is nobody's.
    let in_file = segment.vaddr + segment.bytes.len() as u64;
    if !from.is_multiple_of(PAGE) || in_file.next_multiple_of(PAGE) != start + len {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let to = (load_at + start) as *mut libc::c_void;
    // SAFETY: the source is read-only data of this program, which stays mapped and is read again from its
    // file (DONTUNMAP); the target lies within the window's reservation.
    unsafe {
        libc::mremap(from as *mut libc::c_void, len as usize, len as usize, flags, to) == to
            && libc::mprotect(to, len as usize, segment.protection) == 0
    }
}
