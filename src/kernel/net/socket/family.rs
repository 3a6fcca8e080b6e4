//! The table of families.

use super::{Core, SockCtx, SocketOps, af, sock};
use crate::abi::{Errno, Result};
use crate::net::{NetNamespace, inet, netlink, packet, unix};
use alloc::sync::Arc;

/// What `socket(2)` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`, without flags.
    pub kind: u16,
    /// The protocol, 0 for the only one.
    pub protocol: u32,
}

impl Wanted {
    /// The common state of a socket as wanted, with `protocol` in place of a 0.
    pub fn core(&self, ctx: &SockCtx<'_>, ns: &Arc<NetNamespace>, protocol: u32) -> Core {
        Core::new(self.family, self.kind, protocol, ctx, ns)
    }
}

/// `socket(2)` of a family.
pub type Create = fn(&SockCtx<'_>, &Arc<NetNamespace>, Wanted) -> Result<Arc<dyn SocketOps>>;
/// `socketpair(2)` of a family.
pub type Pair = fn(&SockCtx<'_>, &Arc<NetNamespace>, Wanted) -> Result<[Arc<dyn SocketOps>; 2]>;

/// A family.
pub struct Family {
    /// `AF_*`.
    pub family: u16,
    /// `socket(2)`.
    pub create: Create,
    /// `socketpair(2)`.
    pub pair: Option<Pair>,
}

static FAMILIES: &[Family] = &[
    Family { family: af::UNIX, create: unix::create, pair: Some(unix::create_pair) },
    Family { family: af::INET, create: inet::create, pair: None },
    Family { family: af::NETLINK, create: netlink::create, pair: None },
    Family { family: af::INET6, create: inet::create, pair: None },
    Family { family: af::PACKET, create: packet::create, pair: None },
];

/// Most families (`AF_MAX`) and types (`SOCK_MAX`) that there are.
const AF_MAX: u32 = 46;
const SOCK_MAX: u32 = 11;
/// `SOCK_PACKET`.
const SOCK_PACKET: u16 = 10;

/// Checks `socket(2)`'s arguments in Linux's order (`__sock_create`).
///
/// # Errors
/// `EAFNOSUPPORT`, `EINVAL`.
pub fn wanted(family: u32, kind: u32, protocol: u32) -> Result<(&'static Family, Wanted)> {
    if family >= AF_MAX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind >= SOCK_MAX {
        return Err(Errno::EINVAL);
    }
    let mut wanted = Wanted { family: family as u16, kind: kind as u16, protocol };
    if wanted.family == af::INET && wanted.kind == SOCK_PACKET {
        wanted.family = af::PACKET;
    }
    let found = FAMILIES.iter().find(|f| f.family == wanted.family).ok_or(Errno::EAFNOSUPPORT)?;
    Ok((found, wanted))
}

/// Whether a type has a byte stream.
pub fn is_stream(kind: u16) -> bool {
    kind == sock::STREAM
}
