//! Rings of frames in memory that the program maps (`Documentation/networking/packet_mmap.rst`): their layout, and what
//! the kernel puts into them and takes out.

use super::blocks::Blocks;
use super::{ADDRESS, HEAD};
use crate::abi::{Errno, Result};
use crate::mm::memfile::PAGE;
use crate::mm::shared::SharedMemory;
use crate::time;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// `TPACKET_V1` to `TPACKET_V3`: the headers in front of frames.
pub const VERSIONS: u32 = 3;
/// Bytes of a frame's header, by version.
const HEADER: [u32; 3] = [32, 32, 48];
/// `TPACKET_ALIGNMENT`.
const ALIGN: u32 = 16;
/// Most bytes of one ring.
const MOST: u64 = 1 << 28;
/// `TP_STATUS_*`.
pub mod status {
    /// The kernel's, or free.
    pub const KERNEL: u32 = 0;
    /// A program's.
    pub const USER: u32 = 1;
    /// There is all of it in the socket's queue.
    pub const COPY: u32 = 2;
    /// Frames were lost.
    pub const LOSING: u32 = 4;
    /// A checksum was right, or needs no look.
    pub const CSUM_VALID: u32 = 0x80;
    /// A block ended by time.
    pub const TIMEOUT: u32 = 0x20;
    /// To be sent.
    pub const SEND_REQUEST: u32 = 1;
    /// It cannot be sent.
    pub const WRONG_FORMAT: u32 = 4;
}

/// Bytes of a frame's header, if there is such a version (`PACKET_HDRLEN`).
pub fn header_len(version: u32) -> Option<u32> {
    HEADER.get(version as usize).copied()
}

/// The header with the address behind it (`TPACKET_HDRLEN`).
fn full_header(version: u32) -> u32 {
    HEADER[version as usize] + ADDRESS as u32
}

fn aligned(n: u32) -> u32 {
    n.next_multiple_of(ALIGN)
}

/// `struct tpacket_req3`, of which the first four are `struct tpacket_req`.
#[derive(Clone, Copy)]
pub struct Asked {
    /// Bytes of a block.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Number of frames.
    pub frames: u32,
    /// How long a block stays open, ms; 0: as the kernel likes.
    pub open_for: u32,
    /// Bytes of the program's own in front of a block.
    pub private: u32,
    /// `TP_FT_REQ_*`.
    pub features: u32,
}

/// One ring.
pub struct Ring {
    /// Where it begins in the memory.
    base: u64,
    asked: Asked,
    /// The next frame.
    head: u32,
    /// The blocks of a ring of `TPACKET_V3` for receiving.
    blocks: Option<Blocks>,
}

impl Ring {
    /// Its frames.
    pub fn frames(&self) -> u32 {
        self.asked.frames
    }
}

/// What is to be put into a ring.
pub struct Incoming<'a> {
    /// The link layer's header, where the socket takes it.
    pub head: &'a [u8],
    /// What follows it.
    pub payload: &'a [u8],
    /// How many bytes of both the program keeps.
    pub kept: usize,
    /// The sender, as `struct sockaddr_ll`.
    pub from: [u8; ADDRESS],
    /// Whether the whole of it can be queued, too, if it is cut.
    pub queues: bool,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// There was no room. Whether the program has something new to look at all the same.
    Lost(bool),
    /// It is there.
    Done {
        /// Whether the program has something new to look at.
        wake: bool,
        /// Whether the whole of it is to be queued.
        queue: bool,
    },
}

/// A program's frame that is to be sent.
pub enum Next {
    /// There is none.
    None,
    /// This one, and the frame's place.
    Frame(u64, Vec<u8>),
    /// It has no right form: its place, and the error.
    Wrong(u64, Errno),
}

/// The rings of a socket, which lie one behind the other.
#[derive(Default)]
pub struct Rings {
    /// Where they lie.
    pub memory: Option<Arc<SharedMemory>>,
    /// That of received frames, and that of frames to be sent.
    pub all: [Option<Ring>; 2],
    /// Frames that came and that were lost, and how often there was no free block, since they were asked for.
    pub counts: [u32; 3],
    /// Whether a timer runs that closes the open block.
    pub timed: bool,
}

