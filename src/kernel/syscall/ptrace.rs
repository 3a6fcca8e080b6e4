//! `ptrace(2)`. What a stop is, and what stops, is `task::trace`'s; here are the requests.

use crate::abi::layout::TASK_SIZE;
use crate::abi::linux::SIGKILL;
use crate::abi::sigctx::{SigContext, SigInfo};
use crate::abi::{Errno, Result, SysResult};
use crate::arch::fpu::{FpArea, LEGACY, SW_RESERVED};
use crate::arch::frame;
use crate::mm::space::remote::Force;
use crate::mm::{IoVec, UserPtr};
use crate::signal::{NSIG, UNBLOCKABLE};
use crate::task::access::{self, By, Look};
use crate::task::trace::{self, Resume, Trace, event, flag, option};
use crate::task::{CurrentTask, Task, memory};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

mod calls;

/// `PTRACE_*` requests.
mod request {
    #![allow(missing_docs)]
    pub const TRACEME: i64 = 0;
    pub const PEEKTEXT: i64 = 1;
    pub const PEEKDATA: i64 = 2;
    pub const PEEKUSER: i64 = 3;
    pub const POKETEXT: i64 = 4;
    pub const POKEDATA: i64 = 5;
    pub const POKEUSER: i64 = 6;
    pub const CONT: i64 = 7;
    pub const KILL: i64 = 8;
    pub const SINGLESTEP: i64 = 9;
    pub const GETREGS: i64 = 12;
    pub const SETREGS: i64 = 13;
    pub const GETFPREGS: i64 = 14;
    pub const SETFPREGS: i64 = 15;
    pub const ATTACH: i64 = 16;
    pub const DETACH: i64 = 17;
    pub const SYSCALL: i64 = 24;
    pub const ARCH_PRCTL: i64 = 30;
    pub const GET_THREAD_AREA: i64 = 25;
    pub const SET_THREAD_AREA: i64 = 26;
    pub const SYSEMU: i64 = 31;
    pub const SYSEMU_SINGLESTEP: i64 = 32;
    pub const SETOPTIONS: i64 = 0x4200;
    pub const GETEVENTMSG: i64 = 0x4201;
    pub const GETSIGINFO: i64 = 0x4202;
    pub const SETSIGINFO: i64 = 0x4203;
    pub const GETREGSET: i64 = 0x4204;
    pub const SETREGSET: i64 = 0x4205;
    pub const SEIZE: i64 = 0x4206;
    pub const INTERRUPT: i64 = 0x4207;
    pub const LISTEN: i64 = 0x4208;
    pub const PEEKSIGINFO: i64 = 0x4209;
    pub const GETSIGMASK: i64 = 0x420a;
    pub const SETSIGMASK: i64 = 0x420b;
    pub const GET_FILTER: i64 = 0x420c;
    pub const GET_FILTER_METADATA: i64 = 0x420d;
    pub const GET_SYSCALL_INFO: i64 = 0x420e;
    pub const GET_RSEQ_CONFIGURATION: i64 = 0x420f;
    pub const SET_DISPATCH: i64 = 0x4210;
    pub const GET_DISPATCH: i64 = 0x4211;
    pub const SET_SYSCALL_INFO: i64 = 0x4212;
}

/// `struct user_regs_struct`, 27 words.
const REGS: usize = 27;
type UserRegs = [u64; REGS];
/// Size of `struct user`, and where its debug registers lie.
const USER_SIZE: u64 = 928;
const USER_DEBUG: u64 = 848;
const USER_DEBUG_END: u64 = USER_DEBUG + 64;
/// Indices in [`UserRegs`].
const ORIG_RAX: usize = 15;
const CS: usize = 17;
const SS: usize = 20;
/// cs, ss, ds, es, fs, gs: a selector is a user's, and the first two are not null (`set_segment_reg`).
const SEGMENTS: [usize; 6] = [CS, SS, 23, 24, 25, 26];
const EFLAGS: usize = 18;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;
/// Flags that a debugger may set.
const FLAGS: u64 = 0x5_0dd5;
/// Note types of register sets (`elf.h`).
const NT_PRSTATUS: u64 = 1;
const NT_FPREGSET: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// A stopped tracee of the caller.
struct Tracee<'a> {
    cur: &'a CurrentTask,
    task: Arc<Task>,
}

