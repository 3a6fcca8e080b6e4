//! The options of level `SOL_SOCKET` (`socket(7)`): kept for every family, in Linux's order of errors.

use super::core_state::{RECEIVE_MAX, SEND_MAX};
use super::{Core, SockCtx, SocketOps, af, flag, sock};
use crate::abi::{Errno, Result, linux};
use crate::cred::cap;
use crate::mm::UserPtr;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Smallest buffers (`SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`).
const MIN_SEND: u32 = 4608;
const MIN_RECEIVE: u32 = 2304;

/// The numbers of the options (`asm-generic/socket.h`).
#[allow(missing_docs)]
pub mod so {
    pub const DEBUG: u32 = 1;
    pub const REUSEADDR: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const DONTROUTE: u32 = 5;
    pub const BROADCAST: u32 = 6;
    pub const SNDBUF: u32 = 7;
    pub const RCVBUF: u32 = 8;
    pub const KEEPALIVE: u32 = 9;
    pub const OOBINLINE: u32 = 10;
    pub const NO_CHECK: u32 = 11;
    pub const PRIORITY: u32 = 12;
    pub const LINGER: u32 = 13;
    pub const BSDCOMPAT: u32 = 14;
    pub const REUSEPORT: u32 = 15;
    pub const PASSCRED: u32 = 16;
    pub const PEERCRED: u32 = 17;
    pub const RCVLOWAT: u32 = 18;
    pub const SNDLOWAT: u32 = 19;
    pub const RCVTIMEO: u32 = 20;
    pub const SNDTIMEO: u32 = 21;
    pub const BINDTODEVICE: u32 = 25;
    pub const ATTACH_FILTER: u32 = 26;
    pub const DETACH_FILTER: u32 = 27;
    pub const PEERNAME: u32 = 28;
    pub const TIMESTAMP: u32 = 29;
    pub const ACCEPTCONN: u32 = 30;
    pub const SNDBUFFORCE: u32 = 32;
    pub const RCVBUFFORCE: u32 = 33;
    pub const PASSSEC: u32 = 34;
    pub const TIMESTAMPNS: u32 = 35;
    pub const MARK: u32 = 36;
    pub const TIMESTAMPING: u32 = 37;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
    pub const RXQ_OVFL: u32 = 40;
    pub const WIFI_STATUS: u32 = 41;
    pub const PEEK_OFF: u32 = 42;
    pub const NOFCS: u32 = 43;
    pub const LOCK_FILTER: u32 = 44;
    pub const SELECT_ERR_QUEUE: u32 = 45;
    pub const BUSY_POLL: u32 = 46;
    pub const MAX_PACING_RATE: u32 = 47;
    pub const BPF_EXTENSIONS: u32 = 48;
    pub const INCOMING_CPU: u32 = 49;
    pub const ATTACH_BPF: u32 = 50;
    pub const ATTACH_REUSEPORT_CBPF: u32 = 51;
    pub const ATTACH_REUSEPORT_EBPF: u32 = 52;
    pub const CNX_ADVICE: u32 = 53;
    pub const MEMINFO: u32 = 55;
    pub const INCOMING_NAPI_ID: u32 = 56;
    pub const COOKIE: u32 = 57;
    pub const PEERGROUPS: u32 = 59;
    pub const ZEROCOPY: u32 = 60;
    pub const TXTIME: u32 = 61;
    pub const BINDTOIFINDEX: u32 = 62;
    pub const TIMESTAMP_NEW: u32 = 63;
    pub const TIMESTAMPNS_NEW: u32 = 64;
    pub const TIMESTAMPING_NEW: u32 = 65;
    pub const RCVTIMEO_NEW: u32 = 66;
    pub const SNDTIMEO_NEW: u32 = 67;
    pub const DETACH_REUSEPORT_BPF: u32 = 68;
    pub const PREFER_BUSY_POLL: u32 = 69;
    pub const BUSY_POLL_BUDGET: u32 = 70;
    pub const NETNS_COOKIE: u32 = 71;
    pub const BUF_LOCK: u32 = 72;
    pub const RESERVE_MEM: u32 = 73;
    pub const TXREHASH: u32 = 74;
    pub const RCVMARK: u32 = 75;
    pub const PASSPIDFD: u32 = 76;
    pub const DEVMEM_DONTNEED: u32 = 80;
    pub const RCVPRIORITY: u32 = 82;
    pub const PEERPIDFD: u32 = 77;
    pub const PASSRIGHTS: u32 = 83;
    /// Those whose value is the descriptor of a program.
    pub const TAKES_PROGRAM: [u32; 2] = [ATTACH_BPF, ATTACH_REUSEPORT_EBPF];
}

