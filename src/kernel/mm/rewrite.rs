//! Rewritten call sites of an address space: where they are, their stubs, and how they come and go.
//!
//! A site `0f 05 b0 b1 b2` becomes `e9 XX b0 b1 b2`: the three bytes behind the call stay as they
//! are and are the upper part of a jump's displacement; XX is free (instruction punning). So no
//! instruction boundary moves: jumps to the follower, threads that resume there, and restarts that
//! set the pc back by two stay right. The stub, which must lie where that jump lands, loads the
//! address behind the site into rcx, as the hardware does, and jumps to the kernel's entry.
//!
//! Stubs live in the memory file, written through the window and mapped read-only and shared: fork
//! copies no page of them, and parent and child draw from one record of what is used. Their mapping
//! is an ordinary vma under [`LABEL`], so that nothing else is ever placed there; before anything
//! takes it away, the sites that jump there are put back. Code that maps a remembered copy (`text`) has
//! its sites and stubs already; they are put back in the same way. A hot site for whose stub there is no room gets
//! one by replacing the whole mapping of its file's code, while it runs, by the newest copy ([`Patches::adopt`]):
//! all instruction boundaries are where they were, and the stubs of an older copy, too. Where no copy can have it
//! rewritten, what lies in front of it is moved (`front`).
//!
//! Text is never writable and executable at once: its page loses the permission to execute, is written, and gets
//! its protection back. A thread that is to run it meanwhile faults, waits for the address space's lock and tries
//! again ([`super::AddressSpace::awaits_text`]); the host's change of the page's protection reaches every
//! processor before it returns, so none runs what it had fetched before.

mod front;
mod heat;
mod seen;
mod stubs;
mod trapping;

pub use heat::{Heat, Trapped};
use stubs::{Region, Stub, StubMemory};
pub use trapping::trapping;

use super::UserPtr;
use super::memfile::{Extent, PAGE};
use super::text::{Text, TextCopy};
use super::vma::{Backing, Vma, VmaFlags, VmaTree};
use crate::abi::layout::TASK_SIZE;
use crate::abi::linux::{MAP_FIXED_NOREPLACE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::text::{Form, Front};
use crate::abi::{Errno, Result};
use crate::host::{mem, window as host_window};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Label of the stubs' mappings, which `/proc/self/maps` hides.
pub const LABEL: &str = "[stubs]";

/// `lea rcx, [rip + d]`; `jmp [rip + 0]`; the kernel's entry.
const STUB: u64 = 21;
/// Stub mappings of an address space, each of which costs fork time.
const MAX_REGIONS: usize = 12;
/// How far a new stub mapping reaches to each side of the stub that it is made for, at most.
const REACH: u64 = 2 << 20;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const JMP: u8 = 0xe9;
/// Sites of an address space that are remembered as refused, to be counted once.
const MAX_REFUSED: usize = 1024;

/// Address of the kernel's entry for stubs; 0 while rewriting is off.
static ENTRY: AtomicU64 = AtomicU64::new(0);

/// Since boot: sites that trapped (once per address space), sites rewritten in place, and put back.
pub static SEEN: AtomicU64 = AtomicU64::new(0);
/// See [`SEEN`].
pub static REWRITTEN: AtomicU64 = AtomicU64::new(0);
/// See [`SEEN`].
pub static PUT_BACK: AtomicU64 = AtomicU64::new(0);
/// Mappings of remembered copies.
pub static COPIES_MAPPED: AtomicU64 = AtomicU64::new(0);

/// Turns rewriting on: stubs jump to `entry`.
pub fn enable(entry: u64) {
    ENTRY.store(entry, Relaxed);
}

/// Where stubs jump to; 0 while rewriting is off.
pub fn entry() -> u64 {
    ENTRY.load(Relaxed)
}

/// Whether sites may be rewritten.
pub fn enabled() -> bool {
    ENTRY.load(Relaxed) != 0
}

/// Why a site was not rewritten in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The code is writable, shared, or not mapped as code.
    Mapping,
    /// There is no `syscall` instruction (any more), or the mapping ends behind it.
    Code,
    /// This process cannot write its text, or has gs for itself.
    Process,
    /// The only places where its jump can land are taken.
    Room,
}