impl Ring {
    fn len(&self) -> u64 {
        u64::from(self.asked.block_size) * u64::from(self.asked.blocks)
    }

    fn frame_at(&self, n: u32) -> u64 {
        let a = &self.asked;
        let per_block = a.block_size / a.frame_size;
        self.base
            + u64::from(n / per_block) * u64::from(a.block_size)
            + u64::from(n % per_block) * u64::from(a.frame_size)
    }

    fn advance(&mut self) {
        self.head = (self.head + 1) % self.asked.frames;
    }
}

/// Whether a ring may have this layout (`packet_set_ring`).
fn check(a: &Asked, version: u32, reserve: u32, sends: bool) -> Result {
    let ok = |good: bool| if good { Ok(()) } else { Err(Errno::EINVAL) };
    let least = full_header(version).checked_add(reserve).ok_or(Errno::EINVAL)?;
    ok(a.block_size as i32 > 0 && u64::from(a.block_size).is_multiple_of(PAGE))?;
    if version == 2 {
        let room = u64::from(a.private).next_multiple_of(8) + super::blocks::HEADER + u64::from(least);
        ok(room <= u64::from(a.block_size))?;
    }
    ok(a.frame_size >= least && a.frame_size.is_multiple_of(ALIGN))?;
    let per_block = a.block_size / a.frame_size;
    ok(per_block != 0 && per_block.checked_mul(a.blocks) == Some(a.frames))?;
    ok(!(version == 2 && sends) || (a.open_for, a.private, a.features) == (0, 0, 0))
}

impl Rings {
    /// Whether there is one.
    pub fn any(&self) -> bool {
        self.all.iter().any(Option::is_some)
    }

    /// Makes a ring, or takes it away where it is to have no blocks.
    ///
    /// # Errors
    /// `EBUSY` while it is mapped or is there already, `EINVAL`, `ENOMEM`.
    pub fn set(&mut self, a: Asked, version: u32, reserve: u32, sends: bool) -> Result {
        if self.memory.as_ref().is_some_and(|m| m.is_mapped()) {
            return Err(Errno::EBUSY);
        }
        let which = usize::from(sends);
        let new = match a.blocks {
            0 if a.frames != 0 => return Err(Errno::EINVAL),
            0 => None,
            _ if self.all[which].is_some() => return Err(Errno::EBUSY),
            _ => {
                check(&a, version, reserve, sends)?;
                Some(Ring { base: 0, asked: a, head: 0, blocks: None })
            }
        };
        let other = self.all[1 - which].as_ref().map_or(0, Ring::len);
        let own = new.as_ref().map_or(0, Ring::len);
        if own > MOST {
            return Err(Errno::ENOMEM);
        }
        let memory = if own + other == 0 { None } else { Some(SharedMemory::new(own + other)?) };
        self.all[which] = new;
        self.place(memory, which);
        if let (0, 2, Some(ring), Some(memory)) = (which, version, &mut self.all[0], &self.memory) {
            ring.blocks = Some(Blocks::new(&ring.asked, ring.base, memory));
        }
        Ok(())
    }