/// `ptrace(2)`.
///
/// # Errors
/// `ESRCH`, `EPERM`, `EIO`, `EINVAL`, `EFAULT`.
pub fn sys_ptrace(cur: &CurrentTask, request: i64, pid: i32, addr: u64, data: u64) -> SysResult<u64> {
    if request == request::TRACEME {
        trace::trace_me(cur)?;
        return Ok(0);
    }
    let task = u32::try_from(pid).ok().and_then(|pid| cur.task_of(pid)).ok_or(Errno::ESRCH)?;
    if matches!(request, request::ATTACH | request::SEIZE) {
        return attach(cur, &task, request, addr, data);
    }
    let stopped = !matches!(request, request::KILL | request::INTERRUPT);
    task.with_trace(&cur.group, stopped, |_| ())?;
    let tracee = Tracee { cur, task };
    tracee.request(request, addr, data)
}

fn attach(cur: &CurrentTask, task: &Arc<Task>, request: i64, addr: u64, data: u64) -> SysResult<u64> {
    let options = u32::try_from(data).unwrap_or(u32::MAX);
    if request == request::SEIZE && (addr != 0 || options & !option::ALL != 0) {
        return Err(Errno::EIO.into());
    }
    if Arc::ptr_eq(&task.group, &cur.group) {
        return Err(Errno::EPERM.into());
    }
    access::may_look(cur.subject(), task, Look::Attach, By::RealCreds)?;
    trace::attach(cur, task, (request == request::SEIZE).then_some(options))?;
    Ok(0)
}

fn valid_signal(data: u64) -> Result<u32> {
    u32::try_from(data).ok().filter(|&s| s <= NSIG).ok_or(Errno::EIO)
}

