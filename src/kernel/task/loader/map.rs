//! Mapping a checked image, and the first stack (System V ABI, "Process Initialization").

use super::{ElfImage, ExecPlan, FIXED_ANON, FIXED_PRIVATE, PAGE, Placed};
use crate::abi::layout::TASK_SIZE;
use crate::abi::linux::{MAP_NORESERVE, MAP_STACK, PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::{Errno, Result};
use crate::arch::usercopy;
use crate::cred::Cred;
use crate::host::random;
use crate::mm::space::{Layout, MAY_ALL, Request, STACKS};
use crate::mm::{AddressSpace, Backing, UserSlice};
use crate::sync::Knob;
use crate::time::vdso;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use linux_raw_sys::auxvec as at;

/// Room between an image and its heap, so that stubs of patched sites find a place.
const BRK_GAP: u64 = 64 << 20;
/// Where position-independent programs go (`ELF_ET_DYN_BASE`).
const PIE_BASE: u64 = 0x5555_5555_4000;
/// Largest stack that is mapped; more of RLIMIT_STACK is not given.
const STACK_MAX: u64 = 1 << 30;

/// Room for the first stack above all mappings that are not at random addresses (`MIN_GAP` in Linux).
const STACK_ROOM: u64 = 128 << 20;
/// How far below the end of the address space a stack may start, pages (`STACK_RND_MASK`).
const STACK_RANDOM: u64 = 0x3f_ffff;
const _: () = assert!(STACKS <= TASK_SIZE - STACK_RANDOM * PAGE - STACK_MAX);

static HARDWARE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// Records AT_HWCAP, AT_HWCAP2 and AT_MINSIGSTKSZ (at boot).
pub fn set_hardware(hwcap: u64, hwcap2: u64, min_sigstack: u64) {
    for (to, v) in HARDWARE.iter().zip([hwcap, hwcap2, min_sigstack]) {
        to.store(v, Relaxed);
    }
}

/// What of a program lies at random addresses (`/proc/sys/kernel/randomize_va_space`): nothing for 0, all but the heap for
/// 1, all for more.
pub static RANDOMIZE: Knob = Knob::new(2, 0, i32::MAX as u64);

/// Where a program's parts are to lie.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Always at the same addresses.
    fixed: bool,
    /// How large the first stack may become, bytes.
    stack_limit: u64,
}

impl Places {
    /// `fixed`: as the program wishes (`ADDR_NO_RANDOMIZE`), whatever the setting.
    pub fn new(fixed: bool, stack_limit: u64) -> Places {
        Places { fixed: fixed || RANDOMIZE.get() == 0, stack_limit }
    }

    /// A distance of up to `mask` pages, bytes.
    fn some(self, mask: u64) -> u64 {
        if self.fixed { 0 } else { (random::next_u64() & mask) * PAGE }
    }
}

/// Where the program starts.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// First instruction.
    pub entry: u64,
    /// Stack pointer.
    pub sp: u64,
}

/// Maps the program into `mm`, the empty address space of the running process.
///
/// # Errors
/// `ENOMEM`, `EFAULT`, what mapping says.
pub fn load(plan: &ExecPlan, mm: &AddressSpace, cred: &Cred, places: Places) -> Result<Started> {
    if places.fixed {
        mm.set_top((TASK_SIZE - places.stack_limit.clamp(STACK_ROOM, STACK_MAX)) & !(PAGE - 1));
    }
    let main_base = plan.main.dynamic.then(|| PIE_BASE + places.some(0xff_ffff));
    let main = place(&plan.main, mm, main_base)?;
    let interp = match &plan.interp {
        Some(image) => {
            let placed = place(image, mm, None)?;
            mm.set_linker(placed.bias.wrapping_add(image.span().0), placed.end);
            Some(placed)
        }
        None => None,
    };
    let gap = BRK_GAP + if RANDOMIZE.get() > 1 { places.some(0x3fff) } else { 0 };
    let heap = (main.end + gap) & !(PAGE - 1);
    let entry = match (&plan.interp, interp) {
        (Some(image), Some(p)) => image.entry.wrapping_add(p.bias),
        _ => plan.main.entry.wrapping_add(main.bias),
    };
    let top = map_stack(plan, mm, places)?;
    let sp = build_stack(plan, mm, cred, top, main, interp.map_or(0, |p| p.bias))?;
    set_layout(plan, mm, main, heap, sp);
    Ok(Started { entry, sp })
}

