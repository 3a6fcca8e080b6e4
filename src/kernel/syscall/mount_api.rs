//! The calls that make a mount in steps: `fsopen`, `fsconfig`, `fsmount`, `fspick`, `open_tree`, `move_mount`,
//! `mount_setattr`.

use super::Fd;
use super::at;
use super::files::{self, CWD};
use super::mount::{Made, make, may_mount, reconfigure};
use super::mount_options;
use crate::abi::linux::{
    self, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, O_CLOEXEC, O_PATH,
};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::{Cred, cap};
use crate::fs::memfs;
use crate::fs::proc::FILE_SYSTEMS;
use crate::mm::{IoDst, UserPtr, UserStr};
use crate::sync::{Level, Mutex};
use crate::task::CurrentTask;
use crate::vfs::landlock;
use crate::vfs::mount::{
    self, ATIME, Change, Kind, Mount, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY,
};
use crate::vfs::open::open_at;
use crate::vfs::{FileOps, OpCtx, OpenFile, Path, anon_file};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;

/// `FSCONFIG_*`.
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const SET_BINARY: u32 = 2;
const SET_PATH: u32 = 3;
const SET_PATH_EMPTY: u32 = 4;
const SET_FD: u32 = 5;
const CMD_CREATE: u32 = 6;
const CMD_RECONFIGURE: u32 = 7;
const CMD_CREATE_EXCL: u32 = 8;

/// `FSPICK_*`.
const PICK_NOFOLLOW: u32 = 2;
const PICK_NO_AUTOMOUNT: u32 = 4;
const PICK_EMPTY_PATH: u32 = 8;

/// `MOVE_MOUNT_*`.
const F_SYMLINKS: u32 = 1;
const F_EMPTY_PATH: u32 = 4;
const T_SYMLINKS: u32 = 0x10;
const T_EMPTY_PATH: u32 = 0x40;
const SET_GROUP: u32 = 0x100;
const BENEATH: u32 = 0x200;
const MOVE_ALL: u32 = 0x377;

/// Most bytes of all options of a file system together.
const OPTIONS_MAX: usize = 4096;

/// How far a file system has come.
enum Phase {
    /// It takes options.
    Options,
    /// It can be mounted.
    Made(Made),
    /// It was mounted: it takes options for what is mounted there.
    Reconfigure(Path),
    /// A command failed.
    Failed,
}

struct State {
    phase: Phase,
    options: Vec<u8>,
    change: Change,
    source: Option<String>,
    /// Messages that were not read yet, the oldest first.
    log: VecDeque<String>,
}

/// Messages that are kept at most (`struct fc_log`).
const LOG_MAX: usize = 8;

impl State {
    /// Leaves a message of an error.
    fn complain(&mut self, text: String) {
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(alloc::format!("e {text}\n"));
    }
}

/// A file system that is being made or changed.
struct Configured {
    fstype: Vec<u8>,
    state: Mutex<State>,
}

