//! Classic BPF, of seccomp filters and of filters of sockets: checked once (`bpf_check_classic` and
//! `seccomp_check_filter` in Linux), then interpreted. Jumps go forward only, so a program ends after as many steps
//! as it has instructions.

use crate::abi::{Errno, Result};

/// Most instructions of a program (`BPF_MAXINSNS`).
pub const MAX: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const SCRATCH: u32 = 16;
/// Bytes of `struct seccomp_data`.
pub const DATA_BYTES: u32 = 64;

/// Numbers of `linux/bpf_common.h`: class, then what belongs to it.
mod op {
    pub const LD: u16 = 0;
    pub const LDX: u16 = 1;
    pub const ST: u16 = 2;
    pub const STX: u16 = 3;
    pub const ALU: u16 = 4;
    pub const JMP: u16 = 5;
    pub const RET: u16 = 6;
    pub const MISC: u16 = 7;
    pub const IMM: u16 = 0;
    pub const ABS: u16 = 0x20;
    pub const IND: u16 = 0x40;
    pub const MSH: u16 = 0xa0;
    pub const HALF: u16 = 8;
    pub const BYTE: u16 = 0x10;
    pub const MEM: u16 = 0x60;
    pub const LEN: u16 = 0x80;
    pub const X: u16 = 8;
    pub const A: u16 = 0x10;
    pub const ADD: u16 = 0;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const MOD: u16 = 0x90;
    pub const XOR: u16 = 0xa0;
    pub const JA: u16 = 0;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;
    pub const TAX: u16 = 0;
    pub const TXA: u16 = 0x80;
}

/// Where a program runs, which decides on the instructions that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// On `struct seccomp_data`: aligned words only.
    Seccomp,
    /// On a packet.
    Packet,
}

/// What a program reads.
pub trait Data {
    /// Its length, bytes.
    fn size(&self) -> u32;

    /// The number in `size` bytes (1, 2 or 4) at `at`, big end first; `None` ends the program with 0. Numbers from
    /// [`ANCILLARY`] on are questions about the packet.
    fn load(&self, at: u32, size: u32) -> Option<u32>;
}

/// `SKF_AD_OFF`: from here on up to [`ANCILLARY_END`] an address names what is known of a packet.
pub const ANCILLARY: u32 = 0xffff_f000;
/// See [`ANCILLARY`] (`SKF_AD_MAX`).
pub const ANCILLARY_END: u32 = ANCILLARY + 64;

/// `struct seccomp_data` as words.
impl Data for [u32; 16] {
    fn size(&self) -> u32 {
        DATA_BYTES
    }

    fn load(&self, at: u32, _size: u32) -> Option<u32> {
        Some(self[(at / 4 % 16) as usize])
    }
}

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl From<u64> for Insn {
    fn from(raw: u64) -> Insn {
        Insn { code: raw as u16, jt: (raw >> 16) as u8, jf: (raw >> 24) as u8, k: (raw >> 32) as u32 }
    }
}

impl From<Insn> for u64 {
    fn from(i: Insn) -> u64 {
        u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32
    }
}

impl Insn {
    fn class(self) -> u16 {
        self.code & 7
    }

    /// What the class does, without class and source.
    fn what(self) -> u16 {
        self.code & 0xf0
    }

    /// As the program has it.
    pub fn raw(self) -> u64 {
        u64::from(self.code) | u64::from(self.jt) << 16 | u64::from(self.jf) << 24 | u64::from(self.k) << 32
    }

    /// Whether it reads a packet, with an address that can be one.
    fn reads_packet(self) -> bool {
        let size = self.code & 0x18;
        match (self.class(), self.code & 0xe0) {
            _ if self.code & 0xff00 != 0 => false,
            (op::LD, op::ABS) => size != 0x18 && !(ANCILLARY_END..).contains(&self.k),
            (op::LD, op::IND) => size != 0x18,
            (op::LDX, op::MSH) => size == op::BYTE,
            _ => false,
        }
    }

