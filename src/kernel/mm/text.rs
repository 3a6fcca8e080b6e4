//! Remembered text: which call sites of which files have trapped, and copies of their code in which those
//! sites are rewritten.
//!
//! A trap teaches a site. The supervisor, off every guest's path, makes a whole copy of the piece of the
//! file with all known sites rewritten and its stubs in the padding behind the code. Later mappings of that
//! piece map the copy, private and unwritten, instead of the file: so a process that lives a millisecond
//! pays neither traps nor patches, and fork copies nothing. A copy is never changed; when more sites are
//! known there is a new one, which keeps the stubs of the one before where they are: a process that runs may be
//! given it in place of what it has. Copies outlive the sandbox in a cache.
//!
//! **Who gets copies.** Whoever reads code, to translate or to patch it himself, must read what the file holds: so
//! copies are mapped only for what exec maps (the program and its interpreter), and for what the interpreter maps
//! by calls of its own, as dynamic linkers do. Emulators and instrumenters (valgrind, DynamoRIO) map the code of
//! others themselves, and get the file.
//!
//! **Damage.** A copy from the cache is believed when it belongs to the directory's owner, nobody else may write to
//! it, and its time of modification is the seal of the sum in its record, set in this boot of the host
//! (`abi::text::seal`). Otherwise it is read and summed; when it is whole, the supervisor seals it (again), else it
//! removes it.

use super::Mappable;
use super::memfile::PAGE;
use crate::abi::Result;
use crate::abi::linux::{
    CLOCK_BOOTTIME, CLOCK_REALTIME, MAP_FIXED, MAP_PRIVATE, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, S_IFMT, S_IFREG, statx,
    statx_timestamp,
};
use crate::abi::text::{
    ANY_MARK, COPY_MARK, Checksum, CopyRecord, FileIdentity, Form, Front, JUMP, Patched, TextKey, TextPlan, seal,
};
use crate::host::{HostFd, files, mem, time};
use crate::sync::{Level, Mutex};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed, Ordering::SeqCst};
use once_cell::race::OnceBox;

/// Most pieces that are remembered.
const MAX_TEXTS: usize = 512;
/// Most sites of one piece.
const MAX_SITES: usize = 4096;
/// Longest record of a copy in the cache, bytes: `MAX_SITES` take some 100 KiB.
const MAX_RECORD: u64 = 1 << 20;
/// Longest piece that is copied, bytes.
const MAX_LEN: u64 = 64 << 20;

static TEXTS: Mutex<BTreeMap<TextKey, Arc<Text>>> = Mutex::new(Level::Texts, BTreeMap::new());
/// Called when there is something to build and nothing was before; registered by `control`.
static WANTED: OnceBox<fn()> = OnceBox::new();
/// Called when a copy from the cache was read as a whole; registered by `control`.
static CHECKED: OnceBox<fn(&TextKey, Option<u64>)> = OnceBox::new();
/// The cache's directory, -1 for none.
static CACHE: AtomicI32 = AtomicI32::new(-1);
/// Bytes that are summed at a time.
const PIECE: usize = 64 << 10;

/// A piece of a file that is, or was, mapped as code.
pub struct Text {
    key: TextKey,
    learned: Mutex<Learned>,
    copy: Mutex<Newest>,
}

/// The newest copy of a piece.
enum Newest {
    /// Nobody has looked yet whether the cache has one.
    Unasked,
    None,
    Ready(Arc<TextCopy>),
}

#[derive(Default)]
struct Learned {
    /// Those that have trapped and that the newest copy does not know.
    sites: BTreeSet<u32>,
    /// The newest copy does not know all sites; the file is kept open to make another.
    source: Option<(Arc<dyn Mappable>, i32)>,
    /// One is being made.
    building: bool,
    /// None could be made.
    hopeless: bool,
}

