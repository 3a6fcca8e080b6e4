//! Remembered text: what both halves say of a file's code whose system call sites are rewritten in a copy.

use alloc::string::String;
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
    /// `mov $nr, %eax` in front of the call is a long jump; the call stays as it is.
    Move {
        /// Number of the call.
        nr: u32,
    },
}

impl Form {
    /// Bytes of the stub.
    pub fn stub_len(self) -> u32 {
        match self {
            Form::Relay { .. } => 15,
            Form::Move { .. } => 20,
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

/// What was done to a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPlan {
    /// Rewritten sites, in order.
    pub patched: Vec<Patched>,
    /// Sites that trapped and could not be rewritten this way.
    pub refused: Vec<u32>,
}

/// A copy that an earlier sandbox has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedText {
    /// What it is a copy of.
    pub key: TextKey,
    /// Its file's name in the cache directory.
    pub name: String,
    /// What was done to it: a [`TextPlan`], encoded with postcard. Most are never looked at.
    #[serde(with = "serde_bytes")]
    pub plan: Vec<u8>,
}

/// Length of a long jump, bytes.
pub const JUMP: u32 = 5;
