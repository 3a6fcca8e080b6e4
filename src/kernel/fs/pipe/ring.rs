//! What lies in a pipe.

use crate::abi::{Errno, Result};
use crate::arena;
use crate::sync::mend::forget_part;
use crate::sync::{Mend, StepQueue};
use alloc::vec::Vec;

/// Size of a page, and of what is written at once (`PIPE_BUF`).
pub const PAGE: usize = 4096;

/// A page of data, always [`PAGE`] bytes long.
pub struct Page(Vec<u8>);

impl Page {
    /// An empty page.
    ///
    /// # Errors
    /// `ENOMEM`: part of the heap stays for those who read.
    pub fn new() -> Result<Page> {
        arena::charge(arena::Object::Buffer)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(PAGE).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(PAGE, 0);
        Ok(Page(bytes))
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A buffer of a pipe.
pub struct Buf {
    page: Page,
    /// Where in the page the data lies.
    start: usize,
    end: usize,
    /// What is written next may be added to it.
    merges: bool,
    /// It is read as a whole (`O_DIRECT`).
    pub packet: bool,
}

impl Buf {
    /// The first `len` bytes of a page.
    pub fn new(page: Page, len: usize, merges: bool, packet: bool) -> Buf {
        Buf { page, start: 0, end: len, merges, packet }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        &self.page.0[self.start..self.end]
    }

    /// Drops the first `n` bytes.
    pub fn skip(&mut self, n: usize) {
        self.start += n;
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// The page, to be used again.
    pub fn into_page(self) -> Page {
        self.page
    }
}

/// The buffers of a pipe.
pub struct Ring {
    bufs: StepQueue<Buf>,
    slots: usize,
    bytes: usize,
    /// A page that was emptied, for the next write.
    spare: Option<Page>,
}

impl Mend for Ring {
    fn mend(&mut self) {
        forget_part(&mut self.spare, None);
        // Whoever died may have read all of the first one.
        while self.bufs.front().is_some_and(|first| first.len() == 0) {
            self.bufs.pop_front();
        }
        self.bytes = self.bufs.iter().map(Buf::len).sum();
    }
}

impl Ring {
    /// Room for so many buffers, which take no memory yet.
    pub fn new(slots: usize) -> Ring {
        Ring { bufs: StepQueue::new(), slots, bytes: 0, spare: None }
    }

    /// How many buffers there is room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many more there is room for.
    pub fn free(&self) -> usize {
        self.slots.saturating_sub(self.bufs.len())
    }

    /// Whether there is room for no other buffer.
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    /// Changes how many buffers there is room for.
    ///
    /// # Errors
    /// `EBUSY` if there are more.
    pub fn resize(&mut self, slots: usize) -> Result {
        if slots < self.bufs.len() {
            return Err(Errno::EBUSY);
        }
        self.slots = slots;
        Ok(())
    }

    /// Makes sure that a buffer can be added without memory.
    fn reserve(&mut self) -> Result {
        self.bufs.try_reserve()
    }

    /// Whether `n` bytes, at most a page, can be put at once ([`Ring::room`]), without memory.
    pub fn is_ready_for(&self, n: usize) -> bool {
        self.takes(n) || !self.is_full() && self.spare.is_some() && self.bufs.len() < self.bufs.capacity()
    }

    /// Whether all that is wanting for that is a page, which is better made without the lock ([`Ring::keep`]).
    pub fn wants_page(&self, n: usize) -> bool {
        !self.takes(n) && !self.is_full() && self.spare.is_none()
    }

    /// Makes it so.
    ///
    /// # Errors
    /// `EAGAIN` if there is no room, `ENOMEM`.
    pub fn ready_for(&mut self, n: usize) -> Result {
        if self.takes(n) {
            return Ok(());
        }
        if self.is_full() {
            return Err(Errno::EAGAIN);
        }
        self.reserve()?;
        if self.spare.is_none() {
            self.spare = Some(Page::new()?);
        }
        Ok(())
    }

    /// Where `n` bytes are put, to be followed by [`Ring::commit`], until which they mean nothing: behind the last
    /// buffer where they fit, or in one of their own. Empty if it is not ready for them.
    pub fn room(&mut self, n: usize) -> &mut [u8] {
        let page = if self.takes(n) {
            self.bufs.back_mut().map(|last| (last.end, &mut last.page))
        } else {
            self.spare.as_mut().map(|page| (0, page))
        };
        page.and_then(|(at, page)| page.bytes().get_mut(at..at + n)).unwrap_or_default()
    }

    /// The `n` bytes for which there was made room are there.
    pub fn commit(&mut self, n: usize, packet: bool) {
        if self.takes(n) {
            if let Some(last) = self.bufs.back_mut() {
                last.end += n;
                self.bytes += n;
            }
        } else if let Some(page) = self.spare.take() {
            self.append(Buf::new(page, n, !packet, packet));
        }
    }

    /// Adds a buffer.
    ///
    /// # Errors
    /// It comes back if there is no room or memory.
    pub fn push(&mut self, buf: Buf) -> core::result::Result<(), Buf> {
        if self.is_full() || self.reserve().is_err() {
            return Err(buf);
        }
        self.append(buf);
        Ok(())
    }

    /// Adds a buffer even where there is no room.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn force(&mut self, buf: Buf) -> Result {
        self.reserve()?;
        self.append(buf);
        Ok(())
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.bufs.clear();
        self.bufs.shrink();
        self.bytes = 0;
        self.spare = None;
    }

    fn append(&mut self, buf: Buf) {
        self.bytes += buf.len();
        self.bufs.push_back(buf);
    }

    /// Whether the last buffer takes `n` more bytes.
    pub fn takes(&self, n: usize) -> bool {
        self.bufs.back().is_some_and(|last| last.merges && last.end + n <= PAGE)
    }

    /// The buffer `n` from the front.
    pub fn peek(&self, n: usize) -> Option<&Buf> {
        self.bufs.get(n)
    }

    /// Takes the first buffer out.
    pub fn pop(&mut self) -> Option<Buf> {
        let buf = self.bufs.pop_front()?;
        self.bytes -= buf.len();
        Some(buf)
    }

    /// Drops the first `n` bytes of the first buffer, and the buffer with its last.
    pub fn skip(&mut self, n: usize) {
        let Some(first) = self.bufs.front_mut() else { return };
        first.skip(n);
        self.bytes -= n;
        if first.len() == 0
            && let Some(buf) = self.bufs.pop_front()
        {
            self.keep(buf.into_page());
        }
    }

    /// Puts a buffer back in front. There may be one more than there is room for, until it is read.
    pub fn unread(&mut self, buf: Buf) {
        if buf.len() > 0 && self.reserve().is_ok() {
            self.bytes += buf.len();
            self.bufs.push_front(buf);
        }
    }

    /// A page that is no longer needed.
    pub fn keep(&mut self, page: Page) {
        if self.spare.is_none() {
            self.spare = Some(page);
        }
    }

    /// The page that was kept.
    pub fn spare(&mut self) -> Option<Page> {
        self.spare.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ring: &mut Ring, data: &[u8], packet: bool) -> Result {
        ring.ready_for(data.len())?;
        assert!(ring.is_ready_for(data.len()));
        ring.room(data.len()).copy_from_slice(data);
        ring.commit(data.len(), packet);
        Ok(())
    }

    #[test]
    fn writes_merge_where_all_of_them_fits() {
        let mut ring = Ring::new(2);
        let big = [7; PAGE];
        write(&mut ring, &big[..3000], false).unwrap();
        write(&mut ring, &big[..1096], false).unwrap();
        assert_eq!((ring.free(), ring.bytes()), (1, 4096));
        write(&mut ring, &big[..1], true).unwrap();
        // A packet stays alone, and there is no room for another.
        assert_eq!(write(&mut ring, &big[..1], false), Err(Errno::EAGAIN));
        ring.skip(4096);
        write(&mut ring, &big, false).unwrap();
        assert!(ring.is_full());
        assert!(ring.pop().is_some_and(|b| b.packet && b.data() == [7]));
        let mut last = ring.pop().expect("the page");
        last.skip(4000);
        ring.unread(last);
        assert_eq!(ring.bytes(), 96);
        assert_eq!(ring.resize(0), Err(Errno::EBUSY));
        // What was read from its front leaves no room at its end.
        assert!(!ring.takes(1));
    }
}
