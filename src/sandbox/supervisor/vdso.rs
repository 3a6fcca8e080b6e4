//! The host's vDSO, moved into the window so that every process of the sandbox has it.
//!
//! The supervisor moves its own `[vvar]` and `[vdso]` mappings, and they are inherited. The C library of the
//! supervisor knows where they were, and finds code there that makes system calls.

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::AsRawFd;

/// What the kernel calls, in the order of `BootParams::vdso`.
const FUNCTIONS: [&str; 4] = ["__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu"];

struct Mapping {
    start: u64,
    len: u64,
    is_code: bool,
}

/// Moves the group to `target` and returns the functions' new addresses, zeros where there are none
/// (the kernel then makes system calls instead).
pub fn move_to(target: u64) -> [u64; 4] {
    let mappings = find();
    let Some(code) = mappings.iter().find(|m| m.is_code) else { return [0; 4] };
    let first = mappings.iter().map(|m| m.start).min().unwrap_or(code.start);
    let Some((functions, stand_in)) = resolve(code, target + (code.start - first)) else { return [0; 4] };
    for (i, m) in mappings.iter().enumerate() {
        if !remap(m.start, m.len, target + (m.start - first)) {
            // Sealed mappings stay where they are; put back what had moved already.
            for m in &mappings[..i] {
                remap(target + (m.start - first), m.len, m.start);
            }
            return [0; 4];
        }
    }
    place(&stand_in, code.start);
    functions
}

/// Maps `code` at `at`, where the vDSO's has been.
fn place(code: &[u8], at: u64) {
    let (at, write, flags) = (at as *mut libc::c_void, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED_NOREPLACE);
    // SAFETY: replaces nothing, and writes what was mapped just now. Without memory for it the C library's next call
    // for the time ends this process, which has none left anyway.
    unsafe {
        let got = libc::mmap(at, code.len(), write, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags, -1, 0);
        if got == at {
            std::ptr::copy_nonoverlapping(code.as_ptr(), at.cast(), code.len());
            libc::mprotect(at, code.len(), libc::PROT_READ | libc::PROT_EXEC);
        }
    }
}

/// `[vvar]`, `[vvar_vclock]` and `[vdso]` of this process.
fn find() -> Vec<Mapping> {
    asked().unwrap_or_else(listed)
}

/// A question about one mapping, by an address in it (`PROCMAP_QUERY`, `linux/fs.h`).
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    addr: u64,
    start: u64,
    end: u64,
    unasked: [u64; 4],
    dev: [u32; 2],
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

nix::ioctl_readwrite!(procmap_query, b'f', 17, Query);

/// The group, where the host answers questions about single mappings (since 6.11): its list is long.
fn asked() -> Option<Vec<Mapping>> {
    // SAFETY: reads the auxiliary vector.
    let mut next = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let maps = std::fs::File::open("/proc/self/maps").ok()?;
    let mut found = Vec::new();
    loop {
        let mut name = [0u8; 32];
        let mut query = Query {
            size: size_of::<Query>() as u64,
            addr: next,
            name_size: name.len() as u32,
            name: name.as_mut_ptr() as u64,
            ..Query::default()
        };
        // SAFETY: the record says how large it and the name's buffer are.
        let answer = unsafe { procmap_query(maps.as_raw_fd(), &raw mut query) };
        let is_code = found.is_empty();
        let of_group = match CStr::from_bytes_until_nul(&name).map(CStr::to_bytes) {
            Ok(b"[vdso]") => is_code,
            Ok(b"[vvar]" | b"[vvar_vclock]") => !is_code,
            _ => false,
        };
        match answer {
            Ok(_) if of_group => found.push(Mapping { start: query.start, len: query.end - query.start, is_code }),
            // What lies in front of the group has no name, another one or one that is too long, or is nothing.
            _ => return (!is_code).then_some(found),
        }
        next = query.start.checked_sub(1)?;
    }
}

