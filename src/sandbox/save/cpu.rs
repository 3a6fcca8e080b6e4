//! What the processor can do, as CPUID tells it: programs have looked once and go on as if it was so for ever.

use super::error::{ImageError, Loaded};
use serde::{Deserialize, Serialize};
use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};

/// Leaves, subleaves and registers of features.
const WORDS: [(u32, u32, usize); 11] = [
    (1, 0, 2),
    (1, 0, 3),
    (7, 0, 1),
    (7, 0, 2),
    (7, 0, 3),
    (7, 1, 0),
    (0xd, 0, 0),
    (0xd, 1, 0),
    (0x8000_0001, 0, 2),
    (0x8000_0001, 0, 3),
    (0x19, 0, 1),
];

/// Names of some, for people: word and bit.
const NAMES: [((usize, u32), &str); 12] = [
    ((0, 0), "sse3"),
    ((0, 12), "fma"),
    ((0, 25), "aes"),
    ((0, 28), "avx"),
    ((2, 3), "bmi1"),
    ((2, 5), "avx2"),
    ((2, 8), "bmi2"),
    ((2, 16), "avx512f"),
    ((2, 29), "sha"),
    ((2, 30), "avx512bw"),
    ((4, 24), "amx-tile"),
    ((5, 4), "avx-vnni"),
];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    words: Vec<u32>,
    /// Bytes of the extended state, and how it lies.
    state: u32,
}

impl Features {
    /// Those of this processor.
    pub fn here() -> Features {
        let most = [0, 0x8000_0000].map(|leaf| __get_cpuid_max(leaf).0);
        let leaf = |leaf: u32, sub| if leaf <= most[(leaf >> 31) as usize] { __cpuid_count(leaf, sub) } else { ZERO };
        let words = WORDS.map(|(number, sub, register)| {
            let r = leaf(number, sub);
            [r.eax, r.ebx, r.ecx, r.edx][register]
        });
        Features { words: words.to_vec(), state: leaf(0xd, 0).ebx }
    }

    /// Looks whether this processor can do all that.
    ///
    /// # Errors
    /// [`ImageError::Cpu`].
    pub fn check(&self) -> Loaded {
        let here = Features::here();
        if self.words.len() != here.words.len() {
            return Err(ImageError::Cpu("features that this drupe does not know".into()));
        }
        let mut missing = Vec::new();
        for (i, (had, has)) in self.words.iter().zip(&here.words).enumerate() {
            for bit in (0..32).filter(|bit| had & !has & 1 << bit != 0) {
                let (leaf, sub, register) = WORDS[i];
                let name = NAMES.iter().find(|(at, _)| *at == (i, bit)).map(|(_, name)| (*name).to_string());
                let register = ["eax", "ebx", "ecx", "edx"][register];
                missing.push(name.unwrap_or_else(|| format!("bit {bit} of {register} of CPUID {leaf:#x}.{sub}")));
            }
        }
        if missing.is_empty() && self.state != here.state {
            missing.push(format!("an extended state of {} bytes", self.state));
        }
        if missing.is_empty() { Ok(()) } else { Err(ImageError::Cpu(missing.join(", "))) }
    }
}

const ZERO: std::arch::x86_64::CpuidResult = std::arch::x86_64::CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named() {
        let mut features = Features::here();
        features.check().expect("this processor is as capable as itself");
        // No processor has it: reserved.
        features.words[5] |= 1;
        let e = features.check().expect_err("it lacks one").to_string();
        assert!(e.contains("bit 0 of eax of CPUID 0x7.1"), "{e}");
    }
}
