//! When data arrived and is to leave: `SO_TIMESTAMP`, `SO_TIMESTAMPING` (`Documentation/networking/timestamping.rst`),
//! `SO_TXTIME`.

use super::{Core, OptionValue, RecvMsg, SOL_SOCKET, flag, so, sock};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::net::NetNamespace;
use crate::time;
use core::sync::atomic::Ordering::Relaxed;

/// `SOF_TIMESTAMPING_*`: all that there are.
const ALL: i32 = 0x7_ffff;
/// When packets leave, which nobody notes.
const SENT: i32 = 1 << 1 | 1 << 8 | 1 << 9 | 1 << 18;
/// When they arrive, noted by the kernel; and that these notes are told.
const RECEIVED: i32 = 1 << 3;
const SOFTWARE: i32 = 1 << 4;
const OPT_ID: i32 = 1 << 7;
const OPT_TSONLY: i32 = 1 << 11;
const OPT_STATS: i32 = 1 << 12;
const BIND_PHC: i32 = 1 << 15;
const OPT_ID_TCP: i32 = 1 << 16;
const OPT_RX_FILTER: i32 = 1 << 17;
/// `SOF_TXTIME_*`.
const TXTIME_FLAGS: u32 = 3;
/// `CLOCK_MONOTONIC` and `CLOCK_TAI`, the first and last of those that may be named.
const CLOCKS: [u32; 3] = [0, 1, 11];

impl Core {
    /// Sets `SO_TIMESTAMPING` (`sock_set_timestamping`).
    pub(super) fn set_timestamping(&self, int: i32, idle_stream: bool) -> Result {
        let stream = self.kind == sock::STREAM && super::options::is_inet(self);
        let old = self.timestamping.load(Relaxed);
        if int & !ALL != 0
            || int & OPT_ID_TCP != 0 && int & OPT_ID == 0
            || int & OPT_ID != 0 && old & OPT_ID == 0 && stream && idle_stream
            || int & OPT_STATS != 0 && int & OPT_TSONLY == 0
        {
            return Err(Errno::EINVAL);
        }
        // There is no hardware clock to bind to, and nothing notes when packets leave.
        if int & (BIND_PHC | SENT) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.timestamping.store(int, Relaxed);
        Ok(())
    }

    /// Sets `SO_TXTIME`: without a queue that goes by it, the time of a packet has no effect.
    pub(super) fn set_txtime(&self, cred: &Cred, ns: &NetNamespace, value: OptionValue) -> Result {
        if value.len != 8 {
            return Err(Errno::EINVAL);
        }
        let b = value.array::<8>()?;
        let (clock, flags) =
            (u32::from_ne_bytes([b[0], b[1], b[2], b[3]]), u32::from_ne_bytes([b[4], b[5], b[6], b[7]]));
        if flags & !TXTIME_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        if clock != CLOCKS[1] && !ns.may(cred, cap::NET_ADMIN) {
            return Err(Errno::EPERM);
        }
        if !CLOCKS.contains(&clock) {
            return Err(Errno::EINVAL);
        }
        self.rare_mut().txtime.store(u64::from_ne_bytes(b), Relaxed);
        self.set(flag::TXTIME, true);
        Ok(())
    }

    /// Whether somebody wants to know when data arrives.
    pub fn notes_arrival(&self) -> bool {
        self.has(flag::TIMESTAMP | flag::TIMESTAMPNS) || self.timestamping.load(Relaxed) & RECEIVED != 0
    }

    /// Tells when data arrived, ns since the epoch; 0: nobody noted it (`__sock_recv_timestamp`).
    pub fn tell_arrival(&self, at: i64, out: &mut RecvMsg) {
        let parts = |at: i64, unit: i64| {
            let mut b = [0u8; 48];
            b[..8].copy_from_slice(&(at / time::SECOND).to_ne_bytes());
            b[8..16].copy_from_slice(&(at % time::SECOND / unit).to_ne_bytes());
            b
        };
        if self.has(flag::TIMESTAMP | flag::TIMESTAMPNS) {
            let at = if at == 0 { time::now() } else { at };
            let nano = self.has(flag::TIMESTAMPNS);
            let kind = if nano { so::TIMESTAMPNS } else { so::TIMESTAMP };
            out.push_control(SOL_SOCKET, kind, &parts(at, if nano { 1 } else { 1000 })[..16]);
        }
        let asked = self.timestamping.load(Relaxed);
        let told = asked & SOFTWARE != 0 && (asked & OPT_RX_FILTER == 0 || asked & RECEIVED != 0);
        if told && at != 0 {
            out.push_control(SOL_SOCKET, so::TIMESTAMPING, &parts(at, 1));
        }
    }
}
