//! Where and how the call sites of a piece of code can be rewritten in a copy.
//!
//! Stubs go behind the code, up to the end of its last page, so a copy needs no mapping more than the file
//! does. (What the file has there is padding, or begins the next segment, which has a mapping of its own.) A site gets there in one of two ways, neither of which moves an
//! instruction boundary that somebody may rely on:
//!
//! - *Before*: the instruction directly in front of the call, most often `mov $nr, %eax`, becomes a long jump,
//!   if it is long enough and means the same elsewhere; the stub begins with it. That an instruction starts there
//!   is shown by decoding from the function's start, which `.eh_frame` tells. The call stays, for who jumps to
//!   it or makes it again.
//! - *Relay*: the two bytes of the call become a short jump into the padding between two functions, where a
//!   long one fits. The padding is what no function covers; it must be nothing but no-ops, and what lies
//!   in front of it must not run into it.
//!
//! Where neither is possible, the instructions in front of the call that may move are told: a process that runs can
//! put a jump in their place, to a stub that lies where it needs to (`mm::rewrite::front` in the kernel).
//!
//! Functions are those of `.eh_frame` and of the symbol table. Where neither knows a site's, decoding begins at every
//! one of the bytes that lie some way in front of it: x86 code falls into step soon, and what all agree on is believed.

use drupe_kernel::abi::text::{Form, Front, JUMP, Patched, TextKey, TextPlan};
use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, ReadRef, SymbolKind, elf};
use std::collections::HashMap;

const PAGE: u64 = 4096;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Longest padding between functions that is believed to be padding, bytes.
const MAX_GAP: u32 = 64;
/// Where no function is known: how far in front of a site decoding begins, bytes, at least (an instruction has no more)
/// and at most, and how many beginnings must lead to the site.
const AHEAD: (u32, u32) = (15, 64);
/// See [`AHEAD`].
const WITNESSES: usize = 16;

/// Start and end.
type Span = (u32, u32);

/// The code of one segment. Addresses are offsets from its first page.
struct Code64<'a> {
    bytes: &'a [u8],
    /// Start and end of every known function, in order.
    functions: Vec<Span>,
    /// What no function covers, between two of them.
    gaps: Vec<Span>,
}

/// Makes the copy: its bytes, and what was done to it. `None` when the file is not such that anything
/// can be done. `kept` are sites of an earlier copy, which come first and as they are. `entry` is where a slot, to
/// which gs points, holds the kernel's entry.
pub fn copy<'a>(
    image: impl ReadRef<'a>,
    key: &TextKey,
    sites: &[u32],
    kept: &[Patched],
    entry: u32,
) -> Option<(Vec<u8>, TextPlan)> {
    let file = ElfFile64::<Endianness, _>::parse(image).ok()?;
    let endian = file.endian();
    let segment = file.elf_program_headers().iter().find(|p| {
        let (offset, size) = (p.p_offset(endian), p.p_filesz(endian));
        let start = offset / PAGE * PAGE;
        let flags = p.p_flags(endian);
        p.p_type(endian) == elf::PT_LOAD
            && flags.contains(elf::PF_X)
            && !flags.contains(elf::PF_W)
            && start == key.offset
            && offset.checked_add(size).is_some_and(|end| end.next_multiple_of(PAGE) - start == key.len)
    })?;
    let code_end = usize::try_from(segment.p_offset(endian) + segment.p_filesz(endian)).ok()?;
    let start = usize::try_from(key.offset).ok()?;
    let whole = image.read_bytes_at(key.offset, key.len.min(image.len().ok()?.checked_sub(key.offset)?)).ok()?;
    let base = segment.p_vaddr(endian).wrapping_sub(segment.p_offset(endian)).wrapping_add(key.offset);
    let length = u32::try_from(code_end - start).ok()?;
    let (functions, gaps) = layout(&file, base, length);
    let code = Code64 { bytes: whole.get(..length as usize)?, functions, gaps };

    let mut text = whole.to_vec();
    text.resize(usize::try_from(key.len).ok()?, 0);
    let mut room = length.next_multiple_of(16);
    text.get_mut(room as usize..)?.fill(0);
    let mut plan = TextPlan::default();
    let mut used = HashMap::new();
    for p in kept {
        code.keep(p, room, text.len(), &mut used)?;
        write(&mut text, p.site, p.stub, p.form, entry);
        plan.patched.push(*p);
    }
    room = kept.iter().map(|p| p.stub + p.form.stub_len()).max().unwrap_or(room);
    for &site in sites {
        if kept.iter().any(|p| p.site == site) {
            continue;
        }
        let form = code.form(site, &mut used);
        let fits = |f: &Form| room as usize + f.stub_len() as usize <= text.len();
        let Some(form) = form.filter(fits) else {
            plan.refused.push(site);
            plan.fronts.extend(code.front(site));
            continue;
        };
        write(&mut text, site, room, form, entry);
        plan.patched.push(Patched { site, stub: room, form });
        room += form.stub_len();
    }
    plan.patched.sort_unstable_by_key(|p| p.site);
    Some((text, plan))
}

