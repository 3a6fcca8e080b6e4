//! Abstract names: known as long as the socket lives.

use super::{Endpoint, Name};
use crate::abi::{Errno, Result};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

static NAMES: Mutex<BTreeMap<Name, Weak<Endpoint>>> = Mutex::new(Level::Leaf, BTreeMap::new());

/// Gives an endpoint an abstract name (which starts with NUL).
///
/// # Errors
/// `EADDRINUSE`.
pub fn bind_abstract(name: &Name, endpoint: &Arc<Endpoint>) -> Result {
    let mut names = NAMES.lock();
    names.retain(|_, e| e.strong_count() > 0);
    if names.contains_key(name) {
        return Err(Errno::EADDRINUSE);
    }
    names.insert(name.clone(), Arc::downgrade(endpoint));
    Ok(())
}

/// Who has this abstract name.
///
/// # Errors
/// `ECONNREFUSED`.
pub fn lookup_abstract(name: &[u8]) -> Result<Arc<Endpoint>> {
    NAMES.lock().get(name).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
}

/// The name is free again.
pub(super) fn release(name: &[u8]) {
    NAMES.lock().remove(name);
}
