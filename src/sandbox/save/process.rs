//! What the host shows of the memory of a sandbox's processes.

use super::error::{SaveError, Saved};
use super::format::PAGE;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// A file as mappings name it: major and minor number of its device, and inode; zeros for memory of no file.
pub type FileKey = (u32, u32, u64);

/// A mapping, as `/proc/PID/maps` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    pub shared: bool,
    pub offset: u64,
    pub file: FileKey,
    /// As the host writes it.
    pub name: String,
}

/// A process of the sandbox.
pub struct Process {
    pid: u32,
    memory: File,
    pages: File,
}

/// Pages that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    pub start: u64,
    pub end: u64,
}

#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    all: u64,
    any: u64,
    wanted: u64,
}

/// `struct page_region` (`linux/fs.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, Scan);

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// Regions that are asked for at a time.
const BATCH: usize = 1024;

impl Process {
    /// A process that must be a child of `parent`: the numbers come out of the sandbox.
    ///
    /// # Errors
    /// It is none; the host does not show it.
    pub fn open(pid: u32, parent: u32) -> Saved<Process> {
        let failed = |e| SaveError::host(format!("look at the host process {pid}"), e);
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
        let (memory, pages) = (open("mem").map_err(failed)?, open("pagemap").map_err(failed)?);
        // Only now: the files stay those of the process that this is about.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(failed)?;
        let ppid = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        if ppid != Some(parent) {
            return Err(SaveError::Unsavable(format!("the host process {pid} is none of the sandbox's")));
        }
        Ok(Process { pid, memory, pages })
    }

    /// Its mappings outside of `window`.
    ///
    /// # Errors
    /// The host's.
    pub fn mappings(&self, window: std::ops::Range<u64>) -> Saved<Vec<Mapping>> {
        let failed = |e| SaveError::host(format!("read the mappings of the host process {}", self.pid), e);
        let text = std::fs::read(format!("/proc/{}/maps", self.pid)).map_err(failed)?;
        let text = String::from_utf8_lossy(&text);
        let all: Option<Vec<Mapping>> = text.lines().map(parse).collect();
        let mut all = all.ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidData)))?;
        all.retain(|m| (m.end <= window.start || m.start >= window.end) && m.name != "[vsyscall]");
        Ok(all)
    }

    /// Runs of pages in `start..end` that are the process's own: neither a file's nor zeros that were never written to.
    ///
    /// # Errors
    /// The host's.
    pub fn own_pages(&self, start: u64, end: u64) -> Saved<Vec<Present>> {
        let mut found = Vec::new();
        let mut from = start;
        let mut regions = vec![Region::default(); BATCH];
        while from < end {
            let mut scan = Scan {
                size: size_of::<Scan>() as u64,
                start: from,
                end,
                regions: regions.as_mut_ptr() as u64,
                regions_len: BATCH as u64,
                any: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                wanted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                ..Scan::default()
            };
            // SAFETY: the record says how large it is, and where and how large the list of regions.
            let count = match unsafe { pagemap_scan(self.pages.as_raw_fd(), &raw mut scan) } {
                Ok(count) => count as usize,
                Err(nix::Error::ENOTTY) => return self.own_pages_listed(start, end),
                Err(e) => {
                    return Err(SaveError::host(
                        format!("look at the pages of the host process {}", self.pid),
                        e.into(),
                    ));
                }
            };
            for r in regions.iter().take(count).filter(|r| r.categories == 0) {
                add(&mut found, r.start, r.end);
            }
            // The host's `walk_end` may lie before regions that it has told of.
            let told = regions.iter().take(count).map(|r| r.end).max().unwrap_or(0);
            let next = scan.walk_end.max(told);
            if next <= from {
                break;
            }
            from = next;
        }
        Ok(found)
    }

    /// The same of a host before 6.7.
    fn own_pages_listed(&self, start: u64, end: u64) -> Saved<Vec<Present>> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE: u64 = 1 << 61;
        let mut found = Vec::new();
        let mut words = vec![0u8; 64 << 10];
        let mut at = start;
        while at < end {
            let want = words.len().min(((end - at) / PAGE * 8) as usize);
            self.pages
                .read_exact_at(&mut words[..want], at / PAGE * 8)
                .map_err(|e| SaveError::host(format!("look at the pages of the host process {}", self.pid), e))?;
            for (i, word) in words[..want].as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                let page = at + i as u64 * PAGE;
                if word & (PRESENT | SWAPPED) != 0 && word & FILE == 0 {
                    add(&mut found, page, page + PAGE);
                }
            }
            at += want as u64 / 8 * PAGE;
        }
        Ok(found)
    }

    /// Reads its memory; less at the end of what can be read.
    ///
    /// # Errors
    /// The host's.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.memory.read_at(bytes, at)
    }

    /// Its pid, for messages.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// A copy of a descriptor of another process's.
