//! One direction of a connection: the bytes that were sent and not yet read.
//!
//! Data lies in pieces. Small sends fill up the last piece, large ones bring pieces of their own, which
//! are filled before the lock is taken. A piece that was read is freed, so an idle connection has none.

use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::mm::{IoDst, IoSrc};
use crate::sync::mend::forget_part;
use crate::sync::{Mend, StepQueue};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of a piece.
const PIECE: usize = 16 << 10;
/// Sends up to this size are copied twice, so that they need no memory of their own.
const SMALL: usize = 192;
/// Sends up to this size are gathered in pieces of `GATHER` bytes.
const MODEST: usize = 1024;
const GATHER: usize = 4096;
/// Most bytes that one send moves before it looks at the room again.
const ROUND: usize = 64 << 10;

/// Urgent data: the last byte of a send with `MSG_OOB`.
#[derive(Clone, Copy)]
struct Urgent {
    /// Its place in the stream.
    at: u64,
    byte: u8,
    read: bool,
}

#[derive(Default)]
struct Rare {
    /// Where what may be read ends; `None`: nothing is held back.
    shown: Option<u64>,
    urgent: Option<Urgent>,
}

/// See the module.
#[derive(Default)]
pub struct Stream {
    pieces: StepQueue<Vec<u8>>,
    /// How much of the first piece was read.
    skip: usize,
    /// Bytes that wait.
    len: usize,
    /// Bytes read so far: the place of the next one in the stream.
    head: u64,
    /// What few streams have.
    rare: Option<Box<Rare>>,
}

/// Data on its way into a stream, taken from the sender without any lock.
// It lives on the stack for one call: a box would cost the allocation that the small kind is to save.
#[allow(clippy::large_enum_variant)]
pub enum Parcel {
    /// Little enough to be copied once more.
    Small([u8; SMALL], usize),
    /// One piece, that is put behind what the last one has where it fits.
    Modest(Vec<u8>),
    /// Pieces of its own.
    Large(Vec<Vec<u8>>, usize),
}

impl Parcel {
    /// Takes up to `room` bytes from `src`.
    ///
    /// # Errors
    /// `EFAULT`, `ENOBUFS`.
    pub fn take(src: &mut IoSrc<'_>, room: usize) -> Result<Parcel> {
        let want = src.left().min(room).min(ROUND);
        arena::charge_bytes(Object::Packet, want as u64)?;
        if want <= SMALL {
            let mut bytes = [0u8; SMALL];
            let n = src.take(&mut bytes[..want])?;
            // Of a segment that cannot be copied whole nothing is sent.
            if n < want {
                return Err(Errno::EFAULT);
            }
            return Ok(Parcel::Small(bytes, n));
        }
        if want <= MODEST {
            let bytes = src.take_vec(want)?;
            return if bytes.len() < want { Err(Errno::EFAULT) } else { Ok(Parcel::Modest(bytes)) };
        }
        let mut pieces = Vec::new();
        let mut done = 0;
        pieces.try_reserve_exact(want.div_ceil(PIECE)).map_err(|_| Errno::ENOBUFS)?;
        while done < want {
            let n = PIECE.min(want - done);
            match src.take_vec(n) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => {
                    if piece.len() < n {
                        if done == 0 {
                            return Err(Errno::EFAULT);
                        }
                        break;
                    }
                    done += n;
                    pieces.push(piece);
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        if done == 0 { Err(Errno::ENOBUFS) } else { Ok(Parcel::Large(pieces, done)) }
    }

    /// What it consists of.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (small, large) = match self {
            Parcel::Small(bytes, n) => (Some(&bytes[..*n]), &[][..]),
            Parcel::Modest(bytes) => (Some(&bytes[..]), &[][..]),
            Parcel::Large(pieces, _) => (None, &pieces[..]),
        };
        small.into_iter().chain(large.iter().map(|p| &p[..]))
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        match self {
            Parcel::Small(_, n) | Parcel::Large(_, n) => *n,
            Parcel::Modest(bytes) => bytes.len(),
        }
    }
}

impl Mend for Stream {
    /// The pieces are whole. Urgent and held back data are forgotten as such.
    fn mend(&mut self) {
        if self.pieces.front().is_some_and(|first| self.skip >= first.len()) {
            self.pieces.pop_front();
            self.skip = 0;
        }
        let there: usize = self.pieces.iter().map(Vec::len).sum();
        if there == 0 {
            self.skip = 0;
        }
        self.len = there - self.skip;
        forget_part(&mut self.rare, None);
    }
}

