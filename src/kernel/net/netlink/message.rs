//! `struct nlmsghdr` and attributes.

use alloc::vec::Vec;

/// Bytes of a `struct nlmsghdr`.
const HEAD: usize = 16;
/// `NLM_F_REQUEST`, `NLM_F_MULTI`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CAPPED`.
const REQUEST: u16 = 1;
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CAPPED: u16 = 0x100;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes after which a dump begins another packet.
const FULL: usize = 8192;

/// A message to the kernel.
pub struct Request<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    flags: u16,
    seq: u32,
    whole: &'a [u8],
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

impl<'a> Request<'a> {
    /// The first message of a packet, and what follows it.
    pub fn parse(bytes: &'a [u8]) -> Option<(Request<'a>, &'a [u8])> {
        let len = u32_at(bytes.get(..HEAD)?, 0) as usize;
        if len < HEAD || len > bytes.len() {
            return None;
        }
        let request =
            Request { kind: u16_at(bytes, 4), flags: u16_at(bytes, 6), seq: u32_at(bytes, 8), whole: &bytes[..len] };
        Some((request, &bytes[len.next_multiple_of(4).min(bytes.len())..]))
    }

    /// Whether it asks for something.
    pub fn is_request(&self) -> bool {
        self.flags & REQUEST != 0
    }

    /// Whether it asks for everything of a kind.
    pub fn is_dump(&self) -> bool {
        self.flags & DUMP == DUMP
    }

    /// Whether success is to be told.
    pub fn wants_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    /// What follows the header.
    pub fn body(&self) -> &'a [u8] {
        &self.whole[HEAD..]
    }

    /// The attribute with a number, behind a body of `skip` bytes.
    pub fn attribute(&self, skip: usize, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.body().get(skip.next_multiple_of(4)..)?;
        while rest.len() >= 4 {
            let len = u16_at(rest, 0) as usize;
            if len < 4 || len > rest.len() {
                return None;
            }
            if u16_at(rest, 2) & 0x3fff == wanted {
                return Some(&rest[4..len]);
            }
            rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
        None
    }

    /// The message that tells how the request went: 0 or a negative error. With an error comes the whole request, unless
    /// `capped` (`NETLINK_CAP_ACK`).
    pub fn acknowledge(&self, error: i32, port: u32, capped: bool) -> Vec<u8> {
        let capped = capped || error == 0;
        let back = if capped { &self.whole[..HEAD] } else { self.whole };
        let flags = if capped { CAPPED } else { 0 };
        let mut out = header(HEAD + 4 + back.len(), ERROR, flags, self.seq, port);
        out.extend_from_slice(&error.to_ne_bytes());
        out.extend_from_slice(back);
        out
    }
}

fn header(len: usize, kind: u16, flags: u16, seq: u32, port: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(len as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&seq.to_ne_bytes());
    out.extend_from_slice(&port.to_ne_bytes());
    out
}

/// The messages that answer a request.
pub struct Answer {
    seq: u32,
    port: u32,
    flags: u16,
    packets: Vec<Vec<u8>>,
    current: Vec<u8>,
    /// Where the message that is being made begins.
    start: usize,
}

impl Answer {
    /// An answer without messages.
    pub fn new(request: &Request<'_>, port: u32) -> Answer {
        let flags = if request.is_dump() { MULTI } else { 0 };
        Answer { seq: request.seq, port, flags, packets: Vec::new(), current: Vec::new(), start: 0 }
    }

    /// Begins a message with this body; attributes follow.
    pub fn begin(&mut self, kind: u16, body: &[u8]) {
        self.end();
        if self.current.len() > FULL {
            self.packets.push(core::mem::take(&mut self.current));
        }
        self.start = self.current.len();
        let head = header(0, kind, self.flags, self.seq, self.port);
        self.current.extend_from_slice(&head);
        self.current.extend_from_slice(body);
        self.align();
    }

    /// Adds an attribute.
    pub fn add(&mut self, number: u16, data: &[u8]) {
        self.current.extend_from_slice(&((data.len() + 4) as u16).to_ne_bytes());
        self.current.extend_from_slice(&number.to_ne_bytes());
        self.current.extend_from_slice(data);
        self.align();
    }

    /// Adds an attribute of attributes, each of a number and numbers of 32 bits below it.
    pub fn add_table(&mut self, number: u16, rows: &[&[(u16, &[u8])]]) {
        let mut data = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let mut inner = Vec::new();
            for (kind, bytes) in *row {
                inner.extend_from_slice(&((bytes.len() + 4) as u16).to_ne_bytes());
                inner.extend_from_slice(&kind.to_ne_bytes());
                inner.extend_from_slice(bytes);
                inner.resize(inner.len().next_multiple_of(4), 0);
            }
            data.extend_from_slice(&((inner.len() + 4) as u16).to_ne_bytes());
            data.extend_from_slice(&(i as u16 + 1).to_ne_bytes());
            data.extend_from_slice(&inner);
        }
        self.add(number, &data);
    }

    /// Adds an attribute that is a number.
    pub fn add_u32(&mut self, number: u16, value: u32) {
        self.add(number, &value.to_ne_bytes());
    }

    fn align(&mut self) {
        let len = self.current.len();
        self.current.resize(len.next_multiple_of(4), 0);
    }

    fn end(&mut self) {
        if self.current.len() > self.start {
            let len = (self.current.len() - self.start) as u32;
            self.current[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// The packets.
    pub fn packets(mut self) -> Vec<Vec<u8>> {
        self.end();
        if !self.current.is_empty() {
            self.packets.push(self.current);
        }
        self.packets
    }

    /// The packets of a dump, the last one says that it is over.
    pub fn finish_dump(self) -> Vec<Vec<u8>> {
        let mut done = header(HEAD + 4, DONE, MULTI, self.seq, self.port);
        done.extend_from_slice(&0i32.to_ne_bytes());
        let mut packets = self.packets();
        packets.push(done);
        packets
    }
}
