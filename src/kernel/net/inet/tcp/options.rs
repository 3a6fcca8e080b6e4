//! The options of level `IPPROTO_TCP`: kept and readable, in Linux's order of errors (`do_tcp_setsockopt`).

use super::Tcp;
use crate::abi::{Errno, Result};
use crate::net::socket::{OptionValue, SockCtx, SocketOps};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// `TCP_*` (`linux/tcp.h`).
mod opt {
    pub const NODELAY: u32 = 1;
    pub const MAXSEG: u32 = 2;
    pub const CORK: u32 = 3;
    pub const KEEPIDLE: u32 = 4;
    pub const KEEPINTVL: u32 = 5;
    pub const KEEPCNT: u32 = 6;
    pub const SYNCNT: u32 = 7;
    pub const LINGER2: u32 = 8;
    pub const DEFER_ACCEPT: u32 = 9;
    pub const WINDOW_CLAMP: u32 = 10;
    pub const INFO: u32 = 11;
    pub const QUICKACK: u32 = 12;
    pub const CONGESTION: u32 = 13;
    pub const THIN_LINEAR_TIMEOUTS: u32 = 16;
    pub const THIN_DUPACK: u32 = 17;
    pub const USER_TIMEOUT: u32 = 18;
    pub const REPAIR: u32 = 19;
    pub const REPAIR_QUEUE: u32 = 20;
    pub const QUEUE_SEQ: u32 = 21;
    pub const REPAIR_OPTIONS: u32 = 22;
    pub const FASTOPEN: u32 = 23;
    pub const TIMESTAMP: u32 = 24;
    pub const NOTSENT_LOWAT: u32 = 25;
    pub const CC_INFO: u32 = 26;
    pub const SAVE_SYN: u32 = 27;
    pub const REPAIR_WINDOW: u32 = 29;
    pub const FASTOPEN_CONNECT: u32 = 30;
    pub const ULP: u32 = 31;
    pub const FASTOPEN_KEY: u32 = 33;
    pub const FASTOPEN_NO_COOKIE: u32 = 34;
    pub const INQ: u32 = 36;
    pub const SAVED_SYN: u32 = 28;
    pub const TX_DELAY: u32 = 37;
    pub const IS_MPTCP: u32 = 43;
    pub const RTO_MAX_MS: u32 = 44;
    pub const RTO_MIN_US: u32 = 45;
    pub const DELACK_MAX_US: u32 = 46;
}

/// Times are kept in ticks, ms (`CONFIG_HZ` is 250).
const TICK_MS: i32 = 4;
/// `TCP_WINDOW_CLAMP` of a connection.
const WINDOW: i32 = 65_536;
/// Numbers below this are kept in an array.
const KEPT: usize = 47;

/// Algorithms of congestion control that may be chosen by name.
const ALGORITHMS: [&str; 2] = ["cubic", "reno"];

/// Bytes of a key of `TCP_FASTOPEN_KEY`, of which there may be two.
const COOKIE_KEY: u32 = 16;

type Values = Mutex<Vec<(u8, i32)>>;

/// See the module: values by option number, as they were set.
pub struct TcpOptions {
    values: OnceBox<Values>,
    /// `TCP_FASTOPEN_KEY`.
    cookie_key: OnceBox<Mutex<Vec<u8>>>,
    algorithm: AtomicI32,
    /// The size of segments of the connection, bytes.
    pub(super) segment: AtomicI32,
    /// `TCP_CORK`, for those who send.
    corked: AtomicBool,
}

impl TcpOptions {
    /// Everything as Linux's defaults are.
    pub fn new() -> TcpOptions {
        TcpOptions {
            values: OnceBox::new(),
            cookie_key: OnceBox::new(),
            algorithm: AtomicI32::new(0),
            segment: AtomicI32::new(0),
            corked: AtomicBool::new(false),
        }
    }

    /// Those of a socket that `accept` gives.
    pub fn inherited(&self) -> TcpOptions {
        let values = self.values.get().map(|old| {
            let mut values = old.lock().clone();
            values.retain(|(o, _)| u32::from(*o) != opt::DEFER_ACCEPT);
            Box::new(Mutex::new(Level::Leaf, values))
        });
        TcpOptions {
            values: values.map_or_else(OnceBox::new, OnceBox::with_value),
            cookie_key: OnceBox::new(),
            algorithm: AtomicI32::new(self.algorithm.load(Relaxed)),
            segment: AtomicI32::new(0),
            corked: AtomicBool::new(self.is_corked()),
        }
    }

