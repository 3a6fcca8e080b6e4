//! `/proc/locks`, and what `/proc/PID/fdinfo` says of locks (`lock_get_status` in `fs/locks.c`).

use super::sysctl::pids;
use crate::abi::linux::{F_RDLCK, F_WRLCK};
use crate::abi::{Errno, Result};
use crate::task::Task;
use crate::vfs::locks::{Owner, Range};
use crate::vfs::{OpenFile, lease, split_dev};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

/// A lock as a line without its number.
fn line(lock: &Range, file: &OpenFile, pid: i64) -> String {
    let kind = match lock.owner {
        Owner::Posix(_) => "POSIX ",
        Owner::Description(_) => "OFDLCK",
        Owner::Flock(_) => "FLOCK ",
    };
    let how = if lock.write { "WRITE" } else { "READ" };
    let end = if lock.end == u64::MAX { String::from("EOF") } else { format!("{}", lock.end - 1) };
    format!("{kind} ADVISORY  {how} {pid} {} {} {end}", file_id(file), lock.start)
}

fn file_id(file: &OpenFile) -> String {
    let (dev, ino) = file.inode.identity().unwrap_or_default();
    let (major, minor) = split_dev(dev);
    format!("{major:02x}:{minor:02x}:{ino}")
}

/// A lease as such a line.
fn lease_line(lease: &lease::Shown, file: &OpenFile) -> String {
    let state = if lease.breaking { "BREAKING " } else { "ACTIVE   " };
    let how = match lease.kind {
        F_WRLCK => "WRITE",
        F_RDLCK => "READ",
        _ => "UNLCK",
    };
    format!("LEASE  {state} {how} {} {} 0 EOF", pids().seen(lease.pid), file_id(file))
}

/// The process that has a lock, as the reader knows it: none has that of a description.
fn holder(lock: &Range) -> i64 {
    match lock.owner {
        Owner::Description(_) => -1,
        _ => i64::from(pids().seen(lock.pid)),
    }
}

/// The lines of a file: of the locks, each followed by those that wait for it, and of leases; with how many others each
/// waits behind, and to which description or table it belongs.
fn of_file(file: &OpenFile) -> Result<Vec<(String, usize, Option<Owner>)>> {
    let Some(state) = file.inode.state().known(&*file.inode) else { return Ok(Vec::new()) };
    let (locks, leases) = (state.locks.shown()?, lease::shown(&*file.inode)?);
    let mut out = Vec::new();
    out.try_reserve_exact(locks.len() + leases.len()).map_err(|_| Errno::ENOMEM)?;
    out.extend(locks.iter().map(|(lock, depth)| (line(lock, file, holder(lock)), *depth, Some(lock.owner))));
    out.extend(leases.iter().map(|l| (lease_line(l, file), 0, Some(Owner::Description(l.description)))));
    Ok(out)
}

/// The lines of those locks of a file that belong to this open file or to the table that it is in.
pub fn of_open(file: &OpenFile, task: &Task) -> String {
    let table = task.shared().map(|own| own.files.owner());
    let (mut out, mut count) = (String::new(), 0);
    for (line, depth, owner) in of_file(file).unwrap_or_default() {
        let own = match owner {
            Some(Owner::Posix(id)) => Some(id) == table,
            Some(Owner::Description(id) | Owner::Flock(id)) => id == file.id,
            None => false,
        };
        if own && depth == 0 {
            count += 1;
            let _ = writeln!(out, "lock:\t{count}: {line}");
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
            let lines = of_file(&file)?;
            if lines.is_empty() || !seen.insert(Arc::as_ptr(&file.inode).cast::<u8>() as u64) {
                continue;
            }
            for (line, depth, _) in lines {
                count += u32::from(depth == 0);
                let arrow = if depth == 0 { String::new() } else { format!("{:>1$}", "-> ", depth + 2) };
                let text = format!("{count}: {arrow}{line}\n");
                out.try_reserve(text.len()).map_err(|_| Errno::ENOMEM)?;
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
    Ok(out)
}