/// Refused sites since boot, by [`Refusal`].
pub static REFUSED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// A mapping of a remembered copy.
#[derive(Clone)]
struct MappedCopy {
    start: u64,
    end: u64,
    copy: Arc<TextCopy>,
    /// Its sites are as in the file again; the stubs are still there, and threads may be in them.
    put_back: bool,
}

/// What [`Patches::site_of_stub`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StubHit {
    /// The call site.
    pub site: u64,
    /// Where a thread is set to that shall not have begun the call.
    pub resume: u64,
    /// The stub has yet to execute the instruction in front of the call.
    pub early: bool,
}

/// What an address space knows of its rewritten sites; part of what its lock protects.
#[derive(Default)]
pub struct Patches {
    /// Stub address by site.
    sites: BTreeMap<u64, u64>,
    /// Of these, those in front of which something was moved.
    moved: BTreeMap<u64, front::Moved>,
    regions: Vec<Region>,
    copies: Vec<MappedCopy>,
    /// Hot sites that trap on, and why.
    refused: BTreeMap<u64, Refusal>,
    /// No site is ever rewritten again: the process uses gs itself, or its text cannot be written.
    off: bool,
    /// The process uses gs itself: no site leads to the kernel any more.
    guest_gs: bool,
    /// Counts writes to text.
    writes: u64,
    /// The next mapping of code is for who does not read it: it may be of a copy.
    copies_wanted: bool,
}

impl Patches {
    /// For fork: the copy's text is rewritten as ours is.
    pub fn fork_copy(&self) -> Patches {
        Patches {
            sites: self.sites.clone(),
            moved: self.moved.clone(),
            regions: self.regions.clone(),
            copies: self.copies.clone(),
            refused: self.refused.clone(),
            off: self.off,
            guest_gs: self.guest_gs,
            writes: self.writes,
            copies_wanted: false,
        }
    }

    /// Says whether code that is mapped from now on may be of copies.
    pub fn want_copies(&mut self, wanted: bool) {
        self.copies_wanted = wanted;
    }

    /// What was said so last.
    pub fn copies_were_wanted(&self) -> bool {
        self.copies_wanted
    }

    /// Whether it may.
    pub fn copies_wanted(&self) -> bool {
        self.copies_wanted && !self.off
    }

    /// Whether no site is rewritten any more. Those that are may still lead to the kernel.
    pub fn off(&self) -> bool {
        self.off
    }

    /// Whether the process has gs for itself.
    pub fn guest_gs(&self) -> bool {
        self.guest_gs
    }

    /// Whether this site jumps to a stub.
    pub fn has(&self, site: u64) -> bool {
        self.sites.contains_key(&site)
            || self.copy_at(site).is_some_and(|c| !c.put_back && c.copy.replaces((site - c.start) as u32))
    }

    fn copy_at(&self, addr: u64) -> Option<&MappedCopy> {
        self.copies.iter().find(|c| (c.start..c.end).contains(&addr))
    }

    /// Maps the newest copy of `text` where its file is to be mapped; whether there is one.
    pub fn map_copy(&mut self, text: &Text, addr: u64, len: u64, prot: u32, flags: u32) -> bool {
        let Some(copy) = text.copy() else { return false };
        if self.copies.try_reserve(1).is_err() || copy.map(addr, len, prot, flags).is_err() {
            return false;
        }
        COPIES_MAPPED.fetch_add(1, Relaxed);
        self.copies.push(MappedCopy { start: addr, end: addr + len, copy, put_back: false });
        true
    }

    /// The site on whose way to the kernel `pc` is.
    pub fn site_of_stub(&self, pc: u64) -> Option<StubHit> {
        if let Some(c) = self.copy_at(pc) {
            let d = c.copy.detour((pc - c.start) as u32)?;
            return Some(StubHit {
                site: c.start + u64::from(d.site),
                resume: c.start + u64::from(d.resume),
                early: d.early,
            });
        }
        let region = self.regions.iter().find(|r| (r.start..r.end).contains(&pc))?;
        let used = region.memory.used.lock();
        let (&offset, stub) = used.range(..=pc - region.start).next_back()?;
        stub.hit(pc - region.start - offset)
    }