    /// Moves the rings into new memory; `fresh`: the one that begins empty.
    fn place(&mut self, memory: Option<Arc<SharedMemory>>, fresh: usize) {
        let old = core::mem::replace(&mut self.memory, memory);
        let mut at = 0;
        for (n, ring) in self.all.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            if let (true, Some(old), Some(new)) = (n != fresh, &old, &self.memory) {
                let mut page = [0u8; 512];
                for off in (0..ring.len()).step_by(page.len()) {
                    old.get(ring.base + off, &mut page);
                    if page.iter().any(|&b| b != 0) {
                        new.put(at + off, &page);
                    }
                }
            }
            ring.base = at;
            if let Some(blocks) = &mut ring.blocks {
                blocks.base = at;
            }
            at += ring.len();
        }
    }

    /// The memory, where a mapping of this span is one of all rings.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn to_map(&self, (offset, len): (u64, u64)) -> Result<Arc<SharedMemory>> {
        let all: u64 = self.all.iter().flatten().map(Ring::len).sum();
        if offset != 0 || len != all {
            return Err(Errno::EINVAL);
        }
        self.memory.clone().ok_or(Errno::EINVAL)
    }

    /// Whether there is room for another frame.
    pub fn has_room(&self) -> bool {
        match (&self.all[0], &self.memory) {
            (Some(Ring { blocks: Some(blocks), .. }), Some(memory)) => blocks.has_room(memory),
            (Some(ring), Some(memory)) => memory.word(ring.frame_at(ring.head)) == status::KERNEL,
            _ => true,
        }
    }

    /// Whether the program has something to look at, and whether it may send more (`packet_poll`).
    pub fn ready(&self, version: u32) -> (bool, bool) {
        let Some(memory) = &self.memory else { return (false, false) };
        let received = self.all[0].as_ref().is_some_and(|ring| match &ring.blocks {
            Some(blocks) => blocks.has_closed(memory),
            None => {
                let last = ring.head.checked_sub(1).unwrap_or(ring.asked.frames - 1);
                memory.word(ring.frame_at(last)) != status::KERNEL
            }
        });
        let free = |ring: &Ring| memory.word(ring.frame_at(ring.head) + status_at(version)) == status::KERNEL;
        (received, self.all[1].as_ref().is_none_or(free))
    }

    /// Puts a frame into the ring for receiving (`tpacket_rcv`).
    pub fn put(&mut self, f: &Incoming<'_>, version: u32, reserve: u32) -> Put {
        let (Some(ring), Some(memory)) = (&mut self.all[0], &self.memory) else { return Put::Lost(false) };
        let net = aligned(full_header(version)) + ALIGN + reserve;
        let first = if f.head.is_empty() { net } else { net - HEAD as u32 };
        let whole = f.head.len() + f.payload.len();
        let mut kept = f.kept.min(whole) as u32;
        let most = match &ring.blocks {
            Some(blocks) => blocks.largest(),
            None => ring.asked.frame_size,
        };
        let cut = first.saturating_add(kept) > most;
        if cut {
            kept = most.saturating_sub(first);
        }
        let queue = cut && ring.blocks.is_none() && f.queues;
        let (at, closed) = match &mut ring.blocks {
            Some(blocks) => blocks.place(memory, first + kept, self.counts[1] != 0, &mut self.counts[2]),
            None => {
                let at = ring.frame_at(ring.head);
                ((memory.word(at) == status::KERNEL).then_some(at), false)
            }
        };
        let Some(at) = at else {
            self.counts[1] += 1;
            return Put::Lost(closed);
        };
        self.counts[0] += 1;
        let from_head = kept.min(f.head.len() as u32) as usize;
        let begin = at + u64::from(first);
        memory.put(begin, &f.head[..from_head]);
        memory.put(begin + from_head as u64, &f.payload[..(kept as usize - from_head).min(f.payload.len())]);
        let mut state = status::USER | status::CSUM_VALID;
        if queue {
            state |= status::COPY;
        }
        if version < 2 && self.counts[1] != 0 {
            state |= status::LOSING;
        }
        let header = Header { len: whole as u32, kept, mac: first as u16, net: net as u16, now: time::now() };
        memory.put(at + u64::from(aligned(HEADER[version as usize])), &f.from);
        header.write(memory, at, version);
        match &mut ring.blocks {
            Some(blocks) => {
                blocks.filled(memory, at, first + kept, header.now, state);
                Put::Done { wake: closed, queue }
            }
            None => {
                memory.set_word(at, state);
                ring.advance();
                Put::Done { wake: true, queue }
            }
        }
    }

    /// Closes the open block of a ring whose time is over; whether the program has something new to look at.
    pub fn time_over(&mut self) -> bool {
        let lost = self.counts[1] != 0;
        match (&mut self.all[0], &self.memory) {
            (Some(Ring { blocks: Some(blocks), .. }), Some(memory)) => {
                blocks.time_over(memory, lost, &mut self.counts[2])
            }
            _ => false,
        }
    }

    /// How long a block that has frames may stay open, ms.
    pub fn block_limit(&self) -> Option<u32> {
        self.all[0].as_ref()?.blocks.as_ref()?.limit()
    }

    /// The frame that the program wants to be sent next (`tpacket_parse_header`).
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn next(&mut self, version: u32, placed: Option<bool>) -> Result<Next> {
        let (Some(ring), Some(memory)) = (&mut self.all[1], &self.memory) else { return Ok(Next::None) };
        let at = ring.frame_at(ring.head);
        if memory.word(at + status_at(version)) != status::SEND_REQUEST {
            return Ok(Next::None);
        }
        let (len_at, places_at) = [(8, 16), (4, 12), (16, 24)][version as usize];
        let mut len = [0u8; 4];
        memory.get(at + len_at, &mut len);
        let len = u32::from_ne_bytes(len);
        let mut off = HEADER[version as usize];
        let mut most = ring.asked.frame_size - off;
        ring.advance();
        if version == 2 && memory.word(at) != 0 {
            return Ok(Next::Wrong(at, Errno::EINVAL));
        }
        if let Some(raw) = placed {
            // The program says where the data begins: by `tp_mac`, or `tp_net` without a link header.
            let mut place = [0u8; 2];
            memory.get(at + places_at + if raw { 0 } else { 2 }, &mut place);
            let place = u32::from(u16::from_ne_bytes(place));
            if place < off || place > ring.asked.frame_size {
                return Ok(Next::Wrong(at, Errno::EINVAL));
            }
            (off, most) = (place, ring.asked.frame_size - place);
        }
        if len > most {
            return Ok(Next::Wrong(at, Errno::EMSGSIZE));
        }
        let mut data = Vec::new();
        data.try_reserve_exact(len as usize).map_err(|_| Errno::ENOBUFS)?;
        data.resize(len as usize, 0);
        memory.get(at + u64::from(off), &mut data);
        Ok(Next::Frame(at, data))
    }

    /// Says what became of a program's frame.
    pub fn sent(&self, at: u64, version: u32, state: u32) {
        if let Some(memory) = &self.memory {
            memory.set_word(at + status_at(version), state);
        }
    }

    /// Steps back to a frame that was not sent.
    pub fn step_back(&mut self) {
        if let Some(ring) = &mut self.all[1] {
            ring.head = ring.head.checked_sub(1).unwrap_or(ring.asked.frames - 1);
        }
    }
}

