//! The state that every socket has (`struct sock`).

use super::filter::Filters;
use super::stamps::Sent;
use super::{MsgFlags, SendMsg, SockCtx, af, sock};
use crate::abi::Errno;
use crate::cred::landlock::Domain;
use crate::net::NetNamespace;
use crate::net::inet::proto::{ICMP, ICMPV6, UDPLITE};
use crate::sync::{Events, Knob, Level, Mutex};
use crate::vfs::anon;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use once_cell::race::OnceBox;

/// `/proc/sys/net/core/{r,w}mem_default`.
pub const DEFAULT_BUFFER: u32 = 212_992;
/// The largest buffer for sending that an ordinary program may set, before it is doubled: `/proc/sys/net/core/wmem_max`.
pub static SEND_MAX: Knob = Knob::new(4 << 20, 4608, i32::MAX as u64);
/// As [`SEND_MAX`], for receiving: `/proc/sys/net/core/rmem_max`.
pub static RECEIVE_MAX: Knob = Knob::new(4 << 20, 2304, i32::MAX as u64);
/// No timeout.
const FOREVER: u64 = u64::MAX;

/// Options that are on or off: bits of [`Core::flags`], each 1 << the option's number.
pub mod flag {
    /// `SO_DEBUG`.
    pub const DEBUG: u64 = 1 << 1;
    /// `SO_REUSEADDR`.
    pub const REUSEADDR: u64 = 1 << 2;
    /// `SO_DONTROUTE`.
    pub const DONTROUTE: u64 = 1 << 5;
    /// `SO_BROADCAST`.
    pub const BROADCAST: u64 = 1 << 6;
    /// `SO_KEEPALIVE`.
    pub const KEEPALIVE: u64 = 1 << 9;
    /// `SO_OOBINLINE`.
    pub const OOBINLINE: u64 = 1 << 10;
    /// `SO_NO_CHECK`.
    pub const NO_CHECK: u64 = 1 << 11;
    /// `SO_RCVPRIORITY` (its number is too large for a bit of its own).
    pub const RCVPRIORITY: u64 = 1 << 12;
    /// `SO_REUSEPORT`.
    pub const REUSEPORT: u64 = 1 << 15;
    /// `SO_PASSCRED` (of netlink; local sockets have their own).
    pub const PASSCRED: u64 = 1 << 16;
    /// Not an option: a program chooses among the sockets of a port.
    pub const SELECTS: u64 = 1 << 24;
    /// `SO_ATTACH_FILTER`.
    pub const ATTACH_FILTER: u64 = 1 << 26;
    /// `SO_TIMESTAMP`.
    pub const TIMESTAMP: u64 = 1 << 29;
    /// `SO_TIMESTAMPNS`.
    pub const TIMESTAMPNS: u64 = 1 << 35;
    /// `SO_PASSSEC` (of netlink).
    pub const PASSSEC: u64 = 1 << 34;
    /// `SO_RCVMARK` (as `SO_RCVPRIORITY`).
    pub const RCVMARK: u64 = 1 << 36;
    /// `SO_RXQ_OVFL`.
    pub const RXQ_OVFL: u64 = 1 << 40;
    /// `SO_WIFI_STATUS`, `SO_NOFCS`: of interfaces that are not there.
    pub const WIFI_STATUS: u64 = 1 << 41;
    /// See [`WIFI_STATUS`].
    pub const NOFCS: u64 = 1 << 43;
    /// `SO_LOCK_FILTER`.
    pub const LOCK_FILTER: u64 = 1 << 44;
    /// `SO_SELECT_ERR_QUEUE`.
    pub const SELECT_ERR_QUEUE: u64 = 1 << 45;
    /// `SO_PREFER_BUSY_POLL` (its number is too large for a bit of its own).
    pub const PREFER_BUSY_POLL: u64 = 1 << 3;
    /// Not an option: when packets arrive is noted for `SIOCGSTAMP`.
    pub const STAMPED: u64 = 1 << 25;
    /// `SO_TXTIME`.
    pub const TXTIME: u64 = 1 << 61;
    /// `SO_ZEROCOPY`.
    pub const ZEROCOPY: u64 = 1 << 60;
}

