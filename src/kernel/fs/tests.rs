//! The tree of names over memory and over a host directory, without a guest.

use super::{hostfs, memfs};
use crate::abi::linux::*;
use crate::abi::{Errno, SysError};
use crate::cred::Cred;
use crate::host::{HostFd, files};
use crate::mm::memfile::tests::set_up;
use crate::mm::{IoDst, IoSrc};
use crate::vfs::names::{self, At};
use crate::vfs::open::How;
use crate::vfs::{FileType, FsContext, Inode, Lookup, NewNode, OpCtx, OpenFile, Path, attr, mount, open};
use alloc::sync::Arc;
use std::path::PathBuf;
use std::string::String;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{format, fs, vec};

/// A directory of the host that goes away with the test.
pub(super) struct TempDir(pub(super) PathBuf);

impl TempDir {
    pub(super) fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("drupe-vfs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).expect("a fresh directory");
        TempDir(dir)
    }
    /// Answers the running thread as the broker does, until the test ends.
    fn serve_modes() {
        use crate::abi::broker::{CHMOD, Request, answered};
        use std::io::Read;
        use std::os::unix::fs::PermissionsExt;
        let (mut asked, ask) = std::io::pipe().expect("a pipe");
        crate::host::window::set_broker(std::os::fd::IntoRawFd::into_raw_fd(ask));
        let word = &crate::arch::slot().broker;
        std::thread::spawn(move || {
            let mut bytes = [0; size_of::<Request>()];
            while asked.read_exact(&mut bytes).is_ok() {
                // SAFETY: all bits of a request are valid.
                let r: Request = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
                assert_eq!(r.op, CHMOD);
                let mode = fs::Permissions::from_mode(r.args[0] as u32);
                let done = fs::set_permissions(format!("/proc/self/fd/{}", r.fd), mode);
                let errno = done.err().and_then(|e| e.raw_os_error()).unwrap_or(0);
                word.store(answered(r.ticket, errno as u32), Ordering::SeqCst);
                crate::host::futex::wake(word, 1);
            }
        });
    }
    fn fd(&self) -> HostFd {
        let path = self.0.to_str().expect("ASCII");
        files::open_place(AT_FDCWD, path.as_bytes()).expect("it is there")
    }
    /// Every name and every file's content below, to see whether anything changed.
    fn picture(&self) -> vec::Vec<(PathBuf, Option<vec::Vec<u8>>)> {
        let mut out = vec![];
        let mut todo = vec![self.0.clone()];
        while let Some(dir) = todo.pop() {
            for e in fs::read_dir(dir).expect("readable") {
                let p = e.expect("an entry").path();
                if p.is_dir() && !p.is_symlink() {
                    todo.push(p.clone());
                    out.push((p, None));
                } else {
                    out.push((p.clone(), fs::read(&p).ok()));
                }
            }
        }
        out.sort();
        out
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process's view of one file system.
pub(super) struct View {
    pub(super) fs: FsContext,
    cred: Cred,
}

impl View {
    fn new(root: Arc<dyn Inode>, uid: u32) -> View {
        let root = mount::detached_named(root, "test", "test");
        View { fs: FsContext::new(root.clone(), root, 0o022), cred: Cred::new(uid, uid, vec![]) }
    }
    pub(super) fn tmpfs() -> View {
        View::new(memfs::tmpfs(0o755, 0, 0), 0)
    }
    pub(super) fn overlay(dir: &TempDir) -> View {
        View::new(memfs::overlay(dir.fd()).expect("a directory"), 0)
    }
    fn ctx(&self) -> OpCtx<'_> {
        OpCtx { cred: &self.cred, tgid: 1, tid: 1, fsize_limit: u64::MAX, umask: 0o022 }
    }
    fn at<'a>(&self, path: &'a str) -> At<'a> {
        At { base: None, path: path.as_bytes() }
    }
    pub(super) fn open(&self, path: &str, flags: u32) -> Result<Arc<OpenFile>, Errno> {
        let how = How { flags, mode: 0o644, resolve: 0 };
        open(&self.fs, &self.ctx(), None, path.as_bytes(), how).map_err(SysError::errno)
    }
    pub(super) fn path(&self, path: &str) -> Result<Path, Errno> {
        Lookup::new(&self.fs, &self.ctx(), None).path(path.as_bytes(), true)
    }
    fn read(&self, path: &str) -> Result<String, Errno> {
        let file = self.open(path, O_RDONLY)?;
        let mut buf = vec![0; 1 << 16];
        let n = file.read_at(&self.ctx(), &mut buf, 0).map_err(SysError::errno)?;
        Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
    }
    fn write(&self, path: &str, flags: u32, at: u64, data: &str) -> Result<usize, Errno> {
        let file = self.open(path, O_WRONLY | flags)?;
        IoSrc::with_kernel(data.as_bytes(), |src| file.ops.write(&self.ctx(), &file, src, at)).map_err(SysError::errno)
    }
    pub(super) fn mkdir(&self, path: &str) -> Result<(), Errno> {
        names::make(&self.fs, &self.ctx(), self.at(path), NewNode::Dir, 0o755).map(drop)
    }
    fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        names::make(&self.fs, &self.ctx(), self.at(path), NewNode::Symlink(target.as_bytes()), 0).map(drop)
    }
    pub(super) fn remove(&self, path: &str, dir: bool) -> Result<(), Errno> {
        names::remove(&self.fs, &self.ctx(), self.at(path), dir)
    }
    pub(super) fn rename(&self, from: &str, to: &str, flags: u32) -> Result<(), Errno> {
        names::rename(&self.fs, &self.ctx(), self.at(from), self.at(to), flags)
    }
    pub(super) fn list(&self, path: &str) -> vec::Vec<String> {
        let mut out = vec![];
        let dir = self.path(path).expect("it is there");
        let mut add = |name: &[u8], _, _: FileType| {
            out.push(String::from_utf8_lossy(name).into_owned());
            true
        };
        dir.dentry.entries(&self.ctx(), &mut add).expect("it can be listed");
        out.sort();
        out
    }
}