/// Functions and gaps, from `.eh_frame`.
fn layout<'a>(file: &ElfFile64<'a, Endianness, impl ReadRef<'a>>, base: u64, length: u32) -> (Vec<Span>, Vec<Span>) {
    let mut functions = Vec::new();
    if let Some(section) = file.section_by_name(".eh_frame")
        && let Ok(data) = section.data()
    {
        let bases = BaseAddresses::default().set_eh_frame(section.address()).set_text(base);
        let frames = EhFrame::new(data, LittleEndian);
        let mut entries = frames.entries(&bases);
        let mut cies = HashMap::new();
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde = partial.parse(|section, bases, offset| {
                if let Some(cie) = cies.get(&offset.0) {
                    return Ok(gimli::CommonInformationEntry::clone(cie));
                }
                let cie = section.cie_from_offset(bases, offset)?;
                cies.insert(offset.0, cie.clone());
                Ok(cie)
            });
            let Ok(fde) = fde else { continue };
            let start = fde.initial_address().wrapping_sub(base);
            let end = start.wrapping_add(fde.len());
            if start < end && end <= u64::from(length) {
                functions.push((start as u32, end as u32));
            }
        }
    }
    functions.sort_unstable();
    let known = functions.len();
    for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0) {
        let start = symbol.address().wrapping_sub(base);
        let Some(end) = start.checked_add(symbol.size()).filter(|&end| end <= u64::from(length)) else { continue };
        let at = functions[..known].partition_point(|f| f.0 <= start as u32);
        if !functions[..at].iter().rev().take(4).any(|f| (start as u32) < f.1) {
            functions.push((start as u32, end as u32));
        }
    }
    functions.sort_unstable();
    functions.dedup();
    let mut gaps = Vec::new();
    let mut end = None;
    for &(from, to) in &functions {
        if let Some(end) = end.filter(|&end| from > end) {
            gaps.push((end, from));
        }
        end = end.max(Some(to));
    }
    (functions, gaps)
}