/// The group, from the list of all mappings.
fn listed() -> Vec<Mapping> {
    own_maps()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let name = line.split_ascii_whitespace().nth(5)?;
            if !matches!(name, "[vvar]" | "[vvar_vclock]" | "[vdso]") {
                return None;
            }
            let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            Some(Mapping { start, len: end - start, is_code: name == "[vdso]" })
        })
        .collect()
}

/// The text of `/proc/self/maps`, by few reads: the host goes through the list from its start at each.
fn own_maps() -> std::io::Result<String> {
    let mut file = std::fs::File::open("/proc/self/maps")?;
    let mut text = Vec::new();
    let mut filled = 0;
    loop {
        text.resize(filled + (32 << 10), 0);
        match file.read(&mut text[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    text.truncate(filled);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `mov $number, %eax; syscall; ret`
fn calling(number: i64) -> [u8; 8] {
    let [a, b, c, d, ..] = number.to_le_bytes();
    [0xb8, a, b, c, d, 0x0f, 0x05, 0xc3]
}

/// `mov $-ENOSYS, %rax; ret`: the C library then makes the call itself.
const MISSING: [u8; 8] = [0x48, 0xc7, 0xc0, -libc::ENOSYS as u8, 0xff, 0xff, 0xff, 0xc3];

/// The functions' addresses once the vDSO is at `target` (0 for one that it lacks), and code for where it was.
/// `None` if this is no vDSO that can be moved.
fn resolve(code: &Mapping, target: u64) -> Option<([u64; 4], Vec<u8>)> {
    // SAFETY: the host mapped a whole ELF file here, readable, and nobody writes it.
    let bytes = unsafe { std::slice::from_raw_parts(code.start as *const u8, code.len as usize) };
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM).ok()?;
    let names = sections.section(symbols.string_section()).ok()?.data(endian, bytes).ok()?;
    // Whatever else somebody may look for there is a breakpoint.
    let mut stand_in = vec![0xcc; bytes.len()];
    let mut found = [0; 4];
    for symbol in symbols.iter().filter(|s| s.st_type() == elf::STT_FUNC && s.st_shndx(endian) != elf::SHN_UNDEF) {
        // Not by the library's ways to search bytes: those ask the processor what it can do, which takes virtual
        // machines 50 us.
        let name = names.get(symbol.st_name(endian) as usize..).and_then(|n| CStr::from_bytes_until_nul(n).ok())?;
        let (name, address) = (name.to_str().unwrap_or_default(), symbol.st_value(endian));
        if let Some(i) = FUNCTIONS.iter().position(|&function| function == name) {
            found[i] = target + address;
        }
        // Each function has a second name without the prefix, of the same address.
        let stub = match name.trim_start_matches("__vdso_") {
            "clock_gettime" => calling(libc::SYS_clock_gettime),
            "clock_getres" => calling(libc::SYS_clock_getres),
            "gettimeofday" => calling(libc::SYS_gettimeofday),
            "time" => calling(libc::SYS_time),
            "getcpu" => calling(libc::SYS_getcpu),
            _ => MISSING,
        };
        stand_in.get_mut(address as usize..)?.get_mut(..stub.len())?.copy_from_slice(&stub);
    }
    (found[0] != 0).then_some((found, stand_in))
}

fn remap(from: u64, len: u64, to: u64) -> bool {
    let (from, to) = (from as *mut libc::c_void, to as *mut libc::c_void);
    let len = len as usize;
    // SAFETY: the target is in the window's reservation or where the mapping was before; this process
    // has one thread, which does not read a clock meanwhile.
    unsafe { libc::mremap(from, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) != libc::MAP_FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        let ranges = |group: Vec<Mapping>| {
            let mut ranges: Vec<_> = group.into_iter().map(|m| (m.start, m.len, m.is_code)).collect();
            ranges.sort_unstable();
            ranges
        };
        let listed = ranges(listed());
        assert!(listed.iter().any(|m| m.2), "this host has no vDSO");
        // Hosts before 6.11 do not answer.
        if let Some(asked) = asked() {
            assert_eq!(ranges(asked), listed);
        }
    }
}
