//! `struct sockaddr_storage`.

use crate::abi::{Errno, Result};
use crate::mm::UserPtr;

/// Bytes of a `struct sockaddr_storage`.
const MAX: usize = 128;

/// A socket address as the guest writes it.
#[derive(Clone, Copy)]
pub struct SockAddr {
    len: usize,
    bytes: [u8; MAX],
}

impl SockAddr {
    /// An address of these bytes, cut to the 128 that there is room for.
    pub fn new(bytes: &[u8]) -> SockAddr {
        let mut addr = SockAddr { len: bytes.len().min(MAX), bytes: [0; MAX] };
        addr.bytes[..addr.len].copy_from_slice(&bytes[..addr.len]);
        addr
    }

    /// Copies one in (`move_addr_to_kernel`).
    ///
    /// # Errors
    /// `EINVAL` for a length that no address has, `EFAULT`.
    pub fn read(at: UserPtr<u8>, len: u32) -> Result<SockAddr> {
        if len as usize > MAX {
            return Err(Errno::EINVAL);
        }
        let mut addr = SockAddr { len: len as usize, bytes: [0; MAX] };
        at.slice(addr.len).read_into(&mut addr.bytes[..len as usize])?;
        Ok(addr)
    }

    /// Copies it out, cut to what there is room for; the length at `len` tells all of it.
    ///
    /// # Errors
    /// `EINVAL` for a negative room, `EFAULT`.
    pub fn write(&self, at: UserPtr<u8>, len: UserPtr<u32>) -> Result {
        let room = len.read()?;
        if room > i32::MAX as u32 {
            return Err(Errno::EINVAL);
        }
        let n = self.len.min(room as usize);
        at.slice(n).write_from(&self.bytes[..n])?;
        len.write(self.len as u32)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Number of its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The family, 0 where there are not even two bytes.
    pub fn family(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]])
    }
}
