//! What the kernel and the broker say to each other. The broker (`sandbox/broker.rs` of the host half) is a process
//! outside of Landlock that changes mode, owner and times of files in writable binds, which Landlock does not cover.
//!
//! A request is one write to the broker's pipe. The answer is a word of the asking thread's slot, which the broker
//! changes from [`asked`] to [`answered`] and wakes; nothing else changes it if the thread has given up meanwhile.

/// Changes the permission bits: mode.
pub const CHMOD: u32 = 1;
/// Changes the owner: uid, gid, each `u32::MAX` to leave it alone.
pub const CHOWN: u32 = 2;
/// Sets the times: access, modification, in ns since 1970, each [`OMIT`] to leave it alone.
pub const TIMES: u32 = 3;
/// A time that stays.
pub const OMIT: i64 = i64::MIN;

/// One request.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// [`CHMOD`], [`CHOWN`] or [`TIMES`].
    pub op: u32,
    /// The file, a host descriptor of the sandbox.
    pub fd: i32,
    /// Index of the asking thread's slot.
    pub slot: u32,
    /// What tells this request from earlier ones of the same slot.
    pub ticket: u32,
    /// See the operations.
    pub args: [i64; 2],
}

const ERRNO_BITS: u32 = 12;

/// The word while the request with this ticket has no answer.
pub fn asked(ticket: u32) -> u32 {
    ticket << ERRNO_BITS
}

/// The word once it has one: 0 or an error number.
pub fn answered(ticket: u32, errno: u32) -> u32 {
    ticket << ERRNO_BITS | (errno + 1).min((1 << ERRNO_BITS) - 1)
}

/// The ticket after the one of this word.
pub fn next_ticket(word: u32) -> u32 {
    (word >> ERRNO_BITS).wrapping_add(1) & (u32::MAX >> ERRNO_BITS)
}

/// The answer in a word: `None` while there is none, else 0 or an error number.
pub fn answer(word: u32) -> Option<u32> {
    (word & ((1 << ERRNO_BITS) - 1)).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_its_request() {
        let mut word = 0;
        for errno in [0, 1, 2, 13, 133, 4000] {
            let ticket = next_ticket(word);
            assert_eq!(answer(asked(ticket)), None);
            assert_ne!(answered(ticket, errno), answered(ticket.wrapping_sub(1), errno));
            word = answered(ticket, errno);
            assert_eq!(answer(word), Some(errno));
        }
        assert_eq!(next_ticket(asked(u32::MAX >> 12)), 0);
    }
}