/// Where in a frame its state is.
fn status_at(version: u32) -> u64 {
    if version == 2 { 20 } else { 0 }
}

/// What a frame's header tells.
struct Header {
    len: u32,
    kept: u32,
    mac: u16,
    net: u16,
    now: i64,
}

impl Header {
    /// Writes all but the state.
    fn write(&self, memory: &SharedMemory, at: u64, version: u32) {
        let (sec, nsec) = ((self.now / time::SECOND) as u32, (self.now % time::SECOND) as u32);
        let places = u32::from_ne_bytes([
            self.mac.to_ne_bytes()[0],
            self.mac.to_ne_bytes()[1],
            self.net.to_ne_bytes()[0],
            self.net.to_ne_bytes()[1],
        ]);
        let words: &[u32] = match version {
            0 => &[self.len, self.kept, places, sec, nsec / 1000],
            1 => &[self.len, self.kept, places, sec, nsec, 0, 0],
            _ => &[sec, nsec, self.kept, self.len, 0, places, 0, 0, 0, 0, 0],
        };
        // The state of version 1 is a long, which comes first; that of version 3 is among the rest.
        let begin = if version == 0 { 8 } else { 4 };
        let mut bytes = [0u8; 44];
        for (n, word) in words.iter().enumerate() {
            bytes[4 * n..4 * n + 4].copy_from_slice(&word.to_ne_bytes());
        }
        memory.put(at + begin, &bytes[..4 * words.len()]);
    }
}
