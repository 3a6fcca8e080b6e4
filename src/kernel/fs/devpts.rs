//! devpts: where ptys have their names (`pts(4)`, `Documentation/filesystems/devpts.rst`).
//!
//! Each mount is an instance of its own, with its own numbers and its own `ptmx`. Opening `ptmx`, or the node 5:2 that
//! lies beside a mount point named `pts`, makes a pty there. A slave's name is there while its master is open.

use crate::abi::{Errno, Result};
use crate::arena::{self, Object};
use crate::fs::hostfd;
use crate::sync::{Level, Mutex};
use crate::time;
use crate::tty::host;
use crate::tty::pty::{self, Home, Master, Pty};
use crate::vfs::inode::{Emit, Nanos};
use crate::vfs::open::DirFile;
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{Directory, FileOps, FileType, Inode, NewNode, OpCtx, OpenFile, Path, SetAttr, Stat, StatFs};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: u64 = 0x1cd1;
/// Inode numbers: the directory, `ptmx`, and the first slave.
const ROOT_INO: u64 = 1;
/// See [`ROOT_INO`].
const PTMX_INO: u64 = 2;
/// See [`ROOT_INO`].
const FIRST_INO: u64 = 3;
/// Numbers that an instance can give (`NR_UNIX98_PTY_MAX`).
const MAX: u32 = 1 << 20;
/// Device number of `/dev/ptmx`.
const PTMX: u64 = 0x502;

/// What mount options say.
#[derive(Clone, Copy, Debug)]
struct Options {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmxmode: u32,
    max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { uid: None, gid: None, mode: 0o600, ptmxmode: 0, max: MAX }
    }
}

