//! `/sys`: the little that programs look for (`sysfs(5)`): processors, huge pages, the loopback
//! interface, the empty places where cgroups and devices would be. Nothing here changes.

use super::proc::cpus;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::IoDst;
use crate::vfs::inode::Emit;
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{
    Directory, FileOps, FileType, Inode, NewNode, OpCtx, OpenFile, SetAttr, Stat, StatFs, Whence, open::DirFile,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use once_cell::race::OnceBox;

/// Device number of the one instance.
const DEV: u64 = 0x16;
/// `SYSFS_MAGIC`.
const MAGIC: u64 = 0x6265_6572;

/// Files, and directories that may have none (a slash at the end).
const FIXED: &[(&str, &str)] = &[
    ("block/", ""),
    ("bus/", ""),
    ("class/net/lo/address", "00:00:00:00:00:00\n"),
    ("class/net/lo/broadcast", "00:00:00:00:00:00\n"),
    ("class/net/lo/carrier", "1\n"),
    ("class/net/lo/flags", "0x9\n"),
    ("class/net/lo/ifindex", "1\n"),
    ("class/net/lo/mtu", "65536\n"),
    ("class/net/lo/operstate", "unknown\n"),
    ("class/net/lo/tx_queue_len", "1000\n"),
    ("class/net/lo/type", "772\n"),
    ("dev/block/", ""),
    ("dev/char/", ""),
    ("devices/system/cpu/isolated", "\n"),
    ("devices/system/cpu/offline", "\n"),
    ("devices/system/node/node0/distance", "10\n"),
    ("devices/system/node/online", "0\n"),
    ("devices/system/node/possible", "0\n"),
    ("devices/virtual/", ""),
    ("firmware/", ""),
    ("fs/cgroup/", ""),
    ("kernel/mm/hugepages/", ""),
    ("kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n"),
    ("module/", ""),
    ("power/", ""),
];

struct Node {
    name: String,
    parent: usize,
    /// `None`: a directory.
    text: Option<String>,
}

/// Every node, parents before children; the root is the first and its own parent.
struct Tree(Vec<Node>);

impl Tree {
    fn new(cpus: u32) -> Tree {
        let mut tree = Tree(Vec::new());
        tree.0.push(Node { name: String::new(), parent: 0, text: None });
        for (path, text) in FIXED {
            tree.add(path, text);
        }
        let all = if cpus > 1 { format!("0-{}\n", cpus - 1) } else { String::from("0\n") };
        let mask = format!("{:x}\n", u64::MAX >> (64 - cpus.clamp(1, 64)));
        for name in ["online", "possible", "present"] {
            tree.add(&format!("devices/system/cpu/{name}"), &all);
        }
        tree.add("devices/system/cpu/kernel_max", &format!("{}\n", cpus - 1));
        tree.add("devices/system/node/node0/cpulist", &all);
        tree.add("devices/system/node/node0/cpumap", &mask);
        for cpu in 0..cpus {
            let file = |name: &str| format!("devices/system/cpu/cpu{cpu}/{name}");
            tree.add(&file("online"), "1\n");
            let topology = [("core_id", cpu), ("physical_package_id", 0), ("thread_siblings_list", cpu)];
            for (name, value) in topology {
                tree.add(&file(&format!("topology/{name}")), &format!("{value}\n"));
            }
            tree.add(&file("topology/core_siblings_list"), &all);
            tree.add(&file("topology/core_siblings"), &mask);
            tree.add(&file("topology/thread_siblings"), &format!("{:x}\n", 1u64 << (cpu % 64)));
        }
        tree
    }

    /// Adds a file, or a directory for a path that ends with a slash, with what leads there.
    fn add(&mut self, path: &str, text: &str) {
        let mut at = 0;
        let (dirs, file) = path.rsplit_once('/').unwrap_or(("", path));
        for name in dirs.split('/').filter(|n| !n.is_empty()) {
            at = self.find(at, name.as_bytes()).unwrap_or_else(|| self.push(name, at, None));
        }
        if !file.is_empty() {
            self.push(file, at, Some(String::from(text)));
        }
    }

    fn push(&mut self, name: &str, parent: usize, text: Option<String>) -> usize {
        self.0.push(Node { name: String::from(name), parent, text });
        self.0.len() - 1
    }

    fn children(&self, of: usize) -> impl Iterator<Item = (usize, &Node)> {
        self.0.iter().enumerate().skip(1).filter(move |(_, n)| n.parent == of)
    }

    fn find(&self, dir: usize, name: &[u8]) -> Option<usize> {
        self.children(dir).find(|(_, n)| n.name.as_bytes() == name).map(|(i, _)| i)
    }
}

/// An inode of `/sys`: its place in the tree.
struct SysInode {
    at: usize,
    state: SharedState,
}

/// A new instance, to be mounted.
pub fn root() -> Arc<dyn Inode> {
    Arc::new(SysInode { at: ROOT, state: SharedState::default() })
}

/// Place of the root in the tree.
const ROOT: usize = 0;

/// The one tree, made when somebody looks into it: most programs do not.
fn tree() -> &'static Tree {
    static TREE: OnceBox<Tree> = OnceBox::new();
    TREE.get_or_init(|| Box::new(Tree::new(cpus())))
}

