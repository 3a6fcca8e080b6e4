//! The counters of `/proc/net/snmp`, `netstat` and `snmp6` (`net/ipv4/proc.c`, `net/ipv6/proc.c`). What the loopback
//! network never has, such as retransmissions, stays 0.

use crate::net::NetNamespace;
use crate::net::ns;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The names of the counters of TCP's extensions.
const TCP_EXT: &str = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned \
     OutOfWindowIcmps LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow \
     TSEcrRejected PAWSOldAck PAWSTimewait DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows \
     ListenDrops TCPHPHits TCPPureAcks TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging \
     TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo TCPPartialUndo TCPDSACKUndo TCPLossUndo \
     TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures TCPFastRetrans TCPSlowStartRetrans \
     TCPTimeouts TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail TCPSackRecoveryFail TCPRcvCollapsed \
     TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv TCPDSACKOfoRecv TCPAbortOnData \
     TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures \
     TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld TCPDSACKIgnoredNoUndo TCPSpuriousRTOs \
     TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged TCPSackShiftFallback \
     TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter TCPTimeWaitOverflow \
     TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge \
     TCPChallengeACK TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail TCPFastOpenPassive \
     TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole \
     TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv TCPToZeroWindowAdv \
     TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd \
     TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq \
     TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail \
     TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop \
     TCPWqueueTooBig TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs \
     TCPDSACKIgnoredDubious TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad \
     TCPAOKeyNotFound TCPAOGood TCPAODroppedIcmps";
/// The names of the counters of IP's extensions.
const IP_EXT: &str = "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets \
     InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts \
     ReasmOverlaps";
/// The names of the counters of version 6.
const IP6: &str = "Ip6InReceives Ip6InHdrErrors Ip6InTooBigErrors Ip6InNoRoutes Ip6InAddrErrors Ip6InUnknownProtos \
     Ip6InTruncatedPkts Ip6InDiscards Ip6InDelivers Ip6OutForwDatagrams Ip6OutRequests Ip6OutDiscards \
     Ip6OutNoRoutes Ip6ReasmTimeout Ip6ReasmReqds Ip6ReasmOKs Ip6ReasmFails Ip6FragOKs Ip6FragFails \
     Ip6FragCreates Ip6InMcastPkts Ip6OutMcastPkts Ip6InOctets Ip6OutOctets Ip6InMcastOctets \
     Ip6OutMcastOctets Ip6InBcastOctets Ip6OutBcastOctets Ip6InNoECTPkts Ip6InECT1Pkts Ip6InECT0Pkts \
     Ip6InCEPkts Ip6OutTransmits";
/// Types of control messages of version 4 that have a counter of their own, and its name.
const ICMP: [(u8, &str); 11] = [
    (3, "DestUnreachs"),
    (11, "TimeExcds"),
    (12, "ParmProbs"),
    (4, "SrcQuenchs"),
    (5, "Redirects"),
    (8, "Echos"),
    (0, "EchoReps"),
    (13, "Timestamps"),
    (14, "TimestampReps"),
    (17, "AddrMasks"),
    (18, "AddrMaskReps"),
];
/// Those of version 6.
const ICMP6: [(u8, &str); 15] = [
    (1, "DestUnreachs"),
    (2, "PktTooBigs"),
    (3, "TimeExcds"),
    (4, "ParmProblems"),
    (128, "Echos"),
    (129, "EchoReplies"),
    (130, "GroupMembQueries"),
    (131, "GroupMembResponses"),
    (132, "GroupMembReductions"),
    (133, "RouterSolicits"),
    (134, "RouterAdvertisements"),
    (135, "NeighborSolicits"),
    (136, "NeighborAdvertisements"),
    (137, "Redirects"),
    (143, "MLDv2Reports"),
];
const UDP: [&str; 9] = [
    "InDatagrams",
    "NoPorts",
    "InErrors",
    "OutDatagrams",
    "RcvbufErrors",
    "SndbufErrors",
    "InCsumErrors",
    "IgnoredMulti",
    "MemErrors",
];
/// Types of control messages that tell of errors are those below.
const ERRORS6: u8 = 128;

fn read(all: &[AtomicU64; 3]) -> [u64; 3] {
    [0, 1, 2].map(|i| all[i].load(Relaxed))
}

/// How many control messages of a version there were, by type: each is sent and received.
fn messages(ns: &NetNamespace, six: bool) -> impl Fn(u8) -> u64 {
    let all = ns.inet.messages.lock().clone();
    move |kind| all.get(&(six, kind)).copied().unwrap_or(0)
}

