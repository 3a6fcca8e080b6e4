//! Dropping chains without recursion.
//!
//! A value whose drop drops another of its kind (a directory's name holds its parent, a socket holds
//! descriptors of sockets, an epoll instance those of epoll instances) would recurse as deep as a guest
//! made the chain, on a stack of fixed size. Its owner gives it to [`drop_later`] instead: the outermost
//! call drops it at once, and calls made meanwhile by the same thread only put theirs on a list, which
//! the outermost call works off before it returns. So the stack holds one drop, whatever the depth.
//!
//! What is dropped this way is dropped under the locks that the outermost caller holds, as without it.

use crate::arch;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};
use core::sync::atomic::Ordering::Relaxed;

/// Room for a value on the list: an `Arc<dyn Trait>` or a `Vec` fits.
type Words = [usize; 3];

/// A value to be dropped, its type forgotten.
struct Entry {
    value: MaybeUninit<Words>,
    /// Drops the value in place.
    drop: unsafe fn(*mut u8),
}

/// What one thread has yet to drop. It lies on the stack of the outermost call; the slot points to it.
struct List {
    first: ArrayVec<Entry, 8>,
    more: Vec<Entry>,
    /// Drops in drops because the heap had no room for the list.
    nested: u32,
}

/// Drops in drops that the stack has room for when the list cannot grow. What lies deeper than that is
/// given up: its memory is lost, but the sandbox goes on.
const NESTED_MAX: u32 = 16;

/// Drops `value`: at once, or where the running thread is inside another call of this function, before
/// that one returns.
///
/// `T` is at most three words large: a box, a reference-counted pointer, a vector.
pub fn drop_later<T: 'static>(value: T) {
    const { assert!(size_of::<T>() <= size_of::<Words>() && align_of::<T>() <= align_of::<Words>()) };
    let slot = arch::slot();
    let outer = slot.deferred.load(Relaxed) as *mut List;
    if outer.is_null() {
        let mut list = List { first: ArrayVec::new(), more: Vec::new(), nested: 0 };
        slot.deferred.store(&raw mut list as u64, Relaxed);
        drop(value);
        drain(&raw mut list);
        slot.deferred.store(0, Relaxed);
        return;
    }
    // SAFETY: the list lies on this thread's own stack, in the frame of the call that is the outermost
    // one, which has not returned; no reference to it is held while a value is dropped.
    let full = unsafe { (*outer).push(value) };
    if let Some(value) = full {
        // SAFETY: as above.
        let nested = unsafe { (*outer).nested };
        if nested >= NESTED_MAX {
            log::error!("out of memory: a chain of objects is not freed");
            core::mem::forget(value);
            return;
        }
        // SAFETY: as above.
        unsafe { (*outer).nested = nested + 1 };
        drop(value);
        // SAFETY: as above.
        unsafe { (*outer).nested = nested };
    }
}

/// Drops everything on the list, also what is put there meanwhile.
fn drain(list: *mut List) {
    loop {
        // SAFETY: only this thread knows the list, and no reference to it is held across a drop.
        let next = unsafe { (*list).pop() };
        let Some(mut entry) = next else { return };
        // SAFETY: `push` wrote a value of the type that `drop` is made for, and it is dropped once.
        unsafe { (entry.drop)(entry.value.as_mut_ptr().cast()) };
    }
}

impl List {
    /// Takes the value, or gives it back where there is no room for it.
    fn push<T>(&mut self, value: T) -> Option<T> {
        if self.first.is_full() && self.more.try_reserve(1).is_err() {
            return Some(value);
        }
        let value = ManuallyDrop::new(value);
        let mut words = MaybeUninit::<Words>::uninit();
        // SAFETY: the value fits in size and alignment (`drop_later`), and is not used here any more.
        unsafe { words.as_mut_ptr().cast::<ManuallyDrop<T>>().write(value) };
        let entry = Entry { value: words, drop: drop_as::<T> };
        if let Err(full) = self.first.try_push(entry) {
            self.more.push(full.element());
        }
        None
    }

    fn pop(&mut self) -> Option<Entry> {
        self.more.pop().or_else(|| self.first.pop())
    }
}

/// Drops the `T` at `at`.
///
/// # Safety
/// There is one, and nobody uses it afterwards.
unsafe fn drop_as<T>(at: *mut u8) {
    // SAFETY: the caller says so.
    unsafe { core::ptr::drop_in_place(at.cast::<T>()) };
}
