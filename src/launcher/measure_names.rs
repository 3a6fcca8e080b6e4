//! The rows of `drupe bench --scale` that are of names and mounts. Raw calls, as in `measure_ops`. `unsafe` is the
//! business of this file.

use super::measure::Operation;
use super::measure_ops::{check, each};
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A directory in memory that goes, with everything in it, when this value goes.
struct Scratch(PathBuf);

impl Scratch {
    fn new(kind: &str) -> io::Result<Scratch> {
        let path = PathBuf::from(format!("/dev/shm/drupe-bench-{}-{kind}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    /// With `n` empty files in it, named by number.
    fn with_files(n: usize) -> io::Result<Scratch> {
        let scratch = Scratch::new("names")?;
        for i in 0..n {
            fs::File::create(scratch.0.join(i.to_string()))?;
        }
        Ok(scratch)
    }

    fn name(&self, name: &str) -> io::Result<CString> {
        Ok(CString::new(self.0.join(name).as_os_str().as_bytes())?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open_and_close(path: &CStr, flags: i32) -> i64 {
    // SAFETY: a path that lives; the descriptor is ours.
    unsafe {
        match libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) {
            -1 => -1,
            fd => libc::close(fd).into(),
        }
    }
}

/// Opens one of `n` files of a directory.
pub fn open(n: usize) -> io::Result<Operation> {
    let scratch = Scratch::with_files(n)?;
    let path = scratch.name(&(n / 2).to_string())?;
    each(move || {
        let _keep = &scratch;
        open_and_close(&path, libc::O_RDONLY)
    })
}

/// Makes and removes a file beside `n` others.
pub fn create(n: usize) -> io::Result<Operation> {
    let scratch = Scratch::with_files(n)?;
    let path = scratch.name("another")?;
    each(move || {
        let _keep = &scratch;
        match open_and_close(&path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY) {
            -1 => -1,
            // SAFETY: a path that lives.
            _ => unsafe { libc::unlink(path.as_ptr()).into() },
        }
    })
}

/// Mounts in a directory, in a mount namespace of this process, that go when this value goes.
struct Mounts(Scratch);

impl Mounts {
    fn new() -> io::Result<Mounts> {
        // SAFETY: plain numbers.
        let user = if unsafe { libc::geteuid() } == 0 { 0 } else { libc::CLONE_NEWUSER };
        // SAFETY: as above.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS | user) }.into())?;
        let (none, nowhere) = (std::ptr::null(), c"/");
        // SAFETY: paths that live; no other strings are read.
        check(
            unsafe { libc::mount(none, nowhere.as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) }.into(),
        )?;
        let scratch = Scratch::new("mounts")?;
        let at = scratch.name(".")?;
        // SAFETY: as above.
        check(unsafe { libc::mount(c"none".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, none.cast()) }.into())?;
        Ok(Mounts(scratch))
    }

    fn bind(from: &CStr, to: &CStr) -> i64 {
        let none = std::ptr::null();
        // SAFETY: paths that live.
        unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()).into() }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if let Ok(at) = self.0.name(".") {
            // SAFETY: a path that lives. The tree of mounts goes with the one at its top.
            unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Mounts and unmounts beside `n` mounts, one in each of as many directories.
pub fn mount(n: usize) -> io::Result<Operation> {
    let mounts = Mounts::new()?;
    let from = mounts.0.name("from")?;
    fs::create_dir(mounts.0.0.join("from"))?;
    for i in 0..=n {
        fs::create_dir(mounts.0.0.join(i.to_string()))?;
        if i < n {
            check(Mounts::bind(&from, &mounts.0.name(&i.to_string())?))?;
        }
    }
    let to = mounts.0.name(&n.to_string())?;
    each(move || {
        let _keep = &mounts;
        match Mounts::bind(&from, &to) {
            -1 => -1,
            // SAFETY: a path that lives.
            _ => unsafe { libc::umount2(to.as_ptr(), 0).into() },
        }
    })
}
