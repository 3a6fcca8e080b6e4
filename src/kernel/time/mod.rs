//! (room time)
