//! `ioctl_tty(2)` of ptys, in the order in which Linux looks: the terminal's own requests, job control, those of the
//! master, the line discipline's.

use super::discipline::Effects;
use super::job;
use super::output::Flow;
use super::pty::{Inner, Master, Pty, slave_device};
use super::slave::Slave;
use super::termios::{DISABLED, TERMIO, TERMIOS, TERMIOS2, Termios};
use crate::abi::linux::{
    self, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, TCIFLUSH, TCIOFF, TCIOFLUSH, TCION, TCOFLUSH, TCOOFF, TCOON, VSTART,
    VSTOP,
};
use crate::abi::{Errno, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::sync::Events;
use crate::task::session::Terminal;
use crate::vfs::{OpCtx, OpenFile};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use linux_raw_sys::ioctl;

/// A request and through which end of which pty it comes.
struct Request<'a> {
    ctx: &'a OpCtx<'a>,
    file: &'a OpenFile,
    pty: &'a Pty,
    master: bool,
    request: u32,
    arg: u64,
}

/// A request to the master.
///
/// # Errors
/// `EIO` after a hang-up, those of the request; `ENOTTY` for an unknown one.
pub fn master(ctx: &OpCtx<'_>, file: &OpenFile, end: &Master, request: u32, arg: u64) -> SysResult<u64> {
    if end.hung.load(SeqCst) {
        return Err(if request == ioctl::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO }.into());
    }
    if request == ioctl::TIOCVHANGUP {
        super::check(ctx.cred, cap::SYS_ADMIN)?;
        end.hung.store(true, SeqCst);
        end.pty.master_queue.wake_all();
        return Ok(0);
    }
    Request { ctx, file, pty: &end.pty, master: true, request, arg }.run()
}

/// A request to the slave.
///
/// # Errors
/// As [`master`].
pub fn slave(ctx: &OpCtx<'_>, file: &OpenFile, end: &Slave, request: u32, arg: u64) -> SysResult<u64> {
    if end.is_hung() {
        return Err(if request == ioctl::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO }.into());
    }
    if request == ioctl::TIOCVHANGUP {
        super::check(ctx.cred, cap::SYS_ADMIN)?;
        end.pty.hang_up();
        return Ok(0);
    }
    Request { ctx, file, pty: &end.pty, master: false, request, arg }.run()
}

