//! Groups of sockets that share their frames (`PACKET_FANOUT`): each frame goes to one member.

use super::{ALL, IP, IPV6, Packet, Passing, State};
use crate::abi::{Errno, Result};
use crate::host::{random, sched};
use crate::net::NetNamespace;
use crate::net::socket::OptionValue;
use crate::net::socket::filter::{View, read_program};
use crate::sync::{Level, Mutex};
use crate::task::seccomp::bpf::{self, Insn};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// `PACKET_FANOUT_*`: how a member is chosen.
mod how {
    pub const HASH: u8 = 0;
    pub const TURN: u8 = 1;
    pub const CPU: u8 = 2;
    pub const ROLLOVER: u8 = 3;
    pub const RANDOM: u8 = 4;
    pub const QUEUE: u8 = 5;
    pub const PROGRAM: u8 = 6;
}

/// `PACKET_FANOUT_FLAG_*`, shifted as the group keeps them.
mod bit {
    pub const ROLLOVER: u8 = 0x10;
    pub const UNIQUE_ID: u8 = 0x20;
    pub const IGNORE_OUTGOING: u8 = 0x40;
}

/// Most members where the program does not say, and at all (`PACKET_FANOUT_MAX`).
const USUAL: u32 = 256;
const MOST: u32 = 65_536;

/// See the module.
pub struct Fanout {
    id: u16,
    how: u8,
    bits: u8,
    most: u32,
    /// What all members are bound to.
    bound: State,
    members: Mutex<Vec<Weak<Packet>>>,
    turn: AtomicU32,
    program: Mutex<Option<Arc<[Insn]>>>,
}

