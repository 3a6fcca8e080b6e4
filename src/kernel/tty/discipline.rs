//! The line discipline of a pty (`N_TTY`): from the characters that its master writes to what its readers get.
//!
//! Everything here changes a [`State`] under its pty's lock and touches neither guest memory nor processes: what has to
//! follow once the lock is free is collected in [`Effects`].

use super::line::{Line, Ring, SIZE};
use super::output::{Echo, Flow, is_control, lower};
use super::termios::{DISABLED, Termios};
use crate::abi::Result;
use crate::abi::linux::{
    ECHO, ECHOCTL, ECHOE, ECHOK, ECHOKE, ECHONL, ECHOPRT, EXTPROC, ICANON, ICRNL, IEXTEN, IGNCR, INLCR, ISIG, ISTRIP,
    IUCLC, IXANY, IXON, NOFLSH, PARMRK, SIGINT, SIGQUIT, SIGTSTP, TIOCPKT_DOSTOP, TIOCPKT_FLUSHREAD, TIOCPKT_IOCTL,
    TIOCPKT_NOSTOP, VEOF, VEOL, VEOL2, VERASE, VINTR, VKILL, VLNEXT, VQUIT, VREPRINT, VSTART, VSTOP, VSUSP, VWERASE,
};
use crate::sync::{Events, Mend, StepQueue};

/// Bytes of output that lie ready for the master's reader: those beyond are dropped where output is flushed.
pub const SEEN: usize = SIZE - 1;
/// Bytes on their way in either direction beyond what lies ready (the limit of a pty's port in Linux).
const ON_THE_WAY: usize = 8192;

/// What is to be done after a pty was changed, without its lock.
#[derive(Default)]
pub struct Effects {
    /// What the slave's waiters are told.
    pub slave: Events,
    /// What the master's waiters are told.
    pub master: Events,
    /// As `slave`, without signals to owners (`wake_up_interruptible` without `kill_fasync`).
    pub slave_quietly: Events,
    /// As `master`, without signals to owners.
    pub master_quietly: Events,
    /// Signals for the foreground group, as bits by number.
    pub signals: u64,
}

/// The state of a pty.
pub struct State {
    /// Settings.
    pub termios: Termios,
    /// Settings that cannot be changed (TIOCSLCKTRMIOS).
    pub locked: Termios,
    special: [u64; 4],
    /// Input that can be read, and the line that is typed.
    pub line: Line,
    /// Input that `line` has no room for.
    pub backlog: Ring,
    /// Output that the master has not read.
    pub output: Ring,
    pub(super) echoes: StepQueue<Echo>,
    pub(super) column: u32,
    pub(super) canon_column: u32,
    /// Whether output goes on.
    pub flow: Flow,
    /// Whether the master's output goes on.
    pub master_flow: Flow,
    /// The next character is taken as it is.
    quoted: bool,
    /// What is being received had to wait: [`State::look_ahead`] has seen it.
    waited: bool,
    /// Erased characters are being printed (`ECHOPRT`).
    erasing: bool,
    /// A write to the slave found too little room.
    pub asks_room: bool,
    /// The master reads in packet mode.
    pub packet: bool,
    /// What has changed since the master read it last (`TIOCPKT_*`).
    pub status: u8,
}

