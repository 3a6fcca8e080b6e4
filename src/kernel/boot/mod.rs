//! Assembles a kernel: heap, log, clocks, mounts, zygotes. And the image's entries, which the
//! supervisor calls on its own slot (number 0).

mod mounts;
pub mod restore;

use crate::abi::control::{BootParams, Config, Event};
use crate::abi::slot::{CANARY, SlotHeader, place};
use crate::abi::{Errno, Result, linux};
use crate::arch::{self, frame};
use crate::fs::{hostfd, proc};
use crate::host::process::{self, CloneKind};
use crate::host::{log as ring, mem, panic, random, sched, time as host_time, window};
use crate::mm::{budget, memfile, text};
use crate::syscall::strace;
use crate::task::{clone, exit, kernel, loader, slots, zygote};
use crate::trap::{self, Setup};
use crate::{arena, control as channel, entry, ipc, net, time};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use once_cell::race::OnceBox;

static SETUP: OnceBox<Setup> = OnceBox::new();
/// Host pid of the mother, 0 before there is one.
static MOTHER: AtomicI32 = AtomicI32::new(0);

/// What must be known before the supervisor can run on its slot. Runs on its ordinary stack.
///
/// # Errors
/// `EINVAL` for a base that cannot be the window's.
pub fn early(params: &BootParams) -> Result {
    if !params.base.is_multiple_of(crate::abi::layout::BASE_ALIGN) {
        return Err(Errno::EINVAL);
    }
    arch::slot::set_window(params.base);
    Ok(())
}

/// Where the supervisor's kernel code runs.
pub fn supervisor_stack() -> u64 {
    frame::stack_top(arch::slot_at(0))
}

/// Boots the kernel in the supervisor, and starts the host process of the first program: 0 or `-errno`, which in the bits
/// from 16 on says which of the settings' mounts could not be made, from 1 on.
///
/// # Safety
/// `params` is the record that the host half filled in.
pub unsafe extern "C" fn boot(params: *const BootParams) -> i64 {
    // SAFETY: by the caller's promise.
    match unsafe { assemble(&*params) } {
        Ok(()) => 0,
        Err(e) => -(i64::from(mounts::failed()) << 16 | i64::from(e.raw())),
    }
}

/// The supervisor's slot, before any lock is taken on it.
fn own_slot() {
    let slot: &SlotHeader = arch::slot();
    slot.canary.store(CANARY, SeqCst);
    slot.place.store(place::KERNEL, SeqCst);
    slot.stack_top.store(frame::stack_top(slot), SeqCst);
}

/// # Safety
/// As for [`boot`].
unsafe fn assemble(params: &BootParams) -> Result {
    own_slot();
    arena::init(0);
    crate::sync::init();
    crate::mm::space::init();
    crate::task::futex::init();
    crate::mm::user::set_grow(crate::task::memory::grow);
    window::set(params.window_fd, params.proc_fd);
    window::set_broker(params.broker_fd);
    window::set_naming(params.naming != 0);
    panic::set_doorbell(params.doorbell_fd);
    let pid = process::own_pid();
    process::set_supervisor(pid);
    let slot = slots::alloc()?;
    slot.host_tid.store(pid as u32, SeqCst);
    slot.host_tgid.store(pid as u32, SeqCst);
    // SAFETY: the host half says where its encoded settings lie.
    let config = unsafe { core::slice::from_raw_parts(params.config, params.config_len) };
    let config: Config = postcard::from_bytes(config).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the host half passes the address of a `sock_fprog`.
    let filter = unsafe { keep_filter(params.filter) };
    let _ = SETUP.set(Box::new(Setup { filter }));
    zygote::set_enter(entry::start);
    if config.rewrite {
        trap::rewrite::enable();
    }
    sched::remember_affinity(config.cpus);
    sched::remember_name(config.name.as_bytes());
    // It has enough to do until there is a program for it.
    let alone = sched::alone();
    let first = spawn(first_main)?;
    if alone {
        sched::send_away(first as u32);
    }
    random::seed(&config.seed);
    host_time::set_vdso(params.vdso[0]);
    time::set_wall_clock_ahead(config.clock_ahead);
    time::vdso::install(params.vdso[0], params.vdso[3])?;
    ring::init(config.log_level, config.log_fd);
    if let Some(why) = &config.refused_cache {
        log::warn!("{why}");
    }
    set_memory(config.memory)?;
    if config.pids != 0 {
        kernel().set_task_limit(config.pids);
    }
    loader::set_hardware(params.hwcap, 0, params.min_sigstack);
    if config.rewrite {
        text::set_cache(config.text_cache);
    }
    zygote::set_mother_wanted(mother_wanted);
    clone::set_child_main(entry::CHILD_MAIN);
    net::ns::init(config.net);
    proc::set_network(&NETWORK);
    proc::set_ipc(&IPC);
    ipc::mqueue::set_deliver(net::netlink::deliver);
    crate::sync::waiting::set_attend(crate::task::work::attend);
    crate::task::session::set_of_file(hostfd::terminal_of);
    crate::task::park::set_make_whole(entry::fast::make_whole);
    let fs = mounts::assemble(&config)?;
    if !config.root_writable {
        mounts::name_hosts(&fs.root(), config.hostname.as_bytes(), &config.hosts);
    }
    channel::init(fs, &config);
    net::outward::init(&config)?;
    exit::await_endings(MANY);
    if config.memory != 0 {
        budget::set(config.memory);
    }
    if let Some(calls) = &config.strace {
        strace::init(calls, config.strace_fd);
    }
    log::info!("kernel at {:#x}", params.base);
    Ok(())
}

