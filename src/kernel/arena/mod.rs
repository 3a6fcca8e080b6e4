//! (room arena)
