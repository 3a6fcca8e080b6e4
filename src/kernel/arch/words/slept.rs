//! The word on which a thread sleeps until something has changed, and its kick.
//!
//! A waker changes the state, then the word ([`change`]), then wakes. A sleeper reads the word, registers, looks at the
//! state, then sleeps ([`sleep`]) while the word is what it was. So no wake can fall between look and sleep. A kicker sets
//! the kick first and then does as a waker does.

use super::atomic::AtomicU32;
use super::atomic::Ordering::SeqCst;

/// How a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The word has changed.
    Changed,
    /// There is a kick that ends sleeps.
    Kicked,
    /// The deadline passed.
    TimedOut,
}

/// Makes a thread that is about to sleep on the word stay awake; whether one has to be woken yet.
#[inline]
pub fn change(word: &AtomicU32, sleeping: &AtomicU32) -> bool {
    word.fetch_add(1, SeqCst);
    sleeping.load(SeqCst) != 0
}

/// Sleeps until `word` differs from `ticket`, or there is a kick of the bits `heeds`. `attend` does what of a kick can be
/// done within the sleep; `false` if there is something else. `wait` sleeps while the word is `ticket`; `false` where the
/// deadline passed.
#[inline]
pub fn sleep(
    [word, sleeping, kick]: [&AtomicU32; 3],
    ticket: u32,
    heeds: u32,
    mut attend: impl FnMut(u32) -> bool,
    mut wait: impl FnMut() -> bool,
) -> End {
    sleeping.store(1, SeqCst);
    let end = loop {
        match kick.load(SeqCst) & heeds {
            0 => {}
            why if attend(why) => continue,
            _ => break End::Kicked,
        }
        if word.load(SeqCst) != ticket {
            break End::Changed;
        }
        if !wait() {
            break End::TimedOut;
        }
    };
    sleeping.store(0, SeqCst);
    end
}