/// An option's value where the guest has it.
#[derive(Clone, Copy)]
pub struct OptionValue {
    /// Its address.
    pub at: UserPtr<u8>,
    /// Its bytes.
    pub len: u32,
}

impl OptionValue {
    /// As an `int`.
    ///
    /// # Errors
    /// `EINVAL` if it is shorter, `EFAULT`.
    pub fn int(&self) -> Result<i32> {
        if self.len < 4 { Err(Errno::EINVAL) } else { self.at.cast::<i32>().read() }
    }

    /// As an `int`, or a single byte where it is shorter (options of level `IPPROTO_IP`).
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn int_or_byte(&self) -> Result<i32> {
        match self.len {
            0 => Ok(0),
            1..4 => Ok(i32::from(self.at.read()?)),
            _ => self.at.cast::<i32>().read(),
        }
    }

    /// Its first `N` bytes.
    ///
    /// # Errors
    /// `EINVAL` if there are fewer, `EFAULT`.
    pub fn array<const N: usize>(&self) -> Result<[u8; N]> {
        if (self.len as usize) < N { Err(Errno::EINVAL) } else { self.at.cast::<[u8; N]>().read() }
    }

    /// Its bytes, at most `max`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn bytes(&self, max: usize) -> Result<Vec<u8>> {
        self.at.slice((self.len as usize).min(max)).read_vec()
    }
}

/// Options that are just on or off.
fn simple_flag(option: u32) -> Option<u64> {
    match option {
        so::REUSEADDR => Some(flag::REUSEADDR),
        so::DONTROUTE => Some(flag::DONTROUTE),
        so::BROADCAST => Some(flag::BROADCAST),
        so::KEEPALIVE => Some(flag::KEEPALIVE),
        so::OOBINLINE => Some(flag::OOBINLINE),
        so::NO_CHECK => Some(flag::NO_CHECK),
        so::RXQ_OVFL => Some(flag::RXQ_OVFL),
        so::SELECT_ERR_QUEUE => Some(flag::SELECT_ERR_QUEUE),
        so::WIFI_STATUS => Some(flag::WIFI_STATUS),
        so::NOFCS => Some(flag::NOFCS),
        so::RCVMARK => Some(flag::RCVMARK),
        so::RCVPRIORITY => Some(flag::RCVPRIORITY),
        _ => None,
    }
}

pub(super) fn is_inet(core: &Core) -> bool {
    matches!(core.family, af::INET | af::INET6)
}

/// Sets an option of `SOL_SOCKET` that all families have; `None` if there is no such one.
///
/// # Errors
/// `EINVAL`, `EPERM`, `EDOM`, `EFAULT` …
pub fn set_common(ctx: &SockCtx<'_>, ops: &dyn SocketOps, option: u32, value: OptionValue) -> Option<Result> {
    let core = ops.core();
    if option == so::BINDTODEVICE {
        return Some(bind_to_device(ctx, core, value));
    }
    let int = match value.int() {
        Ok(int) => int,
        Err(e) => return Some(Err(e)),
    };
    let outcome = match simple_flag(option) {
        Some(flag) => {
            core.set(flag, int != 0);
            Ok(())
        }
        None if matches!(option, so::TIMESTAMPING | so::TIMESTAMPING_NEW) => {
            core.set_timestamping(int, ops.listening() || ops.peer_addr().is_err(), ops.sent())
        }
        None => match core.set_filter_option(option, int, value) {
            Some(outcome) => outcome,
            None => set_number(ctx, core, option, int, value)?,
        },
    };
    if outcome.is_ok() {
        ops.option_changed(option);
    }
    Some(outcome)
}

