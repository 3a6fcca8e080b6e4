//! The state of a connection by its name in RFC 9293, as `TCP_INFO` and `/proc/net/tcp` show it.

use super::{Phase, State, Tcp};
use crate::net::inet::addr::Addr;
use crate::net::proc::Row;

/// `TCP_ESTABLISHED` and so on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    FinWait2 = 5,
    Close = 7,
    CloseWait = 8,
    Listen = 10,
}

impl TcpState {
    /// Whether there is a peer.
    pub fn is_open(self) -> bool {
        matches!(self, TcpState::Established | TcpState::FinWait2 | TcpState::CloseWait)
    }
}

impl Tcp {
    pub(super) fn state_of(&self, state: &State) -> TcpState {
        match state.phase {
            Phase::Listening => TcpState::Listen,
            Phase::Connecting => TcpState::SynSent,
            Phase::Closed => TcpState::Close,
            Phase::Connected if self.end.is_dead() => TcpState::Close,
            Phase::Connected => match (state.shut_write, self.end.inbox.lock().fin) {
                (false, false) => TcpState::Established,
                (false, true) => TcpState::CloseWait,
                (true, false) => TcpState::FinWait2,
                (true, true) => TcpState::Close,
            },
        }
    }

    /// What `/proc/net/tcp` shows; `None` for a socket that is not in the table.
    pub(super) fn describe(&self) -> Option<Row> {
        let (local, remote, state) = {
            let s = self.state.lock();
            (s.local, s.remote, self.state_of(&s))
        };
        // Who neither listens nor is connected is in no table.
        if local.port == 0 || state == TcpState::Close {
            return None;
        }
        let unsent = self.unsent();
        let inbox = self.end.inbox.lock();
        let (waiting, out) = match &inbox.backlog {
            Some(b) => (b.ready.len(), b.max),
            None => (inbox.stream.len(), unsent),
        };
        let remote = remote.unwrap_or(Addr::any(self.core.family));
        Some(Row { local, remote, state: state as u8, out, waiting, dropped: 0 })
    }

    /// `struct tcp_info`, as far as it says something about a connection without a network.
    pub(super) fn info(&self) -> [u8; INFO] {
        /// Largest segment on the loopback interface.
        const MSS: u32 = 32_768;
        let (state, peer) = {
            let state = self.state.lock();
            (self.state_of(&state), state.peer.clone())
        };
        let mut out = [0u8; INFO];
        out[0] = state as u8;
        // Timestamps, selective acknowledgements, window scaling: what Linux agrees on with itself.
        out[5] = 0x7;
        out[6] = 0xaa;
        let mut word = |at: usize, v: u32| out[at..at + 4].copy_from_slice(&v.to_ne_bytes());
        word(8, 201_000);
        word(12, 40_000);
        word(16, MSS);
        word(20, 536);
        if let Some(b) = &self.end.inbox.lock().backlog {
            word(24, b.ready.len() as u32);
            word(28, b.max as u32);
        }
        // Path MTU, receive threshold, round trip and its variance (us), slow start threshold, window, MSS.
        for (at, v) in [(60, 65_535), (64, 65_483), (68, 20), (72, 10), (76, 0x7fff_ffff), (80, 10), (84, 65_483)] {
            word(at, v);
        }
        word(88, 3);
        word(96, 65_483);
        let (sent, received) = self.counts(peer.as_deref());
        let mut long = |at: usize, v: u64| out[at..at + 8].copy_from_slice(&v.to_ne_bytes());
        long(104, u64::MAX);
        long(112, u64::MAX);
        long(120, sent);
        long(128, received);
        out
    }
}

/// Bytes of `struct tcp_info` (Linux 6.18).
pub(super) const INFO: usize = 280;
