//! Real programs do real work, and agree with what they do natively.

mod common;
#[path = "suite/programs.rs"]
mod suite;