impl Code64<'_> {
    fn at(&self, from: u32, to: u32) -> &[u8] {
        self.bytes.get(from as usize..to as usize).unwrap_or(&[])
    }

    fn instructions(&self, from: u32, to: u32) -> impl Iterator<Item = Instruction> {
        let mut decoder = Decoder::with_ip(64, self.at(from, to), u64::from(from), DecoderOptions::NONE);
        std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
    }

    /// The innermost function that holds `at`.
    fn function(&self, at: u32) -> Option<Span> {
        let before = self.functions.partition_point(|f| f.0 <= at);
        self.functions[..before].iter().rev().take(4).find(|f| at < f.1).copied()
    }

    /// How the call at `site` can be rewritten. `used`: bytes of gaps that are taken.
    fn form(&self, site: u32, used: &mut HashMap<u32, u32>) -> Option<Form> {
        if self.at(site, site.checked_add(2)?) != SYSCALL {
            return None;
        }
        let before = self.in_front(site).and_then(|run| run.last().copied());
        let before = before.filter(|i| i.len() >= JUMP as usize && can_move(i));
        let before = before.map(|i| Form::Before { len: i.len() as u8 });
        before.or_else(|| self.relay(site, used).map(|at| Form::Relay { at }))
    }

    /// What may move of that which lies in front of the call at `site`, if it is enough for a jump.
    fn front(&self, site: u32) -> Option<Front> {
        if self.at(site, site.checked_add(2)?) != SYSCALL {
            return None;
        }
        let run = self.in_front(site)?;
        let mut len = 0;
        let mut front = Front { site, ..Front::default() };
        for i in run.iter().rev().take_while(|i| can_move(i)) {
            len += i.len();
            if len > usize::from(Front::MAX) {
                return None;
            }
            front.begins = front.begins << i.len() | 1;
            if len >= usize::from(Front::MIN) {
                front.len = len as u8;
                return Some(front);
            }
        }
        None
    }

    /// The last instructions in front of the call at `site`, the last of all last.
    fn in_front(&self, site: u32) -> Option<Vec<Instruction>> {
        match self.function(site) {
            Some((start, _)) => self.chain(start, site),
            None => self.agreed(site),
        }
    }

    /// Those that decoding from `start` on finds in front of `site`, if it comes to the call there.
    fn chain(&self, start: u32, site: u32) -> Option<Vec<Instruction>> {
        let mut last = Vec::new();
        for instruction in self.instructions(start, (site + 2).min(self.bytes.len() as u32)) {
            if instruction.is_invalid() {
                return None;
            }
            if instruction.ip() == u64::from(site) {
                return (instruction.code() == Code::Syscall).then_some(last);
            }
            if last.len() == 3 {
                last.remove(0);
            }
            last.push(instruction);
        }
        None
    }

    /// Those on which decoding from everywhere agrees.
    fn agreed(&self, site: u32) -> Option<Vec<Instruction>> {
        let mut found: Option<Vec<Instruction>> = None;
        let mut witnesses = 0;
        for start in site.checked_sub(AHEAD.1)?..site - AHEAD.0 {
            let Some(run) = self.chain(start, site) else { continue };
            witnesses += 1;
            match &mut found {
                None => found = Some(run),
                Some(found) => {
                    let same = found.iter().rev().zip(run.iter().rev()).take_while(|(a, b)| a.ip() == b.ip()).count();
                    found.drain(..found.len() - same);
                }
            }
        }
        found.filter(|run| witnesses >= WITNESSES && !run.is_empty())
    }

    /// Takes note of what an earlier copy has done, where that is possible in this code: it was checked then, and
    /// whoever could write it wrong may write the copy itself.
    fn keep(&self, p: &Patched, first: u32, len: usize, used: &mut HashMap<u32, u32>) -> Option<()> {
        let within = |at: u32, n: u32| at.checked_add(n).is_some_and(|end| end as usize <= self.bytes.len());
        let stub = p.stub >= first && p.stub.checked_add(p.form.stub_len()).is_some_and(|end| end as usize <= len);
        let there = match p.form {
            Form::Relay { at } => {
                let gap = self.gaps.iter().find(|g| g.0 <= at && at < g.1)?;
                let taken = used.entry(gap.0).or_default();
                *taken = (*taken).max(at + JUMP - gap.0);
                within(at, JUMP)
            }
            Form::Before { len } => u32::from(len) >= JUMP && p.site >= u32::from(len),
        };
        (stub && there && within(p.site, 2)).then_some(())
    }

    /// A place for a long jump within a short jump's reach of `site`.
    fn relay(&self, site: u32, used: &mut HashMap<u32, u32>) -> Option<u32> {
        let follower = i64::from(site) + 2;
        let from = self.gaps.partition_point(|g| i64::from(g.1) < follower - 128);
        for &(start, end) in &self.gaps[from..] {
            if i64::from(start) > follower + 127 {
                break;
            }
            let taken = used.get(&start).copied().unwrap_or(0);
            let at = start + taken;
            let reach = i8::try_from(i64::from(at) - follower).is_ok();
            if reach && at + JUMP <= end && (taken > 0 || self.is_padding(start, end)) {
                used.insert(start, taken + JUMP);
                return Some(at);
            }
        }
        None
    }

    /// Whether nothing ever runs in this gap.
    fn is_padding(&self, start: u32, end: u32) -> bool {
        let nothing = |i: Instruction| !i.is_invalid() && matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
        if end - start > MAX_GAP || !self.instructions(start, end).all(nothing) {
            return false;
        }
        let Some((from, _)) = start.checked_sub(1).and_then(|last| self.function(last)) else { return false };
        let Some(last) = self.instructions(from, start).last() else { return false };
        // A call at a function's end does not return.
        last.next_ip() == u64::from(start)
            && matches!(
                last.flow_control(),
                FlowControl::Return
                    | FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Call
                    | FlowControl::IndirectCall
                    | FlowControl::Exception
            )
    }
}

