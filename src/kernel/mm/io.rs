//! Sources and destinations of data: guest vectors or kernel buffers, so that one `read` serves
//! a guest, `sendfile`, the ELF loader and the control channel.
//!
//! **Copies under a lock.** A copy to or from guest memory may fault, and the fault may wait for a disk or a
//! network. So an object that copies under its lock does it in `under_lock` (both types have it):
//!
//! ```text
//! src.under_lock(first, |src| {
//!     let mut state = self.state.lock();
//!     …look whether there is room: EAGAIN, EPIPE …
//!     state.put(src)                  // src.take(): as far as the pages are there
//! })
//! ```
//!
//! It touches the pages of the first `first` bytes, runs the closure, which takes the lock, and in which copies stop
//! where pages were not touched before. Where they did stop, the lock is free again, more pages are touched and the
//! closure runs once more for the rest. So it must look at its state anew each time. What it moved in all is the
//! result. An address that cannot be touched ends it: with what was moved so far, or `EFAULT`.
//!
//! *Why touching.* Guest memory is host memory: whether a page is there only the host knows, and it tells nobody
//! without a call. A load a page, right before the lock, costs 1 ns; copying to a buffer in between costs each byte
//! twice. That the host takes the page away again within the next microseconds is rare, and then the copy is slow,
//! not wrong. That another thread unmaps it is the case that must be right: the copy ends there by the fixup
//! (`arch::usercopy`), the lock is dropped, and touching the page says `EFAULT`. Pages of a destination are touched by
//! a load for the first page of data and by an atomic store of what is there beyond: a load alone would make a fresh
//! page fault twice, and a store on the way of every small read costs 5 ns.
//!
//! A copy outside of `under_lock` must not happen under a lock: debug builds check it ([`crate::sync::may_fault`]).

use super::user::{self, range_ok};
use crate::abi::{Errno, Result, SysError, SysResult};
use crate::arch::usercopy;
use crate::sync::may_fault;
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

/// How many bytes' pages are touched at a time once the first ones did not do.
const STEP: usize = 64 << 10;
/// How often in a row a page that could be touched may be gone again before it counts as a bad address: another
/// thread of the guest must be playing with it.
const FAULTS: u32 = 16;
/// Page size, bytes.
const PAGE: usize = 4096;

/// Why a copy under a lock ended early.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It did not.
    No,
    /// What follows was not touched.
    Mark,
    /// A fault.
    Fault,
}

struct Cursor<'a> {
    vecs: &'a [IoVec],
    kernel: bool,
    at: usize,
    offset: u64,
    left: usize,
    done: usize,
    /// A lock is held: copies go as far as `ready` and say in `stopped` why they ended.
    locked: bool,
    /// Bytes from here on whose pages were touched.
    ready: usize,
    stopped: Stopped,
    /// Faults since anything was moved.
    faults: u32,
}