impl Request<'_> {
    fn run(&self) -> SysResult<u64> {
        let pty = self.pty.arc().ok_or(Errno::EIO)?;
        let terminal: Arc<dyn Terminal> = pty;
        if let Some(done) = self.general()? {
            return Ok(done);
        }
        if let Some(done) = job::ioctl(self.ctx, self.file, &terminal, self.master, self.request, self.arg) {
            return done;
        }
        if self.master
            && let Some(done) = self.of_master()?
        {
            return Ok(done);
        }
        self.of_discipline()
    }

    fn get(&self) -> SysResult<i32> {
        Ok(UserPtr::<i32>::new(self.arg).read()?)
    }

    fn put(&self, value: i32) -> SysResult<u64> {
        UserPtr::<i32>::new(self.arg).write(value)?;
        Ok(0)
    }

    /// A background process may not change its terminal.
    fn check_change(&self) -> SysResult<()> {
        // Nobody's terminal is a master.
        if self.master { Ok(()) } else { job::check_change(self.ctx, self.pty) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner, &mut Effects) -> R) -> R {
        self.pty.with(f)
    }

    /// `tty_ioctl`.
    fn general(&self) -> SysResult<Option<u64>> {
        match self.request {
            ioctl::TIOCSETD | ioctl::TIOCSBRK | ioctl::TIOCCBRK | ioctl::TCSBRK | ioctl::TCSBRKP => {
                self.check_change()?;
                // There is only one line discipline; a pty has no line to break.
                if self.request == ioctl::TIOCSETD && self.get()? != 0 {
                    return Err(Errno::EINVAL.into());
                }
            }
            ioctl::TIOCSTI => self.simulate_input()?,
            ioctl::TIOCGWINSZ => UserPtr::<[u16; 4]>::new(self.arg).write(self.pty.look(|i| i.ends.size))?,
            ioctl::TIOCSWINSZ => {
                let size = UserPtr::<[u16; 4]>::new(self.arg).read()?;
                let old = self.with(|i, _| core::mem::replace(&mut i.ends.size, size));
                if old != size {
                    self.pty.job().signal(SIGWINCH);
                }
            }
            ioctl::TIOCEXCL | ioctl::TIOCNXCL => {
                let on = self.request == ioctl::TIOCEXCL;
                self.with(|i, _| i.ends.exclusive[usize::from(self.master)] = on);
            }
            ioctl::TIOCGEXCL => {
                return self.put(self.pty.look(|i| i.ends.exclusive[usize::from(self.master)]).into()).map(Some);
            }
            ioctl::TIOCGETD => return self.put(0).map(Some),
            ioctl::TIOCGDEV => return self.put(slave_device(self.pty.index) as i32).map(Some),
            ioctl::TCFLSH => {
                // The rest is the line discipline's.
                if matches!(self.arg as u32, TCIFLUSH | TCIOFLUSH) {
                    self.with(|i, _| {
                        if self.master {
                            i.tty.output.truncate(super::discipline::SEEN)
                        } else {
                            i.tty.backlog.truncate(0)
                        }
                    });
                }
                return Ok(None);
            }
            ioctl::TIOCGPTPEER => return Err(Errno::EIO.into()),
            _ => return Ok(None),
        }
        Ok(Some(0))
    }

    /// TIOCSTI, which Linux refuses to all but the system's administrator (`dev.tty.legacy_tiocsti`).
    fn simulate_input(&self) -> SysResult<()> {
        if !self.ctx.cred.capable(cap::SYS_ADMIN) {
            return Err(Errno::EIO.into());
        }
        let c = UserPtr::<u8>::new(self.arg).read()?;
        self.with(|i, fx| {
            if self.master {
                i.tty.output.reserve(1)?;
                i.tty.output.put(&[c]);
                fx.master |= Events::IN;
                return Ok(());
            }
            i.tty.input(&[c], fx).map(|_| ())
        })?;
        Ok(())
    }

    /// `pty_unix98_ioctl`.
    fn of_master(&self) -> SysResult<Option<u64>> {
        match self.request {
            ioctl::TIOCSPTLCK => {
                let shut = self.get()? != 0;
                self.with(|i, _| i.ends.shut = shut);
            }
            ioctl::TIOCGPTLCK => return self.put(self.pty.look(|i| i.ends.shut).into()).map(Some),
            ioctl::TIOCPKT => {
                let on = self.get()? != 0;
                self.with(|i, _| {
                    if on && !i.tty.packet {
                        i.tty.status = 0;
                    }
                    i.tty.packet = on;
                });
            }
            ioctl::TIOCGPKT => return self.put(self.pty.look(|i| i.tty.packet).into()).map(Some),
            ioctl::TIOCGPTN => return self.put(self.pty.index as i32).map(Some),
            ioctl::TIOCSIG => match self.arg as u32 {
                signal @ (SIGINT | SIGQUIT | SIGTSTP) => self.pty.job().signal(signal),
                _ => return Err(Errno::EINVAL.into()),
            },
            _ => return Ok(None),
        }
        Ok(Some(0))
    }

    /// `n_tty_ioctl`.
    fn of_discipline(&self) -> SysResult<u64> {
        match self.request {
            ioctl::TIOCOUTQ => self.put(0),
            ioctl::FIONREAD => {
                let n = self.pty.look(|i| match (self.master, i.tty.termios.lines()) {
                    (true, _) => i.tty.output.len().min(super::discipline::SEEN),
                    (false, true) => i.tty.line.line_bytes(),
                    (false, false) => i.tty.line.len(),
                });
                self.put(n as i32)
            }
            ioctl::TCXONC => {
                self.check_change()?;
                self.flow_control()
            }
            ioctl::TCFLSH => {
                self.check_change()?;
                self.flush()
            }
            _ => self.settings(),
        }
    }

    fn flow_control(&self) -> SysResult<u64> {
        let by_call = |stopped| Flow { stopped, by_call: stopped };
        self.with(|i, fx| match (self.arg as u32, self.master) {
            (TCOOFF, false) => {
                if !i.tty.flow.by_call {
                    i.tty.stop(fx);
                    i.tty.flow.by_call = true;
                }
                Ok(0)
            }
            (TCOON, false) => {
                if core::mem::take(&mut i.tty.flow.by_call) {
                    i.tty.start(fx);
                }
                Ok(0)
            }
            (TCOOFF, true) => {
                i.tty.master_flow = by_call(true);
                Ok(0)
            }
            (TCOON, true) => {
                i.tty.master_flow = by_call(false);
                fx.master |= Events::OUT;
                Ok(0)
            }
            (TCIOFF | TCION, master) => {
                let settings = if master { Termios::initial() } else { i.tty.termios };
                let c = settings.c(if self.arg as u32 == TCIOFF { VSTOP } else { VSTART });
                if c == DISABLED {
                    return Ok(0);
                }
                if master {
                    i.tty.input(&[c], fx)?;
                } else if i.tty.output.reserve(1)? > 0 {
                    i.tty.output.put(&[c]);
                    fx.master |= Events::IN;
                }
                Ok(0)
            }
            _ => Err(Errno::EINVAL.into()),
        })
    }

    fn flush(&self) -> SysResult<u64> {
        let what = self.arg as u32;
        if !matches!(what, TCIFLUSH | TCOFLUSH | TCIOFLUSH) {
            return Err(Errno::EINVAL.into());
        }
        let (input, output) = (what != TCOFLUSH, what != TCIFLUSH);
        self.with(|i, fx| {
            if self.master {
                if input {
                    i.tty.output.truncate(0);
                    fx.slave |= Events::OUT;
                }
                if output {
                    i.tty.backlog.truncate(0);
                    fx.master |= Events::OUT;
                }
                return;
            }
            if input {
                i.tty.drop_input(fx);
                i.tty.pump(fx);
            }
            if output {
                i.tty.drop_output(fx);
            }
        });
        Ok(0)
    }

    /// `tty_mode_ioctl`; a master's settings are the slave's.
    fn settings(&self) -> SysResult<u64> {
        let t = || self.pty.look(|i| i.tty.termios);
        let bytes = |size| UserPtr::<u8>::new(self.arg).slice(size);
        match self.request {
            ioctl::TCGETS => bytes(TERMIOS).write_from(&t().to_bytes()[..TERMIOS])?,
            ioctl::TCGETS2 => bytes(TERMIOS2).write_from(&t().to_bytes())?,
            ioctl::TCGETA => bytes(TERMIO).write_from(&t().to_termio())?,
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => self.set(TERMIOS, ioctl::TCSETSF)?,
            ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => self.set(TERMIOS2, ioctl::TCSETSF2)?,
            ioctl::TCSETA | ioctl::TCSETAW | ioctl::TCSETAF => self.set(TERMIO, ioctl::TCSETAF)?,
            ioctl::TIOCGLCKTRMIOS => {
                let locked = self.pty.look(|i| i.tty.locked);
                bytes(TERMIOS).write_from(&locked.to_bytes()[..TERMIOS])?;
            }
            ioctl::TIOCSLCKTRMIOS => {
                super::check(self.ctx.cred, cap::SYS_ADMIN)?;
                let locked = UserPtr::<[u8; TERMIOS]>::new(self.arg).read()?;
                self.with(|i, _| i.tty.locked = Termios::none().with_bytes(&locked));
            }
            ioctl::TIOCGSOFTCAR => return self.put((t().cflag & linux::CLOCAL != 0).into()),
            ioctl::TIOCSSOFTCAR => {
                let on = self.get()? != 0;
                self.with(|i, fx| {
                    let mut t = i.tty.termios;
                    t.cflag = t.cflag & !linux::CLOCAL | if on { linux::CLOCAL } else { 0 };
                    i.tty.set_termios(t, fx);
                });
            }
            _ => return Err(Errno::ENOTTY.into()),
        }
        Ok(0)
    }

    /// Sets what a structure of `size` bytes says; `flushes` is the request that drops input first. What was written
    /// is on its way already, so that there is nothing to wait for.
    fn set(&self, size: usize, flushes: u32) -> SysResult<()> {
        job::check_change(self.ctx, self.pty)?;
        let mut bytes = [0; TERMIOS2];
        UserPtr::<u8>::new(self.arg).slice(size).read_into(&mut bytes[..size])?;
        self.with(|i, fx| {
            if self.request == flushes {
                i.tty.drop_input(fx);
            }
            let old = i.tty.termios;
            let new = match bytes.first_chunk::<TERMIO>() {
                Some(half) if size == TERMIO => old.with_termio(half),
                _ => old.with_bytes(&bytes[..size]),
            };
            i.tty.set_termios(new, fx);
        });
        Ok(())
    }
}