    /// How often text was written so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Rewrites `site`, which is hot. `again`: it was asked for before.
    pub fn rewrite(&mut self, vmas: &mut VmaTree, site: u64, again: bool) {
        if self.off {
            return;
        }
        if self.moved.get(&site).is_some_and(front::Moved::stands) {
            // The call itself, which is there still, is reached by a jump of the program's.
            return trapping::note(vmas.find(site), site, again, None);
        }
        let failed = match self.try_rewrite(vmas, site) {
            Ok(()) => {
                if again {
                    trapping::note(vmas.find(site), site, again, None);
                    // It is refused no more, unless it was put back meanwhile.
                    let _ = self.refused.remove(&site).map(|why| REFUSED[why as usize].fetch_sub(1, Relaxed));
                }
                REWRITTEN.fetch_add(1, Relaxed);
                return;
            }
            Err(why) => why,
        };
        let other_ways = matches!(failed, Refusal::Room | Refusal::Code);
        if other_ways && (self.adopt(vmas, site) || self.move_front(vmas, site).is_ok()) {
            let _ = self.refused.remove(&site).map(|why| REFUSED[why as usize].fetch_sub(1, Relaxed));
            trapping::note(vmas.find(site), site, again, None);
            return;
        }
        trapping::note(vmas.find(site), site, again, Some(failed));
        if self.refused.len() < MAX_REFUSED && self.refused.insert(site, failed).is_none() {
            REFUSED[failed as usize].fetch_add(1, Relaxed);
        }
    }

    /// Replaces the running mapping of a file's code by the newest copy, if that one has the site rewritten. Whether
    /// it was done.
    ///
    /// The host's change of the page tables interrupts every processor that runs this address space, so that all see
    /// the new code. Whatever instruction a thread is at is there, too, or it is in a stub, which stays.
    fn adopt(&mut self, vmas: &VmaTree, site: u64) -> bool {
        let Some(vma) = vmas.find(site) else { return false };
        let (Some((text, _)), Backing::File { offset, .. }) = (&vma.text, &vma.backing) else { return false };
        let (start, end) = (vma.start, vma.end);
        if (vma.len(), *offset) != text.extent() {
            return false;
        }
        let Some(copy) = text.copy() else { return false };
        let mapped = self.copies.iter().any(|c| c.start < end && c.end > start && (c.start, c.end) != (start, end));
        let same = |c: &MappedCopy| c.start == start && Arc::ptr_eq(&c.copy, &copy);
        if mapped || copy.knows((site - start) as u32) != Some(true) || self.copies.iter().any(same) {
            return false;
        }
        if self.copies.try_reserve(1).is_err() || copy.map(start, vma.len(), vma.prot, 0).is_err() {
            return false;
        }
        // What was written into the pages that are gone now.
        let written: Vec<u64> = self.sites.range(start..end).map(|(&s, _)| s).collect();
        for site in written {
            self.sites.remove(&site);
            self.moved.remove(&site);
        }
        self.copies.retain(|c| c.start != start);
        trapping::adopted(vma, copy.patched());
        self.copies.push(MappedCopy { start, end, copy, put_back: false });
        COPIES_MAPPED.fetch_add(1, Relaxed);
        true
    }

    fn try_rewrite(&mut self, vmas: &mut VmaTree, site: u64) -> core::result::Result<(), Refusal> {
        let vma = vmas.find(site).ok_or(Refusal::Mapping)?.clone();
        let plain = vma.prot & (PROT_READ | PROT_WRITE | PROT_EXEC) == PROT_READ | PROT_EXEC;
        if !plain || vma.shared || vma.label == LABEL {
            return Err(Refusal::Mapping);
        }
        if site + 5 > vma.end {
            return Err(Refusal::Code);
        }
        let code = UserPtr::<[u8; 5]>::new(site).read_nofault().map_err(|_| Refusal::Code)?;
        if code[..2] != SYSCALL {
            return Err(Refusal::Code);
        }
        // Its page was thrown away, and with it the jump.
        self.sites.remove(&site);
        self.moved.remove(&site);
        if self.is_moved(site, site + 5) {
            return Err(Refusal::Room);
        }
        let jump = i64::from(i32::from_le_bytes([0, code[2], code[3], code[4]]));
        let first = (site + 5).checked_add_signed(jump).ok_or(Refusal::Room)?;
        let region = self.region_for(vmas, &vma, site, first).ok_or(Refusal::Room)?;
        let stub = region.add(first, site).ok_or(Refusal::Room)?;
        if self.write(vmas, site, &[JMP, (stub - first) as u8]).is_err() {
            self.off = true;
            return Err(Refusal::Process);
        }
        self.sites.insert(site, stub);
        Ok(())
    }

