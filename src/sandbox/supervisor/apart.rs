//! Starting a supervisor as a process of its own, at a cost that does not depend on what the holder is.
//!
//! A fork copies the page tables of the holder, which takes 20 us for each MiB that it has touched, and as long again at the
//! supervisor's end. So the holder's program is executed once more: the host makes that process without a copy
//! (`posix_spawn(3)`). In it a constructor of this library, which runs before the program's `main`, finds the arguments
//! that say so, and never returns. The settings come in a memory file. Where this library is a shared object, the library
//! itself is executed instead, by the dynamic linker: its entry point does what the constructor does.
//!
//! A holder that was started with privileges that it may have given up since (`AT_SECURE`) would get them back so, and
//! forks; as one does whose constructors have not run, or whose shared object has been replaced by another file.

use super::{Plan, child, jail, porter};
use crate::sandbox::image;
use drupe_kernel::abi::control::Config;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use std::{mem, ptr};

/// The first argument of a supervisor's process; the build and the settings' descriptor follow.
const ARGUMENT: &CStr = c"\x01drupe-supervisor";

/// The constructor has run in this program, so it will when the program is executed again.
static CONSTRUCTED: AtomicBool = AtomicBool::new(false);

#[cfg(target_env = "gnu")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(i32, *const *const libc::c_char) = constructor;

/// What goes from the holder to the supervisor; descriptors keep their numbers.
#[derive(Serialize, Deserialize)]
struct Sent {
    config: Config,
    keep: Vec<RawFd>,
    text_cache: Option<Vec<u8>>,
    jail: u8,
    read: Vec<RawFd>,
    write: Vec<RawFd>,
    timeout: Option<Duration>,
    confined: bool,
    perf_map: bool,
    saved: Option<super::Revived>,
    porter: Option<(Vec<porter::Rule>, [RawFd; 3])>,
    socket: RawFd,
    holder: libc::pid_t,
}

/// Tells one build of this library from others: where it has its parts, and how large the kernel is.
fn build() -> u64 {
    let image = image::bytes();
    (constructor as *const () as u64).wrapping_sub(image.as_ptr() as u64) ^ (image.len() as u64) << 32
}

const JAILS: [jail::Jail; 4] = [jail::Jail::Auto, jail::Jail::Strict, jail::Jail::Namespaces, jail::Jail::Off];

/// Runs before `main`, with its arguments (the GNU C library's constructors get them).
#[cfg_attr(not(target_env = "gnu"), allow(dead_code))]
extern "C" fn constructor(argc: i32, argv: *const *const libc::c_char) {
    CONSTRUCTED.store(true, Relaxed);
    if argc != 4 {
        return;
    }
    // SAFETY: `argc` strings of the program's.
    let [first, made, fd] = [1, 2, 3].map(|i| unsafe { CStr::from_ptr(*argv.add(i)) });
    if first != ARGUMENT {
        return;
    }
    let number = |s: &CStr| s.to_str().ok().and_then(|s| s.parse::<u64>().ok());
    let sent = match (number(made), number(fd)) {
        (Some(number), Some(fd)) if number == build() => receive(fd as RawFd),
        _ => None,
    };
    if let Some((plan, socket, holder)) = sent {
        child(plan, socket, holder);
    }
    // The holder sees that nobody is at the other end of its socket.
    // SAFETY: ends the process, in which nothing has begun.
    unsafe { libc::_exit(125) }
}

/// Where the shared library begins when it is executed: the arguments lie on the stack.
#[cfg(target_env = "gnu")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn drupe_supervisor_start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "lea rsi, [rsp + 8]",
        "and rsp, -16",
        "call {executed}",
        "ud2",
        executed = sym executed,
    )
}

/// As [`constructor`]; with other arguments there is nothing to be done.
#[cfg(target_env = "gnu")]
extern "C" fn executed(argc: i32, argv: *const *const libc::c_char) -> ! {
    constructor(argc, argv);
    // SAFETY: ends the process, in which nothing has begun.
    unsafe { libc::_exit(125) }
}

fn receive(fd: RawFd) -> Option<(Plan, OwnedFd, libc::pid_t)> {
    let owned = |fd: RawFd| {
        // SAFETY: open, and this process has just begun: it is nobody's.
        unsafe { (libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0).then(|| OwnedFd::from_raw_fd(fd)) }
    };
    let mut bytes = Vec::new();
    File::from(owned(fd)?).read_to_end(&mut bytes).ok()?;
    let sent: Sent = postcard::from_bytes(&bytes).ok()?;
    let keep = sent.keep.into_iter().map(owned).collect::<Option<Vec<_>>>()?;
    let given = jail::Reach { read: sent.read, write: sent.write, ..jail::Reach::default() };
    let text_cache = sent.text_cache.map(|path| PathBuf::from(OsStr::from_bytes(&path)));
    let jail = *JAILS.get(usize::from(sent.jail))?;
    let (timeout, confined, perf_map) = (sent.timeout, sent.confined, sent.perf_map);
    let saved = sent.saved;
    let porter = match sent.porter {
        Some((rules, [line, control, inner])) => {
            Some(porter::Plan { rules, line: owned(line)?, control: owned(control)?, inner: owned(inner)? })
        }
        None => None,
    };
    let plan = Plan { config: sent.config, keep, text_cache, jail, given, timeout, confined, perf_map, saved, porter };
    Some((plan, owned(sent.socket)?, sent.holder))
}

