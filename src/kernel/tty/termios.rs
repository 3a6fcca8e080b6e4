//! Settings of a terminal (`termios(3)`, `ioctl_tty(2)`).

use crate::abi::linux::{
    BOTHER, CBAUD, CBAUDEX, CREAD, CS8, CSIZE, ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, EXTPROC, ICANON, ICRNL, IEXTEN,
    IGNCR, INLCR, ISIG, ISTRIP, IUCLC, IXON, ONLCR, OPOST, PARENB, PARMRK, VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL,
    VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VWERASE,
};

/// Number of special characters.
const NCC: usize = 19;
/// Size of `struct termio`.
pub const TERMIO: usize = 18;
/// Size of the kernel's `struct termios`.
pub const TERMIOS: usize = 36;
/// Size of `struct termios2`.
pub const TERMIOS2: usize = 44;
/// The value of a special character that is switched off (`_POSIX_VDISABLE`).
pub const DISABLED: u8 = 0;
/// Where the input speed stands in `c_cflag`.
const IBSHIFT: u32 = 16;
/// Speeds by their number in `c_cflag`, bits per second.
const SPEEDS: [u32; 31] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400, 57600, 115_200, 230_400,
    460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000,
    4_000_000,
];

/// `struct termios2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; NCC],
    /// Bits per second.
    pub ispeed: u32,
    /// Bits per second.
    pub ospeed: u32,
}

