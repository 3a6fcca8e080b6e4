//! `struct nlmsghdr` and attributes.

use crate::abi::{Errno, Result};
use crate::net::links::{Manner, Refusal};
use alloc::vec::Vec;

/// Bytes of a `struct nlmsghdr`.
const HEAD: usize = 16;
/// `NLM_F_REQUEST`, `NLM_F_MULTI`, `NLM_F_ACK`, `NLM_F_DUMP`, `NLM_F_CAPPED`.
const REQUEST: u16 = 1;
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CAPPED: u16 = 0x100;
/// `NLM_F_DUMP_FILTERED`.
const FILTERED: u16 = 0x20;
/// `NLM_F_ACK_TLVS`, `NLMSGERR_ATTR_MSG`.
const ACK_TLVS: u16 = 0x200;
const WORDS: u16 = 1;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes after which a dump begins another packet.
const FULL: usize = 8192;

/// A message to the kernel.
pub struct Request<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// Its sender wants to hear of everything in it that is not understood (`NETLINK_GET_STRICT_CHK`).
    pub strict: bool,
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
        let (kind, flags, seq) = (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8));
        let request = Request { kind, strict: false, flags, seq, whole: &bytes[..len] };
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

    /// Whether something that is there is an error (`NLM_F_EXCL`), is replaced (`NLM_F_REPLACE`); whether what is not is
    /// made (`NLM_F_CREATE`), behind others (`NLM_F_APPEND`).
    pub fn manner(&self) -> Manner {
        let has = |bit: u16| self.flags & bit != 0;
        Manner { replace: has(0x100), exclusive: has(0x200), create: has(0x400), append: has(0x800) }
    }

    /// Whether its sender wants to hear what others are told of it (`NLM_F_ECHO`).
    pub fn wants_echo(&self) -> bool {
        self.flags & 8 != 0
    }

    /// Whether there are attributes behind a body of `skip` bytes other than these, by number.
    pub fn has_others(&self, skip: usize, known: &[u16]) -> bool {
        let all = self.body().get(skip.next_multiple_of(4)..).unwrap_or(&[]);
        attributes(all).any(|(number, _)| !known.contains(&number))
    }

    /// An attribute that is a number of 32 bits.
    ///
    /// # Errors
    /// `EINVAL` for another size.
    pub fn number(&self, skip: usize, wanted: u16) -> Result<Option<u32>> {
        self.attribute(skip, wanted)
            .map(|b| b.try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL))
            .transpose()
    }

    /// The attribute with a number, behind a body of `skip` bytes.
    pub fn attribute(&self, skip: usize, wanted: u16) -> Option<&'a [u8]> {
        attribute_in(self.body().get(skip.next_multiple_of(4)..)?, wanted)
    }

    /// The message that tells how the request went: 0 or a negative error. With an error comes the whole request, unless
    /// `capped` (`NETLINK_CAP_ACK`). `words`: what is said about the error to who wants to hear it
    /// (`NETLINK_EXT_ACK`), or nothing.
    pub fn acknowledge(&self, error: i32, port: u32, capped: bool, words: &str) -> Vec<u8> {
        let capped = capped || error == 0;
        let back = if capped { &self.whole[..HEAD] } else { self.whole };
        let flags = if capped { CAPPED } else { 0 } | if words.is_empty() { 0 } else { ACK_TLVS };
        let mut out = header(0, ERROR, flags, self.seq, port);
        out.extend_from_slice(&error.to_ne_bytes());
        out.extend_from_slice(back);
        out.resize(out.len().next_multiple_of(4), 0);
        append_words(&mut out, words);
        out
    }
}

/// Puts words behind a message (`NLMSGERR_ATTR_MSG`), and its length into it.
fn append_words(out: &mut Vec<u8>, words: &str) {
    if !words.is_empty() {
        out.extend_from_slice(&((words.len() + 5) as u16).to_ne_bytes());
        out.extend_from_slice(&WORDS.to_ne_bytes());
        out.extend_from_slice(words.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_ne_bytes());
}

/// The attributes in these bytes: number and value.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let len = u16_at(rest.get(..4)?, 0) as usize;
        let value = rest.get(4..len)?;
        let number = u16_at(rest, 2) & 0x3fff;
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        Some((number, value))
    })
}

/// The first attribute with a number among these.
pub fn attribute_in(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(number, _)| *number == wanted).map(|(_, value)| value)
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
    /// How a dump ended.
    ended: Option<Refusal>,
    /// The message that says so goes with the last of the others.
    together: bool,
}

impl Answer {
    /// An answer without messages.
    pub fn new(request: &Request<'_>, port: u32) -> Answer {
        let flags = if request.is_dump() { MULTI } else { 0 };
        Answer::with(request.seq, port, flags)
    }

    /// A message to all who listen, about what a request has done; `None`: nobody asked by netlink.
    pub fn notice(request: Option<(&Request<'_>, u32)>) -> Answer {
        let (seq, port) = request.map_or((0, 0), |(r, port)| (r.seq, port));
        Answer::with(seq, port, 0)
    }

    fn with(seq: u32, port: u32, flags: u16) -> Answer {
        Answer { seq, port, flags, packets: Vec::new(), current: Vec::new(), start: 0, ended: None, together: false }
    }

    /// What follows is not all that there is (`NLM_F_DUMP_FILTERED`), or all.
    pub fn filtered(&mut self, on: bool) {
        self.flags = if on { self.flags | FILTERED } else { self.flags & !FILTERED };
    }

    /// The message that ends a dump lies in the last packet, if that has room (`netlink_dump`).
    pub fn end_together(&mut self) {
        self.together = true;
    }

    /// A dump ended with an error.
    pub fn fail(&mut self, refusal: Refusal) {
        self.ended = Some(refusal);
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

    /// The packets of a dump, the last one says that it is over; `talks`: with words where it failed.
    pub fn finish_dump(self, talks: bool) -> Vec<Vec<u8>> {
        let (error, words) = self.ended.map_or((0, ""), |Refusal(e, words)| (-e.raw(), words));
        let words = if talks { words } else { "" };
        let flags = self.flags | if words.is_empty() { 0 } else { ACK_TLVS };
        let mut done = header(0, DONE, flags, self.seq, self.port);
        done.extend_from_slice(&error.to_ne_bytes());
        append_words(&mut done, words);
        let together = self.together;
        let mut packets = self.packets();
        match packets.last_mut().filter(|p| together && p.len() + done.len() <= FULL) {
            Some(last) => last.extend_from_slice(&done),
            None => packets.push(done),
        }
        packets
    }
}
