//! Guest memory: typed pointers that are checked when copied and never dereferenced.
//!
//! A copy may fault and wait for a disk, so it must not happen under a lock. Where a guest's word has to be looked at
//! under one (a futex), [`UserPtr::under_lock`] brings its page in first and again after a fault, and the closure uses
//! the `_nofault` functions. What that means, and why, stands in [`super::io`].

use crate::abi::layout::{END, GUARD, TASK_SIZE};
use crate::abi::{Errno, Result};
use crate::arch::{self, usercopy};
use crate::sync::may_fault;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Types that any bit pattern is a value of and that have no padding that matters.
///
/// # Safety
/// Every bit pattern must be a valid value.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain { ($($t:ty),* $(,)?) => { $(
    // SAFETY: integers and C structs of integers.
    unsafe impl Plain for $t {}
)* } }
plain!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize);
plain!(crate::abi::sigctx::SigContext, crate::abi::sigctx::UContext, crate::abi::sigctx::SigInfo);
plain!(crate::abi::sigctx::SigStack, crate::abi::sigctx::RtSigFrame, super::io::IoVec);
plain!(crate::abi::linux::__kernel_timespec, crate::abi::linux::timeval, crate::abi::linux::timezone);
plain!(crate::abi::linux::stat, crate::abi::linux::statx, crate::abi::linux::statfs, crate::abi::linux::rusage);
plain!(
    crate::abi::linux::itimerspec,
    crate::abi::linux::itimerval,
    crate::abi::linux::rlimit,
    crate::abi::linux::rlimit64
);
plain!(
    crate::abi::linux::pollfd,
    crate::abi::linux::epoll_event,
    crate::abi::linux::open_how,
    crate::abi::linux::flock
);
plain!(crate::abi::linux::clone_args, crate::abi::linux::winsize, crate::abi::linux::termios);
/// `struct msghdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct MsgHeader {
    pub name: u64,
    pub name_len: u32,
    pub pad: u32,
    pub vecs: u64,
    pub vec_count: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    pub pad2: u32,
}
plain!(MsgHeader);
/// `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct MultiMsgHeader {
    pub header: MsgHeader,
    pub len: u32,
    pub pad: u32,
}
plain!(MultiMsgHeader);
// SAFETY: arrays of plain values.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// A `T` of zero bytes, to be filled field by field.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern is a value (`Plain`).
    unsafe { MaybeUninit::<T>::zeroed().assume_init() }
}

/// Whether `len` bytes at `addr` are guest addresses: below TASK_SIZE and apart from the kernel window.
#[inline]
pub fn range_ok(addr: u64, len: u64) -> bool {
    let Some(end) = addr.checked_add(len) else { return false };
    let base = arch::slot::window();
    end <= TASK_SIZE && (end <= base || addr >= base + END + GUARD)
}

