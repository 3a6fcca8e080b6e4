//! Reads an image and starts the sandbox that it holds.

use super::cpu::Features;
use super::error::{ImageError, Loaded};
use super::file::memory_file;
use super::format::{Reader, Tag};
use super::process::key_of;
use super::recipe::{MemoryFile, Recipe};
use super::whole;
use super::write::SavedSpace;
use super::{Build, KernelPart, Needs, Times};
use crate::sandbox::error::{Error, Result};
use crate::sandbox::stdio::Stdio;
use crate::sandbox::supervisor::Saved as Restored;
use crate::sandbox::{Child, Sandbox, SandboxBuilder, lock};
use drupe_kernel::abi::layout;
use drupe_kernel::abi::saved::{Fill, HostMap, Revival, Space};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Highest number of a descriptor that an image may name.
const NUMBER_MAX: i32 = 1 << 19;

/// The image of a sandbox, known to be whole and to fit this processor and this build.
#[derive(Debug)]
pub struct Image {
    file: File,
    needs: Needs,
    kernel: KernelPart,
    spaces: Vec<SavedSpace>,
    times: Times,
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
        let known = whole::is_marked(&file);
        let image = Image::of(file, known)?;
        if !known {
            whole::mark(&image.file);
        }
        Ok(image)
    }

    /// Reads an image from a stream.
    ///
    /// # Errors
    /// [`Error::Image`].
    pub fn read(mut from: impl Read) -> Result<Image> {
        let mut file = memory_file().map_err(ImageError::Read)?;
        io::copy(&mut from, &mut file).map_err(ImageError::Read)?;
        Ok(Image::of(file, false)?)
    }

    /// The image that a file in memory holds, which was written just now.
    pub(in crate::sandbox) fn of_file(file: File) -> Result<Image> {
        Ok(Image::of(file, true)?)
    }

    /// `known`: to be whole.
    fn of(file: File, known: bool) -> Loaded<Image> {
        if !file.metadata()?.is_file() {
            return Err(ImageError::NotAnImage);
        }
        let mut reader = Reader::new(&file, known)?;
        let needs = head(&mut reader)?;
        let kernel: KernelPart = reader.section(Tag::Kernel)?;
        let spaces: Vec<SavedSpace> = reader.section(Tag::Memory)?;
        let times: Times = reader.section(Tag::End)?;
        reader.ends()?;
        reader.check_fills(&kernel.window, layout::END)?;
        for file in &kernel.files {
            reader.check_fills(&file.fills, file.size.next_multiple_of(super::format::PAGE))?;
        }
        for space in &spaces {
            reader.check_fills(&space.space.fills, layout::TASK_SIZE)?;
        }
        needs.check(&spaces)?;
        Ok(Image { file, needs, kernel, spaces, times })
    }

    /// What the first program of an image was started with. Of the image only the part before the memory is read.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub(super) fn command_of(path: &Path) -> Result<Vec<String>> {
        let file = File::open(path).map_err(|source| Error::Path { path: path.into(), source })?;
        Ok(head(&mut Reader::new(&file, true)?)?.first.base().command)
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
        let key = key_of(&self.file).map_err(ImageError::Read)?;
        let builder = adjust(self.needs.settings.builder());
        let table = self.table(streams, allow_changed)?;
        let sandbox = builder.start_saved(table)?;
        {
            let mut state = lock(&sandbox.inner.state);
            state.first = self.needs.first.pid;
            state.first_status = self.needs.first.status;
        }
        let _ = sandbox.inner.image.set(key);
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
            let fd = match &d.recipe {
                Recipe::Window => self.window()?.into(),
                Recipe::Memory => {
                    let file = self.kernel.files.iter().find(|f| f.number == d.number);
                    self.memory(file.ok_or(ImageError::Damaged(0))?)?.into()
                }
                Recipe::File(need) => need.open(allow_changed)?.into(),
                Recipe::Stream(n) => {
                    let stream = [&streams.stdin, &streams.stdout, &streams.stderr][*n as usize];
                    match stream.open(*n as i32)? {
                        (Some(fd), None) => fd,
                        (None, None) => {
                            File::options().read(true).write(true).open("/dev/null").map_err(ImageError::Read)?.into()
                        }
                        _ => return Err(Error::Setting("a restored program gets no pipes: pass their ends".into())),
                    }
                }
            };
            if !matches!(d.recipe, Recipe::Stream(_)) && d.offset != 0 {
                // SAFETY: plain numbers. What has no offset refuses.
                unsafe { libc::lseek(fd.as_raw_fd(), d.offset as i64, libc::SEEK_SET) };
            }
            kept.push((fd, d.number));
        }
        // Behind all of these is room for what is only needed while it is restored.
        let top = needs.descriptors.iter().map(|d| d.number).max().unwrap_or(2) + 1;
        let image = self.file.try_clone().map_err(ImageError::Read)?;
        kept.push((image.into(), top));
        let first_mapped = top + 1;
        for (need, number) in needs.mapped.iter().zip(first_mapped..) {
            kept.push((need.open(allow_changed)?.into(), number));
        }
        let spaces = self.spaces.iter().map(|s| s.placed(first_mapped)).collect();
        let revival = Revival { monotonic: needs.monotonic, image: top, seed: Some(seed()?), spaces };
        let window = needs.descriptors.iter().find(|d| d.recipe == Recipe::Window);
        let window = window.ok_or(ImageError::Damaged(0))?.number;
        let revival = postcard::to_stdvec(&revival).map_err(|_| ImageError::Damaged(0))?;
        let temporary = (top..).take(1 + needs.mapped.len()).collect();
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
            let mut at = fill.at as i64;
            while (at as u64) < fill.at + len {
                let rest = (fill.at + len - at as u64) as usize;
                // SAFETY: open descriptors, and an offset that is this function's own.
                match unsafe { libc::sendfile(to.as_raw_fd(), self.file.as_raw_fd(), &raw mut at, rest) } {
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
        let streams = self.descriptors.iter().all(|d| !matches!(d.recipe, Recipe::Stream(3..)));
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
