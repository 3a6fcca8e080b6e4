//! The memory file over a memfd of the test's own.

use super::*;
use crate::abi::linux::*;
use proptest::prelude::*;
use std::sync::{Mutex as TestMutex, MutexGuard, Once};
use std::thread;

/// Maps the memory file's room once and opens `/proc`.
fn map_window() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let base = 0x6900_0000_0000u64;
        // SAFETY: a new descriptor, and a mapping where nothing was.
        unsafe {
            let fd = crate::arch::syscall(__NR_memfd_create, [c"window".as_ptr() as u64, 0, 0, 0, 0, 0]);
            assert!(fd >= 0);
            let len = MEMFILE + MEMFILE_MAX;
            assert_eq!(crate::arch::syscall(__NR_ftruncate, [fd as u64, len, 0, 0, 0, 0]), 0);
            let flags = u64::from(MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE);
            let prot = u64::from(PROT_READ | PROT_WRITE);
            let args = [base + MEMFILE, MEMFILE_MAX, prot, flags, fd as u64, MEMFILE];
            assert_eq!(crate::arch::syscall(__NR_mmap, args) as u64, base + MEMFILE);
            crate::arch::slot::set_window(base);
            let path = c"/proc".as_ptr() as u64;
            let proc_fd = crate::arch::syscall(__NR_open, [path, u64::from(O_PATH), 0, 0, 0, 0]);
            host::window::set(fd as i32, proc_fd as i32);
        }
    });
}

/// For any test that needs file data: maps the window, and holds back others, because some count bytes.
pub(crate) fn set_up() -> MutexGuard<'static, ()> {
    static ONE: TestMutex<()> = TestMutex::new(());
    map_window();
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn write(buf: &mut PagedBuf, at: u64, bytes: &[u8]) {
    buf.reserve_range(at, at + bytes.len() as u64).expect("room");
    let mut done = 0;
    while done < bytes.len() {
        let (p, room) = buf.piece(at + done as u64).expect("reserved");
        let n = room.min(bytes.len() - done);
        // SAFETY: `n` bytes of the piece.
        unsafe { core::ptr::copy_nonoverlapping(bytes[done..].as_ptr(), p, n) };
        done += n;
    }
}

fn read(buf: &PagedBuf, at: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut done = 0;
    while done < len {
        let Some((p, room)) = buf.piece(at + done as u64) else {
            done += buf.hole(at + done as u64).min((len - done) as u64) as usize;
            continue;
        };
        let n = room.min(len - done);
        // SAFETY: `n` bytes of the piece.
        unsafe { core::ptr::copy_nonoverlapping(p, out[done..].as_mut_ptr(), n) };
        done += n;
    }
    out
}

#[test]
fn data_never_moves_and_new_bytes_are_zero() {
    let _one = set_up();
    for _ in 0..3 {
        let mut buf = PagedBuf::new();
        write(&mut buf, 10, b"hello");
        let first = buf.piece(0).expect("there").0;
        write(&mut buf, 3 << 20, &[7; 5000]);
        assert_eq!(buf.piece(0).expect("there").0, first);
        assert_eq!(read(&buf, 0, 20), b"\0\0\0\0\0\0\0\0\0\0hello\0\0\0\0\0");
        assert_eq!(read(&buf, (3 << 20) - 1, 3), [0, 7, 7]);
        buf.truncate(12);
        write(&mut buf, 20, b"x");
        assert_eq!(read(&buf, 8, 13), b"\0\0he\0\0\0\0\0\0\0\0x");
        buf.zero(11, 1);
        assert_eq!(read(&buf, 10, 3), b"h\0\0");
    }
}

