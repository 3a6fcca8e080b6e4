//! A queue and an array of which every change counts by one store, so that whoever is ended by the host in the middle of
//! a change leaves them whole: as they were before, or as they are after.

use super::mend::{Mend, forget_part, step};
use crate::abi::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut, Index, IndexMut};

/// Room for elements; a power of two of them.
type Ring<T> = Box<[MaybeUninit<T>]>;

/// See the module. Elements are counted from the front.
///
/// An element that is taken out belongs to the taker from the store on that takes it: if the host ends that thread
/// before it has used the element, the element is lost, but not the queue.
pub struct StepQueue<T> {
    /// Thin, so that a larger one takes its place by one store.
    #[allow(clippy::redundant_allocation)]
    ring: Option<Box<Ring<T>>>,
    /// Number of the first element, and of the one behind the last. Element `n` lies at `n` modulo the ring's size,
    /// whatever that is.
    head: usize,
    tail: usize,
}

impl<T> Default for StepQueue<T> {
    fn default() -> Self {
        StepQueue::new()
    }
}

impl<T> StepQueue<T> {
    /// The smallest ring: large elements are mostly few.
    const FEWEST: usize = if size_of::<T>() > 32 { 1 } else { 4 };

    /// An empty queue, which takes no memory.
    pub const fn new() -> StepQueue<T> {
        StepQueue { ring: None, head: 0, tail: 0 }
    }

    /// How many elements there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head)
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// For how many elements there is memory.
    pub fn capacity(&self) -> usize {
        self.ring.as_ref().map_or(0, |r| r.len())
    }

    /// Makes room for one more element.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn try_reserve(&mut self) -> Result {
        if self.len() < self.capacity() { Ok(()) } else { self.resize((self.capacity() * 2).max(Self::FEWEST)) }
    }

    /// Moves everything into a ring of this size.
    #[cold]
    fn resize(&mut self, size: usize) -> Result {
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(size, MaybeUninit::uninit);
        let mut ring: Ring<T> = slots.into_boxed_slice();
        if let Some(old) = &self.ring {
            for n in 0..self.len() {
                let at = self.head.wrapping_add(n);
                // SAFETY: the element is there; from the store below on it is the new ring's, and the old one,
                // which drops no elements, is not looked at again.
                ring[at & (size - 1)] = unsafe { core::ptr::read(&old[at & (old.len() - 1)]) };
            }
        }
        let ring = Some(Box::new(ring));
        step();
        let old = core::mem::replace(&mut self.ring, ring);
        step();
        drop(old);
        Ok(())
    }

    /// The place of the element with this number, if there is a ring.
    #[inline]
    fn place(&self, number: usize) -> Option<*mut T> {
        let ring = self.ring.as_ref()?;
        let slot = &ring[number & (ring.len() - 1)];
        Some(core::ptr::from_ref(slot).cast_mut().cast())
    }

    /// Makes room where memory that is short is as bad as with every `Vec`.
    #[inline]
    fn reserve(&mut self) {
        if self.try_reserve().is_err() {
            alloc::alloc::handle_alloc_error(core::alloc::Layout::new::<[T; 4]>());
        }
    }

    /// Adds an element behind all others; see [`StepQueue::try_reserve`] for where memory may be short.
    #[inline]
    pub fn push_back(&mut self, value: T) {
        self.reserve();
        if let Some(place) = self.place(self.tail) {
            // SAFETY: the place is free, and `self` is borrowed mutably.
            unsafe { place.write(value) };
            step();
            self.tail = self.tail.wrapping_add(1);
        }
    }

    /// As [`StepQueue::push_back`], in front of all others.
    pub fn push_front(&mut self, value: T) {
        self.reserve();
        let head = self.head.wrapping_sub(1);
        if let Some(place) = self.place(head) {
            // SAFETY: as above.
            unsafe { place.write(value) };
            step();
            self.head = head;
        }
    }

    /// Takes the first element.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let place = self.place(self.head)?;
        self.head = self.head.wrapping_add(1);
        step();
        // SAFETY: the element was there, and belongs to the caller from here on.
        Some(unsafe { place.read() })
    }

    /// Takes the last element.
    pub fn pop_back(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let place = self.place(self.tail.wrapping_sub(1))?;
        self.tail = self.tail.wrapping_sub(1);
        step();
        // SAFETY: as above.
        Some(unsafe { place.read() })
    }

    /// The element at `at`.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        let place = if at < self.len() { self.place(self.head.wrapping_add(at))? } else { return None };
        // SAFETY: the element is there, as long as `self` is borrowed.
        Some(unsafe { &*place })
    }

    /// As [`StepQueue::get`], to be changed.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let place = if at < self.len() { self.place(self.head.wrapping_add(at))? } else { return None };
        // SAFETY: as above, mutably.
        Some(unsafe { &mut *place })
    }

    /// The first element.
    pub fn front(&self) -> Option<&T> {
        self.get(0)
    }

    /// The first element, to be changed.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.get_mut(0)
    }

    /// The last element.
    pub fn back(&self) -> Option<&T> {
        self.get(self.len().wrapping_sub(1))
    }

    /// The last element, to be changed.
    pub fn back_mut(&mut self) -> Option<&mut T> {
        self.get_mut(self.len().wrapping_sub(1))
    }

    /// All elements, the first one first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        (0..self.len()).map(|at| &self[at])
    }

    /// Drops the elements, one after the other.
    pub fn clear(&mut self) {
        while self.pop_front().is_some() {}
    }

    /// Drops what `keep` does not want; the order stays. If the host ends the thread meanwhile, the order may be
    /// another one, and the element that it looked at may be lost.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        // Each element goes once round the ring: out at the front, in at the back.
        for _ in 0..self.len() {
            if let Some(value) = self.pop_front()
                && keep(&value)
            {
                self.push_back(value);
            }
        }
    }

    /// Gives back memory that is not needed.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            let old = self.ring.take();
            step();
            drop(old);
        } else {
            let size = self.len().next_power_of_two().max(4);
            if size < self.capacity() {
                let _ = self.resize(size);
            }
        }
    }
}