/// A number that frames of one flow have in common, both ways.
fn flow(frame: &Passing<'_>) -> u32 {
    let p = frame.payload;
    let (ends, protocol, head) = match frame.protocol() {
        IP if p.len() >= 20 => (&p[12..20], p[9], usize::from(p[0] & 15) * 4),
        IPV6 if p.len() >= 40 => (&p[8..40], p[6], 40),
        _ => return 0,
    };
    let ports = if matches!(protocol, 6 | 17) { p.get(head..head + 4).unwrap_or(&[]) } else { &[] };
    let mixed = |bytes: &[u8]| bytes.iter().fold(0x811c_9dc5_u32, |h, &b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    // The sum is the same whichever end is the sender.
    let halves = |all: &[u8]| mixed(&all[..all.len() / 2]).wrapping_add(mixed(&all[all.len() / 2..]));
    halves(ends).wrapping_mul(31).wrapping_add(halves(ports)).wrapping_mul(0x9e37_79b1) ^ u32::from(protocol)
}

impl Fanout {
    /// Whether it has frames that come in only.
    pub fn ignores_outgoing(&self) -> bool {
        self.bits & bit::IGNORE_OUTGOING != 0
    }

    /// Its value as an option.
    pub fn value(&self) -> u32 {
        u32::from(self.id) | u32::from(self.how) << 16 | u32::from(self.bits) << 24
    }

    /// The member that has a frame; asked for `first` member of the group only.
    pub fn chosen(&self, first: &Packet, frame: &Passing<'_>) -> Option<Arc<Packet>> {
        let members: Vec<Arc<Packet>> = {
            let members = self.members.lock();
            if !members.first().is_some_and(|m| Weak::ptr_eq(m, &first.me)) {
                return None;
            }
            members.iter().filter_map(Weak::upgrade).collect()
        };
        let count = members.len() as u32;
        let scaled = |n: u32| ((u64::from(n) * u64::from(count)) >> 32) as u32;
        let at = match self.how {
            how::HASH => scaled(flow(frame)),
            how::TURN => self.turn.fetch_add(1, Relaxed).wrapping_add(1) % count.max(1),
            how::CPU => sched::getcpu().map_or(0, |(cpu, _)| cpu) % count.max(1),
            how::RANDOM => scaled(random::next_u64() as u32),
            how::PROGRAM => self.named(frame) % count.max(1),
            _ => 0,
        };
        let rolls = self.how == how::ROLLOVER || self.bits & bit::ROLLOVER != 0;
        let all = (0..count).map(|n| &members[((at + n) % count) as usize]);
        let free = if rolls { all.clone().find(|m| m.has_room()) } else { None };
        free.or_else(|| all.clone().next()).cloned()
    }

    /// What the group's program says.
    fn named(&self, frame: &Passing<'_>) -> u32 {
        let program = self.program.lock().clone();
        program.map_or(0, |p| bpf::run(&p, &View { head: &[], data: frame.payload, protocol: frame.protocol() }))
    }

    /// A member goes.
    pub fn leave(&self, ns: &NetNamespace, member: &Weak<Packet>) {
        let empty = {
            let mut members = self.members.lock();
            members.retain(|m| !Weak::ptr_eq(m, member));
            members.is_empty()
        };
        if empty {
            ns.packets.1.lock().retain(|f| !core::ptr::eq(&**f, self));
        }
    }
}

impl Packet {
    /// `PACKET_FANOUT` (`fanout_add`).
    pub(super) fn join_fanout(&self, value: OptionValue) -> Result {
        let asked = match value.len {
            4 => value.int()? as u32,
            8 => u32::from_ne_bytes(value.array::<4>()?),
            _ => return Err(Errno::EINVAL),
        };
        let most = if value.len == 8 { (value.at.cast::<u64>().read()? >> 32) as u32 } else { 0 };
        let (mut id, how, mut bits) = (asked as u16, (asked >> 16) as u8, (asked >> 24) as u8);
        if most > MOST || how > how::PROGRAM + 1 || how == how::ROLLOVER && bits & bit::ROLLOVER != 0 {
            return Err(Errno::EINVAL);
        }
        // A program of the other kind cannot be given, and without it all frames go to the first.
        let bound = *self.state.lock();
        let mut own = self.fanout.lock();
        if own.is_some() {
            return Err(Errno::EALREADY);
        }
        let mut all = self.core.ns.packets.1.lock();
        if bits & bit::UNIQUE_ID != 0 {
            if id != 0 {
                return Err(Errno::EINVAL);
            }
            id = (0..=u16::MAX).find(|n| all.iter().all(|f| f.id != *n)).ok_or(Errno::ENOMEM)?;
            bits &= !bit::UNIQUE_ID;
        }
        let there = all.iter().find(|f| f.id == id).cloned();
        if there.as_ref().is_some_and(|f| f.bits != bits || most != 0 && most != f.most) || bound.protocol == 0 {
            return Err(Errno::EINVAL);
        }
        let group = match there {
            Some(group) if group.how != how || group.bound != bound => return Err(Errno::EINVAL),
            Some(group) => group,
            None => {
                all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                let group = Arc::new(Fanout {
                    id,
                    how,
                    bits,
                    most: if most == 0 { USUAL } else { most },
                    bound,
                    members: Mutex::new(Level::Leaf, Vec::new()),
                    turn: AtomicU32::new(0),
                    program: Mutex::new(Level::Leaf, None),
                });
                all.push(group.clone());
                group
            }
        };
        drop(all);
        {
            let mut members = group.members.lock();
            if members.len() >= group.most as usize {
                return Err(Errno::ENOSPC);
            }
            members.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            members.push(self.me.clone());
        }
        *own = Some(group);
        Ok(())
    }

    /// `PACKET_FANOUT_DATA`: the program that chooses.
    pub(super) fn set_fanout_program(&self, value: OptionValue) -> Result {
        let group = self.fanout.lock().clone().ok_or(Errno::EINVAL)?;
        if group.how != how::PROGRAM {
            return Err(Errno::EINVAL);
        }
        *group.program.lock() = Some(read_program(&self.core, value)?);
        Ok(())
    }

    /// `PACKET_FANOUT` as it is read.
    pub(super) fn fanout_value(&self) -> u32 {
        self.fanout.lock().as_ref().map_or(0, |f| f.value())
    }
}

const _: () = assert!(how::QUEUE == 5 && ALL == 3);
