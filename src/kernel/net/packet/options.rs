//! The options of level `SOL_PACKET`.

use super::{HARDWARE_LEN, Packet};
use crate::abi::{Errno, Result};
use crate::net::socket::OptionValue;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `SOL_PACKET`.
pub const LEVEL: u32 = 263;
const ADD_MEMBERSHIP: u32 = 1;
const DROP_MEMBERSHIP: u32 = 2;
const STATISTICS: u32 = 6;
/// `PACKET_AUXDATA`.
pub const AUXDATA: u32 = 8;
/// `PACKET_ORIGDEV`: without devices above others it changes nothing.
const ORIGDEV: u32 = 9;
/// `PACKET_QDISC_BYPASS`: the loopback interface has no queue.
const QDISC_BYPASS: u32 = 20;
/// `PACKET_IGNORE_OUTGOING`.
pub const IGNORE_OUTGOING: u32 = 23;
/// Bytes of a `struct packet_mreq`, and of it without the address.
const MREQ: u32 = 16;
const MREQ_HEAD: u32 = 8;

impl Packet {
    /// `setsockopt(2)` (`packet_setsockopt`).
    pub(super) fn set(&self, option: u32, value: OptionValue) -> Result {
        match option {
            ADD_MEMBERSHIP | DROP_MEMBERSHIP => member(value, option == ADD_MEMBERSHIP),
            AUXDATA | ORIGDEV | QDISC_BYPASS | IGNORE_OUTGOING => {
                let int = value.int()?;
                if option == IGNORE_OUTGOING && !(0..=1).contains(&int) {
                    return Err(Errno::EINVAL);
                }
                match int {
                    0 => self.switches.fetch_and(!(1 << option), Relaxed),
                    _ => self.switches.fetch_or(1 << option, Relaxed),
                };
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// `getsockopt(2)`.
    pub(super) fn get(&self, option: u32) -> Result<Vec<u8>> {
        match option {
            STATISTICS => Ok(self.inbox.lock().take_counts().iter().flat_map(|n| n.to_ne_bytes()).collect()),
            AUXDATA | ORIGDEV | QDISC_BYPASS | IGNORE_OUTGOING => {
                Ok(i32::from(self.has(option)).to_ne_bytes().to_vec())
            }
            _ => Err(Errno::ENOPROTOOPT),
        }
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