/// Whether a buffer of `len` bytes at `addr` can be a program's at all, mapped or not (`access_ok`).
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn accessible(addr: u64, len: u64) -> Result {
    match addr.checked_add(len) {
        Some(end) if end <= TASK_SIZE => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Copying nothing fails nowhere.
#[cold]
fn nothing(len: usize) -> Result {
    if len == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// A copy under a lock ended at a page that is not there: the lock is to be dropped and the page brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// How often in a row a page that could be touched may be gone again before it is a bad address.
const FAULTS: u32 = 16;

/// Touches each page of `len` bytes at `addr`, so that the host brings it in; `write`: for a store. Not under a lock.
///
/// # Errors
/// `EFAULT`.
#[cfg_attr(debug_assertions, track_caller)]
pub fn bring_in(addr: u64, len: usize, write: bool) -> Result {
    may_fault();
    if !range_ok(addr, len as u64) {
        return Err(Errno::EFAULT);
    }
    if touch(addr, len, write) == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// As [`bring_in`], of a range that lies apart from the window; returns how many bytes are left from the first page on
/// that cannot be touched.
pub(super) fn touch(addr: u64, len: usize, write: bool) -> usize {
    let mut from = 0;
    loop {
        // SAFETY: by the caller's promise; faults are handled.
        let left = unsafe { usercopy::probe(addr + from as u64, len - from, write) };
        if left == 0 || !grown(addr + (len - left) as u64) {
            return left;
        }
        from = len - left;
    }
}

/// Lets a mapping grow down to an address: whether one has.
static GROW: AtomicUsize = AtomicUsize::new(0);

/// Registers what lets a mapping of the running task grow down to an address that the kernel could not touch for it (at
/// boot).
pub fn set_grow(f: fn(u64) -> bool) {
    GROW.store(f as *const () as usize, Relaxed);
}

/// The kernel could not touch `addr` for the running task: whether it can now, since a mapping has grown down to it
/// (`MAP_GROWSDOWN`). Under a lock none does.
#[cold]
pub(super) fn grown(addr: u64) -> bool {
    let f = GROW.load(Relaxed);
    if f == 0 || arch::slot().locks_held.load(Relaxed) != 0 {
        return false;
    }
    // SAFETY: `set_grow` stored such a function.
    let f = unsafe { core::mem::transmute::<usize, fn(u64) -> bool>(f) };
    f(addr)
}

/// The guest address of a `T`. Null and wild values are fine until they are used.
pub struct UserPtr<T>(u64, PhantomData<T>);

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}
impl<T> core::fmt::Debug for UserPtr<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<T> UserPtr<T> {
    /// A pointer with this address.
    pub const fn new(addr: u64) -> UserPtr<T> {
        UserPtr(addr, PhantomData)
    }
    /// The address.
    pub const fn addr(self) -> u64 {
        self.0
    }
    /// Whether it is null.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
    /// `None` for null: many calls take an optional argument that way.
    pub fn option(self) -> Option<UserPtr<T>> {
        (self.0 != 0).then_some(self)
    }
    /// The same address as another type.
    pub const fn cast<U>(self) -> UserPtr<U> {
        UserPtr::new(self.0)
    }
    /// The address `n` elements on.
    pub const fn add(self, n: usize) -> UserPtr<T> {
        UserPtr::new(self.0.wrapping_add((n * size_of::<T>()) as u64))
    }
}

impl<T: Plain> UserPtr<T> {
    /// Copies the value in.
    ///
    /// # Errors
    /// `EFAULT`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn read(self) -> Result<T> {
        let mut value = MaybeUninit::<T>::uninit();
        copy_in(value.as_mut_ptr().cast(), self.0, size_of::<T>())?;
        // SAFETY: filled completely, and every bit pattern is a value (`Plain`).
        Ok(unsafe { value.assume_init() })
    }

    /// Says no to a size of a structure that grows from Linux to Linux: at least `least` bytes, at most a page.
    ///
    /// # Errors
    /// `EINVAL`, `E2BIG`.
    pub fn check_size(size: usize, least: usize) -> Result {
        match size {
            n if n < least => Err(Errno::EINVAL),
            n if n > 4096 => Err(Errno::E2BIG),
            _ => Ok(()),
        }
    }

    /// Copies a structure in that grows from Linux to Linux, of which the program knows `size` bytes and no less than
    /// `least` (`copy_struct_from_user`): what it does not know is zero, and so must be what is not known here.
    ///
    /// # Errors
    /// `EINVAL`, `E2BIG`, `EFAULT`.
    pub fn read_grown(self, size: usize, least: usize) -> Result<T> {
        Self::check_size(size, least)?;
        let known = size.min(size_of::<T>());
        // Whatever comes first: a byte that is not zero, or one that cannot be read.
        let mut at = known;
        while at < size {
            let mut piece = [0u8; 64];
            let from = self.0.wrapping_add(at as u64);
            let n = (size - at).min(64 - (from % 64) as usize);
            self.cast::<u8>().add(at).slice(n).read_into(&mut piece[..n])?;
            if piece.iter().any(|&b| b != 0) {
                return Err(Errno::E2BIG);
            }
            at += n;
        }
        let mut value = MaybeUninit::<T>::zeroed();
        copy_in(value.as_mut_ptr().cast(), self.0, known)?;
        // SAFETY: zeros and what was copied fill it, and every bit pattern is a value (`Plain`).
        Ok(unsafe { value.assume_init() })
    }

    /// Copies a value out.
    ///
    /// # Errors
    /// `EFAULT`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn write(self, value: T) -> Result {
        copy_out(self.0, core::ptr::from_ref(&value).cast(), size_of::<T>())
    }

    /// Runs `attempt`, which takes a lock and looks at the value under it by the `_nofault` functions; `write`: it
    /// changes it, too. The page is brought in before, and again after each [`Fault`].
    ///
    /// # Errors
    /// `EFAULT`.
    #[inline]
    pub fn under_lock<R>(self, write: bool, mut attempt: impl FnMut() -> core::result::Result<R, Fault>) -> Result<R> {
        for _ in 0..FAULTS {
            bring_in(self.0, size_of::<T>(), write)?;
            if let Ok(r) = attempt() {
                return Ok(r);
            }
        }
        Err(Errno::EFAULT)
    }

    /// Copies the value in, under a lock. Not atomic.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read_nofault(self) -> core::result::Result<T, Fault> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: a kernel buffer of that size; the guest side is checked.
        let left = unsafe {
            let known = range_ok(self.0, size_of::<T>() as u64);
            if known { usercopy::copy(value.as_mut_ptr().cast(), self.0 as *const u8, size_of::<T>()) } else { 1 }
        };
        // SAFETY: filled completely, and every bit pattern is a value (`Plain`).
        if left == 0 { Ok(unsafe { value.assume_init() }) } else { Err(Fault) }
    }

    /// Copies a value out, under a lock. Not atomic.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn write_nofault(self, value: T) -> core::result::Result<(), Fault> {
        // SAFETY: a kernel buffer of that size; the guest side is checked.
        let left = unsafe {
            let known = range_ok(self.0, size_of::<T>() as u64);
            if known { usercopy::copy(self.0 as *mut u8, (&raw const value).cast(), size_of::<T>()) } else { 1 }
        };
        if left == 0 { Ok(()) } else { Err(Fault) }
    }

    /// `n` values from here.
    pub const fn slice(self, n: usize) -> UserSlice<T> {
        UserSlice { addr: self.0, len: n, _t: PhantomData }
    }
}