fn set_number(ctx: &SockCtx<'_>, core: &Core, option: u32, int: i32, value: OptionValue) -> Option<Result> {
    let cred = ctx.op.cred;
    let admin = core.ns.may(cred, cap::NET_ADMIN);
    let raw_or_admin = admin || core.ns.may(cred, cap::NET_RAW);
    let machine_admin = cred.capable(cap::NET_ADMIN);
    Some(match option {
        so::DEBUG if int != 0 && !machine_admin => Err(Errno::EACCES),
        so::DEBUG => keep_flag(core, flag::DEBUG, int),
        so::SNDBUF => set_buffer(core, 1, (int as u32).min(SEND_MAX.get() as u32)),
        so::RCVBUF => set_buffer(core, 2, (int as u32).min(RECEIVE_MAX.get() as u32)),
        so::SNDBUFFORCE | so::RCVBUFFORCE if !admin => Err(Errno::EPERM),
        so::SNDBUFFORCE => set_buffer(core, 1, int.max(0) as u32),
        so::RCVBUFFORCE => set_buffer(core, 2, int.max(0) as u32),
        so::PRIORITY if !(0..=6).contains(&int) && !raw_or_admin => Err(Errno::EPERM),
        so::PRIORITY => keep(&core.priority, int),
        so::LINGER => value.array::<8>().map(|b| {
            let word = |at: usize| i32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            core.set_linger(word(0) != 0, word(4));
        }),
        so::BSDCOMPAT => Ok(()),
        so::REUSEPORT if int != 0 && !is_inet(core) => Err(Errno::EOPNOTSUPP),
        so::REUSEPORT => keep_flag(core, flag::REUSEPORT, int),
        so::RCVLOWAT => keep(&core.low_water, if int < 0 { i32::MAX } else { int.max(1) }),
        so::RCVTIMEO | so::RCVTIMEO_NEW => set_timeout(core, 0, value),
        so::SNDTIMEO | so::SNDTIMEO_NEW => set_timeout(core, 1, value),
        so::CNX_ADVICE => Ok(()),
        // Local sockets have their own.
        so::PASSCRED | so::PASSSEC | so::PASSPIDFD | so::PASSRIGHTS if core.family == af::UNIX => return None,
        so::PASSCRED | so::PASSSEC | so::PASSPIDFD | so::PASSRIGHTS if !may_pass(core, option) => {
            Err(Errno::EOPNOTSUPP)
        }
        so::PASSCRED => keep_flag(core, flag::PASSCRED, int),
        so::PASSSEC => keep_flag(core, flag::PASSSEC, int),
        so::RESERVE_MEM if int < 0 => Err(Errno::EINVAL),
        so::RESERVE_MEM => Err(Errno::EOPNOTSUPP),
        so::TIMESTAMP | so::TIMESTAMP_NEW => {
            core.set(flag::TIMESTAMPNS, false);
            keep_flag(core, flag::TIMESTAMP, int)
        }
        so::TIMESTAMPNS | so::TIMESTAMPNS_NEW => {
            core.set(flag::TIMESTAMP, false);
            keep_flag(core, flag::TIMESTAMPNS, int)
        }
        so::TXTIME => core.set_txtime(cred, &core.ns, value),
        // No data of devices is ever lent.
        so::DEVMEM_DONTNEED if !is_tcp(core) => Err(Errno::EBADF),
        so::DEVMEM_DONTNEED if !value.len.is_multiple_of(8) || value.len > 1024 => Err(Errno::EINVAL),
        so::DEVMEM_DONTNEED => Ok(()),
        so::MARK if !raw_or_admin => Err(Errno::EPERM),
        so::MARK => keep(&core.mark, int),
        so::PEEK_OFF if !peeks_at(core) => Err(Errno::EOPNOTSUPP),
        so::PEEK_OFF => {
            core.peek_offset.store(int, Relaxed);
            Ok(())
        }
        so::BUSY_POLL if int < 0 => Err(Errno::EINVAL),
        so::BUSY_POLL => keep_signed(core, 0, int),
        so::PREFER_BUSY_POLL if int != 0 && !admin => Err(Errno::EPERM),
        so::PREFER_BUSY_POLL => keep_flag(core, flag::PREFER_BUSY_POLL, int),
        so::BUSY_POLL_BUDGET if int > core.rare().kept[1].load(Relaxed) && !admin => Err(Errno::EPERM),
        so::BUSY_POLL_BUDGET if !(0..=0xffff).contains(&int) => Err(Errno::EINVAL),
        so::BUSY_POLL_BUDGET => keep_signed(core, 1, int),
        so::MAX_PACING_RATE => {
            let rate = if value.len >= 8 { value.at.cast::<u64>().read() } else { Ok(u64::from(int as u32)) };
            rate.map(|r| core.rare_mut().pacing.store(if r == u64::from(u32::MAX) { u64::MAX } else { r }, Relaxed))
        }
        so::INCOMING_CPU => keep_signed(core, 2, int),
        so::ZEROCOPY if !is_inet(core) || !peeks_at(core) => Err(Errno::EOPNOTSUPP),
        so::ZEROCOPY if !(0..=1).contains(&int) => Err(Errno::EINVAL),
        so::ZEROCOPY => keep_flag(core, flag::ZEROCOPY, int),
        so::BINDTOIFINDEX => bind_to_index(ctx, core, int),
        so::BUF_LOCK if int & !3 != 0 => Err(Errno::EINVAL),
        so::BUF_LOCK => keep(&core.locks, int),
        so::TXREHASH if !is_tcp(core) => Err(Errno::EOPNOTSUPP),
        so::TXREHASH if !(-1..=1).contains(&int) => Err(Errno::EINVAL),
        // What -1 stands for is on.
        so::TXREHASH => keep_signed(core, 3, int.abs()),
        _ => return None,
    })
}