/// A copy with rewritten sites.
pub struct TextCopy {
    file: HostFd,
    plan: TextPlan,
    /// Start, end and index into the plan of everything that a site runs through, in order.
    detours: Vec<(u32, u32, u32)>,
}

/// A detour that a thread is on, relative to the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The site.
    pub site: u32,
    /// Where the thread goes on when it shall not have begun it.
    pub resume: u32,
    /// The instruction in front of the site has still to be executed, in the stub.
    pub early: bool,
}

/// What a build needs.
pub struct Job {
    /// What to copy.
    pub key: TextKey,
    /// Host descriptor of the file; stays open until the job is [`finish`]ed.
    pub fd: i32,
    /// The sites.
    pub sites: Vec<u32>,
    /// Sites of the newest copy, whose stubs stay where they are.
    pub kept: Vec<Patched>,
}

/// Registers who is told that something is to be built (at boot).
pub fn set_wanted(f: fn()) {
    let _ = WANTED.set(Box::new(f));
}

/// Registers who is told of copies that were read as a whole (at boot): with their sum where they are good.
pub fn set_checked(f: fn(&TextKey, Option<u64>)) {
    let _ = CHECKED.set(Box::new(f));
}

fn tell_checked(key: &TextKey, sum: Option<u64>) {
    if let Some(tell) = CHECKED.get() {
        tell(key, sum);
    }
}

fn tell_wanted() {
    if let Some(tell) = WANTED.get() {
        tell();
    }
}

/// Where earlier sandboxes have left copies (at boot): the directory, -1 for none.
pub fn set_cache(dir: i32) {
    CACHE.store(dir, SeqCst);
}

/// See [`set_cache`].
pub fn cache() -> i32 {
    CACHE.load(SeqCst)
}

/// What the cache has of this state of the piece.
fn cached(key: &TextKey) -> Option<TextCopy> {
    let dir = CACHE.load(Relaxed);
    if dir < 0 {
        return None;
    }
    let name = key.copy_name();
    let file = files::openat(dir, &name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0).ok()?;
    match taken(dir, file, key) {
        Ok(copy) => copy,
        Err(why) => {
            let name = core::str::from_utf8(&name).unwrap_or_default();
            log::warn!("the copy of code {name} in the cache {why}: it is dropped");
            tell_checked(key, None);
            None
        }
    }
}

/// A copy from the cache, `None` if it is of another state of the file, or of another build of ours; else why it is not to
/// be used.
fn taken(dir: i32, file: HostFd, key: &TextKey) -> core::result::Result<Option<TextCopy>, &'static str> {
    const UNREADABLE: &str = "cannot be read";
    let st = files::statx(file.raw(), b"").map_err(|_| UNREADABLE)?;
    if !is_own(dir, &st) {
        return Err("is not the user's own");
    }
    let record = match st.stx_size.checked_sub(key.len) {
        Some(len @ ..=MAX_RECORD) => read(&file, len, key.len).ok_or(UNREADABLE)?,
        _ => Vec::new(),
    };
    let Some(ours) = record.strip_prefix(&COPY_MARK[..]) else {
        let another = record.starts_with(ANY_MARK) || is_another(&file, st.stx_size);
        return if another { Ok(None) } else { Err("is damaged, or none of ours") };
    };
    let record = CopyRecord::parse(ours).ok_or("is damaged")?;
    if record.key != *key {
        return Ok(None);
    }
    believed(&file, &st, &record)?;
    Ok(Some(TextCopy::new(file, record.plan)))
}

/// Bytes of a file.
fn read(file: &HostFd, len: u64, at: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len as usize).ok()?;
    bytes.resize(len as usize, 0u8);
    let n = files::pread(file.raw(), bytes.as_mut_ptr() as u64, bytes.len(), at).ok()?;
    bytes.truncate(n);
    Some(bytes)
}

