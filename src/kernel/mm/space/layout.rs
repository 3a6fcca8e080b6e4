//! Where the parts of a program lie, as `/proc/PID/stat` shows them and `PR_SET_MM` of `prctl(2)` changes them.

use super::AddressSpace;
use core::sync::atomic::Ordering::Relaxed;

/// Addresses, in the order of `struct prctl_mm_map`.
#[derive(Clone, Copy, Default, Debug)]
pub struct Layout(pub [u64; Layout::COUNT]);

#[allow(missing_docs)]
impl Layout {
    pub const START_CODE: usize = 0;
    pub const END_CODE: usize = 1;
    pub const START_DATA: usize = 2;
    pub const END_DATA: usize = 3;
    pub const START_BRK: usize = 4;
    pub const BRK: usize = 5;
    pub const START_STACK: usize = 6;
    pub const ARG_START: usize = 7;
    pub const ARG_END: usize = 8;
    pub const ENV_START: usize = 9;
    pub const ENV_END: usize = 10;
    pub const COUNT: usize = 11;
}

impl AddressSpace {
    /// All of it.
    pub fn layout(&self) -> Layout {
        let [start_code, end_code, start_data, end_data, stack] =
            [0, 1, 2, 3, 4].map(|i: usize| self.bounds[i].load(Relaxed));
        let [args, args_end, env, env_end] = [0, 1, 2, 3].map(|i: usize| self.strings[i].load(Relaxed));
        let (heap, brk) = self.heap();
        Layout([start_code, end_code, start_data, end_data, heap, brk, stack, args, args_end, env, env_end])
    }

    /// Replaces it; nothing is mapped or moved.
    pub fn set_layout(&self, new: &Layout) {
        let [start_code, end_code, start_data, end_data, heap, brk, stack, strings @ ..] = new.0;
        for (to, v) in self.bounds.iter().zip([start_code, end_code, start_data, end_data, stack]) {
            to.store(v, Relaxed);
        }
        for (to, v) in self.strings.iter().zip(strings) {
            to.store(v, Relaxed);
        }
        let mut inner = self.inner.write();
        (inner.brk_start, inner.brk) = (heap, brk);
    }
}
