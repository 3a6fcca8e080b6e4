//! The numbers of the options of levels `IPPROTO_IP` and `IPPROTO_IPV6`, and the bits of those that are on or off.

/// `IP_*` (`linux/in.h`).
#[allow(missing_docs)]
pub mod ip4 {
    pub const TOS: u32 = 1;
    pub const TTL: u32 = 2;
    pub const HDRINCL: u32 = 3;
    pub const OPTIONS: u32 = 4;
    pub const RECVOPTS: u32 = 6;
    pub const ROUTER_ALERT: u32 = 5;
    pub const RETOPTS: u32 = 7;
    pub const PKTINFO: u32 = 8;
    pub const PKTOPTIONS: u32 = 9;
    pub const MTU_DISCOVER: u32 = 10;
    pub const RECVERR: u32 = 11;
    pub const RECVTTL: u32 = 12;
    pub const RECVTOS: u32 = 13;
    pub const MTU: u32 = 14;
    pub const FREEBIND: u32 = 15;
    pub const PASSSEC: u32 = 18;
    pub const TRANSPARENT: u32 = 19;
    pub const ORIGDSTADDR: u32 = 20;
    pub const MINTTL: u32 = 21;
    pub const NODEFRAG: u32 = 22;
    pub const CHECKSUM: u32 = 23;
    pub const BIND_ADDRESS_NO_PORT: u32 = 24;
    pub const RECVFRAGSIZE: u32 = 25;
    pub const RECVERR_RFC4884: u32 = 26;
    pub const MULTICAST_IF: u32 = 32;
    pub const MULTICAST_TTL: u32 = 33;
    pub const MULTICAST_LOOP: u32 = 34;
    pub const MULTICAST_ALL: u32 = 49;
    pub const UNICAST_IF: u32 = 50;
    pub const LOCAL_PORT_RANGE: u32 = 51;
    pub const PROTOCOL: u32 = 52;
}

/// `IPV6_*` (`linux/in6.h`).
#[allow(missing_docs)]
pub mod ip6 {
    pub const ADDRFORM: u32 = 1;
    pub const OLD_PKTINFO: u32 = 2;
    pub const OLD_HOPOPTS: u32 = 3;
    pub const OLD_DSTOPTS: u32 = 4;
    pub const OLD_RTHDR: u32 = 5;
    pub const OLD_PKTOPTIONS: u32 = 6;
    pub const OLD_HOPLIMIT: u32 = 8;
    pub const FLOWINFO: u32 = 11;
    pub const FLOWLABEL_MGR: u32 = 32;
    pub const UNICAST_HOPS: u32 = 16;
    pub const MULTICAST_IF: u32 = 17;
    pub const MULTICAST_HOPS: u32 = 18;
    pub const MULTICAST_LOOP: u32 = 19;
    pub const ROUTER_ALERT: u32 = 22;
    pub const MTU_DISCOVER: u32 = 23;
    pub const MTU: u32 = 24;
    pub const RECVERR: u32 = 25;
    pub const V6ONLY: u32 = 26;
    pub const MULTICAST_ALL: u32 = 29;
    pub const ALERT_ISOLATE: u32 = 30;
    pub const RECVERR_RFC4884: u32 = 31;
    pub const FLOWINFO_SEND: u32 = 33;
    pub const RECVPKTINFO: u32 = 49;
    pub const PKTINFO: u32 = 50;
    pub const RECVHOPLIMIT: u32 = 51;
    pub const HOPLIMIT: u32 = 52;
    pub const RECVHOPOPTS: u32 = 53;
    pub const HOPOPTS: u32 = 54;
    pub const RTHDRDSTOPTS: u32 = 55;
    pub const RECVRTHDR: u32 = 56;
    pub const RTHDR: u32 = 57;
    pub const RECVDSTOPTS: u32 = 58;
    pub const DSTOPTS: u32 = 59;
    pub const RECVPATHMTU: u32 = 60;
    pub const PATHMTU: u32 = 61;
    pub const DONTFRAG: u32 = 62;
    pub const RECVTCLASS: u32 = 66;
    pub const TCLASS: u32 = 67;
    pub const AUTOFLOWLABEL: u32 = 70;
    pub const ADDR_PREFERENCES: u32 = 72;
    pub const MINHOPCOUNT: u32 = 73;
    pub const RECVORIGDSTADDR: u32 = 74;
    pub const TRANSPARENT: u32 = 75;
    pub const UNICAST_IF: u32 = 76;
    pub const RECVFRAGSIZE: u32 = 77;
    pub const FREEBIND: u32 = 78;
}

/// Options that are on or off, by their bit in [`IpOptions::has`].
#[allow(missing_docs)]
pub mod on {
    pub const PKTINFO: u64 = 1;
    pub const RECVTTL: u64 = 1 << 1;
    pub const RECVTOS: u64 = 1 << 2;
    pub const RECVERR: u64 = 1 << 3;
    pub const FREEBIND: u64 = 1 << 4;
    pub const TRANSPARENT: u64 = 1 << 5;
    pub const HDRINCL: u64 = 1 << 6;
    pub const ORIGDSTADDR: u64 = 1 << 7;
    pub const NO_PORT: u64 = 1 << 8;
    pub const RECVOPTS: u64 = 1 << 9;
    pub const RETOPTS: u64 = 1 << 10;
    pub const CHECKSUM: u64 = 1 << 11;
    pub const FRAGSIZE: u64 = 1 << 12;
    pub const NODEFRAG: u64 = 1 << 13;
    pub const LOOP: u64 = 1 << 14;
    pub const ALL: u64 = 1 << 15;
    pub const RFC4884: u64 = 1 << 16;
    pub const V6ONLY: u64 = 1 << 20;
    pub const PKTINFO6: u64 = 1 << 21;
    pub const HOPLIMIT6: u64 = 1 << 22;
    pub const TCLASS6: u64 = 1 << 23;
    pub const RECVERR6: u64 = 1 << 24;
    pub const LOOP6: u64 = 1 << 25;
    pub const ALL6: u64 = 1 << 26;
    pub const ORIGDSTADDR6: u64 = 1 << 27;
    pub const DONTFRAG6: u64 = 1 << 28;
    pub const PATHMTU6: u64 = 1 << 29;
    pub const RFC4884_6: u64 = 1 << 30;
    pub const AUTOFLOWLABEL: u64 = 1 << 31;
    pub const PASSSEC: u64 = 1 << 17;
    pub const HOPOPTS6: u64 = 1 << 32;
    pub const DSTOPTS6: u64 = 1 << 33;
    pub const RTHDR6: u64 = 1 << 34;
    pub const OLD_PKTINFO6: u64 = 1 << 35;
    pub const OLD_HOPLIMIT6: u64 = 1 << 36;
    pub const OLD_HOPOPTS6: u64 = 1 << 37;
    pub const OLD_DSTOPTS6: u64 = 1 << 38;
    pub const OLD_RTHDR6: u64 = 1 << 39;
    pub const FLOWINFO6: u64 = 1 << 40;
    pub const FLOWINFO_SEND6: u64 = 1 << 41;
    pub const ALERT_ISOLATE6: u64 = 1 << 42;
    pub const FRAGSIZE6: u64 = 1 << 43;
    pub const ALERT: u64 = 1 << 44;
    pub const ALERT6: u64 = 1 << 45;
}
