//! (room signal)
