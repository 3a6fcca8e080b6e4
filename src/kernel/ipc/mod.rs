//! (room ipc)
