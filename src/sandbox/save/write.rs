//! Writes the image of a sandbox that stands still.

use super::cpu::Features;
use super::error::{SaveError, Saved};
use super::format::{PAGE, Tag, Writer};
use super::parent::PageIndex;
use super::private::private;
use super::process::{FileKey, Mapping, Process};
use super::recipe::{self, FileNeed, Identity, Known, MemoryFile, Recipe};
use super::settings::Settings;
use super::{Build, KernelPart, Needs, Times};
use crate::sandbox::error::Result;
use crate::sandbox::save::settings::First;
use drupe_kernel::abi::layout;
use drupe_kernel::abi::saved::{Fill, Frozen, HostMap, Space};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

/// How much is read at a time.
pub const PIECE: usize = 1 << 20;

/// What is known of a sandbox from outside.
pub struct Subject<'a> {
    pub supervisor: u32,
    pub frozen: &'a Frozen,
    pub settings: Settings,
    pub first: First,
    /// The images that it was restored from.
    pub images: &'a [FileKey],
    /// Streams of programs that were started later are not in the way.
    pub detach: bool,
    /// What it is to build on.
    pub parent: Option<&'a PageIndex>,
}

/// A mapping with what lies behind it.
pub struct Placed {
    pub map: HostMap,
    /// It stands for the file whose descriptor it has as an index into `Needs::mapped`.
    pub of_file: bool,
    /// All that can be read of it is in the image, for want of a file.
    pub whole: bool,
}

/// An address space.
pub struct Memory {
    /// Of which the memory is read.
    pub process: Process,
    /// That is a copy, which stays as it is.
    is_copy: bool,
    pub pids: Vec<u32>,
    pub maps: Vec<Placed>,
}

/// Writes it; how many bytes.
///
/// # Errors
/// See [`SaveError`]. Nothing of the sandbox has changed.
///
/// `thaw` is called when the sandbox may go on: what is left to be written is in copies.
pub fn write(subject: &Subject<'_>, out: impl Write, thaw: &mut dyn FnMut() -> Result) -> Result<u64> {
    let began = Instant::now();
    let frozen = subject.frozen;
    check(subject)?;
    let known = recipe::all(subject.supervisor, frozen, subject.detach)?;
    recipe::sync(subject.supervisor, &known)?;
    let mut mapped = Vec::new();
    let copies = frozen.copies.iter().copied().chain(std::iter::repeat(0));
    let spaces = frozen.spaces.iter().zip(copies);
    let spaces =
        spaces.map(|(pids, copy)| memory(subject, pids, copy, &known, &mut mapped)).collect::<Saved<Vec<_>>>()?;
    let looked = began.elapsed();
    let mut writer = Writer::new(out, subject.parent);
    let failed = SaveError::Write;
    writer.section(Tag::Cpu, &Features::here()).map_err(failed)?;
    writer.section(Tag::Build, &Build::own()).map_err(failed)?;
    let needs = Needs {
        settings: subject.settings.clone(),
        first: subject.first.clone(),
        descriptors: known.iter().map(|k| k.descriptor.clone()).collect(),
        mapped,
        base: frozen.base,
        monotonic: frozen.monotonic,
        armed: frozen.armed.iter().copied().chain(recipe::watched(subject.supervisor, frozen)).collect(),
        running: frozen.running,
        id: id().map_err(failed)?,
        parent: subject.parent.map(|p| p.parent.clone()),
    };
    writer.section(Tag::Needs, &needs).map_err(failed)?;
    let kernel = kernel(subject.supervisor, frozen, &known, &mut writer)?;
    writer.section(Tag::Kernel, &kernel).map_err(failed)?;
    let kernel_done = began.elapsed();
    let mut written: Vec<Option<SavedSpace>> = Vec::new();
    for m in &spaces {
        written.push(if m.is_copy { None } else { Some(private(m, &mut writer)?) });
    }
    thaw()?;
    let stood = began.elapsed();
    let rest = spaces.iter().zip(written);
    let spaces = rest.map(|(m, done)| done.map_or_else(|| private(m, &mut writer), Ok)).collect::<Saved<Vec<_>>>()?;
    writer.section(Tag::Memory, &spaces).map_err(failed)?;
    let times = Times { looked, kernel: kernel_done, stood, memory: began.elapsed() };
    Ok(writer.finish(&times).map_err(failed)?)
}

/// A number that no other image has.
fn id() -> io::Result<[u8; 16]> {
    let seed = crate::sandbox::plan::entropy().map_err(io::Error::from)?;
    Ok(std::array::from_fn(|i| seed[i]))
}

/// Whether its settings allow that it is saved.
fn check(subject: &Subject<'_>) -> Saved {
    if subject.first.pid.is_none() {
        return Err(SaveError::Unsavable("no program was started in it".into()));
    }
    if subject.settings.has_namespaces() {
        return Err(SaveError::Unsavable("it is in namespaces of its own (--jail namespaces)".into()));
    }
    if subject.settings.is_allowing() {
        let why = "it may connect to the host's network (--allow)";
        return Err(SaveError::Unsavable(why.into()));
    }
    Ok(())
}