/// Where `/proc` asks about the network.
static NETWORK: proc::Network =
    proc::Network { text: net::proc::text, setting: net::proc::setting, set: net::proc::set_setting };

/// Where `/proc` asks about IPC.
static IPC: proc::Ipc = proc::Ipc { text: ipc::proc::text, setting: ipc::proc::setting, set: ipc::proc::set };

/// Copies the filter into the heap, where the mother finds it when nothing else is left.
///
/// # Safety
/// `at` is the address of a `sock_fprog`.
unsafe fn keep_filter(at: u64) -> (u64, u16) {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const u64,
    }
    // SAFETY: by the caller's promise; an instruction is eight bytes.
    let copy: Vec<u64> = unsafe {
        let program = &*(at as *const Program);
        (0..usize::from(program.len)).map(|i| program.filter.add(i).read_unaligned()).collect()
    };
    let kept = copy.leak();
    (kept.as_ptr() as u64, kept.len() as u16)
}

fn spawn(main: process::Start) -> Result<i32> {
    let slot = slots::alloc()?;
    let stack = frame::zygote_stack(slot);
    mem::forking_the_window(|| process::clone(CloneKind::Mother, slot, stack, main, 0, None))
        .inspect(|&host_pid| slots::register(slot, host_pid as u32))
        .inspect_err(|_| slots::free_unused(slot))
}

/// Starts the mother unless there is one: 0 or `-errno`.
pub extern "C" fn spawn_mother() -> i64 {
    let mother = MOTHER.load(SeqCst);
    if mother != 0 && !process::pid_has_died(mother as u32) {
        return 0;
    }
    match spawn(mother_main) {
        Ok(pid) => {
            MOTHER.store(pid, SeqCst);
            0
        }
        Err(e) => {
            zygote::no_mother();
            -i64::from(e.raw())
        }
    }
}

/// A zygote found nobody to make it.
fn mother_wanted() {
    if process::is_supervisor() {
        spawn_mother();
    } else {
        channel::push_event(Event::Mother);
    }
}

extern "C" fn first_main(_: u64) -> ! {
    become_guest();
    zygote::first()
}

extern "C" fn mother_main(_: u64) -> ! {
    become_guest();
    zygote::mother_loop()
}

/// From a copy of the supervisor to a host process with nothing but the window, behind the filter.
fn become_guest() {
    process::settle(true);
    process::leave_session();
    sched::confine();
    match SETUP.get() {
        Some(setup) => trap::install(setup),
        None => panic::panic(format_args!("a host process was started before the kernel had booted")),
    }
}

