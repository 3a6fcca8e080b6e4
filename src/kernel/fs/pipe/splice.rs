//! What `splice(2)`, `tee(2)` and `vmsplice(2)` do with a pipe: buffers go in and out as they are.

use super::ends::PipeEnd;
use super::ring::{Buf, PAGE, Page};
use crate::abi::{Errno, Result};
use crate::sync::Events;
use crate::vfs::OpenFile;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

impl PipeEnd {
    /// The pipe's end behind an open file.
    pub fn of_file(file: &OpenFile) -> Option<&PipeEnd> {
        file.ops.as_any().downcast_ref()
    }

    /// Whether both are ends of one pipe.
    pub fn is_same_pipe(&self, other: &PipeEnd) -> bool {
        Arc::ptr_eq(&self.pipe, &other.pipe)
    }

    /// Whether somebody can write to it.
    pub fn has_writers(&self) -> bool {
        self.pipe.writers.load(SeqCst) > 0
    }

    /// Whether somebody can read from it.
    pub fn has_readers(&self) -> bool {
        self.pipe.readers.load(SeqCst) > 0
    }

    /// How many buffers there is room for.
    pub fn room(&self) -> usize {
        self.pipe.ring.lock().free()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pipe.ring.lock().is_empty()
    }

    /// Takes the first buffer, or its first `most` bytes, out.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn take_buf(&self, most: usize) -> Result<Option<Buf>> {
        let (taken, was_full) = {
            let mut ring = self.pipe.ring.lock();
            let was_full = ring.is_full();
            let taken = match ring.peek(0) {
                None => return Ok(None),
                Some(first) if first.data().len() <= most => ring.pop(),
                Some(first) => {
                    let part = copy(first, most)?;
                    ring.skip(most);
                    Some(part)
                }
            };
            (taken, was_full)
        };
        if was_full {
            self.pipe.queue.wake(Events::OUT);
        }
        Ok(taken)
    }

    /// Puts back what was taken and not used.
    pub fn give_back(&self, buf: Buf) {
        self.pipe.ring.lock().unread(buf);
        self.pipe.queue.wake(Events::IN);
    }

    /// Copies of at most `most` bytes from the front on, in at most `count` buffers. They are what lay there at one
    /// moment: a writer adds to the last buffer.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn copies(&self, most: usize, count: usize) -> Result<Vec<Buf>> {
        let mut copies = Vec::new();
        let ring = self.pipe.ring.lock();
        let (mut left, mut n) = (most, 0);
        while let Some(buf) = ring.peek(n).filter(|_| n < count && left > 0) {
            copies.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let buf = copy(buf, left)?;
            left -= buf.data().len();
            copies.push(buf);
            n += 1;
        }
        Ok(copies)
    }

    /// Adds a buffer; it comes back when there is no room.
    ///
    /// # Errors
    /// The buffer.
    pub fn put_buf(&self, buf: Buf) -> core::result::Result<(), Buf> {
        self.pipe.ring.lock().push(buf)?;
        self.pipe.queue.wake(Events::IN);
        Ok(())
    }

    /// Adds a buffer of data that cannot be given back to where it came from, if need be beyond the room.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn force_buf(&self, buf: Buf) -> Result {
        self.pipe.ring.lock().force(buf)?;
        self.pipe.queue.wake(Events::IN);
        Ok(())
    }
}

fn copy(of: &Buf, most: usize) -> Result<Buf> {
    let data = &of.data()[..of.data().len().min(most).min(PAGE)];
    let mut page = Page::new()?;
    page.bytes()[..data.len()].copy_from_slice(data);
    Ok(Buf::new(page, data.len(), false, of.packet))
}