/// The kernel's memory and the files in memory.
fn kernel<W: Write>(
    supervisor: u32,
    frozen: &Frozen,
    known: &[Known],
    writer: &mut Writer<'_, W>,
) -> Saved<KernelPart> {
    let open = |number: i32| {
        File::open(format!("/proc/{supervisor}/fd/{number}"))
            .map_err(|e| SaveError::host(format!("read the sandbox's host descriptor {number}"), e))
    };
    let mut window = Vec::new();
    contents(&open(frozen.window_fd)?, layout::END, writer, &mut window)?;
    let (cache, mut files) = (recipe::cache(supervisor, frozen), Vec::new());
    for k in known.iter().filter(|k| k.descriptor.recipe == Recipe::Memory) {
        let number = k.descriptor.number;
        let file = open(number)?;
        let meta = file.metadata().map_err(|e| SaveError::host("look at a file in memory", e))?;
        let size = meta.len();
        let copy = recipe::copy(supervisor, number, &cache, &meta);
        // SAFETY: plain numbers. A file that is none in memory has no seals.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) }.max(0);
        let mut fills = Vec::new();
        contents(&file, size, writer, &mut fills)?;
        files.push(MemoryFile { number, size, seals, fills, copy });
    }
    Ok(KernelPart { window, files })
}

/// What a sparse file holds.
fn contents<W: Write>(file: &File, size: u64, writer: &mut Writer<'_, W>, fills: &mut Vec<Fill>) -> Saved {
    let failed = |e| SaveError::host("read the sandbox's memory", e);
    let seek = |from: u64, whence: i32| {
        // SAFETY: plain numbers.
        match unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) } {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO) => Ok(size),
            -1 => Err(failed(io::Error::last_os_error())),
            at => Ok((at as u64).min(size)),
        }
    };
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let data = seek(at, libc::SEEK_DATA)?;
        if data >= size {
            // The last page may be half of one, and not there.
            break;
        }
        at = data / PAGE * PAGE;
        let end = seek(data, libc::SEEK_HOLE)?;
        while at < end {
            let len = (end - at).min(PIECE as u64) as usize;
            file.read_exact_at(&mut piece[..len], at).map_err(failed)?;
            let whole = len.next_multiple_of(PAGE as usize);
            piece[len..whole].fill(0);
            writer.pages(at, &piece[..whole], true, fills).map_err(SaveError::Write)?;
            at += whole as u64;
        }
    }
    Ok(())
}

/// The mappings of an address space.
fn memory(
    subject: &Subject<'_>,
    pids: &[u32],
    copy: u32,
    known: &[Known],
    mapped: &mut Vec<FileNeed>,
) -> Saved<Memory> {
    let first = *pids.first().ok_or_else(|| SaveError::Unsavable("an address space has no process".into()))?;
    let is_copy = copy != 0;
    let process = Process::open(if is_copy { copy } else { first }, subject.supervisor)?;
    let base = subject.frozen.base;
    let window = base..base + layout::END + layout::GUARD;
    let cache = recipe::cache(subject.supervisor, subject.frozen);
    let mut maps = Vec::new();
    for m in process.mappings(window)? {
        maps.push(place(&m, subject.images, known, &cache, mapped)?);
    }
    Ok(Memory { process, is_copy, pids: pids.to_vec(), maps })
}

fn place(m: &Mapping, images: &[FileKey], known: &[Known], cache: &str, mapped: &mut Vec<FileNeed>) -> Saved<Placed> {
    let map = HostMap { start: m.start, end: m.end, prot: m.prot, shared: m.shared, fd: -1, offset: m.offset };
    let anonymous = Placed { map: HostMap { offset: 0, ..map.clone() }, of_file: false, whole: false };
    if m.file.2 == 0 {
        return Ok(anonymous);
    }
    // Memory of no file, to the program.
    if images.contains(&m.file) && !m.shared {
        return Ok(Placed { whole: true, ..anonymous });
    }
    let own = known.iter().find(|k| k.key == m.file && matches!(k.descriptor.recipe, Recipe::Window | Recipe::Memory));
    if let Some(own) = own {
        return Ok(Placed { map: HostMap { fd: own.descriptor.number, ..map }, of_file: false, whole: false });
    }
    // The same file may be mapped to be read and to be written.
    let flags = if m.shared && m.prot & 2 != 0 { libc::O_RDWR } else { libc::O_RDONLY };
    let find = |need: &FileNeed| need.path == m.name && need.identity.ino == m.file.2 && need.flags == flags;
    if let Some(index) = mapped.iter().position(find) {
        return Ok(Placed { map: HostMap { fd: index as i32, ..map }, of_file: true, whole: false });
    }
    let there = fs::symlink_metadata(&m.name).ok().filter(|meta| meta.ino() == m.file.2);
    let there = there.filter(|_| !recipe::is_copy(&m.name, cache));
    match there {
        Some(meta) => {
            let contents = flags == libc::O_RDONLY;
            mapped.push(FileNeed { path: m.name.clone(), identity: Identity::of(&meta), flags, contents });
            Ok(Placed { map: HostMap { fd: mapped.len() as i32 - 1, ..map }, of_file: true, whole: false })
        }
        // What is mapped for itself alone may become memory of no file.
        None if !m.shared => Ok(Placed { whole: true, ..anonymous }),
        None => Err(SaveError::Unsavable(format!(
            "{} is mapped and has no name any more",
            m.name.trim_end_matches(" (deleted)")
        ))),
    }
}

/// A space whose mappings may name files of [`Needs::mapped`] by their index.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SavedSpace {
    pub space: Space,
    /// Of each mapping, whether its descriptor is such an index.
    pub of_files: Vec<bool>,
}
