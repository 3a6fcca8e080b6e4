//! Images that build on others: only pages that those do not have are written.

use super::error::{ImageError, Loaded};
use super::format::{PAGE, Pages};
use super::read::Image;
use drupe_kernel::abi::text::Checksum;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many images may build on one another: each is a descriptor and a look at a restore.
pub const CHAIN_MAX: usize = 64;
/// How much is read at a time, in pages.
const PIECE: u64 = 64;

/// Which image another one builds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its absolute path.
    pub path: String,
    /// Its number.
    pub id: [u8; 16],
}

impl Parent {
    /// Opens it; `depth` images build on it.
    ///
    /// # Errors
    /// [`ImageError::Missing`] and [`ImageError::Changed`]; [`ImageError::Parent`] for what is wrong in it.
    pub fn open(&self, depth: usize) -> Loaded<Image> {
        let missing = |source| ImageError::Missing { path: self.path.clone(), source };
        let wrong = |source| ImageError::Parent { path: self.path.clone(), source: Box::new(source) };
        if depth >= CHAIN_MAX {
            return Err(ImageError::Unfit(format!("more than {CHAIN_MAX} images build on one another")));
        }
        let image = Image::of_path(File::open(&self.path).map_err(missing)?, depth).map_err(wrong)?;
        if image.id() == self.id { Ok(image) } else { Err(ImageError::Changed(self.path.clone())) }
    }
}

/// A file of which pages are.
#[derive(Debug)]
pub struct Source {
    pub file: File,
    pub pages: Pages,
}

/// The pages of an image and of those that it builds on, by what they hold.
pub struct PageIndex {
    sources: Vec<Arc<Source>>,
    /// By sum: which file, and where. Of equal pages the first.
    by_sum: HashMap<u64, (u32, u64)>,
    /// What the image that is written says of it.
    pub parent: Parent,
}

impl PageIndex {
    /// Reads all of its pages.
    ///
    /// # Errors
    /// [`ImageError::Read`]; [`ImageError::Unfit`] for a chain that would be too long.
    pub fn of(path: &Path, image: &Image) -> Loaded<PageIndex> {
        let sources = image.sources().to_vec();
        if sources.len() >= CHAIN_MAX {
            return Err(ImageError::Unfit(format!("{CHAIN_MAX} images build on one another: squash it first")));
        }
        let path: PathBuf = std::path::absolute(path)?;
        let path = path.into_os_string().into_string();
        let path = path.map_err(|path| ImageError::Unfit(format!("{} is no name that can be kept", path.display())))?;
        let mut by_sum = HashMap::new();
        let mut piece = vec![0; (PIECE * PAGE) as usize];
        for (of, source) in sources.iter().enumerate() {
            for range in &source.pages {
                let mut at = range.start;
                while at < range.end {
                    let len = (range.end - at).min(PIECE * PAGE) as usize;
                    source.file.read_exact_at(&mut piece[..len], at)?;
                    for (i, page) in piece[..len].chunks_exact(PAGE as usize).enumerate() {
                        by_sum.entry(Checksum::of(page)).or_insert((of as u32, at + i as u64 * PAGE));
                    }
                    at += len as u64;
                }
            }
        }
        Ok(PageIndex { sources, by_sum, parent: Parent { path, id: image.id() } })
    }

    /// Where a page like this lies, as a new image counts its files; preferably at `follows`, so that runs stay whole.
    pub fn find(&self, page: &[u8], follows: Option<(u32, u64)>) -> Option<(u32, u64)> {
        let next = follows.filter(|(of, _)| *of > 0).map(|(of, at)| (of - 1, at));
        let next = next.filter(|&(of, at)| self.sources[of as usize].has(at) && self.is(page, of, at));
        let found = next.or_else(|| {
            let &(of, at) = self.by_sum.get(&Checksum::of(page))?;
            self.is(page, of, at).then_some((of, at))
        });
        found.map(|(of, at)| (of + 1, at))
    }

    /// Whether the page there holds the same: sums can be equal by chance.
    fn is(&self, page: &[u8], of: u32, at: u64) -> bool {
        let mut there = [0; PAGE as usize];
        self.sources[of as usize].file.read_exact_at(&mut there, at).is_ok() && there == page
    }
}

impl Source {
    /// Whether a page begins there.
    fn has(&self, at: u64) -> bool {
        let before = self.pages.partition_point(|p| p.end <= at);
        self.pages.get(before).is_some_and(|p| p.start <= at)
    }
}
