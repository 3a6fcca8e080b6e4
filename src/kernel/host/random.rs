//! Randomness: a generator that is seeded once per sandbox, so that a run can be repeated.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static SEED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Seeds the generator (at boot).
pub fn seed(bytes: &[u8; 32]) {
    for (word, chunk) in SEED.iter().zip(bytes.chunks_exact(8)) {
        let mut b = [0; 8];
        b.copy_from_slice(chunk);
        word.store(u64::from_le_bytes(b), Relaxed);
    }
}

fn quarter(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(16);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(12);
    s[a] = s[a].wrapping_add(s[b]);
    s[d] = (s[d] ^ s[a]).rotate_left(8);
    s[c] = s[c].wrapping_add(s[d]);
    s[b] = (s[b] ^ s[c]).rotate_left(7);
}

/// One ChaCha20 block (RFC 8439) of the seed at a counter.
fn block(counter: u64) -> [u8; 64] {
    let mut init = [0u32; 16];
    init[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (i, w) in SEED.iter().enumerate() {
        let w = w.load(Relaxed);
        init[4 + 2 * i] = w as u32;
        init[5 + 2 * i] = (w >> 32) as u32;
    }
    init[12] = counter as u32;
    init[13] = (counter >> 32) as u32;
    let mut s = init;
    for _ in 0..10 {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    let mut out = [0; 64];
    for (i, o) in out.chunks_exact_mut(4).enumerate() {
        o.copy_from_slice(&s[i].wrapping_add(init[i]).to_le_bytes());
    }
    out
}

/// Fills `out` with random bytes.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(64) {
        let b = block(COUNTER.fetch_add(1, Relaxed));
        chunk.copy_from_slice(&b[..chunk.len()]);
    }
}

/// A random number.
pub fn next_u64() -> u64 {
    let mut b = [0; 8];
    fill(&mut b);
    u64::from_le_bytes(b)
}
