//! Filters of sockets: programs in classic BPF (`SO_ATTACH_FILTER`, `SO_ATTACH_REUSEPORT_CBPF`) that look at packets
//! before they are queued, and that choose among sockets of one port.

use super::core_state::flag;
use super::{Core, OptionValue, so};
use crate::abi::{Errno, Result};
use crate::host::{random, sched};
use crate::mm::UserPtr;
use crate::net::links::arphrd;
use crate::task::seccomp::bpf::{self, ANCILLARY, Data, Dialect, Insn};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes of a `struct sock_fprog`.
const FPROG: u32 = 16;

/// The programs of one socket.
#[derive(Default)]
pub struct Filters {
    packet: Option<Arc<[Insn]>>,
    select: Option<Arc<[Insn]>>,
}

/// A packet as a program sees it.
pub struct View<'a> {
    /// A header that is not with the data.
    pub head: &'a [u8],
    /// What follows it.
    pub data: &'a [u8],
    /// `ETH_P_*`, 0 where there is none.
    pub protocol: u16,
}

/// What is known of a packet beside its bytes (`SKF_AD_*`).
fn ancillary(view: &View<'_>, what: u32) -> Option<u32> {
    Some(match what {
        0 => u32::from(view.protocol),
        // The interface.
        8 => 1,
        28 => arphrd::LOOPBACK.into(),
        36 => sched::getcpu().map_or(0, |(cpu, _)| cpu),
        56 => random::next_u64() as u32,
        // Type, netlink attributes, mark, queue, hash, VLAN, payload's place: what a packet without them has.
        4 | 12 | 16 | 20 | 24 | 32 | 40 | 44 | 48 | 52 | 60 => 0,
        _ => return None,
    })
}

impl Data for View<'_> {
    fn size(&self) -> u32 {
        (self.head.len() + self.data.len()) as u32
    }

    fn load(&self, at: u32, size: u32) -> Option<u32> {
        if at >= ANCILLARY {
            return ancillary(self, at - ANCILLARY);
        }
        let byte = |at: u32| {
            let at = at as usize;
            self.head.get(at).or_else(|| self.data.get(at.checked_sub(self.head.len())?)).copied()
        };
        let mut value = 0;
        for i in 0..size {
            value = value << 8 | u32::from(byte(at.checked_add(i)?)?);
        }
        Some(value)
    }
}

/// Reads a `struct sock_fprog` (`copy_bpf_fprog_from_user`, `__get_filter`).
///
/// # Errors
/// `EINVAL`, `EPERM` where the filters are locked, `ENOMEM`, `EFAULT`.
pub fn read_program(core: &Core, value: OptionValue) -> Result<Arc<[Insn]>> {
    if value.len != FPROG {
        return Err(Errno::EINVAL);
    }
    let raw = value.at.cast::<[u64; 2]>().read()?;
    let len = usize::from(raw[0] as u16);
    if core.has(flag::LOCK_FILTER) {
        return Err(Errno::EPERM);
    }
    if raw[1] == 0 || len == 0 || len > bpf::MAX {
        return Err(Errno::EINVAL);
    }
    let mut program = Vec::new();
    program.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    for i in 0..len {
        program.push(Insn::from(UserPtr::<u64>::new(raw[1]).add(i).read()?));
    }
    bpf::check(&program, Dialect::Packet)?;
    crate::arena::charge_bytes(crate::arena::Object::Packet, len as u64 * 8).map_err(|_| Errno::ENOMEM)?;
    Ok(program.into())
}

