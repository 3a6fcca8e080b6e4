//! The form of an image: sections, each behind a header that begins 64 bytes before a page of the file.
//!
//! A header says what the section is, how long it is, where the header itself lies and what the sums of body and header
//! are; what lies between two sections is zero. The sections come in the order of [`Tag`], with any number of
//! [`Tag::Pages`] before [`Tag::Kernel`] and [`Tag::Memory`], so that an image is written and read once from start to
//! end. All numbers are little-endian; bodies other than pages are postcard.

use super::error::{ImageError, Loaded};
use super::parent::PageIndex;
use drupe_kernel::abi::saved::Fill;
use drupe_kernel::abi::text::Checksum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const HEADER: usize = 64;
/// First bytes of each header: the format and its version.
const MAGIC: [u8; 8] = *b"drupesv1";
/// Pages are collected up to so many bytes before they are written.
const CHUNK: usize = 4 << 20;
/// The longest body that is read into memory as a whole.
const BODY_MAX: u64 = 256 << 20;
/// How much is read at a time where only the sum counts.
const PIECE: usize = 1 << 20;

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tag {
    /// What the processor can do.
    Cpu = 1,
    /// Which build wrote the image.
    Build = 2,
    /// Settings, and what is needed of the host.
    Needs = 3,
    /// Pages, to which others refer by their offset in the image.
    Pages = 4,
    /// The kernel's memory and the files in memory.
    Kernel = 5,
    /// The programs' memory.
    Memory = 6,
    /// The end, with times.
    End = 7,
}

fn header(tag: Tag, at: u64, body: &[u8]) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(&MAGIC);
    for (i, word) in [tag as u64, body.len() as u64, at, Checksum::of(body)].into_iter().enumerate() {
        out[8 + 8 * i..16 + 8 * i].copy_from_slice(&word.to_le_bytes());
    }
    let sum = Checksum::of(&out[..HEADER - 8]);
    out[HEADER - 8..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Where the header lies that follows `end`.
fn header_after(end: u64) -> u64 {
    (end + HEADER as u64).next_multiple_of(PAGE) - HEADER as u64
}

/// Writes an image to a stream.
pub struct Writer<'a, W> {
    out: W,
    /// Bytes written.
    at: u64,
    pages: Vec<u8>,
    /// Pages of the image that this one builds on.
    parent: Option<&'a PageIndex>,
}

impl<'a, W: Write> Writer<'a, W> {
    pub fn new(out: W, parent: Option<&'a PageIndex>) -> Writer<'a, W> {
        Writer { out, at: 0, pages: Vec::new(), parent }
    }

    fn put(&mut self, tag: Tag, body: &[u8]) -> io::Result<()> {
        let at = header_after(self.at);
        let gap = [0; PAGE as usize];
        self.out.write_all(&gap[..(at - self.at) as usize])?;
        self.out.write_all(&header(tag, at, body))?;
        self.out.write_all(body)?;
        self.at = at + HEADER as u64 + body.len() as u64;
        Ok(())
    }

    /// Writes a section.
    ///
    /// # Errors
    /// The stream's.
    pub fn section(&mut self, tag: Tag, body: &impl Serialize) -> io::Result<()> {
        self.flush_pages()?;
        let body = postcard::to_stdvec(body).map_err(io::Error::other)?;
        self.put(tag, &body)
    }

    /// Adds whole pages, which belong to `to` and behind it. Those that are zero are left out if `zeros` says that they
    /// are so without the image, too. What was added is entered in `fills`.
    ///
    /// # Errors
    /// The stream's.
    pub fn pages(&mut self, to: u64, bytes: &[u8], zeros: bool, fills: &mut Vec<Fill>) -> io::Result<()> {
        for (i, page) in bytes.chunks_exact(PAGE as usize).enumerate() {
            if zeros && is_zero(page) {
                continue;
            }
            let to = to + i as u64 * PAGE;
            let follows =
                fills.last().filter(|last| last.to + last.len == to).map(|last| (last.of, last.at + last.len));
            if let Some((of, at)) = self.parent.and_then(|parent| parent.find(page, follows)) {
                extend(fills, to, of, at);
                continue;
            }
            if self.pages.len() == CHUNK {
                self.flush_pages()?;
            }
            extend(fills, to, 0, header_after(self.at) + HEADER as u64 + self.pages.len() as u64);
            self.pages.extend_from_slice(page);
        }
        Ok(())
    }

    fn flush_pages(&mut self) -> io::Result<()> {
        if self.pages.is_empty() {
            return Ok(());
        }
        let pages = std::mem::take(&mut self.pages);
        self.put(Tag::Pages, &pages)?;
        self.pages = pages;
        self.pages.clear();
        Ok(())
    }

    /// Writes the last section; how long the image is.
    ///
    /// # Errors
    /// The stream's.
    pub fn finish(mut self, body: &impl Serialize) -> io::Result<u64> {
        self.section(Tag::End, body)?;
        self.out.flush()?;
        Ok(self.at)
    }
}

/// Adds a page to the last run, or begins another.
fn extend(fills: &mut Vec<Fill>, to: u64, of: u32, at: u64) {
    match fills.last_mut() {
        Some(last) if last.to + last.len == to && last.of == of && last.at + last.len == at => last.len += PAGE,
        _ => fills.push(Fill { to, len: PAGE, at, of }),
    }
}

fn is_zero(page: &[u8]) -> bool {
    let (words, _) = page.as_chunks::<16>();
    words.iter().all(|w| u128::from_ne_bytes(*w) == 0)
}

/// Where pages lie in an image, in order.
pub type Pages = Vec<std::ops::Range<u64>>;

/// Reads an image.
pub struct Reader<'a> {
    file: &'a File,
    len: u64,
    /// Where the last section ended.
    at: u64,
    /// Where pages lie.
    pages: Pages,
    /// Pages are not compared with their sums.
    known: bool,
}

