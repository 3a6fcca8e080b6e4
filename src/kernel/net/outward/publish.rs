//! Published ports: connections to a port of the host go to a server on the sandbox's loopback.

use super::{Means, OfHost, Watch, Work, add, bridge, due, new_key};
use crate::abi::control::Publish;
use crate::abi::{Errno, Result};
use crate::host::{HostFd, net};
use crate::net::ns;
use crate::net::socket::family::{Wanted, wanted};
use crate::net::socket::{SockAddr, SockCtx, SocketOps, af, sock};
use crate::sync::{Level, Mutex, Polled};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Where a connection goes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    family: u16,
    port: u16,
}

/// Ports, by their work's numbers: those that could not accept are tried again when there may be a descriptor.
static PORTS: Mutex<Vec<u64>> = Mutex::new(Level::Leaf, Vec::new());

/// Connections taken before others have their turn.
const BATCH: usize = 64;

struct Port {
    port: u16,
    _of_host: Watch<OfHost>,
    listener: HostFd,
}

/// Takes connections of a port that the host listens on.
pub(super) fn open(it: &Publish) -> Result {
    let key = new_key();
    let listener = HostFd::new(it.fd);
    let polled = Polled::new(it.fd);
    polled.watch();
    PORTS.lock().push(key);
    add(key, Arc::new(Port { port: it.port, _of_host: Watch::new(OfHost(polled), key), listener }));
    Ok(())
}

/// A connection has ended.
pub(super) fn one_less() {
    let ports = PORTS.lock().clone();
    ports.into_iter().for_each(due);
}

/// A socket of the sandbox that connects to a place.
pub(super) fn connect(ctx: &SockCtx<'_>, place: &Place) -> Result<Arc<dyn SocketOps>> {
    let (family, kind) = wanted(place.family.into(), sock::STREAM.into(), 0)?;
    let socket = (family.create)(ctx, &ns::first(), Wanted { ..kind })?;
    let mut addr = [0u8; 28];
    addr[..2].copy_from_slice(&place.family.to_ne_bytes());
    addr[2..4].copy_from_slice(&place.port.to_be_bytes());
    let len = if place.family == af::INET {
        addr[4..8].copy_from_slice(&[127, 0, 0, 1]);
        16
    } else {
        addr[23] = 1;
        28
    };
    match socket.connect(ctx, &SockAddr::new(&addr[..len]), true) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(e) => {
            socket.close();
            Err(e)
        }
    }
}

impl Work for Port {
    fn run(&self, means: &mut Means) -> bool {
        for _ in 0..BATCH {
            // Without a descriptor for it, it goes on waiting.
            let Ok(host) = net::accept(self.listener.raw()) else { return false };
            let mut places = vec![Place { family: af::INET6, port: self.port }];
            let first = Place { family: af::INET, port: self.port };
            let inner = connect(&means.ctx(), &first).or_else(|_| {
                places.clear();
                connect(&means.ctx(), &Place { family: af::INET6, port: self.port })
            });
            if let Ok(inner) = inner {
                bridge::start(host, inner, true, places);
            } else {
                // As where nobody listens.
                let _ = net::set_option(host.raw(), 1, 13, &[1, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
        true
    }
}
