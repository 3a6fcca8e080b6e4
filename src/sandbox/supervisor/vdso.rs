//! The host's vDSO, moved into the window so that every process of the sandbox has it.
//!
//! The supervisor moves its own `[vvar]` and `[vdso]` mappings, and they are inherited. From then on
//! the C library's clock functions must not be called in the supervisor: they would jump to where the
//! vDSO was. Nothing in it reads a clock except through the kernel image.

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol};
use std::io::Read;

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
    let functions = resolve(code);
    if functions[0] == 0 {
        return [0; 4];
    }
    for (i, m) in mappings.iter().enumerate() {
        if !remap(m.start, m.len, target + (m.start - first)) {
            // Sealed mappings stay where they are; put back what had moved already.
            for m in &mappings[..i] {
                remap(target + (m.start - first), m.len, m.start);
            }
            return [0; 4];
        }
    }
    functions.map(|offset| if offset == 0 { 0 } else { target + (code.start - first) + offset })
}

/// `[vvar]`, `[vvar_vclock]` and `[vdso]`, as this process's maps list them.
fn find() -> Vec<Mapping> {
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

/// Offsets of the functions in the vDSO, 0 for one that it lacks.
fn resolve(code: &Mapping) -> [u64; 4] {
    // SAFETY: the host mapped a whole ELF file here, readable, and nobody writes it.
    let bytes = unsafe { std::slice::from_raw_parts(code.start as *const u8, code.len as usize) };
    let Ok(file) = ElfFile64::<Endianness>::parse(bytes) else { return [0; 4] };
    FUNCTIONS.map(|name| {
        let symbol = file.dynamic_symbols().find(|s| s.name() == Ok(name));
        symbol.map_or(0, |s| s.address()).min(code.len - 1)
    })
}

fn remap(from: u64, len: u64, to: u64) -> bool {
    let (from, to) = (from as *mut libc::c_void, to as *mut libc::c_void);
    let len = len as usize;
    // SAFETY: the target is in the window's reservation or where the mapping was before; this process
    // has one thread, which does not read a clock meanwhile.
    unsafe { libc::mremap(from, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to) != libc::MAP_FAILED }
}
