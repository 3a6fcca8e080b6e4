//! Reads an image and starts the sandbox that it holds.

use super::cpu::Features;
use super::error::{ImageError, Loaded};
use super::file::{memory_file, written};
use super::format::{PAGE, Reader, Tag, Writer, check_fills};
use super::named::Given;
use super::parent::Source;
use super::process::key_of;
use super::recipe::{Descriptor, MemoryFile, Recipe};
use super::write::SavedSpace;
use super::{Build, KernelPart, Needs, Times};
use super::{packed, whole};
use crate::sandbox::error::{Error, Result};
use crate::sandbox::stdio::Stdio;
use crate::sandbox::supervisor::Saved as Restored;
use crate::sandbox::{Child, Sandbox, SandboxBuilder, lock};
use drupe_kernel::abi::layout;
use drupe_kernel::abi::saved::{Fill, HostMap, Revival, Space};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Highest number of a descriptor that an image may name.
const NUMBER_MAX: i32 = 1 << 19;

/// The image of a sandbox, known to be whole and to fit this processor and this build.
#[derive(Debug)]
pub struct Image {
    /// Itself and what it builds on: [`Fill::of`].
    sources: Vec<Arc<Source>>,
    pub(super) needs: Needs,
    kernel: KernelPart,
    spaces: Vec<SavedSpace>,
    times: Times,
    /// What takes the place of descriptors, by name.
    pub(super) given: Vec<(String, Given)>,
}