impl Core {
    /// Options that are about filters; `None` for others.
    pub(super) fn set_filter_option(&self, option: u32, int: i32, value: OptionValue) -> Option<Result> {
        Some(match option {
            so::ATTACH_FILTER => read_program(self, value).and_then(|p| self.change(|f| f.packet = Some(p))),
            // There is no bpf(2), hence no program behind a descriptor.
            so::ATTACH_BPF | so::ATTACH_REUSEPORT_EBPF if value.len != 4 => Err(Errno::EINVAL),
            so::ATTACH_BPF | so::ATTACH_REUSEPORT_EBPF if self.has(flag::LOCK_FILTER) => Err(Errno::EPERM),
            so::ATTACH_BPF | so::ATTACH_REUSEPORT_EBPF if (0..3).contains(&int) => Err(Errno::EINVAL),
            so::ATTACH_BPF | so::ATTACH_REUSEPORT_EBPF => Err(Errno::EBADF),
            so::ATTACH_REUSEPORT_CBPF => read_program(self, value).and_then(|p| match self.has(flag::REUSEPORT) {
                false => Err(Errno::EINVAL),
                true => self.change(|f| f.select = Some(p)),
            }),
            so::DETACH_REUSEPORT_BPF if !self.has(flag::REUSEPORT) => Err(Errno::EINVAL),
            so::DETACH_REUSEPORT_BPF if self.selector().is_none() => Err(Errno::ENOENT),
            so::DETACH_REUSEPORT_BPF => self.change(|f| f.select = None),
            so::DETACH_FILTER if self.has(flag::LOCK_FILTER) => Err(Errno::EPERM),
            so::DETACH_FILTER if !self.has(flag::ATTACH_FILTER) => Err(Errno::ENOENT),
            so::DETACH_FILTER => self.change(|f| f.packet = None),
            so::LOCK_FILTER if self.has(flag::LOCK_FILTER) && int == 0 => Err(Errno::EPERM),
            so::LOCK_FILTER => {
                self.set(flag::LOCK_FILTER, int != 0);
                Ok(())
            }
            _ => return None,
        })
    }

    fn change(&self, change: impl FnOnce(&mut Filters)) -> Result {
        let mut all = self.filters.lock();
        let filters = all.get_or_insert_with(Box::default);
        change(filters);
        self.set(flag::ATTACH_FILTER, filters.packet.is_some());
        self.set(flag::SELECTS, filters.select.is_some());
        Ok(())
    }

    /// `SO_GET_FILTER`: the instructions of the program, none where there is no program. `room`: so many instructions
    /// may be told; 0 asks for their number only.
    ///
    /// # Errors
    /// `EINVAL` for too little room.
    pub fn filter_program(&self, room: usize) -> Result<Vec<u64>> {
        let program = self.filters.lock().as_ref().and_then(|f| f.packet.clone());
        let program: Vec<u64> = program.map_or(Vec::new(), |p| p.iter().map(|i| i.raw()).collect());
        if room != 0 && room < program.len() { Err(Errno::EINVAL) } else { Ok(program) }
    }

    /// The program that looks at what is received.
    pub fn packet_program(&self) -> Option<Arc<[Insn]>> {
        if !self.has(flag::ATTACH_FILTER) {
            return None;
        }
        self.filters.lock().as_ref().and_then(|f| f.packet.clone())
    }

    /// How many bytes of a packet the socket's program keeps; `None`: it drops the packet.
    pub fn keeps(&self, view: &View<'_>) -> Option<usize> {
        let Some(program) = self.packet_program() else { return Some(usize::MAX) };
        // At least the header of the protocol stays.
        Some(bpf::run(&program, view) as usize).filter(|&n| n > 0).map(|n| n.max(view.head.len()))
    }

    /// The program that chooses among the sockets of a port.
    fn selector(&self) -> Option<Arc<[Insn]>> {
        if !self.has(flag::SELECTS) {
            return None;
        }
        self.filters.lock().as_ref().and_then(|f| f.select.clone())
    }
}

/// Which of `group`, sockets that share a port, has a packet: the one that a program of any of them names, else the one
/// that `spread` falls on.
pub fn choose<'a>(group: impl ExactSizeIterator<Item = &'a Core>, data: &[u8], spread: u64) -> usize {
    let count = group.len().max(1);
    let mut programs = group.filter_map(Core::selector);
    let named = programs.next().map(|p| bpf::run(&p, &View { head: &[], data, protocol: 0 }) as usize);
    named.filter(|&n| n < count).unwrap_or(spread as usize % count)
}

/// Whether the option's value is read as a count of instructions.
pub fn is_program(option: u32) -> bool {
    option == so::ATTACH_FILTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_over_its_seam() {
        let view = View { head: &[1, 2, 3], data: &[4, 5], protocol: 0x800 };
        assert_eq!(view.load(1, 4), Some(0x0203_0405));
        assert_eq!(view.load(2, 4), None);
        assert_eq!(view.load(4, 1), Some(5));
        assert_eq!(view.load(u32::MAX, 4), None);
        assert_eq!(view.load(ANCILLARY, 4), Some(0x800));
    }
}