impl FileOps for Configured {
    /// A message, whole.
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        let message = {
            let mut state = self.state.lock();
            let first = state.log.front().ok_or(Errno::ENODATA)?;
            if first.len() > dst.left() {
                return Err(Errno::EMSGSIZE.into());
            }
            state.log.pop_front().unwrap_or_default()
        };
        Ok(dst.put(message.as_bytes())?)
    }
    fn has_still_offset(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn configured(file: &OpenFile) -> Result<&Configured> {
    file.ops.as_any().downcast_ref::<Configured>().ok_or(Errno::EINVAL)
}

fn install(cur: &CurrentTask, fstype: Vec<u8>, phase: Phase, cloexec: bool) -> SysResult<Fd> {
    let (change, log) = (Change::default(), VecDeque::new());
    let state = State { phase, options: Vec::new(), change, source: None, log };
    let ops = Box::new(Configured { fstype, state: Mutex::new(Level::FileData, state) });
    let file = anon_file("fscontext", ops, linux::O_RDWR, &cur.op_ctx());
    files::install(cur, file, if cloexec { O_CLOEXEC } else { 0 })
}

/// `fsopen(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EFAULT`, `ENODEV`, `EMFILE`.
pub fn sys_fsopen(cur: &CurrentTask, fstype: UserStr, flags: u32) -> SysResult<Fd> {
    may_mount(cur)?;
    at::only(flags, 1)?;
    let fstype = fstype.read(4096, Errno::EINVAL)?;
    if !FILE_SYSTEMS.iter().any(|f| f.as_bytes() == fstype) {
        return Err(Errno::ENODEV.into());
    }
    install(cur, fstype, Phase::Options, flags & 1 != 0)
}

/// Whether a command has the arguments that it takes and no others.
fn check_shape(command: u32, key: bool, value: bool, aux: i32) -> Result {
    let fits = match command {
        SET_FLAG => key && !value && aux == 0,
        SET_STRING => key && value && aux == 0,
        SET_BINARY => key && value && (1..=1 << 20).contains(&aux),
        SET_PATH | SET_PATH_EMPTY => key && value && (aux == CWD.0 || aux >= 0),
        SET_FD => key && !value && aux >= 0,
        CMD_CREATE | CMD_CREATE_EXCL | CMD_RECONFIGURE => !key && !value && aux == 0,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `fsconfig(2)`: options are flags and strings, as no file system that there is takes others.
///
/// # Errors
/// `EINVAL`, `EOPNOTSUPP`, `EBADF`, `EFAULT`, `EBUSY` in the wrong order, and those of making the file system.
pub fn sys_fsconfig(
    cur: &CurrentTask,
    fd: Fd,
    command: u32,
    key: UserStr,
    value: UserPtr<u8>,
    aux: i32,
) -> SysResult<()> {
    if fd.0 < 0 {
        return Err(Errno::EINVAL.into());
    }
    check_shape(command, key.0 != 0, !value.is_null(), aux)?;
    let file = files::in_use(cur, fd)?;
    let context = configured(&file)?;
    let key = if key.0 == 0 { Vec::new() } else { key.read(256, Errno::EINVAL)? };
    match command {
        SET_FLAG => context.set(cur, &key, None),
        SET_STRING => context.set(cur, &key, Some(UserStr(value.addr()).read(256, Errno::EINVAL)?)),
        CMD_CREATE | CMD_CREATE_EXCL => context.create(cur),
        CMD_RECONFIGURE => context.reconfigure(cur),
        SET_BINARY => {
            value.slice(aux as usize).read_vec()?;
            context.set_other(&key)
        }
        SET_FD => {
            cur.files().get_any(aux)?;
            context.set_other(&key)
        }
        _ => {
            UserStr(value.addr()).read_path()?;
            context.set_other(&key)
        }
    }
}

/// Refuses what a file system does not take as an option of its own.
fn check_option(cred: &Cred, fstype: &[u8], key: &[u8], value: Option<&[u8]>) -> Result {
    let number = |radix| {
        let text = value.and_then(|v| core::str::from_utf8(v).ok());
        text.filter(|v| u32::from_str_radix(v, radix).is_ok()).map(drop).ok_or(Errno::EINVAL)
    };
    match (fstype, key) {
        (b"tmpfs" | b"ramfs", _) => memfs::Options::default().take(key, value, fstype == b"ramfs", cred),
        (b"devpts", b"mode" | b"ptmxmode") => number(8),
        (b"devpts", b"uid" | b"gid" | b"max") => number(10),
        (b"devpts", b"newinstance") if value.is_none() => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl Configured {
    /// What is wrong with an option that is not taken.
    fn complaint(&self, key: &[u8], has_value: bool) -> String {
        let wrong = match &self.fstype[..] {
            b"tmpfs" => memfs::complaint(key, has_value),
            b"ramfs" | b"devpts" if matches!(key, b"mode" | b"ptmxmode" | b"uid" | b"gid" | b"max") => "Bad value for",
            _ => "Unknown parameter",
        };
        let (fs, name) = (String::from_utf8_lossy(&self.fstype), String::from_utf8_lossy(key));
        alloc::format!("{fs}: {wrong} '{name}'")
    }

    /// Sets an option to something that is no text: only the flags of all file systems do not mind.
    fn set_other(&self, key: &[u8]) -> SysResult<()> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Options | Phase::Reconfigure(_) => {}
            _ => return Err(Errno::EBUSY.into()),
        }
        if mount_options::put_flag(&mut state.change, key)
            || self.fstype == b"ramfs" && !matches!(key, b"mode" | b"source")
        {
            return Ok(());
        }
        let wrong = if key == b"source" { "Non-string source".into() } else { self.complaint(key, true) };
        state.complain(wrong);
        Err(Errno::EINVAL.into())
    }

    fn set(&self, cur: &CurrentTask, key: &[u8], value: Option<Vec<u8>>) -> SysResult<()> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Options | Phase::Reconfigure(_) => {}
            _ => return Err(Errno::EBUSY.into()),
        }
        if mount_options::put_flag(&mut state.change, key) {
            return Ok(());
        }
        match (key, value) {
            (b"source", Some(name)) => {
                if state.source.is_some() {
                    state.complain("Multiple sources".into());
                    return Err(Errno::EINVAL.into());
                }
                state.source = Some(String::from_utf8_lossy(&name).into_owned());
            }
            (b"source", None) => {
                state.complain("Non-string source".into());
                return Err(Errno::EINVAL.into());
            }
            (key, value) => {
                let len = key.len() + value.as_ref().map_or(0, |v| v.len()) + 2;
                if let Err(e) = check_option(cur.cred(), &self.fstype, key, value.as_deref()) {
                    state.complain(self.complaint(key, value.is_some()));
                    return Err(e.into());
                }
                if state.options.len() + len > OPTIONS_MAX {
                    return Err(Errno::EINVAL.into());
                }
                state.options.extend_from_slice(key);
                if let Some(value) = value {
                    state.options.push(b'=');
                    state.options.extend_from_slice(&value);
                }
                state.options.push(b',');
            }
        }
        Ok(())
    }

    fn create(&self, cur: &CurrentTask) -> SysResult<()> {
        let namespace = may_mount(cur)?;
        let (options, change) = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Options) {
                return Err(Errno::EBUSY.into());
            }
            state.phase = Phase::Failed;
            (state.options.clone(), state.change)
        };
        let options = options.strip_suffix(b",").unwrap_or(&options);
        let made = make(cur, &namespace, &self.fstype, options, change.flags & RDONLY)?;
        self.state.lock().phase = Phase::Made(made);
        Ok(())
    }

    fn reconfigure(&self, cur: &CurrentTask) -> SysResult<()> {
        let (path, options, change) = {
            let state = self.state.lock();
            match &state.phase {
                Phase::Reconfigure(path) => (path.clone(), state.options.clone(), state.change),
                _ => return Err(Errno::EBUSY.into()),
            }
        };
        if !cur.cred().capable_in(path.mount.user_ns(), cap::SYS_ADMIN) {
            return Err(Errno::EPERM.into());
        }
        reconfigure(cur, &path.mount, &options)?;
        let ns = path.mount.namespace().ok_or(Errno::EINVAL)?;
        let flags = path.mount.flags.load(Relaxed) & mount::KEPT;
        Ok(ns.remount(&path.mount.root_path(), flags, Some(change))?)
    }
}

