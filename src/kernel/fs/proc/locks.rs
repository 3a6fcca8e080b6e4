//! `/proc/locks`, and what `/proc/PID/fdinfo` says of locks (`lock_get_status` in `fs/locks.c`).

use super::sysctl::pids;
use crate::abi::Result;
use crate::task::Task;
use crate::vfs::locks::{Owner, Range};
use crate::vfs::{OpenFile, split_dev};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

/// The locks of a file.
fn of_file(file: &OpenFile) -> Vec<Range> {
    file.inode.state().known(&*file.inode).map_or_else(Vec::new, |state| state.locks.all())
}

/// A lock as a line without its number.
fn line(lock: &Range, file: &OpenFile, pid: i64) -> String {
    let kind = match lock.owner {
        Owner::Posix(_) => "POSIX ",
        Owner::Description(_) => "OFDLCK",
        Owner::Flock(_) => "FLOCK ",
    };
    let how = if lock.write { "WRITE" } else { "READ" };
    let (dev, ino) = file.inode.identity().unwrap_or_default();
    let (major, minor) = split_dev(dev);
    let end = if lock.end == u64::MAX { String::from("EOF") } else { format!("{}", lock.end - 1) };
    format!("{kind} ADVISORY  {how} {pid} {major:02x}:{minor:02x}:{ino} {} {end}", lock.start)
}

/// The process that has a lock, as the reader knows it: none has that of a description.
fn holder(lock: &Range) -> i64 {
    match lock.owner {
        Owner::Description(_) => -1,
        _ => i64::from(pids().seen(lock.pid)),
    }
}

/// The lines of those locks of a file that belong to this open file or to the table that it is in.
pub fn of_open(file: &OpenFile, task: &Task) -> String {
    let table = task.shared().map(|own| own.files.owner());
    let (mut out, mut count) = (String::new(), 0);
    for lock in of_file(file) {
        let own = match lock.owner {
            Owner::Posix(id) => Some(id) == table,
            Owner::Description(id) | Owner::Flock(id) => id == file.id,
        };
        if own {
            count += 1;
            let _ = writeln!(out, "lock:\t{count}: {}", line(&lock, file, holder(&lock)));
        }
    }
    out
}

/// All locks of files that a process has open.
pub fn all() -> Result<Vec<u8>> {
    let (mut seen, mut out, mut count) = (BTreeSet::new(), Vec::new(), 0);
    for task in pids().tasks() {
        let Some(own) = task.shared() else { continue };
        for fd in own.files.numbers() {
            let Ok(file) = own.files.get_any(fd) else { continue };
            let locks = of_file(&file);
            if locks.is_empty() || !seen.insert(Arc::as_ptr(&file.inode).cast::<u8>() as u64) {
                continue;
            }
            for lock in locks {
                count += 1;
                let text = format!("{count}: {}\n", line(&lock, &file, holder(&lock)));
                out.try_reserve(text.len()).map_err(|_| crate::abi::Errno::ENOMEM)?;
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    Ok(out)
}