///
/// # Errors
/// The host's.
pub fn copy_of(pid: u32, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; descriptors made just now are ours.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        let process = OwnedFd::from_raw_fd(process);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) as i32;
        if copy < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(copy)) }
    }
}

/// Device and inode as mappings of `file` name them, which is not what `stat(2)` says on every file system.
///
/// # Errors
/// The host's.
pub fn key_of(file: &File) -> io::Result<FileKey> {
    let (len, prot) = (NonZeroUsize::MIN, ProtFlags::PROT_NONE);
    // SAFETY: a new mapping, wherever there is room, that nobody looks into.
    let at = unsafe { mmap(None, len, prot, MapFlags::MAP_PRIVATE, file, 0) }?;
    let start = at.as_ptr() as u64;
    let text = std::fs::read("/proc/self/maps").map(|t| String::from_utf8_lossy(&t).into_owned());
    // SAFETY: as above; its whole page goes.
    unsafe { munmap(at, len.get()) }?;
    let found = text?.lines().filter_map(parse).find(|m| m.start == start);
    found.map(|m| m.file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn add(found: &mut Vec<Present>, start: u64, end: u64) {
    match found.last_mut() {
        Some(last) if last.end == start => last.end = end,
        _ => found.push(Present { start, end }),
    }
}

fn parse(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut fields = rest.splitn(5, ' ');
    let (perms, offset, dev, inode) = (fields.next()?.as_bytes(), fields.next()?, fields.next()?, fields.next()?);
    let name = unescape(fields.next().unwrap_or_default().trim_start());
    let hex = |s: &str| u64::from_str_radix(s, 16).ok();
    let (major, minor) = dev.split_once(':')?;
    let bit = |i: usize, c: u8, value: u32| if perms.get(i) == Some(&c) { value } else { 0 };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        prot: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4),
        shared: perms.get(3) == Some(&b's'),
        offset: hex(offset)?,
        file: (hex(major)? as u32, hex(minor)? as u32, inode.parse().ok()?),
        name,
    })
}

/// The host writes a line's end in a name as `\012`.
fn unescape(name: &str) -> String {
    name.replace("\\012", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "7f00-7f01000 r-xs 00002000 fe:01 1234                       /usr/lib/a b\\012c (deleted)";
        let want = Mapping {
            start: 0x7f00,
            end: 0x7f0_1000,
            prot: 5,
            shared: true,
            offset: 0x2000,
            file: (0xfe, 1, 1234),
            name: "/usr/lib/a b\nc (deleted)".into(),
        };
        assert_eq!(parse(line), Some(want));
        assert_eq!(parse("1000-2000 rw-p 00000000 00:00 0 ").map(|m| m.name), Some(String::new()));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn written_pages_are_found() {
        let len = 6200 * PAGE as usize;
        let mut memory = vec![0u8; len + PAGE as usize];
        let first = (memory.as_ptr() as u64).next_multiple_of(PAGE);
        let skip = (first - memory.as_ptr() as u64) as usize;
        // More runs than are asked for at a time.
        let runs = (0..3000u64).map(|i| first + (100 + 2 * i) * PAGE);
        for page in [3, 4, 9] {
            memory[skip + page * PAGE as usize] = 1;
        }
        // SAFETY: no arguments.
        let parent = unsafe { libc::getppid() } as u32;
        let me = Process::open(std::process::id(), parent).expect("it is shown");
        let holds =
            |found: &[Present], page: u64| found.iter().any(|p| (p.start..p.end).contains(&(first + page * PAGE)));
        for found in [me.own_pages(first, first + 60 * PAGE), me.own_pages_listed(first, first + 60 * PAGE)] {
            let found = found.expect("told");
            assert!([3, 4, 9].iter().all(|&page| holds(&found, page)));
        }
        for at in runs.clone() {
            let at = (at - first) as usize + skip;
            memory[at] = 1;
        }
        let found = me.own_pages(first, first + 6100 * PAGE).expect("told");
        assert!(found.windows(2).all(|w| w[0].end <= w[1].start), "in order, once");
        assert!(runs.clone().all(|at| found.iter().any(|p| (p.start..p.end).contains(&at))));
        let mut byte = [0; 1];
        me.read(first + 3 * PAGE, &mut byte).expect("readable");
        assert_eq!(byte, [1]);
        assert!(Process::open(std::process::id(), parent + 1).is_err());
    }
}
