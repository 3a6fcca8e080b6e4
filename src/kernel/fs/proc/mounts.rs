//! What `/proc/PID/{mounts,mountinfo,mountstats}` say of the mounts that a task sees.

use super::files::Text;
use super::process::{Entry, View};
use crate::abi::{Errno, Result, SysResult};
use crate::fs::{devpts, memfs};
use crate::mm::IoDst;
use crate::sync::deferred::drop_later;
use crate::sync::{Events, WaitQueue};
use crate::task::Task;
use crate::vfs::mount::{self, MountNamespace};
use crate::vfs::{FileOps, OpCtx, OpenFile, Whence};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A mount that the process can reach, its mount point as the process sees it, and the part of its file
/// system that it shows.
struct Seen {
    mount: alloc::sync::Arc<mount::Mount>,
    point: String,
    part: String,
}

/// As the files about mounts write a name: blanks and backslashes in octal.
fn escaped(name: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' | '#' => {
                let _ = write!(out, "\\{:03o}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn visible(task: &Task) -> Result<Vec<Seen>> {
    let fs = task.shared().ok_or(Errno::EINVAL)?.fs;
    let root = fs.root();
    let mut all = Vec::new();
    for mount in fs.namespace()?.mounts() {
        let (point, reachable) = mount.root_path().name(&root)?;
        if reachable {
            let part = mount.root.path_in_fs()?;
            all.push(Seen { point: escaped(&point), part: escaped(&part), mount });
        }
    }
    Ok(all)
}

/// Options of the mount alone.
fn options(m: &mount::Mount) -> String {
    let mut out = String::from(if m.has(mount::RDONLY) { "ro" } else { "rw" });
    let names = [
        (mount::NOSUID, ",nosuid"),
        (mount::NODEV, ",nodev"),
        (mount::NOEXEC, ",noexec"),
        (mount::NOATIME, ",noatime"),
        (mount::NODIRATIME, ",nodiratime"),
        (mount::RELATIME, ",relatime"),
        (mount::NOSYMFOLLOW, ",nosymfollow"),
    ];
    for (flag, name) in names {
        out.push_str(if m.has(flag) { name } else { "" });
    }
    out
}

pub fn mounts(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let mut out = String::new();
    for Seen { mount: m, point, .. } in visible(task)? {
        let options = options(&m);
        // Here one word stands for both: the mount and its file system.
        let rest = options.get(2..).unwrap_or_default();
        let access = if m.has(mount::RDONLY) || m.fs_read_only() { "ro" } else { "rw" };
        let all = fs_flags(&m) + rest + &of_fs(&m);
        let _ = writeln!(out, "{} {point} {} {access}{all} 0 0", source(&m), m.fstype);
    }
    Ok(out.into_bytes())
}

/// Options of the file system, each behind a comma.
pub fn of_fs(m: &mount::Mount) -> String {
    let root = &m.root.inode;
    devpts::shown_options(root).or_else(|| memfs::shown_options(root)).unwrap_or_default()
}

/// The flags that all mounts of the file system share, each behind a comma (`show_sb_opts`).
fn fs_flags(m: &mount::Mount) -> String {
    let names = [
        (mount::SYNCHRONOUS, ",sync"),
        (mount::DIRSYNC, ",dirsync"),
        (mount::MANDLOCK, ",mand"),
        (mount::LAZYTIME, ",lazytime"),
    ];
    names.iter().filter(|(flag, _)| m.fs_flags() & flag != 0).map(|(_, name)| *name).collect()
}

fn source(m: &mount::Mount) -> String {
    escaped(m.source.as_bytes())
}

pub fn mountstats(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let mut out = String::new();
    for Seen { mount: m, point, .. } in visible(task)? {
        let _ = writeln!(out, "device {} mounted on {point} with fstype {}", source(&m), m.fstype);
    }
    Ok(out.into_bytes())
}

pub fn mountinfo(task: &Task, _: &View<'_>) -> Result<Vec<u8>> {
    let mut out = String::new();
    for Seen { mount: m, point, part } in visible(task)? {
        let dev = m.root.inode.identity().map_or(0, |i| i.0);
        let (major, minor) = crate::vfs::split_dev(dev);
        let parent = m.at().map_or(m.id, |p| p.mount.id);
        let _ = write!(out, "{} {parent} {major}:{minor} {part} {point} {}", m.id, options(&m));
        let (group, master, unbindable) = m.propagation();
        if let Some(group) = group {
            let _ = write!(out, " shared:{group}");
        }
        if let Some(master) = master {
            let _ = write!(out, " master:{master}");
        }
        out.push_str(if unbindable { " unbindable" } else { "" });
        let access = if m.fs_read_only() { "ro" } else { "rw" };
        let all = fs_flags(&m) + &of_fs(&m);
        let _ = writeln!(out, " - {} {} {access}{all}", m.fstype, source(&m));
    }
    Ok(out.into_bytes())
}

/// An open `mounts`, `mountinfo` or `mountstats`: a change of the tree is an exception (`mounts_poll`).
pub struct Watched {
    text: Box<Text>,
    ns: Option<Arc<MountNamespace>>,
    /// Changes that were told.
    seen: AtomicU64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(ns) = self.ns.take() {
            drop_later(ns);
        }
    }
}

/// Whether the entry is one of those.
pub fn is_one(entry: &Entry) -> bool {
    matches!(entry.name, "mounts" | "mountinfo" | "mountstats")
}

/// Opens one of them.
///
/// # Errors
/// `EINVAL` of a task that is gone.
pub fn open(task: &Task, text: Box<Text>) -> Result<Box<Watched>> {
    let ns = task.shared().ok_or(Errno::EINVAL)?.fs.namespace()?;
    let seen = AtomicU64::new(ns.changes());
    Ok(Box::new(Watched { text, ns: Some(ns), seen }))
}

impl FileOps for Watched {
    fn read(&self, ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        self.text.read(ctx, file, dst, pos)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, file: &OpenFile, whence: Whence, offset: i64) -> Result<u64> {
        self.text.seek_to(file, whence, offset)
    }

    fn poll(&self) -> Events {
        let changes = self.ns.as_ref().map_or(0, |ns| ns.changes());
        let news = if self.seen.swap(changes, SeqCst) != changes { Events::PRI | Events::ERR } else { Events::empty() };
        Events::IN | Events::RDNORM | news
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        self.ns.as_ref().map(|ns| ns.watchers())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
