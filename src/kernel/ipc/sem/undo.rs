//! What is to be put back when the last task that shares a list ends (`SEM_UNDO`).

use super::{SemSet, seconds};
use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::sync::wait::WakeList;
use crate::sync::{Level, MendMap, Mutex};
use crate::task::CurrentTask;
use crate::task::sysvsem;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is to be put back in one set.
pub struct Undo {
    /// By semaphore.
    pub adjust: Vec<i16>,
    /// Who does it.
    pub list: Weak<List>,
}

/// The sets in which tasks have something to put back.
pub struct List {
    id: u64,
    /// By serial number.
    sets: Mutex<MendMap<u64, Weak<SemSet>>>,
}

/// What the tasks share.
struct Shared(Arc<List>);

impl sysvsem::Undo for Shared {
    fn apply(&self, pid: u32) {
        let first = || self.0.sets.lock().first_key_value().map(|(serial, set)| (*serial, set.upgrade()));
        while let Some((serial, set)) = first() {
            if let Some(set) = set {
                set.put_back(self.0.id, pid);
            }
            self.0.forget(serial);
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl List {
    /// That of the running task.
    pub fn of(cur: &CurrentTask) -> Arc<List> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let new = || {
            let sets = Mutex::mended(Level::Leaf, MendMap::new());
            Box::new(Shared(Arc::new(List { id: IDS.fetch_add(1, Relaxed), sets }))) as Box<dyn sysvsem::Undo>
        };
        let shared = cur.sysvsem();
        let undo = shared.undo(new);
        match undo.as_any().downcast_ref::<Shared>() {
            Some(Shared(list)) => list.clone(),
            None => unreachable!("room ipc alone makes these"),
        }
    }

    /// Makes room for what is to be put back in `set`; returns the list's id.
    ///
    /// # Errors
    /// `ENOMEM`, `EIDRM`.
    pub fn prepare(self: &Arc<Self>, set: &Arc<SemSet>) -> Result<u64> {
        let mut state = set.live()?;
        if state.undos.contains_key(&self.id) {
            return Ok(self.id);
        }
        arena::charge_bytes(Object::Buffer, u64::from(set.count) * 2)?;
        let mut adjust = Vec::new();
        adjust.try_reserve_exact(set.count as usize).map_err(|_| Errno::ENOMEM)?;
        adjust.resize(set.count as usize, 0);
        state.undos.insert(self.id, Undo { adjust, list: Arc::downgrade(self) });
        self.sets.lock().insert(set.serial, Arc::downgrade(set));
        Ok(self.id)
    }

    /// The set is gone.
    pub fn forget(&self, serial: u64) {
        self.sets.lock().remove(&serial);
    }
}

impl SemSet {
    /// Puts back what the list with this id has to, as the process `pid`.
    fn put_back(&self, list: u64, pid: u32) {
        let mut woken = WakeList::default();
        let mut state = self.state.lock();
        for num in 0..self.count as usize {
            state.put_back(list, num, pid);
        }
        if state.undos.remove(&list).is_none() || state.gone {
            return;
        }
        state.settle(None, &mut woken);
        state.otime = seconds();
    }
}
