//! The options of a mount that are the same for every file system (`vfs_parse_fs_param` in Linux).

use crate::abi::{Errno, Result};
use crate::vfs::mount::{Change, DIRSYNC, LAZYTIME, MANDLOCK, RDONLY, SYNCHRONOUS};
use alloc::string::String;
use alloc::vec::Vec;

/// Applies an option that stands for a flag of all file systems, whatever its value is; whether it was one.
pub(super) fn put_flag(change: &mut Change, key: &[u8]) -> bool {
    let (flag, on) = match key {
        b"ro" => (RDONLY, true),
        b"rw" => (RDONLY, false),
        b"sync" => (SYNCHRONOUS, true),
        b"async" => (SYNCHRONOUS, false),
        b"mand" => (MANDLOCK, true),
        b"nomand" => (MANDLOCK, false),
        b"lazytime" => (LAZYTIME, true),
        b"nolazytime" => (LAZYTIME, false),
        b"dirsync" => (DIRSYNC, true),
        _ => return false,
    };
    change.put(flag, on);
    true
}

/// The options of a `mount(2)`, taken apart.
pub(super) struct Split {
    /// What they say of the file system's flags.
    pub change: Change,
    /// `source=`.
    pub source: Option<String>,
    /// What is the file system's own business.
    pub rest: Vec<u8>,
}

/// Takes a text of options apart, beginning with the flags in `change`; `has_source`: there is a source already.
///
/// # Errors
/// `EINVAL` for a second source, or one that is no text.
pub(super) fn split(data: &[u8], change: Change, has_source: bool) -> Result<Split> {
    let mut out = Split { change, source: None, rest: Vec::new() };
    for option in data.split(|&b| b == b',').filter(|o| !o.is_empty()) {
        let key = option.split(|&b| b == b'=').next().unwrap_or_default();
        if put_flag(&mut out.change, key) {
            continue;
        }
        if key == b"source" {
            let value = option.get(key.len() + 1..).filter(|_| !has_source && out.source.is_none());
            out.source = Some(String::from_utf8_lossy(value.ok_or(Errno::EINVAL)?).into_owned());
            continue;
        }
        out.rest.extend_from_slice(option);
        out.rest.push(b',');
    }
    out.rest.pop();
    Ok(out)
}
