//! Which call sites trap often.

use super::SEEN;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Traps at a site before it is rewritten: a short process must not pay for what it does not use.
const HOT: u64 = 8;
/// The same for the first site of a process.
const FIRST: u64 = 32;
/// The same in a process that has trapped [`LONG_LIVED`] times.
const SOON: u64 = 3;
/// See [`SOON`].
const LONG_LIVED: u64 = 150;
/// The count of a site that became hot. When it traps on it is looked at again, at [`AGAIN`]: a copy may be there by
/// now, or the rewritten page has been thrown away (`MADV_DONTNEED`).
const TRIED: u64 = 0x80;
/// See [`TRIED`].
const AGAIN: u64 = TRIED + 64;
/// The table of counters: sets, and sites in each.
const SETS: usize = 64;
/// See [`SETS`].
const WAYS: usize = 4;
/// What a trap of a site calls for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trapped {
    /// It is the site's first.
    First,
    /// The site is hot: it is to be rewritten. Said again (`true`) when it traps on.
    Hot(bool),
    /// Nothing.
    Again,
}

/// Counts traps by site. Entries are `site << 8 | count`; a set that is full forgets its coolest.
pub struct Heat {
    cells: [[AtomicU64; WAYS]; SETS],
    total: AtomicU64,
    /// Some site has become hot.
    patched: AtomicBool,
}

impl Default for Heat {
    fn default() -> Self {
        Heat {
            cells: [const { [const { AtomicU64::new(0) }; WAYS] }; SETS],
            total: AtomicU64::new(0),
            patched: AtomicBool::new(false),
        }
    }
}

impl Heat {
    /// Traps of a site that stays hot between two looks at it.
    pub(super) const PERIOD: u64 = AGAIN - TRIED;

    /// The site's counter, or the one that it takes over.
    fn cell(&self, site: u64) -> &AtomicU64 {
        let set = &self.cells[(site.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SETS];
        let coolest = |c: &&AtomicU64| c.load(Relaxed) & 0xff;
        let own = set.iter().find(|c| c.load(Relaxed) >> 8 == site);
        own.or_else(|| set.iter().min_by_key(coolest)).unwrap_or(&set[0])
    }

    /// Counts one trap; what to do about the site.
    pub fn trapped(&self, site: u64) -> Trapped {
        let total = self.total.load(Relaxed) + 1;
        self.total.store(total, Relaxed);
        let cell = self.cell(site);
        let seen = cell.load(Relaxed);
        if seen >> 8 != site {
            SEEN.fetch_add(1, Relaxed);
            cell.store(site << 8 | 1, Relaxed);
            return Trapped::First;
        }
        let count = seen & 0xff;
        if count >= TRIED {
            let again = count + 1 >= AGAIN;
            cell.store(site << 8 | if again { TRIED } else { count + 1 }, Relaxed);
            return if again { Trapped::Hot(true) } else { Trapped::Again };
        }
        // The first patch of a process opens its memory and makes a mapping: that wants more traps to pay.
        let hot = match total {
            _ if total > LONG_LIVED => SOON,
            _ if self.patched.load(Relaxed) => HOT,
            _ => FIRST,
        };
        let now_hot = count + 1 >= hot;
        cell.store(site << 8 | if now_hot { TRIED } else { count + 1 }, Relaxed);
        if now_hot {
            self.patched.store(true, Relaxed);
            return Trapped::Hot(false);
        }
        Trapped::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_traps_make_a_site_hot() {
        let heat = Heat::default();
        let said: Vec<Trapped> = (0..100).map(|_| heat.trapped(0x7000_1234)).collect();
        assert_eq!(said[0], Trapped::First);
        assert_eq!(said.iter().position(|&t| t == Trapped::Hot(false)), Some(FIRST as usize - 1));
        let next: Vec<Trapped> = (0..20).map(|_| heat.trapped(0x7000_2345)).collect();
        assert_eq!(next.iter().position(|&t| t == Trapped::Hot(false)), Some(HOT as usize - 1));
        assert_eq!(said.iter().filter(|&&t| t == Trapped::Hot(false)).count(), 1);
        // One that traps on all the same is looked at now and then.
        let again = said.iter().position(|&t| t == Trapped::Hot(true));
        assert_eq!(again, Some((FIRST + AGAIN - TRIED) as usize - 1));
        // In a process that traps and traps, sites become hot sooner.
        for i in 0..LONG_LIVED {
            heat.trapped(0x8000_0000 + i * 64);
        }
        let said: Vec<Trapped> = (0..10).map(|_| heat.trapped(0x7000_5678)).collect();
        assert_eq!(said.iter().position(|&t| t == Trapped::Hot(false)), Some(SOON as usize - 1));
    }
}
