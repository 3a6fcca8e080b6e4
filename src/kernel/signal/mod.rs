//! (room signal)
pub mod frame;
