//! Addresses of raw and ping sockets.

use super::{Raw, State};
use crate::abi::{Errno, Result};
use crate::net::inet::addr::{self, Addr, LEN4, LEN6};
use crate::net::inet::options::on;
use crate::net::socket::{SockAddr, SockCtx, af};
use core::sync::atomic::Ordering::Relaxed;

impl Raw {
    /// `raw_bind`, `rawv6_bind`: the port is not looked at.
    pub(super) fn bind_raw(&self, to: &SockAddr) -> Result {
        let ns = &self.core.ns;
        let mut state = self.state.lock();
        let it = if self.is_six() {
            if to.len() < LEN6 || to.family() != af::INET6 {
                return Err(Errno::EINVAL);
            }
            let it = Addr::parse6(to);
            addr::check_scope(to, self.core.device.load(Relaxed))?;
            if it.ip.is_v4() {
                return Err(Errno::EADDRNOTAVAIL);
            }
            it
        } else {
            if to.len() < LEN4 {
                return Err(Errno::EINVAL);
            }
            Addr::parse4(to)
        };
        if state.remote.is_some() {
            return Err(Errno::EINVAL);
        }
        let anything = self.ip.has(on::FREEBIND | on::TRANSPARENT) || ns.inet.nonlocal.load(Relaxed);
        let many = it.ip.is_multicast() || it.ip.is_broadcast();
        if !(it.ip.is_any() || many || anything || ns.may_bind(it.ip)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        state.local.ip = it.ip;
        state.bound = true;
        Ok(())
    }

    /// `ping_bind`: the port is the identifier.
    pub(super) fn bind_ping(&self, ctx: &SockCtx<'_>, to: &SockAddr) -> Result {
        let wanted = addr::for_bind(self.core.family, true, to)?;
        addr::check_scope(to, self.core.device.load(Relaxed))?;
        if wanted.ip.is_multicast() || wanted.ip.is_broadcast() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.ip.check_local(ctx, &self.core.ns, Addr { port: 0, ..wanted })?;
        let mut state = self.state.lock();
        if state.local.port != 0 {
            return Err(Errno::EINVAL);
        }
        state.local = Addr { ip: wanted.ip, port: self.core.ns.inet.raw.identify(self, wanted.port)? };
        state.bound = true;
        Ok(())
    }

    /// Gives a ping socket an identifier where it has none.
    pub(super) fn autobind(&self, state: &mut State) -> Result {
        if state.local.port == 0 && self.is_ping() {
            state.local.port = self.core.ns.inet.raw.identify(self, 0).map_err(|_| Errno::EAGAIN)?;
        }
        Ok(())
    }

    fn disconnect(&self) {
        let mut state = self.state.lock();
        state.remote = None;
        state.pending = None;
        if !state.bound {
            state.local.ip = Addr::any(self.core.family).ip;
            if self.is_ping() {
                let ident = core::mem::take(&mut state.local.port);
                self.core.ns.inet.raw.forget(self, ident);
            }
        }
    }

    /// `connect(2)` (`ip4_datagram_connect`, `ip6_datagram_connect_v6_only`).
    pub(super) fn connect_to(&self, to: &SockAddr) -> Result {
        if to.len() < 2 {
            return Err(Errno::EINVAL);
        }
        if to.family() == af::UNSPEC {
            self.disconnect();
            return Ok(());
        }
        let mut state = self.state.lock();
        self.autobind(&mut state)?;
        // What a raw socket of version 6 is connected to may be of version 4, though nothing is sent there.
        let mut remote = match to.family() {
            af::INET if self.is_six() && self.is_ping() => return Err(Errno::EAFNOSUPPORT),
            af::INET if self.is_six() => addr::for_stream(af::INET, false, to)?,
            _ => addr::for_stream(self.core.family, self.is_ping(), to)?,
        };
        self.ip.connect_flow(&self.core, to)?;
        let device = self.core.device.load(Relaxed) | self.ip.group_device(remote.ip) as u32;
        addr::check_scope(to, device)?;
        remote.ip = remote.ip.or_own(state.local.ip);
        let source = self.ip.source_for(&self.core, state.local.ip, remote.ip)?;
        if state.local.ip.is_any() {
            state.local.ip = source;
        }
        state.remote = Some(remote);
        Ok(())
    }
}
