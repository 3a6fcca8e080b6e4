//! Frames that wait to be received, and how many there were.

use crate::abi::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What Linux charges for a frame beside its data (`SKB_TRUESIZE`), bytes.
const OVERHEAD: usize = 768;
/// `TP_STATUS_USER`, `TP_STATUS_CSUM_VALID`.
const STATUS: u32 = 1 | 1 << 7;

/// A frame as a socket has it.
pub struct Frame {
    /// What is received.
    pub data: Vec<u8>,
    /// Bytes of the frame before a program cut it.
    pub whole: usize,
    /// `ETH_P_*`.
    pub protocol: u16,
    /// `PACKET_HOST` and so on.
    pub kind: u8,
    /// Where the network layer's header begins.
    pub net: usize,
    /// When it came, ns since the epoch; 0: nobody asked.
    pub at: i64,
}

impl Frame {
    /// `struct tpacket_auxdata`.
    pub fn auxiliary(&self) -> [u8; 20] {
        let mut b = [0u8; 20];
        for (at, word) in [STATUS, self.whole as u32, self.data.len() as u32].into_iter().enumerate() {
            b[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        b[14..16].copy_from_slice(&(self.net as u16).to_ne_bytes());
        b
    }
}

/// See the module.
#[derive(Default)]
pub struct Inbox {
    frames: VecDeque<Frame>,
    charged: usize,
    /// Frames that came and that were lost, since they were asked for.
    counts: [u32; 2],
}

impl Inbox {
    /// Takes a frame in, unless there is more than `room` already; whether it is there. `whole`: its data could be copied.
    pub fn take_in(&mut self, frame: Frame, room: usize, whole: bool) -> bool {
        let charge = OVERHEAD + frame.data.len();
        if !whole || self.charged + charge > room || self.frames.try_reserve(1).is_err() {
            self.counts[1] += 1;
            return false;
        }
        self.counts[0] += 1;
        self.charged += charge;
        self.frames.push_back(frame);
        true
    }

    /// The first frame; with `peek` a copy of it.
    ///
    /// # Errors
    /// `EAGAIN`, `ENOBUFS`.
    pub fn next(&mut self, peek: bool) -> Result<Frame> {
        if !peek {
            let frame = self.frames.pop_front().ok_or(Errno::EAGAIN)?;
            self.charged -= OVERHEAD + frame.data.len();
            return Ok(frame);
        }
        let first = self.frames.front().ok_or(Errno::EAGAIN)?;
        let mut data = Vec::new();
        data.try_reserve_exact(first.data.len()).map_err(|_| Errno::ENOBUFS)?;
        data.extend_from_slice(&first.data);
        Ok(Frame { data, ..*first })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that the frames are charged with.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// Bytes of the first frame.
    pub fn first_len(&self) -> usize {
        self.frames.front().map_or(0, |f| f.data.len())
    }

    /// `struct tpacket_stats`: how many frames came, and how many of them were lost; counted anew then.
    pub fn take_counts(&mut self) -> [u32; 2] {
        let [came, lost] = core::mem::take(&mut self.counts);
        [came + lost, lost]
    }
}
