//! Sites of which what lies in front is replaced by a jump, in place.
//!
//! A site has no room for a jump of five bytes, its own pun may land where no stub can be, and a remembered copy may
//! find no other way. Then the whole instructions in front of it, which the copy's maker has found ([`Front`]), become the
//! jump, the call's two bytes with them where they are short; the stub begins with those instructions, and may lie
//! anywhere. Of the jump's bytes, those at which an instruction began before, or the call, are chosen to be no
//! instruction: whoever gets there by another way than from above, or was there when the jump was written, has a fault,
//! by which the kernel takes it to the same instruction in the stub ([`Patches::moved`]).

use super::{JMP, PAGE, Patches, Refusal, Region, STUB, SYSCALL, Stub};
use crate::abi::linux::{PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::text::Front;
use crate::host::files;
use crate::mm::space::{MIN_ADDR, outside_guest};
use crate::mm::vma::{Backing, Vma, VmaTree};
use crate::mm::{UserPtr, UserSlice};
use alloc::collections::BTreeMap;

/// Bytes with which no instruction begins in 64-bit code.
const NO_INSTRUCTION: [u8; 17] =
    [0x16, 0x1e, 0x27, 0x2f, 0x37, 0x3f, 0xea, 0xd6, 0xce, 0x9a, 0x82, 0x60, 0x61, 0x1f, 0x17, 0x0e, 0x06];
/// The highest byte of a jump's distance where any will do: not so near that a heap or libraries grow there.
const FAR: [u8; 8] = [0x10, 0xf0, 0x18, 0xe8, 0x20, 0xe0, 0x30, 0xd0];
/// Bytes of the jump.
const JUMP: u64 = 5;
/// What is mapped for stubs whose jumps have the same upper bytes.
const WINDOW: u64 = 1 << 16;

/// What was written in front of a site.
#[derive(Clone, Copy)]
pub(super) struct Moved {
    /// Where the jump is.
    from: u64,
    /// Its stub.
    stub: u64,
    front: Front,
    /// What was in the jump's place.
    was: [u8; JUMP as usize],
}

impl Moved {
    /// Start and end of what was written.
    pub(super) fn span(&self) -> (u64, u64) {
        (self.from, self.from + JUMP)
    }

    /// Whether the jump is there still.
    pub(super) fn stands(&self) -> bool {
        let [a, b, c, d] = (self.stub.wrapping_sub(self.from + JUMP) as u32).to_le_bytes();
        UserPtr::<[u8; 5]>::new(self.from).read_nofault() == Ok([JMP, a, b, c, d])
    }

    /// What was there.
    pub(super) fn was(&self) -> &[u8] {
        &self.was
    }
}

/// Whether a byte at this distance from the jump's begin must be no instruction.
fn is_entry(front: &Front, at: u8) -> bool {
    at == front.len || at < front.len && front.begins & 1 << at != 0
}

/// Whether a jump of this distance can be entered nowhere but at its begin.
fn keeps_out(front: &Front, distance: i64) -> bool {
    let Ok(distance) = i32::try_from(distance) else { return false };
    let fits = |(byte, at): (u8, u8)| !is_entry(front, at) || NO_INSTRUCTION.contains(&byte);
    distance.to_le_bytes().into_iter().zip(1..).all(fits)
}

impl Patches {
    /// Where a thread is to go on that is at `pc`, which is within a jump that replaced what was there.
    pub fn moved(&self, pc: u64) -> Option<u64> {
        let near = self.moved.range(pc..pc.checked_add(u64::from(Front::MAX))?);
        let mut hits = near.filter(|(_, m)| m.from < pc && pc < m.from + JUMP);
        let (_, m) = hits.find(|(_, m)| is_entry(&m.front, (pc - m.from) as u8))?;
        Some(m.stub + (pc - m.from))
    }

    /// Rewrites `site` by what lies in front of it, if its newest copy knows that this can be done.
    pub(super) fn move_front(&mut self, vmas: &mut VmaTree, site: u64) -> core::result::Result<(), Refusal> {
        let vma = vmas.find(site).ok_or(Refusal::Mapping)?.clone();
        let (Some((text, fd)), Backing::File { offset, .. }) = (&vma.text, &vma.backing) else {
            return Err(Refusal::Room);
        };
        let plain = vma.prot & (PROT_READ | PROT_WRITE | PROT_EXEC) == PROT_READ | PROT_EXEC;
        if !plain || vma.shared || (vma.len(), *offset) != text.extent() {
            return Err(Refusal::Mapping);
        }
        let copy = text.copy().ok_or(Refusal::Room)?;
        let front = copy.front((site - vma.start) as u32).ok_or(Refusal::Room)?;
        let len = u64::from(front.len);
        let from = site.checked_sub(len).filter(|&from| from >= vma.start).ok_or(Refusal::Room)?;
        let whole = len as usize + SYSCALL.len();
        let mut code = [0u8; Front::MAX as usize + SYSCALL.len()];
        let mut file = code;
        UserSlice::<u8>::new(from, whole).read_nofault(&mut code[..whole]).map_err(|_| Refusal::Code)?;
        let read = files::pread(*fd, file.as_mut_ptr() as u64, whole, offset + (from - vma.start));
        // Something else of ours is there, or of somebody else's.
        if read != Ok(whole) || code != file || self.is_written(from.saturating_sub(JUMP), site) {
            return Err(Refusal::Code);
        }
        let moved = &code[..len as usize];
        let stub = self.stub_for(vmas, &vma, from, &front, site, moved).ok_or(Refusal::Room)?;
        let [a, b, c, d] = (stub.wrapping_sub(from + JUMP) as u32).to_le_bytes();
        if self.write(vmas, from, &[JMP, a, b, c, d]).is_err() {
            self.off = true;
            return Err(Refusal::Process);
        }
        let was = code.first_chunk().copied().unwrap_or_default();
        self.moved.insert(site, Moved { from, stub, front, was });
        self.sites.insert(site, stub + len);
        Ok(())
    }

    /// Whether a site in `start..end` is rewritten, or has what lies in front of it rewritten.
    fn is_written(&self, start: u64, end: u64) -> bool {
        self.sites.range(start..end).next().is_some()
    }

    /// Whether what was written in front of some site reaches into `start..end`.
    pub(super) fn is_moved(&self, start: u64, end: u64) -> bool {
        let mut near = self.moved.range(start..end.saturating_add(u64::from(Front::MAX)));
        near.any(|(_, m)| m.from < end && start < m.from + JUMP)
    }

    /// A stub that begins with `moved` and to which a jump at `from` can lead.
    fn stub_for(
        &mut self,
        vmas: &mut VmaTree,
        vma: &Vma,
        from: u64,
        front: &Front,
        site: u64,
        moved: &[u8],
    ) -> Option<u64> {
        let next = from + JUMP;
        if let Some(stub) = self.regions.iter().find_map(|r| r.add_moved(next, front, site, moved)) {
            return Some(stub);
        }
        let of = |at: u8, any: &'static [u8]| if is_entry(front, at) { &NO_INSTRUCTION[..] } else { any };
        for &high in of(4, &FAR) {
            for &third in of(3, &[0, 1, 2, 3, 0x40, 0x80]) {
                let distance = i32::from_le_bytes([0, 0, third, high]);
                let Some(first) = next.checked_add_signed(i64::from(distance)) else { continue };
                let (start, end) = (first & !(PAGE - 1), (first + WINDOW).next_multiple_of(PAGE));
                let free = vmas.is_free(start, end) && !outside_guest(start, end) && start >= MIN_ADDR;
                if !free || (start..end).contains(&vma.start) {
                    continue;
                }
                return self.new_region(vmas, start, end)?.add_moved(next, front, site, moved);
            }
        }
        None
    }
}

impl Region {
    /// Writes a stub for `site` to which a jump that ends at `next` leads.
    fn add_moved(&self, next: u64, front: &Front, site: u64, moved: &[u8]) -> Option<u64> {
        let mut used = self.memory.used.lock();
        let offset = self.place(&used, next, front, site)?;
        self.write(&mut used, offset, site, moved, front)
    }

    /// Where it can be; the same as before for a site that has been here.
    fn place(&self, used: &BTreeMap<u64, Stub>, next: u64, front: &Front, site: u64) -> Option<u64> {
        let size = u64::from(front.len) + STUB;
        let distance = |offset: u64| (self.start + offset).wrapping_sub(next) as i64;
        let here = |(&offset, stub): (&u64, &Stub)| {
            (stub.site == site && stub.front() == Some((front.len, front.begins)) && keeps_out(front, distance(offset)))
                .then_some(offset)
        };
        if let Some(offset) = used.iter().find_map(here) {
            return Some(offset);
        }
        let room = (self.end - self.start).checked_sub(size)?;
        let lowest = is_entry(front, 1) || is_entry(front, 2);
        let mut at = 0;
        while at <= room {
            // The whole of 64 KiB that have the same upper bytes is no good, or nothing of it is known to be.
            let upper = i32::try_from(distance(at)).ok()?.to_le_bytes();
            let fits = |n: u8| !is_entry(front, n) || NO_INSTRUCTION.contains(&upper[usize::from(n) - 1]);
            if !(fits(3) && fits(4)) {
                at += WINDOW - (distance(at) as u64 & (WINDOW - 1));
                continue;
            }
            let taken = used.range(..at + size).next_back().filter(|(offset, stub)| *offset + stub.len() > at);
            if let Some((offset, stub)) = taken {
                at = offset + stub.len();
            } else if !lowest || keeps_out(front, distance(at)) {
                return Some(at);
            } else {
                at += 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_entered_at_its_begin_only() {
        // mov %rdi,%rax; syscall
        let one = Front { site: 0x100, len: 3, begins: 1 };
        assert!(is_entry(&one, 3) && !is_entry(&one, 1) && !is_entry(&one, 4));
        assert!(keeps_out(&one, 0x1016_0000) && !keeps_out(&one, 0x1000_0000));
        // xor %edi,%edi; mov %ebx,%eax; syscall
        let two = Front { site: 0x100, len: 4, begins: 0b101 };
        assert!(is_entry(&two, 2) && is_entry(&two, 4) && !is_entry(&two, 3));
        assert!(keeps_out(&two, 0x1600_1600) && !keeps_out(&two, 0x1600_0000) && !keeps_out(&two, 0x1000_1600));
        // A long front leaves the call as it is.
        let long = Front { site: 0x100, len: 7, begins: 0b10_0001 };
        assert!((1..5).all(|at| !is_entry(&long, at)));
        assert!(keeps_out(&long, -1) && !keeps_out(&long, 1 << 40));
    }
}
