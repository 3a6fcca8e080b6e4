//! What `getdents64(2)` tells, for processes whose filters the standard library's way does not pass.

use std::ffi::CStr;

/// Where a record says how long it is, and where its name begins (`struct linux_dirent64`).
const LENGTH: usize = 16;
const NAME: usize = 19;

/// The names in these records.
pub fn names(mut records: &[u8]) -> impl Iterator<Item = &CStr> {
    std::iter::from_fn(move || {
        let len = records.get(LENGTH..LENGTH + 2).map(|l| usize::from(u16::from_ne_bytes([l[0], l[1]])))?;
        let name = CStr::from_bytes_until_nul(records.get(NAME..len)?).ok()?;
        records = &records[len..];
        Some(name)
    })
}