impl Termios {
    /// Those of a new pty (`tty_std_termios` with the `c_cflag` of `pty.c`).
    pub fn initial() -> Termios {
        let mut cc = [0; NCC];
        cc[..17].copy_from_slice(b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16\0");
        Termios {
            iflag: ICRNL | IXON,
            oflag: OPOST | ONLCR,
            cflag: 15 | CS8 | CREAD,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }

    /// Nothing: what a mask of locked settings begins with.
    pub fn none() -> Termios {
        Termios { iflag: 0, oflag: 0, cflag: 0, lflag: 0, line: 0, cc: [0; NCC], ispeed: 0, ospeed: 0 }
    }

    /// As `struct termios2`, whose beginning is `struct termios`.
    pub fn to_bytes(self) -> [u8; TERMIOS2] {
        let mut out = [0; TERMIOS2];
        for (i, word) in [self.iflag, self.oflag, self.cflag, self.lflag].into_iter().enumerate() {
            out[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        out[16] = self.line;
        out[17..36].copy_from_slice(&self.cc);
        out[36..40].copy_from_slice(&self.ispeed.to_ne_bytes());
        out[40..].copy_from_slice(&self.ospeed.to_ne_bytes());
        out
    }

    /// With what `bytes`, a `struct termios` or `struct termios2`, sets; the speeds are those that `c_cflag` names.
    pub fn with_bytes(mut self, bytes: &[u8]) -> Termios {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (self.iflag, self.oflag, self.cflag, self.lflag) = (word(0), word(4), word(8), word(12));
        self.line = bytes[16];
        self.cc.copy_from_slice(&bytes[17..36]);
        if bytes.len() >= TERMIOS2 {
            (self.ispeed, self.ospeed) = (word(36), word(40));
        }
        self.with_speeds()
    }

    /// As `struct termio`: the lower halves.
    pub fn to_termio(self) -> [u8; TERMIO] {
        let mut out = [0; TERMIO];
        for (i, word) in [self.iflag, self.oflag, self.cflag, self.lflag].into_iter().enumerate() {
            out[i * 2..i * 2 + 2].copy_from_slice(&(word as u16).to_ne_bytes());
        }
        out[8] = self.line;
        out[9..17].copy_from_slice(&self.cc[..8]);
        out
    }

    /// With what a `struct termio` sets.
    pub fn with_termio(mut self, bytes: &[u8; TERMIO]) -> Termios {
        let half = |at: usize| u32::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let low = |old: u32, new: u32| old & 0xffff_0000 | new;
        self.iflag = low(self.iflag, half(0));
        self.oflag = low(self.oflag, half(2));
        self.cflag = low(self.cflag, half(4));
        self.lflag = low(self.lflag, half(6));
        self.line = bytes[8];
        self.cc[..8].copy_from_slice(&bytes[9..17]);
        self.with_speeds()
    }

    fn with_speeds(mut self) -> Termios {
        let speed = |code: u32, own: u32| match code & CBAUD {
            BOTHER => own,
            code if code & CBAUDEX != 0 => SPEEDS.get((code & !CBAUDEX) as usize + 15).copied().unwrap_or(0),
            code => SPEEDS[code as usize],
        };
        let input = self.cflag >> IBSHIFT & CBAUD;
        let output = speed(self.cflag, self.ospeed);
        self.ispeed = if input == 0 { output } else { speed(input, self.ispeed) };
        self.ospeed = output;
        self
    }

    /// With what `locked` names left as in `old` (`unset_locked_termios`).
    pub fn keeping(mut self, old: &Termios, locked: &Termios) -> Termios {
        let keep = |new: u32, old: u32, mask: u32| new & !mask | old & mask;
        self.iflag = keep(self.iflag, old.iflag, locked.iflag);
        self.oflag = keep(self.oflag, old.oflag, locked.oflag);
        self.cflag = keep(self.cflag, old.cflag, locked.cflag);
        self.lflag = keep(self.lflag, old.lflag, locked.lflag);
        if locked.line != 0 {
            self.line = old.line;
        }
        for i in 0..NCC {
            if locked.cc[i] != 0 {
                self.cc[i] = old.cc[i];
            }
        }
        self
    }

    /// As a pty has it: eight bits, no parity.
    pub fn of_pty(mut self) -> Termios {
        self.cflag = self.cflag & !(CSIZE | PARENB) | CS8 | CREAD;
        self
    }

    /// Whether all of these input flags are set.
    pub fn i(&self, flags: u32) -> bool {
        self.iflag & flags == flags
    }

    /// Whether all of these output flags are set.
    pub fn o(&self, flags: u32) -> bool {
        self.oflag & flags == flags
    }

    /// Whether all of these local flags are set.
    pub fn l(&self, flags: u32) -> bool {
        self.lflag & flags == flags
    }

    /// A special character.
    pub fn c(&self, which: u32) -> u8 {
        self.cc[which as usize]
    }

    /// Whether input comes in lines.
    pub fn lines(&self) -> bool {
        self.l(ICANON) && !self.l(EXTPROC)
    }

    /// Whether ^S and ^Q, and no other characters, stop and start output.
    pub fn usual_flow(&self) -> bool {
        self.i(IXON) && self.c(VSTOP) == 0x13 && self.c(VSTART) == 0x11
    }

    /// Whether characters are taken as they come.
    pub fn is_plain(&self) -> bool {
        let changes = ISTRIP | IUCLC | IGNCR | ICRNL | INLCR | IXON | PARMRK;
        self.iflag & changes == 0 && self.lflag & (ICANON | ISIG | ECHO) == 0
    }

    /// The characters that mean something to the line discipline, as a set.
    pub fn special(&self) -> [u64; 4] {
        let mut set = [0u64; 4];
        let mut add = |c: u8| set[c as usize / 64] |= 1 << (c % 64);
        if self.iflag & (IGNCR | ICRNL) != 0 {
            add(b'\r');
        }
        if self.i(INLCR) {
            add(b'\n');
        }
        if self.l(ICANON) {
            add(b'\n');
            [VERASE, VKILL, VEOF, VEOL].iter().for_each(|&c| add(self.c(c)));
            if self.l(IEXTEN) {
                [VWERASE, VLNEXT, VEOL2].iter().for_each(|&c| add(self.c(c)));
                if self.l(ECHO) {
                    add(self.c(VREPRINT));
                }
            }
        }
        if self.i(IXON) {
            [VSTART, VSTOP].iter().for_each(|&c| add(self.c(c)));
        }
        if self.l(ISIG) {
            [VINTR, VQUIT, VSUSP].iter().for_each(|&c| add(self.c(c)));
        }
        set[0] &= !(1 << DISABLED);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let t = Termios::initial();
        assert_eq!(Termios::none().with_bytes(&t.to_bytes()), t);
        assert_eq!(t.with_termio(&t.to_termio()), t);
        let mut fast = t;
        fast.cflag = fast.cflag & !CBAUD | 0o10002;
        assert_eq!(t.with_bytes(&fast.to_bytes()[..TERMIOS]).ospeed, 115_200);
        fast.cflag |= BOTHER & CBAUD;
        fast.cflag = fast.cflag & !CBAUD | BOTHER;
        fast.ospeed = 1234;
        assert_eq!((t.with_bytes(&fast.to_bytes()).ospeed, t.with_bytes(&fast.to_bytes()).ispeed), (1234, 1234));
    }

    #[test]
    fn locked_settings_stay() {
        let (old, mut new, mut locked) = (Termios::initial(), Termios::none(), Termios::none());
        new.cc[0] = 9;
        locked.lflag = ECHO;
        locked.cc[0] = 1;
        let t = new.keeping(&old, &locked);
        assert_eq!((t.lflag, t.cc[0], t.iflag), (ECHO, 3, 0));
    }
}