impl Stream {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    fn shown(&self) -> Option<u64> {
        self.rare.as_ref()?.shown
    }

    fn urgent(&self) -> Option<Urgent> {
        self.rare.as_ref()?.urgent
    }

    /// The place behind the last byte.
    pub fn end(&self) -> u64 {
        self.head + self.len as u64
    }

    /// Bytes that may not be read yet.
    pub fn hidden(&self) -> usize {
        self.shown().map_or(0, |at| (self.end() - at.max(self.head)) as usize)
    }

    /// What may be read ends at a place.
    pub fn show_until(&mut self, at: u64) {
        let shown = (at < self.end()).then_some(at);
        if shown != self.shown() {
            self.rare.get_or_insert_default().shown = shown;
        }
    }

    /// Puts a parcel in.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn push(&mut self, parcel: Parcel) -> Result {
        let n = parcel.len();
        match parcel {
            Parcel::Small(bytes, n) => self.gather(&bytes[..n])?,
            Parcel::Modest(bytes) if self.pieces.is_empty() => {
                self.pieces.try_reserve().map_err(|_| Errno::ENOBUFS)?;
                self.pieces.push_back(bytes);
            }
            Parcel::Modest(bytes) => self.gather(&bytes)?,
            Parcel::Large(pieces, _) => {
                for piece in pieces {
                    self.pieces.push_back(piece);
                }
            }
        }
        self.len += n;
        Ok(())
    }

    /// Puts a few bytes behind what the last piece has.
    fn gather(&mut self, bytes: &[u8]) -> Result {
        let fits = self.pieces.back().is_some_and(|p| p.capacity() - p.len() >= bytes.len());
        if !fits {
            let mut piece = Vec::new();
            let room = if self.pieces.is_empty() { bytes.len().max(64) } else { GATHER };
            piece.try_reserve_exact(room).map_err(|_| Errno::ENOBUFS)?;
            self.pieces.try_reserve().map_err(|_| Errno::ENOBUFS)?;
            self.pieces.push_back(piece);
        }
        if let Some(last) = self.pieces.back_mut() {
            last.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The last byte that was put in is urgent.
    pub fn mark_urgent(&mut self) {
        let byte = self.pieces.back().and_then(|p| p.last()).copied().unwrap_or(0);
        if self.len > 0 {
            let at = self.head + self.len as u64 - 1;
            self.rare.get_or_insert_default().urgent = Some(Urgent { at, byte, read: false });
        }
    }

    /// Whether there is urgent data that was not read (`POLLPRI`).
    pub fn has_urgent(&self) -> bool {
        self.urgent().is_some_and(|u| !u.read)
    }

    /// Whether the next byte is the urgent one (`SIOCATMARK`).
    pub fn at_mark(&self) -> bool {
        self.urgent().is_some_and(|u| u.at == self.head)
    }

    /// The urgent byte, out of band; with `peek` it stays.
    ///
    /// # Errors
    /// `EINVAL` if there is none or it was read.
    pub fn take_urgent(&mut self, peek: bool) -> Result<u8> {
        let urgent = self.rare.as_mut().and_then(|r| r.urgent.as_mut()).filter(|u| !u.read).ok_or(Errno::EINVAL)?;
        urgent.read |= !peek;
        Ok(urgent.byte)
    }

    /// Bytes that one read may give: up to the mark, which a read does not cross.
    pub fn readable(&self, inline: bool) -> usize {
        let len = self.shown().map_or(self.len, |at| (at.saturating_sub(self.head) as usize).min(self.len));
        match self.urgent() {
            Some(u) if u.at == self.head && !inline => len.saturating_sub(1),
            Some(u) if u.at > self.head => ((u.at - self.head) as usize).min(len),
            _ => len,
        }
    }

    /// Passes over the urgent byte where it is next and not read in line.
    pub fn pass_mark(&mut self, inline: bool) {
        if !inline && self.at_mark() && self.len > 0 {
            self.consume(1);
        }
        if self.urgent().is_some_and(|u| u.at < self.head)
            && let Some(rare) = &mut self.rare
        {
            rare.urgent = None;
        }
    }

    /// Copies what is readable into `dst`. `peek`: it stays, and so many bytes of it were copied before.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read(&mut self, dst: &mut IoDst<'_>, peek: Option<usize>, inline: bool) -> Result<usize> {
        if peek.is_none() {
            self.pass_mark(inline);
        }
        let before = peek.unwrap_or(0);
        let mut offset = before + usize::from(peek.is_some() && !inline && self.at_mark());
        let want = self.readable(inline).saturating_sub(before).min(dst.left());
        let mut done = 0;
        while done < want {
            let Some((piece, from)) = self.piece_at(offset) else { break };
            let n = (piece.len() - from).min(want - done);
            let got = match dst.put(&piece[from..from + n]) {
                Ok(got) => got,
                Err(_) if done > 0 => 0,
                Err(e) => return Err(e),
            };
            done += got;
            if peek.is_some() {
                offset += got;
            } else {
                self.consume(got);
            }
            if got < n {
                break;
            }
        }
        Ok(done)
    }

    /// Drops what is readable, at most `n` bytes; how many it were.
    pub fn discard(&mut self, n: usize, inline: bool) -> usize {
        self.pass_mark(inline);
        let n = self.readable(inline).min(n);
        self.consume(n);
        n
    }

    /// The piece that has the byte `offset` from the head, and the byte's place in it.
    fn piece_at(&self, offset: usize) -> Option<(&Vec<u8>, usize)> {
        let mut at = offset + self.skip;
        for piece in self.pieces.iter() {
            if at < piece.len() {
                return Some((piece, at));
            }
            at -= piece.len();
        }
        None
    }

    fn consume(&mut self, mut n: usize) {
        self.head += n as u64;
        self.len -= n;
        while n > 0 {
            let Some(first) = self.pieces.front() else { break };
            let here = (first.len() - self.skip).min(n);
            self.skip += here;
            n -= here;
            if self.skip == first.len() {
                self.pieces.pop_front();
                self.skip = 0;
            }
        }
        if self.pieces.is_empty() && self.pieces.capacity() > 8 {
            self.pieces.shrink();
        }
    }

    /// Everything goes.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.pieces.shrink();
        self.head += self.len as u64;
        (self.skip, self.len) = (0, 0);
        self.rare = None;
    }

    /// Everything goes, and places are counted anew.
    pub fn restart(&mut self) {
        self.clear();
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn send(s: &mut Stream, bytes: &[u8]) {
        let parcel = IoSrc::with_kernel(bytes, |src| Parcel::take(src, usize::MAX)).expect("memory");
        s.push(parcel).expect("memory");
    }

    fn receive(s: &mut Stream, n: usize, peek: bool) -> Vec<u8> {
        let mut buf = vec![0; n];
        let got = IoDst::with_kernel(&mut buf, |dst| s.read(dst, peek.then_some(0), false)).expect("kernel memory");
        buf.truncate(got);
        buf
    }

    #[test]
    fn bytes_come_in_order_whatever_the_sizes() {
        let mut s = Stream::default();
        let mut sent = 0u32;
        let mut read = 0u32;
        for round in 0..200u32 {
            let n = (round * 977) % 9000 + 1;
            let bytes: Vec<u8> = (0..n).map(|i| ((sent + i) % 251) as u8).collect();
            send(&mut s, &bytes);
            sent += n;
            let want = ((round * 1231) % 8000) as usize;
            assert_eq!(receive(&mut s, want.min(7), true).len(), want.min(7).min(s.len()));
            for b in receive(&mut s, want, false) {
                assert_eq!(b, (read % 251) as u8);
                read += 1;
            }
            assert_eq!(s.len(), (sent - read) as usize);
        }
        let rest = receive(&mut s, usize::MAX >> 40, false).len();
        assert_eq!(rest, (sent - read) as usize);
        assert!(s.pieces.is_empty(), "an idle stream has no memory");
    }

    #[test]
    fn a_read_stops_at_the_mark_and_the_urgent_byte_is_apart() {
        let mut s = Stream::default();
        send(&mut s, b"abc");
        send(&mut s, b"dX");
        s.mark_urgent();
        send(&mut s, b"ef");
        assert!(s.has_urgent() && !s.at_mark());
        assert_eq!(receive(&mut s, 10, false), b"abcd");
        assert!(s.at_mark());
        assert_eq!(s.take_urgent(false), Ok(b'X'));
        assert_eq!(s.take_urgent(false), Err(Errno::EINVAL));
        assert_eq!(receive(&mut s, 10, false), b"ef");
        assert!(!s.at_mark());
    }
}