#[test]
fn files_in_memory() {
    let _one = set_up();
    let v = View::tmpfs();
    assert_eq!(v.write("/a", 0, 0, "x").err(), Some(Errno::ENOENT));
    assert_eq!(v.write("/a", O_CREAT, 0, "hello"), Ok(5));
    assert_eq!(v.write("/a", 0, 3, "p me"), Ok(4));
    assert_eq!(v.read("a").as_deref(), Ok("help me"));
    assert_eq!(v.open("/a", O_CREAT | O_EXCL).err(), Some(Errno::EEXIST));
    assert_eq!(v.open("/a/b", O_RDONLY).err(), Some(Errno::ENOTDIR));
    assert_eq!(v.open("/a/", O_RDONLY).err(), Some(Errno::ENOTDIR));
    assert_eq!(v.open("/", O_WRONLY).err(), Some(Errno::EISDIR));
    assert_eq!(v.open("/b/", O_CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(v.write("/a", O_APPEND, 0, "!"), Ok(1));
    assert_eq!(v.read("/a").as_deref(), Ok("help me!"));
    let file = v.open("/a", O_RDWR).expect("it is there");
    v.remove("/a", false).expect("it can go");
    assert_eq!(v.read("/a").err(), Some(Errno::ENOENT));
    let mut buf = [0; 4];
    assert_eq!(file.read_at(&v.ctx(), &mut buf, 0), Ok(4));
    assert_eq!(file.inode.stat().expect("it is open").nlink, 0);
    assert!(file.path().display(&v.fs.root()).expect("short").ends_with(b"/a (deleted)"));
}

#[test]
fn holes_and_truncation() {
    let _one = set_up();
    let v = View::tmpfs();
    v.write("/h", O_CREAT, 10_000, "end").expect("room");
    let s = v.read("/h").expect("readable");
    assert_eq!(s.len(), 10_003);
    assert!(s.bytes().take(10_000).all(|b| b == 0));
    let p = v.path("/h").expect("it is there");
    attr::truncate(&v.ctx(), &p, 10_001).expect("shrinks");
    attr::truncate(&v.ctx(), &p, 10_003).expect("grows");
    assert!(v.read("/h").expect("readable").ends_with("e\0\0"));
    assert_eq!(attr::truncate(&v.ctx(), &v.fs.root(), 0), Err(Errno::EISDIR.into()));
}

#[test]
fn names_in_memory() {
    let _one = set_up();
    let v = View::tmpfs();
    v.mkdir("/d").expect("made");
    assert_eq!(v.mkdir("/d"), Err(Errno::EEXIST));
    assert_eq!(v.mkdir("/"), Err(Errno::EEXIST));
    assert_eq!(v.mkdir("/d/."), Err(Errno::EEXIST));
    assert_eq!(v.mkdir("/x/y"), Err(Errno::ENOENT));
    v.mkdir("/d/e/").expect("made");
    assert_eq!(v.remove("/d", true), Err(Errno::ENOTEMPTY));
    assert_eq!(v.remove("/d", false), Err(Errno::EISDIR));
    assert_eq!(v.remove("/d/.", true), Err(Errno::EINVAL));
    assert_eq!(v.remove("/d/..", true), Err(Errno::ENOTEMPTY));
    assert_eq!(v.remove("/", true), Err(Errno::EBUSY));
    assert_eq!(v.rename("/d", "/d/e/f", 0), Err(Errno::EINVAL));
    assert_eq!(v.rename("/d/e", "/d", 0), Err(Errno::ENOTEMPTY));
    v.write("/f", O_CREAT, 0, "f").expect("written");
    assert_eq!(v.rename("/d", "/f", 0), Err(Errno::ENOTDIR));
    assert_eq!(v.rename("/f", "/d", 0), Err(Errno::EISDIR));
    assert_eq!(v.rename("/f", "/g/", 0), Err(Errno::ENOTDIR));
    v.write("/g", O_CREAT, 0, "g").expect("written");
    assert_eq!(v.rename("/f", "/g", RENAME_NOREPLACE), Err(Errno::EEXIST));
    v.rename("/f", "/d", RENAME_EXCHANGE).expect("exchanged");
    assert_eq!(v.read("/d").as_deref(), Ok("f"));
    assert_eq!(v.list("/f"), ["e"]);
    v.rename("/d", "/g", 0).expect("replaced");
    assert_eq!(v.read("/g").as_deref(), Ok("f"));
    assert_eq!(v.list("/"), ["f", "g"]);
    v.remove("/f/e", true).expect("empty");
    v.remove("/f", true).expect("empty");
    let link = names::link(&v.fs, &v.ctx(), &v.path("/g").expect("there"), v.at("/h"));
    assert_eq!(link, Ok(()));
    assert_eq!(v.path("/h").expect("there").inode().stat().expect("memory").nlink, 2);
    v.rename("/g", "/h", 0).expect("one file: nothing happens");
    assert_eq!(v.list("/"), ["g", "h"]);
}

#[test]
fn links_are_followed_forty_times() {
    let _one = set_up();
    let v = View::tmpfs();
    v.write("/t", O_CREAT, 0, "target").expect("written");
    v.symlink("t", "/l0").expect("made");
    for i in 1..=40 {
        v.symlink(&format!("/l{}", i - 1), &format!("/l{i}")).expect("made");
    }
    assert_eq!(v.read("/l39").as_deref(), Ok("target"));
    assert_eq!(v.read("/l40").err(), Some(Errno::ELOOP));
    assert_eq!(v.open("/l0", O_RDONLY | O_NOFOLLOW).err(), Some(Errno::ELOOP));
    v.symlink("loop", "/loop").expect("made");
    assert_eq!(v.read("/loop").err(), Some(Errno::ELOOP));
    v.mkdir("/d").expect("made");
    v.symlink("d", "/ld").expect("made");
    assert_eq!(v.remove("/ld/", true), Err(Errno::ENOTDIR));
    v.symlink("nowhere", "/dangling").expect("made");
    assert_eq!(v.write("/dangling", O_CREAT, 0, "n"), Ok(1));
    assert_eq!(v.read("/nowhere").as_deref(), Ok("n"));
    v.symlink("gone2", "/dangling2").expect("made");
    assert_eq!(v.open("/dangling2", O_CREAT | O_EXCL).err(), Some(Errno::EEXIST));
}

#[test]
fn resolve_flags() {
    let _one = set_up();
    let v = View::tmpfs();
    v.mkdir("/d").expect("made");
    v.write("/d/f", O_CREAT, 0, "in").expect("written");
    v.write("/f", O_CREAT, 0, "out").expect("written");
    v.symlink("/f", "/d/abs").expect("made");
    v.symlink("../f", "/d/up").expect("made");
    v.symlink("f", "/d/rel").expect("made");
    let base = v.path("/d").expect("there");
    let try_open = |path: &str, resolve: u32| {
        let how = How { flags: O_RDONLY, mode: 0, resolve: u64::from(resolve) };
        open(&v.fs, &v.ctx(), Some(base.clone()), path.as_bytes(), how).map(drop).map_err(SysError::errno)
    };
    assert_eq!(try_open("f", RESOLVE_BENEATH), Ok(()));
    assert_eq!(try_open("rel", RESOLVE_BENEATH), Ok(()));
    assert_eq!(try_open("../f", RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_open("abs", RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_open("up", RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_open("/f", RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(try_open("abs", RESOLVE_IN_ROOT), Ok(()));
    assert_eq!(try_open("up", RESOLVE_IN_ROOT), Ok(()));
    assert_eq!(try_open("rel", RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(try_open("../f", RESOLVE_NO_XDEV), Ok(()));
}

#[test]
fn overlay_leaves_the_host_alone() {
    let _one = set_up();
    let dir = TempDir::new();
    fs::create_dir_all(dir.0.join("sub/deep")).expect("made");
    fs::write(dir.0.join("a"), "host a").expect("written");
    fs::write(dir.0.join("sub/b"), "host b").expect("written");
    fs::write(dir.0.join("sub/deep/c"), "host c").expect("written");
    std::os::unix::fs::symlink("a", dir.0.join("l")).expect("made");
    let before = dir.picture();
    let v = View::overlay(&dir);
    assert_eq!(v.read("/l").as_deref(), Ok("host a"));
    let reader = v.open("/a", O_RDONLY).expect("there");
    assert_eq!(v.write("/a", 0, 0, "HOST"), Ok(4));
    assert_eq!(v.read("/a").as_deref(), Ok("HOST a"));
    let mut buf = [0; 6];
    assert_eq!(reader.read_at(&v.ctx(), &mut buf, 0), Ok(6));
    assert_eq!(&buf, b"HOST a");
    v.remove("/sub/b", false).expect("goes");
    assert_eq!(v.read("/sub/b").err(), Some(Errno::ENOENT));
    assert_eq!(v.list("/sub"), ["deep"]);
    assert_eq!(v.remove("/sub/deep", true), Err(Errno::ENOTEMPTY));
    v.rename("/sub", "/moved", 0).expect("moves");
    assert_eq!(v.read("/moved/deep/c").as_deref(), Ok("host c"));
    assert_eq!(v.read("/sub/deep/c").err(), Some(Errno::ENOENT));
    v.mkdir("/sub").expect("a new one");
    assert_eq!(v.list("/sub"), Vec::<String>::new());
    v.remove("/moved/deep/c", false).expect("goes");
    v.remove("/moved/deep", true).expect("empty now");
    v.remove("/moved", true).expect("empty now");
    assert_eq!(v.list("/"), ["a", "l", "sub"]);
    assert_eq!(v.write("/new", O_CREAT, 0, "n"), Ok(1));
    v.rename("/new", "/l", 0).expect("replaces");
    assert_eq!(v.read("/l").as_deref(), Ok("n"));
    attr::chmod(&v.ctx(), &v.path("/a").expect("there"), 0o600).expect("ours");
    assert_eq!(v.path("/a").expect("there").inode().stat().expect("memory").mode & 0o777, 0o600);
    assert_eq!(dir.picture(), before);
}

#[test]
fn trimming_forgets_only_what_the_host_has() {
    let _one = set_up();
    let dir = TempDir::new();
    fs::create_dir_all(dir.0.join("d/e")).expect("made");
    for i in 0..50 {
        fs::write(dir.0.join(format!("d/e/{i}")), "host").expect("written");
    }
    let v = View::overlay(&dir);
    for i in 0..50 {
        assert_eq!(v.read(&format!("/d/e/{i}")).as_deref(), Ok("host"));
        assert_eq!(v.read(&format!("/d/none{i}")).err(), Some(Errno::ENOENT));
    }
    v.write("/d/e/7", O_TRUNC, 0, "ours").expect("written");
    v.remove("/d/e/8", false).expect("goes");
    let held = v.open("/d/e/9", O_RDONLY).expect("there");
    let root = v.fs.root().dentry;
    crate::vfs::trim_for_tests(&root);
    let left = crate::vfs::trim_for_tests(&root);
    // d, e, the changed file, the whiteout and the open one.
    assert_eq!(left, 5);
    assert_eq!(v.read("/d/e/7").as_deref(), Ok("ours"));
    assert_eq!(v.read("/d/e/8").err(), Some(Errno::ENOENT));
    assert_eq!(v.read("/d/e/10").as_deref(), Ok("host"));
    assert_eq!(v.list("/d/e").len(), 49);
    assert_eq!(held.path().display(&v.fs.root()).expect("short"), b"/d/e/9");
}

/// Opens so many files that every handle that is only kept goes.
fn forget_handles(dir: &TempDir, v: &View) {
    for i in 0..300 {
        let name = format!("/crowd{i}");
        fs::write(dir.0.join(&name[1..]), &name).expect("written");
        assert_eq!(v.read(&name), Ok(name));
    }
}

#[test]
fn the_host_changes_files_that_were_seen() {
    let _one = set_up();
    let dir = TempDir::new();
    let put = |name: &str, text: &str| fs::write(dir.0.join(name), text).expect("written");
    for name in ["kept", "replaced", "gone", "fifo", "dir", "link", "changed", "grown"] {
        put(name, "one");
    }
    let v = View::overlay(&dir);
    for name in ["/kept", "/replaced", "/gone", "/changed", "/grown"] {
        assert_eq!(v.read(name).as_deref(), Ok("one"));
    }
    for name in ["/fifo", "/dir", "/link"] {
        assert_eq!(v.path(name).map(|p| p.inode().file_type()), Ok(FileType::Regular));
    }
    assert_eq!(v.path("/absent").err(), Some(Errno::ENOENT));
    // A description keeps what it opened, whatever becomes of the name.
    let held = v.open("/kept", O_RDONLY).expect("there");
    let by_name = |name: &str| {
        put("new", "another");
        fs::rename(dir.0.join("new"), dir.0.join(name)).expect("renamed");
    };
    by_name("kept");
    by_name("replaced");
    for name in ["gone", "fifo", "dir", "link"] {
        fs::remove_file(dir.0.join(name)).expect("there");
    }
    fs::create_dir(dir.0.join("dir")).expect("made");
    std::os::unix::fs::symlink("replaced", dir.0.join("link")).expect("made");
    let fifo = std::process::Command::new("mkfifo").arg(dir.0.join("fifo")).status().expect("mkfifo runs");
    assert!(fifo.success());
    put("absent", "now");
    forget_handles(&dir, &v);
    let mut buf = [0; 16];
    assert_eq!(held.read_at(&v.ctx(), &mut buf, 0), Ok(3));
    assert_eq!(v.read("/kept").as_deref(), Ok("one"), "as long as somebody has it open");
    drop(held);
    forget_handles(&dir, &v);
    // What must be opened on the host is looked at again.
    for name in ["/kept", "/replaced", "/link"] {
        assert_eq!(v.read(name).as_deref(), Ok("another"));
    }
    assert_eq!(v.path("/replaced").and_then(|p| p.inode().stat()).map(|s| s.size), Ok(7));
    assert_eq!(v.open("/gone", O_RDONLY).err(), Some(Errno::ENOENT));
    assert_eq!(v.write("/gone", O_CREAT | O_EXCL, 0, "again"), Ok(5));
    assert_eq!(v.open("/dir", O_RDONLY).map(|f| f.inode.file_type()), Ok(FileType::Dir));
    assert_eq!(v.path("/fifo").map(|p| p.inode().file_type()), Ok(FileType::Regular), "believed until opened");
    assert_eq!(v.open("/fifo", O_RDONLY | O_NONBLOCK).map(|f| f.inode.file_type()), Ok(FileType::Fifo));
    // What grew has its new size, absence is believed.
    put("grown", "longer than before");
    forget_handles(&dir, &v);
    assert_eq!(v.read("/grown").as_deref(), Ok("longer than before"));
    assert_eq!(v.path("/grown").and_then(|p| p.inode().stat()).map(|s| s.size), Ok(18));
    assert_eq!(v.open("/absent", O_RDONLY).err(), Some(Errno::ENOENT));
    assert!(!v.list("/").contains(&String::from("absent")));
    // What the guest changed itself is its own.
    v.write("/changed", 0, 0, "two").expect("copied up");
    fs::remove_file(dir.0.join("changed")).expect("there");
    forget_handles(&dir, &v);
    assert_eq!(v.read("/changed").as_deref(), Ok("two"));
    attr::chmod(&v.ctx(), &v.path("/grown").expect("there"), 0o600).expect("changed");
    fs::remove_file(dir.0.join("grown")).expect("there");
    forget_handles(&dir, &v);
    assert_eq!(v.open("/grown", O_RDONLY).err(), Some(Errno::EIO), "the guest's attributes, but no data any more");
}

#[test]
fn reading_leaves_no_trace_on_the_host() {
    let _one = set_up();
    let dir = TempDir::new();
    let path = dir.0.join("file");
    fs::write(&path, "text").expect("written");
    // Read before it was last written: even a host that rarely updates the time would do so now.
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::options().write(true).open(&path).expect("ours");
    file.set_times(fs::FileTimes::new().set_accessed(long_ago)).expect("ours");
    let v = View::overlay(&dir);
    assert_eq!(v.read("/file").as_deref(), Ok("text"));
    assert_eq!(fs::metadata(&path).and_then(|m| m.accessed()).ok(), Some(long_ago));
}

#[test]
fn what_the_host_refuses_fails_at_open() {
    let _one = set_up();
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new();
    fs::write(dir.0.join("secret"), "x").expect("written");
    fs::set_permissions(dir.0.join("secret"), fs::Permissions::from_mode(0o000)).expect("its mode");
    let v = View::overlay(&dir);
    let natively = fs::File::open(dir.0.join("secret")).is_ok();
    assert_eq!(v.open("/secret", O_RDONLY).is_ok(), natively);
    assert_eq!(v.open("/secret", O_WRONLY | O_TRUNC).map(drop), Ok(()), "nothing of the host's is needed");
}

#[test]
fn binds_write_through() {
    let _one = set_up();
    TempDir::serve_modes();
    let dir = TempDir::new();
    fs::create_dir(dir.0.join("d")).expect("made");
    fs::write(dir.0.join("d/f"), "host").expect("written");
    let before = HostFd::live();
    {
        let v = View::new(hostfs::host_tree(dir.fd(), false).expect("a directory"), 0);
        assert_eq!(v.read("/d/f").as_deref(), Ok("host"));
        assert_eq!(v.write("/d/f", 0, 0, "HO"), Ok(2));
        assert_eq!(v.write("/d/f", O_APPEND, 0, "!"), Ok(1));
        assert_eq!(fs::read(dir.0.join("d/f")).expect("there"), b"HOst!");
        assert_eq!(v.write("/new", O_CREAT | O_EXCL, 0, "n"), Ok(1));
        assert_eq!(v.open("/new", O_CREAT | O_EXCL).err(), Some(Errno::EEXIST));
        v.mkdir("/made").expect("made");
        v.symlink("/d/f", "/made/l").expect("made");
        assert_eq!(v.read("/made/l").as_deref(), Ok("HOst!"));
        let cwd = v.path("/d").expect("there");
        v.fs.set_cwd(cwd.clone());
        v.rename("/d", "/e", 0).expect("moved");
        assert_eq!(cwd.name(&v.fs.root()).expect("short").0, b"/e");
        assert_eq!(v.read("f").as_deref(), Ok("HOst!"));
        assert!(Arc::ptr_eq(&v.path("/e").expect("there").dentry, &cwd.dentry));
        let open_file = v.open("/new", O_RDWR).expect("there");
        v.remove("/new", false).expect("goes");
        assert_eq!(open_file.inode.stat().expect("open").nlink, 0);
        assert_eq!(v.remove("/made", true), Err(Errno::ENOTEMPTY));
        names::link(&v.fs, &v.ctx(), &v.path("/e/f").expect("there"), v.at("/g")).expect("linked");
        attr::chmod(&v.ctx(), &v.path("/g").expect("there"), 0o640).expect("ours");
        attr::truncate(&v.ctx(), &v.path("/g").expect("there"), 2).expect("ours");
        assert_eq!(v.list("/"), ["e", "g", "made"]);
        fs::write(dir.0.join("outside"), "o").expect("written");
        assert_eq!(v.read("/outside").as_deref(), Ok("o"));
    }
    assert_eq!(fs::read(dir.0.join("e/f")).expect("there"), b"HO");
    assert!(HostFd::live() <= before + 64, "descriptors are closed with their last use");
}

#[test]
fn permissions() {
    let _one = set_up();
    let root = memfs::tmpfs(0o1777, 0, 0);
    let v = View::new(root.clone(), 0);
    v.write("/secret", O_CREAT, 0, "s").expect("root may");
    attr::chmod(&v.ctx(), &v.path("/secret").expect("there"), 0o600).expect("root may");
    v.mkdir("/closed").expect("root may");
    attr::chmod(&v.ctx(), &v.path("/closed").expect("there"), 0o700).expect("root may");
    let user = View { fs: v.fs.fork_copy(), cred: Cred::new(1000, 1000, vec![]) };
    assert_eq!(user.read("/secret").err(), Some(Errno::EACCES));
    assert_eq!(user.read("/closed/x").err(), Some(Errno::EACCES));
    assert_eq!(user.remove("/secret", false), Err(Errno::EPERM));
    assert_eq!(user.write("/own", O_CREAT, 0, "o"), Ok(1));
    let own = user.path("/own").expect("there");
    assert_eq!(attr::chown(&user.ctx(), &own, Some(0), None), Err(Errno::EPERM));
    attr::chmod(&user.ctx(), &own, 0o4755).expect("owner may");
    attr::chown(&v.ctx(), &own, Some(5), None).expect("root may");
    assert_eq!(own.inode().stat().expect("memory").mode & 0o7777, 0o755);
    user.write("/mode0", O_CREAT, 0, "m").expect("may");
    user.remove("/mode0", false).expect("owner may");
}

#[test]
fn racing_creates_and_removes() {
    let _one = set_up();
    let v = View::tmpfs();
    v.mkdir("/d").expect("made");
    let made = AtomicU32::new(0);
    std::thread::scope(|s| {
        for t in 0..4 {
            let (v, made) = (&v, &made);
            s.spawn(move || {
                for i in 0..500 {
                    let name = format!("/d/{}", i % 7);
                    if v.open(&name, O_CREAT | O_EXCL | O_WRONLY).is_ok() {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = v.rename(&name, &format!("/d/r{t}"), 0);
                    let _ = v.remove(&name, false);
                    let _ = v.list("/d");
                }
            });
        }
    });
    assert!(made.load(Ordering::Relaxed) > 0);
    for name in v.list("/d") {
        v.remove(&format!("/d/{name}"), false).expect("it was listed");
    }
    v.remove("/d", true).expect("empty");
    let _ = IoDst::with_kernel(&mut [], |d| d.left());
}

#[test]
fn mounts() {
    let _one = set_up();
    let dir = TempDir::new();
    fs::create_dir_all(dir.0.join("a/mnt")).expect("made");
    // A mount point in an uncached tree must be found again.
    let (root, ns) = mount::mount_root(hostfs::host_tree(dir.fd(), false).expect("there"), 0, "hostfs", "/");
    let v = View { fs: FsContext::new(root.clone(), root, 0o022), cred: Cred::new(0, 0, vec![]) };
    let tmpfs = || mount::Mount::new(memfs::tmpfs(0o755, 0, 0), 0, "tmpfs", "tmpfs");
    ns.attach(&tmpfs(), &v.path("/a/mnt").expect("there")).expect("mounted");
    v.write("/a/mnt/f", O_CREAT, 0, "memory").expect("written");
    assert_eq!(v.read("/a/mnt/f").as_deref(), Ok("memory"));
    assert_eq!(v.read("/a/mnt/../mnt/f").as_deref(), Ok("memory"));
    assert!(!dir.0.join("a/mnt/f").exists());
    assert_eq!(v.remove("/a/mnt", true), Err(Errno::EBUSY));
    assert_eq!(v.rename("/a/mnt/f", "/f", 0), Err(Errno::EXDEV));
    v.mkdir("/a/mnt/inner").expect("made");
    ns.attach(&tmpfs(), &v.path("/a/mnt/inner").expect("there")).expect("mounted");
    v.write("/a/mnt/inner/g", O_CREAT, 0, "inner").expect("written");
    v.mkdir("/b").expect("made");
    ns.bind(&v.path("/a/mnt").expect("there"), &v.path("/b").expect("there"), true).expect("bound");
    assert_eq!(v.read("/b/f").as_deref(), Ok("memory"));
    assert_eq!(v.read("/b/inner/g").as_deref(), Ok("inner"));
    assert_eq!(v.path("/b/inner").expect("there").name(&v.fs.root()).expect("short").0, b"/b/inner");
    assert_eq!(ns.unmount(v.path("/b").expect("there"), false), Err(Errno::EBUSY));
    assert_eq!(ns.unmount(v.path("/a").expect("there"), false), Err(Errno::EINVAL));
    ns.unmount(v.path("/b").expect("there"), true).expect("lazily");
    assert_eq!(v.read("/b/f").err(), Some(Errno::ENOENT));
    let held = v.open("/a/mnt/inner/g", O_RDONLY).expect("there");
    assert_eq!(ns.unmount(v.path("/a/mnt/inner").expect("there"), false), Err(Errno::EBUSY));
    drop(held);
    ns.unmount(v.path("/a/mnt/inner").expect("there"), false).expect("idle");
    let of_mount = Arc::downgrade(&v.path("/a/mnt/f").expect("there").dentry);
    ns.unmount(v.path("/a/mnt").expect("there"), false).expect("idle");
    assert!(of_mount.upgrade().is_none(), "the tree is freed with its last mount");
    assert_eq!(v.list("/a/mnt"), Vec::<String>::new());
    v.remove("/a/mnt", true).expect("no mount point any more");
}
