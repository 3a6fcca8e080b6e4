//! Remembered text: which call sites of which files have trapped, and copies of their code in which those
//! sites are rewritten.
//!
//! A trap teaches a site. The supervisor, off every guest's path, makes a whole copy of the piece of the
//! file with all known sites rewritten and its stubs in the padding behind the code. Later mappings of that
//! piece map the copy, private and unwritten, instead of the file: so a process that lives a millisecond
//! pays neither traps nor patches, and fork copies nothing. A copy is never changed; when more sites are
//! known there is a new one. Copies outlive the sandbox in a cache.

use super::Mappable;
use super::memfile::PAGE;
use crate::abi::Result;
use crate::abi::linux::{MAP_FIXED, MAP_PRIVATE, O_RDONLY};
use crate::abi::text::{CopyRecord, FileIdentity, Form, JUMP, Patched, TextKey, TextPlan};
use crate::host::{HostFd, files, mem};
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
/// The cache's directory, -1 for none.
static CACHE: AtomicI32 = AtomicI32::new(-1);

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
    /// Number of the call, unless it is in eax already.
    pub nr: Option<u32>,
}

/// What a build needs.
pub struct Job {
    /// What to copy.
    pub key: TextKey,
    /// Host descriptor of the file; stays open until the job is [`finish`]ed.
    pub fd: i32,
    /// The sites.
    pub sites: Vec<u32>,
}

/// Registers who is told that something is to be built (at boot).
pub fn set_wanted(f: fn()) {
    let _ = WANTED.set(Box::new(f));
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

/// What the cache has of this state of the piece.
fn cached(key: &TextKey) -> Option<TextCopy> {
    let dir = CACHE.load(Relaxed);
    if dir < 0 {
        return None;
    }
    let file = files::openat(dir, &key.copy_name(), O_RDONLY, 0).ok()?;
    let size = files::statx(file.raw(), b"").ok()?.stx_size;
    let record = size.checked_sub(key.len).filter(|&n| n <= MAX_RECORD)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(record as usize).ok()?;
    bytes.resize(record as usize, 0u8);
    let n = files::pread(file.raw(), bytes.as_mut_ptr() as u64, bytes.len(), key.len).ok()?;
    let record = CopyRecord::parse(&bytes[..n], key)?;
    Some(TextCopy::new(file, record.plan))
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
        texts.retain(|_, t| Arc::strong_count(t) > 1 || !t.learned.lock().sites.is_empty());
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
        let sites = copy.plan.patched.iter().map(|p| p.site).chain(copy.plan.refused.iter().copied());
        self.learned.lock().sites.extend(sites);
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
        let mut learned = self.learned.lock();
        if u64::from(site) + 2 > self.key.len || learned.sites.len() >= MAX_SITES || !learned.sites.insert(site) {
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
        let mut learned = text.learned.lock();
        if let Some((_, fd)) = learned.source
            && !learned.building
        {
            learned.building = true;
            jobs.push(Job { key: text.key, fd, sites: learned.sites.iter().copied().collect() });
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
        let known = plan.patched.len() + plan.refused.len();
        // Without a copy there is no use in trying again.
        learned.hopeless = fd.is_none();
        let more = fd.is_some() && learned.sites.len() > known;
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
    let known = texts.iter().map(|t| t.learned.lock().sites.len() as u64).sum();
    let patched = |t: &Arc<Text>| match &*t.copy.lock() {
        Newest::Ready(copy) => copy.plan.patched.len() as u64,
        _ => 0,
    };
    let patched = texts.iter().map(patched).sum();
    (known, patched)
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
            Form::Relay { .. } => Detour { site: p.site, resume: p.site, nr: None },
            Form::Move { nr } => Detour { site: p.site, resume: p.site.saturating_sub(JUMP), nr: Some(nr) },
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
                Patched { site: 0x105, stub: 0x2000, form: Form::Move { nr: 39 } },
                Patched { site: 0x200, stub: 0x2014, form: Form::Relay { at: 0x240 } },
            ],
            refused: Vec::new(),
        };
        let copy = TextCopy::new(HostFd::new(-1), plan);
        let moved = Detour { site: 0x105, resume: 0x100, nr: Some(39) };
        let relayed = Detour { site: 0x200, resume: 0x200, nr: None };
        for (pc, expected) in [
            (0x1fff, None),
            (0x2000, Some(moved)),
            (0x2013, Some(moved)),
            (0x2014, Some(relayed)),
            (0x2022, Some(relayed)),
            (0x2023, None),
            (0x23f, None),
            (0x240, Some(relayed)),
            (0x244, Some(relayed)),
            (0x245, None),
        ] {
            assert_eq!(copy.detour(pc), expected, "{pc:#x}");
        }
        assert!(copy.replaces(0x200) && !copy.replaces(0x105) && !copy.replaces(0x201));
    }
}