impl<'a> Cursor<'a> {
    fn new(vecs: &'a [IoVec], kernel: bool) -> Cursor<'a> {
        let left = vecs.iter().fold(0usize, |n, v| n.saturating_add(v.len as usize));
        Cursor {
            vecs,
            kernel,
            at: 0,
            offset: 0,
            left,
            done: 0,
            locked: false,
            ready: 0,
            stopped: Stopped::No,
            faults: 0,
        }
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
        self.ready = self.ready.saturating_sub(n);
    }

    /// Where the next `n` bytes lie, if that is in one piece, whose addresses may be used.
    #[inline]
    fn at_hand(&self, n: usize) -> Option<u64> {
        let v = self.vecs.get(self.at)?;
        let addr = v.base.wrapping_add(self.offset);
        let fits = n <= self.left && n as u64 <= v.len.saturating_sub(self.offset);
        (fits && (self.kernel || range_ok(addr, n as u64))).then_some(addr)
    }

    /// Touches the pages of the next `n` bytes, as far as that goes.
    #[inline]
    fn bring_in(&mut self, n: usize, write: bool) {
        let n = n.min(self.left);
        // SAFETY: guest memory apart from the window; faults are handled.
        if self.at_hand(n).is_some_and(|addr| unsafe { usercopy::probe(addr, n, write) } == 0) {
            self.ready = n;
        } else {
            self.bring_in_pieces(n, write);
        }
    }

    #[cold]
    #[inline(never)]
    fn bring_in_pieces(&mut self, n: usize, write: bool) {
        self.ready = 0;
        let (mut at, mut offset) = (self.at, self.offset);
        while self.ready < n {
            let Some(v) = self.vecs.get(at) else { return };
            let len = ((v.len - offset.min(v.len)) as usize).min(n - self.ready);
            let addr = v.base.wrapping_add(offset);
            (at, offset) = (at + 1, 0);
            if len == 0 {
                continue;
            }
            if !range_ok(addr, len as u64) {
                return;
            }
            let left = user::touch(addr, len, write);
            self.ready += len - left;
            if left > 0 {
                return;
            }
        }
    }

    /// Brings in what a copy under a lock stopped at; `false` where that cannot be done.
    #[cold]
    fn go_on(&mut self, writes: bool) -> bool {
        may_fault();
        if self.stopped == Stopped::Fault {
            self.faults += 1;
            if self.faults > FAULTS {
                return false;
            }
        }
        self.bring_in(STEP, writes);
        self.ready > 0
    }

    /// Moves up to `n` bytes by `copy(piece address, length, bytes done) -> bytes left`.
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    fn each(&mut self, n: usize, mut copy: impl FnMut(u64, usize, usize) -> usize) -> Result<usize> {
        if !self.locked && !self.kernel {
            may_fault();
        }
        if (!self.locked || n <= self.ready)
            && let Some(addr) = self.at_hand(n)
            && copy(addr, n, 0) == 0
        {
            self.advance(n);
            return Ok(n);
        }
        // What was moved is moved once more, and counted.
        self.piecewise(n, copy)
    }

    #[cold]
    #[inline(never)]
    fn piecewise(&mut self, n: usize, mut copy: impl FnMut(u64, usize, usize) -> usize) -> Result<usize> {
        let mut moved = 0;
        while moved < n {
            let Some((addr, len)) = self.piece() else { break };
            let mut len = len.min(n - moved);
            let marked = self.locked && len > self.ready;
            if marked {
                len = self.ready;
            }
            let left = if self.kernel || range_ok(addr, len as u64) { copy(addr, len, moved) } else { len };
            self.advance(len - left);
            moved += len - left;
            let apart = !self.locked && !self.kernel && range_ok(addr, len as u64);
            if left > 0 && apart && user::grown(addr + (len - left) as u64) {
                continue;
            }
            if left > 0 || marked {
                self.stopped = if left > 0 { Stopped::Fault } else { Stopped::Mark };
                // Like Linux: what was moved counts, a fault on the first byte is an error.
                return if moved > 0 { Ok(moved) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(moved)
    }
}

macro_rules! common {
    ($t:ident, $writes:literal) => {
        impl<'a> $t<'a> {
            /// Moves bytes by `attempt`, which takes locks and copies under them; see the module. `first`: about how
            /// many bytes it will move. The result is what all attempts moved.
            ///
            /// Inside of another `under_lock` this only runs `attempt` once: the outer one brings in the rest.
            ///
            /// # Errors
            /// `EFAULT`, and those of `attempt` where nothing was moved before.
            #[inline(always)]
            pub fn under_lock(
                &mut self,
                first: usize,
                mut attempt: impl FnMut(&mut Self) -> SysResult<usize>,
            ) -> SysResult<usize> {
                if self.cursor.locked || self.cursor.kernel {
                    return attempt(self);
                }
                may_fault();
                self.cursor.bring_in(first, $writes && first > PAGE);
                let mut moved = 0;
                loop {
                    self.cursor.locked = true;
                    self.cursor.stopped = Stopped::No;
                    let ready = self.cursor.ready;
                    let out = attempt(self);
                    self.cursor.locked = false;
                    match out {
                        Ok(n) if self.cursor.stopped == Stopped::No => return Ok(moved + n),
                        // It had room for more up to the mark: there is no more.
                        Ok(n) if self.cursor.stopped == Stopped::Mark && n < ready => return Ok(moved + n),
                        Ok(n) => {
                            moved += n;
                            self.cursor.faults = if n > 0 { 0 } else { self.cursor.faults };
                        }
                        Err(SysError::Errno(Errno::EFAULT)) if self.cursor.stopped != Stopped::No => {}
                        Err(_) if moved > 0 => return Ok(moved),
                        Err(e) => return Err(e),
                    }
                    // What wants all or nothing is not helped by pages that end where they ended before.
                    let stuck = out.is_err() && self.cursor.stopped == Stopped::Mark;
                    if !self.cursor.go_on($writes) || stuck && self.cursor.ready <= ready {
                        return if moved > 0 { Ok(moved) } else { Err(Errno::EFAULT.into()) };
                    }
                }
            }
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
            /// follow with [`Self::advance`]. In [`Self::under_lock`] it ends where pages were not touched.
            ///
            /// # Errors
            /// `EFAULT` if the piece is no guest memory.
            pub fn piece(&mut self) -> Result<Option<(u64, usize)>> {
                let kernel = self.cursor.kernel;
                match self.cursor.piece() {
                    Some((_, n)) if self.cursor.locked && !kernel && n > self.cursor.ready => {
                        self.cursor.stopped = Stopped::Mark;
                        let n = self.cursor.ready;
                        match self.cursor.piece() {
                            Some((a, _)) if n > 0 => Ok(Some((a, n))),
                            _ => Err(Errno::EFAULT),
                        }
                    }
                    Some((a, n)) if kernel || range_ok(a, n as u64) => Ok(Some((a, n))),
                    Some(_) => Err(Errno::EFAULT),
                    None => Ok(None),
                }
            }
            /// As [`Self::piece`], for a call that has moved `done` bytes already: they count, and where the next piece cannot be
            /// had it ends.
            ///
            /// # Errors
            /// `EFAULT` where nothing was moved.
            pub fn next_piece(&mut self, done: usize) -> Result<Option<(u64, usize)>> {
                match self.piece() {
                    Err(_) if done > 0 => Ok(None),
                    other => other,
                }
            }
            /// Counts `n` bytes of the current piece as moved.
            pub fn advance(&mut self, n: usize) {
                self.cursor.advance(n);
            }
            /// All that is left, piece by piece, for a host call that moves it; follow with [`Self::advance_over`].
            ///
            /// # Errors
            /// `EFAULT` if a piece is no guest memory; those of `each`.
            pub fn pieces(&self, mut each: impl FnMut(IoVec) -> Result) -> Result {
                let c = &self.cursor;
                let (mut offset, mut left) = (c.offset, c.left);
                for v in c.vecs.get(c.at..).unwrap_or_default() {
                    let len = v.len.saturating_sub(offset).min(left as u64);
                    let base = v.base.wrapping_add(offset);
                    offset = 0;
                    if len == 0 {
                        continue;
                    }
                    if !c.kernel && !range_ok(base, len) {
                        return Err(Errno::EFAULT);
                    }
                    each(IoVec { base, len })?;
                    left -= len as usize;
                }
                Ok(())
            }
            /// Counts `n` bytes, of as many pieces as they take, as moved.
            pub fn advance_over(&mut self, mut n: usize) {
                while n > 0
                    && let Some((_, len)) = self.cursor.piece()
                {
                    let step = len.min(n);
                    self.cursor.advance(step);
                    n -= step;
                }
            }
        }
    };
}

/// Where a read puts its data.
pub struct IoDst<'a> {
    cursor: Cursor<'a>,
    _p: PhantomData<&'a mut [u8]>,
}
common!(IoDst, true);

/// Where a write takes its data from.
pub struct IoSrc<'a> {
    cursor: Cursor<'a>,
    _p: PhantomData<&'a [u8]>,
}
common!(IoSrc, false);

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
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn put(&mut self, src: &[u8]) -> Result<usize> {
        // SAFETY: a slice.
        unsafe { self.put_from(src.as_ptr(), src.len()) }
    }

    /// As [`IoDst::put`] from kernel memory that others may be writing to.
    ///
    /// # Errors
    /// As [`IoDst::put`].
    ///
    /// # Safety
    /// `src` is mapped for `len` bytes.
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn put_from(&mut self, src: *const u8, len: usize) -> Result<usize> {
        self.cursor.each(len, |addr, n, done| {
            // SAFETY: `done + n <= len`; the destination was checked or is a kernel buffer.
            unsafe { usercopy::copy(addr as *mut u8, src.add(done), n) }
        })
    }

    /// Puts `n` zero bytes, or as many as fit.
    ///
    /// # Errors
    /// As [`IoDst::put`].
    #[cfg_attr(debug_assertions, track_caller)]
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

    /// Takes `n` bytes, or as many as there are, into memory of their own.
    ///
    /// # Errors
    /// `EFAULT` if nothing could be taken because of a bad address; `ENOBUFS` without memory.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn take_vec(&mut self, n: usize) -> Result<alloc::vec::Vec<u8>> {
        let mut bytes = alloc::vec::Vec::new();
        bytes.try_reserve_exact(n).map_err(|_| Errno::ENOBUFS)?;
        let base: *mut u8 = bytes.as_mut_ptr();
        let n = self.cursor.each(n, |addr, len, done| {
            // SAFETY: `done + len <= n`, for which there is room; the source was checked or is a kernel buffer.
            unsafe { usercopy::copy(base.add(done), addr as *const u8, len) }
        })?;
        // SAFETY: the first `n` bytes were filled.
        unsafe { bytes.set_len(n) };
        Ok(bytes)
    }

    /// Takes up to `dst.len()` bytes; returns how many.
    ///
    /// # Errors
    /// `EFAULT` if nothing could be taken because of a bad address.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn take(&mut self, dst: &mut [u8]) -> Result<usize> {
        // SAFETY: a slice.
        unsafe { self.take_to(dst.as_mut_ptr(), dst.len()) }
    }

    /// As [`IoSrc::take`] to kernel memory that others may be reading.
    ///
    /// # Errors
    /// As [`IoSrc::take`].
    ///
    /// # Safety
    /// `dst` is mapped for `len` bytes.
    #[cfg_attr(debug_assertions, track_caller)]
    pub unsafe fn take_to(&mut self, dst: *mut u8, len: usize) -> Result<usize> {
        self.cursor.each(len, |addr, n, done| {
            // SAFETY: `done + n <= len`; the source was checked or is a kernel buffer.
            unsafe { usercopy::copy(dst.add(done), addr as *const u8, n) }
        })
    }
}
