//! (room fs)
