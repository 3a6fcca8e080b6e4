//! How a thread sleeps on a word.

use super::atomic::AtomicU32;

/// Sleeping on words, and waking.
pub trait Sleep {
    /// How often a thread looks at a lock that is taken before it sleeps.
    const LOOKS: u32;

    /// Sleeps while `word` holds `seen`. The comparison and the beginning of the sleep are one step for [`Sleep::wake`].
    /// `false`: nobody has woken it for long. A wake without a reason is allowed.
    fn wait(&self, word: &AtomicU32, seen: u32) -> bool;

    /// Wakes at most `n` threads that sleep on `word`.
    fn wake(&self, word: &AtomicU32, n: u32);
}

/// All that sleep on a word.
pub const ALL: u32 = u32::MAX >> 1;