impl Mend for State {
    fn mend(&mut self) {
        self.line.mend();
        self.backlog.mend();
        self.output.mend();
    }
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl State {
    /// A pty as it begins.
    pub fn new() -> State {
        let termios = Termios::initial();
        State {
            termios,
            locked: Termios::none(),
            special: termios.special(),
            line: Line::new(),
            backlog: Ring::new(ON_THE_WAY),
            output: Ring::new(SEEN + ON_THE_WAY),
            echoes: StepQueue::new(),
            column: 0,
            canon_column: 0,
            flow: Flow::default(),
            master_flow: Flow::default(),
            quoted: false,
            waited: false,
            erasing: false,
            asks_room: false,
            packet: false,
            status: 0,
        }
    }

    /// Takes what the master writes, as far as there is room; how much.
    ///
    /// # Errors
    /// `ENOMEM` where nothing could be kept.
    pub fn input(&mut self, bytes: &[u8], fx: &mut Effects) -> Result<usize> {
        if self.master_flow.stopped {
            return Ok(0);
        }
        self.check_memory()?;
        let mut done = 0;
        if self.backlog.is_empty() {
            done = self.receive(bytes, fx);
        }
        let rest = &bytes[done..];
        if !rest.is_empty() {
            match self.backlog.reserve(rest.len()) {
                Ok(n) => {
                    let n = self.backlog.put(&rest[..n]);
                    self.look_ahead(&rest[..n], fx);
                    done += n;
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => {}
            }
        }
        Ok(done)
    }

    /// Characters that stop and start output do so although others before them have to wait
    /// (`n_tty_lookahead_flow_ctrl`).
    fn look_ahead(&mut self, bytes: &[u8], fx: &mut Effects) {
        let t = self.termios;
        if !t.i(IXON) || t.l(EXTPROC) {
            return;
        }
        for &c in bytes {
            if c == t.c(VSTART) && c != DISABLED {
                self.start_typed(fx);
            } else if c == t.c(VSTOP) && c != DISABLED {
                self.stop(fx);
            }
        }
    }

    /// Whether the master could write something.
    pub fn takes_input(&self) -> bool {
        !self.master_flow.stopped && self.backlog.room() > 0
    }

    /// Bytes were read, or settings changed: input that had to wait goes on.
    pub fn pump(&mut self, fx: &mut Effects) {
        let mut block = [0; 512];
        while !self.backlog.is_empty() {
            let n = self.backlog.front().len().min(block.len());
            block[..n].copy_from_slice(&self.backlog.front()[..n]);
            self.waited = true;
            let taken = self.receive(&block[..n], fx);
            self.waited = false;
            self.backlog.skip(taken);
            if taken > 0 {
                fx.master |= Events::OUT;
            }
            if taken < n {
                break;
            }
        }
    }

    /// Gives characters to the line discipline; how many it took (`n_tty_receive_buf_common`).
    fn receive(&mut self, bytes: &[u8], fx: &mut Effects) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let free = SIZE - self.line.len();
            let free = if self.termios.i(PARMRK) { free.div_ceil(3) } else { free };
            let room = match free {
                2.. => free - 1,
                // A line without an end keeps its beginning; each further character takes the last one's place.
                _ if !self.termios.l(ICANON) || self.line.has_line() => break,
                0 => {
                    self.line.rewind(self.line.part().end - 1);
                    1
                }
                _ => 1,
            };
            let n = room.min(bytes.len() - done);
            let block = &bytes[done..done + n];
            let kept = self.termios.l(EXTPROC) && self.termios.iflag & (ISTRIP | IUCLC) == 0;
            if self.termios.is_plain() || kept {
                self.line.extend(block);
            } else {
                for &c in block {
                    self.receive_char(c, fx);
                }
            }
            done += n;
        }
        if self.termios.lflag & (ECHO | ECHONL) != 0 {
            self.flush_echoes(fx);
        }
        if !self.termios.lines() && !self.line.is_empty() && done > 0 {
            fx.slave |= Events::IN;
        }
        done
    }

    fn receive_char(&mut self, c: u8, fx: &mut Effects) {
        let quoted = core::mem::take(&mut self.quoted);
        let mut c = c;
        if self.termios.i(ISTRIP) {
            c &= 0x7f;
        }
        if self.termios.i(IUCLC) && self.termios.l(IEXTEN) {
            c = lower(c);
        }
        if quoted {
            return self.take_char(c, fx);
        }
        if self.termios.l(EXTPROC) {
            return self.line.put(c);
        }
        if self.special[c as usize / 64] >> (c % 64) & 1 == 0 {
            self.take_char(c, fx);
        } else {
            self.special_char(c, fx);
        }
    }

    /// The character that starts output puts echoes out even where output goes on.
    fn start_typed(&mut self, fx: &mut Effects) {
        self.start(fx);
        self.flush_echoes(fx);
    }

    /// Any character starts output again (`IXANY`).
    fn start_by_any(&mut self, fx: &mut Effects) {
        if self.flow.stopped && self.termios.i(IXON | IXANY) {
            self.start(fx);
        }
    }

    fn put(&mut self, c: u8) {
        if c == 0xff && self.termios.i(PARMRK) {
            self.line.put(c);
        }
        self.line.put(c);
    }

    /// A character that means nothing by itself.
    fn take_char(&mut self, c: u8, fx: &mut Effects) {
        self.start_by_any(fx);
        self.echo_input(c, false, fx);
        self.put(c);
    }

    /// Echoes a character, with `ECHO`. `newline`: as the end of a line, if it is one.
    fn echo_input(&mut self, c: u8, newline: bool, fx: &mut Effects) {
        if !self.termios.l(ECHO) {
            return;
        }
        self.finish_erasing();
        if c == b'\n' && newline {
            self.echo(Echo::Char(c));
        } else {
            if !self.line.has_part() {
                self.echo(Echo::SetCanonColumn);
            }
            self.echo_char(c);
        }
        self.commit_echoes(fx);
    }