/// The flags of a mount that `MOUNT_ATTR_*` mean, but for access times.
fn plain_flags(attr: u64) -> u32 {
    [
        (MOUNT_ATTR_RDONLY, RDONLY),
        (MOUNT_ATTR_NOSUID, NOSUID),
        (MOUNT_ATTR_NODEV, NODEV),
        (MOUNT_ATTR_NOEXEC, NOEXEC),
        (MOUNT_ATTR_NODIRATIME, NODIRATIME),
        (MOUNT_ATTR_NOSYMFOLLOW, NOSYMFOLLOW),
    ]
    .iter()
    .filter(|(bit, _)| attr & u64::from(*bit) != 0)
    .fold(0, |flags, (_, flag)| flags | flag)
}

/// The `MOUNT_ATTR_*` that a mount's flags mean.
pub(super) fn attributes(flags: u32) -> u64 {
    let pairs = [
        (RDONLY, MOUNT_ATTR_RDONLY),
        (NOSUID, MOUNT_ATTR_NOSUID),
        (NODEV, MOUNT_ATTR_NODEV),
        (NOEXEC, MOUNT_ATTR_NOEXEC),
        (NODIRATIME, MOUNT_ATTR_NODIRATIME),
        (NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let plain = pairs.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, attr)| all | u64::from(*attr));
    plain
        | u64::from(match flags & (NOATIME | mount::RELATIME) {
            mount::RELATIME => 0,
            0 => MOUNT_ATTR_STRICTATIME,
            _ => MOUNT_ATTR_NOATIME,
        })
}

/// `MOUNT_ATTR_*` that there are, but for id-mapped mounts.
const ATTRS: u64 = (MOUNT_ATTR_RDONLY
    | MOUNT_ATTR_NOSUID
    | MOUNT_ATTR_NODEV
    | MOUNT_ATTR_NOEXEC
    | MOUNT_ATTR__ATIME
    | MOUNT_ATTR_NODIRATIME
    | MOUNT_ATTR_NOSYMFOLLOW) as u64;

