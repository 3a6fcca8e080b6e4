//! The kernel image is what the design says: no dependency, no TLS, only relative relocations, no AVX,
//! and two `syscall` instructions that the filter lets through.

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};

type Header = elf::FileHeader64<Endianness>;

fn image() -> (&'static [u8], &'static Header, Endianness) {
    let bytes = drupe::image_bytes();
    let header = Header::parse(bytes).expect("an ELF file");
    let endian = header.endian().expect("an endianness");
    (bytes, header, endian)
}

#[test]
fn nothing_is_needed_and_nothing_is_thread_local() {
    let (bytes, header, endian) = image();
    for ph in header.program_headers(endian, bytes).expect("program headers") {
        let kind = ph.p_type(endian);
        assert!(kind != elf::PT_TLS && kind != elf::PT_INTERP, "segment of type {kind:?}");
        if kind == elf::PT_DYNAMIC {
            for d in ph.dynamic(endian, bytes).expect("readable").expect("there") {
                assert!(d.tag(endian) != elf::DT_NEEDED, "DT_NEEDED");
            }
        }
    }
}

#[test]
fn relocations_are_relative() {
    let (bytes, header, endian) = image();
    let mut count = 0;
    for sh in header.sections(endian, bytes).expect("sections").iter() {
        if let Some((relas, _)) = sh.rela(endian, bytes).expect("readable") {
            for r in relas {
                assert_eq!(r.r_type(endian, false), elf::R_X86_64_RELATIVE, "a relocation of another type");
                count += 1;
            }
        }
    }
    assert!(count > 0, "a kernel without a single relocation was not looked at right");
}

#[test]
fn code_is_baseline_and_has_one_door() {
    let (bytes, header, endian) = image();
    let sections = header.sections(endian, bytes).expect("sections");
    let (mut syscalls, mut instructions) = (0, 0u64);
    for text in sections.iter().filter(|s| s.sh_flags(endian).contains(elf::SHF_EXECINSTR)) {
        let code = text.data(endian, bytes).expect("readable");
        for insn in &mut Decoder::with_ip(64, code, text.sh_addr(endian), DecoderOptions::NONE) {
            instructions += 1;
            let encoding = insn.code().encoding();
            assert!(
                matches!(encoding, EncodingKind::Legacy) || insn.code() == Code::INVALID,
                "{insn} at {:#x} needs more than baseline x86-64",
                insn.ip()
            );
            syscalls += u32::from(insn.code() == Code::Syscall);
        }
    }
    assert!(instructions > 10_000, "only {instructions} instructions were decoded");
    // The third is in asm/rewrite.S: the filter turns it into a trap, which is what it is for.
    assert_eq!(syscalls, 3, "the gate's, the one for rt_sigreturn, and the one that traps on purpose");
}