/// Whether a file of this size is a copy of a piece of another length, or of another build.
fn is_another(file: &HostFd, size: u64) -> bool {
    let last = size.checked_sub(8).and_then(|at| read(file, 8, at));
    let Some(len) = last.as_deref().and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_le_bytes(*b)) else {
        return false;
    };
    let mark = if len < size { read(file, ANY_MARK.len() as u64, len) } else { None };
    mark.is_some_and(|mark| mark == ANY_MARK)
}

/// Whether a file of the cache is one that nobody but the user has written.
fn is_own(dir: i32, st: &statx) -> bool {
    const WRITABLE_BY_OTHERS: u16 = 0o022;
    let owner = files::statx(dir, b"").map_or(u32::MAX, |d| d.stx_uid);
    u32::from(st.stx_mode) & S_IFMT == S_IFREG && st.stx_uid == owner && st.stx_mode & WRITABLE_BY_OTHERS == 0
}

/// Whether a copy from the cache is what was written there, else why not.
fn believed(file: &HostFd, st: &statx, record: &CopyRecord) -> core::result::Result<(), &'static str> {
    let ns = |t: &statx_timestamp| t.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(t.tv_nsec));
    // Of what was written before the host went down, pages may be missing.
    let clock = |id: u32| time::clock(id as i32);
    let in_this_boot = match (clock(CLOCK_REALTIME), clock(CLOCK_BOOTTIME)) {
        (Some(now), Some(up)) => ns(&st.stx_ctime) > now.saturating_sub(up),
        _ => false,
    };
    let sealed = seal(record.sum);
    if ns(&st.stx_mtime) == sealed && in_this_boot {
        return Ok(());
    }
    if summed(file, record.key.len) != Some(record.sum) {
        return Err("is damaged");
    }
    tell_checked(&record.key, Some(record.sum));
    Ok(())
}

/// The sum of the first `len` bytes.
fn summed(file: &HostFd, len: u64) -> Option<u64> {
    let mut piece = Vec::new();
    piece.try_reserve_exact(PIECE).ok()?;
    piece.resize(PIECE, 0u8);
    let mut sum = Checksum::default();
    let mut at = 0;
    while at < len {
        let want = (len - at).min(PIECE as u64) as usize;
        let n = files::pread(file.raw(), piece.as_mut_ptr() as u64, want, at).ok()?;
        if n != want {
            return None;
        }
        sum.add(&piece[..n]);
        at += n as u64;
    }
    Some(sum.finish())
}

/// What is known of the code at `offset`, `len` bytes long, of the host file behind `fd`.
pub fn of(fd: i32, offset: u64, len: u64) -> Option<Arc<Text>> {
    let st = files::statx(fd, b"").ok()?;
    let file = FileIdentity {
        dev: u64::from(st.stx_dev_major) << 32 | u64::from(st.stx_dev_minor),
        ino: st.stx_ino,
        size: st.stx_size,
        mtime: st.stx_mtime.tv_sec * 1_000_000_000 + i64::from(st.stx_mtime.tv_nsec),
        ctime: st.stx_ctime.tv_sec * 1_000_000_000 + i64::from(st.stx_ctime.tv_nsec),
    };
    // Nothing behind the file's end may be mapped: the host raises SIGBUS there.
    if len > MAX_LEN || offset.checked_add(len)? > file.size.next_multiple_of(PAGE) {
        return None;
    }
    let key = TextKey { file, offset, len };
    let mut texts = TEXTS.lock();
    if let Some(text) = texts.get(&key) {
        return Some(text.clone());
    }
    if texts.len() >= MAX_TEXTS {
        texts.retain(|_, t| Arc::strong_count(t) > 1 || t.has_copy() || !t.learned.lock().sites.is_empty());
        if texts.len() >= MAX_TEXTS {
            return None;
        }
    }
    let text = Arc::new(Text::new(key));
    texts.insert(key, text.clone());
    Some(text)
}

impl Text {
    fn new(key: TextKey) -> Text {
        let copy = Mutex::new(Level::Text, Newest::Unasked);
        Text { key, learned: Mutex::new(Level::Leaf, Learned::default()), copy }
    }

