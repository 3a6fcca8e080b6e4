//! (room net)
