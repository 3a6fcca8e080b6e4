//! Sockets of the local family (`unix(7)`): stream, datagram and sequenced packets.
//!
//! A [`Sock`] has a queue of packets. Who sends puts a packet into the queue of the peer, or of the socket that an
//! address names, and is charged for it until it is taken ([`packet`]). Peers hold each other until one is
//! released: that happens when its last open description goes, and leaves the other one with an end of data.
//! Sockets that travel in packets are counted, and collected where they hold only each other ([`flight`]).
//!
//! Data is copied once on each side: by the sender into the packet, under no lock; by the receiver of a stream under
//! the lock that keeps readers apart, as far as pages are there; by the receiver of a datagram under no lock.
//!
//! Order of locks: those in flight, the reader's lock of a stream, then a socket's state. Two
//! sockets' states are locked together only where one of them is a connection that nobody else can reach.

mod connect;
mod family;
mod flight;
mod names;
mod packet;
mod proc;
mod recv;
mod send;
mod sock;

pub use family::{create, create_pair};
pub use names::{LocalSockets, Name};
pub use proc::{Facts, facts, table};
pub use sock::{Kind, Sock};
