//! When data arrived and is to leave: `SO_TIMESTAMP`, `SO_TIMESTAMPING` (`Documentation/networking/timestamping.rst`),
//! `SO_TXTIME`.

use super::{Core, OptionValue, RecvMsg, SOL_SOCKET, flag, so, sock};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, cap};
use crate::mm::UserPtr;
use crate::net::NetNamespace;
use crate::time;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `SOF_TIMESTAMPING_*`: all that there are.
const ALL: i32 = 0x7_ffff;
/// When packets leave, noted where they are queued, where the interface has them, and where a stream's peer has the data.
const LEFT: i32 = 1 << 1;
const QUEUED: i32 = 1 << 8;
const ACKNOWLEDGED: i32 = 1 << 9;
/// What may be asked for one packet (`SOF_TIMESTAMPING_TX_RECORD_MASK`).
pub const RECORDS: i32 = 1 | LEFT | QUEUED | ACKNOWLEDGED | 1 << 18;
/// Most notes of one socket.
const MOST_NOTED: usize = 256;
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

/// A note of when data left.
pub struct Sent {
    /// The packet, unless the program does without.
    pub data: Vec<u8>,
    /// `SCM_TSTAMP_*`.
    pub what: u32,
    /// The number of the send, or of its last byte in the stream.
    pub key: u32,
    at: i64,
}

/// A time as three `struct timespec` or the like, of which the first is told.
fn parts(at: i64, unit: i64) -> [u8; 48] {
    let mut b = [0u8; 48];
    b[..8].copy_from_slice(&(at / time::SECOND).to_ne_bytes());
    b[8..16].copy_from_slice(&(at % time::SECOND / unit).to_ne_bytes());
    b
}

impl Core {
    /// Whether there are such notes.
    pub fn has_sent(&self) -> bool {
        self.rare().sent_count.load(Relaxed) != 0
    }

    /// The first of them.
    pub fn take_sent(&self) -> Option<Sent> {
        if !self.has_sent() {
            return None;
        }
        let note = self.rare_mut().sent.lock().pop_front();
        if note.is_some() {
            self.rare_mut().sent_count.fetch_sub(1, Relaxed);
        }
        note
    }

    /// What is to be noted of a send; `own`: what it asks for itself. 0: nothing.
    pub fn notes_sending(&self, own: Option<i32>) -> i32 {
        let all = self.timestamping.load(Relaxed);
        own.map_or(all, |own| all & !RECORDS | own) & (LEFT | QUEUED | ACKNOWLEDGED)
    }

    /// The number of a datagram, where they are numbered.
    pub fn sent_key(&self) -> u32 {
        match self.timestamping.load(Relaxed) & OPT_ID {
            0 => 0,
            _ => self.rare_mut().sent_key.fetch_add(1, Relaxed),
        }
    }

    /// The number of the last byte of a stream that has sent so many.
    pub fn sent_key_at(&self, bytes: u64) -> u32 {
        match self.timestamping.load(Relaxed) & OPT_ID {
            0 => 0,
            _ => (bytes as u32).wrapping_sub(1).wrapping_sub(self.rare().sent_key.load(Relaxed)),
        }
    }

    /// Notes that data leaves now. `asked`: see [`Core::notes_sending`]; `packet` makes it as it is on the wire.
    pub fn note_sent(&self, asked: i32, key: u32, packet: impl Fn() -> Result<Vec<u8>>) {
        let stream = self.kind == sock::STREAM;
        for (bit, what) in [(QUEUED, 1), (LEFT, 0), (ACKNOWLEDGED, 2)] {
            if asked & bit == 0 || bit == ACKNOWLEDGED && !stream {
                continue;
            }
            let bare = self.timestamping.load(Relaxed) & OPT_TSONLY != 0;
            let Ok(data) = (if bare { Ok(Vec::new()) } else { packet() }) else { return };
            let rare = self.rare_mut();
            let mut notes = rare.sent.lock();
            if notes.len() >= MOST_NOTED || notes.try_reserve(1).is_err() {
                return;
            }
            notes.push_back(Sent { data, what, key, at: time::now() });
            rare.sent_count.fetch_add(1, Relaxed);
        }
    }

    /// Tells when the data of a note left, if the program wants that.
    pub fn tell_departure(&self, note: &Sent, out: &mut RecvMsg) {
        if self.timestamping.load(Relaxed) & SOFTWARE != 0 {
            out.push_control(SOL_SOCKET, so::TIMESTAMPING, &parts(note.at, 1));
        }
    }

    /// Sets `SO_TIMESTAMPING` (`sock_set_timestamping`).
    pub(super) fn set_timestamping(&self, int: i32, idle_stream: bool, sent: u64) -> Result {
        let stream = self.kind == sock::STREAM && super::options::is_inet(self);
        let old = self.timestamping.load(Relaxed);
        if int & !ALL != 0
            || int & OPT_ID_TCP != 0 && int & OPT_ID == 0
            || int & OPT_ID != 0 && old & OPT_ID == 0 && stream && idle_stream
            || int & OPT_STATS != 0 && int & OPT_TSONLY == 0
        {
            return Err(Errno::EINVAL);
        }
        // There is no hardware clock to bind to.
        if int & BIND_PHC != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if int & OPT_ID != 0 && old & OPT_ID == 0 {
            self.rare_mut().sent_key.store(sent as u32, Relaxed);
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
        self.has(flag::TIMESTAMP | flag::TIMESTAMPNS | flag::STAMPED) || self.timestamping.load(Relaxed) & RECEIVED != 0
    }

    /// When the last packet came (`SIOCGSTAMP`, `SIOCGSTAMPNS`): from the first such request on it is noted.
    ///
    /// # Errors
    /// `ENOENT` where none came since, `EFAULT`.
    pub fn tell_stamp(&self, arg: u64, nanoseconds: bool) -> Result {
        self.set(flag::STAMPED, true);
        let at = self.rare().stamp.load(Relaxed);
        if at < 0 {
            return Err(Errno::ENOENT);
        }
        let unit = if nanoseconds { 1 } else { 1000 };
        UserPtr::<[u64; 2]>::new(arg).write([at / time::SECOND, at % time::SECOND / unit].map(|n| n as u64))
    }

    /// A packet is received that came then, ns since the epoch; 0: nobody noted it.
    pub fn note_stamp(&self, at: i64) {
        if self.has(flag::STAMPED) && !self.has(flag::TIMESTAMP | flag::TIMESTAMPNS) {
            self.rare_mut().stamp.store(if at == 0 { time::now() } else { at }, Relaxed);
        }
    }

    /// Tells when data arrived, ns since the epoch; 0: nobody noted it (`__sock_recv_timestamp`).
    pub fn tell_arrival(&self, at: i64, out: &mut RecvMsg) {
        if self.has(flag::TIMESTAMP | flag::TIMESTAMPNS) {
            let at = if at == 0 { time::now() } else { at };
            let nano = self.has(flag::TIMESTAMPNS);
            let kind = if nano { so::TIMESTAMPNS } else { so::TIMESTAMP };
            out.push_control(SOL_SOCKET, kind, &parts(at, if nano { 1 } else { 1000 })[..16]);
        }
        self.note_stamp(at);
        let asked = self.timestamping.load(Relaxed);
        let told = asked & SOFTWARE != 0 && (asked & OPT_RX_FILTER == 0 || asked & RECEIVED != 0);
        if told && at != 0 {
            out.push_control(SOL_SOCKET, so::TIMESTAMPING, &parts(at, 1));
        }
    }
}