fn total(ns: &NetNamespace, six: bool) -> u64 {
    ns.inet.messages.lock().iter().filter(|((s, _), _)| *s == six).map(|(_, n)| n).sum()
}

/// Two lines: names and values behind what they are of.
fn pair(out: &mut String, of: &str, names: &str, values: impl Iterator<Item = u64>) {
    let _ = write!(out, "{of}: {names}\n{of}:");
    for value in values {
        let _ = write!(out, " {value}");
    }
    out.push('\n');
}

/// `/proc/net/snmp`; `open`: connections that are.
pub(super) fn snmp(open: usize) -> String {
    let ns = ns::current();
    let (packets, _) = ns.passed();
    let ttl = ns.inet.ttl.load(Relaxed);
    let (d, c) = (read(&ns.inet.datagrams), read(&ns.inet.connections));
    let mut out = format!(
        "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards \
         InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails \
         FragCreates OutTransmits\nIp: 2 {ttl} {packets} 0 0 0 0 0 {packets} {packets} 0 0 0 0 0 0 0 0 0 {packets}\n",
    );
    let (of, all) = (messages(&ns, false), total(&ns, false));
    let names = |way: &str| ICMP.iter().fold(String::new(), |out, (_, name)| out + &format!(" {way}{name}"));
    let heads = format!(
        "InMsgs InErrors InCsumErrors{} OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost{}",
        names("In"),
        names("Out"),
    );
    let kinds = || ICMP.iter().map(|(kind, _)| of(*kind));
    let values = [all, 0, 0].into_iter().chain(kinds()).chain([all, 0, 0, 0]).chain(kinds());
    pair(&mut out, "Icmp", &heads, values);
    let types: alloc::vec::Vec<(u8, u64)> =
        ns.inet.messages.lock().iter().filter(|((six, _), _)| !six).map(|((_, kind), n)| (*kind, *n)).collect();
    if !types.is_empty() {
        let names = |way: &str| types.iter().map(|(kind, _)| format!("{way}Type{kind} ")).collect::<String>();
        let heads = format!("{}{}", names("In"), names("Out"));
        let counts = || types.iter().map(|(_, n)| *n);
        pair(&mut out, "IcmpMsg", heads.trim_end(), counts().chain(counts()));
    }
    let _ = writeln!(
        out,
        "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs \
         OutSegs RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1 {} {} {} 0 {open} 0 0 0 0 0 0",
        c[0], c[1], c[2],
    );
    let names = UDP.join(" ");
    pair(&mut out, "Udp", &names, [d[0], d[2], 0, d[1], 0, 0, 0, 0, 0].into_iter());
    pair(&mut out, "UdpLite", &names, [0; 9].into_iter());
    out
}

/// `/proc/net/netstat`.
pub(super) fn netstat() -> String {
    let ns = ns::current();
    let (packets, bytes) = ns.passed();
    let mut out = String::new();
    pair(&mut out, "TcpExt", TCP_EXT, TCP_EXT.split(' ').map(|_| 0));
    let value = |name: &str| match name {
        "InOctets" | "OutOctets" => bytes,
        "InNoECTPkts" => packets,
        _ => 0,
    };
    pair(&mut out, "IpExt", IP_EXT, IP_EXT.split(' ').map(value));
    out
}

/// `/proc/net/snmp6`.
pub(super) fn snmp6() -> String {
    let ns = ns::current();
    let (of, all) = (messages(&ns, true), total(&ns, true));
    let mut out = String::new();
    let mut line = |name: &str, value: u64| {
        let _ = writeln!(out, "{name:<32}\t{value}");
    };
    IP6.split(' ').for_each(|name| line(name, 0));
    for (name, value) in [
        ("InMsgs", all),
        ("InErrors", 0),
        ("OutMsgs", all),
        ("OutErrors", 0),
        ("InCsumErrors", 0),
        ("OutRateLimitHost", 0),
    ] {
        line(&format!("Icmp6{name}"), value);
    }
    for way in ["In", "Out"] {
        ICMP6.iter().for_each(|(kind, name)| line(&format!("Icmp6{way}{name}"), of(*kind)));
        let seen = ns.inet.messages.lock().clone();
        for (_, kind) in seen.keys().filter(|(six, kind)| *six && (*kind >= ERRORS6 || *kind < 5)) {
            line(&format!("Icmp6{way}Type{kind}"), of(*kind));
        }
    }
    for protocol in ["Udp6", "UdpLite6"] {
        for name in UDP.iter().filter(|name| protocol == "Udp6" || **name != "IgnoredMulti") {
            line(&format!("{protocol}{name}"), 0);
        }
    }
    out
}
