//! Sockets. Only the local family exists; nothing here reaches the host's network.

pub mod unix;