impl<T> Index<usize> for StepQueue<T> {
    type Output = T;
    #[inline]
    #[track_caller]
    fn index(&self, at: usize) -> &T {
        self.get(at).expect("an element at this place")
    }
}

impl<T> IndexMut<usize> for StepQueue<T> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.get_mut(at).expect("an element at this place")
    }
}

impl<T> Drop for StepQueue<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// An array that grows. Its elements' own changes are their business.
pub struct StepArray<T> {
    slots: Box<[T]>,
    /// The larger array that is about to take the place of `slots`, and has all that was there: thin, so that it is
    /// entered by one store.
    larger: Option<Box<Box<[T]>>>,
}

impl<T: Default> StepArray<T> {
    /// An array of these elements.
    pub fn new(slots: Vec<T>) -> StepArray<T> {
        StepArray { slots: slots.into_boxed_slice(), larger: None }
    }

    /// Makes it so long, if it is shorter.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn grow(&mut self, len: usize) -> Result {
        let had = self.slots.len();
        if len <= had {
            return Ok(());
        }
        let mut slots: Vec<T> = Vec::new();
        slots.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: there is room; the elements belong to the larger array from the moment on in which it takes the
        // place of this one, whose memory is then freed without them. Nothing in between can fail or panic.
        unsafe {
            core::ptr::copy_nonoverlapping(self.slots.as_ptr(), slots.as_mut_ptr(), had);
            slots.set_len(had);
        }
        slots.resize_with(len, T::default);
        self.larger = Some(Box::new(slots.into_boxed_slice()));
        step();
        let Some(larger) = &self.larger else { return Ok(()) };
        // SAFETY: of the two only this one is used from here on, see below.
        let larger = unsafe { core::ptr::read(&raw const **larger) };
        let old = core::mem::replace(&mut self.slots, larger);
        step();
        let larger = self.larger.take();
        step();
        // SAFETY: what the boxes hold was moved; only their memory goes.
        unsafe {
            drop(Box::from_raw(Box::into_raw(old) as *mut [MaybeUninit<T>]));
            drop(larger.map(|l| Box::from_raw(Box::into_raw(l).cast::<MaybeUninit<Box<[T]>>>())));
        }
        Ok(())
    }
}

impl<T> Mend for StepArray<T> {
    fn mend(&mut self) {
        if let Some(larger) = self.larger.take() {
            // What of the old array's memory was not freed yet is lost.
            forget_part(&mut self.slots, *larger);
        }
    }
}

impl<T> Deref for StepArray<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.slots
    }
}

impl<T> DerefMut for StepArray<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.slots
    }
}