/// What the restored first program gets for the streams that it had.
#[derive(Debug, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// [`Error::Path`] for a file that cannot be opened; [`Error::Image`].
    pub fn open(path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| Error::Path { path: path.into(), source })?;
        Ok(Image::of_path(file, 0)?)
    }

    /// The image that a file with a name holds; `depth` others build on it.
    pub(super) fn of_path(file: File, depth: usize) -> Loaded<Image> {
        let mut begin = [0; 4];
        if file.metadata()?.is_file() && file.read_at(&mut begin, 0)? == begin.len() && packed::is_packed(&begin) {
            return Image::unpacked(&file, depth);
        }
        let known = whole::is_marked(&file);
        let image = Image::of(file, known, depth)?;
        if !known {
            whole::mark(&image.sources[0].file);
        }
        Ok(image)
    }

    /// Reads an image from a stream.
    ///
    /// # Errors
    /// [`Error::Image`].
    pub fn read(mut from: impl Read) -> Result<Image> {
        let mut begin = Vec::new();
        (&mut from).take(4).read_to_end(&mut begin).map_err(ImageError::Read)?;
        let is_packed = packed::is_packed(&begin);
        let mut all = io::Cursor::new(begin).chain(from);
        if is_packed {
            return Ok(Image::unpacked(all, 0)?);
        }
        let mut file = memory_file().map_err(ImageError::Read)?;
        io::copy(&mut all, &mut file).map_err(ImageError::Read)?;
        Ok(Image::of(file, false, 0)?)
    }

    fn unpacked(from: impl Read, depth: usize) -> Loaded<Image> {
        let file = memory_file()?;
        packed::unpack(from, &file).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ImageError::Truncated,
            _ if e.raw_os_error().is_some() => ImageError::Read(e),
            _ => ImageError::Damaged(0),
        })?;
        Image::of(file, false, depth)
    }

    /// The image that a file in memory holds, which was written just now.
    pub(in crate::sandbox) fn of_file(file: File) -> Result<Image> {
        Ok(Image::of(file, true, 0)?)
    }

    /// `known`: to be whole.
    fn of(file: File, known: bool, depth: usize) -> Loaded<Image> {
        if !file.metadata()?.is_file() {
            return Err(ImageError::NotAnImage);
        }
        let mut reader = Reader::new(&file, known)?;
        let needs = head(&mut reader)?;
        let kernel: KernelPart = reader.section(Tag::Kernel)?;
        let spaces: Vec<SavedSpace> = reader.section(Tag::Memory)?;
        let times: Times = reader.section(Tag::End)?;
        reader.ends()?;
        let pages = reader.into_pages();
        let mut sources = vec![Arc::new(Source { file, pages })];
        if let Some(parent) = &needs.parent {
            sources.extend(parent.open(depth + 1)?.sources);
        }
        let pages: Vec<_> = sources.iter().map(|s| &s.pages).collect();
        check_fills(&kernel.window, &pages, layout::END)?;
        for file in &kernel.files {
            check_fills(&file.fills, &pages, file.size.next_multiple_of(PAGE))?;
        }
        for space in &spaces {
            check_fills(&space.space.fills, &pages, layout::TASK_SIZE)?;
        }
        needs.check(&spaces)?;
        Ok(Image { sources, needs, kernel, spaces, times, given: Vec::new() })
    }

    /// What the first program of an image was started with. Of the image only the part before the memory is read.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(super) fn command_of(path: &Path) -> Result<Vec<String>> {
        Ok(Image::needs_of(path)?.first.base().command)
    }

    /// On which image another one builds.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(super) fn parent_of(path: &Path) -> Result<Option<PathBuf>> {
        Ok(Image::needs_of(path)?.parent.map(|parent| parent.path.into()))
    }

    fn needs_of(path: &Path) -> Result<Needs> {
        let file = File::open(path).map_err(|source| Error::Path { path: path.into(), source })?;
        let mut begin = [0; 4];
        if file.read_at(&mut begin, 0).is_ok_and(|n| n == begin.len()) && packed::is_packed(&begin) {
            return Ok(Image::unpacked(&file, 0)?.needs);
        }
        Ok(head(&mut Reader::new(&file, true)?)?)
    }

    /// Its number.
    pub(super) fn id(&self) -> [u8; 16] {
        self.needs.id
    }

    /// See [`Fill::of`].
    pub(super) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// Writes the same image so that it builds on no other; how many bytes it has.
    ///
    /// # Errors
    /// [`Error::Path`]; [`Error::Image`] where this image cannot be read.
    pub fn squash(&self, path: impl AsRef<Path>, compress: bool) -> Result<u64> {
        written(path.as_ref(), compress, |file| Ok(self.write_whole(file)?))
    }

    fn write_whole(&self, out: &File) -> Loaded<u64> {
        let mut writer = Writer::new(out, None);
        writer.section(Tag::Cpu, &Features::here())?;
        writer.section(Tag::Build, &Build::own())?;
        writer.section(Tag::Needs, &Needs { parent: None, ..self.needs.clone() })?;
        let (mut kernel, mut spaces) = (self.kernel.clone(), self.spaces.clone());
        let files = kernel.files.iter_mut().map(|f| &mut f.fills);
        for fills in std::iter::once(&mut kernel.window).chain(files) {
            *fills = self.copied(fills, &mut writer)?;
        }
        writer.section(Tag::Kernel, &kernel)?;
        for space in &mut spaces {
            space.space.fills = self.copied(&space.space.fills, &mut writer)?;
        }
        writer.section(Tag::Memory, &spaces)?;
        Ok(writer.finish(&self.times)?)
    }

    /// Writes the pages of these runs.
    fn copied(&self, fills: &[Fill], writer: &mut Writer<'_, &File>) -> Loaded<Vec<Fill>> {
        let mut out = Vec::new();
        let mut piece = vec![0; 256 * PAGE as usize];
        for fill in fills {
            // None reaches from one mapping into the next.
            let mut one = Vec::new();
            let from = self.sources.get(fill.of as usize).ok_or(ImageError::Damaged(fill.at))?;
            let mut done = 0;
            while done < fill.len {
                let len = (fill.len - done).min(piece.len() as u64);
                from.file.read_exact_at(&mut piece[..len as usize], fill.at + done)?;
                writer.pages(fill.to + done, &piece[..len as usize], false, &mut one)?;
                done += len;
            }
            out.append(&mut one);
        }
        Ok(out)
    }

    /// How long it took to write the image, from when everything stood still.
    pub fn saving_took(&self) -> Duration {
        self.times.memory
    }

    /// How long the sandbox stood still for it, at least.
    pub fn saving_stopped(&self) -> Duration {
        self.times.stood
    }

    /// Restores the sandbox, which goes on where it was saved. Its memory is mapped from the image's file: as long as it runs,
    /// nobody may write to that (its name may be removed or given to another file).
    ///
    ///  Returns it with its first program. `adjust` may change
    /// the settings that concern the outside alone (its name, for one). With `allow_changed` files that are only read
    /// may have other contents than they had.
    ///
    /// # Errors
    /// [`Error::Image`] says what does not fit; those of [`SandboxBuilder::start`].
    pub fn restore(
        &self,
        streams: &Streams,
        allow_changed: bool,
        adjust: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
    ) -> Result<(Sandbox, Child)> {
        let (sandbox, child) = self.restore_paused(streams, allow_changed, adjust)?;
        sandbox.unpause()?;
        let is_terminal = |d: &Descriptor| matches!(d.recipe, Recipe::Stream { terminal: Some(_), .. });
        if self.needs.descriptors.iter().any(is_terminal) {
            // It may have another size. Who is not there to hear it does without.
            let _ = sandbox.kill_foreground(libc::SIGWINCH);
        }
        Ok((sandbox, child))
    }

    /// As [`Sandbox::fork_many`], from this image.
    ///
    /// # Errors
    /// As [`Image::restore`]; those that were made until then have ended.
    pub fn restore_many(
        &self,
        count: usize,
        mut each: impl FnMut(usize, SandboxBuilder) -> (Streams, SandboxBuilder),
    ) -> Result<Vec<(Sandbox, Child)>> {
        let mut one = |i| {
            let (streams, builder) = each(i, self.needs.settings.builder());
            self.restore(&streams, false, |_| builder)
        };
        (0..count).map(&mut one).collect()
    }

    fn restore_paused(
        &self,
        streams: &Streams,
        allow_changed: bool,
        adjust: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
    ) -> Result<(Sandbox, Child)> {
        let keys = self.sources.iter().map(|s| key_of(&s.file)).collect::<io::Result<_>>().map_err(ImageError::Read)?;
        let builder = adjust(self.needs.settings.builder());
        let table = self.table(streams, allow_changed)?;
        let sandbox = builder.start_saved(table)?;
        {
            let mut state = lock(&sandbox.inner.state);
            state.first = self.needs.first.pid;
            state.first_status = self.needs.first.status;
        }
        let _ = sandbox.inner.images.set(keys);
        *lock(&sandbox.inner.base) = Some(self.needs.first.base());
        let pid = self.needs.first.pid.ok_or(Error::NoProcess)?;
        let child = Child::known(sandbox.inner.clone(), pid);
        Ok((sandbox, child))
    }

    /// Opens what it needs.
    fn table(&self, streams: &Streams, allow_changed: bool) -> Result<Restored> {
        let needs = &self.needs;
        let mut kept: Vec<(OwnedFd, RawFd)> = Vec::new();
        for d in &needs.descriptors {
            let given = self.given_for(&d.recipe)?;
            let fd = match &d.recipe {
                _ if given.is_some() => given.ok_or(ImageError::Damaged(0))?,
                Recipe::Window => self.window()?.into(),
                Recipe::Memory => {
                    let file = self.kernel.files.iter().find(|f| f.number == d.number);
                    let file = file.ok_or(ImageError::Damaged(0))?;
                    file.opened_copy().map_or_else(|| self.memory(file), Ok)?.into()
                }
                Recipe::File(need) => need.open(allow_changed)?.into(),
                Recipe::Socket(socket) => socket.open()?,
                Recipe::Detached { stream, .. } => Stdio::Null.open(*stream as i32)?.0.ok_or(ImageError::Damaged(0))?,
                Recipe::Stream { number, terminal } => {
                    let stream = [&streams.stdin, &streams.stdout, &streams.stderr][*number as usize];
                    match stream.open(*number as i32)? {
                        (Some(fd), None) => {
                            if let Some(modes) = terminal {
                                modes.set(&fd);
                            }
                            fd
                        }
                        (None, None) => {
                            File::options().read(true).write(true).open("/dev/null").map_err(ImageError::Read)?.into()
                        }
                        _ => return Err(Error::Setting("a restored program gets no pipes: pass their ends".into())),
                    }
                }
            };
            if !matches!(d.recipe, Recipe::Stream { .. }) && d.offset != 0 {
                // SAFETY: plain numbers. What has no offset refuses.
                unsafe { libc::lseek(fd.as_raw_fd(), d.offset as i64, libc::SEEK_SET) };
            }
            kept.push((fd, d.number));
        }
        // Behind all of these is room for what is only needed while it is restored.
        let top = needs.descriptors.iter().map(|d| d.number).max().unwrap_or(2) + 1;
        let images: Vec<_> = (top..).take(self.sources.len()).collect();
        for (source, &number) in self.sources.iter().zip(&images) {
            kept.push((source.file.try_clone().map_err(ImageError::Read)?.into(), number));
        }
        let first_mapped = top + images.len() as RawFd;
        for (need, number) in needs.mapped.iter().zip(first_mapped..) {
            let given = self.given_file(&need.path, need.flags, need.identity.mode)?;
            kept.push((given.map_or_else(|| need.open(allow_changed).map(Into::into), Ok)?, number));
        }
        let spaces = self.spaces.iter().map(|s| s.placed(first_mapped)).collect();
        let revival = Revival { monotonic: needs.monotonic, images, seed: Some(seed()?), spaces };
        let window = needs.descriptors.iter().find(|d| d.recipe == Recipe::Window);
        let window = window.ok_or(ImageError::Damaged(0))?.number;
        let revival = postcard::to_stdvec(&revival).map_err(|_| ImageError::Damaged(0))?;
        let temporary = (top..).take(self.sources.len() + needs.mapped.len()).collect();
        let (armed, running) = (needs.armed.clone(), needs.running);
        Ok(Restored { base: needs.base, window, kept, temporary, revival, armed, running })
    }

    /// The window's memory file.
    fn window(&self) -> Loaded<File> {
        let file = memory_file()?;
        file.set_len(layout::END)?;
        self.fill(&file, &self.kernel.window, layout::END)?;
        Ok(file)
    }

    fn memory(&self, saved: &MemoryFile) -> Loaded<File> {
        let file = memory_file()?;
        file.set_len(saved.size)?;
        self.fill(&file, &saved.fills, saved.size)?;
        // SAFETY: plain numbers.
        if saved.seals != 0 && unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, saved.seals) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(file)
    }

    fn fill(&self, to: &File, fills: &[Fill], size: u64) -> Loaded {
        for fill in fills {
            let len = fill.len.min(size - fill.to.min(size));
            (&mut &*to).seek(SeekFrom::Start(fill.to))?;
            let from = self.sources.get(fill.of as usize).ok_or(ImageError::Damaged(fill.at))?;
            let mut at = fill.at as i64;
            while (at as u64) < fill.at + len {
                let rest = (fill.at + len - at as u64) as usize;
                // SAFETY: open descriptors, and an offset that is this function's own.
                match unsafe { libc::sendfile(to.as_raw_fd(), from.file.as_raw_fd(), &raw mut at, rest) } {
                    -1 => return Err(io::Error::last_os_error().into()),
                    0 => return Err(ImageError::Truncated),
                    _ => {}
                }
            }
        }
        (&mut &*to).rewind()?;
        Ok(())
    }
}