/// Whether it means the same in a stub: it neither depends on where it lies nor goes elsewhere, and does not fault,
/// which would be seen in the stub. Of memory it may touch the stack.
fn can_move(i: &Instruction) -> bool {
    let memory = i.op_kinds().any(|kind| kind == OpKind::Memory) && i.mnemonic() != Mnemonic::Nop;
    let stack = i.memory_base() == Register::RSP && i.memory_index() == Register::None;
    let plain = matches!(
        i.mnemonic(),
        Mnemonic::Mov
            | Mnemonic::Lea
            | Mnemonic::Movsxd
            | Mnemonic::Movsx
            | Mnemonic::Movzx
            | Mnemonic::Xor
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::Shl
            | Mnemonic::Shr
            | Mnemonic::Inc
            | Mnemonic::Dec
            | Mnemonic::Test
            | Mnemonic::Cmp
            | Mnemonic::Cdqe
            | Mnemonic::Nop
    );
    let registers = (0..i.op_count()).filter(|&n| i.op_kind(n) == OpKind::Register).map(|n| i.op_register(n));
    i.flow_control() == FlowControl::Next
        && registers.into_iter().all(Register::is_gpr)
        && (!memory || i.mnemonic() == Mnemonic::Lea || stack)
        && !i.is_ip_rel_memory_operand()
        && plain
}

