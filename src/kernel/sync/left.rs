//! What a thread that the host has ended leaves: the references and registrations of the call that it was in.
//!
//! Nothing unwinds the stack of such a thread, so an open file that its call held would stay open for ever, and whoever
//! reads from the other end of a pipe would never see its end. A call that sleeps, or that holds for long what others
//! miss, therefore says so in its slot ([`SlotHeader::left`]): what it holds ([`Kept`]), or which value on its own
//! kernel stack, which lies in the window like everything else, has something to do then ([`on_stack`]). The supervisor
//! sees to it when it has reaped the process.
//!
//! There is room for [`left::MAX`] such entries; what is beyond that, or held without an entry, is lost with the thread.

use crate::abi::slot::{SlotHeader, left};
use crate::arch;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

/// How an entry is dropped.
type Drops = unsafe fn(u64);

/// Enters what is to be dropped; `false` if there is no room.
#[inline]
fn enter(drops: Drops, what: u64) {
    let slot = arch::slot();
    let len = slot.left_len.load(Relaxed);
    if let Some([how, value]) = slot.left.get(len as usize) {
        how.store(drops as usize as u64, Relaxed);
        value.store(what, Relaxed);
        // An entry counts when it is whole.
        compiler_fence(SeqCst);
        slot.left_len.store(len + 1, Relaxed);
    }
}

/// Takes an entry back; most often it is the last one.
#[inline]
fn take_back(what: u64) {
    let slot = arch::slot();
    let len = (slot.left_len.load(Relaxed) as usize).min(left::MAX);
    let Some(at) = (0..len).rev().find(|&i| slot.left[i][1].load(Relaxed) == what) else { return };
    // From here on it is no entry, whatever moves into its place.
    slot.left[at][1].store(0, Relaxed);
    compiler_fence(SeqCst);
    if at + 1 == len {
        slot.left_len.store(at as u32, Relaxed);
    }
    // One in the middle is skipped until those above it are gone.
    let mut len = slot.left_len.load(Relaxed) as usize;
    while len > 0 && slot.left[len - 1][1].load(Relaxed) == 0 {
        len -= 1;
        slot.left_len.store(len as u32, Relaxed);
    }
}

/// The host has ended the thread of `slot`, and its locks have been given back: drops what it left, the newest first.
pub fn drop_left(slot: &SlotHeader) {
    let len = slot.left_len.swap(0, SeqCst) as usize;
    for [how, value] in slot.left[..len.min(left::MAX)].iter().rev() {
        let what = value.swap(0, SeqCst);
        if what != 0 {
            // SAFETY: `enter` stored a function for this kind of value, which nobody has dropped.
            unsafe {
                let drops = core::mem::transmute::<usize, Drops>(how.load(SeqCst) as usize);
                drops(what);
            }
        }
    }
}

/// A pointer that owns what it points to.
///
/// # Safety
/// `into_word` gives the value up and `from_word` gets it back, in any host process.
pub unsafe trait Pointer: 'static {
    /// Gives it up.
    fn into_word(self) -> u64;
    /// Gets it back.
    ///
    /// # Safety
    /// The word is of `into_word`, and was not used before.
    unsafe fn from_word(word: u64) -> Self;
    /// The word that [`Pointer::into_word`] gives.
    fn word(&self) -> u64;
}

// SAFETY: an `Arc` is its pointer, which means the same everywhere.
unsafe impl<T: Send + Sync + 'static> Pointer for Arc<T> {
    fn into_word(self) -> u64 {
        Arc::into_raw(self) as u64
    }
    unsafe fn from_word(word: u64) -> Self {
        // SAFETY: by the caller's promise.
        unsafe { Arc::from_raw(word as *const T) }
    }
    fn word(&self) -> u64 {
        Arc::as_ptr(self) as u64
    }
}

// SAFETY: a `Box` is its pointer, which means the same everywhere.
unsafe impl<T: Send + 'static> Pointer for Box<T> {
    fn into_word(self) -> u64 {
        Box::into_raw(self) as u64
    }
    unsafe fn from_word(word: u64) -> Self {
        // SAFETY: by the caller's promise.
        unsafe { Box::from_raw(word as *mut T) }
    }
    fn word(&self) -> u64 {
        core::ptr::from_ref::<T>(self) as u64
    }
}

/// A reference or a box that is dropped even if the host ends the running thread, to which it belongs.
pub struct Kept<P: Pointer>(ManuallyDrop<P>);

impl<P: Pointer> Kept<P> {
    /// Keeps it.
    #[inline]
    pub fn new(pointer: P) -> Kept<P> {
        unsafe fn drops<P: Pointer>(word: u64) {
            // SAFETY: an entry's word is of a pointer that the dead thread has not dropped.
            drop(unsafe { P::from_word(word) });
        }
        enter(drops::<P>, pointer.word());
        Kept(ManuallyDrop::new(pointer))
    }

    /// The pointer itself.
    #[inline]
    pub fn into_inner(mut self) -> P {
        take_back(self.0.word());
        // SAFETY: `self` is forgotten right after.
        let pointer = unsafe { ManuallyDrop::take(&mut self.0) };
        core::mem::forget(self);
        pointer
    }
}

impl<P: Pointer> Deref for Kept<P> {
    type Target = P;
    #[inline]
    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: Pointer> DerefMut for Kept<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<P: Pointer> Drop for Kept<P> {
    #[inline]
    fn drop(&mut self) {
        take_back(self.0.word());
        // SAFETY: nobody uses it after this.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

/// While this lives, its value is told ([`Left`]) if the host ends the running thread.
pub struct OnStack<'a, T>(&'a mut T);

/// A value that knows what to do when its thread is gone.
pub trait Left {
    /// The host has ended the thread on whose stack the value lies; nobody will drop it.
    fn left(&mut self);
}

/// See [`OnStack`]. What it is made for changes the value only in steps that leave it whole.
pub fn on_stack<T: Left>(value: &mut T) -> OnStack<'_, T> {
    unsafe fn drops<T: Left>(at: u64) {
        // SAFETY: the value lies on a stack that nobody runs on any more, in the window; its owner is gone.
        unsafe { (*(at as *mut T)).left() };
    }
    enter(drops::<T>, core::ptr::from_ref(value) as u64);
    OnStack(value)
}

impl<T> Deref for OnStack<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> DerefMut for OnStack<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0
    }
}

impl<T> Drop for OnStack<'_, T> {
    fn drop(&mut self) {
        take_back(core::ptr::from_ref(self.0) as u64);
    }
}