/// Serves one request; see [`channel::serve`].
///
/// # Safety
/// Both buffers are the supervisor's, of these sizes.
pub unsafe extern "C" fn control(req: *const u8, req_len: usize, resp: *mut u8, resp_cap: usize) -> i64 {
    // SAFETY: by the caller's promise.
    let (req, resp) =
        unsafe { (core::slice::from_raw_parts(req, req_len), core::slice::from_raw_parts_mut(resp, resp_cap)) };
    channel::serve(req, resp)
}

/// A host process has ended.
pub extern "C" fn reaped(host_pid: i32, status: i32) {
    let mother = host_pid == MOTHER.load(SeqCst);
    if mother && status & 0x7f != linux::SIGKILL as i32 {
        panic::set_message(format_args!("the mother of all guest processes died (host wait status {status:#x})"));
        return;
    }
    exit::reaped(host_pid as u32, status);
    if mother {
        MOTHER.store(0, SeqCst);
    }
    if status & 0x7f == linux::SIGKILL as i32 && MOTHER.load(SeqCst) == 0 {
        zygote::mother_lost();
    }
}

/// So many ended programs make a sandbox one that makes processes.
const MANY: u64 = 4;
/// After how many more endings huge pages are asked for again if the host cannot give them.
static HUGE_PAGES_WAIT: AtomicU64 = AtomicU64::new(1);

/// Asks for huge pages where processes come and go.
fn consider_huge_pages() {
    let Some(so_far) = exit::awaited_endings() else { return };
    let wait = HUGE_PAGES_WAIT.load(SeqCst);
    let more = if use_huge_pages() {
        64 * MANY
    } else {
        // A page that somebody uses at this very moment is in the way, and will not be later.
        HUGE_PAGES_WAIT.store(2 * wait, SeqCst);
        wait
    };
    exit::await_endings(so_far + more);
}

/// A forked child faults the kernel's memory in again, page by page, and most of it lies together: where
/// many processes are made, huge pages make one fault of these. Of the supervisor, off everybody's path.
/// Whether the host gave all.
fn use_huge_pages() -> bool {
    use crate::host::mem::{HUGE, collapse};
    let (start, end) = arena::used();
    let start = start / HUGE * HUGE;
    // Nearly all of it is in the first one; a further one costs memory unless it is full.
    let full = arena::stats().taken / HUGE;
    let whole = ((end - start) / HUGE).min(full).clamp(1, 8) * HUGE;
    let slots = arch::slot::window() + crate::abi::layout::SLOTS;
    let mut all = true;
    for (at, len) in [(start, whole), (slots, HUGE)] {
        if let Err(e) = collapse(at, len) {
            log::debug!("no huge pages at {at:#x}: {e}");
            all = false;
        }
    }
    all
}

/// What the supervisor has to do whenever it wakes: runs the timers that are due; the next deadline, on the host's
/// monotonic clock.
pub extern "C" fn timer() -> u64 {
    consider_huge_pages();
    net::outward::run();
    let next = time::timer::run();
    crate::task::async_io::run();
    crate::task::session::run_hang_ups();
    host_time::host_deadline(next)
}

/// An armed host descriptor became ready.
pub extern "C" fn host_ready(fd: i32, events: u32) {
    crate::sync::polled::ready(fd, events);
    crate::task::async_io::run();
    crate::task::session::run_hang_ups();
}

/// Takes an event.
///
/// # Safety
/// The buffer is the supervisor's, of this size.
pub unsafe extern "C" fn next_event(buf: *mut u8, cap: usize) -> i64 {
    // SAFETY: by the caller's promise.
    channel::next_event(unsafe { core::slice::from_raw_parts_mut(buf, cap) })
}

/// Bounds what files in memory and the kernel take together, in bytes; 0: half of the host's memory. The kernel's heap
/// is at most half of it.
fn set_memory(bytes: u64) -> Result {
    let half = sched::sysinfo()?[4] / 2;
    let heap = if bytes == 0 { arena::DEFAULT_LIMIT.min(half / 2) } else { bytes / 2 };
    memfile::set_limit(if bytes == 0 { half } else { bytes });
    arena::set_limit(heap.max(1));
    Ok(())
}