impl SysInode {
    fn text(&self) -> Option<&str> {
        if self.at == ROOT { None } else { tree().0.get(self.at)?.text.as_deref() }
    }
}

fn kind(node: &Node) -> FileType {
    if node.text.is_some() { FileType::Regular } else { FileType::Dir }
}

impl Inode for SysInode {
    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.state)
    }

    fn stat(&self) -> Result<Stat> {
        let now = crate::time::now_coarse();
        let (bits, nlink, size) = if self.text().is_some() {
            (0o444, 1, 4096)
        } else {
            let dirs = tree().children(self.at).filter(|(_, node)| kind(node) == FileType::Dir).count();
            (if self.at == 0 { 0o555 } else { 0o755 }, 2 + dirs as u32, 0)
        };
        let mode = self.file_type() as u32 | bits;
        let (dev, ino) = (DEV, self.at as u64 + 1);
        Ok(Stat { dev, ino, mode, nlink, size, blksize: 4096, atime: now, mtime: now, ctime: now, ..Stat::default() })
    }

    fn file_type(&self) -> FileType {
        if self.at == ROOT { FileType::Dir } else { tree().0.get(self.at).map_or(FileType::Dir, kind) }
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, _attr: &SetAttr) -> Result {
        Err(Errno::EPERM)
    }

    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        match self.text() {
            None => Ok(DirFile::new()),
            Some(_) if flags & 3 != 0 => Err(Errno::EACCES),
            Some(_) => Ok(Box::new(SysText(self))),
        }
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        self.text().is_none().then_some(self)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs { magic: MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn forgettable(&self) -> bool {
        true
    }

    fn has_identity(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for SysInode {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let at = tree().find(self.at, name).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(SysInode { at, state: SharedState::default() }))
    }

    fn create(&self, _ctx: &OpCtx<'_>, _name: &[u8], _node: NewNode<'_>, _mode: u32) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    fn link(&self, _ctx: &OpCtx<'_>, _name: &[u8], _inode: &Arc<dyn Inode>) -> Result {
        Err(Errno::EPERM)
    }

    fn unlink(&self, _ctx: &OpCtx<'_>, _name: &[u8], _inode: &Arc<dyn Inode>, _dir: bool) -> Result {
        Err(Errno::EPERM)
    }

    fn rename(
        &self,
        _ctx: &OpCtx<'_>,
        _name: &[u8],
        _inode: &Arc<dyn Inode>,
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _target: Option<&Arc<dyn Inode>>,
        _flags: u32,
    ) -> Result {
        Err(Errno::EPERM)
    }

    fn read_dir(&self, _ctx: &OpCtx<'_>, pos: u64, emit: &mut Emit<'_>) -> Result {
        // A position is the place of the last one that was told.
        for (i, node) in tree().children(self.at).filter(|(i, _)| *i as u64 > pos) {
            if !emit(node.name.as_bytes(), i as u64 + 1, kind(node), i as u64) {
                break;
            }
        }
        Ok(())
    }
}

/// An open file.
struct SysText(Arc<SysInode>);

impl FileOps for SysText {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let text = self.0.text().unwrap_or("").as_bytes();
        let rest = usize::try_from(pos).ok().and_then(|p| text.get(p..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { Ok(dst.put(rest)?) }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, _whence: Whence, _offset: i64) -> Result<u64> {
        Err(Errno::EINVAL)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tree: &Tree, path: &str) -> Option<String> {
        let at = path.split('/').try_fold(0, |at, name| tree.find(at, name.as_bytes()))?;
        tree.0[at].text.clone()
    }

    #[test]
    fn processors_are_listed() {
        let tree = Tree::new(4);
        assert_eq!(text(&tree, "devices/system/cpu/online").as_deref(), Some("0-3\n"));
        assert_eq!(text(&tree, "devices/system/cpu/cpu3/topology/core_id").as_deref(), Some("3\n"));
        assert_eq!(text(&tree, "devices/system/cpu/cpu3/topology/core_siblings").as_deref(), Some("f\n"));
        assert!(tree.find(0, b"nothing").is_none());
        assert_eq!(text(&Tree::new(1), "devices/system/cpu/online").as_deref(), Some("0\n"));
    }

    #[test]
    fn names_are_there_once() {
        let tree = Tree::new(2);
        let mut seen = std::collections::HashSet::new();
        assert!(tree.0.iter().skip(1).all(|n| seen.insert((n.parent, n.name.clone()))));
        assert!(tree.children(0).any(|(_, n)| n.name == "fs") && tree.children(0).any(|(_, n)| n.name == "class"));
    }
}