/// The part of a socket's state that few have other than as it begins.
pub(super) struct Rare {
    /// The time of `SO_LINGER` while it is off.
    linger_time: AtomicI32,
    /// `SO_BUSY_POLL`, `SO_BUSY_POLL_BUDGET`, `SO_INCOMING_CPU`, `SO_TXREHASH`: kept.
    pub kept: [AtomicI32; 4],
    /// `SO_MAX_PACING_RATE`.
    pub pacing: AtomicU64,
    /// `SO_TXTIME`: clock in the lower half, flags in the upper.
    pub txtime: AtomicU64,
    /// Sends with `MSG_ZEROCOPY`, and how many of them the program was told of.
    zerocopy: [AtomicU32; 2],
    /// When the last packet came, ns since the epoch, for `SIOCGSTAMP`; below 0: none has.
    pub stamp: AtomicI64,
    /// What is to be told of when data left, and how much that is.
    pub sent: Mutex<VecDeque<Sent>>,
    /// See `sent`.
    pub sent_count: AtomicU32,
    /// The number of the next send, or of the byte from which a stream's are counted (`SOF_TIMESTAMPING_OPT_ID`).
    pub sent_key: AtomicU32,
}

/// As it begins.
static USUAL: Rare = Rare::usual();

impl Rare {
    const fn usual() -> Rare {
        Rare {
            linger_time: AtomicI32::new(0),
            kept: [AtomicI32::new(0), AtomicI32::new(0), AtomicI32::new(-1), AtomicI32::new(1)],
            pacing: AtomicU64::new(u64::MAX),
            txtime: AtomicU64::new(0),
            zerocopy: [const { AtomicU32::new(0) }; 2],
            stamp: AtomicI64::new(-1),
            sent: Mutex::new(Level::Leaf, VecDeque::new()),
            sent_count: AtomicU32::new(0),
            sent_key: AtomicU32::new(0),
        }
    }

    /// That of a socket that `accept` gives.
    fn inherited(&self) -> Rare {
        let own = Rare::usual();
        own.linger_time.store(self.linger_time.load(Relaxed), Relaxed);
        for (own, old) in own.kept.iter().zip(&self.kept) {
            own.store(old.load(Relaxed), Relaxed);
        }
        own.pacing.store(self.pacing.load(Relaxed), Relaxed);
        own.txtime.store(self.txtime.load(Relaxed), Relaxed);
        own
    }
}

/// See the module.
pub struct Core {
    /// `AF_*` (`SO_DOMAIN`).
    pub family: u16,
    /// `SOCK_*` (`SO_TYPE`).
    pub kind: u16,
    /// `SO_PROTOCOL`.
    pub protocol: u32,
    /// The user that made it.
    pub uid: u32,
    /// The Landlock domain of who made it.
    pub domain: Option<Arc<Domain>>,
    /// Its inode number, which `/proc/net` shows.
    pub ino: u64,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// The network that it lives in.
    pub ns: Arc<NetNamespace>,
    flags: AtomicU64,
    /// `SO_SNDBUF`, bytes, doubled as Linux does.
    pub send_buffer: AtomicU32,
    /// `SO_RCVBUF`, bytes, doubled.
    pub receive_buffer: AtomicU32,
    /// `SO_RCVTIMEO`, `SO_SNDTIMEO`, ns.
    timeouts: [AtomicU64; 2],
    /// `SO_RCVLOWAT`, bytes.
    pub low_water: AtomicU32,
    /// `SO_LINGER`, seconds; below 0: off.
    linger: AtomicI32,
    /// `SO_PRIORITY`.
    pub priority: AtomicU32,
    /// `SO_MARK`.
    pub mark: AtomicU32,
    /// `SO_BINDTODEVICE`'s interface; 0: none.
    pub device: AtomicU32,
    /// `SO_PEEK_OFF`; below 0: off.
    pub peek_offset: AtomicI32,
    /// What few sockets have.
    rare: OnceBox<Rare>,
    /// `SO_BUF_LOCK`.
    pub(super) locks: AtomicU32,
    /// `SO_TIMESTAMPING`'s flags.
    pub(super) timestamping: AtomicI32,
    error: AtomicU32,
    /// Programs that look at its packets.
    pub(super) filters: Mutex<Option<Box<Filters>>>,
}

