//! What the kernel and the porter say to each other. The porter (`sandbox/porter.rs` of the host half) is a process
//! outside of the jail that connects to the host's network where that is allowed, and hands the connections in.

/// Asks for a connection; one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What the answer is known by.
    pub id: u64,
    /// Where to, in version 6 or mapped.
    pub ip: [u8; 16],
    /// See `ip`.
    pub port: u16,
}

impl Ask {
    /// Bytes of a message.
    pub const SIZE: usize = 26;

    /// The message.
    pub fn to_bytes(self) -> [u8; Ask::SIZE] {
        let mut b = [0; Ask::SIZE];
        b[..8].copy_from_slice(&self.id.to_le_bytes());
        b[8..24].copy_from_slice(&self.ip);
        b[24..].copy_from_slice(&self.port.to_le_bytes());
        b
    }

    /// A message.
    pub fn from_bytes(b: &[u8; Ask::SIZE]) -> Ask {
        let mut ip = [0; 16];
        ip.copy_from_slice(&b[8..24]);
        let [i0, i1, i2, i3, i4, i5, i6, i7, ..] = *b;
        Ask { id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]), ip, port: u16::from_le_bytes([b[24], b[25]]) }
    }
}

/// The outcome; one message, with the connection's descriptor where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As it was asked.
    pub id: u64,
    /// 0 or an error number; `ENETUNREACH`: it is not allowed.
    pub errno: i32,
}

impl Answer {
    /// Bytes of a message.
    pub const SIZE: usize = 12;

    /// The message.
    pub fn to_bytes(self) -> [u8; Answer::SIZE] {
        let mut b = [0; Answer::SIZE];
        b[..8].copy_from_slice(&self.id.to_le_bytes());
        b[8..].copy_from_slice(&self.errno.to_le_bytes());
        b
    }

    /// A message.
    pub fn from_bytes(b: &[u8; Answer::SIZE]) -> Answer {
        let [i0, i1, i2, i3, i4, i5, i6, i7, e0, e1, e2, e3] = *b;
        Answer { id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]), errno: i32::from_le_bytes([e0, e1, e2, e3]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_went() {
        let ask = Ask { id: 0x0102_0304_0506_0708, ip: [7; 16], port: 443 };
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), ask);
        let answer = Answer { id: 9, errno: 111 };
        assert_eq!(Answer::from_bytes(&answer.to_bytes()), answer);
    }
}
