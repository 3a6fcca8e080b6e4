//! (room entry)