    fn has_copy(&self) -> bool {
        matches!(&*self.copy.lock(), Newest::Ready(_))
    }

    /// How long the piece is, and where it begins in its file.
    pub fn extent(&self) -> (u64, u64) {
        (self.key.len, self.key.offset)
    }

    /// The newest copy.
    pub fn copy(&self) -> Option<Arc<TextCopy>> {
        let mut newest = self.copy.lock();
        match &*newest {
            Newest::Unasked => {}
            Newest::None => return None,
            Newest::Ready(copy) => return Some(copy.clone()),
        }
        let Some(copy) = cached(&self.key) else {
            *newest = Newest::None;
            return None;
        };
        let copy = Arc::new(copy);
        *newest = Newest::Ready(copy.clone());
        Some(copy)
    }

    /// The call at `at` of the file trapped. `map` and `fd` are the file, of which `len` bytes from `offset`
    /// are mapped: when that is not the whole piece any more, a copy would have to be put back at once.
    pub fn learn(&self, offset: u64, len: u64, at: u64, map: &Arc<dyn Mappable>, fd: i32) {
        let Some(site) = at.checked_sub(self.key.offset).and_then(|o| u32::try_from(o).ok()) else { return };
        if (offset, len) != (self.key.offset, self.key.len) {
            return;
        }
        let known = match &*self.copy.lock() {
            Newest::Ready(copy) if copy.plan.knows(site) => return,
            Newest::Ready(copy) => copy.plan.sites(),
            _ => 0,
        };
        let mut learned = self.learned.lock();
        let room = known + learned.sites.len() < MAX_SITES;
        if u64::from(site) + 2 > self.key.len || !room || !learned.sites.insert(site) {
            return;
        }
        if learned.source.is_some() || learned.hopeless {
            return;
        }
        learned.source = Some((map.clone(), fd));
        drop(learned);
        tell_wanted();
    }
}

/// Takes everything that is to be built.
pub fn take_jobs() -> Vec<Job> {
    let texts: Vec<_> = TEXTS.lock().values().cloned().collect();
    let mut jobs = Vec::new();
    for text in texts {
        let (kept, mut sites): (_, Vec<u32>) = match &*text.copy.lock() {
            Newest::Ready(copy) => (copy.plan.patched.clone(), copy.plan.all_sites().collect()),
            _ => (Vec::new(), Vec::new()),
        };
        let mut learned = text.learned.lock();
        if let Some((_, fd)) = learned.source
            && !learned.building
        {
            learned.building = true;
            sites.extend(&learned.sites);
            sites.sort_unstable();
            sites.dedup();
            jobs.push(Job { key: text.key, fd, sites, kept });
        }
    }
    jobs
}

/// A job is done: `fd` is the copy, or there is none.
pub fn finish(key: &TextKey, fd: Option<HostFd>, plan: TextPlan) {
    let Some(text) = TEXTS.lock().get(key).cloned() else { return };
    let (more, source) = {
        let mut learned = text.learned.lock();
        learned.building = false;
        learned.sites.retain(|&site| !plan.knows(site));
        // Without a copy there is no use in trying again.
        learned.hopeless = fd.is_none();
        let more = fd.is_some() && !learned.sites.is_empty();
        (more, if more { None } else { learned.source.take() })
    };
    drop(source);
    if let Some(fd) = fd {
        let copy = Arc::new(TextCopy::new(fd, plan));
        let old = core::mem::replace(&mut *text.copy.lock(), Newest::Ready(copy));
        drop(old);
    }
    if more {
        tell_wanted();
    }
}

/// Sites that are known, and rewritten in copies, of all files that were mapped.
pub fn counts() -> (u64, u64) {
    let texts: Vec<_> = TEXTS.lock().values().cloned().collect();
    let of_copy = |t: &Arc<Text>| match &*t.copy.lock() {
        Newest::Ready(copy) => (copy.plan.sites(), copy.plan.patched.len()),
        _ => (0, 0),
    };
    texts.iter().fold((0, 0), |(known, patched), t| {
        let (sites, rewritten) = of_copy(t);
        (known + (sites + t.learned.lock().sites.len()) as u64, patched + rewritten as u64)
    })
}

