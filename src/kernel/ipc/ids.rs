//! Ids and keys of System V objects of one kind: an id is an index and, above it, a sequence number, so that an id is
//! not used again soon (`ipc/util.c`).

use super::perm::{CREAT, EXCL, PRIVATE, Perm};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use crate::sync::mend::forget_part;
use crate::sync::{Level, Mend, MendMap, RwLock};
use crate::task::ns::IpcNamespace;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// The index is below this bit.
pub const SEQ_SHIFT: u32 = 15;
/// Most objects of a kind (`IPCMNI`).
pub const MOST: u32 = 1 << SEQ_SHIFT;
/// Indices are used up to here before lower ones are used again.
const MIN_CYCLE: u32 = 64;
/// Sequence numbers wrap here.
const SEQ_MAX: u32 = (i32::MAX as u32 >> SEQ_SHIFT) + 1;

/// An object that is known by an id.
pub trait Object: Send + Sync {
    /// Permissions; `EIDRM` once it is removed.
    ///
    /// # Errors
    /// See above.
    fn perm(&self) -> Result<Perm>;
    /// Tells it its id.
    fn set_id(&self, id: i32);
}

struct Table<T> {
    /// By index; the rest follows from it.
    objects: MendMap<u32, Arc<T>>,
    keys: BTreeMap<i32, u32>,
    /// Which indices are taken; made with the first object.
    taken: Option<Box<[u64; (MOST / 64) as usize]>>,
    /// Where the search for an index starts.
    next: u32,
    /// The index given last.
    last: Option<u32>,
    seq: u32,
}

/// See the module.
pub struct Ids<T> {
    table: RwLock<Table<T>>,
    /// `/proc/sys/kernel/*_next_id`: the id that the next object gets, -1 for any.
    pub next_id: AtomicI32,
}

impl<T: Object> Default for Ids<T> {
    fn default() -> Self {
        let table = Table { objects: MendMap::new(), keys: BTreeMap::new(), taken: None, next: 0, last: None, seq: 0 };
        Ids { table: RwLock::mended(Level::Ipc, table), next_id: AtomicI32::new(-1) }
    }
}

impl<T: Object> Mend for Table<T> {
    fn mend(&mut self) {
        self.objects.mend();
        forget_part(&mut self.keys, BTreeMap::new());
        forget_part(&mut self.taken, None);
        // Whoever died may have been about to take it out.
        self.objects.retain(|_, object| object.perm().is_ok());
        let all: Vec<_> = self.objects.iter().map(|(index, object)| (*index, object.perm())).collect();
        for (index, perm) in all {
            self.mark(index, true);
            if let Ok(perm) = perm
                && perm.key != PRIVATE
            {
                self.keys.insert(perm.key, index);
            }
        }
    }
}

impl<T> Table<T> {
    /// The first free index in `from..to`.
    fn free(&self, from: u32, to: u32) -> Option<u32> {
        let Some(taken) = &self.taken else { return (from < to).then_some(from) };
        let mut at = from;
        while at < to {
            let free = !taken[(at / 64) as usize] >> (at % 64);
            if free != 0 {
                return Some(at + free.trailing_zeros()).filter(|&i| i < to);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// A new id (`ipc_idr_alloc`); `wanted`: which, or -1.
    fn new_id(&mut self, wanted: i32) -> Result<i32> {
        if let Ok(wanted) = u32::try_from(wanted) {
            let index = self.free(wanted % MOST, MOST).ok_or(Errno::ENOSPC)?;
            return Ok(((wanted / MOST) << SEQ_SHIFT | index) as i32);
        }
        let used = self.objects.len() as u32;
        let end = (used * 3 / 2).clamp(MIN_CYCLE, MOST);
        let from = if self.next < end { self.next } else { 0 };
        let index = self.free(from, end).or_else(|| self.free(0, end)).ok_or(Errno::ENOSPC)?;
        self.next = index + 1;
        if self.last.is_some_and(|last| index <= last) {
            self.seq = (self.seq + 1) % SEQ_MAX;
        }
        self.last = Some(index);
        Ok((self.seq << SEQ_SHIFT | index) as i32)
    }

    fn mark(&mut self, index: u32, taken: bool) {
        let map = self.taken.get_or_insert_with(|| Box::new([0; (MOST / 64) as usize]));
        let word = &mut map[(index / 64) as usize];
        let bit = 1 << (index % 64);
        *word = if taken { *word | bit } else { *word & !bit };
    }
}

impl<T: Object> Ids<T> {
    /// `semget`, `msgget`, `shmget`: the id for `key`. `fits` sees an object that is there, `make` makes a new one, of
    /// which there may be `most`.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`, `ENOSPC`, `ENOMEM`, those of `fits` and `make`.
    pub fn get(
        &self,
        (ns, cred): (&IpcNamespace, &Cred),
        (key, flags): (i32, u32),
        most: u32,
        fits: impl FnOnce(&T) -> Result,
        make: impl FnOnce() -> Result<Arc<T>>,
    ) -> Result<i32> {
        let mut table = self.table.write();
        if key != PRIVATE {
            let there = table.keys.get(&key).and_then(|i| table.objects.get(i)).cloned();
            match there {
                None if flags & CREAT == 0 => return Err(Errno::ENOENT),
                None => {}
                Some(_) if flags & CREAT != 0 && flags & EXCL != 0 => return Err(Errno::EEXIST),
                Some(object) => {
                    fits(&object)?;
                    let perm = object.perm()?;
                    perm.check(ns, cred, flags)?;
                    return Ok(perm.id);
                }
            }
        }
        let object = make()?;
        if table.objects.len() as u32 >= most.min(MOST) {
            return Err(Errno::ENOSPC);
        }
        let id = table.new_id(self.next_id.swap(-1, Relaxed))?;
        let index = id as u32 % MOST;
        object.set_id(id);
        table.mark(index, true);
        table.objects.insert(index, object);
        if key != PRIVATE {
            table.keys.insert(key, index);
        }
        Ok(id)
    }

    /// The object with this id.
    ///
    /// # Errors
    /// `EINVAL` if there is none.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        let index = u32::try_from(id).map_err(|_| Errno::EINVAL)? % MOST;
        let object = self.table.read().objects.get(&index).cloned().ok_or(Errno::EINVAL)?;
        if object.perm()?.id == id { Ok(object) } else { Err(Errno::EINVAL) }
    }

    /// The object with this index (`*_STAT` of the control calls).
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn at(&self, index: i32) -> Result<Arc<T>> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)? % MOST;
        self.table.read().objects.get(&index).cloned().ok_or(Errno::EINVAL)
    }

