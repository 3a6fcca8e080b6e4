//! The options of level `SOL_PACKET`.

use super::ring::{Asked, VERSIONS, header_len};
use super::{HARDWARE_LEN, Packet};
use crate::abi::{Errno, Result};
use crate::net::socket::OptionValue;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// `SOL_PACKET`.
pub const LEVEL: u32 = 263;
const ADD_MEMBERSHIP: u32 = 1;
const DROP_MEMBERSHIP: u32 = 2;
const RX_RING: u32 = 5;
const STATISTICS: u32 = 6;
const COPY_THRESH: u32 = 7;
/// `PACKET_AUXDATA`.
pub const AUXDATA: u32 = 8;
/// `PACKET_ORIGDEV`: without devices above others it changes nothing.
const ORIGDEV: u32 = 9;
const VERSION: u32 = 10;
const HDRLEN: u32 = 11;
const RESERVE: u32 = 12;
const TX_RING: u32 = 13;
/// `PACKET_LOSS`.
pub const LOSS: u32 = 14;
const TIMESTAMP: u32 = 17;
const FANOUT: u32 = 18;
/// `PACKET_TX_HAS_OFF`.
pub const TX_HAS_OFF: u32 = 19;
/// `PACKET_QDISC_BYPASS`: the loopback interface has no queue.
const QDISC_BYPASS: u32 = 20;
/// `PACKET_ROLLOVER_STATS`: nothing rolls over.
const ROLLOVER_STATS: u32 = 21;
const FANOUT_DATA: u32 = 22;
/// `PACKET_IGNORE_OUTGOING`.
pub const IGNORE_OUTGOING: u32 = 23;
/// Bytes of a `struct packet_mreq`, and of it without the address.
const MREQ: u32 = 16;
const MREQ_HEAD: u32 = 8;
/// Bytes of a `struct tpacket_req`, and of a `struct tpacket_req3`.
const REQUEST: u32 = 16;
const REQUEST3: u32 = 28;

/// Options that are numbers: the version of the rings' headers, bytes that are kept free in front of a frame,
/// `PACKET_COPY_THRESH`, `PACKET_TIMESTAMP`.
#[derive(Default)]
pub struct Numbers([AtomicU32; 4]);

impl Numbers {
    /// `PACKET_VERSION`.
    pub fn version(&self) -> u32 {
        self.0[0].load(Relaxed)
    }

    /// `PACKET_RESERVE`.
    pub fn reserve(&self) -> u32 {
        self.0[1].load(Relaxed)
    }

    /// Whether frames that are cut are queued as a whole, too (`PACKET_COPY_THRESH`).
    pub fn copy_threshold(&self) -> bool {
        self.0[2].load(Relaxed) != 0
    }
}

/// A value that has to be an `int`, and no longer.
fn exact(value: OptionValue) -> Result<u32> {
    if value.len == 4 { Ok(value.int()? as u32) } else { Err(Errno::EINVAL) }
}

