//! Options of the host's sockets. The kernel keeps the timeouts, since it is who waits.

use super::HostSocket;
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::host::net;
use crate::mm::user::range_ok;
use crate::mm::{UserPtr, UserSlice};
use crate::net::socket::{OptionValue, SOL_SOCKET, SockCtx, set_common, so};
use core::sync::atomic::Ordering::Relaxed;

/// Room for the values that are looked at, bytes.
const OWN: usize = 64;
/// Most instructions of a program (`BPF_MAXINSNS`).
const MOST_INSNS: usize = 4096;
/// `SOL_IP`, `SOL_TCP`, `SOL_IPV6`.
const SOL_IP: u32 = 0;
const SOL_TCP: u32 = 6;
const SOL_IPV6: u32 = 41;
/// `TCP_ZEROCOPY_RECEIVE`: its value holds addresses, and its socket would have to be mapped.
const ZEROCOPY_RECEIVE: u32 = 35;
/// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`.
const IP_TRANSPARENT: u32 = 19;
const IPV6_TRANSPARENT: u32 = 75;
/// The highest `SO_PRIORITY` for everybody.
const FREE_PRIORITY: i32 = 6;

/// Whether the kernel has it.
pub fn is_timeout(level: u32, option: u32) -> bool {
    level == SOL_SOCKET && matches!(option, so::RCVTIMEO | so::SNDTIMEO | so::RCVTIMEO_NEW | so::SNDTIMEO_NEW)
}

/// Whether its value concerns the kernel.
fn looked_at(level: u32, option: u32) -> bool {
    match level {
        SOL_SOCKET => matches!(option, so::MARK | so::DEBUG | so::PRIORITY | so::LINGER | so::RCVLOWAT),
        SOL_IP => option == IP_TRANSPARENT,
        SOL_IPV6 => option == IPV6_TRANSPARENT,
        _ => false,
    }
}

/// Whether it takes a capability that the host's process may have although the guest has not.
fn is_privileged(level: u32, option: u32, value: &[u8]) -> bool {
    let int = value.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
    match (level, option) {
        (SOL_SOCKET, so::MARK | so::DEBUG) | (SOL_IP, IP_TRANSPARENT) | (SOL_IPV6, IPV6_TRANSPARENT) => int != 0,
        (SOL_SOCKET, so::PRIORITY) => !(0..=FREE_PRIORITY).contains(&int),
        _ => false,
    }
}

/// `setsockopt(2)`.
pub fn set(it: &HostSocket, ctx: &SockCtx<'_>, level: u32, option: u32, value: OptionValue) -> Result {
    if is_timeout(level, option) {
        return set_common(ctx, it, option, value).unwrap_or(Err(Errno::ENOPROTOOPT));
    }
    let fd = it.fd.raw();
    if level == SOL_SOCKET && matches!(option, so::ATTACH_FILTER | so::ATTACH_REUSEPORT_CBPF) {
        return attach(fd, option, value);
    }
    if level == SOL_SOCKET && so::TAKES_PROGRAM.contains(&option) {
        // There are no programs to have a descriptor of.
        value.int()?;
        return Err(Errno::EBADF);
    }
    let (at, len) = (value.at.addr(), value.len);
    if !range_ok(at, u64::from(len)) {
        return Err(Errno::EFAULT);
    }
    let ns = &it.core.ns;
    let mut own = [0; OWN];
    if looked_at(level, option) && (4..=OWN as u32).contains(&len) {
        // What was looked at is what the host is given.
        let own = &mut own[..len as usize];
        value.at.slice(own.len()).read_into(own)?;
        if is_privileged(level, option, own)
            && !ns.may(ctx.op.cred, cap::NET_ADMIN)
            && !ns.may(ctx.op.cred, cap::NET_RAW)
        {
            return Err(Errno::EPERM);
        }
        net::set_option(fd, level, option, own)?;
        keep(it, option, own);
        return Ok(());
    }
    net::set_option_at(fd, level, option, at, len)
}

/// Takes note of an option that the kernel acts by, too.
fn keep(it: &HostSocket, option: u32, value: &[u8]) {
    let word = |at: usize| value.get(at..at + 4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    match option {
        so::LINGER => it.lingers.store(word(0) != 0 && word(4) != 0, Relaxed),
        so::RCVLOWAT => {
            let low = if word(0) < 0 { i32::MAX } else { word(0).max(1) };
            it.core.low_water.store(low as u32, Relaxed);
        }
        _ => {}
    }
}

/// `struct sock_fprog`, made of a program that lies with the kernel.
fn attach(fd: i32, option: u32, value: OptionValue) -> Result {
    if value.len != 16 {
        return Err(Errno::EINVAL);
    }
    let [len, at] = value.at.cast::<[u64; 2]>().read()?;
    let count = usize::from(len as u16);
    if count == 0 || count > MOST_INSNS {
        return Err(Errno::EINVAL);
    }
    let program: UserSlice<u8> = UserPtr::<u8>::new(at).slice(count * 8);
    let program = program.read_vec()?;
    let mut own = [0; 16];
    own[..2].copy_from_slice(&(count as u16).to_ne_bytes());
    own[8..].copy_from_slice(&(program.as_ptr() as u64).to_ne_bytes());
    net::set_option(fd, SOL_SOCKET, option, &own)
}

/// `getsockopt(2)`: the host puts the value where the guest wants it; its length.
pub fn get(it: &HostSocket, level: u32, option: u32, at: UserPtr<u8>, room: u32) -> Result<u32> {
    if (level, option) == (SOL_TCP, ZEROCOPY_RECEIVE) {
        return Err(Errno::EOPNOTSUPP);
    }
    // The room for a program is a number of instructions.
    let unit = if level == SOL_SOCKET && option == so::ATTACH_FILTER { 8 } else { 1 };
    if room <= i32::MAX as u32 && !range_ok(at.addr(), u64::from(room) * unit) {
        return Err(Errno::EFAULT);
    }
    net::get_option(it.fd.raw(), level, option, at.addr(), room)
}

/// Has the host close it without waiting.
pub fn stop_lingering(fd: i32) -> Result {
    net::set_option(fd, SOL_SOCKET, so::LINGER, &[0; 8])
}