impl UserPtr<u32> {
    fn is_word(self) -> bool {
        self.0.is_multiple_of(4) && range_ok(self.0, 4)
    }

    /// Loads a word that lies at a multiple of 4, under a lock: atomic.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn load_nofault(self) -> core::result::Result<u32, Fault> {
        // SAFETY: an aligned word apart from the window.
        if self.is_word() { unsafe { usercopy::load(self.0) }.ok_or(Fault) } else { Err(Fault) }
    }

    /// Replaces `old` by `new`, under a lock, in one atomic step; the value that was seen.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn cmpxchg_nofault(self, old: u32, new: u32) -> core::result::Result<u32, Fault> {
        // SAFETY: an aligned word apart from the window.
        if self.is_word() { unsafe { usercopy::cmpxchg(self.0, old, new) }.ok_or(Fault) } else { Err(Fault) }
    }
}

/// `len` values of `T` at a guest address.
pub struct UserSlice<T> {
    addr: u64,
    len: usize,
    _t: PhantomData<T>,
}

impl<T> Clone for UserSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserSlice<T> {}

impl<T: Plain> UserSlice<T> {
    /// A slice with this address and number of elements.
    pub const fn new(addr: u64, len: usize) -> UserSlice<T> {
        UserSlice { addr, len, _t: PhantomData }
    }
    /// Its address.
    pub const fn addr(self) -> u64 {
        self.addr
    }
    /// Number of elements.
    pub const fn len(self) -> usize {
        self.len
    }
    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Copies everything in.
    ///
    /// # Errors
    /// `EFAULT`; `ENOMEM` when the kernel heap cannot hold it.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn read_vec(self) -> Result<Vec<T>> {
        let bytes = self.len.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
        if !range_ok(self.addr, bytes as u64) {
            return Err(Errno::EFAULT);
        }
        let mut v: Vec<T> = Vec::new();
        v.try_reserve_exact(self.len).map_err(|_| Errno::ENOMEM)?;
        copy_in(v.as_mut_ptr().cast(), self.addr, bytes)?;
        // SAFETY: `len` elements were filled, and every bit pattern is a value (`Plain`).
        unsafe { v.set_len(self.len) };
        Ok(v)
    }

    /// Copies `src` out, which must not be longer than the slice.
    ///
    /// # Errors
    /// `EFAULT`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn write_from(self, src: &[T]) -> Result {
        let n = src.len().min(self.len);
        copy_out(self.addr, src.as_ptr().cast(), n * size_of::<T>())
    }

    /// Fills `dst` from the slice's start, under a lock.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn read_nofault(self, dst: &mut [T]) -> core::result::Result<(), Fault> {
        let n = dst.len().min(self.len) * size_of::<T>();
        // SAFETY: a kernel buffer of that size; the guest side is checked.
        let left = unsafe {
            let known = range_ok(self.addr, n as u64);
            if known { usercopy::copy(dst.as_mut_ptr().cast(), self.addr as *const u8, n) } else { 1 }
        };
        if left == 0 { Ok(()) } else { Err(Fault) }
    }

    /// Fills `dst` from the slice's start.
    ///
    /// # Errors
    /// `EFAULT`.
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn read_into(self, dst: &mut [T]) -> Result {
        let n = dst.len().min(self.len);
        copy_in(dst.as_mut_ptr().cast(), self.addr, n * size_of::<T>())
    }
}

