//! A control group of its own for a sandbox with limits, where the host lets this user make one (cgroup v2): a wall that
//! stands against programs that own the kernel, too.
//!
//! The kernel's own accounting, which is there on every host, is what programs notice: `--memory` lies a little below
//! the group's, so that it is the sandbox's kernel that ends a process, and says so.
//!
//! The group is made beside the one that the caller is in, or within it: whichever has the controllers and may be
//! written. It is removed by the meter, which stays outside of it, once everything in it has ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is bounded; 0: not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub memory: u64,
    /// Tasks.
    pub pids: u32,
    /// Processors.
    pub cpus: u32,
}

/// Host processes and threads beyond the tasks of a sandbox: supervisor, broker, and those that are kept ready.
const SPARE_PIDS: u64 = 64;

/// A group that was made. Nobody is in it yet.
#[derive(Debug)]
pub struct Cgroup {
    /// The directory that it was made in.
    pub parent: OwnedFd,
    /// Its name there, as a C string.
    pub name: std::ffi::CString,
    /// `cgroup.procs` of the group that the caller was in.
    pub before: OwnedFd,
    /// Its `cgroup.kill`, where the host has that (5.14).
    kill: Option<OwnedFd>,
    procs: File,
    path: PathBuf,
}

impl Cgroup {
    /// Makes one with these bounds; `None` where that cannot be.
    pub fn make(bounds: Bounds) -> Option<Cgroup> {
        let own = own_directory()?;
        let inner = own.parent().filter(|parent| parent.join("cgroup.procs").exists());
        [Some(own.as_path()), inner].into_iter().flatten().find_map(|parent| Cgroup::within(parent, &own, bounds))
    }

    fn within(parent: &Path, own: &Path, bounds: Bounds) -> Option<Cgroup> {
        remove_leftovers(parent);
        let name = format!("{PREFIX}{}", std::process::id());
        let path = parent.join(&name);
        fs::create_dir(&path).ok()?;
        let made = bound(&path, bounds).and_then(|()| {
            let to_write = |path: PathBuf| OpenOptions::new().write(true).open(path);
            Ok(Cgroup {
                parent: OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(parent)?.into(),
                name: std::ffi::CString::new(name)?,
                before: to_write(own.join("cgroup.procs"))?.into(),
                kill: to_write(path.join("cgroup.kill")).ok().map(OwnedFd::from),
                procs: to_write(path.join("cgroup.procs"))?,
                path: path.clone(),
            })
        });
        // Whether it may be entered shows when it is.
        made.map_err(|_| fs::remove_dir(&path)).ok()
    }

    /// The calling process, and whatever it starts, comes into it.
    ///
    /// # Errors
    /// The host's; then it is removed.
    pub fn enter(&mut self) -> io::Result<()> {
        let entered = self.procs.write_all(b"0");
        if entered.is_err() {
            let _ = fs::remove_dir(&self.path);
        }
        entered
    }

    /// What the meter keeps of it.
    pub fn keep(&self) -> io::Result<Kept> {
        let copy = |fd: &OwnedFd| fd.as_fd().try_clone_to_owned();
        let kill = self.kill.as_ref().map(copy).transpose()?;
        Ok(Kept { parent: copy(&self.parent)?, name: self.name.clone(), before: copy(&self.before)?, kill })
    }
}

/// What it takes to empty and remove a group.
#[derive(Debug)]
pub struct Kept {
    /// See [`Cgroup::parent`].
    pub parent: OwnedFd,
    /// See [`Cgroup::name`].
    pub name: std::ffi::CString,
    /// See [`Cgroup::before`].
    pub before: OwnedFd,
    /// Ends everything in it.
    pub kill: Option<OwnedFd>,
}

const PREFIX: &str = "drupe-";

/// Removes the groups of sandboxes whose meter was killed, which are empty.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_leftover) {
            // One with a process in it stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Whether a group of this name was made by a process that is no more: one that was made just now is empty, too, until
/// its maker has come into it.
fn is_leftover(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).filter(|pid| pid.parse::<u32>().is_ok());
    maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Sets the bounds; an error when one of them cannot be set.
fn bound(path: &Path, bounds: Bounds) -> io::Result<()> {
    let set = |file: &str, value: String| fs::write(path.join(file), value);
    if bounds.memory != 0 {
        set("memory.max", (bounds.memory + bounds.memory / 16 + (8 << 20)).to_string())?;
        // Where there is no swap there is nothing to set.
        let _ = set("memory.swap.max", "0".into());
    }
    if bounds.pids != 0 {
        set("pids.max", (u64::from(bounds.pids) + SPARE_PIDS).to_string())?;
    }
    if bounds.cpus != 0 {
        set("cpu.max", format!("{} 100000", u64::from(bounds.cpus) * 100_000))?;
    }
    Ok(())
}

/// The directory of the group that this process is in.
fn own_directory() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    directory(&groups, &mounts)
}

/// As [`own_directory`], from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|l| l.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (fields, source) = line.split_once(" - ")?;
        if !source.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = fields.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(at).join(below))
    })
}

/// Where a group could be made with all bounds, for a person; nothing is left behind.
pub fn probe() -> Option<PathBuf> {
    let made = Cgroup::make(Bounds { memory: 64 << 20, pids: 100, cpus: 1 })?;
    let _ = fs::remove_dir(&made.path);
    made.path.parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::directory;
    use std::path::PathBuf;

    #[test]
    fn groups_of_the_living_and_of_others_are_no_leftovers() {
        assert!(super::is_leftover("drupe-4294967295"));
        assert!(!super::is_leftover(&format!("drupe-{}", std::process::id())));
        assert!(!super::is_leftover("drupe-test-4294967295-0"));
        assert!(!super::is_leftover("drupe-"));
        assert!(!super::is_leftover("4294967295"));
    }

    #[test]
    fn the_own_group_is_found() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n31 23 0:27 / /tmp rw - tmpfs x rw\n";
        let found = |group: &str, mounts: &str| directory(group, mounts);
        assert_eq!(found("0::/user.slice/a.scope\n", mounts), Some(PathBuf::from("/sys/fs/cgroup/user.slice/a.scope")));
        assert_eq!(found("9:memory:/x\n0::/\n", mounts), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(found("9:memory:/x\n", mounts), None);
        let part = "30 23 0:26 /a /cg rw - cgroup2 none rw\n";
        assert_eq!((found("0::/a/b\n", part), found("0::/b\n", part)), (Some(PathBuf::from("/cg/b")), None));
    }
}
