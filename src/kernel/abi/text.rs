//! Remembered text: what both halves say of a file's code whose system call sites are rewritten in a copy.

use super::slot::SlotHeader;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Which state of which file: a file that was changed or replaced is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Host device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length, bytes.
    pub size: u64,
    /// Time of the last change of its data, ns.
    pub mtime: i64,
    /// Time of the last change of its inode, ns.
    pub ctime: i64,
}

/// A piece of a file that is mapped as code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextKey {
    /// The file.
    pub file: FileIdentity,
    /// Where the piece begins, bytes.
    pub offset: u64,
    /// Its length, whole pages, bytes.
    pub len: u64,
}

/// How a site of a copy leads to its stub. Offsets are from the piece's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// The call itself is a short jump to padding between two functions, where a long one lies.
    Relay {
        /// Offset of the long jump.
        at: u32,
    },
    /// The instruction in front of the call is a long jump, and the stub begins with it; the call stays as it is.
    Before {
        /// Its length, bytes; at least [`JUMP`].
        len: u8,
    },
}

impl Form {
    /// Bytes of the stub.
    pub fn stub_len(self) -> u32 {
        match self {
            Form::Relay { .. } => 15,
            Form::Before { len } => 15 + u32::from(len),
        }
    }
}

/// A rewritten site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patched {
    /// Offset of the `syscall` instruction.
    pub site: u32,
    /// Offset of its stub, in the padding behind the text.
    pub stub: u32,
    /// How it gets there.
    pub form: Form,
}

/// Whole instructions directly in front of a call that do the same wherever they lie, so that a jump may take their
/// place, and the call's where they are short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// Offset of the `syscall` instruction.
    pub site: u32,
    /// Bytes of these instructions; 3 to [`Front::MAX`].
    pub len: u8,
    /// Bit `n`: one of them begins `n` bytes behind the first.
    pub begins: u16,
}

impl Front {
    /// Most bytes of a front.
    pub const MAX: u8 = 15;
    /// Fewest: with the call's two they make room for a jump.
    pub const MIN: u8 = 3;
}

/// What was done to a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPlan {
    /// Rewritten sites, in order.
    pub patched: Vec<Patched>,
    /// Sites that trapped and could not be rewritten this way, in order.
    pub refused: Vec<u32>,
    /// Of these, what lies in front of them where that may move.
    pub fronts: Vec<Front>,
}

impl TextPlan {
    /// How many sites it says something of.
    pub fn sites(&self) -> usize {
        self.patched.len() + self.refused.len()
    }

    /// These.
    pub fn all_sites(&self) -> impl Iterator<Item = u32> + '_ {
        self.patched.iter().map(|p| p.site).chain(self.refused.iter().copied())
    }

    /// Whether a site is one of them.
    pub fn knows(&self, site: u32) -> bool {
        self.patched.binary_search_by_key(&site, |p| p.site).is_ok() || self.refused.binary_search(&site).is_ok()
    }
}

/// Where copies find the kernel's entry: offset in the slot, to which gs points.
pub const COPY_ENTRY: u32 = core::mem::offset_of!(SlotHeader, fast_entry) as u32;

/// How a copy is kept in the cache: the piece, and behind it, at its length, this mark and a
/// [`CopyRecord`] encoded with postcard; the last eight bytes are the piece's length.
///
/// The mark's last bytes are what copies know of the kernel, [`COPY_ENTRY`].
pub const COPY_MARK: [u8; 16] = {
    let mut mark = *b"drupe text 7    ";
    let entry = COPY_ENTRY.to_le_bytes();
    let mut i = 0;
    while i < entry.len() {
        mark[12 + i] = entry[i];
        i += 1;
    }
    mark
};

/// What stands behind a copy in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// What it is a copy of.
    pub key: TextKey,
    /// [`Checksum`] of the piece.
    pub sum: u64,
    /// What was done to it.
    pub plan: TextPlan,
}

/// What the mark of every build begins with.
pub const ANY_MARK: &[u8] = b"drupe text ";

impl CopyRecord {
    /// The record that these bytes, behind the mark, hold.
    pub fn parse(bytes: &[u8]) -> Option<CopyRecord> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A sum that finds damage, not malice: four lanes of multiply and fold over 32 bytes at a time.
#[derive(Clone, Debug)]
pub struct Checksum([u64; 4]);

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum([0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x27d4_eb2f_1656_67c5])
    }
}

impl Checksum {
    /// Adds bytes, whole 32 of them but for the last time.
    pub fn add(&mut self, bytes: &[u8]) {
        let fold = |lane: u64, word: u64, key: u64| {
            let product = u128::from(lane ^ word).wrapping_mul(u128::from(key));
            // The lane itself stays in the sum: a factor of zero does not wipe it out.
            lane.rotate_left(23).wrapping_add(product as u64 ^ (product >> 64) as u64)
        };
        const KEYS: [u64; 4] =
            [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];
        let mut chunks = bytes.chunks_exact(32);
        for chunk in &mut chunks {
            for (i, lane) in self.0.iter_mut().enumerate() {
                let word = chunk[8 * i..].first_chunk::<8>().map_or(0, |w| u64::from_le_bytes(*w));
                *lane = fold(*lane, word, KEYS[i]);
            }
        }
        for (i, &byte) in chunks.remainder().iter().enumerate() {
            self.0[i % 4] = fold(self.0[i % 4], u64::from(byte) + 1, KEYS[i % 4]);
        }
    }

    /// The sum.
    pub fn finish(&self) -> u64 {
        let [a, b, c, d] = self.0;
        let mixed = (a ^ b.rotate_left(17)).wrapping_add(c.rotate_left(31) ^ d.rotate_left(47));
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
    }

    /// The sum of these bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut sum = Checksum::default();
        sum.add(bytes);
        sum.finish()
    }
}

/// Time of last modification, ns, that a copy with this sum gets once it is known to be whole: a *seal*. Whoever
/// writes to the file later breaks it, so that a copy need not be read to be believed.
pub fn seal(sum: u64) -> i64 {
    // Some time between 1970 and 2004, in whole microseconds: not every file system keeps more.
    (sum >> 4) as i64 / 1000 * 1000
}

/// Length of [`TextKey::copy_name`].
pub const COPY_NAME: usize = 16;

impl TextKey {
    /// Name of the copy in the cache's directory. All states of a piece have one name, so the newest copy
    /// replaces older ones; [`CopyRecord::key`] says of which state it is.
    pub fn copy_name(&self) -> [u8; COPY_NAME] {
        // FNV-1a. Pieces that share a name only take each other's place.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for word in [self.file.dev, self.file.ino, self.offset] {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        let mut name = [0; COPY_NAME];
        for (i, digit) in name.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(hash >> (60 - 4 * i)) as usize & 15];
        }
        name
    }
}

/// Length of a long jump, bytes.
pub const JUMP: u32 = 5;