    /// Whether the dialect has it, with an operand that makes sense.
    fn is_valid(self, dialect: Dialect) -> bool {
        let arithmetic =
            |w| matches!(w, op::ADD | op::SUB | op::MUL | op::DIV | op::OR | op::AND | op::LSH | op::RSH | op::XOR);
        match self.code {
            _ if dialect == Dialect::Packet && self.reads_packet() => true,
            c if c == op::LD | op::ABS => {
                dialect == Dialect::Seccomp && self.k < DATA_BYTES && self.k.is_multiple_of(4)
            }
            c if dialect == Dialect::Packet && c & !op::X == op::ALU | op::MOD => c & op::X != 0 || self.k != 0,
            c if c == op::LD | op::LEN || c == op::LDX | op::LEN => true,
            c if c == op::LD | op::IMM || c == op::LDX | op::IMM => true,
            c if c == op::LD | op::MEM || c == op::LDX | op::MEM => self.k < SCRATCH,
            op::ST | op::STX => self.k < SCRATCH,
            c if c == op::ALU | op::NEG => true,
            c if c & 0xff07 == op::ALU && arithmetic(self.what()) => match self.what() {
                _ if c & op::X != 0 => true,
                op::DIV => self.k != 0,
                op::LSH | op::RSH => self.k < 32,
                _ => true,
            },
            c if c == op::JMP | op::JA => true,
            c if c & 0xff07 == op::JMP => matches!(self.what(), op::JEQ | op::JGT | op::JGE | op::JSET),
            c if c == op::RET || c == op::RET | op::A => true,
            c if c == op::MISC | op::TAX || c == op::MISC | op::TXA => true,
            _ => false,
        }
    }
}

/// Checks a program.
///
/// # Errors
/// `EINVAL` for an instruction that the dialect does not have, a jump out of the program, a program that does not end in
/// a return, scratch memory that is read before it is written.
pub fn check(program: &[Insn], dialect: Dialect) -> Result {
    let len = program.len();
    for (at, i) in program.iter().enumerate() {
        let left = (len - at - 1) as u64;
        let in_reach = match (i.class(), i.what()) {
            (op::JMP, op::JA) => u64::from(i.k) < left,
            (op::JMP, _) => u64::from(i.jt) < left && u64::from(i.jf) < left,
            _ => true,
        };
        if !i.is_valid(dialect) || !in_reach {
            return Err(Errno::EINVAL);
        }
    }
    if program.last().is_none_or(|i| i.class() != op::RET) {
        return Err(Errno::EINVAL);
    }
    check_scratch(program)
}