impl Tracee<'_> {
    fn request(&self, request: i64, addr: u64, data: u64) -> SysResult<u64> {
        let out = UserPtr::<u64>::new(data);
        match request {
            request::PEEKTEXT | request::PEEKDATA => out.write(self.peek(addr)?)?,
            request::POKETEXT | request::POKEDATA => self.poke(addr, data)?,
            request::PEEKUSER => out.write(self.peek_user(addr)?)?,
            request::POKEUSER => self.poke_user(addr, data)?,
            request::CONT => self.resume(0, data)?,
            request::SYSCALL => self.resume(flag::CALLS, data)?,
            request::SINGLESTEP => self.resume(flag::STEP, data)?,
            request::SYSEMU => self.resume(flag::EMULATE, data)?,
            request::SYSEMU_SINGLESTEP => self.resume(flag::EMULATE | flag::STEP, data)?,
            request::DETACH => trace::detach(&self.cur.group, &self.task, valid_signal(data)?),
            request::KILL => crate::task::exit::begin_group_exit(&self.task.group, SIGKILL as i32),
            request::INTERRUPT => trace::interrupt(&self.cur.group, &self.task)?,
            request::LISTEN => trace::listen(&self.cur.group, &self.task)?,
            request::GETREGS => UserPtr::<UserRegs>::new(data).write(self.registers()?)?,
            request::SETREGS => self.set_registers(UserPtr::<UserRegs>::new(data).read()?)?,
            request::GETFPREGS => self.read_set(NT_FPREGSET, data, LEGACY)?,
            request::SETFPREGS => self.write_set(NT_FPREGSET, data, LEGACY)?,
            request::GETREGSET | request::SETREGSET => self.register_set(request, addr, UserPtr::new(data))?,
            request::ARCH_PRCTL => self.bases(addr, data)?,
            request::SETOPTIONS => {
                let options = u32::try_from(data).ok().filter(|o| o & !option::ALL == 0).ok_or(Errno::EINVAL)?;
                self.trace(|t| t.options = options)?;
            }
            request::GETEVENTMSG => out.write(self.trace(|t| t.message)?)?,
            request::GETSIGINFO => {
                let info = self.trace(|t| t.info)?.ok_or(Errno::EINVAL)?;
                UserPtr::<SigInfo>::new(data).write(info)?;
            }
            request::SETSIGINFO => {
                let info = UserPtr::<SigInfo>::new(data).read()?;
                self.trace(|t| t.info.as_mut().map(|i| *i = info).ok_or(Errno::EINVAL))??;
            }
            request::PEEKSIGINFO => return self.peek_signals(addr, data),
            request::GETSIGMASK | request::SETSIGMASK => self.mask(request, addr, out)?,
            request::GET_SYSCALL_INFO => return self.call_info(addr, data),
            // Restartable sequences are not there (`rseq` is ENOSYS): 24 bytes that say so.
            request::GET_RSEQ_CONFIGURATION => {
                UserPtr::<u8>::new(data).slice(addr.min(24) as usize).write_from(&[0; 24][..addr.min(24) as usize])?;
                return Ok(24);
            }
            request::SET_SYSCALL_INFO => self.set_call_info(addr, data)?,
            request::SET_DISPATCH | request::GET_DISPATCH => self.user_dispatch(request, addr, data)?,
            request::GET_FILTER => return self.filter(addr, data),
            request::GET_FILTER_METADATA => return self.filter_metadata(addr, data),
            // There are no descriptors of a 32-bit program's thread areas.
            request::GET_THREAD_AREA | request::SET_THREAD_AREA if addr as i32 >= 0 => {
                return Err(Errno::EINVAL.into());
            }
            _ => return Err(Errno::EIO.into()),
        }
        Ok(0)
    }

    fn trace<R>(&self, f: impl FnOnce(&mut Trace) -> R) -> Result<R> {
        self.task.with_trace(&self.cur.group, true, f)
    }

    fn resume(&self, mode: u32, signal: u64) -> Result {
        trace::resume(&self.cur.group, &self.task, Resume { mode, signal: valid_signal(signal)? })
    }

    fn peek(&self, addr: u64) -> SysResult<u64> {
        let mm = self.task.shared().ok_or(Errno::ESRCH)?.mm;
        let bytes = memory::read(&self.task, &mm, addr, 8, Force::Yes)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Errno::EIO)?))
    }

    fn poke(&self, addr: u64, value: u64) -> SysResult<()> {
        let mm = self.task.shared().ok_or(Errno::ESRCH)?.mm;
        let bytes = Vec::from(value.to_le_bytes());
        if memory::write(&self.task, &mm, addr, bytes, Force::Yes)? == 8 { Ok(()) } else { Err(Errno::EIO.into()) }
    }

    /// The frame of the stopped task.
    fn frame(&self) -> Result<SigContext> {
        self.task.slot().and_then(frame::registers).ok_or(Errno::ESRCH)
    }

    fn registers(&self) -> Result<UserRegs> {
        let (call, [fs, gs]) = self.trace(|t| (t.call, t.bases))?;
        let r = self.frame()?;
        let gs = if self.has_gs() { gs } else { 0 };
        // The trap flag of a step is the kernel's.
        let steps = self.task.traced.load(SeqCst) & flag::TRAP_FLAG != 0;
        let mut regs = frame::user_regs(&r, call, [fs, gs]);
        if steps {
            regs[EFLAGS] &= !trace::TF;
        }
        Ok(regs)
    }

    fn has_gs(&self) -> bool {
        !crate::mm::rewrite::enabled() || self.task.shared().is_some_and(|own| own.mm.guest_has_gs())
    }

    fn set_registers(&self, new: UserRegs) -> Result {
        if new[FS_BASE] >= TASK_SIZE || new[GS_BASE] >= TASK_SIZE {
            return Err(Errno::EIO);
        }
        let old = self.frame()?;
        let has_gs = self.has_gs();
        let slot = self.task.slot().ok_or(Errno::ESRCH)?;
        let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, call, rip, _, flags, rsp, ..] =
            new;
        let kept = self.task.traced.load(SeqCst) & flag::TRAP_FLAG != 0;
        let eflags = old.eflags & !FLAGS | flags & FLAGS | if kept { trace::TF } else { 0 };
        let regs = SigContext {
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rdi,
            rsi,
            rbp,
            rbx,
            rdx,
            rax,
            rcx,
            rsp,
            rip,
            eflags,
            ..old
        };
        self.trace(|t| {
            t.call = call;
            t.bases[0] = new[FS_BASE];
            if has_gs || new[GS_BASE] != 0 {
                t.bases[1] = new[GS_BASE];
            }
            // SAFETY: the task is in a stop as long as its tracing is locked.
            unsafe { frame::set_registers(slot, &regs) };
        })
    }

    fn peek_user(&self, addr: u64) -> Result<u64> {
        if !addr.is_multiple_of(8) || addr >= USER_SIZE {
            return Err(Errno::EIO);
        }
        let n = (addr / 8) as usize;
        if n < REGS {
            return Ok(self.registers()?[n]);
        }
        if (USER_DEBUG..USER_DEBUG_END).contains(&addr) {
            return self.trace(|t| t.debug[((addr - USER_DEBUG) / 8) as usize]);
        }
        Ok(0)
    }

    fn poke_user(&self, addr: u64, value: u64) -> Result {
        if !addr.is_multiple_of(8) || addr >= USER_SIZE {
            return Err(Errno::EIO);
        }
        let n = (addr / 8) as usize;
        if n < REGS {
            let null_is_none = matches!(n, CS | SS);
            if SEGMENTS.contains(&n) && (value as u16 == 0 && null_is_none || value as u16 != 0 && value & 3 != 3) {
                return Err(Errno::EIO);
            }
            let mut regs = self.registers()?;
            regs[n] = value;
            return self.set_registers(regs);
        }
        if (USER_DEBUG..USER_DEBUG_END).contains(&addr) {
            return self
                .trace(|t| trace::set_debug_register(&self.task, t, ((addr - USER_DEBUG) / 8) as usize, value))?;
        }
        // As Linux: what cannot be changed is let pass.
        Ok(())
    }

    fn bases(&self, addr: u64, code: u64) -> Result {
        let mut regs = self.registers()?;
        match code {
            0x1001 => regs[GS_BASE] = addr,
            0x1002 => regs[FS_BASE] = addr,
            0x1003 => return UserPtr::new(addr).write(regs[FS_BASE]),
            0x1004 => return UserPtr::new(addr).write(regs[GS_BASE]),
            _ => return Err(Errno::EINVAL),
        }
        self.set_registers(regs)
    }

    /// The bytes of a register set.
    fn set_bytes(&self, kind: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        match kind {
            NT_PRSTATUS => out.extend(self.registers()?.iter().flat_map(|w| w.to_le_bytes())),
            NT_FPREGSET | NT_X86_XSTATE => {
                let frame = self.frame()?;
                let area = FpArea::of(&frame).ok_or(Errno::EIO)?;
                let n = if kind == NT_FPREGSET || !area.extended() { LEGACY } else { area.size() - 4 };
                out.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
                out.extend_from_slice(&area.bytes()[..n]);
                out[SW_RESERVED..LEGACY].fill(0);
                if kind == NT_X86_XSTATE {
                    out[SW_RESERVED..SW_RESERVED + 8].copy_from_slice(&area.features().to_le_bytes());
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(out)
    }

    fn read_set(&self, kind: u64, to: u64, len: usize) -> Result {
        let bytes = self.set_bytes(kind)?;
        UserPtr::<u8>::new(to).slice(len).write_from(&bytes[..len.min(bytes.len())])
    }

    fn write_set(&self, kind: u64, from: u64, len: usize) -> Result {
        let mut bytes = self.set_bytes(kind)?;
        let n = len.min(bytes.len());
        UserPtr::<u8>::new(from).slice(n).read_into(&mut bytes[..n])?;
        if kind == NT_PRSTATUS {
            let mut regs = [0u64; REGS];
            for (to, from) in regs.iter_mut().zip(bytes.chunks_exact(8)) {
                *to = from.try_into().map_or(0, u64::from_le_bytes);
            }
            return self.set_registers(regs);
        }
        let frame = self.frame()?;
        let mut area = FpArea::of(&frame).ok_or(Errno::EIO)?;
        self.trace(|_| {
            let software = area.software_bytes();
            area.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
            if kind == NT_FPREGSET && area.extended() {
                // What was set is there: x87 and SSE.
                area.bytes_mut()[LEGACY] |= 3;
            }
            area.sanitize(&software);
        })
    }

    fn register_set(&self, request: i64, kind: u64, vec: UserPtr<IoVec>) -> Result {
        let IoVec { base, len } = vec.read()?;
        let size = self.set_bytes(kind)?.len();
        if !(len as usize).is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let n = size.min(len as usize);
        if request == request::GETREGSET {
            self.read_set(kind, base, n)?;
        } else {
            if kind == NT_X86_XSTATE && n < size {
                return Err(Errno::EFAULT);
            }
            self.write_set(kind, base, n)?;
        }
        vec.write(IoVec { base, len: n as u64 })
    }

    fn mask(&self, request: i64, size: u64, at: UserPtr<u64>) -> Result {
        if size != 8 {
            return Err(Errno::EINVAL);
        }
        if request == request::GETSIGMASK {
            return at.write(self.task.blocked.load(SeqCst));
        }
        let mask = at.read()? & !UNBLOCKABLE;
        self.task.blocked.store(mask, SeqCst);
        Ok(())
    }

    /// Pending signals (`struct ptrace_peeksiginfo_args`): offset, flags, count.
    fn peek_signals(&self, args: u64, out: u64) -> SysResult<u64> {
        let [off, flags_and_count] = UserPtr::<[u64; 2]>::new(args).read()?;
        let (flags, count) = (flags_and_count as u32, (flags_and_count >> 32) as i32);
        if flags & !1 != 0 || count < 0 {
            return Err(Errno::EINVAL.into());
        }
        let queue = if flags & 1 != 0 { &self.task.group.pending } else { &self.task.pending };
        let mut done = 0;
        for i in 0..count as u64 {
            let Some(at) = off.checked_add(i) else { break };
            let Some(record) = queue.lock().record(at) else { break };
            UserPtr::<SigInfo>::new(out).add(i as usize).write(record)?;
            done += 1;
        }
        Ok(done)
    }
}

/// The numbers of events are those of their options' bits.
const _: () = assert!(1 << event::EXEC == option::EXEC && 1 << event::EXIT == option::EXIT);