impl Core {
    /// What `/proc/net/protocols` and the attribute `system.sockprotoname` call its protocol (`struct proto` in Linux).
    pub fn protocol_name(&self) -> &'static str {
        let six = self.family == af::INET6;
        match (self.family, self.kind) {
            (af::UNIX, sock::STREAM) => "UNIX-STREAM",
            (af::UNIX, _) => "UNIX",
            (af::NETLINK, _) => "NETLINK",
            (af::PACKET, _) => "PACKET",
            (_, sock::STREAM) => ["TCP", "TCPv6"][usize::from(six)],
            (_, sock::RAW) => ["RAW", "RAWv6"][usize::from(six)],
            _ if matches!(self.protocol, ICMP | ICMPV6) => ["PING", "PINGv6"][usize::from(six)],
            _ if self.protocol == UDPLITE => ["UDP-Lite", "UDPLITEv6"][usize::from(six)],
            _ => ["UDP", "UDPv6"][usize::from(six)],
        }
    }

    /// The state of a new socket.
    pub fn new(family: u16, kind: u16, protocol: u32, ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>) -> Core {
        Core {
            family,
            kind,
            protocol,
            uid: ctx.op.cred.fsuid,
            domain: ctx.op.cred.landlock.clone(),
            ino: anon::new_ino(),
            cookie: ns.new_cookie(),
            ns: ns.clone(),
            flags: AtomicU64::new(0),
            send_buffer: AtomicU32::new(DEFAULT_BUFFER),
            receive_buffer: AtomicU32::new(DEFAULT_BUFFER),
            timeouts: [const { AtomicU64::new(FOREVER) }; 2],
            low_water: AtomicU32::new(1),
            linger: AtomicI32::new(-1),
            priority: AtomicU32::new(0),
            mark: AtomicU32::new(0),
            device: AtomicU32::new(0),
            peek_offset: AtomicI32::new(-1),
            rare: OnceBox::new(),
            locks: AtomicU32::new(0),
            timestamping: AtomicI32::new(0),
            error: AtomicU32::new(0),
            filters: Mutex::new(Level::Leaf, None),
        }
    }

    /// The state of a socket that `accept` gives: options as the listener has them.
    pub fn accepted(&self) -> Core {
        let copy = |a: &AtomicU32| AtomicU32::new(a.load(Relaxed));
        let copy_i = |a: &AtomicI32| AtomicI32::new(a.load(Relaxed));
        let copy_l = |a: &AtomicU64| AtomicU64::new(a.load(Relaxed));
        Core {
            family: self.family,
            kind: self.kind,
            protocol: self.protocol,
            uid: self.uid,
            domain: self.domain.clone(),
            ino: anon::new_ino(),
            cookie: self.ns.new_cookie(),
            ns: self.ns.clone(),
            flags: AtomicU64::new(self.flags.load(Relaxed) & !(flag::ATTACH_FILTER | flag::SELECTS)),
            send_buffer: copy(&self.send_buffer),
            receive_buffer: copy(&self.receive_buffer),
            timeouts: [copy_l(&self.timeouts[0]), copy_l(&self.timeouts[1])],
            low_water: copy(&self.low_water),
            linger: copy_i(&self.linger),
            priority: copy(&self.priority),
            mark: copy(&self.mark),
            device: copy(&self.device),
            peek_offset: copy_i(&self.peek_offset),
            rare: self.rare.get().map_or_else(OnceBox::new, |rare| OnceBox::with_value(Box::new(rare.inherited()))),
            locks: copy(&self.locks),
            timestamping: copy_i(&self.timestamping),
            error: AtomicU32::new(0),
            filters: Mutex::new(Level::Leaf, None),
        }
    }

    /// See [`Rare`], to be read.
    pub(super) fn rare(&self) -> &Rare {
        self.rare.get().unwrap_or(&USUAL)
    }

    /// See [`Rare`], to be changed.
    pub(super) fn rare_mut(&self) -> &Rare {
        self.rare.get_or_init(|| Box::new(Rare::usual()))
    }

    /// Whether a [`flag`] is on.
    pub fn has(&self, flag: u64) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    /// Turns a [`flag`] on or off.
    pub fn set(&self, flag: u64, on: bool) {
        if on {
            self.flags.fetch_or(flag, Relaxed);
        } else {
            self.flags.fetch_and(!flag, Relaxed);
        }
    }

    /// Records an error for the next operation or `SO_ERROR`.
    pub fn set_error(&self, e: Errno) {
        self.error.store(e.raw() as u32, Relaxed);
    }

    /// Whether an error is recorded.
    pub fn has_error(&self) -> bool {
        self.error.load(Relaxed) != 0
    }

    /// What a socket without halves is ready for; `readable`: something waits to be received.
    pub fn ready(&self, readable: bool) -> Events {
        let mut events = Events::OUT | Events::WRNORM | Events::WRBAND;
        if self.has_error() {
            events |= Events::ERR;
        }
        if readable {
            events |= Events::IN | Events::RDNORM;
        }
        events
    }

    /// Takes the recorded error, 0 for none.
    pub fn take_error(&self) -> u32 {
        if self.has_error() { self.error.swap(0, Relaxed) } else { 0 }
    }

    /// The recorded error as an outcome; it is recorded no more.
    ///
    /// # Errors
    /// That error.
    pub fn check_error(&self) -> crate::abi::Result {
        match self.take_error() {
            0 => Ok(()),
            n => Err(Errno::from_raw(n as i32)),
        }
    }

    /// Counts a send that asks to be told when its data is no longer needed (`MSG_ZEROCOPY`): at once, since data is
    /// copied. Whether there is something to tell.
    pub fn count_zerocopy(&self, msg: &mut SendMsg) -> bool {
        let counts = msg.flags.contains(MsgFlags::ZEROCOPY) && self.has(flag::ZEROCOPY);
        if counts {
            // The rest of the same send is the same one.
            msg.flags.remove(MsgFlags::ZEROCOPY);
            self.rare_mut().zerocopy[0].fetch_add(1, Relaxed);
        }
        counts
    }

    /// Whether the error queue has something that is no error.
    pub fn has_notice(&self) -> bool {
        self.has_zerocopy() || self.has_sent()
    }

    /// Whether sends with `MSG_ZEROCOPY` are over that the program was not told of.
    pub fn has_zerocopy(&self) -> bool {
        let [sent, told] = &self.rare().zerocopy;
        self.has(flag::ZEROCOPY) && sent.load(Relaxed) != told.load(Relaxed)
    }

    /// The numbers of the first and last of these sends; it counts as told.
    pub fn take_zerocopy(&self) -> Option<(u32, u32)> {
        if !self.has_zerocopy() {
            return None;
        }
        let [sent, told] = &self.rare_mut().zerocopy;
        let end = sent.load(Relaxed);
        let first = told.swap(end, Relaxed);
        (first != end).then(|| (first, end.wrapping_sub(1)))
    }

    /// Where a look at data that stays begins (`SO_PEEK_OFF`), bytes behind the first.
    pub fn peek_from(&self) -> usize {
        self.peek_offset.load(Relaxed).max(0) as usize
    }

    /// `n` bytes were looked at, or taken: the next look begins behind them.
    pub fn peeked(&self, n: usize, taken: bool) {
        let at = self.peek_offset.load(Relaxed);
        if at >= 0 {
            let n = n.min(i32::MAX as usize) as i32;
            self.peek_offset.store(if taken { (at - n).max(0) } else { at.saturating_add(n) }, Relaxed);
        }
    }

    /// How long a wait for `events` may take, ns; `None`: for ever.
    pub fn wait_limit(&self, events: Events) -> Option<u64> {
        let ns = self.timeouts[usize::from(events.contains(Events::OUT))].load(Relaxed);
        (ns != FOREVER).then_some(ns)
    }

    /// `SO_RCVTIMEO` (0) or `SO_SNDTIMEO` (1), ns; `None`: for ever.
    pub fn timeout(&self, which: usize) -> Option<u64> {
        let ns = self.timeouts[which].load(Relaxed);
        (ns != FOREVER).then_some(ns)
    }

    /// Sets `SO_RCVTIMEO` (0) or `SO_SNDTIMEO` (1), ns.
    pub fn set_timeout(&self, which: usize, ns: Option<u64>) {
        self.timeouts[which].store(ns.unwrap_or(FOREVER), Relaxed);
    }

    /// `SO_LINGER`: seconds, if it is on.
    pub fn linger(&self) -> Option<u32> {
        u32::try_from(self.linger.load(Relaxed)).ok()
    }

    /// `SO_LINGER` as it was set.
    pub fn linger_raw(&self) -> (bool, i32) {
        let on = self.linger.load(Relaxed);
        if on >= 0 { (true, on) } else { (false, self.rare().linger_time.load(Relaxed)) }
    }

    /// Sets `SO_LINGER`.
    pub fn set_linger(&self, on: bool, seconds: i32) {
        self.linger.store(if on { seconds.max(0) } else { -1 }, Relaxed);
        if seconds != self.rare().linger_time.load(Relaxed) {
            self.rare_mut().linger_time.store(seconds, Relaxed);
        }
    }

    /// `SO_SNDBUF`, bytes.
    pub fn send_room(&self) -> usize {
        self.send_buffer.load(Relaxed) as usize
    }

    /// `SO_RCVBUF`, bytes.
    pub fn receive_room(&self) -> usize {
        self.receive_buffer.load(Relaxed) as usize
    }

    /// Whether a program set `SO_SNDBUF` (1) or `SO_RCVBUF` (2).
    pub fn buffer_locked(&self, which: u32) -> bool {
        self.locks.load(Relaxed) & which != 0
    }
}
