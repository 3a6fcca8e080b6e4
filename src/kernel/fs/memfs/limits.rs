//! Options of tmpfs and ramfs (`tmpfs(5)`), and what a tmpfs counts against its limits.
//!
//! Counted are pages that files hold and names, as `mm/shmem.c` does. Pages that guests bring in by mappings are counted
//! when the file is looked at next: the host alone sees them come.

use super::{Data, MemFs, MemInode};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, Kind, cap};
use crate::mm::memfile::PAGE;
use crate::vfs::{Inode, StatFs};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bytes that an inode counts for (`BOGO_INODE_SIZE`): the largest count of them follows.
const INODE_BYTES: u64 = 1024;
/// `TMPFS_MAGIC`, `RAMFS_MAGIC`, and what an overlay says.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// What the options of one mount say; `None` where they do not.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// `size=`, `nr_blocks=`, in pages; 0: no limit.
    blocks: Option<u64>,
    /// `nr_inodes=`; 0: no limit.
    inodes: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    noswap: bool,
    /// `huge=`, as the place in [`HUGE`].
    huge: Option<u32>,
    /// `mpol=`; see [`policy`].
    policy: Option<u32>,
    /// `inode64` or `inode32`.
    long_inodes: Option<bool>,
}

/// How a file system may be asked to use huge pages. The host chooses the size of its pages.
const HUGE: [&str; 4] = ["never", "always", "within_size", "advise"];
/// Memory policies by number (`policy_modes`).
const POLICIES: [&str; 7] =
    ["default", "prefer", "bind", "interleave", "local", "prefer (many)", "weighted interleave"];
const POLICY_FLAGS: [&str; 3] = ["", "static", "relative"];

/// A memory policy for a machine that has node 0 alone, in a number: its place in [`POLICIES`], that of its flag, and
/// whether it names nodes (`mpol_parse_str`).
fn policy(text: &str) -> Result<u32> {
    let (text, nodes) = match text.split_once(':') {
        Some((text, nodes)) => (text, Some(nodes)),
        None => (text, None),
    };
    let (name, flag) = text.split_once('=').unwrap_or((text, ""));
    let place = |of: &[&str], name| of.iter().position(|n| *n == name).map(|at| at as u32).ok_or(Errno::EINVAL);
    let mode = place(&POLICIES, name)?;
    let flag = place(&POLICY_FLAGS, flag)?;
    if nodes.is_some_and(|n| n != "0") || text.ends_with('=') {
        return Err(Errno::EINVAL);
    }
    let (mode, named) = match (name, nodes.is_some()) {
        ("default" | "local", true) | ("bind" | "prefer (many)", false) => return Err(Errno::EINVAL),
        ("default", _) => return Ok(0),
        ("prefer", false) => (4, false),
        ("interleave" | "weighted interleave", _) => (mode, true),
        (_, named) => (mode, named),
    };
    if flag != 0 && !named { Err(Errno::EINVAL) } else { Ok(mode | flag << 4 | u32::from(named) << 8) }
}

/// What is wrong with an option that a file system in memory does not take, as `fs_parse` puts it.
pub fn complaint(key: &[u8], has_value: bool) -> &'static str {
    match key {
        b"mode" | b"size" | b"nr_blocks" | b"nr_inodes" | b"uid" | b"gid" | b"huge" | b"mpol" => "Bad value for",
        b"inode32" | b"inode64" | b"noswap" if has_value => "Unexpected value for",
        _ => "Unknown parameter",
    }
}

/// A number with a unit, and what follows it (`memparse`).
fn amount(text: &str) -> (u64, &str) {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(rest) => (rest, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let len = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = digits[..len]
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0u64, |n, d| n.wrapping_mul(radix.into()).wrapping_add(d.into()));
    let rest = &digits[len..];
    let unit = rest.chars().next().and_then(|c| "KMGTPE".find(c.to_ascii_uppercase()));
    match unit {
        Some(unit) => (number.wrapping_shl(10 * (unit as u32 + 1)), &rest[1..]),
        None => (number, rest),
    }
}