    /// A stub mapping that covers every place where the site's jump can land.
    fn region_for(&mut self, vmas: &mut VmaTree, vma: &Vma, site: u64, first: u64) -> Option<Region> {
        let last = first.checked_add(255 + STUB)?;
        if let Some(r) = self.regions.iter().find(|r| r.start <= first && last <= r.end) {
            return Some(r.clone());
        }
        // Room for the whole text's stubs, as far as it is free: few mappings make for cheap forks.
        let low = first.checked_sub((site - vma.start).min(REACH))? & !(PAGE - 1);
        let high = (last + (vma.end - site).min(REACH)).next_multiple_of(PAGE);
        let (need_low, need_high) = (first & !(PAGE - 1), last.next_multiple_of(PAGE));
        if high > TASK_SIZE || !vmas.is_free(need_low, need_high) || super::space::outside_guest(need_low, need_high) {
            return None;
        }
        let mut start = low.max(super::space::MIN_ADDR);
        let mut end = high;
        for other in vmas.overlapping(low, high) {
            if other.end <= need_low {
                start = start.max(other.end);
            } else {
                end = end.min(other.start);
            }
        }
        if super::space::outside_guest(start, end) {
            (start, end) = (need_low, need_high);
        }
        self.new_region(vmas, start, end)
    }

    /// Maps room for stubs at free addresses.
    fn new_region(&mut self, vmas: &mut VmaTree, start: u64, end: u64) -> Option<Region> {
        if self.regions.len() >= MAX_REGIONS {
            return None;
        }
        vmas.admit(1).ok()?;
        let extent = Extent::sparse(end - start).ok()?;
        let prot = PROT_READ | PROT_EXEC;
        let flags = MAP_SHARED | MAP_FIXED_NOREPLACE;
        mem::mmap(start, end - start, prot, flags, host_window::fd(), extent.offset()).ok()?;
        let memory = Arc::new(StubMemory { extent, used: Mutex::new(Level::Leaf, BTreeMap::new()) });
        let backing = Backing::File { map: memory.clone(), offset: 0, name: Arc::from(&b""[..]) };
        vmas.insert(Vma {
            start,
            end,
            prot,
            shared: true,
            backing,
            label: LABEL,
            text: None,
            may: prot,
            flags: VmaFlags::empty(),
        });
        let region = Region { start, end, memory };
        self.regions.push(region.clone());
        Some(region)
    }

    /// Writes text of the guest's; at most a page of it.
    fn write(&mut self, vmas: &VmaTree, at: u64, bytes: &[u8]) -> Result {
        self.writes += 1;
        let first = at & !(PAGE - 1);
        let last = (at + bytes.len() as u64 - 1) & !(PAGE - 1);
        let prot = |page| vmas.find(page).map(|v| v.prot).ok_or(Errno::EFAULT);
        let pages = [(first, prot(first)?), (last, prot(last)?)];
        let pages = if first == last { &pages[..1] } else { &pages[..] };
        let mut result = Ok(());
        for (done, &(page, prot)) in pages.iter().enumerate() {
            if let Err(e) = mem::mprotect(page, PAGE, (prot | PROT_READ | PROT_WRITE) & !PROT_EXEC) {
                restore(&pages[..done])?;
                return Err(e);
            }
        }
        for (&byte, to) in bytes.iter().zip(at..) {
            result = result.and(UserPtr::new(to).write_nofault(byte).map_err(|_| Errno::EFAULT));
        }
        result.and(restore(pages))
    }

