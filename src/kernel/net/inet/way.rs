//! Where a socket's packets go from, which addresses it may be bound to, and how large its packets may be.

use super::addr::{Addr, Ip};
use super::ends::largest;
use super::mailbox::{Mailbox, Returned};
use super::options::{IpOptions, on};
use crate::abi::{Errno, Result};
use crate::cred::cap;
use crate::net::NetNamespace;
use crate::net::socket::{Core, SockCtx, flag};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

impl IpOptions {
    /// The interface's own address towards `to`, if there is a way.
    /// `own`: the socket's address, which tells the interface towards groups and all hosts.
    ///
    /// # Errors
    /// `ENETUNREACH`; `EACCES` to all hosts without `SO_BROADCAST`.
    pub fn source_for(&self, core: &Core, own: Ip, to: Ip) -> Result<Ip> {
        let ns = &core.ns;
        let many = to.is_multicast() || to.is_broadcast();
        let reachable = match many {
            // No route of version 6 leads groups to the loopback interface.
            true if to.is_multicast() && !to.is_v4() => false,
            // Only what was sent out of the loopback interface by choice, or its own broadcast.
            true => {
                let from_here = !own.is_any() && own.is_v4() && ns.is_local(own);
                ns.loopback_is_up()
                    && (from_here
                        || self.group_device(to) != 0
                        || core.device.load(Relaxed) != 0
                        || to.bits4() == 0x7fff_ffff)
            }
            false if ns.is_local(to) => true,
            false => return ns.way_out(core, to),
        };
        if !reachable {
            return Err(Errno::ENETUNREACH);
        }
        if to.is_broadcast() && !core.has(flag::BROADCAST) {
            return Err(Errno::EACCES);
        }
        Ok(if many { to.loopback_like() } else { ns.source_for(to) })
    }

    /// Whether a socket may be bound to an address, and to a port without privilege.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL`, `EINVAL`, `EACCES`.
    pub fn check_local(&self, ctx: &SockCtx<'_>, ns: &NetNamespace, at: Addr) -> Result {
        let anything = self.has(on::FREEBIND | on::TRANSPARENT) || ns.inet.nonlocal.load(Relaxed);
        let ok = at.ip.is_any() || at.ip.is_multicast() || at.ip.is_broadcast() || ns.may_bind(at.ip);
        if !ok && !anything {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let free = ns.inet.unprivileged.load(Relaxed);
        if at.port != 0 && i32::from(at.port) < free && !ns.may(ctx.op.cred, cap::NET_BIND_SERVICE) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether a packet of so many bytes with its headers can go to an address. Where it is too large, who wants to hear
    /// of errors is told how large it may be (`ip_local_error`, `ipv6_local_error`).
    ///
    /// # Errors
    /// `EMSGSIZE`.
    pub fn check_size(&self, core: &Core, mail: &Mailbox, to: Addr, len: usize, whole: Option<bool>) -> Result {
        let most = largest(&core.ns, to.ip);
        if len <= most || self.may_split(to.ip, whole) {
            return Ok(());
        }
        if self.has(if to.ip.is_v4() { on::RECVERR } else { on::RECVERR6 }) {
            let told = Some(most as u32);
            mail.take_error(Returned { data: Vec::new(), to, icmp: (0, 0), errno: Errno::EMSGSIZE, told });
        }
        Err(Errno::EMSGSIZE)
    }
}
