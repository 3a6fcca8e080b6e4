//! Seccomp programs: read back from a process, interpreted, and put around a command.

use nix::errno::Errno;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub use libc::sock_filter;

pub const ARCH_X86_64: u32 = 0xc000_003e;
pub const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub const TRAP: u32 = libc::SECCOMP_RET_TRAP;
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
pub const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// What a program looks at (`struct seccomp_data`).
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: u32,
    pub arch: u32,
    pub ip: u64,
    pub args: [u64; 6],
}

impl Call {
    pub fn at(ip: u64, nr: i64) -> Call {
        Call { nr: nr as u32, arch: ARCH_X86_64, ip, args: [0; 6] }
    }

    fn word(&self, offset: u32) -> u32 {
        let half = |v: u64, high: bool| if high { (v >> 32) as u32 } else { v as u32 };
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => half(self.ip, offset == 12),
            16..64 => half(self.args[(offset as usize - 16) / 8], offset % 8 == 4),
            other => panic!("a load from {other}"),
        }
    }
}

/// What the host does with a call.
pub fn verdict(program: &[sock_filter], call: &Call) -> u32 {
    let (mut pc, mut acc, mut index, mut memory) = (0usize, 0u32, 0u32, [0u32; 16]);
    loop {
        let i = &program[pc];
        pc += 1;
        let operand = if i.code & 0x08 == 0 { i.k } else { index };
        match i.code {
            0x00 => acc = i.k,
            0x20 => acc = call.word(i.k),
            0x60 => acc = memory[i.k as usize],
            0x01 => index = i.k,
            0x61 => index = memory[i.k as usize],
            0x02 => memory[i.k as usize] = acc,
            0x03 => memory[i.k as usize] = index,
            0x07 => index = acc,
            0x87 => acc = index,
            0x04 | 0x0c => acc = acc.wrapping_add(operand),
            0x14 | 0x1c => acc = acc.wrapping_sub(operand),
            0x44 | 0x4c => acc |= operand,
            0x54 | 0x5c => acc &= operand,
            0x64 | 0x6c => acc = acc.checked_shl(operand).unwrap_or(0),
            0x74 | 0x7c => acc = acc.checked_shr(operand).unwrap_or(0),
            0x05 => pc += i.k as usize,
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                let taken = match i.code & 0xf0 {
                    0x10 => acc == operand,
                    0x20 => acc > operand,
                    0x30 => acc >= operand,
                    _ => acc & operand != 0,
                };
                pc += usize::from(if taken { i.jt } else { i.jf });
            }
            0x06 => return i.k,
            0x16 => return acc,
            other => panic!("an instruction {other:#x} that the test does not know"),
        }
    }
}

/// The filters of a host process, newest first. Needs to be root.
pub fn installed(pid: i32) -> io::Result<Vec<Vec<sock_filter>>> {
    // SAFETY: these requests touch no memory of ours.
    let ask = |request| Errno::result(unsafe { libc::ptrace(request, pid, 0usize, 0usize) });
    ask(libc::PTRACE_SEIZE)?;
    ask(libc::PTRACE_INTERRUPT)?;
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::__WALL))?;
    let mut all = Vec::new();
    let result = loop {
        let get = |buffer: *mut sock_filter| {
            // SAFETY: with a null buffer the host tells the length; else there is room for that many.
            let n = unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, pid, all.len(), buffer) };
            Errno::result(n)
        };
        match get(std::ptr::null_mut()) {
            Err(Errno::ENOENT) => break Ok(()),
            Err(e) => break Err(e),
            Ok(n) => {
                let mut program = vec![sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; n as usize];
                get(program.as_mut_ptr())?;
                all.push(program);
            }
        }
    };
    ask(libc::PTRACE_DETACH)?;
    result?;
    Ok(all)
}

const fn stmt(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// The command starts behind an outer filter that answers these calls with an error.
pub fn deny<'a>(command: &'a mut Command, calls: &[i64], errno: i32) -> &'a mut Command {
    let mut program = vec![stmt(0x20, 0)];
    for &nr in calls {
        program.push(sock_filter { code: 0x15, jt: 0, jf: 1, k: nr as u32 });
        program.push(stmt(0x06, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    program.push(stmt(0x06, ALLOW));
    // SAFETY: the child makes two system calls with memory that was there before the fork.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter))?;
            Ok(())
        })
    }
}