impl TextCopy {
    fn new(file: HostFd, plan: TextPlan) -> TextCopy {
        let mut detours = Vec::new();
        for (i, p) in plan.patched.iter().enumerate() {
            detours.push((p.stub, p.stub.saturating_add(p.form.stub_len()), i as u32));
            if let Form::Relay { at } = p.form {
                detours.push((at, at.saturating_add(JUMP), i as u32));
            }
        }
        detours.sort_unstable();
        TextCopy { file, plan, detours }
    }

    /// Maps it.
    ///
    /// # Errors
    /// The host's.
    pub fn map(&self, addr: u64, len: u64, prot: u32, flags: u32) -> Result {
        mem::mmap(addr, len, prot, MAP_PRIVATE | MAP_FIXED | flags, self.file.raw(), 0).map(drop)
    }

    /// What is done about the site: it is rewritten, cannot be, or was not known.
    pub fn knows(&self, site: u32) -> Option<bool> {
        let rewritten = self.plan.patched.binary_search_by_key(&site, |p| p.site).is_ok();
        (rewritten || self.plan.refused.contains(&site)).then_some(rewritten)
    }

    /// What lies in front of a site that the copy has not rewritten, where that may move.
    pub fn front(&self, site: u32) -> Option<Front> {
        self.plan.fronts.iter().find(|f| f.site == site).copied()
    }

    /// Every rewritten site.
    pub fn patched(&self) -> &[Patched] {
        &self.plan.patched
    }

    /// Whether the call at `site` itself is rewritten (and not what stands in front of it).
    pub fn replaces(&self, site: u32) -> bool {
        let found = self.plan.patched.binary_search_by_key(&site, |p| p.site);
        found.is_ok_and(|i| matches!(self.plan.patched[i].form, Form::Relay { .. }))
    }

    /// The detour that `pc` is on.
    pub fn detour(&self, pc: u32) -> Option<Detour> {
        let at = self.detours.partition_point(|d| d.0 <= pc);
        let &(_, end, i) = self.detours.get(at.checked_sub(1)?)?;
        let p = self.plan.patched.get(i as usize).filter(|_| pc < end)?;
        Some(match p.form {
            Form::Before { len } if pc == p.stub => {
                Detour { site: p.site, resume: p.site.saturating_sub(u32::from(len)), early: true }
            }
            _ => Detour { site: p.site, resume: p.site, early: false },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detours_are_found_by_address() {
        let plan = TextPlan {
            patched: alloc::vec![
                Patched { site: 0x107, stub: 0x2000, form: Form::Before { len: 7 } },
                Patched { site: 0x200, stub: 0x2016, form: Form::Relay { at: 0x240 } },
            ],
            ..TextPlan::default()
        };
        let copy = TextCopy::new(HostFd::new(-1), plan);
        let early = Detour { site: 0x107, resume: 0x100, early: true };
        let late = Detour { site: 0x107, resume: 0x107, early: false };
        let relayed = Detour { site: 0x200, resume: 0x200, early: false };
        for (pc, expected) in [
            (0x1fff, None),
            (0x2000, Some(early)),
            (0x2007, Some(late)),
            (0x2015, Some(late)),
            (0x2016, Some(relayed)),
            (0x2024, Some(relayed)),
            (0x2025, None),
            (0x23f, None),
            (0x240, Some(relayed)),
            (0x244, Some(relayed)),
            (0x245, None),
        ] {
            assert_eq!(copy.detour(pc), expected, "{pc:#x}");
        }
        assert!(copy.replaces(0x200) && !copy.replaces(0x107) && !copy.replaces(0x201));
    }
}