/// How access times are kept.
fn access_times(attr: u64) -> Result<u32> {
    match attr as u32 & MOUNT_ATTR__ATIME {
        0 => Ok(mount::RELATIME),
        MOUNT_ATTR_NOATIME => Ok(NOATIME),
        MOUNT_ATTR_STRICTATIME => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `fsmount(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EBADF`, `EBUSY` before there is a file system, `EMFILE`.
pub fn sys_fsmount(cur: &CurrentTask, fd: Fd, flags: u32, attr: u32) -> SysResult<Fd> {
    let namespace = may_mount(cur)?;
    at::only(flags, 1)?;
    if u64::from(attr) & !ATTRS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let flags_of_mount = plain_flags(attr.into()) | access_times(attr.into())?;
    let file = files::in_use(cur, fd)?;
    let context = configured(&file)?;
    let (made, source, change) = {
        let mut state = context.state.lock();
        let made = match core::mem::replace(&mut state.phase, Phase::Failed) {
            Phase::Made(made) => made,
            other => {
                let e = if matches!(other, Phase::Reconfigure(_)) { Errno::EBUSY } else { Errno::EINVAL };
                state.phase = other;
                return Err(e.into());
            }
        };
        (made, state.source.take().unwrap_or_else(|| "none".into()), state.change)
    };
    let mount = Mount::new_in(&made.owner, made.root, flags_of_mount, made.name, &source);
    mount.begin_fs_flags(if made.shared { 0 } else { change.flags });
    mount.flags.store(flags_of_mount | made.locks, Relaxed);
    {
        let mut state = context.state.lock();
        state.options.clear();
        // As in Linux the flags that were named once are meant by each later change, too.
        state.change.flags = 0;
        state.phase = Phase::Reconfigure(mount.root_path());
    }
    let tree = mount::open_mount(&mount, &namespace.user_ns);
    files::install(cur, tree, if flags & 1 != 0 { O_CLOEXEC } else { 0 })
}

/// `fspick(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, those of path resolution.
pub fn sys_fspick(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> SysResult<Fd> {
    may_mount(cur)?;
    at::only(flags, 1 | PICK_NOFOLLOW | PICK_NO_AUTOMOUNT | PICK_EMPTY_PATH)?;
    let how = if flags & PICK_NOFOLLOW != 0 { AT_SYMLINK_NOFOLLOW } else { 0 }
        | if flags & PICK_EMPTY_PATH != 0 { AT_EMPTY_PATH } else { 0 };
    let place = files::place(cur, &cur.op_ctx(), dir, path, how)?;
    if !Arc::ptr_eq(&place.dentry, &place.mount.root) {
        return Err(Errno::EINVAL.into());
    }
    let fstype = place.mount.fstype.as_bytes().to_vec();
    install(cur, fstype, Phase::Reconfigure(place), flags & 1 != 0)
}

/// `open_tree(2)`.
///
/// # Errors
/// `EINVAL`, `EPERM`, those of path resolution, `EMFILE`.
pub fn sys_open_tree(cur: &CurrentTask, dir: Fd, path: UserStr, flags: u32) -> SysResult<Fd> {
    const CLONE: u32 = linux::OPEN_TREE_CLONE;
    at::only(flags, AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | CLONE | O_CLOEXEC)?;
    if flags & (AT_RECURSIVE | CLONE) == AT_RECURSIVE {
        return Err(Errno::EINVAL.into());
    }
    let namespace = if flags & CLONE != 0 { Some(may_mount(cur)?) } else { None };
    let ctx = cur.op_ctx();
    let place = files::place(cur, &ctx, dir, path, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))?;
    let file = match namespace {
        Some(ns) => ns.open_copy(&place, flags & AT_RECURSIVE != 0)?,
        None => open_at(&ctx, place, O_PATH, false)?,
    };
    files::install(cur, file, flags & O_CLOEXEC)
}

/// `move_mount(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `ELOOP`, `ENOENT`, those of path resolution.
pub fn sys_move_mount(
    cur: &CurrentTask,
    from_dir: Fd,
    from: UserStr,
    to_dir: Fd,
    to: UserStr,
    flags: u32,
) -> SysResult<()> {
    let namespace = may_mount(cur)?;
    landlock::check_mounts(cur.cred())?;
    if flags & !MOVE_ALL != 0 || flags & (BENEATH | SET_GROUP) == BENEATH | SET_GROUP {
        return Err(Errno::EINVAL.into());
    }
    let how = |links: u32, empty: u32| {
        (if flags & links == 0 { AT_SYMLINK_NOFOLLOW } else { 0 }) | if flags & empty != 0 { AT_EMPTY_PATH } else { 0 }
    };
    let ctx = cur.op_ctx();
    let to = files::place(cur, &ctx, to_dir, to, how(T_SYMLINKS, T_EMPTY_PATH))?;
    let from = files::place(cur, &ctx, from_dir, from, how(F_SYMLINKS, F_EMPTY_PATH))?;
    if flags & SET_GROUP != 0 {
        return Ok(namespace.set_group(&from, &to)?);
    }
    let root = (flags & BENEATH != 0).then(|| cur.fs().root());
    if from.mount.namespace().is_some_and(|ns| ns.is_detached()) {
        return Ok(namespace.take_in(&from, &to, root.as_ref())?);
    }
    Ok(namespace.move_mount(&from, &to, root.as_ref())?)
}

/// `mount_setattr(2)`; mounts that show other owners than their files have are not there.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EPERM`, `EFAULT`, `EBUSY`, those of path resolution.
pub fn sys_mount_setattr(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    flags: u32,
    from: UserPtr<[u64; 4]>,
    size: usize,
) -> SysResult<()> {
    at::only(flags, AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)?;
    UserPtr::<[u64; 4]>::check_size(size, 32)?;
    may_mount(cur)?;
    let attributes = from.read_grown(size, 32)?;
    let place = || files::place(cur, &cur.op_ctx(), dir, path, flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    set_attributes(cur, attributes, place, flags & AT_RECURSIVE != 0)
}

/// `open_tree_attr(2)`: [`sys_open_tree`], with the attributes of what it opens changed as [`sys_mount_setattr`] does.
///
/// # Errors
/// Those of both.
pub fn sys_open_tree_attr(
    cur: &CurrentTask,
    dir: Fd,
    path: UserStr,
    flags: u32,
    from: UserPtr<[u64; 4]>,
    size: usize,
) -> SysResult<Fd> {
    if from.is_null() && size != 0 {
        return Err(Errno::EINVAL.into());
    }
    let tree = sys_open_tree(cur, dir, path, flags)?;
    if from.is_null() {
        return Ok(tree);
    }
    let set = || -> SysResult<()> {
        UserPtr::<[u64; 4]>::check_size(size, 32)?;
        may_mount(cur)?;
        let attributes = from.read_grown(size, 32)?;
        let place = cur.files().get_any(tree.0)?.path().clone();
        set_attributes(cur, attributes, || Ok(place), flags & AT_RECURSIVE != 0)
    };
    match set() {
        Ok(()) => Ok(tree),
        Err(e) => {
            cur.files().close(&cur.op_ctx(), tree.0)?;
            Err(e)
        }
    }
}

/// Changes the attributes of the mount at `place`, which is looked up once they are found right.
fn set_attributes(
    cur: &CurrentTask,
    // The namespace of an id-mapped mount is not looked at, since there are none.
    [set, clear, propagation, _]: [u64; 4],
    place: impl FnOnce() -> Result<Path>,
    recursive: bool,
) -> SysResult<()> {
    let namespace = may_mount(cur)?;
    if set == 0 && clear == 0 && propagation == 0 {
        return Ok(());
    }
    let kind = match u32::try_from(propagation).map_err(|_| Errno::EINVAL)? {
        0 => None,
        MS_SHARED => Some(Kind::Shared),
        MS_PRIVATE => Some(Kind::Private),
        MS_SLAVE => Some(Kind::Slave),
        MS_UNBINDABLE => Some(Kind::Unbindable),
        _ => return Err(Errno::EINVAL.into()),
    };
    let times = u64::from(MOUNT_ATTR__ATIME);
    if (set | clear) & !ATTRS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let times = match clear & times {
        0 if set & times != 0 => return Err(Errno::EINVAL.into()),
        0 => None,
        all if all != times => return Err(Errno::EINVAL.into()),
        _ => Some(access_times(set)?),
    };
    let place = place()?;
    let change = |old: u32| {
        let new = old & !plain_flags(clear) | plain_flags(set);
        times.map_or(new, |t| new & !(ATIME & !NODIRATIME) | t)
    };
    Ok(namespace.set_attributes(&place, change, kind, recursive)?)
}
