//! (room boot)
