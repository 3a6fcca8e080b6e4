//! What connects a sandbox's own network with the host's: ports that are published, and places that it may connect to.

use super::error::{Error, Result};
use super::porter::Rule;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::str::FromStr;

/// A TCP port of the host that leads to a server on the sandbox's loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The host's address that is listened on.
    pub addr: IpAddr,
    /// The host's port.
    pub host: u16,
    /// The port inside.
    pub guest: u16,
}

/// `[ADDR:]HOST:GUEST`; the address is the loopback's unless given, one of version 6 stands in brackets.
impl FromStr for Publication {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Publication, String> {
        let wrong = || format!("not [ADDR:]HOST:GUEST with ports from 1 to 65535: {text:?}");
        if text.ends_with("/udp") {
            return Err(format!("UDP ports cannot be published: {text:?}"));
        }
        let text = text.strip_suffix("/tcp").unwrap_or(text);
        let port = |t: &str| t.parse::<u16>().ok().filter(|&p| p != 0).ok_or_else(wrong);
        let (rest, guest) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (addr, host) = match rest.rsplit_once(':') {
            None => (Ipv4Addr::LOCALHOST.into(), rest),
            Some((addr, host)) => {
                let bare = addr.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
                let parsed = match bare {
                    Some(v6) => v6.parse().map(IpAddr::V6),
                    None => addr.parse().map(IpAddr::V4),
                };
                (parsed.map_err(|_| wrong())?, host)
            }
        };
        Ok(Publication { addr, host: port(host)?, guest: port(guest)? })
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", SocketAddr::new(self.addr, self.host), self.guest)
    }
}

impl Publication {
    /// Listens on the host's side.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let at = SocketAddr::new(self.addr, self.host);
        let listening = TcpListener::bind(at).and_then(|l| l.set_nonblocking(true).map(|()| l.into()));
        listening.map_err(|e| Error::host(format!("publish {self}: cannot listen on {at}"), e))
    }
}

/// Where a sandbox may connect to: a name or an address of the host's network, and a port, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The name or address.
    pub host: String,
    /// The port; `None` for any.
    pub port: Option<u16>,
}

/// `HOST[:PORT]`; an address of version 6 with a port stands in brackets.
impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Allowance, String> {
        let wrong = || format!("not HOST[:PORT]: {text:?}");
        let of = |host: &str, port: Option<&str>| {
            let port = port.map(|p| p.parse::<u16>().ok().filter(|&p| p != 0).ok_or_else(wrong)).transpose()?;
            let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
            let fits = !host.is_empty() && host.len() < 254 && host.chars().all(usual);
            fits.then(|| Allowance { host: host.to_string(), port }).ok_or_else(wrong)
        };
        if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            return match port.strip_prefix(':') {
                Some(port) => of(host, Some(port)),
                None if port.is_empty() => of(host, None),
                None => Err(wrong()),
            };
        }
        match text.split_once(':') {
            // Further colons: an address of version 6.
            Some((_, rest)) if rest.contains(':') => {
                text.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                of(text, None)
            }
            Some((host, port)) => of(host, Some(port)),
            None => of(text, None),
        }
    }
}

/// What an allowance comes to now.
pub(super) struct Resolved {
    /// For the porter.
    pub rules: Vec<Rule>,
    /// For `/etc/hosts` of the sandbox.
    pub lines: Vec<String>,
}

impl Allowance {
    /// Looks its name up on the host.
    pub(super) fn resolve(&self) -> Result<Resolved> {
        let host = &self.host;
        let found = (host.as_str(), self.port.unwrap_or(0)).to_socket_addrs();
        let found = found.map_err(|e| Error::host(format!("allow {host}: the name is not to be found"), e))?;
        let mut ips: Vec<IpAddr> = found.map(|a| a.ip()).collect();
        ips.dedup();
        let own = |ip: &IpAddr| ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
        if let Some(ip) = ips.iter().find(|ip| own(ip)) {
            let what = format!(
                "allow {host}: {ip} means the sandbox's own loopback in there; the host's network reaches the host's"
            );
            return Err(Error::Setting(what));
        }
        let is_name = host.parse::<IpAddr>().is_err();
        let lines = ips.iter().filter(|_| is_name).map(|ip| format!("{ip}\t{host}")).collect();
        Ok(Resolved { rules: ips.iter().map(|&ip| Rule::new(ip, self.port)).collect(), lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_read() {
        let read = |t: &str| t.parse::<Publication>().map(|p| p.to_string());
        assert_eq!(read("8080:80").as_deref(), Ok("127.0.0.1:8080:80"));
        assert_eq!(read("0.0.0.0:8080:80/tcp").as_deref(), Ok("0.0.0.0:8080:80"));
        assert_eq!(read("[::1]:8080:80").as_deref(), Ok("[::1]:8080:80"));
        for wrong in ["80", "0:80", "80:0", "a:80", "80:65536", "::1:80:80", "1.2.3:1:2", "80:80/udp", "", ":80", "80:"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn allowances_are_read() {
        let read = |t: &str| t.parse::<Allowance>().map(|a| (a.host, a.port)).ok();
        assert_eq!(read("example.org"), Some(("example.org".into(), None)));
        assert_eq!(read("example.org:443"), Some(("example.org".into(), Some(443))));
        assert_eq!(read("[2001:db8::1]:443"), Some(("2001:db8::1".into(), Some(443))));
        assert_eq!(read("2001:db8::1"), Some(("2001:db8::1".into(), None)));
        for wrong in ["", ":80", "a:", "a:0", "a:b", "a b", "[::1", "[a]:80", "a:1:2"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn loopback_is_not_allowed() {
        assert!(Allowance { host: "127.0.0.1".into(), port: None }.resolve().is_err());
        assert_eq!(
            Allowance { host: "192.0.2.1".into(), port: Some(1) }.resolve().map(|r| r.rules.len()).ok(),
            Some(1)
        );
    }
}
