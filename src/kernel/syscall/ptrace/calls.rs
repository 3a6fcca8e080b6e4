//! What a tracer asks and changes of its tracee's calls: the call that it stopped at, where its calls are given back to
//! the program, its filters.

use super::{ORIG_RAX, Tracee, request};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::cap;
use crate::mm::UserPtr;
use crate::task::trace::{CallStop, event};
use crate::task::{dispatch, seccomp};

/// `AUDIT_ARCH_X86_64`.
const AUDIT_ARCH: u32 = 0xc000_003e;
/// Words of `struct ptrace_syscall_info`.
const INFO: usize = 11;
/// Where arguments of a call lie in the registers, in order.
const ARGUMENTS: [usize; 6] = [14, 13, 12, 7, 9, 8];
const RAX: usize = 10;
/// `PTRACE_SYSCALL_INFO_*`.
const OP_NONE: u8 = 0;
const OP_ENTRY: u8 = 1;
const OP_EXIT: u8 = 2;
const OP_SECCOMP: u8 = 3;

impl Tracee<'_> {
    /// What kind of stop for a call the tracee is in (`ptrace_get_syscall_info_op`), and its event's message.
    fn call_stop(&self) -> Result<(u8, u64)> {
        const AT_CALL: i32 = 0x85;
        const AT_FILTER: i32 = 5 | (event::SECCOMP << 8) as i32;
        self.trace(|t| {
            let op = match (t.info.map_or(0, |i| i.code), t.message) {
                (AT_CALL, m) if m == CallStop::Entry as u64 => OP_ENTRY,
                (AT_CALL, m) if m == CallStop::Exit as u64 => OP_EXIT,
                (AT_FILTER, _) => OP_SECCOMP,
                _ => OP_NONE,
            };
            (op, t.message)
        })
    }

    /// `PTRACE_GET_SYSCALL_INFO`: at most `size` bytes; the length of what there is.
    pub(super) fn call_info(&self, size: u64, out: u64) -> SysResult<u64> {
        let regs = self.registers()?;
        let (op, message) = self.call_stop()?;
        let mut words = [0u64; INFO];
        words[0] = u64::from(op) | u64::from(AUDIT_ARCH) << 32;
        (words[1], words[2]) = (regs[16], regs[19]);
        let len = match op {
            OP_EXIT => {
                let value = regs[RAX] as i64;
                (words[3], words[4]) = (regs[RAX], u64::from((-4095..0).contains(&value)));
                33
            }
            OP_ENTRY | OP_SECCOMP => {
                words[3] = regs[ORIG_RAX];
                for (word, at) in words[4..].iter_mut().zip(ARGUMENTS) {
                    *word = regs[at];
                }
                words[10] = message & u64::from(u32::MAX);
                if op == OP_ENTRY { 80 } else { 84 }
            }
            _ => 24,
        };
        let mut bytes = [0u8; INFO * 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let n = len.min(size as usize);
        UserPtr::<u8>::new(out).slice(n).write_from(&bytes[..n])?;
        Ok(len as u64)
    }

    /// `PTRACE_SET_SYSCALL_INFO`: another call, other arguments, another result.
    pub(super) fn set_call_info(&self, size: u64, from: u64) -> Result {
        if size < (INFO * 8) as u64 {
            return Err(Errno::EINVAL);
        }
        let words = UserPtr::<[u64; INFO]>::new(from).read()?;
        let [op, reserved, flags @ ..] = (words[0] as u32).to_le_bytes();
        if flags != [0; 2] || reserved != 0 || self.call_stop()?.0 != op {
            return Err(Errno::EINVAL);
        }
        let mut regs = self.registers()?;
        match op {
            OP_EXIT => regs[RAX] = words[3],
            OP_ENTRY | OP_SECCOMP => {
                if op == OP_SECCOMP && words[10] >> 32 != 0 {
                    return Err(Errno::EINVAL);
                }
                let nr = words[3] as i32;
                if i64::from(nr) as u64 != words[3] {
                    return Err(Errno::ERANGE);
                }
                regs[ORIG_RAX] = words[3];
                if nr != -1 {
                    for (word, at) in words[4..].iter().zip(ARGUMENTS) {
                        regs[at] = *word;
                    }
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        self.set_registers(regs)
    }

    /// `PTRACE_{SET,GET}_SYSCALL_USER_DISPATCH_CONFIG`: mode, selector, offset, length.
    pub(super) fn user_dispatch(&self, request: i64, size: u64, at: u64) -> Result {
        let record = UserPtr::<[u64; 4]>::new(at);
        if size != 32 {
            return Err(Errno::EINVAL);
        }
        if request == request::GET_DISPATCH {
            let region = self.task.dispatch.get();
            return record.write([u64::from(region.is_on), region.selector, region.offset, region.len]);
        }
        let [mode, selector, offset, len] = record.read()?;
        self.task.dispatch.set(dispatch::Region::new(mode, offset, len, selector)?);
        Ok(())
    }

    fn may_see_filters(&self) -> Result {
        let filtered = self.cur.seccomp.mode() != seccomp::mode::NONE;
        if filtered || !self.cur.cred().capable(cap::SYS_ADMIN) { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// `PTRACE_SECCOMP_GET_FILTER`: the instructions of a filter, the oldest being 0, and how many they are.
    pub(super) fn filter(&self, nth: u64, out: u64) -> SysResult<u64> {
        self.may_see_filters()?;
        let program = self.task.seccomp.nth(nth)?.program_words();
        if out != 0 {
            UserPtr::<u64>::new(out).slice(program.len()).write_from(&program)?;
        }
        Ok(program.len() as u64)
    }

    /// `PTRACE_SECCOMP_GET_METADATA`: which filter, and its flags.
    pub(super) fn filter_metadata(&self, size: u64, at: u64) -> SysResult<u64> {
        self.may_see_filters()?;
        let size = size.min(16) as usize;
        if size < 8 {
            return Err(Errno::EINVAL.into());
        }
        let nth = UserPtr::<u64>::new(at).read()?;
        let flags = self.task.seccomp.nth(nth)?.flags();
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&nth.to_le_bytes());
        bytes[8..].copy_from_slice(&flags.to_le_bytes());
        UserPtr::<u8>::new(at).slice(size).write_from(&bytes[..size])?;
        Ok(size as u64)
    }
}