    /// `TCP_CORK`.
    pub(super) fn is_corked(&self) -> bool {
        self.corked.load(Relaxed)
    }

    /// `TCP_NOTSENT_LOWAT`: most bytes beyond the peer's window, if that is limited.
    pub(super) fn unsent_most(&self) -> Option<usize> {
        // What is below 0 reads as a very large number.
        self.get(opt::NOTSENT_LOWAT).filter(|&v| v > 0).map(|v| v as usize)
    }

    /// `TCP_WINDOW_CLAMP`: the largest window, if that is limited.
    pub(super) fn window_most(&self) -> Option<usize> {
        self.get(opt::WINDOW_CLAMP).filter(|&v| v > 0).map(|v| v as usize)
    }

    /// How long an attempt to connect takes that nobody answers, ns: retransmissions after 1, 2, 4 s and so on
    /// (`TCP_SYNCNT`), or `TCP_USER_TIMEOUT`.
    pub(super) fn connect_time(&self) -> u64 {
        let retries = self.get(opt::SYNCNT).unwrap_or(6).clamp(0, 20) as u32;
        let ms = match self.get(opt::USER_TIMEOUT).unwrap_or(0) {
            // A time-out is looked at when the first retransmission is due.
            ms @ 1.. => (ms as u64).max(1000),
            _ => ((1 << (retries + 1)) - 1) * 1000,
        };
        ms * 1_000_000
    }

    /// `TCP_DEFER_ACCEPT`, ns; `None`: connections are given out at once.
    pub(super) fn deferral(&self) -> Option<u64> {
        self.get(opt::DEFER_ACCEPT).filter(|&s| s > 0).map(|s| s as u64 * 1_000_000_000)
    }

    fn get(&self, option: u32) -> Option<i32> {
        self.values.get()?.lock().iter().find(|(o, _)| u32::from(*o) == option).map(|(_, v)| *v)
    }

    fn set(&self, option: u32, value: i32) -> Result {
        let mut values = self.values.get_or_init(|| Box::new(Mutex::new(Level::Leaf, Vec::new()))).lock();
        if let Some(entry) = values.iter_mut().find(|(o, _)| u32::from(*o) == option) {
            entry.1 = value;
            return Ok(());
        }
        values.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        debug_assert!((option as usize) < KEPT);
        values.push((option as u8, value));
        Ok(())
    }
}

/// Whether a value is one that an option takes.
fn valid(option: u32, value: i32) -> Result {
    let ok = match option {
        opt::MAXSEG => value == 0 || (88..=32767).contains(&value),
        opt::KEEPIDLE | opt::KEEPINTVL => (1..=32767).contains(&value),
        opt::KEEPCNT | opt::SYNCNT => (1..=127).contains(&value),
        opt::USER_TIMEOUT => value >= 0,
        opt::INQ | opt::FASTOPEN_CONNECT | opt::FASTOPEN_NO_COOKIE => (0..=1).contains(&value),
        opt::SAVE_SYN => (0..=2).contains(&value),
        opt::THIN_LINEAR_TIMEOUTS | opt::THIN_DUPACK => (0..=1).contains(&value),
        opt::FASTOPEN => value >= 0,
        opt::TX_DELAY => (0..1 << 30).contains(&value),
        opt::RTO_MAX_MS => (1000..=120_000).contains(&value),
        opt::RTO_MIN_US | opt::DELACK_MAX_US => (4000..=200_000).contains(&value),
        _ => true,
    };
    if ok { Ok(()) } else { Err(Errno::EINVAL) }
}

