//! Process accounting (`acct(2)`, `acct(5)`): the end of each process is a record in a file.

use super::{CurrentTask, ThreadGroup};
use crate::cred::Cred;
use crate::mm::IoSrc;
use crate::sync::{Level, Mutex};
use crate::time;
use crate::vfs::{OpCtx, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Where records go, and whose right to write there counts.
type Sink = (Arc<OpenFile>, Arc<Cred>);

static ON: AtomicBool = AtomicBool::new(false);
static SINK: Mutex<Option<Sink>> = Mutex::new(Level::Leaf, None);

/// Ticks of times in a record, per second (`AHZ`).
const TICKS: u64 = 100;
/// Nanoseconds of a tick.
const TICK: u64 = 1_000_000_000 / TICKS;
/// `ACCT_VERSION`.
const VERSION: u8 = 3;
/// It has not executed a program since it was forked (`AFORK`).
const FORKED: u8 = 1;
/// It dumped core (`ACORE`).
const CORE: u8 = 8;
/// A signal killed it (`AXSIG`).
const SIGNALLED: u8 = 0x10;

/// From now on records go there, or nowhere.
pub fn set(sink: Option<Sink>) {
    let on = sink.is_some();
    let old = core::mem::replace(&mut *SINK.lock(), sink);
    ON.store(on, SeqCst);
    drop(old);
}

/// A floating point number of 3 bits of exponent to the base 8 and 13 of mantissa (`encode_comp_t`).
fn compressed(mut value: u64) -> u16 {
    let (mut exponent, mut round) = (0, false);
    while value > 0x1fff {
        round = value & 4 != 0;
        value >>= 3;
        exponent += 1;
    }
    if round {
        value += 1;
        if value > 0x1fff {
            value >>= 3;
            exponent += 1;
        }
    }
    if exponent > 7 { 0xffff } else { exponent << 13 | value as u16 }
}

/// Writes the record of a process whose last thread is ending with `status`, of which `cred` were the credentials.
#[inline]
pub(super) fn ended(cur: &CurrentTask, group: &ThreadGroup, cred: Option<&Arc<Cred>>, status: i32) {
    if ON.load(SeqCst) {
        write(cur, group, cred, status);
    }
}

#[cold]
fn write(cur: &CurrentTask, group: &ThreadGroup, cred: Option<&Arc<Cred>>, status: i32) {
    let Some((file, writer)) = SINK.lock().clone() else { return };
    let record = record(cur, group, cred, status);
    let ctx = OpCtx { cred: &writer, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 };
    // Whoever ends cannot be told that there was no room.
    let _ = IoSrc::with_kernel(&record, |src| file.ops.write(&ctx, &file, src, 0));
}

/// `struct acct_v3`.
fn record(cur: &CurrentTask, group: &ThreadGroup, cred: Option<&Arc<Cred>>, status: i32) -> Vec<u8> {
    let elapsed = time::host_monotonic().saturating_sub(group.started);
    let began = (time::now_coarse() as u64).saturating_sub(elapsed) / 1_000_000_000;
    let flags = if group.did_exec.load(SeqCst) { 0 } else { FORKED }
        | if status & 0x80 != 0 { CORE } else { 0 }
        | if status & 0x7f != 0 { SIGNALLED } else { 0 };
    let (uid, gid) = cred.map_or((0, 0), |c| (c.uid, c.gid));
    let parent = group.parent().map_or(0, |p| p.pid);
    let ticks = |kind: usize| compressed(group.times[kind].load(SeqCst) / TICK);
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&[flags, VERSION, 0, 0]);
    for word in [status as u32, uid, gid, group.pid, parent, began as u32] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&float((elapsed / TICK) as u32).to_ne_bytes());
    // Memory, input and output, blocks, faults, swaps: of those the host knows.
    for short in [ticks(0), ticks(1), 0, 0, 0, 0, 0, 0] {
        out.extend_from_slice(&short.to_ne_bytes());
    }
    let mut name = [0u8; 16];
    for (to, from) in name.iter_mut().take(15).zip(cur.comm.lock().iter()) {
        *to = *from;
    }
    out.extend_from_slice(&name);
    out
}

/// The bits of a number as an IEEE float; the kernel has no floating point registers to spare (`encode_float`).
fn float(value: u32) -> u32 {
    if value == 0 {
        return 0;
    }
    let exponent = 31 - value.leading_zeros();
    let mantissa = if exponent > 23 { value >> (exponent - 23) } else { value << (23 - exponent) };
    (127 + exponent) << 23 | mantissa & 0x7f_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_packed_as_in_linux() {
        assert_eq!([0, 1, 8191].map(compressed), [0, 1, 8191]);
        assert_eq!(compressed(8192), 1 << 13 | 1024);
        assert_eq!(compressed(8196), 1 << 13 | 1025);
        assert_eq!(compressed(u64::MAX), 0xffff);
        for n in [0u32, 1, 2, 3, 100, 12345, 1 << 23, (1 << 24) + 2] {
            assert_eq!(f32::from_bits(float(n)), n as f32);
        }
    }
}
