//! Hot sites that could not be rewritten at once: how often they trapped, and what became of them.

use super::{Heat, Refusal};
use crate::abi::control::TrappingSite;
use crate::abi::text::Patched;
use crate::mm::vma::{Backing, Vma};
use crate::sync::{Level, Mutex};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Most that are kept.
const MAX: usize = 512;

/// By file and offset; without a file by address.
static SITES: Mutex<BTreeMap<(Vec<u8>, u64), Entry>> = Mutex::new(Level::Leaf, BTreeMap::new());

struct Entry {
    traps: u64,
    /// Of these, since it was rewritten.
    later: u64,
    /// Why it is left trapping; `None`: it is rewritten by now.
    why: Option<Refusal>,
}

/// A site that was hot has trapped on, and was looked at: it is left as it is for a reason, or rewritten.
pub(super) fn note(vma: Option<&Vma>, site: u64, again: bool, why: Option<Refusal>) {
    let key = match vma {
        Some(Vma { backing: Backing::File { name, offset, .. }, start, .. }) => {
            (name.to_vec(), offset + (site - start))
        }
        _ => (Vec::new(), site),
    };
    let mut sites = SITES.lock();
    if let Some(entry) = sites.get_mut(&key) {
        let traps = if again { Heat::PERIOD } else { 1 };
        entry.traps += traps;
        entry.later += if entry.why.is_none() && why.is_none() { traps } else { 0 };
        entry.why = why;
    } else if why.is_some() && sites.len() < MAX {
        sites.insert(key, Entry { traps: 1, later: 0, why });
    }
}

/// A copy in which these sites are rewritten has taken the place of a mapping.
pub(super) fn adopted(vma: &Vma, patched: &[Patched]) {
    let Backing::File { name, offset, .. } = &vma.backing else { return };
    let mut key = (name.to_vec(), 0);
    let mut sites = SITES.lock();
    for p in patched {
        key.1 = offset + u64::from(p.site);
        if let Some(entry) = sites.get_mut(&key) {
            entry.why = None;
        }
    }
}

/// All of them, the one with the most traps first.
pub fn trapping() -> Vec<TrappingSite> {
    let sites = SITES.lock();
    let site = |(key, entry): (&(Vec<u8>, u64), &Entry)| TrappingSite {
        file: key.0.clone(),
        offset: key.1,
        traps: entry.traps,
        later: entry.later,
        left: entry.why.map(|why| why as u8),
    };
    let mut all: Vec<_> = sites.iter().map(site).collect();
    drop(sites);
    all.sort_by_key(|s| core::cmp::Reverse(s.traps));
    all
}