/// What a header says.
struct Head {
    tag: u64,
    /// Where the body begins and ends.
    body: std::ops::Range<u64>,
    sum: u64,
}

impl<'a> Reader<'a> {
    /// `known`: the pages are what was written.
    pub fn new(file: &'a File, known: bool) -> Loaded<Reader<'a>> {
        let len = file.metadata()?.len();
        Ok(Reader { file, len, at: 0, pages: Vec::new(), known })
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Loaded {
        match self.file.read_exact_at(bytes, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(ImageError::Truncated),
            other => Ok(other?),
        }
    }

    fn head(&self) -> Loaded<Head> {
        let at = header_after(self.at);
        if self.at == 0 && self.len < at + HEADER as u64 {
            return Err(if self.len == 0 { ImageError::NotAnImage } else { ImageError::Truncated });
        }
        let mut bytes = [0; HEADER];
        self.read(at, &mut bytes)?;
        if self.at == 0 && bytes[..6] != MAGIC[..6] {
            return Err(ImageError::NotAnImage);
        }
        let mut gap = vec![0; (at - self.at) as usize];
        self.read(self.at, &mut gap)?;
        let word = |i: usize| bytes[8 * i..].first_chunk::<8>().map_or(0, |w| u64::from_le_bytes(*w));
        let sum = Checksum::of(&bytes[..HEADER - 8]);
        if bytes[..8] != MAGIC || sum != word(7) || word(3) != at || gap.iter().any(|&b| b != 0) {
            return Err(ImageError::Damaged(at));
        }
        let start = at + HEADER as u64;
        let end = start.checked_add(word(2)).ok_or(ImageError::Damaged(at))?;
        if end > self.len {
            return Err(ImageError::Truncated);
        }
        Ok(Head { tag: word(1), body: start..end, sum: word(4) })
    }

    /// Reads the next section, which must be `tag`; pages before it are looked at whether they are whole.
    ///
    /// # Errors
    /// What is wrong with the image.
    pub fn section<T: DeserializeOwned>(&mut self, tag: Tag) -> Loaded<T> {
        loop {
            let head = self.head()?;
            if head.tag == Tag::Pages as u64 && matches!(tag, Tag::Kernel | Tag::Memory) {
                if !self.known {
                    self.check(&head)?;
                }
                self.at = head.body.end;
                self.pages.push(head.body);
                continue;
            }
            let damaged = ImageError::Damaged(head.body.start);
            let len = head.body.end - head.body.start;
            if head.tag != tag as u64 || len > BODY_MAX {
                return Err(damaged);
            }
            let mut body = vec![0; len as usize];
            self.read(head.body.start, &mut body)?;
            if Checksum::of(&body) != head.sum {
                return Err(damaged);
            }
            self.at = head.body.end;
            return postcard::from_bytes(&body).map_err(|_| damaged);
        }
    }

    fn check(&self, head: &Head) -> Loaded {
        let mut sum = Checksum::default();
        let mut piece = vec![0; PIECE];
        let mut at = head.body.start;
        while at < head.body.end {
            let len = (head.body.end - at).min(PIECE as u64) as usize;
            self.read(at, &mut piece[..len])?;
            sum.add(&piece[..len]);
            at += len as u64;
        }
        if sum.finish() == head.sum { Ok(()) } else { Err(ImageError::Damaged(head.body.start)) }
    }

    /// Whether the image ends here.
    ///
    /// # Errors
    /// [`ImageError::Damaged`] if something follows.
    pub fn ends(&self) -> Loaded {
        if self.at == self.len { Ok(()) } else { Err(ImageError::Damaged(self.at)) }
    }

    /// Where its pages lie, as far as it was read.
    pub fn into_pages(self) -> Pages {
        self.pages
    }
}

/// Looks whether these lie in pages of the images, in order, without meeting one another below `limit`.
///
/// # Errors
/// [`ImageError::Damaged`].
pub fn check_fills(fills: &[Fill], images: &[&Pages], limit: u64) -> Loaded {
    let mut last = 0;
    for fill in fills {
        let damaged = ImageError::Damaged(fill.at);
        let (Some(to), Some(at)) = (fill.to.checked_add(fill.len), fill.at.checked_add(fill.len)) else {
            return Err(damaged);
        };
        let aligned = fill.len > 0 && [fill.to, fill.len, fill.at].iter().all(|n| n.is_multiple_of(PAGE));
        let holds = |pages: &&Pages| {
            let before = pages.partition_point(|p| p.end <= fill.at);
            pages.get(before).is_some_and(|p| p.start <= fill.at && at <= p.end)
        };
        let there = images.get(fill.of as usize).is_some_and(holds);
        if !aligned || fill.to < last || to > limit || !there {
            return Err(damaged);
        }
        last = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, None);
        writer.section(Tag::Cpu, &7u32).expect("written");
        let mut fills = Vec::new();
        let mut pages = vec![1u8; 2 * PAGE as usize];
        pages.extend([0; PAGE as usize]);
        pages.extend([2; PAGE as usize]);
        writer.pages(0x10000, &pages, true, &mut fills).expect("written");
        writer.section(Tag::Kernel, &fills).expect("written");
        writer.finish(&9u32).expect("written");
        out
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = crate::sandbox::save::memory_file().expect("a memory file");
        file.write_all(bytes).expect("written");
        file.rewind().expect("rewound");
        file
    }

    fn read(file: &File) -> Loaded<Vec<Fill>> {
        let mut reader = Reader::new(file, false)?;
        reader.section::<u32>(Tag::Cpu)?;
        let fills: Vec<Fill> = reader.section(Tag::Kernel)?;
        reader.section::<u32>(Tag::End)?;
        reader.ends()?;
        check_fills(&fills, &[&reader.into_pages()], u64::MAX)?;
        Ok(fills)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written();
        let fills = read(&file(&bytes)).expect("whole");
        let places: Vec<_> = fills.iter().map(|f| (f.to, f.len)).collect();
        assert_eq!(places, [(0x10000, 2 * PAGE), (0x10000 + 3 * PAGE, PAGE)]);
        assert!(fills.iter().all(|f| f.at % PAGE == 0));
        assert!(bytes[fills[1].at as usize..][..PAGE as usize].iter().all(|&b| b == 2));
    }

    #[test]
    fn every_changed_byte_and_every_missing_one_is_noticed() {
        let bytes = written();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(read(&file(&changed)).is_err(), "byte {at}");
        }
        for len in (0..bytes.len()).step_by(512) {
            assert!(
                matches!(read(&file(&bytes[..len])), Err(ImageError::Truncated | ImageError::NotAnImage)),
                "{len} bytes"
            );
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(read(&file(&longer)), Err(ImageError::Damaged(_))));
    }
}