#[test]
fn memory_goes_back() {
    let _one = set_up();
    let (charged, held) = (in_use(), host::mem::window_usage());
    let mut buf = PagedBuf::new();
    write(&mut buf, 0, &vec![1; 20 << 20]);
    assert!(host::mem::window_usage() >= held + (20 << 20));
    assert!((20 << 20..22 << 20).contains(&(in_use() - charged)));
    buf.zero(1 << 20, 10 << 20);
    assert!(host::mem::window_usage() < held + (11 << 20));
    buf.truncate(100);
    assert!(host::mem::window_usage() < held + (1 << 20));
    drop(buf);
    assert_eq!(in_use(), charged);
    let shared = Extent::alloc(5 << 20).expect("room");
    // SAFETY: our extent.
    unsafe { core::ptr::write_bytes(shared.ptr(), 1, 5 << 20) };
    assert_eq!(in_use(), charged + (5 << 20));
    drop(shared);
    assert!(host::mem::window_usage() < held + (1 << 20));
}

#[test]
fn sparse_files_cost_what_they_hold() {
    let _one = set_up();
    let charged = in_use();
    let mut buf = PagedBuf::new();
    write(&mut buf, 0, b"head");
    write(&mut buf, 40 << 30, b"tail");
    assert!(in_use() - charged <= 32 << 10, "{}", in_use() - charged);
    let size = (40 << 30) + 4;
    assert_eq!(buf.next_data(0, size), Some(0));
    let hole = buf.next_hole(0, size);
    assert!((4..1 << 20).contains(&hole), "{hole}");
    let data = buf.next_data(hole, size).expect("the tail");
    assert!(data <= 40 << 30 && data > 39 << 30);
    assert_eq!(buf.next_hole(data, size), size);
    assert_eq!(buf.reserve(MEMFILE_MAX + 1), Err(Errno::ENOSPC));
}

#[test]
fn reading_holes_takes_no_memory() {
    let _one = set_up();
    let (charged, held) = (in_use(), host::mem::window_usage());
    let mut buf = PagedBuf::new();
    // Doubles its extents up to some megabytes.
    write(&mut buf, 0, &vec![1; 5 << 20]);
    write(&mut buf, 100, b"x");
    let full = host::mem::window_usage();
    for at in [6 << 20, 7 << 20, 9 << 20, 30 << 20, (6 << 20) + 100_000] {
        write(&mut buf, at, b"x");
    }
    assert!(in_use() - charged <= (5 << 20) + (5 << 12), "{}", in_use() - charged);
    buf.truncate((5 << 20) + 10);
    write(&mut buf, 9 << 20, b"x");
    assert!(read(&buf, (5 << 20) + 10, 3 << 20).iter().all(|&b| b == 0));
    assert!(host::mem::window_usage() <= full + (5 << 12));
    drop(buf);
    assert_eq!(in_use(), charged);
    // Small extents are kept for the next file.
    assert!(host::mem::window_usage() <= held + WARM_COUNT as u64 * WARM_MAX);
}

#[test]
fn bytes_far_out_take_little_room_and_give_it_back() {
    let _one = set_up();
    for round in 0..3 {
        let mut live = Vec::new();
        for gib in [250u64, 190, 120, 60, 30, 1 << 20, 15, 7, 3, 1] {
            let mut buf = PagedBuf::new();
            write(&mut buf, gib << 30, b"x");
            assert_eq!(read(&buf, gib << 30, 1), b"x");
            if round > 0 {
                live.push(buf);
            }
        }
    }
    let whole = Extent::sparse(MEMFILE_MAX - (64 << 20)).expect("nearly all room is one gap again");
    assert!(Extent::sparse(128 << 20).is_err());
    drop(whole);
}

