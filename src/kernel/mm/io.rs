//! Sources and destinations of data: guest vectors or kernel buffers, so that one `read` serves
//! a guest, `sendfile`, the ELF loader and the control channel.

use super::user::range_ok;
use crate::abi::{Errno, Result};
use crate::arch::usercopy;
use core::marker::PhantomData;

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct IoVec {
    /// Guest address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

struct Cursor<'a> {
    vecs: &'a [IoVec],
    kernel: bool,
    at: usize,
    offset: u64,
    left: usize,
    done: usize,
}

impl<'a> Cursor<'a> {
    fn new(vecs: &'a [IoVec], kernel: bool) -> Cursor<'a> {
        let left = vecs.iter().fold(0usize, |n, v| n.saturating_add(v.len as usize));
        Cursor { vecs, kernel, at: 0, offset: 0, left, done: 0 }
    }

    /// The rest of the current piece.
    fn piece(&mut self) -> Option<(u64, usize)> {
        while self.left > 0 {
            let v = self.vecs.get(self.at)?;
            if self.offset < v.len {
                let n = ((v.len - self.offset) as usize).min(self.left);
                return Some((v.base.wrapping_add(self.offset), n));
            }
            self.at += 1;
            self.offset = 0;
        }
        None
    }

    fn advance(&mut self, n: usize) {
        self.offset += n as u64;
        self.left -= n;
        self.done += n;
    }

    /// Moves up to `n` bytes piecewise by `copy(piece address, length, bytes done) -> bytes left`.
    fn each(&mut self, n: usize, mut copy: impl FnMut(u64, usize, usize) -> usize) -> Result<usize> {
        let mut moved = 0;
        while moved < n {
            let Some((addr, len)) = self.piece() else { break };
            let len = len.min(n - moved);
            let left = if self.kernel || range_ok(addr, len as u64) { copy(addr, len, moved) } else { len };
            self.advance(len - left);
            moved += len - left;
            if left > 0 {
                // Like Linux: what was moved counts, a fault on the first byte is an error.
                return if moved > 0 { Ok(moved) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(moved)
    }
}

macro_rules! common {
    ($t:ident) => {
        impl<'a> $t<'a> {
            /// Guest pieces, in order.
            pub fn user(vecs: &'a [IoVec]) -> Self {
                $t { cursor: Cursor::new(vecs, false), _p: PhantomData }
            }
            /// Bytes of room or data left.
            pub fn left(&self) -> usize {
                self.cursor.left
            }
            /// Bytes moved so far.
            pub fn done(&self) -> usize {
                self.cursor.done
            }
            /// Leaves at most `n` bytes to be moved.
            pub fn limit(&mut self, n: usize) {
                self.cursor.left = self.cursor.left.min(n);
            }
            /// The next piece as raw address and length, for a host call that moves the data itself;
            /// follow with [`Self::advance`].
            ///
            /// # Errors
            /// `EFAULT` if the piece is no guest memory.
            pub fn piece(&mut self) -> Result<Option<(u64, usize)>> {
                let kernel = self.cursor.kernel;
                match self.cursor.piece() {
                    Some((a, n)) if kernel || range_ok(a, n as u64) => Ok(Some((a, n))),
                    Some(_) => Err(Errno::EFAULT),
                    None => Ok(None),
                }
            }
            /// Counts `n` bytes of the current piece as moved.
            pub fn advance(&mut self, n: usize) {
                self.cursor.advance(n);
            }
        }
    };
}

/// Where a read puts its data.
pub struct IoDst<'a> {
    cursor: Cursor<'a>,
    _p: PhantomData<&'a mut [u8]>,
}
common!(IoDst);

/// Where a write takes its data from.
pub struct IoSrc<'a> {
    cursor: Cursor<'a>,
    _p: PhantomData<&'a [u8]>,
}
common!(IoSrc);

impl IoDst<'_> {
    /// Runs `f` with a destination that is the kernel buffer `buf`.
    pub fn with_kernel<R>(buf: &mut [u8], f: impl FnOnce(&mut IoDst<'_>) -> R) -> R {
        let vecs = [IoVec { base: buf.as_mut_ptr() as u64, len: buf.len() as u64 }];
        f(&mut IoDst { cursor: Cursor::new(&vecs, true), _p: PhantomData })
    }

    /// Puts as much of `src` as fits; returns how much.
    ///
    /// # Errors
    /// `EFAULT` if nothing could be put because of a bad address.
    pub fn put(&mut self, src: &[u8]) -> Result<usize> {
        self.cursor.each(src.len(), |addr, len, done| {
            // SAFETY: `done + len <= src.len()`; the destination was checked or is a kernel buffer.
            unsafe { usercopy::copy(addr as *mut u8, src.as_ptr().add(done), len) }
        })
    }

    /// Puts `n` zero bytes, or as many as fit.
    ///
    /// # Errors
    /// As [`IoDst::put`].
    pub fn put_zeros(&mut self, n: usize) -> Result<usize> {
        self.cursor.each(n, |addr, len, _| {
            // SAFETY: the destination was checked or is a kernel buffer.
            unsafe { usercopy::zero(addr as *mut u8, len) }
        })
    }
}

/// A place in a source ([`IoSrc::mark`]).
#[derive(Clone, Copy)]
pub struct IoMark {
    at: usize,
    offset: u64,
    left: usize,
    done: usize,
}

impl IoSrc<'_> {
    /// Where it is, for [`IoSrc::reset`].
    pub fn mark(&self) -> IoMark {
        let Cursor { at, offset, left, done, .. } = self.cursor;
        IoMark { at, offset, left, done }
    }

    /// Goes back to where it was: what was taken since was not used.
    pub fn reset(&mut self, to: IoMark) {
        let IoMark { at, offset, left, done } = to;
        (self.cursor.at, self.cursor.offset, self.cursor.left, self.cursor.done) = (at, offset, left, done);
    }

    /// Runs `f` with a source that is the kernel buffer `buf`.
    pub fn with_kernel<R>(buf: &[u8], f: impl FnOnce(&mut IoSrc<'_>) -> R) -> R {
        let vecs = [IoVec { base: buf.as_ptr() as u64, len: buf.len() as u64 }];
        f(&mut IoSrc { cursor: Cursor::new(&vecs, true), _p: PhantomData })
    }

    /// Takes up to `dst.len()` bytes; returns how many.
    ///
    /// # Errors
    /// `EFAULT` if nothing could be taken because of a bad address.
    pub fn take(&mut self, dst: &mut [u8]) -> Result<usize> {
        let base = dst.as_mut_ptr();
        self.cursor.each(dst.len(), |addr, len, done| {
            // SAFETY: `done + len <= dst.len()`; the source was checked or is a kernel buffer.
            unsafe { usercopy::copy(base.add(done), addr as *const u8, len) }
        })
    }
}
