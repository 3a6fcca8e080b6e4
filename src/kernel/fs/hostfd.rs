//! Descriptors of the host that were handed in: standard input, output and error.
//!
//! Reads and writes go through the gate and block there, interruptibly. O_NONBLOCK is never set on
//! the host's description, because the user's shell shares it: a non-blocking guest polls first.

use crate::abi::saved::HandedIn;
use crate::abi::{Errno, Result, SysError, SysResult, linux};
use crate::host::{HostFd, files};
use crate::mm::{HostRun, IoDst, IoSrc, MapWish, Mappable, Mapped, UserSlice};
use crate::sync::{Events, Level, Mutex, Polled, WaitQueue};
use crate::task::session::{self, Terminal};
use crate::tty::host::{self, HostTerminal};
use crate::tty::{job, pty};
use crate::vfs::inode::{SetAttr, Stat, StatFs};
use crate::vfs::state::{SharedState, StateRef};
use crate::vfs::{FileOps, FileType, HERE, Inode, OpCtx, OpenFile, Path, Whence, mount};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use hashbrown::HashMap;
use linux_raw_sys::ioctl;

/// Those that were handed in, by their descriptors.
static HANDED: Mutex<Option<HashMap<i32, Weak<HostFile>>>> = Mutex::new(Level::Leaf, None);

/// Requests that change a terminal: no background process may make them.
const CHANGES: [u32; 13] = [
    ioctl::TCSETS,
    ioctl::TCSETSW,
    ioctl::TCSETSF,
    ioctl::TCSETS2,
    ioctl::TCSETSW2,
    ioctl::TCSETSF2,
    ioctl::TCSETA,
    ioctl::TCSETAW,
    ioctl::TCSETAF,
    ioctl::TCSBRK,
    ioctl::TCSBRKP,
    ioctl::TCXONC,
    ioctl::TCFLSH,
];

/// A host file.
pub struct HostFile {
    fd: HostFd,
    kind: FileType,
    /// Which terminal it is.
    terminal: Option<Arc<HostTerminal>>,
    /// The offset is the host's: others share the description.
    seekable: AtomicBool,
    /// Which program it came with, and as which of its descriptors.
    place: [u32; 2],
    polled: Arc<Polled>,
}

struct HostInode(Arc<HostFile>, SharedState);
struct HostOps(Arc<HostFile>);

/// Every descriptor that was handed in and is open.
pub fn handed_in() -> Vec<HandedIn> {
    let all: Vec<_> = HANDED.lock().iter().flat_map(|m| m.values().filter_map(Weak::upgrade)).collect();
    all.iter().map(|f| HandedIn { fd: f.fd.raw(), program: f.place[0], number: f.place[1] }).collect()
}

/// Other descriptors have taken the place of those that were handed in.
pub fn restored() {
    let all: Vec<_> = HANDED.lock().iter().flat_map(|m| m.values().filter_map(Weak::upgrade)).collect();
    for file in all {
        file.seekable.store(files::lseek(file.fd.raw(), 0, linux::SEEK_CUR).is_ok(), SeqCst);
        file.polled.queue().wake_all();
    }
}

/// An open file description over the host descriptor `fd`, which comes with program number `program` as its descriptor
/// `number`. `place` is asked for the node that a
/// terminal of this name and these attributes has in the sandbox.
///
/// # Errors
/// The host's, when it cannot be looked at.
pub fn open(
    fd: HostFd,
    [program, number]: [u32; 2],
    place: impl FnOnce(&[u8], &Stat) -> Option<Path>,
) -> Result<Arc<OpenFile>> {
    let stat = super::memfs::host_stat(fd.raw())?;
    let kind = FileType::from_mode(stat.mode);
    let mut winsize = [0u8; 64];
    let tty = kind == FileType::Char && files::ioctl(fd.raw(), ioctl::TCGETS, winsize.as_mut_ptr() as u64).is_ok();
    let flags = files::get_flags(fd.raw())? & (3 | linux::O_APPEND | linux::O_NONBLOCK);
    let raw = fd.raw();
    let seekable = files::lseek(raw, 0, linux::SEEK_CUR).is_ok();
    let file = Arc::new(HostFile {
        fd,
        kind,
        terminal: tty.then(|| host::of_device(stat.rdev)),
        seekable: AtomicBool::new(seekable),
        place: [program, number],
        polled: Polled::new(raw),
    });
    HANDED.lock().get_or_insert_with(HashMap::new).insert(raw, Arc::downgrade(&file));
    let flags = flags & !linux::O_NONBLOCK;
    if let Some(node) = tty.then(|| place(&file.name(), &stat)).flatten() {
        let inode = node.inode().clone();
        return Ok(OpenFile::new(Box::new(HostOps(file)), inode, node, flags));
    }
    let inode: Arc<dyn Inode> = Arc::new(HostInode(file.clone(), SharedState::default()));
    let path = mount::detached_named(inode.clone(), "host", "");
    Ok(OpenFile::new(Box::new(HostOps(file)), inode, path, flags))
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if let Some(m) = HANDED.lock().as_mut() {
            m.remove(&self.fd.raw());
        }
    }
}

