//! The blocks of a ring of `TPACKET_V3`: frames of any length lie one behind the other in a block, and the program gets a
//! block once it is full or its time is over.

use super::ring::{Asked, status};
use crate::mm::shared::SharedMemory;
use crate::time;

/// Bytes of a block's header (`struct tpacket_block_desc`).
pub const HEADER: u64 = 48;
/// Where in it the state is, and the number of frames.
const STATE: u64 = 8;
/// How long a block stays open where the program does not say and the interface has no speed, ms.
const LIMIT: u32 = 8;

/// See the module.
pub struct Blocks {
    /// Where the ring begins in the memory.
    pub base: u64,
    size: u32,
    count: u32,
    /// Bytes in front of a block's first frame.
    front: u32,
    limit: u32,
    /// The block that frames are put into.
    open: u32,
    /// The open block's number.
    sequence: u64,
    /// Where in it the next frame goes; 0: it is not open, since the program still has it.
    next: u32,
    frames: u32,
    /// Where the last frame is, and when the first one and it came, ns since the epoch.
    last: u64,
    times: [i64; 2],
}

impl Blocks {
    /// The blocks of a new ring, the first one open.
    pub fn new(a: &Asked, base: u64, memory: &SharedMemory) -> Blocks {
        let front = HEADER as u32 + a.private.next_multiple_of(8);
        let limit = if a.open_for == 0 { LIMIT } else { a.open_for };
        let mut blocks = Blocks {
            base,
            size: a.block_size,
            count: a.blocks,
            front,
            limit,
            open: 0,
            sequence: 0,
            next: 0,
            frames: 0,
            last: 0,
            times: [0; 2],
        };
        blocks.begin(memory);
        blocks
    }

    fn at(&self, n: u32) -> u64 {
        self.base + u64::from(n) * u64::from(self.size)
    }

    fn state(&self, memory: &SharedMemory, n: u32) -> u32 {
        memory.word(self.at(n) + STATE)
    }

    /// The largest frame, with its header.
    pub fn largest(&self) -> u32 {
        self.size - self.front
    }

    /// How long the open block may stay so, if it has frames, ms.
    pub fn limit(&self) -> Option<u32> {
        (self.frames > 0).then_some(self.limit)
    }

    /// Whether the program has the block before the open one.
    pub fn has_closed(&self, memory: &SharedMemory) -> bool {
        let before = self.open.checked_sub(1).unwrap_or(self.count - 1);
        self.state(memory, before) != status::KERNEL
    }

    /// Whether a frame would find room.
    pub fn has_room(&self, memory: &SharedMemory) -> bool {
        self.next != 0 || self.state(memory, self.open) == status::KERNEL
    }

    /// Opens the block (`prb_open_block`).
    fn begin(&mut self, memory: &SharedMemory) {
        self.sequence += 1;
        (self.next, self.frames, self.last) = (self.front, 0, 0);
        let at = self.at(self.open);
        self.times = [time::now(); 2];
        // Version and where the program's own begins; then number of frames, where the first is, and all bytes.
        memory.put(at, &words([2, HEADER as u32]));
        memory.put(at + 12, &words([0, self.front, self.front]));
        memory.put(at + 24, &self.sequence.to_ne_bytes());
        memory.put(at + 32, &stamp(self.times[0]));
    }

    /// Gives the open block to the program (`prb_close_block`).
    fn end(&mut self, memory: &SharedMemory, why: u32, lost: bool) {
        let at = self.at(self.open);
        if self.frames > 0 {
            // Nothing follows the last frame.
            memory.put(self.last, &[0; 4]);
        } else {
            self.times[1] = time::now();
        }
        memory.put(at + 40, &stamp(self.times[1]));
        memory.set_word(at + STATE, status::USER | why | if lost { status::LOSING } else { 0 });
        (self.open, self.next, self.frames) = ((self.open + 1) % self.count, 0, 0);
    }

    /// Where a frame of so many bytes goes (`None`: nowhere), and whether a block was closed for that. `frozen` counts how
    /// often there was no free block.
    pub fn place(&mut self, memory: &SharedMemory, len: u32, lost: bool, frozen: &mut u32) -> (Option<u64>, bool) {
        if self.next == 0 {
            if self.state(memory, self.open) != status::KERNEL {
                return (None, false);
            }
            self.begin(memory);
        }
        let mut closed = false;
        if self.next + len.next_multiple_of(8) >= self.size && self.frames > 0 {
            self.end(memory, 0, lost);
            closed = true;
            if !self.go_on(memory, frozen) {
                return (None, true);
            }
        }
        (Some(self.at(self.open) + u64::from(self.next)), closed)
    }

    /// A frame lies in the open block.
    pub fn filled(&mut self, memory: &SharedMemory, at: u64, len: u32, when: i64, state: u32) {
        let step = len.next_multiple_of(8);
        memory.put(at, &step.to_ne_bytes());
        memory.put(at + 20, &state.to_ne_bytes());
        self.next += step;
        self.frames += 1;
        self.last = at;
        self.times[1] = when;
        let block = self.at(self.open);
        memory.put(block + 12, &self.frames.to_ne_bytes());
        memory.put(block + 20, &self.next.to_ne_bytes());
    }

    /// Closes the open block, if it has frames.
    pub fn time_over(&mut self, memory: &SharedMemory, lost: bool, frozen: &mut u32) -> bool {
        if self.next == 0 || self.frames == 0 {
            return false;
        }
        self.end(memory, status::TIMEOUT, lost);
        self.go_on(memory, frozen);
        true
    }

    /// Opens the next block, if the program does not have it.
    fn go_on(&mut self, memory: &SharedMemory, frozen: &mut u32) -> bool {
        let free = self.state(memory, self.open) == status::KERNEL;
        if free {
            self.begin(memory);
        } else {
            *frozen += 1;
        }
        free
    }
}

fn words<const N: usize>(all: [u32; N]) -> [u8; 12] {
    let mut out = [0; 12];
    for (n, word) in all.iter().enumerate() {
        out[4 * n..4 * n + 4].copy_from_slice(&word.to_ne_bytes());
    }
    out
}

fn stamp(at: i64) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&((at / time::SECOND) as u32).to_ne_bytes());
    out[4..].copy_from_slice(&((at % time::SECOND) as u32).to_ne_bytes());
    out
}