impl Packet {
    /// `setsockopt(2)` (`packet_setsockopt`).
    pub(super) fn set(&self, option: u32, value: OptionValue) -> Result {
        match option {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP => return member(value, option == ADD_MEMBERSHIP),
            RX_RING | TX_RING => return self.set_ring(option == TX_RING, value),
            FANOUT => return self.join_fanout(value),
            FANOUT_DATA => return self.set_fanout_program(value),
            COPY_THRESH | TIMESTAMP => {
                let which = if option == COPY_THRESH { 2 } else { 3 };
                self.numbers.0[which].store(exact(value)?, Relaxed);
            }
            VERSION | RESERVE => {
                let number = exact(value)?;
                if number > if option == VERSION { VERSIONS - 1 } else { i32::MAX as u32 } {
                    return Err(Errno::EINVAL);
                }
                let rings = self.rings.lock();
                if rings.any() {
                    return Err(Errno::EBUSY);
                }
                self.numbers.0[usize::from(option == RESERVE)].store(number, Relaxed);
            }
            LOSS | TX_HAS_OFF => {
                let number = exact(value)?;
                let rings = self.rings.lock();
                match rings.any() {
                    true if option == LOSS => return Err(Errno::EBUSY),
                    // Linux says nothing.
                    true => {}
                    false => self.switch(option, number != 0),
                }
            }
            QDISC_BYPASS => self.switch(option, exact(value)? != 0),
            AUXDATA | ORIGDEV | IGNORE_OUTGOING => {
                let int = if option == IGNORE_OUTGOING { exact(value)? as i32 } else { value.int()? };
                if option == IGNORE_OUTGOING && !(0..=1).contains(&int) {
                    return Err(Errno::EINVAL);
                }
                self.switch(option, int != 0);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    fn switch(&self, option: u32, on: bool) {
        match on {
            false => self.switches.fetch_and(!(1 << option), Relaxed),
            true => self.switches.fetch_or(1 << option, Relaxed),
        };
    }

    /// `PACKET_RX_RING` and `PACKET_TX_RING`.
    fn set_ring(&self, sends: bool, value: OptionValue) -> Result {
        let version = self.numbers.version();
        let len = if version == 2 { REQUEST3 } else { REQUEST };
        if value.len < len {
            return Err(Errno::EINVAL);
        }
        let bytes = value.bytes(len as usize)?;
        let word = |n: usize| bytes.get(4 * n..4 * n + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        let asked = Asked {
            block_size: word(0),
            blocks: word(1),
            frame_size: word(2),
            frames: word(3),
            open_for: word(4),
            private: word(5),
            features: word(6),
        };
        {
            let mut rings = self.rings.lock();
            rings.set(asked, version, self.numbers.reserve(), sends)?;
            self.ringed[usize::from(sends)].store(rings.all[usize::from(sends)].is_some(), Relaxed);
        }
        // What was queued is no more (`skb_queue_purge`).
        if !sends {
            let frames = core::mem::take(&mut *self.inbox.lock());
            drop(frames);
        }
        Ok(())
    }

    /// `PACKET_STATISTICS`: those of the queue and of the ring.
    fn take_counts(&self) -> Vec<u8> {
        let queue = self.inbox.lock().take_counts();
        let ring = core::mem::take(&mut self.rings.lock().counts);
        let all = [queue[0] + ring[0] + ring[1], queue[1] + ring[1], ring[2]];
        let count = if self.numbers.version() == 2 { 3 } else { 2 };
        all[..count].iter().flat_map(|n| n.to_ne_bytes()).collect()
    }

    /// `getsockopt(2)`.
    pub(super) fn get(&self, option: u32, into: OptionValue) -> Result<Vec<u8>> {
        let number = match option {
            STATISTICS => return Ok(self.take_counts()),
            AUXDATA | ORIGDEV | QDISC_BYPASS | IGNORE_OUTGOING | LOSS | TX_HAS_OFF => u32::from(self.has(option)),
            VERSION => self.numbers.version(),
            RESERVE => self.numbers.reserve(),
            COPY_THRESH => self.numbers.0[2].load(Relaxed),
            TIMESTAMP => self.numbers.0[3].load(Relaxed),
            HDRLEN => header_len(into.int()? as u32).ok_or(Errno::EINVAL)?,
            FANOUT => self.fanout_value(),
            ROLLOVER_STATS => return Err(Errno::EINVAL),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(number.to_ne_bytes().to_vec())
    }
}

/// Membership: the loopback interface takes every frame in as it is, so that nothing has to be kept. Leaving what was not
/// joined is no error (`packet_mc_drop`).
fn member(value: OptionValue, add: bool) -> Result {
    if value.len < MREQ {
        return Err(Errno::EINVAL);
    }
    let b = value.array::<{ MREQ as usize }>()?;
    let (index, len) = (i32::from_ne_bytes([b[0], b[1], b[2], b[3]]), u16::from_ne_bytes([b[6], b[7]]));
    if value.len < MREQ_HEAD + u32::from(len) {
        return Err(Errno::EINVAL);
    }
    match index {
        _ if !add => Ok(()),
        1 if len > u16::from(HARDWARE_LEN) => Err(Errno::EINVAL),
        1 => Ok(()),
        _ => Err(Errno::ENODEV),
    }
}
