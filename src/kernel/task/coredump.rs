//! Core dumps (`core(5)`): an ELF file with the registers of every thread and the memory of the process.
//!
//! The thread that dies writes it. The others stand still meanwhile: each waits in its exit work, or sleeps where
//! only the end of what it waits for would wake it, and its registers are a frame on its stack either way.

use super::{CurrentTask, Own, Task, limits, work};
use crate::abi::linux::{O_CREAT, O_NOFOLLOW, O_WRONLY, PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::sigctx::{SigContext, SigInfo};
use crate::abi::slot::place;
use crate::abi::{Errno, Result, SysError};
use crate::arch::fpu::{FpArea, LEGACY, SW_RESERVED};
use crate::arch::frame;
use crate::host::{mem, process};
use crate::mm::space::remote::Force;
use crate::mm::{Backing, IoSrc, Mappable, Vma, VmaFlags};
use crate::sync::wait::sleep_deaf;
use crate::sync::{Kind, Knob, Level, Mutex, On};
use crate::vfs::open::How;
use crate::vfs::{self, FileType, OpCtx, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

const PAGE: u64 = 4096;
/// Whether programs that were given other ids, or that changed them, dump a core after all (`/proc/sys/fs/suid_dumpable`;
/// its value 2 is not there).
pub static OF_SET_ID: Knob = Knob::new(0, 0, 1);

/// Memory is copied in such pieces.
const PIECE: usize = 64 << 10;
/// Longest core pattern (`CORENAME_MAX_SIZE`).
const PATTERN_MAX: usize = 127;
/// `MMF_DUMP_FILTER_DEFAULT`: private and shared anonymous memory, ELF headers, huge pages.
pub const DEFAULT_FILTER: u32 = 0x33;
/// Bits of the filter.
mod filter {
    pub const ANON_PRIVATE: u32 = 1;
    pub const ANON_SHARED: u32 = 2;
    pub const FILE_PRIVATE: u32 = 4;
    pub const FILE_SHARED: u32 = 8;
    pub const ELF_HEADERS: u32 = 16;
}

static PATTERN: Mutex<Option<Vec<u8>>> = Mutex::new(Level::Leaf, None);
static USES_PID: AtomicU32 = AtomicU32::new(0);

/// `/proc/sys/kernel/core_pattern`.
pub fn pattern() -> Vec<u8> {
    PATTERN.lock().clone().unwrap_or_else(|| b"core".to_vec())
}

/// Changes it.
pub fn set_pattern(new: &[u8]) {
    *PATTERN.lock() = Some(new[..new.len().min(PATTERN_MAX)].to_vec());
}

/// `/proc/sys/kernel/core_uses_pid`.
pub fn uses_pid() -> u32 {
    USES_PID.load(Relaxed)
}

/// Changes it.
pub fn set_uses_pid(new: &[u8]) {
    if let Some(n) = core::str::from_utf8(new).ok().and_then(|t| t.trim().parse().ok()) {
        USES_PID.store(n, Relaxed);
    }
}

/// Writes the core of a process that dies of this signal, where its limits and the pattern allow; whether it did.
pub(super) fn dump(cur: &CurrentTask, info: &SigInfo) -> bool {
    let limit = cur.group.limits.get(limits::CORE).0;
    if limit < PAGE || cur.attr.dumpable.load(Relaxed) != 1 || !claim(cur) {
        return false;
    }
    stand_still(cur);
    let written = open(cur, info).and_then(|file| write(cur, info, &file, limit));
    if let Err(e) = written {
        log::info!("pid {}: no core: {e:?}", cur.group.pid);
    }
    written.is_ok()
}

/// Of several threads that die at once one dumps.
fn claim(cur: &CurrentTask) -> bool {
    let mut state = cur.group.state.lock();
    if state.exiting.is_some() || state.dumps.is_some() || state.exec.is_some() {
        return false;
    }
    state.dumps = Some(cur.tid());
    true
}

fn others(cur: &CurrentTask) -> Vec<Arc<Task>> {
    cur.group.tasks().into_iter().filter(|t| t.tid() != cur.tid()).collect()
}

/// Waits until the other threads run no more.
fn stand_still(cur: &CurrentTask) {
    let slot = crate::arch::slot();
    let rests = |t: &Arc<Task>| {
        t.slot().is_none_or(|s| s.place.load(SeqCst) == place::KERNEL && s.waker.sleeping.load(SeqCst) != 0)
    };
    loop {
        let ticket = slot.waker.ticket();
        let moving: Vec<_> = others(cur).into_iter().filter(|t| !rests(t)).collect();
        if moving.is_empty() || cur.group.state.lock().exiting.is_some() {
            return;
        }
        moving.iter().for_each(|t| t.kick());
        let soon = crate::time::deadline_in(1_000_000);
        let _ = crate::host::futex::wait(&slot.waker.word, ticket, Some(soon));
    }
}

impl CurrentTask {
    /// Another thread writes the process's core: this one waits until it dies.
    pub(super) fn wait_for_core(&self) {
        let slot = crate::arch::slot();
        loop {
            let ticket = slot.waker.ticket();
            let go = {
                let state = self.group.state.lock();
                state.exiting.is_some() || state.dumps.is_none_or(|tid| tid == self.tid())
            };
            if go {
                return;
            }
            sleep_deaf(slot, On::the(Kind::Stop), ticket);
        }
    }
}

/// The file's name, by the pattern.
fn name(cur: &CurrentTask, info: &SigInfo) -> Result<Vec<u8>> {
    let pattern = pattern();
    if pattern.first() == Some(&b'|') || pattern.is_empty() {
        return Err(Errno::EOPNOTSUPP);
    }
    let cred = cur.cred().clone();
    let (mut out, mut has_pid) = (Vec::new(), false);
    let mut bytes = pattern.iter().copied();
    let comm: Vec<u8> = cur.comm.lock().iter().map(|&b| if b == b'/' { b'!' } else { b }).collect();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let number = match bytes.next() {
            None => break,
            Some(b'%') => {
                out.push(b'%');
                continue;
            }
            // In its own pid namespace, and in the initial one.
            Some(b'p') => {
                has_pid = true;
                u64::from(cur.group.shown)
            }
            Some(b'P') => u64::from(cur.group.pid),
            Some(b'i') => u64::from(cur.shown_tid()),
            Some(b'I') => u64::from(cur.tid()),
            Some(b'u') => u64::from(cred.uid),
            Some(b'g') => u64::from(cred.gid),
            Some(b'd') => 1,
            Some(b's') => info.signo as u64,
            Some(b't') => crate::time::now().div_euclid(crate::time::SECOND) as u64,
            Some(b'c') => cur.group.limits.get(limits::CORE).0,
            Some(b'h') => {
                out.extend_from_slice(&cur.own().ns.uts.hostname());
                continue;
            }
            Some(b'e' | b'f') => {
                out.extend_from_slice(&comm);
                continue;
            }
            Some(_) => continue,
        };
        out.extend_from_slice(alloc::format!("{number}").as_bytes());
    }
    if !has_pid && uses_pid() != 0 {
        out.extend_from_slice(alloc::format!(".{}", cur.group.shown).as_bytes());
    }
    Ok(out)
}

fn open(cur: &CurrentTask, info: &SigInfo) -> core::result::Result<Arc<OpenFile>, SysError> {
    let name = name(cur, info)?;
    let flags = O_CREAT | O_WRONLY | O_NOFOLLOW;
    let file = vfs::open(cur.fs(), &cur.op_ctx(), None, &name, How { flags, mode: 0o600, resolve: 0 })?;
    let stat = file.inode.stat()?;
    if file.inode.file_type() != FileType::Regular || stat.nlink != 1 || stat.uid != cur.cred().fsuid {
        return Err(Errno::EPERM.into());
    }
    file.inode.set_attr(&cur.op_ctx(), &vfs::SetAttr { size: Some(0), ..vfs::SetAttr::default() })?;
    Ok(file)
}

/// A piece of memory in the file.
struct Segment {
    start: u64,
    len: u64,
    /// Bytes of it that are in the file.
    kept: u64,
    flags: u32,
    anon: bool,
}

/// Anonymous mappings from this size on are asked which of their pages are there: programs reserve more than
/// they touch.
const LARGE: u64 = 64 << 20;

/// Whether any of the pages from `start` on is there.
fn is_touched(s: &Segment, start: u64, len: u64) -> bool {
    let mut resident = [0u8; PIECE / PAGE as usize];
    let known = s.anon && s.len >= LARGE && mem::mincore(start, len, &mut resident).is_ok();
    !known || resident.iter().any(|&r| r & 1 != 0)
}

/// Whether a private mapping of a file is likely to have pages of its own: it is writable, or was when the program
/// was relocated (RELRO), and what follows still is.
fn may_be_changed(v: &Vma, next: Option<&Vma>) -> bool {
    let same_file = |n: &Vma| match (&v.backing, &n.backing) {
        (Backing::File { map: a, .. }, Backing::File { map: b, .. }) => Arc::ptr_eq(a, b),
        _ => false,
    };
    let goes_on = |n: &&Vma| n.start == v.end && n.prot & PROT_WRITE != 0 && same_file(n);
    v.prot & PROT_WRITE != 0 || v.prot & PROT_EXEC == 0 && next.filter(goes_on).is_some()
}

/// How many bytes of a mapping are kept.
fn kept(own: &Own, v: &Vma, next: Option<&Vma>, wanted: u32) -> u64 {
    // Segments of System V shared memory have no name that a file could be found by, either.
    let named = |map: &Arc<dyn Mappable>, name: &[u8]| !name.starts_with(b"/dev/zero") && map.attachment().is_none();
    let file = matches!(&v.backing, Backing::File { map, name, .. } if named(map, name));
    let all = match (file, v.shared) {
        (false, false) => wanted & filter::ANON_PRIVATE != 0,
        (false, true) => wanted & filter::ANON_SHARED != 0,
        (true, true) => wanted & filter::FILE_SHARED != 0,
        (true, false) => {
            wanted & filter::FILE_PRIVATE != 0 || wanted & filter::ANON_PRIVATE != 0 && may_be_changed(v, next)
        }
    };
    if all {
        return v.len();
    }
    let mut magic = [0u8; 4];
    let first = matches!(&v.backing, Backing::File { offset: 0, .. }) && v.prot & PROT_READ != 0 && !v.shared;
    if wanted & filter::ELF_HEADERS != 0
        && first
        && own.mm.peek(v.start, &mut magic, Force::Yes) == 4
        && magic == *b"\x7fELF"
    {
        return PAGE;
    }
    0
}

fn segments(own: &Own, wanted: u32) -> Result<Vec<Segment>> {
    let mut out = Vec::new();
    let all = own.mm.mapped(0, u64::MAX)?;
    out.try_reserve_exact(all.len() + 1).map_err(|_| Errno::ENOMEM)?;
    for (i, v) in all.iter().enumerate() {
        let flags = [(PROT_EXEC, 1), (PROT_WRITE, 2), (PROT_READ, 4)];
        let flags = flags.iter().filter(|(p, _)| v.prot & p != 0).map(|(_, f)| f).sum();
        let left_out = v.is_secret() || v.flags.contains(VmaFlags::DONT_DUMP);
        let kept = if left_out { 0 } else { kept(own, v, all.get(i + 1), wanted) };
        let anon = matches!(v.backing, Backing::Anon);
        out.push(Segment { start: v.start, len: v.len(), kept, flags, anon });
    }
    if let Some((start, end)) = crate::time::vdso::range() {
        let at = out.partition_point(|s| s.start < start);
        out.insert(at, Segment { start, len: end - start, kept: end - start, flags: 5, anon: false });
    }
    Ok(out)
}

fn note(out: &mut Vec<u8>, owner: &str, kind: u32, bytes: &[u8]) {
    for word in [owner.len() as u32 + 1, bytes.len() as u32, kind] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for part in [owner.as_bytes(), bytes] {
        out.extend_from_slice(part);
        // The name has a zero byte behind it, and both end at whole words.
        let pad = if core::ptr::eq(part, bytes) {
            part.len().next_multiple_of(4)
        } else {
            (part.len() + 1).next_multiple_of(4)
        };
        out.resize(out.len() + pad - part.len(), 0);
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// `struct elf_prstatus`.
fn status_note(task: &Task, info: &SigInfo, regs: &SigContext, bases: [u64; 2], has_fpu: bool) -> [u8; 336] {
    let g = &task.group;
    let mut out = [0u8; 336];
    for (i, word) in [info.signo, info.code, info.errno, info.signo & 0xffff].into_iter().enumerate() {
        put(&mut out, i * 4, &word.to_le_bytes());
    }
    put(&mut out, 16, &task.pending.lock().set().to_le_bytes());
    put(&mut out, 24, &task.blocked.load(SeqCst).to_le_bytes());
    let seen = |id| g.id.namespace().seen(id);
    for (i, id) in [task.tid(), g.ppid(), g.pgid(), g.sid()].map(seen).into_iter().enumerate() {
        put(&mut out, 32 + i * 4, &id.to_le_bytes());
    }
    for kind in 0..4 {
        let ns = g.times[kind].load(SeqCst) as i64;
        put(&mut out, 48 + kind * 16, &(ns.max(0) / 1_000_000_000).to_le_bytes());
        put(&mut out, 56 + kind * 16, &(ns.max(0) % 1_000_000_000 / 1000).to_le_bytes());
    }
    for (i, word) in frame::user_regs(regs, u64::MAX, bases).into_iter().enumerate() {
        put(&mut out, 112 + i * 8, &word.to_le_bytes());
    }
    put(&mut out, 328, &u32::from(has_fpu).to_le_bytes());
    out
}

/// `struct elf_prpsinfo`.
fn process_note(cur: &CurrentTask) -> [u8; 136] {
    let g = &cur.group;
    let mut out = [0u8; 136];
    out[1] = b'R';
    let cred = cur.cred();
    put(&mut out, 16, &cred.seen_uid(cred.uid).to_le_bytes());
    put(&mut out, 20, &cred.seen_gid(cred.gid).to_le_bytes());
    for (i, id) in [g.pid, g.ppid(), g.pgid(), g.sid()].map(|id| cur.seen_pid(id)).into_iter().enumerate() {
        put(&mut out, 24 + i * 4, &id.to_le_bytes());
    }
    let comm = cur.comm.lock().clone();
    put(&mut out, 40, &comm[..comm.len().min(15)]);
    let args: Vec<u8> = g.exec_info.lock().cmdline.iter().map(|&b| if b == 0 { b' ' } else { b }).take(79).collect();
    put(&mut out, 56, &args);
    out
}

/// `NT_FILE`: which files are mapped where.
fn files_note(own: &Own) -> Result<Vec<u8>> {
    let (mut table, mut names, mut count) = (Vec::new(), Vec::new(), 0u64);
    for v in own.mm.mapped(0, u64::MAX)? {
        if let Backing::File { offset, name, .. } = &v.backing
            && !name.is_empty()
        {
            count += 1;
            for word in [v.start, v.end, offset / PAGE] {
                table.extend_from_slice(&word.to_le_bytes());
            }
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    let mut out = Vec::from(count.to_le_bytes());
    out.extend_from_slice(&PAGE.to_le_bytes());
    out.extend(table);
    out.extend(names);
    Ok(out)
}

fn thread_notes(out: &mut Vec<u8>, task: &Arc<Task>, info: &SigInfo, first: bool, shared: impl FnOnce(&mut Vec<u8>)) {
    let settle = || {
        super::park::make_whole();
        process::base(process::ARCH_GET_FS)
    };
    let fs = if first { settle() } else { work::run_on(task, move |_| settle()).unwrap_or_default() };
    let Some(regs) = task.slot().and_then(frame::registers) else { return };
    let area = FpArea::of(&regs).filter(|_| frame::on_slot_stack(regs.fpstate));
    let status = status_note(task, info, &regs, [fs, 0], area.is_some());
    note(out, "CORE", 1, &status);
    shared(out);
    if let Some(area) = area {
        note(out, "CORE", 2, &area.bytes()[..LEGACY]);
        if area.extended() {
            let mut whole = area.bytes()[..area.size() - 4].to_vec();
            whole[SW_RESERVED..LEGACY].fill(0);
            whole[SW_RESERVED..SW_RESERVED + 8].copy_from_slice(&area.features().to_le_bytes());
            note(out, "LINUX", 0x202, &whole);
        }
    }
}

fn notes(cur: &CurrentTask, own: &Own, info: &SigInfo) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let files = files_note(own)?;
    let auxv: Vec<u8> = own.mm.auxv.lock().iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut record = [0u8; 128];
    for (i, word) in [info.signo, info.errno, info.code, 0].into_iter().enumerate() {
        put(&mut record, i * 4, &word.to_le_bytes());
    }
    for (i, word) in info.fields.iter().enumerate() {
        put(&mut record, 16 + i * 8, &word.to_le_bytes());
    }
    thread_notes(&mut out, cur, info, true, |out| {
        note(out, "CORE", 3, &process_note(cur));
        note(out, "CORE", 0x5349_4749, &record);
        note(out, "CORE", 6, &auxv);
        note(out, "CORE", 0x4649_4c45, &files);
    });
    for task in others(cur) {
        thread_notes(&mut out, &task, info, false, |_| ());
    }
    Ok(out)
}

/// `Elf64_Phdr`.
fn header(out: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, addr: u64, sizes: [u64; 2], align: u64) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    for word in [offset, addr, 0, sizes[0], sizes[1], align] {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

/// The file under construction: what lies past the limit is left out.
struct Out<'a> {
    ctx: OpCtx<'a>,
    file: &'a OpenFile,
    limit: u64,
}

impl Out<'_> {
    fn put(&self, at: u64, bytes: &[u8]) -> core::result::Result<(), SysError> {
        if at + bytes.len() as u64 > self.limit {
            return Err(Errno::EFBIG.into());
        }
        IoSrc::with_kernel(bytes, |src| {
            while src.left() > 0 {
                if self.file.ops.write(&self.ctx, self.file, src, at + src.done() as u64)? == 0 {
                    return Err(Errno::EIO.into());
                }
            }
            Ok(())
        })
    }

    /// Memory; what holds zeros only is a hole.
    fn memory(&self, own: &Own, s: &Segment, offset: u64, buf: &mut [u8]) -> core::result::Result<(), SysError> {
        let mut done = 0;
        while done < s.kept {
            let n = (s.kept - done).min(buf.len() as u64);
            if is_touched(s, s.start + done, n) {
                let piece = &mut buf[..n as usize];
                let got = own.mm.peek(s.start + done, piece, Force::Yes);
                piece[got..].fill(0);
                if piece.iter().any(|&b| b != 0) {
                    self.put(offset + done, piece)?;
                }
            }
            done += n;
        }
        Ok(())
    }
}

fn write(cur: &CurrentTask, info: &SigInfo, file: &OpenFile, limit: u64) -> core::result::Result<(), SysError> {
    let own = cur.own().clone();
    let segments = segments(&own, cur.group.dump_filter.load(Relaxed))?;
    let notes = notes(cur, &own, info)?;
    let count = segments.len() + 1;
    let headers = 64 + 56 * count as u64;
    let mut head = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0");
    for word in [0u64, 64, 0] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    head.extend_from_slice(&[0; 4]);
    // With more than 65,534 mappings their number would stand elsewhere (PN_XNUM); there are never that many.
    for half in [64u16, 56, u16::try_from(count).map_err(|_| Errno::EFBIG)?, 0, 0, 0] {
        head.extend_from_slice(&half.to_le_bytes());
    }
    header(&mut head, 4, 0, headers, 0, [notes.len() as u64, 0], 0);
    let first = (headers + notes.len() as u64).next_multiple_of(PAGE);
    let mut offset = first;
    for s in &segments {
        header(&mut head, 1, s.flags, offset, s.start, [s.kept, s.len], PAGE);
        offset += s.kept;
    }
    let out = Out { ctx: OpCtx { fsize_limit: u64::MAX, ..cur.op_ctx() }, file, limit };
    head.extend(notes);
    out.put(0, &head)?;
    let mut buf = Vec::new();
    buf.try_reserve_exact(PIECE).map_err(|_| Errno::ENOMEM)?;
    buf.resize(PIECE, 0);
    let mut at = first;
    for s in &segments {
        if cur.group.state.lock().exiting.is_some() {
            return Err(Errno::EINTR.into());
        }
        // The limit cuts the file off; what is there is of use.
        if out.memory(&own, s, at, &mut buf).is_err() {
            return Ok(());
        }
        at += s.kept;
    }
    // A hole at the end counts.
    let size = vfs::SetAttr { size: Some(offset.min(limit)), ..vfs::SetAttr::default() };
    file.inode.set_attr(&out.ctx, &size)?;
    Ok(())
}