/// Whether every word of scratch memory is written on each way to where it is read (`check_load_and_stores`).
fn check_scratch(program: &[Insn]) -> Result {
    // The words that are written on each way to an instruction, as far as jumps to it have been seen.
    let mut known = alloc::vec::Vec::new();
    known.try_reserve_exact(program.len()).map_err(|_| Errno::ENOMEM)?;
    known.resize(program.len(), u16::MAX);
    let mut valid = 0u16;
    for (at, i) in program.iter().enumerate() {
        valid &= known[at];
        match (i.class(), i.what()) {
            (op::ST | op::STX, _) => valid |= 1 << i.k,
            (op::LD | op::LDX, w) if w & 0xe0 == op::MEM && valid & 1 << i.k == 0 => return Err(Errno::EINVAL),
            (op::JMP, op::JA) => {
                known[at + 1 + i.k as usize] &= valid;
                valid = u16::MAX;
            }
            (op::JMP, _) => {
                known[at + 1 + usize::from(i.jt)] &= valid;
                known[at + 1 + usize::from(i.jf)] &= valid;
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The length that Linux counts a checked program with: that of its translation (`bpf_convert_filter`).
pub fn counted_len(program: &[Insn]) -> u32 {
    // It empties both registers and keeps its argument.
    let prologue = 3;
    let of = |i: &Insn| match (i.class(), i.what()) {
        (op::RET, _) if i.code & op::A == 0 => 2,
        (op::ALU, op::DIV) if i.code & op::X != 0 => 5,
        (op::JMP, op::JA) => 1,
        (op::JMP, what) => {
            let constant = u32::from(i.code & op::X == 0 && (i.k as i32) < 0);
            let inverted = i.jt == 0 && what != op::JSET;
            constant + if i.jf == 0 || inverted { 1 } else { 2 }
        }
        _ => 1,
    };
    prologue + program.iter().map(of).sum::<u32>()
}

/// Runs a checked program.
pub fn run(program: &[Insn], data: &impl Data) -> u32 {
    let (mut a, mut x, mut scratch) = (0u32, 0u32, [0u32; SCRATCH as usize]);
    let mut at = 0;
    while let Some(&i) = program.get(at) {
        at += 1;
        let operand = if i.code & op::X != 0 { x } else { i.k };
        match i.class() {
            class @ (op::LD | op::LDX) => {
                let value = match i.code & 0xe0 {
                    op::IMM => i.k,
                    op::MEM => scratch[(i.k % SCRATCH) as usize],
                    op::LEN => data.size(),
                    mode => {
                        let size = match i.code & 0x18 {
                            op::HALF => 2,
                            op::BYTE => 1,
                            _ => 4,
                        };
                        let at = if mode == op::IND { x.wrapping_add(i.k) } else { i.k };
                        let Some(value) = data.load(at, size) else { return 0 };
                        if mode == op::MSH { (value & 15) * 4 } else { value }
                    }
                };
                *(if class == op::LD { &mut a } else { &mut x }) = value;
            }
            op::ST => scratch[(i.k % SCRATCH) as usize] = a,
            op::STX => scratch[(i.k % SCRATCH) as usize] = x,
            op::ALU => {
                a = match i.what() {
                    op::ADD => a.wrapping_add(operand),
                    op::SUB => a.wrapping_sub(operand),
                    op::MUL => a.wrapping_mul(operand),
                    // A program that divides by zero returns 0.
                    op::DIV if operand == 0 => return 0,
                    op::DIV => a / operand,
                    op::MOD if operand == 0 => return 0,
                    op::MOD => a % operand,
                    op::OR => a | operand,
                    op::AND => a & operand,
                    op::LSH => a.wrapping_shl(operand),
                    op::RSH => a.wrapping_shr(operand),
                    op::XOR => a ^ operand,
                    _ => a.wrapping_neg(),
                }
            }
            op::JMP => {
                let holds = match i.what() {
                    op::JA => {
                        at += i.k as usize;
                        continue;
                    }
                    op::JEQ => a == operand,
                    op::JGT => a > operand,
                    op::JGE => a >= operand,
                    _ => a & operand != 0,
                };
                at += usize::from(if holds { i.jt } else { i.jf });
            }
            op::RET => return if i.code & op::A != 0 { a } else { i.k },
            _ if i.code & op::TXA != 0 => a = x,
            _ => x = a,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    #[test]
    fn programs_that_cannot_end_well_are_refused() {
        let ret = insn(op::RET, 0, 0, 7);
        assert_eq!(check(&[ret], Dialect::Seccomp), Ok(()));
        assert_eq!(check(&[], Dialect::Seccomp), Err(Errno::EINVAL));
        for bad in [
            insn(op::LD | op::ABS, 0, 0, 64),
            insn(op::LD | op::ABS, 0, 0, 2),
            insn(op::LD | op::ABS | 0x10, 0, 0, 0),
            insn(op::LD | 0x40, 0, 0, 0),
            insn(op::LD | op::MEM, 0, 0, 16),
            insn(op::LD | op::MEM, 0, 0, 3),
            insn(op::ALU | op::DIV, 0, 0, 0),
            insn(op::ALU | op::LSH, 0, 0, 32),
            insn(op::ALU | 0x90, 0, 0, 3),
            insn(op::JMP | op::JA, 0, 0, 1),
            insn(op::JMP | op::JEQ, 1, 0, 0),
            insn(op::JMP | op::JEQ, 0, 1, 0),
            insn(0x8000, 0, 0, 0),
        ] {
            assert_eq!(check(&[bad, ret], Dialect::Seccomp), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(check(&[ret, insn(op::LD, 0, 0, 1)], Dialect::Seccomp), Err(Errno::EINVAL));
        // Written on one way only.
        let ways = [insn(op::JMP | op::JEQ, 0, 1, 0), insn(op::ST, 0, 0, 2), insn(op::LD | op::MEM, 0, 0, 2), ret];
        assert_eq!(check(&ways, Dialect::Seccomp), Err(Errno::EINVAL));
        let ways = [insn(op::ST, 0, 0, 2), insn(op::JMP | op::JEQ, 0, 1, 0), ret, insn(op::LD | op::MEM, 0, 0, 2), ret];
        assert_eq!(check(&ways, Dialect::Seccomp), Ok(()));
    }

    #[test]
    fn programs_compute() {
        let mut data = [0; 16];
        (data[0], data[4]) = (39, 5);
        let all = [
            insn(op::LD | op::ABS, 0, 0, 0),
            insn(op::MISC | op::TAX, 0, 0, 0),
            insn(op::LD | op::ABS, 0, 0, 16),
            insn(op::ALU | op::ADD | op::X, 0, 0, 0),
            insn(op::ST, 0, 0, 15),
            insn(op::LD, 0, 0, 1),
            insn(op::LDX | op::MEM, 0, 0, 15),
            insn(op::JMP | op::JGT | op::X, 0, 1, 0),
            insn(op::RET, 0, 0, 1),
            insn(op::MISC | op::TXA, 0, 0, 0),
            insn(op::ALU | op::NEG, 0, 0, 0),
            insn(op::ALU | op::AND, 0, 0, 0xff),
            insn(op::RET | op::A, 0, 0, 0),
        ];
        assert_eq!(check(&all, Dialect::Seccomp), Ok(()));
        assert_eq!(run(&all, &data), 0xff & 44u32.wrapping_neg());
        let by_zero = [insn(op::ALU | op::DIV | op::X, 0, 0, 0), insn(op::RET, 0, 0, 9)];
        assert_eq!((check(&by_zero, Dialect::Seccomp), run(&by_zero, &data)), (Ok(()), 0));
    }

    struct Bytes(&'static [u8]);
    impl Data for Bytes {
        fn size(&self) -> u32 {
            self.0.len() as u32
        }
        fn load(&self, at: u32, size: u32) -> Option<u32> {
            let bytes = self.0.get(at as usize..)?.get(..size as usize)?;
            Some(bytes.iter().fold(0, |n, &b| n << 8 | u32::from(b)))
        }
    }

    #[test]
    fn packets_are_read() {
        let ret = insn(op::RET | op::A, 0, 0, 0);
        let of = |first: Insn| run(&[first, ret], &Bytes(&[0x45, 1, 2, 3, 4]));
        assert_eq!(of(insn(op::LD | op::ABS, 0, 0, 1)), 0x0102_0304);
        assert_eq!(of(insn(op::LD | op::ABS | op::HALF, 0, 0, 3)), 0x0304);
        assert_eq!(of(insn(op::LD | op::ABS | op::BYTE, 0, 0, 4)), 4);
        assert_eq!(of(insn(op::LD | op::ABS, 0, 0, 2)), 0, "past the end");
        let head = [insn(op::LDX | op::MSH | op::BYTE, 0, 0, 0), insn(op::MISC | op::TXA, 0, 0, 0), ret];
        assert_eq!(run(&head, &Bytes(&[0x45])), 20);
        assert_eq!(check(&head, Dialect::Packet), Ok(()));
        assert_eq!(check(&head, Dialect::Seccomp), Err(Errno::EINVAL));
        for bad in [insn(op::LD | op::ABS, 0, 0, ANCILLARY_END), insn(op::ALU | op::MOD, 0, 0, 0)] {
            assert_eq!(check(&[bad, ret], Dialect::Packet), Err(Errno::EINVAL));
        }
    }
}
