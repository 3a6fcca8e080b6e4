//! The kernel's log: lines go into a ring in the arena, where the supervisor and a dump find the last
//! ones, and to a host descriptor if there is one. Formatting needs no heap.

use super::time;
use crate::abi::linux;
use crate::arch;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, AtomicU8, AtomicUsize, Ordering::Relaxed};
use log::{LevelFilter, Log, Metadata, Record};

/// Bytes that the ring keeps.
pub const RING: usize = 64 << 10;
/// Longest line; what is longer is cut.
const LINE: usize = 400;

// Behind everything that is used at every call: a young process faults that in by pieces of 64 KiB.
#[cfg_attr(feature = "image", unsafe(link_section = ".bss.ring"))]
static BYTES: [AtomicU8; RING] = [const { AtomicU8::new(0) }; RING];
/// Bytes ever written; writers take their place with one addition, so that none waits for another
/// and a writer that died leaves no lock behind.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);
static FD: AtomicI32 = AtomicI32::new(-1);

struct Ring;
static LOGGER: Ring = Ring;

/// One line being formatted.
struct Line {
    len: usize,
    text: [u8; LINE],
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // The last byte is for the newline.
        let n = s.len().min(LINE - 1 - self.len);
        self.text[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

impl Log for Ring {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = time::clock(linux::CLOCK_MONOTONIC as i32).unwrap_or(0);
        let (sec, usec) = (now / 1_000_000_000, now / 1000 % 1_000_000);
        let slot = arch::try_slot().map_or(0, |s| s.index.load(Relaxed));
        let target = record.target().rsplit("::").next().unwrap_or("");
        let mut line = Line { len: 0, text: [0; LINE] };
        let _ = write!(line, "[{sec:5}.{usec:06}] {:<5} {slot:>3} {target}: {}", record.level(), record.args());
        line.text[line.len] = b'\n';
        append(&line.text[..=line.len]);
    }

    fn flush(&self) {}
}

/// Adds bytes to the ring and to the descriptor.
fn append(bytes: &[u8]) {
    let at = WRITTEN.fetch_add(bytes.len(), Relaxed);
    for (i, &b) in bytes.iter().enumerate() {
        BYTES[(at + i) % RING].store(b, Relaxed);
    }
    let fd = FD.load(Relaxed);
    if fd >= 0 {
        // SAFETY: the host only reads the line.
        unsafe { arch::syscall(linux::__NR_write, [fd as u64, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0, 0]) };
    }
}

/// Starts logging: `level` from 0 (off) to 5 (trace); `fd` is -1 for the ring alone.
pub fn init(level: u8, fd: i32) {
    FD.store(fd, Relaxed);
    let _ = log::set_logger(&LOGGER);
    set_level(level);
}

/// Changes the level.
pub fn set_level(level: u8) {
    log::set_max_level(match level {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

/// The last lines, oldest first, beginning at a line's start.
pub fn tail() -> Vec<u8> {
    let written = WRITTEN.load(Relaxed);
    let len = written.min(RING);
    let mut out = Vec::new();
    if out.try_reserve_exact(len).is_err() {
        return out;
    }
    out.extend((written - len..written).map(|i| BYTES[i % RING].load(Relaxed)));
    if len == RING {
        let cut = out.iter().position(|&b| b == b'\n').map_or(0, |at| at + 1);
        out.drain(..cut);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_keeps_the_last_whole_lines() {
        init(3, -1);
        log::debug!("not seen");
        for i in 0..3000 {
            log::info!("line {i} {}", "x".repeat(i % 500));
        }
        let text = String::from_utf8(tail()).expect("text");
        assert!(text.len() <= RING && text.len() > RING - 2 * LINE);
        assert!(text.contains("tests: line 2999 xxx"), "{}", &text[text.len() - 600..]);
        assert!(text.starts_with('[') && text.ends_with('\n') && !text.contains("not seen"));
        assert!(text.lines().all(|l| l.len() < LINE));
        set_level(0);
    }
}