/// Reads what comes before the memory.
fn head(reader: &mut Reader<'_>) -> Loaded<Needs> {
    reader.section::<Features>(Tag::Cpu)?.check()?;
    let (image, own) = (reader.section::<Build>(Tag::Build)?, Build::own());
    if image != own {
        return Err(ImageError::Build { image: image.to_string(), own: own.to_string() });
    }
    reader.section(Tag::Needs)
}

impl Needs {
    /// Looks whether what it says makes sense: the sums find damage, not malice.
    fn check(&self, spaces: &[SavedSpace]) -> Loaded {
        let damaged = || ImageError::Damaged(0);
        let mut numbers: Vec<_> = self.descriptors.iter().map(|d| d.number).collect();
        numbers.sort_unstable();
        let distinct = numbers.windows(2).all(|w| w[0] != w[1]);
        let usable = numbers.iter().all(|n| (3..NUMBER_MAX).contains(n)) && distinct;
        let streams = self
            .descriptors
            .iter()
            .all(|d| !matches!(d.recipe, Recipe::Stream { number: 3.., .. } | Recipe::Detached { stream: 3.., .. }));
        let ranges = [layout::BASE_RANGE, layout::BASE_FALLBACK];
        let place = ranges.iter().any(|r| r.contains(&self.base)) && self.base.is_multiple_of(layout::BASE_ALIGN);
        let maps = spaces.iter().all(|s| s.is_sound(self.mapped.len()));
        if usable && streams && place && maps { Ok(()) } else { Err(damaged()) }
    }
}

impl SavedSpace {
    fn is_sound(&self, files: usize) -> bool {
        let maps = &self.space.maps;
        let index = |m: &HostMap| usize::try_from(m.fd).is_ok_and(|i| i < files);
        self.of_files.len() == maps.len()
            && maps.iter().all(|m| m.start < m.end && m.end <= layout::TASK_SIZE)
            && maps.windows(2).all(|w| w[0].end <= w[1].start)
            && maps.iter().zip(&self.of_files).all(|(m, of_file)| !of_file || index(m))
    }

    /// With descriptors in the place of indices of files, which begin at `first`.
    fn placed(&self, first: RawFd) -> Space {
        let mut space = self.space.clone();
        for (m, _) in space.maps.iter_mut().zip(&self.of_files).filter(|(_, of_file)| **of_file) {
            m.fd += first;
        }
        space
    }
}

fn seed() -> Result<[u8; 32]> {
    crate::sandbox::plan::entropy()
}