    /// A character that means something (`n_tty_receive_char_special`).
    fn special_char(&mut self, c: u8, fx: &mut Effects) {
        let t = self.termios;
        if t.i(IXON) && (c == t.c(VSTART) || c == t.c(VSTOP)) {
            return match self.waited {
                true => {}
                false if c == t.c(VSTART) => self.start_typed(fx),
                false => self.stop(fx),
            };
        }
        if t.l(ISIG) {
            for (which, signal) in [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)] {
                if c == t.c(which) {
                    return self.signal_char(signal, c, fx);
                }
            }
        }
        self.start_by_any(fx);
        let c = match c {
            b'\r' if t.i(IGNCR) => return,
            b'\r' if t.i(ICRNL) => b'\n',
            b'\n' if t.i(INLCR) => b'\r',
            c => c,
        };
        if t.l(ICANON) && self.line_char(c, fx) {
            return;
        }
        self.echo_input(c, true, fx);
        self.put(c);
    }

    /// A character that may mean something while lines are typed; whether it did.
    fn line_char(&mut self, c: u8, fx: &mut Effects) -> bool {
        let t = self.termios;
        let extended = t.l(IEXTEN);
        if c == t.c(VERASE) || c == t.c(VKILL) || c == t.c(VWERASE) && extended {
            self.erase(c);
            self.commit_echoes(fx);
        } else if c == t.c(VLNEXT) && extended {
            self.quoted = true;
            if t.l(ECHO) {
                self.finish_erasing();
                if t.l(ECHOCTL) {
                    self.echo(Echo::Char(b'^'));
                    self.echo(Echo::Char(8));
                    self.commit_echoes(fx);
                }
            }
        } else if c == t.c(VREPRINT) && t.l(ECHO) && extended {
            self.finish_erasing();
            self.echo_char(c);
            self.echo(Echo::Char(b'\n'));
            for position in self.line.part() {
                self.echo_char(self.line.byte(position));
            }
            self.commit_echoes(fx);
        } else if c == b'\n' {
            if t.lflag & (ECHO | ECHONL) != 0 {
                self.echo(Echo::Char(c));
                self.commit_echoes(fx);
            }
            self.end_line(c, fx);
        } else if c == t.c(VEOF) {
            self.end_line(DISABLED, fx);
        } else if c == t.c(VEOL) || c == t.c(VEOL2) && extended {
            if t.l(ECHO) {
                if !self.line.has_part() {
                    self.echo(Echo::SetCanonColumn);
                }
                self.echo_char(c);
                self.commit_echoes(fx);
            }
            if c == 0xff && t.i(PARMRK) {
                self.line.put(c);
            }
            self.end_line(c, fx);
        } else {
            return false;
        }
        true
    }

    fn end_line(&mut self, c: u8, fx: &mut Effects) {
        self.line.put_end(c);
        fx.slave |= Events::IN;
    }

    /// A character that makes a signal (`n_tty_receive_signal_char`).
    fn signal_char(&mut self, signal: u32, c: u8, fx: &mut Effects) {
        fx.signals |= 1 << signal;
        if !self.termios.l(NOFLSH) {
            self.echoes.clear();
            self.drop_output(fx);
            self.drop_input(fx);
        }
        if self.termios.i(IXON) {
            self.start(fx);
        }
        if self.termios.l(ECHO) {
            self.echo_char(c);
            self.commit_echoes(fx);
        } else {
            self.flush_echoes(fx);
        }
    }

    /// Leaves echoes to the end of what is received, unless they have become many: a signal drops those that were not put
    /// out by then (`commit_echoes`).
    fn commit_echoes(&mut self, fx: &mut Effects) {
        const MANY: usize = 256;
        if self.echoes.len() >= MANY {
            self.flush_echoes(fx);
        }
    }

    /// Forgets input that can be read (`n_tty_flush_buffer`).
    pub fn drop_input(&mut self, fx: &mut Effects) {
        self.line.clear();
        (self.quoted, self.erasing) = (false, false);
        self.tell_master(TIOCPKT_FLUSHREAD, 0, fx);
    }

    /// Forgets all input, also what had to wait.
    pub fn drop_all_input(&mut self, fx: &mut Effects) {
        self.backlog.truncate(0);
        self.drop_input(fx);
        fx.master |= Events::OUT;
    }

    fn finish_erasing(&mut self) {
        if self.erasing {
            self.echo(Echo::Char(b'/'));
            self.erasing = false;
        }
    }

    /// Erases a character, a word or the line (`eraser`).
    fn erase(&mut self, c: u8) {
        let t = self.termios;
        if !self.line.has_part() {
            return;
        }
        let one = c == t.c(VERASE);
        let word = !one && c == t.c(VWERASE);
        if !one && !word && !t.l(ECHO | ECHOK | ECHOKE | ECHOE) {
            self.line.rewind(self.line.part().start);
            if t.l(ECHO) {
                self.finish_erasing();
                self.echo_char(t.c(VKILL));
                if t.l(ECHOK) {
                    self.echo(Echo::Char(b'\n'));
                }
            }
            return;
        }
        let mut seen_word = false;
        while self.line.has_part() {
            let part = self.line.part();
            let mut head = part.end - 1;
            while self.continues(self.line.byte(head)) && head > part.start {
                head -= 1;
            }
            let c = self.line.byte(head);
            if self.continues(c) {
                break;
            }
            if word {
                if c.is_ascii_alphanumeric() || c == b'_' || c >= 192 && c != 215 && c != 247 {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            self.line.rewind(head);
            if t.l(ECHO) {
                self.echo_erased(c, head + 1..part.end, one);
            }
            if one {
                break;
            }
        }
        if !self.line.has_part() && t.l(ECHO) {
            self.finish_erasing();
        }
    }

    /// Shows that a character, with the positions of the rest of its bytes, was erased.
    fn echo_erased(&mut self, c: u8, rest: core::ops::Range<usize>, one: bool) {
        let t = self.termios;
        if t.l(ECHOPRT) {
            if !self.erasing {
                self.echo(Echo::Char(b'\\'));
                self.erasing = true;
            }
            self.echo_char(c);
            for position in rest {
                self.echo(Echo::Char(self.line.byte(position)));
                self.echo(Echo::MoveBack);
            }
        } else if one && !t.l(ECHOE) {
            self.echo_char(t.c(VERASE));
        } else if c == b'\t' {
            let (columns, after_tab) = self.columns_before();
            self.echo(Echo::EraseTab(columns, after_tab));
        } else {
            let twice = is_control(c) && t.l(ECHOCTL);
            for _ in 0..u32::from(twice) + u32::from(!is_control(c) || t.l(ECHOCTL)) {
                for c in [8, b' ', 8] {
                    self.echo(Echo::Char(c));
                }
            }
        }
    }

    /// Columns, modulo 8, that the typed line takes from its beginning, or from its last tab (`true`).
    fn columns_before(&self) -> (u8, bool) {
        let mut columns = 0u32;
        for position in self.line.part().rev() {
            let c = self.line.byte(position);
            if c == b'\t' {
                return (columns as u8 & 7, true);
            }
            if is_control(c) {
                columns += if self.termios.l(ECHOCTL) { 2 } else { 0 };
            } else if !self.continues(c) {
                columns += 1;
            }
        }
        (columns as u8 & 7, false)
    }

    /// Changes the settings (`tty_set_termios`, `pty_set_termios`, `n_tty_set_termios`).
    pub fn set_termios(&mut self, new: Termios, fx: &mut Effects) {
        let old = self.termios;
        let new = new.keeping(&old, &self.locked).of_pty();
        self.termios = new;
        self.special = new.special();
        let (old_flow, new_flow) = (old.usual_flow(), new.usual_flow());
        if old_flow != new_flow {
            let (set, clear) =
                if new_flow { (TIOCPKT_DOSTOP, TIOCPKT_NOSTOP) } else { (TIOCPKT_NOSTOP, TIOCPKT_DOSTOP) };
            self.tell_master(set, clear, fx);
        }
        if old.l(EXTPROC) || new.l(EXTPROC) {
            self.tell_master(TIOCPKT_IOCTL, 0, fx);
        }
        if (old.lflag ^ new.lflag) & (ICANON | EXTPROC) != 0 {
            self.line.change_mode(new.l(ICANON));
            (self.quoted, self.erasing) = (false, false);
        }
        if old.i(IXON) && !new.i(IXON) {
            self.start(fx);
        }
        self.pump(fx);
        fx.slave_quietly |= Events::IN | Events::OUT;
    }

    /// As a new one, but for what the master has not read yet: after a hang-up.
    pub fn reset(&mut self, fx: &mut Effects) {
        self.drop_all_input(fx);
        self.echoes.clear();
        self.flow = Flow::default();
        self.set_termios(Termios::initial(), fx);
    }
}

#[cfg(test)]
mod tests;
