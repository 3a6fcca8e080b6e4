//! Forgetting names of the host's tree that can be looked up again, so that walking over a large tree
//! does not fill the heap.
//!
//! Second chance: a name that was found since the last trim stays once more. What differs from the host
//! (changed, made, removed here) is no cache and stays for good.

use super::dentry::{Child, Dentry};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// Imported names that are kept without looking.
const LIMIT: u32 = 48 << 10;
/// Imports since the last trim, and how many are granted until the next.
static IMPORTED: AtomicU32 = AtomicU32::new(0);
static TRIMMING: AtomicBool = AtomicBool::new(false);

/// A name was imported into `dir`; no lock is held.
pub(super) fn after_import(dir: &Arc<Dentry>) {
    if IMPORTED.fetch_add(1, Relaxed) < LIMIT || TRIMMING.swap(true, Acquire) {
        return;
    }
    let mut root = dir.clone();
    while let Some(parent) = root.parent() {
        root = parent;
    }
    let kept = trim(&root);
    // What could not go now is not looked at again before as many have come.
    IMPORTED.store(kept.min(LIMIT / 2), Relaxed);
    TRIMMING.store(false, Release);
}

/// Forgets what was not used since the last time; returns how many names are left.
pub(crate) fn trim(root: &Arc<Dentry>) -> u32 {
    // Parents before children; worked off from the end, so that a directory is looked at after
    // everything in it, and without a reference from here.
    let mut dirs: Vec<Arc<Dentry>> = Vec::new();
    if dirs.try_reserve(1024).is_err() {
        return 0;
    }
    dirs.push(root.clone());
    let mut next = 0;
    while next < dirs.len() {
        let dir = dirs[next].clone();
        next += 1;
        for child in dir.children.read().values() {
            if let Child::Live(d) = child
                && d.is_dir()
                && dirs.try_reserve(1).is_ok()
            {
                dirs.push(d.clone());
            }
        }
    }
    let mut kept = 0;
    while let Some(dir) = dirs.pop() {
        if !dir.inode.cacheable() || !dir.inode.layered() {
            continue;
        }
        let mut children = dir.children.write();
        children.retain(|_, child| !can_go(child));
        if children.capacity() > 4 * children.len() {
            children.shrink_to_fit();
        }
        kept += children.len() as u32;
    }
    kept
}

fn can_go(child: &Child) -> bool {
    match child {
        Child::Absent => true,
        Child::Whiteout | Child::Fleeting(_) => false,
        Child::Live(d) => {
            !d.used.swap(false, Relaxed)
                && Arc::strong_count(d) == 1
                && Arc::strong_count(&d.inode) == 1
                && d.mounts.load(SeqCst) == 0
                && d.inode.forgettable()
                && d.children.read().is_empty()
        }
    }
}