/// Says where the program's parts lie; the stack has told of its strings already.
fn set_layout(plan: &ExecPlan, mm: &AddressSpace, main: Placed, heap: u64, sp: u64) {
    let mut layout = mm.layout();
    let segments = || plan.main.segments.iter();
    let code = || segments().filter(|s| s.prot & PROT_EXEC != 0);
    let least = code().map(|s| s.vaddr).min().unwrap_or(0);
    let most = code().map(|s| s.vaddr.saturating_add(s.filesz)).max().unwrap_or(0);
    let data = segments().map(|s| s.vaddr).max().unwrap_or(0);
    let data_end = segments().map(|s| s.vaddr.saturating_add(s.filesz)).max().unwrap_or(0);
    for (i, at) in [least, most, data, data_end].into_iter().enumerate() {
        layout.0[Layout::START_CODE + i] = at.wrapping_add(main.bias);
    }
    (layout.0[Layout::START_BRK], layout.0[Layout::BRK]) = (heap, heap);
    layout.0[Layout::START_STACK] = sp;
    mm.set_layout(&layout);
}

/// Maps one image into a range that is free as a whole. Nobody else maps anything here yet, so it
/// need not be reserved first; gaps between segments stay unmapped, as in Linux.
fn place(image: &ElfImage, mm: &AddressSpace, want: Option<u64>) -> Result<Placed> {
    let (start, end) = image.span();
    let mut bias = 0;
    if image.dynamic {
        bias = mm.find_free(want.unwrap_or(0), end - start)?.wrapping_sub(start);
    }
    for s in &image.segments {
        let from = (s.vaddr & !(PAGE - 1)).wrapping_add(bias);
        let lead = s.vaddr % PAGE;
        let file_end = from + lead + s.filesz;
        let file_pages = (file_end + PAGE - 1) & !(PAGE - 1);
        if s.filesz > 0 {
            mm.mmap(&Request {
                addr: from,
                len: file_pages - from,
                prot: s.prot,
                flags: FIXED_PRIVATE,
                backing: image.backing(s.offset - lead),
                label: "",
                may: MAY_ALL,
                memlock: u64::MAX,
            })?;
        }
        let mem_end = (from + lead + s.memsz + PAGE - 1) & !(PAGE - 1);
        let zero_from = if s.filesz > 0 { file_pages } else { from };
        if mem_end > zero_from {
            mm.mmap(&Request {
                addr: zero_from,
                len: mem_end - zero_from,
                prot: s.prot,
                flags: FIXED_ANON,
                backing: Backing::Anon,
                label: "",
                may: MAY_ALL,
                memlock: u64::MAX,
            })?;
        }
        if s.memsz > s.filesz && s.filesz > 0 && s.prot & PROT_WRITE != 0 {
            // To the end of the page, as Linux does: the dynamic linker's first heap lies there.
            let n = (file_pages - file_end) as usize;
            // SAFETY: a fresh mapping of this address space, apart from the window (mmap checked).
            if unsafe { usercopy::zero(file_end as *mut u8, n) } != 0 {
                return Err(Errno::EFAULT);
            }
        }
    }
    Ok(Placed { bias, end: end.wrapping_add(bias) })
}

fn map_stack(plan: &ExecPlan, mm: &AddressSpace, places: Places) -> Result<u64> {
    let top = TASK_SIZE - places.some(STACK_RANDOM);
    let size = places.stack_limit.clamp(128 << 10, STACK_MAX) & !(PAGE - 1);
    let exec = if plan.main.exec_stack { PROT_EXEC } else { 0 };
    mm.mmap(&Request {
        addr: top - size,
        len: size,
        prot: PROT_READ | PROT_WRITE | exec,
        flags: FIXED_ANON | MAP_NORESERVE | MAP_STACK,
        backing: Backing::Anon,
        label: "[stack]",
        may: MAY_ALL,
        memlock: u64::MAX,
    })?;
    Ok(top)
}

