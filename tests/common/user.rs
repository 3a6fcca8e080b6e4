//! An ordinary user: no capability, no user namespace, no ptrace.

use super::bpf::{ALLOW, sock_filter};
use nix::errno::Errno;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Nobody.
const UID: u32 = 65534;

fn stmt(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// An outer filter as container runtimes have one. What a guest's kernel answers by itself, the host may do for
/// the program that it is compared with.
fn filter(native: bool) -> Vec<sock_filter> {
    let error = |errno: i32| stmt(0x06, libc::SECCOMP_RET_ERRNO | errno as u32);
    let mut program = vec![stmt(0x20, 0)];
    let always = [libc::SYS_unshare, libc::SYS_setns, libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd];
    let to_us =
        [libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_mount, libc::SYS_umount2];
    for &nr in always.iter().chain(to_us.iter().filter(|_| !native)) {
        program.extend([sock_filter { code: 0x15, jt: 0, jf: 1, k: nr as u32 }, error(libc::EPERM)]);
    }
    program.extend([
        sock_filter { code: 0x15, jt: 0, jf: 3, k: libc::SYS_clone as u32 },
        stmt(0x20, 16),
        sock_filter { code: 0x45, jt: 0, jf: 1, k: libc::CLONE_NEWUSER as u32 },
        error(libc::EPERM),
        stmt(0x06, ALLOW),
    ]);
    program
}

/// The command will run as such a user; `native`: as what a guest is compared with. Who is no root already keeps
/// their own ids.
pub fn ordinary(command: &mut Command, native: bool) {
    let root = nix::unistd::geteuid().is_root();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
    let program = filter(native);
    // SAFETY: the child makes system calls with memory that was there before the fork.
    unsafe { command.pre_exec(move || drop_all(root, &program)) };
}

/// # Safety
/// For the child of a fork, before exec.
unsafe fn drop_all(root: bool, program: &[sock_filter]) -> io::Result<()> {
    // SAFETY: numbers, and memory that outlives the calls.
    unsafe {
        if root {
            // Ends with EINVAL behind the last capability.
            for capability in 0..64 {
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            Errno::result(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
            Errno::result(libc::syscall(libc::SYS_setresgid, UID, UID, UID))?;
            Errno::result(libc::syscall(libc::SYS_setresuid, UID, UID, UID))?;
        }
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter))?;
    }
    Ok(())
}