    fn put_back(&mut self, vmas: &VmaTree, sites: &[u64]) {
        for &site in sites {
            if self.sites.remove(&site).is_none() {
                continue;
            }
            let written = match self.moved.remove(&site) {
                Some(m) => self.write(vmas, m.span().0, m.was()),
                None => self.write(vmas, site, &SYSCALL),
            };
            if written.is_ok() {
                PUT_BACK.fetch_add(1, Relaxed);
            }
        }
    }

    /// Puts every site of a copy back, but for those in `gone`.
    fn put_back_copy(&mut self, vmas: &VmaTree, c: &MappedCopy, gone: core::ops::Range<u64>) {
        if c.put_back {
            return;
        }
        for p in c.copy.patched() {
            let site = c.start + u64::from(p.site);
            let written = match p.form {
                _ if gone.contains(&site) => continue,
                Form::Relay { .. } => self.write(vmas, site, &SYSCALL),
                Form::Before { len } => self.put_back_before(vmas, site, c.start + u64::from(p.stub), usize::from(len)),
            };
            if written.is_ok() {
                PUT_BACK.fetch_add(1, Relaxed);
            }
        }
    }

    /// Puts the instruction in front of `site` back, with which its stub begins.
    fn put_back_before(&mut self, vmas: &VmaTree, site: u64, stub: u64, len: usize) -> Result {
        let mut instruction = [0u8; 16];
        let bytes = instruction.get_mut(..len).ok_or(Errno::EINVAL)?;
        for (byte, at) in bytes.iter_mut().zip(stub..) {
            *byte = UserPtr::new(at).read_nofault().map_err(|_| Errno::EFAULT)?;
        }
        self.write(vmas, site - len as u64, bytes)
    }

    /// `start..end` is about to be unmapped or replaced (`gone`), or to change in a way that a
    /// rewritten text must not see.
    pub fn before_change(&mut self, vmas: &VmaTree, start: u64, end: u64, gone: bool) {
        if self.copies.iter().any(|c| c.start < end && c.end > start) {
            for c in core::mem::take(&mut self.copies) {
                if c.start >= end || c.end <= start {
                    self.copies.push(c);
                } else if !gone {
                    self.put_back_copy(vmas, &c, 0..0);
                    self.copies.push(MappedCopy { put_back: true, ..c });
                } else if c.start < start || c.end > end {
                    self.put_back_copy(vmas, &c, start..end);
                }
            }
        }
        if self.sites.is_empty() && self.regions.is_empty() {
            return;
        }
        // What was written, or its stub, is touched. What goes away as a whole need not be put back.
        let reach = start.saturating_sub(4)..end.saturating_add(u64::from(Front::MAX));
        let span = |site: u64| self.moved.get(&site).map_or((site, site + 5), front::Moved::span);
        let touched = self.sites.range(reach).map(|(&site, _)| (site, span(site)));
        let (whole, part): (Vec<_>, Vec<_>) = touched
            .filter(|(_, (from, to))| *from < end && *to > start)
            .partition(|(_, (from, to))| gone && start <= *from && *to <= end);
        for (site, _) in whole {
            self.sites.remove(&site);
            self.moved.remove(&site);
        }
        let part: Vec<u64> = part.into_iter().map(|(site, _)| site).collect();
        self.put_back(vmas, &part);
        let hit = |r: &Region| r.start < end && r.end > start;
        if gone && self.regions.iter().any(hit) {
            let lost: Vec<u64> = self
                .sites
                .iter()
                .filter(|&(_, &stub)| (start..end).contains(&stub) || { (start..end).contains(&(stub + STUB - 1)) })
                .map(|(&s, _)| s)
                .collect();
            self.put_back(vmas, &lost);
            // Nothing new goes into what is left of them.
            self.regions.retain(|r| !hit(r));
        }
    }

    /// Puts every site back, for good: gs is the guest's.
    pub fn give_up(&mut self, vmas: &VmaTree) {
        self.undo(vmas);
        self.guest_gs = true;
    }
}

/// Gives text its protection back.
fn restore(pages: &[(u64, u32)]) -> Result {
    let mut result = Ok(());
    for &(page, prot) in pages {
        if let Err(e) = mem::mprotect(page, PAGE, prot) {
            log::error!("text at {page:#x} stays without permission to execute: {e}");
            result = Err(e);
        }
    }
    result
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
