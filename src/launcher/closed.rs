//! Which standard streams the launcher was started without.
//!
//! Before `main`, Rust's runtime opens the null device where one of them is closed. A program that is
//! run here must find it closed, as natively (`>&-` in a shell): so it is looked at earlier.

use drupe::Stdio;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

static CLOSED: AtomicU8 = AtomicU8::new(0);

extern "C" fn look() {
    for fd in 0..3 {
        // SAFETY: asks for a flag; a number that is not open is EBADF.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << fd, Relaxed);
        }
    }
}

// SAFETY: the loader calls what stands there, once and before `main`; `look` needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// The stream 0, 1 or 2 for the program.
pub fn stream(number: u8) -> Stdio {
    if CLOSED.load(Relaxed) >> number & 1 == 1 { Stdio::closed() } else { Stdio::inherit() }
}
