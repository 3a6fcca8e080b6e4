//! `SIOCETHTOOL` (`linux/ethtool.h`): what the interfaces, which have no hardware, tell of themselves.

use crate::abi::{Errno, Result};
use crate::mm::UserPtr;
use crate::net::links::Link;

/// `ETHTOOL_*`.
mod cmd {
    pub const LINK: u32 = 0x0a;
    pub const RX_SUM: u32 = 0x14;
    pub const TX_SUM: u32 = 0x16;
    pub const SCATTER: u32 = 0x18;
    pub const SEGMENTS: u32 = 0x1e;
    pub const ADDRESS: u32 = 0x20;
    pub const STRINGS: u32 = 0x37;
    pub const GSO: u32 = 0x23;
    pub const GRO: u32 = 0x2b;
    pub const FEATURES: u32 = 0x3a;
    pub const STAMPS: u32 = 0x41;
}

/// Words of the set of features (`ETHTOOL_DEV_FEATURE_WORDS`).
const FEATURE_WORDS: u32 = 2;
/// `SOF_TIMESTAMPING_*` that the kernel does without hardware: on arrival, and that it tells.
const STAMPS: u32 = 1 << 3 | 1 << 4;
/// And on departure.
const DEPARTURES: u32 = 1 << 1;
/// Bytes of a hardware address.
const MAC: u32 = 6;
/// `ETOOSMALL`.
const TOO_SMALL: i32 = 525;

/// Answers a request about an interface. What would change something, or is about hardware, is not there.
///
/// # Errors
/// `EOPNOTSUPP`, `EFAULT`; `ETOOSMALL` where there is no room for an address.
pub fn answer(link: &Link, at: u64) -> Result {
    let data = UserPtr::<u32>::new(at);
    let value = match data.read()? {
        cmd::LINK => u32::from(link.is_up()),
        cmd::RX_SUM | cmd::TX_SUM | cmd::SCATTER | cmd::SEGMENTS | cmd::GSO | cmd::GRO if link.is_loopback() => 1,
        cmd::ADDRESS => {
            if data.add(1).read()? < MAC {
                return Err(Errno::from_raw(TOO_SMALL));
            }
            data.add(1).write(MAC)?;
            return data.add(2).cast::<[u8; 6]>().write(link.mac);
        }
        // Neither set of names is there that was asked for.
        cmd::STRINGS => return data.add(2).cast::<[u8; 8]>().write([0; 8]),
        cmd::FEATURES => {
            let room = data.add(1).read()?.min(FEATURE_WORDS);
            data.add(1).write(FEATURE_WORDS)?;
            for n in 0..4 * room as usize {
                data.add(2 + n).write(0)?;
            }
            return Ok(());
        }
        cmd::STAMPS => {
            data.add(1).write(STAMPS | DEPARTURES)?;
            // No clock, and nothing that hardware does.
            data.add(2).write(u32::MAX)?;
            for n in 3..11 {
                data.add(n).write(0)?;
            }
            return Ok(());
        }
        _ => return Err(Errno::EOPNOTSUPP),
    };
    data.add(1).write(value)
}
