//! Which standard streams the launcher was started without.
//!
//! The null device takes their place in the launcher; a program that is run must find them closed, as
//! natively (`>&-` in a shell).

use drupe::Stdio;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Stream 0, 1 or 2 is closed.
pub fn note(number: i32) {
    CLOSED.fetch_or(1 << number, Relaxed);
}

/// The stream 0, 1 or 2 for the program.
pub fn stream(number: u8) -> Stdio {
    if CLOSED.load(Relaxed) >> number & 1 == 1 { Stdio::closed() } else { Stdio::inherit() }
}
