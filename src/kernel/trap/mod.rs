//! (room trap)
