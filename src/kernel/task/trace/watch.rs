//! Watched addresses: the debug registers of a traced task, emulated by looking after each instruction.

use super::super::{CurrentTask, Task};
use super::{Trace, flag};
use crate::abi::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

impl Trace {
    /// The enabled watches: index, address, length, whether it is for execution.
    fn watches(&self) -> impl Iterator<Item = (usize, u64, usize, bool)> + '_ {
        (0..4).filter_map(|i| {
            let dr7 = self.debug[7];
            let kind = dr7 >> (16 + 4 * i);
            let len = [1, 2, 8, 4][(kind >> 2 & 3) as usize];
            (dr7 >> (2 * i) & 3 != 0).then_some((i, self.debug[i], len, kind & 3 == 0))
        })
    }
}

impl CurrentTask {
    fn watch_values(&self) -> ([u64; 4], u64) {
        let pc = self.frame().rip;
        let mut list = [None; 4];
        if let Some(t) = self.trace.lock().as_ref() {
            for w in t.watches() {
                list[w.0] = Some(w);
            }
        }
        let (mut values, mut executed) = ([0; 4], 0);
        for (i, addr, len, execute) in list.into_iter().flatten() {
            if execute {
                executed |= u64::from(addr == pc) << i;
                continue;
            }
            let mut bytes = [0u8; 8];
            let _ = crate::mm::UserSlice::<u8>::new(addr, len).read_into(&mut bytes[..len]);
            values[i] = u64::from_le_bytes(bytes);
        }
        (values, executed)
    }

    pub(super) fn remember_watched(&self) {
        let (values, _) = self.watch_values();
        if let Some(t) = self.trace.lock().as_mut() {
            t.watched = values;
        }
    }

    /// After a single step of a task with watched addresses: whether that is a stop. If not, it goes on.
    pub fn step_is_stop(&self) -> bool {
        let flags = self.traced.load(SeqCst);
        if flags & flag::WATCH == 0 {
            return true;
        }
        let (values, mut hit) = self.watch_values();
        if let Some(t) = self.trace.lock().as_mut() {
            let watches: Vec<_> = t.watches().collect();
            for (i, _, _, execute) in watches {
                hit |= u64::from(!execute && values[i] != t.watched[i]) << i;
            }
            t.watched = values;
            t.debug[6] = (t.debug[6] & !0xf) | hit;
        }
        hit != 0 || flags & flag::STEP != 0
    }
}

/// Sets a debug register of a stopped task.
///
/// # Errors
/// `EINVAL`, `EIO`.
pub fn set_debug_register(task: &Task, t: &mut Trace, n: usize, value: u64) -> Result {
    match n {
        0..=3 if value >= crate::abi::layout::TASK_SIZE => return Err(Errno::EINVAL),
        4 | 5 => return Err(Errno::EIO),
        7 => {
            // Reading cannot be seen by stepping: such a watch looks for changes, as a write does.
            let old = core::mem::replace(&mut t.debug[7], value);
            if t.watches().any(|(_, addr, len, _)| addr % len as u64 != 0) {
                t.debug[7] = old;
                return Err(Errno::EINVAL);
            }
            let bits = if t.watches().next().is_some() { flag::WATCH } else { 0 };
            task.traced.fetch_and(!flag::WATCH, SeqCst);
            task.traced.fetch_or(bits, SeqCst);
        }
        _ => {}
    }
    t.debug[n] = value;
    Ok(())
}