impl HostFile {
    /// What the host calls it now, which costs it more than to open most files.
    fn name(&self) -> Vec<u8> {
        let link = alloc::format!("thread-self/fd/{}", self.fd.raw());
        files::readlinkat(crate::host::window::proc_fd(), link.as_bytes()).unwrap_or_default()
    }

    fn ready_for(&self, events: Events) -> Result<bool> {
        let wanted = events | Events::ERR | Events::HUP;
        Ok(files::poll_now(self.fd.raw(), events.bits())? & wanted.bits() != 0)
    }
}

impl Inode for HostInode {
    fn stat(&self) -> Result<Stat> {
        super::memfs::host_stat(self.0.fd.raw())
    }
    fn file_type(&self) -> FileType {
        self.0.kind
    }
    fn shown_name(&self) -> Option<Vec<u8>> {
        Some(self.0.name())
    }
    fn set_attr(&self, _ctx: &OpCtx<'_>, attr: &SetAttr) -> Result {
        match attr.size {
            Some(size) => files::ftruncate(self.0.fd.raw(), size),
            // Mode and owner of the user's terminal and files are not the guest's to change.
            None => Err(Errno::EPERM),
        }
    }
    fn open(self: Arc<Self>, _ctx: &OpCtx<'_>, _flags: u32) -> Result<Box<dyn FileOps>> {
        Ok(Box::new(HostOps(self.0.clone())))
    }
    fn statfs(&self) -> Result<StatFs> {
        super::memfs::host_statfs(self.0.fd.raw())
    }
    fn state(&self) -> StateRef<'_> {
        StateRef::Shared(&self.1)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl FileOps for HostOps {
    fn read(&self, ctx: &OpCtx<'_>, file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let f = &*self.0;
        if let Some(terminal) = &f.terminal {
            session::check_background(ctx.tgid, ctx.tid, &**terminal, linux::SIGTTIN)?;
        }
        let Some((addr, len)) = dst.piece()? else { return Ok(0) };
        if file.nonblock() && !f.ready_for(Events::IN)? {
            return Err(Errno::EAGAIN.into());
        }
        let n = if f.seekable.load(SeqCst) && pos != HERE {
            files::pread(f.fd.raw(), addr, len, pos)?
        } else {
            files::read_blocking(f.fd.raw(), addr, len)?
        };
        dst.advance(n);
        Ok(n)
    }

    fn write(&self, _ctx: &OpCtx<'_>, file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        let f = &*self.0;
        let mut done = 0;
        while let Some((addr, len)) = src.next_piece(done)? {
            if file.nonblock() && !f.ready_for(Events::OUT)? {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN.into()) };
            }
            let put = if f.seekable.load(SeqCst) && pos != HERE {
                files::pwrite(f.fd.raw(), addr, len, pos.saturating_add(done as u64)).map_err(SysError::from)
            } else {
                files::write_blocking(f.fd.raw(), addr, len)
            };
            match put {
                Ok(n) => {
                    src.advance(n);
                    done += n;
                    if n < len {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn seek_to(&self, _file: &OpenFile, _whence: Whence, _offset: i64) -> Result<u64> {
        if self.0.seekable.load(SeqCst) { Err(Errno::EOPNOTSUPP) } else { Err(Errno::ESPIPE) }
    }

    fn host_seek(&self, whence: u32, offset: i64) -> Option<Result<u64>> {
        self.0.seekable.load(SeqCst).then(|| files::lseek(self.0.fd.raw(), offset, whence))
    }

    fn poll(&self) -> Events {
        let all = Events::IN | Events::OUT | Events::PRI | Events::RDHUP;
        files::poll_now(self.0.fd.raw(), all.bits()).map_or(Events::ERR, Events::from_bits_truncate)
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        if matches!(self.0.kind, FileType::Regular | FileType::Dir) {
            return None;
        }
        // Whoever asks for the queue is about to wait: the supervisor watches from now on.
        // For room only while there is none: else it would answer at once, again and again.
        let fd = self.0.fd.raw();
        let mut wanted = Events::IN | Events::PRI;
        if files::poll_now(fd, Events::OUT.bits()) == Ok(0) {
            wanted |= Events::OUT;
        }
        self.0.polled.arm(wanted);
        Some(self.0.polled.queue())
    }

    fn ioctl(&self, ctx: &OpCtx<'_>, file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        let fd = self.0.fd.raw();
        if let Some(terminal) = &self.0.terminal {
            let terminal: Arc<dyn Terminal> = terminal.clone();
            if let Some(outcome) = job::ioctl(ctx, file, &terminal, false, request, arg) {
                return outcome;
            }
            if request == ioctl::TIOCSTI {
                return Err(Errno::EIO.into());
            }
            if CHANGES.contains(&request) {
                job::check_change(ctx, &*terminal)?;
            }
        }
        // A pause that the terminal's line sends is as long as the host likes.
        let (request, arg) = if request == ioctl::TCSBRKP { (ioctl::TCSBRK, 0) } else { (request, arg) };
        // Requests by size and direction of their argument; the host reads and writes guest memory
        // that was checked.
        let size = match request {
            ioctl::TCGETS | ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => 36,
            ioctl::TCGETA | ioctl::TCSETA | ioctl::TCSETAW | ioctl::TCSETAF => 18,
            ioctl::TCGETS2 | ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => 44,
            ioctl::TIOCGWINSZ | ioctl::TIOCSWINSZ => 8,
            ioctl::FIONREAD | ioctl::TIOCOUTQ => 4,
            ioctl::TCSBRK | ioctl::TCXONC | ioctl::TCFLSH => 0,
            _ => return Err(Errno::ENOTTY.into()),
        };
        if self.0.terminal.is_none() && request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY.into());
        }
        if size > 0 {
            let probe: UserSlice<u8> = UserSlice::new(arg, size);
            probe.read_vec()?;
        }
        Ok(files::ioctl(fd, request, arg)?)
    }

    fn mappable(&self, _wish: &mut MapWish) -> Result<Mapped> {
        match self.0.kind {
            FileType::Regular => Ok(Some(Arc::new(HostMapping(self.0.clone())))),
            _ => Err(Errno::ENODEV),
        }
    }

    fn sync(&self, data_only: bool) -> SysResult<()> {
        Ok(files::sync(self.0.fd.raw(), data_only)?)
    }

    fn is_tty(&self) -> bool {
        self.0.terminal.is_some()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens the terminal with this device number on the host, if one of its descriptors was handed in.
///
/// # Errors
/// `ENXIO` when there is none, or none of its descriptors is left.
pub fn open_terminal(ctx: &OpCtx<'_>, device: u64, flags: u32) -> Result<Box<dyn FileOps>> {
    // Dropping one takes the lock again, so they are taken out first.
    let files: Vec<_> = HANDED.lock().iter().flat_map(|m| m.values()).filter_map(Weak::upgrade).collect();
    // To the host it is the same terminal whichever of its descriptors is used.
    let is_it = |f: &Arc<HostFile>| f.terminal.as_ref().is_some_and(|t| t.host_device == device);
    let found = files.into_iter().find(is_it).ok_or(Errno::ENXIO)?;
    if flags & linux::O_NOCTTY == 0
        && flags & 3 != 1
        && let Some(terminal) = &found.terminal
    {
        let terminal: Arc<dyn Terminal> = terminal.clone();
        session::claim_opened(ctx.tgid, &terminal);
    }
    Ok(Box::new(HostOps(found)))
}

/// The terminal that an open file is: the slave of a pty, or one of the host.
pub fn terminal_of(file: &OpenFile) -> Option<Arc<dyn Terminal>> {
    let host = file.ops.as_any().downcast_ref::<HostOps>().and_then(|ops| ops.0.terminal.clone());
    host.map(|t| -> Arc<dyn Terminal> { t }).or_else(|| pty::of_file(file))
}

struct HostMapping(Arc<HostFile>);

impl Mappable for HostMapping {
    fn run(&self, offset: u64, _len: u64, _shared_write: bool) -> Result<HostRun> {
        Ok(HostRun { fd: self.0.fd.raw(), offset, lasting: true })
    }
    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (0, 0, Vec::new())
    }
}
