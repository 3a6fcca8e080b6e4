//! Output of the line discipline: what becomes of characters that are written or echoed (`termios(3)`, `OPOST` and
//! its kind).

use super::discipline::{Effects, State};
use crate::abi::linux::{
    ECHOCTL, IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY, TIOCPKT_START, TIOCPKT_STOP, XTABS,
};
use crate::abi::{Errno, Result};
use crate::sync::Events;

/// What is to be echoed, one after the other. The queue is only needed while output has stopped or has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Echo {
    /// A character as if it were written.
    Char(u8),
    /// A control character as `^X`.
    Control(u8),
    /// The line that is typed begins in this column.
    SetCanonColumn,
    /// A column back.
    MoveBack,
    /// Back over a tab: columns of the characters before it, since the tab before that or (`false`) the line's begin.
    EraseTab(u8, bool),
}

/// Most echoes that wait; the oldest are lost.
const ECHOES: usize = 4096;

/// Whether the character stands for an action, not a sign (`iscntrl`).
pub fn is_control(c: u8) -> bool {
    c < 32 || c == 127
}

/// As a capital letter, in Latin-1 as Linux does it.
fn upper(c: u8) -> u8 {
    match c {
        b'a'..=b'z' | 223..=246 | 248..=255 => c - 32,
        _ => c,
    }
}

/// As a small letter, in Latin-1 as Linux does it.
pub fn lower(c: u8) -> u8 {
    match c {
        b'A'..=b'Z' | 192..=214 | 216..=222 => c + 32,
        _ => c,
    }
}

/// Whether output goes on.
#[derive(Default, Clone, Copy)]
pub struct Flow {
    /// It does not.
    pub stopped: bool,
    /// By TCOOFF: no character starts it again.
    pub by_call: bool,
}

impl State {
    /// Whether the character goes on with one that began before (`IUTF8`).
    pub(super) fn continues(&self, c: u8) -> bool {
        c & 0xc0 == 0x80 && self.termios.i(IUTF8)
    }

    fn emit(&mut self, bytes: &[u8], fx: &mut Effects) -> bool {
        if self.flow.stopped || self.output.room() < bytes.len() || self.output.reserve(bytes.len()).is_err() {
            return false;
        }
        self.output.put(bytes);
        fx.master |= Events::IN;
        true
    }

    /// Puts a character out as `OPOST` says; `false`: there is no room (`do_output_char`).
    fn process(&mut self, c: u8, fx: &mut Effects) -> bool {
        let t = &self.termios;
        let (mut c, mut column, mut canon) = (c, self.column, self.canon_column);
        match c {
            b'\n' => {
                if t.o(ONLRET) {
                    column = 0;
                }
                if t.o(ONLCR) {
                    if !self.emit(b"\r\n", fx) {
                        return false;
                    }
                    (self.column, self.canon_column) = (0, 0);
                    return true;
                }
                canon = column;
            }
            b'\r' if t.o(ONOCR) && column == 0 => return true,
            b'\r' if t.o(OCRNL) => {
                c = b'\n';
                if t.o(ONLRET) {
                    (column, canon) = (0, 0);
                }
            }
            b'\r' => (column, canon) = (0, 0),
            b'\t' => {
                let spaces = 8 - (column & 7);
                if t.oflag & TABDLY == XTABS {
                    if !self.emit(&b"        "[..spaces as usize], fx) {
                        return false;
                    }
                    self.column += spaces;
                    return true;
                }
                column += spaces;
            }
            8 => column = column.saturating_sub(1),
            _ if !is_control(c) => {
                if t.o(OLCUC) {
                    c = upper(c);
                }
                if !self.continues(c) {
                    column = column.wrapping_add(1);
                }
            }
            _ => {}
        }
        if !self.emit(&[c], fx) {
            return false;
        }
        (self.column, self.canon_column) = (column, canon);
        true
    }

