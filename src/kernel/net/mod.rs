//! Sockets.
//!
//! [`socket`] holds what every family shares: the trait by which the system calls know a socket, the
//! state and options of level `SOL_SOCKET`, addresses and messages. A family is one line of
//! [`socket::family`]'s table. [`ns`] is the network that sockets live in. [`hostnet`] alone reaches the host's
//! network, where the sandbox was given that.

pub mod bytes;
pub mod hostnet;
pub mod inet;
pub mod links;
pub mod netlink;
pub mod ns;
pub mod outward;
pub mod packet;
pub mod proc;
pub mod socket;
pub mod unix;

pub use ns::NetNamespace;