/// Writes the site and its stub.
fn write(text: &mut [u8], site: u32, stub: u32, form: Form, entry: u32) {
    /// Nobody gets there.
    const NOPS: [u8; 16] = [0x90; 16];
    let put =
        |text: &mut [u8], at: u32, bytes: &[u8]| text[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    let jump = |from: u32, to: u32| {
        let [a, b, c, d] = to.wrapping_sub(from + JUMP).to_le_bytes();
        [0xe9, a, b, c, d]
    };
    let mut at = stub;
    match form {
        Form::Relay { at: relay } => {
            put(text, site, &[0xeb, relay.wrapping_sub(site + 2) as u8]);
            put(text, relay, &jump(relay, stub));
        }
        Form::Before { len } => {
            let from = site - u32::from(len);
            text.copy_within(from as usize..site as usize, stub as usize);
            put(text, from, &jump(from, stub));
            put(text, from + JUMP, &NOPS[..usize::from(len) - JUMP as usize]);
            at += u32::from(len);
        }
    }
    // lea rcx, [rip + d], the address behind the call; jmp gs:[entry]
    let [a, b, c, d] = (site + 2).wrapping_sub(at + 7).to_le_bytes();
    put(text, at, &[0x48, 0x8d, 0x0d, a, b, c, d]);
    let [a, b, c, d] = entry.to_le_bytes();
    put(text, at + 7, &[0x65, 0xff, 0x24, 0x25, a, b, c, d]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use drupe_kernel::abi::text::FileIdentity;

    /// The C library of this machine, and the key of its code.
    fn libc() -> Option<(Vec<u8>, TextKey)> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().filter_map(|l| l.split_ascii_whitespace().nth(5)).find(|p| p.contains("/libc.so"))?;
        let image = std::fs::read(path).ok()?;
        let file = ElfFile64::<Endianness>::parse(&*image).ok()?;
        let endian = file.endian();
        let p = file
            .elf_program_headers()
            .iter()
            .find(|p| p.p_flags(endian).contains(elf::PF_X) && p.p_type(endian) == elf::PT_LOAD)?;
        let offset = p.p_offset(endian) / PAGE * PAGE;
        let len = (p.p_offset(endian) + p.p_filesz(endian)).next_multiple_of(PAGE) - offset;
        let key = TextKey { file: FileIdentity::default(), offset, len };
        Some((image, key))
    }

    #[test]
    fn most_sites_of_the_c_library_can_be_rewritten_and_nothing_else_changes() {
        let Some((image, key)) = libc() else {
            println!("skipped: the C library has no file of its own here");
            return;
        };
        let code = &image[key.offset as usize..(key.offset + key.len) as usize];
        // Not all of these are calls; those that are not must be refused, or lie in no function.
        let sites: Vec<u32> =
            code.windows(2).enumerate().filter(|(_, w)| *w == SYSCALL).map(|(i, _)| i as u32).collect();
        let (few, rest): (Vec<u32>, Vec<u32>) = sites.iter().partition(|&s| s % 3 == 0);
        let (_, first) = copy(&*image, &key, &few, &[], 0x68).expect("an ELF file with code");
        let (text, plan) = copy(&*image, &key, &sites, &first.patched, 0x68).expect("an ELF file with code");
        assert!(first.patched.len() > 20 && rest.len() > 20);
        assert!(first.patched.iter().all(|p| plan.patched.contains(p)), "stubs stay where they are");
        assert!(plan.patched.is_sorted_by_key(|p| p.site));
        assert_eq!(plan.patched.len() + plan.refused.len(), sites.len());
        assert!(plan.patched.len() >= 100, "{} of {}", plan.patched.len(), sites.len());
        let mut changed = vec![false; text.len()];
        for p in &plan.patched {
            let (at, len) = match p.form {
                Form::Before { len } => (p.site - u32::from(len), u32::from(len)),
                Form::Relay { at } => {
                    changed[at as usize..(at + JUMP) as usize].fill(true);
                    (p.site, 2)
                }
            };
            changed[at as usize..(at + len) as usize].fill(true);
            changed[p.stub as usize..(p.stub + p.form.stub_len()) as usize].fill(true);
            // The way leads to the stub, and the stub says where to go on.
            let mut decoder = Decoder::with_ip(64, &text[at as usize..], u64::from(at), DecoderOptions::NONE);
            let mut target = decoder.decode().near_branch_target();
            if let Form::Relay { .. } = p.form {
                let mut decoder = Decoder::with_ip(64, &text[target as usize..], target, DecoderOptions::NONE);
                target = decoder.decode().near_branch_target();
            }
            assert_eq!(target, u64::from(p.stub));
            let mut decoder = Decoder::with_ip(64, &text[p.stub as usize..], target, DecoderOptions::NONE);
            if let Form::Before { len } = p.form {
                let (at, stub, len) = (at as usize, p.stub as usize, usize::from(len));
                assert_eq!(text[stub..stub + len], code[at..at + len]);
                assert_eq!(decoder.decode().len(), len);
            }
            let i = decoder.decode();
            assert_eq!(
                (i.mnemonic(), i.op0_register(), i.memory_displacement64()),
                (Mnemonic::Lea, Register::RCX, u64::from(p.site) + 2)
            );
            let i = decoder.decode();
            assert_eq!(
                (i.flow_control(), i.memory_segment(), i.memory_displacement64()),
                (FlowControl::IndirectBranch, Register::GS, 0x68)
            );
            assert_eq!(decoder.ip(), u64::from(p.stub + p.form.stub_len()));
        }
        let first = plan.patched.iter().map(|p| p.stub).min().expect("many");
        for (i, (new, old)) in text.iter().zip(code).enumerate().take(first as usize) {
            assert!(changed[i] || new == old, "byte {i:#x} changed");
        }
    }

    #[test]
    fn what_is_no_elf_file_has_no_copy() {
        assert!(copy(&b"#!/bin/sh\n"[..], &TextKey::default(), &[0], &[], 0).is_none());
        assert!(copy(&[][..], &TextKey::default(), &[], &[], 0).is_none());
    }
}