/// Whether the kind of socket has `SO_PEEK_OFF`: raw and ping sockets do not.
fn peeks_at(core: &Core) -> bool {
    match core.family {
        af::UNIX => true,
        af::INET | af::INET6 => match core.kind {
            sock::STREAM => true,
            sock::DGRAM => matches!(core.protocol, 17 | 136),
            _ => false,
        },
        _ => false,
    }
}

fn is_tcp(core: &Core) -> bool {
    is_inet(core) && core.kind == sock::STREAM
}

/// Whether the family passes what `SO_PASSCRED` and its siblings are about (`sk_may_scm_recv`).
fn may_pass(core: &Core, option: u32) -> bool {
    match option {
        so::PASSCRED | so::PASSSEC => core.family == af::NETLINK,
        _ => false,
    }
}

fn keep(word: &core::sync::atomic::AtomicU32, int: i32) -> Result {
    word.store(int as u32, Relaxed);
    Ok(())
}

fn keep_flag(core: &Core, flag: u64, int: i32) -> Result {
    core.set(flag, int != 0);
    Ok(())
}

fn keep_signed(core: &Core, which: usize, int: i32) -> Result {
    core.rare_mut().kept[which].store(int, Relaxed);
    Ok(())
}

/// Linux doubles what was asked for, to make room for its own bookkeeping.
fn set_buffer(core: &Core, which: u32, bytes: u32) -> Result {
    let doubled = bytes.min(i32::MAX as u32 / 2) * 2;
    core.locks.fetch_or(which, Relaxed);
    if which == 1 {
        core.send_buffer.store(doubled.max(MIN_SEND), Relaxed);
    } else {
        core.receive_buffer.store(doubled.max(MIN_RECEIVE), Relaxed);
    }
    Ok(())
}

