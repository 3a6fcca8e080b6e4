//! The kernel window: one sparse memory file, mapped at one random base.
//!
//! Between the mapped parts (and around them) nothing is mapped. That guards as well as `PROT_NONE`
//! mappings would, since the kernel picks every address of its guests and never one in the window,
//! and it saves each fork 2 us per guard.

use crate::sandbox::error::{Error, Result};
use drupe_kernel::abi::control::Naming;
use drupe_kernel::abi::layout;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

const PAGE: u64 = 4096;

/// Places that are tried in each range, evenly spread.
const TRIES: u64 = 64;

/// The window of this sandbox.
pub struct Window {
    /// Its base address.
    pub base: u64,
    file: OwnedFd,
}

impl AsFd for Window {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Window {
    /// Makes the memory file and reserves the address range.
    ///
    /// # Errors
    /// Limits of the host process that are too small; a host without memfd_create.
    pub fn new(random: [u8; 8]) -> Result<Window> {
        let file = memory_file()?;
        if let Err(e) =
            File::from(file.try_clone().map_err(|e| Error::host("copy a descriptor", e))?).set_len(layout::END)
        {
            return Err(match e.raw_os_error() {
                Some(libc::EFBIG) => {
                    Error::Unsupported("files are limited to too small a size; raise `ulimit -f`".into())
                }
                _ => Error::host("size the kernel's memory file", e),
            });
        }
        for range in [layout::BASE_RANGE, layout::BASE_FALLBACK] {
            let choices = (range.end - range.start) / layout::BASE_ALIGN;
            let mut pick = u64::from_le_bytes(random) % choices;
            for _ in 0..TRIES {
                let base = range.start + pick * layout::BASE_ALIGN;
                match map(base, layout::END + layout::GUARD, libc::PROT_NONE, None) {
                    Ok(()) => {
                        unmap(base, layout::END + layout::GUARD);
                        return Ok(Window { base, file });
                    }
                    Err(e) if e.raw_os_error() == Some(libc::EEXIST) => pick = (pick + choices / TRIES + 1) % choices,
                    Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => {
                        return Err(Error::Unsupported(
                            "address space is limited too tightly; raise `ulimit -v`".into(),
                        ));
                    }
                    Err(e) => return Err(Error::host("reserve address space", e)),
                }
            }
        }
        Err(Error::Unsupported("no free range of addresses for the kernel".into()))
    }

    /// A window that was saved, at the address that it had.
    ///
    /// # Errors
    /// Something is mapped there in this process.
    pub fn at(base: u64, file: OwnedFd) -> Result<Window> {
        match map(base, layout::END + layout::GUARD, libc::PROT_NONE, None) {
            Ok(()) => {
                unmap(base, layout::END + layout::GUARD);
                Ok(Window { base, file })
            }
            Err(e) => Err(Error::host(format!("have the kernel's memory at {base:#x}, where it was"), e)),
        }
    }

    /// Maps everything behind the image: the vDSO's pages, and heap, slots and memory file as one.
    ///
    /// # Errors
    /// The host's.
    pub fn map_data(&self) -> Result {
        let (rx, rw) = (libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
        for (start, end, protection) in
            [(layout::VDSO, layout::VDSO + layout::VDSO_MAX, rx), (layout::HEAP, layout::END, rw)]
        {
            map(self.base + start, end - start, protection, Some((&self.file, start)))
                .map_err(|e| Error::host("map the kernel's memory", e))?;
        }
        Ok(())
    }

    /// Puts [`Naming::BENEATH`] where nobody, whoever owns the gate, can change it or put something else (`mseal(2)`).
    ///
    /// # Errors
    /// A host that cannot do that, or that cannot look at a descriptor without a name: Linux before 6.11.
    pub fn seal_naming(&self) -> io::Result<()> {
        let at = self.base + layout::NAMING;
        let (none, flags) = (ptr::null::<libc::c_char>(), libc::AT_EMPTY_PATH);
        // SAFETY: a page of the window's that was mapped just now, and a record on this stack.
        unsafe {
            let mut out = std::mem::zeroed::<libc::statx>();
            Errno::result(libc::statx(self.fd(), none, flags, libc::STATX_BASIC_STATS, &raw mut out))?;
            map(at, PAGE, libc::PROT_READ | libc::PROT_WRITE, None)?;
            (at as *mut Naming).write(Naming::BENEATH);
            let page = at as *mut libc::c_void;
            Errno::result(libc::mprotect(page, PAGE as usize, libc::PROT_READ))
                .and_then(|_| Errno::result(libc::syscall(libc::SYS_mseal, page, PAGE, 0)))
                .inspect_err(|_| unmap(at, PAGE))?;
        }
        Ok(())
    }

    /// Unmaps all of it: the kernel is there no more. A sealed page stays.
    pub fn unmap(&self) {
        let after = layout::NAMING + PAGE;
        unmap(self.base, layout::NAMING);
        unmap(self.base + after, layout::END + layout::GUARD - after);
    }

    /// The memory file's descriptor; it stays open as long as the supervisor lives.
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }
}

/// `memfd_create`, executable where the host makes a difference.
fn memory_file() -> Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    for flags in [libc::MFD_CLOEXEC | MFD_EXEC, libc::MFD_CLOEXEC] {
        // SAFETY: a constant string and plain flags.
        let fd = unsafe { libc::memfd_create(c"drupe".as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: made just now.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        let e = io::Error::last_os_error();
        if e.raw_os_error() != Some(libc::EINVAL) && flags & MFD_EXEC == 0 {
            return Err(match e.raw_os_error() {
                Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => {
                    Error::Unsupported(format!("memfd_create is refused ({e})"))
                }
                _ => Error::host("make the kernel's memory file", e),
            });
        }
    }
    Err(Error::Unsupported("memfd_create is refused".into()))
}

/// Maps `len` bytes at `at`, where nothing may be mapped yet.
fn map(at: u64, len: u64, protection: i32, file: Option<(&OwnedFd, u64)>) -> io::Result<()> {
    let (kind, fd, offset) = match file {
        Some((fd, offset)) => (libc::MAP_SHARED, fd.as_raw_fd(), offset as i64),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
    };
    let flags = kind | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
    let got = unsafe { libc::mmap(at as *mut libc::c_void, len as usize, protection, flags, fd, offset) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if got as u64 != at {
        unmap(got as u64, len);
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(())
}

fn unmap(at: u64, len: u64) {
    // SAFETY: only called on what `map` has just mapped and nobody has used, or on what nobody uses any more.
    unsafe { libc::munmap(at as *mut libc::c_void, len as usize) };
}