    /// Takes what was written to the terminal, as far as there is room; how much (`n_tty_write`).
    ///
    /// # Errors
    /// `ENOMEM` where nothing could be kept.
    pub fn write(&mut self, bytes: &[u8], fx: &mut Effects) -> Result<usize> {
        self.flush_echoes(fx);
        if self.flow.stopped {
            return Ok(0);
        }
        let most = self.output.reserve(bytes.len() * 2)?;
        if !self.termios.o(OPOST) {
            let n = self.output.put(&bytes[..bytes.len().min(most)]);
            if n > 0 {
                fx.master |= Events::IN;
            }
            return Ok(n);
        }
        let mut done = 0;
        while done < bytes.len() {
            let run = self.plain_run(&bytes[done..]);
            let n = self.output.put(&bytes[done..done + run]);
            if n > 0 {
                let columns = bytes[done..done + n].iter().filter(|&&c| !is_control(c) && !self.continues(c)).count();
                self.column = self.column.wrapping_add(columns as u32);
                fx.master |= Events::IN;
                done += n;
            }
            if n < run {
                break;
            }
            if let Some(&c) = bytes.get(done) {
                if !self.process(c, fx) {
                    break;
                }
                done += 1;
            }
        }
        Ok(done)
    }

    /// How many bytes at the beginning go out as they are.
    fn plain_run(&self, bytes: &[u8]) -> usize {
        if self.termios.o(OLCUC) {
            return 0;
        }
        bytes.iter().position(|&c| matches!(c, b'\n' | b'\r' | b'\t' | 8)).unwrap_or(bytes.len())
    }

    /// Whether something that is written would be taken.
    pub fn takes_output(&self) -> bool {
        !self.flow.stopped && self.output.room() > 0
    }

    /// Queues an echo.
    pub(super) fn echo(&mut self, echo: Echo) {
        if self.echoes.len() == ECHOES {
            self.echoes.pop_front();
        }
        if self.echoes.try_reserve().is_ok() {
            self.echoes.push_back(echo);
        }
    }

    /// Echoes a character of the input.
    pub(super) fn echo_char(&mut self, c: u8) {
        let shown = is_control(c) && c != b'\t' && self.termios.l(ECHOCTL);
        self.echo(if shown { Echo::Control(c) } else { Echo::Char(c) });
    }

    /// Puts queued echoes out, as far as there is room.
    pub fn flush_echoes(&mut self, fx: &mut Effects) {
        while let Some(&echo) = self.echoes.front() {
            if !self.put_echo(echo, fx) {
                return;
            }
            self.echoes.pop_front();
        }
    }

    fn put_echo(&mut self, echo: Echo, fx: &mut Effects) -> bool {
        match echo {
            Echo::Char(c) if self.termios.o(OPOST) => return self.process(c, fx),
            Echo::Char(c) => return self.emit(&[c], fx),
            Echo::Control(c) => {
                if !self.emit(&[b'^', c ^ 0x40], fx) {
                    return false;
                }
                self.column = self.column.wrapping_add(2);
            }
            Echo::SetCanonColumn => self.canon_column = self.column,
            Echo::MoveBack => self.column = self.column.saturating_sub(1),
            Echo::EraseTab(columns, after_tab) => {
                let columns = u32::from(columns).wrapping_add(if after_tab { 0 } else { self.canon_column });
                let back = 8 - (columns & 7);
                if !self.emit(&[8; 8][..back as usize], fx) {
                    return false;
                }
                self.column = self.column.saturating_sub(back);
            }
        }
        true
    }

    /// Stops output.
    pub fn stop(&mut self, fx: &mut Effects) {
        if self.flow.stopped {
            return;
        }
        self.flow.stopped = true;
        self.tell_master(TIOCPKT_STOP, TIOCPKT_START, fx);
    }

    /// Starts output again, unless a call has stopped it.
    pub fn start(&mut self, fx: &mut Effects) {
        if !self.flow.stopped || self.flow.by_call {
            return;
        }
        self.flow.stopped = false;
        self.tell_master(TIOCPKT_START, TIOCPKT_STOP, fx);
        self.flush_echoes(fx);
        fx.slave |= Events::OUT;
    }

    /// Forgets output that the master's reader could not have seen yet (`pty_flush_buffer`).
    pub fn drop_output(&mut self, fx: &mut Effects) {
        self.output.truncate(super::discipline::SEEN);
        self.tell_master(crate::abi::linux::TIOCPKT_FLUSHWRITE, 0, fx);
        fx.slave |= Events::OUT;
    }

    /// Sets bits of the packet mode's status and clears others, where the master wants to know.
    pub(super) fn tell_master(&mut self, set: u32, clear: u32, fx: &mut Effects) {
        if self.packet {
            self.status = self.status & !(clear as u8) | set as u8;
            fx.master_quietly |= Events::IN | Events::PRI;
        }
    }

    /// Says no to a change that would need memory that there is not.
    pub(super) fn check_memory(&mut self) -> Result {
        self.line.reserve().map_err(|_| Errno::ENOMEM)
    }
}