fn set_timeout(core: &Core, which: usize, value: OptionValue) -> Result {
    if value.len < 16 {
        return Err(Errno::EINVAL);
    }
    let t = value.at.cast::<linux::timeval>().read()?;
    if !(0..1_000_000).contains(&t.tv_usec) {
        return Err(Errno::EDOM);
    }
    let ns = match (t.tv_sec, t.tv_usec) {
        // A time in the past: not to wait at all.
        (..0, _) => Some(0),
        (0, 0) => None,
        (s, us) => Some((s as u64).saturating_mul(1_000_000_000).saturating_add(us as u64 * 1000)),
    };
    core.set_timeout(which, ns.filter(|&n| n < u64::MAX));
    Ok(())
}

fn bind_to_device(ctx: &SockCtx<'_>, core: &Core, value: OptionValue) -> Result {
    if value.len > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let name = value.bytes(15)?;
    let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
    let index = match name {
        b"" => 0,
        b"lo" => 1,
        _ => return Err(Errno::ENODEV),
    };
    bind_to_index(ctx, core, index)
}

fn bind_to_index(ctx: &SockCtx<'_>, core: &Core, index: i32) -> Result {
    if core.device.load(Relaxed) != 0 && !core.ns.may(ctx.op.cred, cap::NET_RAW) {
        return Err(Errno::EPERM);
    }
    if index < 0 {
        return Err(Errno::EINVAL);
    }
    keep(&core.device, index)
}

fn number(n: i32) -> Vec<u8> {
    n.to_ne_bytes().to_vec()
}