/// The guest address of a NUL-terminated string.
#[derive(Clone, Copy, Debug)]
pub struct UserStr(pub u64);

impl UserStr {
    /// Copies the string in, without its NUL.
    ///
    /// # Errors
    /// `EFAULT`; `too_long` when there is no NUL within `max` bytes (its own place included).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn read(self, max: usize, too_long: Errno) -> Result<Vec<u8>> {
        if !range_ok(self.0, 1) {
            return Err(Errno::EFAULT);
        }
        let window = arch::slot::window();
        let room = if self.0 < window { window - self.0 } else { TASK_SIZE - self.0 };
        let max_here = max.min(room as usize);
        may_fault();
        // SAFETY: so many bytes lie apart from the window; faults are handled.
        let n = or_grown(self.0, || unsafe { usercopy::strnlen(self.0 as *const u8, max_here) })?;
        if n == max_here {
            return Err(if max_here < max { Errno::EFAULT } else { too_long });
        }
        UserSlice::<u8>::new(self.0, n).read_vec()
    }

    /// Runs `f` with a path name that is copied to the kernel stack: no allocation.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG` (4096 bytes with the NUL); what `f` says.
    pub fn with_path<R, E: From<Errno>>(
        self,
        f: impl FnOnce(&[u8]) -> core::result::Result<R, E>,
    ) -> core::result::Result<R, E> {
        const MAX: usize = 4096;
        if !range_ok(self.0, 1) {
            return Err(Errno::EFAULT.into());
        }
        let window = arch::slot::window();
        let room = if self.0 < window { window - self.0 } else { TASK_SIZE - self.0 };
        let max = MAX.min(room as usize);
        may_fault();
        let mut buf = [const { MaybeUninit::<u8>::uninit() }; MAX];
        // SAFETY: room for `max` bytes, and so many lie apart from the window; faults are handled.
        let n = or_grown(self.0, || unsafe { usercopy::strncpy(buf.as_mut_ptr().cast(), self.0 as *const u8, max) })?;
        if n == max {
            return Err(if max < MAX { Errno::EFAULT } else { Errno::ENAMETOOLONG }.into());
        }
        // SAFETY: the first `n` bytes were filled.
        f(unsafe { core::slice::from_raw_parts(buf.as_ptr().cast::<u8>(), n) })
    }

    /// A path name, as `getname` in Linux takes it.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG` (4096 bytes with the NUL).
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn read_path(self) -> Result<Vec<u8>> {
        self.read(4096, Errno::ENAMETOOLONG)
    }
}

/// What `attempt` says of the string at `addr`, also after a mapping has grown down to it.
#[inline]
fn or_grown(addr: u64, mut attempt: impl FnMut() -> Option<usize>) -> Result<usize> {
    loop {
        match attempt() {
            Some(n) => return Ok(n),
            None if grown(addr) => {}
            None => return Err(Errno::EFAULT),
        }
    }
}

/// Copies guest memory into the kernel.
///
/// # Errors
/// `EFAULT`.
#[cfg_attr(debug_assertions, track_caller)]
fn copy_in(dst: *mut u8, src: u64, len: usize) -> Result {
    if !range_ok(src, len as u64) {
        return nothing(len);
    }
    may_fault();
    loop {
        // SAFETY: `dst` is a kernel buffer of `len` bytes; the guest side is apart from the window.
        let left = unsafe { usercopy::copy(dst, src as *const u8, len) };
        if left == 0 {
            return Ok(());
        }
        if !grown(src + (len - left) as u64) {
            return Err(Errno::EFAULT);
        }
    }
}

/// Copies kernel memory out to the guest.
///
/// # Errors
/// `EFAULT`.
#[cfg_attr(debug_assertions, track_caller)]
fn copy_out(dst: u64, src: *const u8, len: usize) -> Result {
    if !range_ok(dst, len as u64) {
        return nothing(len);
    }
    may_fault();
    loop {
        // SAFETY: `src` is kernel memory of `len` bytes; the guest side is apart from the window.
        let left = unsafe { usercopy::copy(dst as *mut u8, src, len) };
        if left == 0 {
            return Ok(());
        }
        if !grown(dst + (len - left) as u64) {
            return Err(Errno::EFAULT);
        }
    }
}