/// Length of the model's file, bytes.
const MODEL: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u64, u64, u8),
    Zero(usize, u64, u64),
    Truncate(usize, u64),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (which, at) = (0..3usize, 0..MODEL);
    let len = prop_oneof![1..200u64, 1..20_000u64, 1..MODEL / 2];
    prop_oneof![
        4 => (which.clone(), at.clone(), len.clone(), 1..255u8).prop_map(|(w, a, n, b)| Step::Write(w, a, n, b)),
        2 => (which.clone(), at.clone(), len).prop_map(|(w, a, n)| Step::Zero(w, a, n)),
        2 => (which.clone(), at).prop_map(|(w, a)| Step::Truncate(w, a)),
        1 => which.prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn files_are_what_arrays_of_bytes_say(steps in prop::collection::vec(step(), 1..30)) {
        let _one = set_up();
        let charged = in_use();
        let mut files: Vec<(PagedBuf, Vec<u8>)> =
            (0..3).map(|_| (PagedBuf::new(), vec![0; MODEL as usize])).collect();
        for step in steps {
            let cut = |a: u64, n: u64| (a as usize, (a + n).min(MODEL) as usize);
            match step {
                Step::Write(w, a, n, byte) => {
                    let (a, b) = cut(a, n);
                    write(&mut files[w].0, a as u64, &vec![byte; b - a]);
                    files[w].1[a..b].fill(byte);
                }
                Step::Zero(w, a, n) => {
                    let (a, b) = cut(a, n);
                    files[w].0.zero(a as u64, (b - a) as u64);
                    files[w].1[a..b].fill(0);
                }
                Step::Truncate(w, a) => {
                    files[w].0.truncate(a);
                    files[w].1[a as usize..].fill(0);
                }
                Step::Drop(w) => files[w] = (PagedBuf::new(), vec![0; MODEL as usize]),
            }
            for (buf, model) in &files {
                buf.pieces.check();
                let sum: u64 = buf.pieces.from(0).map(|p| p.extent.charged).sum();
                prop_assert_eq!(buf.charged(), sum);
                let mut at = 0;
                while at < MODEL {
                    let n = match buf.piece(at) {
                        Some((p, n)) => {
                            let n = (n as u64).min(MODEL - at) as usize;
                            // SAFETY: within the piece.
                            let found = unsafe { core::slice::from_raw_parts(p, n) };
                            prop_assert!(found == &model[at as usize..at as usize + n]);
                            n as u64
                        }
                        None => {
                            let n = buf.hole(at).min(MODEL - at);
                            prop_assert!(model[at as usize..(at + n) as usize].iter().all(|&b| b == 0));
                            n
                        }
                    };
                    at += n;
                }
                let data: Vec<_> = buf.data(MODEL).collect();
                let outside = |at: usize| !data.iter().any(|d| (d.0 as usize..d.0 as usize + d.2).contains(&at));
                prop_assert!((0..MODEL as usize).step_by(997).all(|i| model[i] == 0 || !outside(i)));
            }
        }
        drop(files);
        prop_assert_eq!(in_use(), charged);
    }
}

#[test]
fn limit_holds() {
    let _one = set_up();
    set_limit(in_use() + (8 << 20));
    let mut buf = PagedBuf::new();
    let mut at = 0;
    while buf.reserve_range(at, at + 65536).is_ok() {
        at += 65536;
    }
    assert!((7 << 20..=8 << 20).contains(&at), "{at}");
    assert!(Extent::alloc(1 << 20).is_err());
    drop(buf);
    assert!(Extent::alloc(1 << 20).is_ok());
    set_limit(0);
}

#[test]
fn threads_get_zeroed_extents_of_their_own() {
    let _one = set_up();
    thread::scope(|s| {
        for t in 1..=6u8 {
            s.spawn(move || {
                let mut live: Vec<PagedBuf> = Vec::new();
                for i in 0..1500usize {
                    let len = [3, 4000, 9000, 20_000, 100_000][i % 5];
                    let mut buf = PagedBuf::new();
                    buf.reserve(len as u64).expect("room");
                    assert!(read(&buf, 0, len).iter().all(|&b| b == 0));
                    write(&mut buf, 0, &vec![t; len]);
                    live.push(buf);
                    if live.len() > 8 {
                        let old = live.swap_remove(i % 8);
                        assert!(read(&old, 0, 3).iter().all(|&b| b == t));
                    }
                }
            });
        }
    });
}
