//! Sends the signals of signal-driven input and output (`send_sigio` in `fs/fcntl.c`).

use super::{Task, ThreadGroup, lookup, lookup_group, tree};
use crate::abi::linux::{SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGIO, SIGSEGV, SIGSYS, SIGTRAP, SIGURG};
use crate::abi::sigctx::SigInfo;
use crate::signal::info;
use crate::sync::Events;
use crate::vfs::async_io::{self, Due, Owner, OwnerKind, Told};

/// `POLL_*` codes with what they say happened.
const REASONS: [(Events, i32, u64); 4] = [
    // POLL_IN, POLL_OUT, POLL_PRI, POLL_HUP.
    (Events::IN, 1, 0x41),
    (Events::OUT, 2, 0x304),
    (Events::PRI, 5, 0x82),
    (Events::HUP, 6, 0x18),
];
/// Code and band of a change in a directory.
const POLL_MSG: (i32, u64) = (3, 0x441);
/// `SI_SIGIO`, where a code of the signal's own would be misread.
pub(super) const SI_SIGIO: i32 = -5;

/// Tells the owners of what became ready, and does what else was put off until then.
pub fn run() {
    for due in async_io::due() {
        let target = match due {
            Due::Tell(target) => target,
            Due::Call(later) => {
                later.run();
                continue;
            }
        };
        let Told { owner, signal, events, changes, fd } = target.take();
        if owner.id == 0 {
            continue;
        }
        for _ in 0..changes {
            tell(&owner, &record(signal, POLL_MSG.0, POLL_MSG.1, fd));
        }
        if events.contains(Events::URGENT) {
            tell(&owner, &info::plain(SIGURG, info::SI_KERNEL));
        }
        // What is announced together with data to read, as a whole queue is woken, is nothing more.
        let only_in = events.contains(Events::IN);
        for (event, code, band) in REASONS {
            let extra = event == Events::PRI || event == Events::HUP || events.contains(Events::HUP);
            if events.contains(event) && !(only_in && event != Events::IN && extra) {
                tell(&owner, &record(signal, code, band, fd));
            }
        }
    }
}

fn record(signal: u32, code: i32, band: u64, fd: i32) -> SigInfo {
    if signal == 0 {
        return info::plain(SIGIO, info::SI_KERNEL);
    }
    let own_codes = [SIGILL, SIGFPE, SIGSEGV, SIGBUS, SIGTRAP, SIGCHLD, SIGSYS].contains(&signal);
    let mut record = info::plain(signal, if own_codes { SI_SIGIO } else { code });
    (record.fields[0], record.fields[1]) = (band, u64::from(fd as u32));
    record
}

fn tell(owner: &Owner, record: &SigInfo) {
    match owner.kind {
        OwnerKind::Thread => {
            if let Some(task) = lookup(owner.id)
                && may(owner, &task)
            {
                or_sigio(record, |r| task.send(r));
            }
        }
        OwnerKind::Process => {
            if let Some(group) = lookup_group(owner.id) {
                tell_group(owner, &group, record);
            }
        }
        OwnerKind::Group => {
            for group in tree::members(owner.id) {
                tell_group(owner, &group, record);
            }
        }
    }
}

fn tell_group(owner: &Owner, group: &ThreadGroup, record: &SigInfo) {
    if group.any_task().is_some_and(|t| may(owner, &t)) {
        or_sigio(record, |r| group.send(r));
    }
}

/// A signal that cannot be queued becomes a SIGIO.
fn or_sigio(record: &SigInfo, send: impl Fn(&SigInfo) -> crate::abi::Result) {
    if send(record).is_err() {
        let _ = send(&info::plain(SIGIO, info::SI_KERNEL));
    }
}

/// `sigio_perm`.
fn may(owner: &Owner, task: &Task) -> bool {
    let [uid, euid] = owner.users;
    euid == 0
        || task.shared().is_some_and(|own| [own.cred.uid, own.cred.suid].iter().any(|&id| id == uid || id == euid))
}