impl Options {
    /// These with what `data` says (`devpts_parse_param`).
    fn parse(mut self, data: &[u8]) -> Result<Options> {
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |radix| u32::from_str_radix(value, radix).map_err(|_| Errno::EINVAL);
            match key {
                "uid" => self.uid = Some(number(10)?),
                "gid" => self.gid = Some(number(10)?),
                "mode" => self.mode = number(8)? & 0o7777,
                "ptmxmode" => self.ptmxmode = number(8)? & 0o7777,
                "max" => self.max = Some(number(10)?).filter(|&n| n <= MAX).ok_or(Errno::EINVAL)?,
                "newinstance" if value.is_empty() => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// What a slave's node leads to.
#[derive(Clone)]
enum Slave {
    Pty(Arc<Pty>),
    /// A terminal of the host, with its device number there.
    Host(u64),
}

#[derive(Clone, Copy)]
struct Attr {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Nanos,
    mtime: Nanos,
    ctime: Nanos,
}

impl Attr {
    fn new(mode: u32, uid: u32, gid: u32) -> Attr {
        let now = time::now_coarse();
        Attr { mode, uid, gid, atime: now, mtime: now, ctime: now }
    }
}

/// A node, while anybody uses it.
struct Node {
    index: u32,
    slave: Slave,
    attr: Mutex<Attr>,
}

/// Numbers and names of an instance.
struct Table {
    options: Options,
    names: BTreeMap<u32, Arc<Node>>,
    /// Numbers below `next` that are free.
    free: BTreeSet<u32>,
    next: u32,
}

/// An instance.
pub struct Instance {
    dev: u64,
    /// The first one may use what is kept for it.
    first: bool,
    table: Mutex<Table>,
    root: Mutex<Attr>,
    ptmx: Mutex<Attr>,
    me: Weak<Instance>,
}

/// Minor number, of major 0, of the next instance: apart from those of other file systems in memory.
static NEXT_MINOR: AtomicU64 = AtomicU64::new(1 << 16);

/// The device number of major 0 with this minor number.
fn device(minor: u64) -> u64 {
    minor & 0xff | (minor & !0xff) << 12
}

impl Instance {
    fn new(options: Options, first: bool) -> Arc<Instance> {
        let table = Table { options, names: BTreeMap::new(), free: BTreeSet::new(), next: 0 };
        Arc::new_cyclic(|me| Instance {
            dev: device(NEXT_MINOR.fetch_add(1, Relaxed)),
            first,
            table: Mutex::new(Level::Leaf, table),
            root: Mutex::new(Level::Leaf, Attr::new(0o755, 0, 0)),
            ptmx: Mutex::new(Level::Leaf, Attr::new(options.ptmxmode, 0, 0)),
            me: me.clone(),
        })
    }

    /// Takes the lowest free number (`devpts_new_index`).
    fn take_index(&self) -> Result<u32> {
        let mut table = self.table.lock();
        if let Some(index) = table.free.pop_first() {
            return Ok(index);
        }
        if table.next >= table.options.max {
            return Err(Errno::ENOSPC);
        }
        table.next += 1;
        Ok(table.next - 1)
    }

    fn name(&self, index: u32, slave: Slave, attr: Attr) -> Arc<Node> {
        let node = Arc::new(Node { index, slave, attr: Mutex::new(Level::Leaf, attr) });
        self.table.lock().names.insert(index, node.clone());
        node
    }

    fn find(&self, index: u32) -> Option<Arc<Node>> {
        self.table.lock().names.get(&index).cloned()
    }

    /// A new pty (`ptmx_open`).
    fn open_master(&self, ctx: &OpCtx<'_>) -> Result<Box<dyn FileOps>> {
        arena::charge(Object::Name)?;
        let home = self.me.upgrade().ok_or(Errno::EIO)?;
        let index = self.take_index()?;
        let pty = match Pty::new(home, index, self.first) {
            Ok(pty) => pty,
            Err(e) => {
                self.release(index);
                return Err(e);
            }
        };
        let options = self.table.lock().options;
        let uid = options.uid.unwrap_or(ctx.cred.fsuid);
        let gid = options.gid.unwrap_or(ctx.cred.fsgid);
        self.name(index, Slave::Pty(pty.clone()), Attr::new(options.mode, uid, gid));
        Ok(Master::new(pty))
    }

    /// Gives a terminal of the host a name here, with the attributes that it has there.
    fn adopt(&self, stat: &Stat) -> Result<u32> {
        let known =
            self.table.lock().names.values().find(|n| matches!(n.slave, Slave::Host(d) if d == stat.rdev)).cloned();
        if let Some(known) = known {
            return Ok(known.index);
        }
        let index = self.take_index()?;
        self.name(index, Slave::Host(stat.rdev), Attr::new(stat.mode & 0o7777, stat.uid, stat.gid));
        Ok(index)
    }
}

impl Home for Instance {
    fn unname(&self, index: u32) {
        let gone = self.table.lock().names.remove(&index);
        drop(gone);
    }

    fn release(&self, index: u32) {
        let mut table = self.table.lock();
        table.free.insert(index);
        // The highest numbers need not be remembered.
        while table.next > 0 && table.free.last() == Some(&(table.next - 1)) {
            table.next -= 1;
            table.free.pop_last();
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Clone)]
enum What {
    Root,
    Ptmx,
    Slave(Arc<Node>),
}

/// A file of an instance.
struct PtsInode {
    instance: Arc<Instance>,
    what: What,
    state: SharedState,
}

/// A new instance, to be mounted. `first`: the one that may use the ptys that are kept (`kernel.pty.reserve`).
///
/// # Errors
/// `EINVAL` for options that devpts does not know.
pub fn instance(data: &[u8], first: bool) -> Result<Arc<dyn Inode>> {
    let instance = Instance::new(Options::default().parse(data)?, first);
    Ok(file_of(&instance, What::Root))
}

/// Changes the options of a mounted instance; `None` where `root` is none.
pub fn remount(root: &Arc<dyn Inode>, data: &[u8]) -> Option<Result> {
    let instance = instance_of(root)?;
    let options = instance.table.lock().options.parse(data);
    Some(options.map(|options| {
        instance.table.lock().options = options;
        instance.ptmx.lock().mode = options.ptmxmode;
    }))
}

/// The options of a mounted instance as `/proc/mounts` shows them; `None` where `root` is none.
pub fn shown_options(root: &Arc<dyn Inode>) -> Option<String> {
    let options = instance_of(root)?.table.lock().options;
    let mut out = String::new();
    for (name, id) in [("uid", options.uid), ("gid", options.gid)] {
        if let Some(id) = id {
            out += &alloc::format!(",{name}={id}");
        }
    }
    out += &alloc::format!(",mode={:03o},ptmxmode={:03o}", options.mode, options.ptmxmode);
    if options.max < MAX {
        out += &alloc::format!(",max={}", options.max);
    }
    Some(out)
}

fn instance_of(inode: &Arc<dyn Inode>) -> Option<&Arc<Instance>> {
    inode.as_any().downcast_ref::<PtsInode>().map(|i| &i.instance)
}

fn file_of(instance: &Arc<Instance>, what: What) -> Arc<dyn Inode> {
    Arc::new(PtsInode { instance: instance.clone(), what, state: SharedState::default() })
}

/// The root of the devpts that goes with a file at `path`: the one that it lies in, or the one at `pts` beside it
/// (`devpts_mntget`).
fn root_beside(ctx: &OpCtx<'_>, path: &Path) -> Result<Path> {
    if instance_of(path.inode()).is_some() {
        return Ok(path.mount.root_path());
    }
    let dir = path.dentry.parent().ok_or(Errno::ENODEV)?;
    let pts = dir.child(ctx, b"pts").map_err(|_| Errno::ENOENT)?;
    let root = Path { mount: path.mount.clone(), dentry: pts }.descend();
    if instance_of(root.inode()).is_some() { Ok(root) } else { Err(Errno::ENODEV) }
}

/// Opens a node with the number of `/dev/ptmx`.
///
/// # Errors
/// `ENOENT`, `ENODEV` without a devpts beside it, `ENOSPC`, `ENOMEM`.
pub fn open_ptmx(ctx: &OpCtx<'_>, path: &Path) -> Result<Box<dyn FileOps>> {
    let root = root_beside(ctx, path)?;
    instance_of(root.inode()).ok_or(Errno::ENODEV)?.open_master(ctx)
}

/// The place of the slave that belongs to an open master (TIOCGPTPEER).
///
/// # Errors
/// `EIO` if it is no master, `ENODEV` where its instance is not to be found, `ENOENT`.
pub fn peer(ctx: &OpCtx<'_>, file: &OpenFile) -> Result<Path> {
    let master = Master::of(file).filter(|m| !m.is_hung()).ok_or(Errno::EIO)?;
    // Where `ptmx` alone was bound to another place, it is the place that counts.
    let mut at = file.path().clone();
    while Arc::ptr_eq(&at.mount.root, &at.dentry) {
        at = at.mount.at().ok_or(Errno::ENODEV)?;
    }
    let root = root_beside(ctx, &at)?;
    let instance = instance_of(root.inode()).ok_or(Errno::ENODEV)?;
    if !core::ptr::addr_eq(Arc::as_ptr(instance), Arc::as_ptr(&master.pty.home)) {
        return Err(Errno::ENODEV);
    }
    let dentry = root.dentry.child(ctx, master.pty.index.to_string().as_bytes())?;
    Ok(Path { mount: root.mount, dentry })
}

/// The place, below `root`, of a terminal of the host with these attributes there.
///
/// # Errors
/// `EINVAL` if `root` is no devpts, `ENOSPC`.
pub fn place_of_host(ctx: &OpCtx<'_>, root: &Path, stat: &Stat) -> Result<Path> {
    let index = instance_of(root.inode()).ok_or(Errno::EINVAL)?.adopt(stat)?;
    host::of_device(stat.rdev).set_device(pty::slave_device(index));
    let dentry = root.dentry.child(ctx, index.to_string().as_bytes())?;
    Ok(Path { mount: root.mount.clone(), dentry })
}

impl PtsInode {
    fn attr(&self) -> &Mutex<Attr> {
        match &self.what {
            What::Root => &self.instance.root,
            What::Ptmx => &self.instance.ptmx,
            What::Slave(node) => &node.attr,
        }
    }
}

impl Inode for PtsInode {
    fn stat(&self) -> Result<Stat> {
        let a = *self.attr().lock();
        let (ino, nlink, rdev) = match &self.what {
            What::Root => (ROOT_INO, 2, 0),
            What::Ptmx => (PTMX_INO, 1, PTMX),
            What::Slave(node) => (FIRST_INO + u64::from(node.index), 1, pty::slave_device(node.index)),
        };
        Ok(Stat {
            dev: self.instance.dev,
            ino,
            mode: self.file_type() as u32 | a.mode,
            nlink,
            uid: a.uid,
            gid: a.gid,
            rdev,
            blksize: 1024,
            atime: a.atime,
            mtime: a.mtime,
            ctime: a.ctime,
            ..Stat::default()
        })
    }

    fn file_type(&self) -> FileType {
        if matches!(self.what, What::Root) { FileType::Dir } else { FileType::Char }
    }

    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        let mut a = self.attr().lock();
        a.mode = attr.mode.map_or(a.mode, |m| m & 0o7777);
        a.uid = attr.uid.unwrap_or(a.uid);
        a.gid = attr.gid.unwrap_or(a.gid);
        a.atime = attr.atime.unwrap_or(a.atime);
        a.mtime = attr.mtime.unwrap_or(a.mtime);
        a.ctime = time::now_coarse();
        Ok(())
    }

    fn open(self: Arc<Self>, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
        match &self.what {
            What::Root => Ok(DirFile::new()),
            What::Ptmx => self.instance.open_master(ctx),
            What::Slave(node) => match &node.slave {
                Slave::Pty(pty) => pty.open_slave(ctx, flags),
                Slave::Host(device) => hostfd::open_terminal(ctx, *device, flags),
            },
        }
    }

    fn as_dir(&self) -> Option<&dyn Directory> {
        matches!(self.what, What::Root).then_some(self)
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

    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.state)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Directory for PtsInode {
    fn lookup(&self, _ctx: &OpCtx<'_>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(file_of(&self.instance, What::Ptmx));
        }
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        // Numbers have one spelling.
        let index = text.parse::<u32>().ok().filter(|n| n.to_string() == text).ok_or(Errno::ENOENT)?;
        let node = self.instance.find(index).ok_or(Errno::ENOENT)?;
        Ok(file_of(&self.instance, What::Slave(node)))
    }

    fn create(&self, _ctx: &OpCtx<'_>, _name: &[u8], node: NewNode<'_>, _mode: u32) -> Result<Arc<dyn Inode>> {
        Err(if matches!(node, NewNode::Regular) { Errno::EACCES } else { Errno::EPERM })
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
        // Positions: `ptmx` ends at 1, the slave with number n at n + 2.
        if pos == 0 && !emit(b"ptmx", PTMX_INO, FileType::Char, 1) {
            return Ok(());
        }
        let mut from = u32::try_from(pos.saturating_sub(1)).unwrap_or(u32::MAX);
        loop {
            let next = self.instance.table.lock().names.range(from..).next().map(|(&index, _)| index);
            let Some(index) = next else { return Ok(()) };
            let (name, ino) = (index.to_string(), FIRST_INO + u64::from(index));
            if !emit(name.as_bytes(), ino, FileType::Char, u64::from(index) + 2) {
                return Ok(());
            }
            from = index + 1;
        }
    }
}