    /// How many there are, and the highest index, 0 for none.
    pub fn count(&self) -> (u32, u32) {
        let table = self.table.read();
        (table.objects.len() as u32, table.objects.last_key_value().map_or(0, |(i, _)| *i))
    }

    /// All, by index.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn all(&self) -> Result<Vec<Arc<T>>> {
        let table = self.table.read();
        let mut all = Vec::new();
        all.try_reserve_exact(table.objects.len()).map_err(|_| Errno::ENOMEM)?;
        all.extend(table.objects.values().cloned());
        Ok(all)
    }

    /// Ends `object`, or only the way that its key leads to it, as `decide` says, which runs alone and takes the
    /// object's lock.
    pub fn end<R>(&self, object: &Arc<T>, decide: impl FnOnce() -> (End, R)) -> R {
        let mut table = self.table.write();
        let id = object.perm().map(|p| p.id);
        let (end, result) = decide();
        if let End::Key(key) | End::All(key) = end
            && key != PRIVATE
        {
            table.keys.remove(&key);
        }
        let gone = match (id, end) {
            (Ok(id), End::All(_)) => {
                let index = id as u32 % MOST;
                table.mark(index, false);
                table.objects.remove(&index)
            }
            _ => None,
        };
        drop(table);
        drop(gone);
        result
    }
}

/// What becomes of an object: see [`Ids::end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It stays.
    Nothing,
    /// This key, which was its own, leads to it no longer.
    Key(i32),
    /// It is gone, and its key with it.
    All(i32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    struct Thing(Mutex<Perm>);
    impl Object for Thing {
        fn perm(&self) -> Result<Perm> {
            Ok(*self.0.lock())
        }
        fn set_id(&self, id: i32) {
            self.0.lock().id = id;
        }
    }

    #[test]
    fn an_index_comes_again_late_and_with_another_sequence_number() {
        let ids: Ids<Thing> = Ids::default();
        let cred = Cred::new(0, 0, Vec::new());
        let ns = &*crate::task::kernel().roots().proxy.ipc.clone();
        let make = |key: i32, flags: u32| {
            let new = || Ok(Arc::new(Thing(Mutex::new(Level::IpcObject, Perm::new(&cred, key, flags)))));
            ids.get((ns, &cred), (key, flags), 100, |_| Ok(()), new)
        };
        assert_eq!(make(5, 0o600), Err(Errno::ENOENT));
        assert_eq!(make(5, CREAT | 0o600), Ok(0));
        assert_eq!(make(5, CREAT | EXCL | 0o600), Err(Errno::EEXIST));
        assert_eq!(make(5, 0), Ok(0));
        for i in 1..64 {
            assert_eq!(make(PRIVATE, 0), Ok(i));
            let object = ids.find(i).unwrap();
            ids.end(&object, || (End::All(PRIVATE), ()));
            assert_eq!(ids.find(i).err(), Some(Errno::EINVAL));
        }
        assert_eq!(make(PRIVATE, 0), Ok(MOST as i32 + 1), "index 0 is in use, so 1 comes again");
        assert_eq!(ids.find(1).err(), Some(Errno::EINVAL));
        assert_eq!(ids.count(), (2, 1));
        ids.next_id.store(77, Relaxed);
        assert_eq!(make(PRIVATE, 0), Ok(77));
        for i in 3..100 {
            assert!(make(PRIVATE, 0).is_ok(), "{i}");
        }
        assert_eq!(make(PRIVATE, 0), Err(Errno::ENOSPC));
    }
}