/// What is executed.
enum Program {
    /// The holder's program.
    Own,
    /// This library, by the dynamic linker of the holder.
    Library { linker: CString, library: CString },
}

/// The file that the object at an address was loaded from, and where it was loaded.
fn loaded(at: *const ()) -> Option<(CString, u64)> {
    let mut info = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: a record on this stack.
    let info = unsafe { (libc::dladdr(at.cast(), info.as_mut_ptr()) != 0).then(|| info.assume_init())? };
    // SAFETY: a string that lasts as long as the object is loaded.
    Some((unsafe { CStr::from_ptr(info.dli_fname) }.to_owned(), info.dli_fbase as u64))
}

/// What is to be executed; `None` where that would not lead here.
fn program() -> Option<Program> {
    // SAFETY: reads the auxiliary vector.
    let [secure, headers, linker] =
        [libc::AT_SECURE, libc::AT_PHDR, libc::AT_BASE].map(|key| unsafe { libc::getauxval(key) });
    if !CONSTRUCTED.load(Relaxed) || secure != 0 {
        return None;
    }
    let (library, base) = loaded(constructor as *const ())?;
    // The host has mapped the program headers with the program.
    if base == headers & !0xfff {
        return Some(Program::Own);
    }
    // A program that the dynamic linker was run with has none.
    let (linker, _) = (linker != 0).then(|| loaded(linker as *const ()))??;
    let usable = [&linker, &library].iter().all(|name| name.to_bytes().starts_with(b"/")) && is_mapped(&library, base);
    usable.then_some(Program::Library { linker, library })
}

/// Whether a path still means the file that is mapped at an address.
fn is_mapped(path: &CStr, at: u64) -> bool {
    /// Device and inode of this library's file.
    static MAPPED: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    let mapped = MAPPED.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let line = maps.lines().find(|line| line.starts_with(&format!("{at:x}-")))?;
        let mut fields = line.split_ascii_whitespace().skip(3);
        let (major, minor) = fields.next()?.split_once(':')?;
        let [major, minor] = [major, minor].map(|n| u32::from_str_radix(n, 16).ok());
        Some((libc::makedev(major?, minor?), fields.next()?.parse().ok()?))
    });
    let there = std::fs::metadata(OsStr::from_bytes(path.to_bytes()));
    mapped.is_some_and(|mapped| there.is_ok_and(|m| (m.dev(), m.ino()) == mapped))
}

/// Starts the supervisor by executing this program; `None` where that cannot be, and nothing has happened. It must run on
/// a thread that lives as long as the supervisor is to live.
pub fn spawn(plan: &Plan, socket: &OwnedFd, holder: libc::pid_t) -> Option<libc::pid_t> {
    let (path, mut args) = match program()? {
        Program::Own => (c"/proc/self/exe".to_owned(), vec![c"drupe".to_owned()]),
        Program::Library { linker, library } => (linker, vec![c"drupe".to_owned(), library]),
    };
    let keep: Vec<RawFd> = plan.keep.iter().map(AsRawFd::as_raw_fd).collect();
    let sent = Sent {
        config: plan.config.clone(),
        keep,
        text_cache: plan.text_cache.as_ref().map(|p| p.as_os_str().as_bytes().to_vec()),
        jail: JAILS.iter().position(|&j| j == plan.jail)? as u8,
        read: plan.given.read.clone(),
        write: plan.given.write.clone(),
        timeout: plan.timeout,
        confined: plan.confined,
        perf_map: plan.perf_map,
        saved: plan.saved.clone(),
        porter: plan
            .porter
            .as_ref()
            .map(|p| (p.rules.clone(), [&p.line, &p.control, &p.inner].map(AsRawFd::as_raw_fd))),
        socket: socket.as_raw_fd(),
        holder,
    };
    let file = settings(&postcard::to_stdvec(&sent).ok()?)?;
    args.push(ARGUMENT.to_owned());
    args.push(CString::new(build().to_string()).ok()?);
    args.push(CString::new(file.as_raw_fd().to_string()).ok()?);
    let inherit = plan.descriptors().into_iter().chain([socket.as_raw_fd(), file.as_raw_fd()]);
    spawned(&path, &args, inherit)
}

/// A memory file that holds `bytes`.
fn settings(bytes: &[u8]) -> Option<File> {
    // SAFETY: a name; a descriptor made just now is ours.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"drupe-settings".as_ptr(), libc::MFD_CLOEXEC);
        (fd > 2).then(|| File::from_raw_fd(fd))?
    };
    file.write_all(bytes).ok()?;
    file.rewind().ok()?;
    Some(file)
}

/// Executes a program with these arguments and this process's environment.
fn spawned(path: &CStr, args: &[CString], inherit: impl Iterator<Item = RawFd>) -> Option<libc::pid_t> {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let argv: Vec<_> = args.iter().map(|a| a.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut actions = mem::MaybeUninit::uninit();
    let mut pid = 0;
    // SAFETY: made here, used and destroyed; all strings outlive the call.
    unsafe {
        if libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) != 0 {
            return None;
        }
        let mut told = true;
        for fd in inherit {
            // A copy of a descriptor to itself is inherited.
            told &= libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), fd, fd) == 0;
        }
        let made = told
            && libc::posix_spawn(&raw mut pid, path.as_ptr(), actions.as_ptr(), ptr::null(), argv.as_ptr(), environ)
                == 0;
        libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
        made.then_some(pid)
    }
}
