//! Which process waits for which, over all files: a wait that would close a circle is a deadlock.

use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Owners of POSIX locks that wait, each with those it waits for: one for each of its threads that does.
static WAITS: Mutex<Option<HashMap<u64, Vec<u64>>>> = Mutex::new(Level::LockWaits, None);

/// Most waits that are followed. Processes of many threads could make more ways than there is time for.
const STEPS: usize = 1000;

/// Enters a wait `(from, to)`.
///
/// # Errors
/// `EDEADLK` if `to` waits for `from` already, perhaps through others; `ENOLCK`.
pub fn add(edge: Option<(u64, u64)>) -> Result {
    let Some((from, to)) = edge else { return Ok(()) };
    let mut guard = WAITS.lock();
    let waits = guard.get_or_insert_with(HashMap::new);
    if reaches(waits, to, from)? {
        return Err(Errno::EDEADLK);
    }
    waits.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
    let list = waits.entry(from).or_default();
    if list.try_reserve(1).is_err() {
        if list.is_empty() {
            waits.remove(&from);
        }
        return Err(Errno::ENOLCK);
    }
    list.push(to);
    Ok(())
}

/// Takes a wait back.
pub fn remove(edge: Option<(u64, u64)>) {
    let Some((from, to)) = edge else { return };
    let mut guard = WAITS.lock();
    let Some(waits) = guard.as_mut() else { return };
    let Some(list) = waits.get_mut(&from) else { return };
    if let Some(at) = list.iter().position(|&t| t == to) {
        list.swap_remove(at);
    }
    if list.is_empty() {
        waits.remove(&from);
    }
}

fn reaches(waits: &HashMap<u64, Vec<u64>>, from: u64, goal: u64) -> Result<bool> {
    let mut todo = Vec::new();
    let mut next = Some(from);
    for _ in 0..STEPS {
        let Some(at) = next else { return Ok(false) };
        if at == goal {
            return Ok(true);
        }
        if let Some(further) = waits.get(&at) {
            todo.try_reserve(further.len()).map_err(|_| Errno::ENOLCK)?;
            todo.extend_from_slice(further);
        }
        next = todo.pop();
    }
    Ok(false)
}