/// The value of an option of `SOL_SOCKET` that all families have; `None` if there is no such one.
///
/// # Errors
/// `EINVAL`, `ENOTCONN` …
pub fn get_common(ops: &dyn SocketOps, option: u32, room: usize) -> Option<Result<Vec<u8>>> {
    let core = ops.core();
    if let Some(flag) = simple_flag(option) {
        return Some(Ok(number(i32::from(core.has(flag)))));
    }
    let on = |flag: u64| number(i32::from(core.has(flag)));
    let word = |w: &core::sync::atomic::AtomicU32| number(w.load(Relaxed) as i32);
    let value = match option {
        so::DEBUG => on(flag::DEBUG),
        so::REUSEPORT => on(flag::REUSEPORT),
        so::TYPE => number(i32::from(core.kind)),
        so::ERROR => number(core.take_error() as i32),
        so::SNDBUF => word(&core.send_buffer),
        so::RCVBUF => word(&core.receive_buffer),
        so::PRIORITY => word(&core.priority),
        so::LINGER => {
            let (on, seconds) = core.linger_raw();
            [i32::from(on), seconds].iter().flat_map(|n| n.to_ne_bytes()).collect()
        }
        so::BSDCOMPAT | so::INCOMING_NAPI_ID | so::RESERVE_MEM => number(0),
        so::LOCK_FILTER => on(flag::LOCK_FILTER),
        so::PREFER_BUSY_POLL => on(flag::PREFER_BUSY_POLL),
        so::BPF_EXTENSIONS => number(64),
        so::PASSCRED | so::PASSSEC | so::PASSPIDFD | so::PASSRIGHTS if !may_pass(core, option) => {
            return Some(Err(Errno::EOPNOTSUPP));
        }
        so::PASSCRED => on(flag::PASSCRED),
        so::PASSSEC => on(flag::PASSSEC),
        so::PEERGROUPS | so::PEERPIDFD => return Some(Err(Errno::ENODATA)),
        so::PEERCRED => [0, u32::MAX, u32::MAX].iter().flat_map(|n| n.to_ne_bytes()).collect(),
        so::RCVLOWAT => word(&core.low_water),
        so::SNDLOWAT => number(1),
        so::RCVTIMEO | so::SNDTIMEO | so::RCVTIMEO_NEW | so::SNDTIMEO_NEW => {
            let which = usize::from(matches!(option, so::SNDTIMEO | so::SNDTIMEO_NEW));
            let ns = core.timeout(which).unwrap_or(0);
            [ns / 1_000_000_000, ns % 1_000_000_000 / 1000].iter().flat_map(|n| n.to_ne_bytes()).collect()
        }
        so::BINDTODEVICE if core.device.load(Relaxed) == 0 => Vec::new(),
        so::BINDTODEVICE if room < 16 => return Some(Err(Errno::EINVAL)),
        so::BINDTODEVICE => b"lo\0".to_vec(),
        so::BINDTOIFINDEX => word(&core.device),
        so::PEERNAME => return Some(peer_name(ops, room)),
        so::TIMESTAMP | so::TIMESTAMP_NEW => on(flag::TIMESTAMP),
        so::TIMESTAMPNS | so::TIMESTAMPNS_NEW => on(flag::TIMESTAMPNS),
        so::ACCEPTCONN => number(i32::from(ops.listening())),
        so::TIMESTAMPING | so::TIMESTAMPING_NEW => {
            // The index of a hardware clock follows.
            [core.timestamping.load(Relaxed), 0].iter().flat_map(|n| n.to_ne_bytes()).collect()
        }
        so::TXTIME => core.rare().txtime.load(Relaxed).to_ne_bytes().to_vec(),
        so::MARK => word(&core.mark),
        so::PROTOCOL => number(core.protocol as i32),
        so::DOMAIN => number(i32::from(core.family)),
        so::PEEK_OFF if !peeks_at(core) => return Some(Err(Errno::EOPNOTSUPP)),
        so::PEEK_OFF => number(core.peek_offset.load(Relaxed)),
        so::BUSY_POLL => number(core.rare().kept[0].load(Relaxed)),
        so::INCOMING_CPU => number(core.rare().kept[2].load(Relaxed)),
        so::TXREHASH if !is_tcp(core) => return Some(Err(Errno::EOPNOTSUPP)),
        so::TXREHASH => number(core.rare().kept[3].load(Relaxed)),
        so::MAX_PACING_RATE if room >= 8 => core.rare().pacing.load(Relaxed).to_ne_bytes().to_vec(),
        so::MAX_PACING_RATE => number(core.rare().pacing.load(Relaxed).min(u64::from(u32::MAX)) as i32),
        so::MEMINFO => meminfo(core),
        so::COOKIE if room < 8 => return Some(Err(Errno::EINVAL)),
        so::NETNS_COOKIE if room != 8 => return Some(Err(Errno::EINVAL)),
        so::COOKIE => core.cookie.to_ne_bytes().to_vec(),
        so::NETNS_COOKIE => 1u64.to_ne_bytes().to_vec(),
        so::ZEROCOPY => on(flag::ZEROCOPY),
        so::BUF_LOCK => word(&core.locks),
        _ => return None,
    };
    Some(Ok(value))
}

/// `SK_MEMINFO_*`: what is not counted is 0.
fn meminfo(core: &Core) -> Vec<u8> {
    let mut words = [0u32; 9];
    words[1] = core.receive_buffer.load(Relaxed);
    words[3] = core.send_buffer.load(Relaxed);
    words.iter().flat_map(|n| n.to_ne_bytes()).collect()
}

fn peer_name(ops: &dyn SocketOps, room: usize) -> Result<Vec<u8>> {
    let peer = ops.peer_addr().map_err(|_| Errno::ENOTCONN)?;
    if peer.len() < room {
        return Err(Errno::EINVAL);
    }
    Ok(peer.bytes().to_vec())
}