/// A number alone, as `fs_parse` reads it.
fn plain(text: &str, radix: u32) -> Result<u32> {
    u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

impl Options {
    /// All options of a text with commas; `ramfs` takes a mode and ignores whatever else it is given.
    ///
    /// # Errors
    /// As [`Options::take`].
    pub fn parse(data: &[u8], ramfs: bool, cred: &Cred) -> Result<Options> {
        let mut options = Options::default();
        for option in data.split(|&b| b == b',').filter(|o| !o.is_empty()) {
            let (key, value) = match option.iter().position(|&b| b == b'=') {
                Some(0) => continue,
                Some(i) => (&option[..i], Some(&option[i + 1..])),
                None => (option, None),
            };
            options.take(key, value, ramfs, cred)?;
        }
        Ok(options)
    }

    /// One option (`shmem_parse_one`, `ramfs_parse_param`).
    ///
    /// # Errors
    /// `EINVAL`, `EPERM` for `noswap` in another user namespace.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>, ramfs: bool, cred: &Cred) -> Result {
        let text = value.map(core::str::from_utf8).transpose().map_err(|_| Errno::EINVAL)?;
        // Every option but the flags has a value that is not empty.
        let value = || text.filter(|v| !v.is_empty()).ok_or(Errno::EINVAL);
        match key {
            b"mode" => self.mode = Some(plain(value()?, 8)? & 0o7777),
            _ if ramfs => {}
            b"size" => {
                let (number, rest) = amount(value()?);
                let (bytes, rest) = match rest.strip_prefix('%') {
                    Some(rest) => ((all_pages() * PAGE / 100).wrapping_mul(number), rest),
                    None => (number, rest),
                };
                self.blocks = Some(bytes.div_ceil(PAGE)).filter(|_| rest.is_empty());
                self.blocks.ok_or(Errno::EINVAL)?;
            }
            b"nr_blocks" => {
                let (number, rest) = amount(value()?);
                self.blocks = Some(number).filter(|&n| rest.is_empty() && i64::try_from(n).is_ok());
                self.blocks.ok_or(Errno::EINVAL)?;
            }
            b"nr_inodes" => {
                let (number, rest) = amount(value()?);
                self.inodes = Some(number).filter(|&n| rest.is_empty() && n <= u64::MAX / INODE_BYTES);
                self.inodes.ok_or(Errno::EINVAL)?;
            }
            b"uid" => self.uid = Some(cred.user_ns.meant(Kind::User, plain(value()?, 10)?)?),
            b"gid" => self.gid = Some(cred.user_ns.meant(Kind::Group, plain(value()?, 10)?)?),
            b"huge" => {
                let value = value()?;
                self.huge = Some(HUGE.iter().position(|h| *h == value).ok_or(Errno::EINVAL)? as u32);
            }
            b"mpol" => self.policy = Some(policy(value()?)?).filter(|&p| p != 0),
            b"inode64" | b"inode32" if text.is_none() => self.long_inodes = Some(key == b"inode64"),
            // Nothing here is ever swapped by the sandbox.
            b"noswap" if text.is_none() => {
                if cred.user_ns.level != 0 || !cred.capable(cap::SYS_ADMIN) {
                    return Err(Errno::EPERM);
                }
                self.noswap = true;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }
}

/// Pages of memory that there are for files.
fn all_pages() -> u64 {
    crate::mm::memfile::limit() / PAGE
}

/// What a tmpfs or a ramfs counts.
pub struct Limits {
    ramfs: bool,
    /// As it was mounted first.
    made: Options,
    /// Most pages; 0: no limit but that of the sandbox. `u64::MAX` where nobody said: what the sandbox has then shows.
    blocks: AtomicU64,
    /// Most inodes, as `blocks`.
    inodes: AtomicU64,
    used_blocks: AtomicU64,
    used_inodes: AtomicU64,
    noswap: AtomicBool,
    /// See [`Options`]; the policy is 0 where there is none.
    huge: AtomicU32,
    policy: AtomicU32,
    long_inodes: AtomicBool,
}

/// What nobody said.
const UNSAID: u64 = u64::MAX;

impl Limits {
    fn new(ramfs: bool, made: Options) -> Limits {
        Limits {
            ramfs,
            made,
            blocks: AtomicU64::new(made.blocks.unwrap_or(if ramfs { 0 } else { UNSAID })),
            inodes: AtomicU64::new(made.inodes.unwrap_or(if ramfs { 0 } else { UNSAID })),
            used_blocks: AtomicU64::new(0),
            used_inodes: AtomicU64::new(0),
            noswap: AtomicBool::new(made.noswap),
            huge: AtomicU32::new(made.huge.unwrap_or(0)),
            policy: AtomicU32::new(made.policy.unwrap_or(0)),
            long_inodes: AtomicBool::new(made.long_inodes.unwrap_or(false)),
        }
    }

    /// Pages that are left where there is a limit.
    pub fn left(&self) -> Option<u64> {
        match self.blocks.load(Relaxed) {
            0 | UNSAID => None,
            most => Some(most.saturating_sub(self.used_blocks.load(Relaxed))),
        }
    }

    /// Most pages where there is a limit.
    pub fn most(&self) -> Option<u64> {
        Some(self.blocks.load(Relaxed)).filter(|&n| n != 0 && n != UNSAID)
    }

    /// A file holds `now` pages where it held `before`.
    pub fn recount(&self, before: u64, now: u64) {
        self.used_blocks.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// One more inode or name.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn enter(&self) -> Result {
        let most = match self.inodes.load(Relaxed) {
            0 => u64::MAX,
            most => most,
        };
        let more = |n: u64| if n < most { Some(n + 1) } else { None };
        self.used_inodes.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| Errno::ENOSPC)
    }

    /// One inode or name less.
    pub fn leave(&self) {
        self.used_inodes.fetch_sub(1, Relaxed);
    }

    /// Other limits for what is mounted (`shmem_reconfigure`).
    fn change(&self, to: Options) -> Result {
        let limit = |new: Option<u64>, old: &AtomicU64, used: &AtomicU64| match new {
            Some(new) if new != 0 && (old.load(Relaxed) == 0 || used.load(Relaxed) > new) => Err(Errno::EINVAL),
            _ => Ok(()),
        };
        limit(to.blocks, &self.blocks, &self.used_blocks)?;
        limit(to.inodes, &self.inodes, &self.used_inodes)?;
        if to.noswap && !self.noswap.load(Relaxed) {
            return Err(Errno::EINVAL);
        }
        for (new, old) in [(to.blocks, &self.blocks), (to.inodes, &self.inodes)] {
            old.store(new.unwrap_or(old.load(Relaxed)), Relaxed);
        }
        for (new, old) in [(to.huge, &self.huge), (to.policy, &self.policy)] {
            old.store(new.unwrap_or(old.load(Relaxed)), Relaxed);
        }
        if let Some(long) = to.long_inodes {
            self.long_inodes.store(long, Relaxed);
        }
        Ok(())
    }

    /// The options, each behind a comma (`shmem_show_options`).
    fn shown(&self) -> String {
        let mut out = String::new();
        let blocks = self.blocks.load(Relaxed);
        if blocks != UNSAID && !self.ramfs {
            out += &format!(",size={}k", blocks.wrapping_mul(PAGE / 1024));
        }
        let inodes = self.inodes.load(Relaxed);
        if inodes != UNSAID && !self.ramfs {
            out += &format!(",nr_inodes={inodes}");
        }
        let usual = if self.ramfs { 0o755 } else { 0o1777 };
        if let Some(mode) = self.made.mode.filter(|&m| m != usual) {
            // ramfs writes it without leading zeros.
            out += &if self.ramfs { format!(",mode={mode:o}") } else { format!(",mode={mode:03o}") };
        }
        for (name, id) in [("uid", self.made.uid), ("gid", self.made.gid)] {
            if let Some(id) = id.filter(|&id| id != 0 && !self.ramfs) {
                out += &format!(",{name}={id}");
            }
        }
        out += if self.long_inodes.load(Relaxed) { ",inode64" } else { "" };
        let name = |of: &[&'static str], at: u32| of.get(at as usize).copied().unwrap_or_default();
        match self.huge.load(Relaxed) {
            0 => {}
            huge => out += &format!(",huge={}", name(&HUGE, huge)),
        }
        match self.policy.load(Relaxed) {
            0 => {}
            p => {
                let flag = name(&POLICY_FLAGS, p >> 4 & 0xf);
                let equals = if flag.is_empty() { "" } else { "=" };
                let nodes = if p >> 8 != 0 { ":0" } else { "" };
                out += &format!(",mpol={}{equals}{flag}{nodes}", name(&POLICIES, p & 0xf));
            }
        }
        out += if self.noswap.load(Relaxed) { ",noswap" } else { "" };
        out
    }
}

/// The root of an empty file system with these options, for `cred`.
///
/// # Errors
/// `ENOSPC`.
pub fn limited(options: Options, ramfs: bool, cred: &Cred) -> Result<Arc<dyn Inode>> {
    let made = Options {
        uid: Some(options.uid.unwrap_or(cred.fsuid)),
        gid: Some(options.gid.unwrap_or(cred.fsgid)),
        ..options
    };
    let (uid, gid) = (made.uid.unwrap_or(0), made.gid.unwrap_or(0));
    let mode = options.mode.unwrap_or(if ramfs { 0o755 } else { 0o1777 });
    let fs = MemFs::new(None, Some(Limits::new(ramfs, made)));
    fs.enter()?;
    Ok(fs.node(crate::vfs::FileType::Dir, mode, uid, gid, 0, super::Body::Dir(None)))
}

/// The root of an empty tmpfs of the sandbox's own with this mode and owner.
pub(super) fn plain_root(mode: u32, uid: u32, gid: u32) -> Arc<dyn Inode> {
    let made = Options { mode: Some(mode), uid: Some(uid), gid: Some(gid), ..Options::default() };
    let limits = Limits::new(false, made);
    limits.used_inodes.store(1, Relaxed);
    MemFs::new(None, Some(limits)).node(crate::vfs::FileType::Dir, mode, uid, gid, 0, super::Body::Dir(None))
}

fn limits_of(root: &Arc<dyn Inode>) -> Option<&Limits> {
    root.as_any().downcast_ref::<MemInode>()?.fs.limits.as_ref()
}

/// The mount options of the tmpfs or ramfs that `root` is of.
pub fn shown_options(root: &Arc<dyn Inode>) -> Option<String> {
    limits_of(root).map(Limits::shown)
}

/// Changes the limits of the tmpfs that `root` is of; `None` where it is none.
pub fn remount(root: &Arc<dyn Inode>, data: &[u8], cred: &Cred) -> Option<Result> {
    let limits = limits_of(root)?;
    let change = |options| if limits.ramfs { Ok(()) } else { limits.change(options) };
    Some(Options::parse(data, limits.ramfs, cred).and_then(change))
}

impl MemInode {
    /// Counts what the file holds now.
    pub(super) fn count_pages(&self, data: &Data) {
        let Some(limits) = &self.fs.limits else { return };
        let now = match (data, self.own.get()) {
            (Data::Memory(buf), _) => buf.charged() / PAGE,
            (Data::Own, Some(own)) => own.counted() / PAGE,
            _ => 0,
        };
        if self.counted.load(Relaxed) != now {
            limits.recount(self.counted.swap(now, Relaxed), now);
        }
    }

    /// Up to where bytes from `pos` to `end` can be written without passing the file system's limit.
    ///
    /// # Errors
    /// `ENOSPC` where that is nowhere.
    pub(super) fn end_within_limits(&self, data: &Data, pos: u64, end: u64) -> Result<u64> {
        let Some(left) = self.fs.limits.as_ref().and_then(Limits::left) else { return Ok(end) };
        let to = match (data, self.own.get()) {
            (Data::Memory(buf), _) => buf.end_with(pos, end, left),
            (Data::Own, Some(own)) => own.end_with(pos, end, left)?,
            _ => end,
        };
        if to > pos || end == pos { Ok(to) } else { Err(Errno::ENOSPC) }
    }
}

impl MemFs {
    /// See [`Limits::enter`].
    pub(super) fn enter(&self) -> Result {
        self.limits.as_ref().map_or(Ok(()), Limits::enter)
    }

    /// See [`Limits::leave`].
    pub(super) fn leave(&self) {
        if let Some(limits) = &self.limits {
            limits.leave();
        }
    }

    /// Whether it is a ramfs, whose files have no attributes but the plain ones.
    pub(super) fn is_ramfs(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.ramfs)
    }

    /// `statfs(2)`.
    pub(super) fn figures(&self) -> StatFs {
        let magic = match &self.limits {
            Some(limits) if limits.ramfs => RAMFS_MAGIC,
            _ if self.lower.is_some() => OVERLAY_MAGIC,
            _ => TMPFS_MAGIC,
        };
        let total = all_pages();
        let free = || total - (crate::mm::memfile::held() / PAGE).min(total);
        let (blocks, bfree) = match self.limits.as_ref().map(|l| (l.blocks.load(Relaxed), l)) {
            Some((0, _)) => (0, 0),
            Some((most, limits)) if most != UNSAID => (most, limits.left().unwrap_or(0).min(free())),
            _ => (total, free()),
        };
        let (files, ffree) = match self.limits.as_ref().map(|l| (l.inodes.load(Relaxed), l)) {
            None => (1 << 20, 1 << 19),
            Some((0, _)) => (0, 0),
            Some((most, limits)) => {
                let most = if most == UNSAID { total } else { most };
                (most, most.saturating_sub(limits.used_inodes.load(Relaxed)))
            }
        };
        StatFs { magic, bsize: PAGE, blocks, bfree, bavail: bfree, files, ffree, namelen: 255, flags: 0 }
    }
}
