//! Guest programs: each runs natively and in drupe, with rewriting on and off, and must agree.

mod common;
#[path = "suite/guest.rs"]
mod suite;
