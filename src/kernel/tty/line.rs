//! What lies in a terminal: lines that wait to be read, and bytes on their way.

use super::termios::DISABLED;
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::Mend;
use crate::sync::mend::{forget_part, step};
use alloc::vec::Vec;

/// Bytes of input that a terminal keeps for its readers (`N_TTY_BUF_SIZE`).
pub const SIZE: usize = 4096;

/// The buffer for readers. Positions count on for ever; a byte lies at its position modulo [`SIZE`].
pub struct Line {
    /// Empty until there is input, then [`SIZE`] long.
    data: Vec<u8>,
    /// Which bytes end a line.
    ends: [u64; SIZE / 64],
    head: usize,
    canon: usize,
    tail: usize,
}

fn at(position: usize) -> usize {
    position % SIZE
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Mend for Line {
    fn mend(&mut self) {
        self.canon = self.canon.max(self.tail);
        let order = self.canon <= self.head && self.head - self.tail <= SIZE;
        if self.data.len() != SIZE || !order {
            forget_part(self, Line::new());
        }
    }
}

impl Line {
    /// Nothing, which takes no memory.
    pub const fn new() -> Line {
        Line { data: Vec::new(), ends: [0; SIZE / 64], head: 0, canon: 0, tail: 0 }
    }

    /// Makes sure that bytes can be put.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self) -> Result {
        if self.data.is_empty() {
            arena::charge(Object::Buffer)?;
            self.data.try_reserve_exact(SIZE).map_err(|_| Errno::ENOMEM)?;
            self.data.resize(SIZE, 0);
        }
        Ok(())
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.head - self.tail
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a whole line, or the end of a file, is in it.
    pub fn has_line(&self) -> bool {
        self.canon != self.tail
    }

    /// Whether an unfinished line is in it.
    pub fn has_part(&self) -> bool {
        self.head != self.canon
    }

    /// Bytes that can be read, if input comes in `lines`.
    pub fn readable(&self, lines: bool) -> usize {
        if lines { self.canon - self.tail } else { self.head - self.tail }
    }

    /// Adds a byte.
    pub fn put(&mut self, c: u8) {
        if let Some(place) = self.data.get_mut(at(self.head)) {
            *place = c;
            self.head += 1;
        }
    }

    /// Adds a byte that ends a line.
    pub fn put_end(&mut self, c: u8) {
        self.mark(self.head);
        self.put(c);
        self.canon = self.head;
    }

    /// Adds as many of `bytes` as fit.
    pub fn extend(&mut self, bytes: &[u8]) {
        for &c in &bytes[..bytes.len().min(SIZE - self.len())] {
            self.put(c);
        }
    }

    fn mark(&mut self, position: usize) {
        self.ends[at(position) / 64] |= 1 << (position % 64);
    }

    fn is_end(&self, position: usize) -> bool {
        self.ends[at(position) / 64] >> (position % 64) & 1 != 0
    }

    /// The first position of an unfinished line, and the one behind the last byte.
    pub fn part(&self) -> core::ops::Range<usize> {
        self.canon..self.head
    }

    /// The byte at a position.
    pub fn byte(&self, position: usize) -> u8 {
        self.data.get(at(position)).copied().unwrap_or(0)
    }

    /// Takes the bytes from `head` on away, which are part of an unfinished line.
    pub fn rewind(&mut self, head: usize) {
        self.head = head;
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        *self = Line { data: core::mem::take(&mut self.data), ..Line::new() };
    }

    /// What is in it becomes one line that is not finished yet but can be read (`lines`), or mere bytes
    /// (`n_tty_set_termios`).
    pub fn change_mode(&mut self, lines: bool) {
        self.ends = [0; SIZE / 64];
        if lines && !self.is_empty() {
            self.mark(self.head - 1);
            self.canon = self.head;
        } else {
            self.canon = self.tail;
        }
    }

    /// The next bytes to read, as far as they lie together: of the first line with `lines`, at most `most`. And
    /// how many bytes go with them when all were read, and whether a line ends there: the end of a file is
    /// taken out but not read.
    pub fn next(&self, lines: bool, most: usize) -> (&[u8], usize, bool) {
        let start = at(self.tail);
        let n = self.readable(lines).min(most);
        let together = n.min(SIZE - start);
        if !lines {
            return (self.data.get(start..start + together).unwrap_or(&[]), together, false);
        }
        let end = (self.tail..self.tail + together).find(|&p| self.is_end(p));
        let Some(end) = end else {
            // The end of a file right behind what fills the reader's buffer goes with it.
            let behind = self.tail + together;
            if together == most && behind < self.canon && self.is_end(behind) && self.byte(behind) == DISABLED {
                return (self.data.get(start..start + together).unwrap_or(&[]), together + 1, true);
            }
            return (self.data.get(start..start + together).unwrap_or(&[]), together, false);
        };
        let taken = end + 1 - self.tail;
        let shown = if self.byte(end) == DISABLED { taken - 1 } else { taken };
        (self.data.get(start..start + shown).unwrap_or(&[]), taken, true)
    }

    /// `n` bytes were read; `ends`: the last of them ends a line.
    pub fn skip(&mut self, n: usize, ends: bool) {
        self.tail += n;
        if ends {
            let position = self.tail - 1;
            self.ends[at(position) / 64] &= !(1 << (position % 64));
        }
        if self.canon < self.tail {
            self.canon = self.tail;
        }
    }

    /// Bytes of whole lines without those that stand for the end of a file (`inq_canon`).
    pub fn line_bytes(&self) -> usize {
        (self.tail..self.canon).filter(|&p| !(self.is_end(p) && self.byte(p) == DISABLED)).count()
    }
}

/// Bytes on their way, in order; memory is taken as they come.
pub struct Ring {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    limit: usize,
    /// Set while more than one part of it changes.
    moving: bool,
}

impl Mend for Ring {
    fn mend(&mut self) {
        if self.moving {
            // What lay in it is lost.
            forget_part(self, Ring::new(self.limit));
        }
    }
}

impl Ring {
    /// Room for `limit` bytes, which takes no memory yet.
    pub const fn new(limit: usize) -> Ring {
        Ring { bytes: Vec::new(), start: 0, len: 0, limit, moving: false }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more there is room for.
    pub fn room(&self) -> usize {
        self.limit - self.len
    }

    /// Makes sure that `n` more bytes can be put, as far as there is room; how many.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn reserve(&mut self, n: usize) -> Result<usize> {
        let n = n.min(self.room());
        let want = self.len + n;
        if want > self.bytes.len() {
            let size = want.next_power_of_two().clamp(512, self.limit.max(512));
            arena::charge(Object::Buffer)?;
            let mut bigger = Vec::new();
            bigger.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
            let (a, b) = self.parts();
            bigger.extend_from_slice(a);
            bigger.extend_from_slice(b);
            bigger.resize(size, 0);
            self.moves(|ring| (ring.bytes, ring.start) = (bigger, 0));
        }
        Ok(n)
    }

    fn moves(&mut self, f: impl FnOnce(&mut Ring)) {
        self.moving = true;
        step();
        f(self);
        step();
        self.moving = false;
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let first = self.len.min(self.bytes.len() - self.start);
        (&self.bytes[self.start..self.start + first], &self.bytes[..self.len - first])
    }

    /// Adds as many of `bytes` as memory was reserved for and fit; how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let size = self.bytes.len();
        let n = bytes.len().min(size - self.len).min(self.room());
        if n == 0 {
            return 0;
        }
        let end = (self.start + self.len) % size;
        let first = n.min(size - end);
        self.bytes[end..end + first].copy_from_slice(&bytes[..first]);
        self.bytes[..n - first].copy_from_slice(&bytes[first..n]);
        self.len += n;
        n
    }

    /// The first bytes, as far as they lie together.
    pub fn front(&self) -> &[u8] {
        self.parts().0
    }

    /// Takes the first `n` bytes away, and the memory with the last.
    pub fn skip(&mut self, n: usize) {
        self.moves(|ring| {
            ring.len -= n;
            if ring.len == 0 {
                ring.start = 0;
                if ring.bytes.len() > SIZE {
                    ring.bytes = Vec::new();
                }
            } else {
                ring.start = (ring.start + n) % ring.bytes.len();
            }
        });
    }

    /// Leaves the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_were_ended() {
        let mut line = Line::new();
        line.reserve().unwrap();
        for round in 0..SIZE {
            line.extend(b"ab");
            line.put_end(b'\n');
            line.put_end(0);
            line.put(b'x');
            assert_eq!((line.len(), line.readable(true), line.line_bytes()), (5, 4, 3), "{round}");
            line.rewind(line.part().start);
            let mut got = Vec::new();
            loop {
                let (bytes, taken, ends) = line.next(true, 2);
                got.extend_from_slice(bytes);
                line.skip(taken, ends);
                if ends {
                    break;
                }
            }
            assert_eq!(got, b"ab\n");
            let (bytes, taken, ends) = line.next(true, 2);
            assert_eq!((bytes, taken, ends), (&b""[..], 1, true));
            line.skip(taken, ends);
            assert!(!line.has_line() && !line.has_part());
        }
    }

    #[test]
    fn bytes_come_out_in_order() {
        let mut ring = Ring::new(1000);
        let (mut sent, mut got) = (0u8, 0u8);
        for n in (0..400).map(|i| i * 7 % 300) {
            let n = ring.reserve(n).unwrap();
            let bytes: Vec<u8> = (0..n).map(|i| sent.wrapping_add(i as u8)).collect();
            sent = sent.wrapping_add(n as u8);
            assert_eq!(ring.put(&bytes), n);
            let front = ring.front().to_vec();
            for c in &front {
                assert_eq!(*c, got);
                got = got.wrapping_add(1);
            }
            ring.skip(front.len());
        }
        assert!(ring.room() <= 1000);
    }
}