impl Tcp {
    /// `setsockopt(2)`.
    pub(super) fn set_tcp_option(&self, _ctx: &SockCtx<'_>, option: u32, value: OptionValue) -> Result {
        if option == opt::CONGESTION {
            if value.len < 1 {
                return Err(Errno::EINVAL);
            }
            let name = value.bytes(15)?;
            let name = name.split(|&b| b == 0).next().unwrap_or(&[]);
            let which = ALGORITHMS.iter().position(|a| a.as_bytes() == name).ok_or(Errno::ENOENT)?;
            self.options.algorithm.store(which as i32, Relaxed);
            return Ok(());
        }
        if option == opt::ULP {
            if value.len < 1 {
                return Err(Errno::EINVAL);
            }
            // There are no such protocols.
            return value.bytes(15).and(Err(Errno::ENOENT));
        }
        if option == opt::FASTOPEN_KEY {
            if value.len != COOKIE_KEY && value.len != 2 * COOKIE_KEY {
                return Err(Errno::EINVAL);
            }
            let key = value.bytes(2 * COOKIE_KEY as usize)?;
            let place = self.options.cookie_key.get_or_init(|| Box::new(Mutex::new(Level::Leaf, Vec::new())));
            *place.lock() = key;
            return Ok(());
        }
        let int = value.int()?;
        valid(option, int)?;
        match option {
            opt::NODELAY => {
                self.options.set(option, i32::from(int != 0))?;
                if int != 0 {
                    self.uncork();
                }
                Ok(())
            }
            opt::CORK => {
                self.options.set(option, i32::from(int != 0))?;
                self.options.corked.store(int != 0, Relaxed);
                if int == 0 {
                    self.uncork();
                }
                Ok(())
            }
            opt::QUICKACK => self.options.set(option, i32::from(int != 0)),
            opt::LINGER2 => self.options.set(option, if int < 0 { -1 } else { int.min(120) }),
            opt::DEFER_ACCEPT => self.options.set(option, defer_seconds(int)),
            opt::WINDOW_CLAMP if int == 0 && !self.state_is_closed() => Err(Errno::EINVAL),
            opt::WINDOW_CLAMP => {
                self.options.set(option, if int == 0 { 0 } else { int.max(1152) })?;
                self.receive_room_changed();
                Ok(())
            }
            opt::NOTSENT_LOWAT => {
                self.options.set(option, int)?;
                self.send_room_changed();
                Ok(())
            }
            opt::FASTOPEN if self.listening() || self.local().port == 0 || self.state_is_closed() => {
                self.options.set(option, int.min(self.core.ns.somaxconn()))
            }
            opt::FASTOPEN => Err(Errno::EINVAL),
            opt::FASTOPEN_CONNECT if !self.state_is_closed() => Err(Errno::EINVAL),
            opt::FASTOPEN_NO_COOKIE if !self.state_is_closed() && !self.listening() => Err(Errno::EINVAL),
            // A connection is not repaired here, and nothing that needs it is allowed.
            opt::REPAIR if self.listening() || int == 1 => Err(Errno::EPERM),
            opt::REPAIR if !(-1..=1).contains(&int) => Err(Errno::EINVAL),
            opt::REPAIR => Ok(()),
            opt::REPAIR_QUEUE | opt::TIMESTAMP | opt::REPAIR_WINDOW => Err(Errno::EPERM),
            opt::QUEUE_SEQ if !self.state_is_closed() => Err(Errno::EPERM),
            opt::QUEUE_SEQ | opt::REPAIR_OPTIONS => Err(Errno::EINVAL),
            opt::RTO_MAX_MS => self.options.set(option, in_ticks(int, TICK_MS)),
            opt::RTO_MIN_US | opt::DELACK_MAX_US => self.options.set(option, in_ticks(int, TICK_MS * 1000)),
            opt::MAXSEG
            | opt::KEEPIDLE
            | opt::KEEPINTVL
            | opt::KEEPCNT
            | opt::SYNCNT
            | opt::USER_TIMEOUT
            | opt::THIN_LINEAR_TIMEOUTS
            | opt::SAVE_SYN
            | opt::INQ
            | opt::FASTOPEN_CONNECT
            | opt::FASTOPEN_NO_COOKIE
            | opt::TX_DELAY => self.options.set(option, int),
            opt::THIN_DUPACK => Ok(()),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// Sends what a cork held back.
    fn uncork(&self) {
        let peer = self.state.lock().peer.clone();
        if let Some(peer) = peer {
            peer.uncork();
        }
    }

    /// Whether receivers are told how much there is (`TCP_INQ`).
    pub(super) fn tells_unread(&self) -> bool {
        self.options.get(opt::INQ).unwrap_or(0) != 0
    }

    fn state_is_closed(&self) -> bool {
        self.state_of(&self.state.lock()) == super::TcpState::Close
    }

    /// The sizes of the segments that a connection from this socket to a listener begins with, bytes: its own and the
    /// other side's. Each is half of the window that the peer offers first (`tcp_bound_to_half_wnd`), or what `TCP_MAXSEG`
    /// of either side says, of which twelve bytes are the time stamp.
    pub(super) fn segment_sizes(&self, listener: &Tcp, v4: bool) -> (i32, i32) {
        let asked = |s: &Tcp| s.options.get(opt::MAXSEG).filter(|&v| v > 0).map_or(i32::MAX, |v| v - 12);
        let most = asked(self).min(asked(listener));
        (most.min(if v4 { 32_741 } else { 32_732 }), most.min(32_768))
    }

    /// `getsockopt(2)`.
    pub(super) fn get_tcp_option(&self, option: u32) -> Result<Vec<u8>> {
        let kept = |default: i32| self.options.get(option).unwrap_or(default);
        let sysctl = |default: i32| kept(default);
        let value = match option {
            opt::NODELAY | opt::CORK | opt::THIN_DUPACK | opt::THIN_LINEAR_TIMEOUTS => kept(0),
            opt::MAXSEG => match self.state_is_closed() || self.listening() {
                true => self.options.get(option).filter(|&v| v > 0).unwrap_or(536),
                false => self.options.segment.load(Relaxed),
            },
            opt::KEEPIDLE => sysctl(7200),
            opt::KEEPINTVL => sysctl(75),
            opt::KEEPCNT => sysctl(9),
            opt::SYNCNT => sysctl(6),
            opt::LINGER2 => match kept(0) {
                0 => 60,
                v => v,
            },
            opt::WINDOW_CLAMP => kept(if self.state_is_closed() || self.listening() { 0 } else { WINDOW }),
            opt::REPAIR => 0,
            opt::REPAIR_QUEUE | opt::QUEUE_SEQ | opt::REPAIR_WINDOW => return Err(Errno::EINVAL),
            opt::CC_INFO => return Ok(Vec::new()),
            opt::DEFER_ACCEPT | opt::USER_TIMEOUT | opt::FASTOPEN => kept(0),
            opt::QUICKACK => kept(1),
            opt::NOTSENT_LOWAT => kept(0),
            opt::SAVE_SYN | opt::INQ | opt::FASTOPEN_CONNECT | opt::FASTOPEN_NO_COOKIE | opt::TX_DELAY => kept(0),
            opt::TIMESTAMP => (crate::time::host_monotonic() / 1_000_000) as i32,
            opt::INFO => return Ok(self.info()[..].to_vec()),
            opt::CONGESTION => {
                let mut name = [0u8; 16];
                let it = ALGORITHMS[self.options.algorithm.load(Relaxed) as usize % ALGORITHMS.len()];
                name[..it.len()].copy_from_slice(it.as_bytes());
                return Ok(name.to_vec());
            }
            opt::FASTOPEN_KEY => {
                return Ok(self.options.cookie_key.get().map_or_else(Vec::new, |key| key.lock().clone()));
            }
            opt::ULP | opt::SAVED_SYN => return Ok(Vec::new()),
            opt::IS_MPTCP => 0,
            opt::RTO_MAX_MS => kept(120_000),
            opt::RTO_MIN_US | opt::DELACK_MAX_US => kept(200_000),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(value.to_ne_bytes().to_vec())
    }
}

/// A time rounded up to whole ticks.
fn in_ticks(time: i32, tick: i32) -> i32 {
    (time + tick - 1) / tick * tick
}

/// What `TCP_DEFER_ACCEPT` reads as: seconds rounded up to when a retransmission would be due.
fn defer_seconds(seconds: i32) -> i32 {
    let (mut period, mut timeout) = (1, 1);
    if seconds <= 0 {
        return 0;
    }
    let mut retransmissions = 1;
    while seconds > period && retransmissions < 255 {
        retransmissions += 1;
        timeout = (timeout * 2).min(120);
        period += timeout;
    }
    period
}
