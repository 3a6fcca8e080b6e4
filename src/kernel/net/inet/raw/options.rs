//! Options that only raw sockets have.

use super::Raw;
use crate::abi::{Errno, Result};
use crate::net::inet::options::on;
use crate::net::inet::proto;
use crate::net::socket::OptionValue;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// `SOL_RAW`.
pub(super) const SOL_RAW: u32 = 255;
/// `ICMP_FILTER` and `ICMPV6_FILTER`.
const FILTER: u32 = 1;
/// `IPV6_CHECKSUM`, `IPV6_HDRINCL`.
const CHECKSUM: u32 = 7;
const HDRINCL: u32 = 36;

impl Raw {
    /// The protocol whose filter is at a level; `None`: no filter is there.
    pub(super) fn filter_at(&self, level: u32) -> Option<u32> {
        match (self.is_six(), level) {
            (false, SOL_RAW) => Some(proto::ICMP),
            (true, proto::ICMPV6) => Some(proto::ICMPV6),
            _ => None,
        }
    }

    /// `setsockopt(2)` (`do_raw_setsockopt`, `rawv6_setsockopt`); `None` for options of other sockets as well.
    pub(super) fn set_raw_option(&self, level: u32, option: u32, value: OptionValue) -> Option<Result> {
        if self.is_ping() {
            return None;
        }
        if let Some(protocol) = self.filter_at(level) {
            return Some(match option {
                _ if self.is_six() && self.core.protocol != protocol => Err(Errno::EOPNOTSUPP),
                FILTER if self.core.protocol != protocol => Err(Errno::EOPNOTSUPP),
                FILTER => self.set_filter(value),
                _ => Err(Errno::ENOPROTOOPT),
            });
        }
        if !self.is_six() || !(level == SOL_RAW || level == proto::IPV6 && matches!(option, CHECKSUM | HDRINCL)) {
            return None;
        }
        let int = match value.int() {
            Ok(int) => int,
            Err(e) => return Some(Err(e)),
        };
        Some(match option {
            HDRINCL => {
                self.ip.switch_to(on::HDRINCL, int != 0);
                Ok(())
            }
            CHECKSUM if self.core.protocol == proto::ICMPV6 && level == proto::IPV6 => Err(Errno::EINVAL),
            CHECKSUM if int > 0 && int & 1 != 0 => Err(Errno::EINVAL),
            CHECKSUM => {
                self.checksum.store(int.max(-1), Relaxed);
                Ok(())
            }
            _ => Err(Errno::ENOPROTOOPT),
        })
    }

    fn set_filter(&self, value: OptionValue) -> Result {
        let words = if self.is_six() { 8 } else { 1 };
        let mut all = self.filter_bytes();
        let bytes = match value.bytes(words * 4) {
            Ok(bytes) => bytes,
            Err(e) => {
                // What cannot be read is zero.
                self.filter[0].store(0, Relaxed);
                return Err(e);
            }
        };
        all[..bytes.len()].copy_from_slice(&bytes);
        for (word, b) in self.filter.iter().zip(all.chunks_exact(4)) {
            word.store(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]), Relaxed);
        }
        Ok(())
    }

    fn filter_bytes(&self) -> [u8; 32] {
        let mut all = [0; 32];
        for (word, b) in self.filter.iter().zip(all.chunks_exact_mut(4)) {
            b.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        all
    }

    /// `getsockopt(2)`; `None` for options of other sockets as well.
    pub(super) fn get_raw_option(&self, level: u32, option: u32, room: usize) -> Option<Result<Vec<u8>>> {
        if self.is_ping() {
            return None;
        }
        if let Some(protocol) = self.filter_at(level) {
            let len = if self.is_six() { 32 } else { 4 };
            return Some(match option {
                _ if self.is_six() && self.core.protocol != protocol => Err(Errno::EOPNOTSUPP),
                FILTER if self.core.protocol != protocol => Err(Errno::EOPNOTSUPP),
                FILTER => Ok(self.filter_bytes()[..len.min(room)].to_vec()),
                _ => Err(Errno::ENOPROTOOPT),
            });
        }
        if !self.is_six() || !(level == SOL_RAW || level == proto::IPV6 && matches!(option, CHECKSUM | HDRINCL)) {
            return None;
        }
        Some(match option {
            HDRINCL => Ok(i32::from(self.ip.has(on::HDRINCL)).to_ne_bytes().to_vec()),
            CHECKSUM => Ok(self.checksum.load(Relaxed).to_ne_bytes().to_vec()),
            _ => Err(Errno::ENOPROTOOPT),
        })
    }
}
