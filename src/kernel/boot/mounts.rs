//! The first mounts: the root, `/proc`, `/dev`, and what the settings ask for.

use crate::abi::control::{Config, MountSpec};
use crate::abi::linux::{O_APPEND, O_WRONLY};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use crate::fs::{dev, devpts, hostfs, memfs, proc, sys};
use crate::host::HostFd;
use crate::mm::IoSrc;
use crate::task::kernel;
use crate::vfs::inode::NewNode;
use crate::vfs::mount::{self, Mount, NODEV, NOEXEC, NOSUID, RDONLY, RELATIME};
use crate::vfs::names::{self, At};
use crate::vfs::open::How;
use crate::vfs::{self, FileType, FsContext, Inode, Lookup, OpCtx, Path, Whence};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// As most systems mount it: slaves belong to the group `tty`, which may write to them.
const PTS_OPTIONS: &[u8] = b"gid=5,mode=620,ptmxmode=666";

/// Which of the settings' mounts is being made, from 1 on.
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Which of the settings' mounts could not be made, from 1 on; 0 for none.
pub fn failed() -> u32 {
    FAILED.load(Relaxed)
}

/// Mounts everything; returns the root directory in its namespace.
///
/// # Errors
/// Those of looking at the host's tree; a mount point that cannot be made.
pub fn assemble(config: &Config) -> Result<FsContext> {
    let fd = HostFd::new(config.root_fd);
    let (inode, kind) = if config.root_writable {
        (hostfs::host_tree(fd, config.privileged)?, "hostfs")
    } else {
        (memfs::overlay(fd)?, "overlay")
    };
    let (root, _namespace) = mount::mount_root(inode, RELATIME, kind, &config.root_path);
    let site = Site { fs: FsContext::new(root.clone(), root.clone(), 0), cred: Cred::new(0, 0, Vec::new()) };
    let quiet = NOSUID | NODEV | NOEXEC;
    site.optional(b"/proc", proc::root(&kernel().roots().pid), quiet, "proc");
    site.optional(b"/sys", sys::root(), quiet | RDONLY, "sysfs");
    site.optional(b"/dev", memfs::tmpfs(0o755, 0, 0), NOSUID, "tmpfs");
    if let Ok(place) = site.place(b"/dev") {
        dev::populate(&place.dentry)?;
        site.optional(b"/dev/pts", devpts::instance(PTS_OPTIONS, true)?, NOSUID | NOEXEC, "devpts");
    }
    for (i, spec) in config.mounts.iter().enumerate() {
        FAILED.store(i as u32 + 1, Relaxed);
        match spec {
            MountSpec::Bind { fd, source, dst, read_only } => {
                let inode = hostfs::host_tree(HostFd::new(*fd), config.privileged)?;
                let flags = if *read_only { RDONLY } else { 0 };
                site.mount(dst.as_bytes(), inode, flags, "hostfs", source)?;
            }
            MountSpec::Tmpfs { dst } => {
                site.mount(dst.as_bytes(), memfs::tmpfs(0o1777, 0, 0), NOSUID | NODEV, "tmpfs", "tmpfs")?;
            }
        }
    }
    FAILED.store(0, Relaxed);
    Ok(site.fs)
}

/// Adds the sandbox's own name, and further lines, to `/etc/hosts`, where its tree is its own to change; a tree without
/// that file does not get one.
pub fn name_hosts(root: &Path, hostname: &[u8], lines: &[String]) {
    let site = Site { fs: FsContext::new(root.clone(), root.clone(), 0), cred: Cred::new(0, 0, Vec::new()) };
    let mut line = b"127.0.1.1\t".to_vec();
    line.extend_from_slice(hostname);
    line.push(b'\n');
    for further in lines {
        line.extend_from_slice(further.as_bytes());
        line.push(b'\n');
    }
    let how = How { flags: O_WRONLY | O_APPEND, ..How::default() };
    let Ok(file) = vfs::open(&site.fs, &site.ctx(), None, b"/etc/hosts", how) else { return };
    let end = file.ops.seek_to(&file, Whence::End, 0).unwrap_or(0);
    let put = IoSrc::with_kernel(&line, |src| file.ops.write(&site.ctx(), &file, src, end));
    if put.is_err() {
        log::warn!("the sandbox's name is not in /etc/hosts");
    }
}

/// Where mounts are made, and as whom.
struct Site {
    fs: FsContext,
    cred: Cred,
}

impl Site {
    fn ctx(&self) -> OpCtx<'_> {
        OpCtx { cred: &self.cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 }
    }

    fn place(&self, path: &[u8]) -> Result<Path> {
        Lookup::new(&self.fs, &self.ctx(), None).path(path, true)
    }

    /// A mount that the tree can do without, where the host's tree has no place for it and cannot
    /// be written to.
    fn optional(&self, at: &[u8], root: Arc<dyn Inode>, flags: u32, kind: &'static str) {
        if let Err(e) = self.mount(at, root, flags, kind, kind) {
            log::warn!("no {kind} at {}: {e}", String::from_utf8_lossy(at));
        }
    }

    fn mount(&self, at: &[u8], root: Arc<dyn Inode>, flags: u32, kind: &'static str, source: &str) -> Result {
        let is_dir = root.file_type() == FileType::Dir;
        let place = match self.place(at) {
            Err(Errno::ENOENT) => self.make(at, is_dir)?,
            other => other?,
        };
        let mount = Mount::new(root, flags | RELATIME, kind, source);
        self.fs.namespace()?.attach(&mount, &place)
    }

    /// Makes a mount point, with the directories on the way.
    fn make(&self, at: &[u8], is_dir: bool) -> Result<Path> {
        let ctx = self.ctx();
        let mut end = 0;
        while let Some(next) = at[end + 1..].iter().position(|&b| b == b'/') {
            end += 1 + next;
            match names::make(&self.fs, &ctx, At { base: None, path: &at[..end] }, NewNode::Dir, 0o755) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        let node = if is_dir { NewNode::Dir } else { NewNode::Regular };
        names::make(&self.fs, &ctx, At { base: None, path: at }, node, if is_dir { 0o755 } else { 0o644 })
    }
}