/// Collects the stack's contents from the top down.
struct Builder {
    bytes: Vec<u8>,
    top: u64,
}

impl Builder {
    /// Puts bytes below everything so far (kept reversed until written); returns their address.
    fn push(&mut self, data: &[u8]) -> Result<u64> {
        self.bytes.try_reserve(data.len()).map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend(data.iter().rev());
        Ok(self.top - self.bytes.len() as u64)
    }

    fn push_str(&mut self, s: &[u8]) -> Result<u64> {
        self.push(&[0])?;
        self.push(s)
    }

    fn align(&mut self, to: usize) -> Result {
        while !(self.top as usize - self.bytes.len()).is_multiple_of(to) {
            self.push(&[0])?;
        }
        Ok(())
    }
}

fn build_stack(
    plan: &ExecPlan,
    mm: &AddressSpace,
    cred: &Cred,
    top: u64,
    main: Placed,
    interp_base: u64,
) -> Result<u64> {
    let mut b = Builder { bytes: Vec::new(), top };
    b.push(&[0; 8])?;
    let execfn = b.push_str(&plan.execfn)?;
    let env_end = execfn;
    let mut env = Vec::new();
    for s in plan.envp.iter().rev() {
        env.push(b.push_str(s)?);
    }
    let env_start = b.top - b.bytes.len() as u64;
    let mut args = Vec::new();
    for s in plan.argv.iter().rev() {
        args.push(b.push_str(s)?);
    }
    let arg_start = b.top - b.bytes.len() as u64;
    for (to, v) in mm.strings.iter().zip([arg_start, env_start, env_start, env_end]) {
        to.store(v, Relaxed);
    }
    let platform = b.push_str(b"x86_64")?;
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let seed = b.push(&seed)?;
    b.align(16)?;

    let mut auxv: Vec<(u32, u64)> = Vec::new();
    if let Some((start, _)) = vdso::range() {
        auxv.push((at::AT_SYSINFO_EHDR, start));
    }
    auxv.extend([
        (at::AT_HWCAP, HARDWARE[0].load(Relaxed)),
        (at::AT_PAGESZ, PAGE),
        (at::AT_CLKTCK, 100),
        (at::AT_PHDR, plan.main.phdr.wrapping_add(main.bias)),
        (at::AT_PHENT, 56),
        (at::AT_PHNUM, plan.main.phnum),
        (at::AT_BASE, interp_base),
        (at::AT_FLAGS, 0),
        (at::AT_ENTRY, plan.main.entry.wrapping_add(main.bias)),
        (at::AT_UID, u64::from(cred.seen_uid(cred.uid))),
        (at::AT_EUID, u64::from(cred.seen_uid(cred.euid))),
        (at::AT_GID, u64::from(cred.seen_gid(cred.gid))),
        (at::AT_EGID, u64::from(cred.seen_gid(cred.egid))),
        (at::AT_SECURE, u64::from(plan.secure)),
        (at::AT_RANDOM, seed),
        (at::AT_HWCAP2, HARDWARE[1].load(Relaxed)),
        (at::AT_EXECFN, execfn),
        (at::AT_PLATFORM, platform),
        (at::AT_MINSIGSTKSZ, HARDWARE[2].load(Relaxed)),
        (at::AT_NULL, 0),
    ]);
    let mut words: Vec<u64> = Vec::new();
    words.push(args.len() as u64);
    words.extend(args.iter().rev());
    words.push(0);
    words.extend(env.iter().rev());
    words.push(0);
    let auxv: Vec<u64> = auxv.into_iter().flat_map(|(key, value)| [u64::from(key), value]).collect();
    words.extend(&auxv);
    *mm.auxv.lock() = auxv.into();
    if words.len() % 2 == 1 {
        b.push(&[0; 8])?;
    }
    for w in words.iter().rev() {
        b.push(&w.to_le_bytes())?;
    }
    let sp = b.top - b.bytes.len() as u64;
    b.bytes.reverse();
    UserSlice::<u8>::new(sp, b.bytes.len()).write_from(&b.bytes)?;
    Ok(sp)
}
