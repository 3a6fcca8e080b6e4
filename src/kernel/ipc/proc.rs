//! `/proc/sysvipc` and the settings below `/proc/sys/kernel`, of the running task's namespace.

use super::{Ipc, mqueue};
use crate::abi::{Errno, Result};
use crate::cred::Cred;
use crate::task::ns::IpcNamespace;
use crate::task::{kernel, work};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

fn namespace() -> Arc<IpcNamespace> {
    let own = work::running().and_then(|t| t.shared());
    own.map_or_else(|| kernel().roots().proxy.ipc.clone(), |own| own.ns.ipc.clone())
}

/// A file of `/proc/sysvipc`.
///
/// # Errors
/// `ENOMEM`.
pub fn text(name: &str) -> Result<Vec<u8>> {
    let ns = namespace();
    let ipc = Ipc::of(&ns);
    let cred = work::running().map(|t| t.cred()).ok_or(Errno::ESRCH)?;
    let mut out = String::new();
    match name {
        "shm" => shm(ipc, &cred, &mut out)?,
        "sem" => sem(ipc, &cred, &mut out)?,
        _ => msg(ipc, &cred, &mut out)?,
    }
    Ok(out.into_bytes())
}

fn room(out: &mut String, lines: usize) -> Result {
    out.try_reserve(256 * (lines + 1)).map_err(|_| Errno::ENOMEM)
}

fn shm(ipc: &Ipc, cred: &Cred, out: &mut String) -> Result {
    let all = ipc.shm.ids.all()?;
    room(out, all.len())?;
    out.push_str(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      \
         dtime      ctime                   rss                  swap\n",
    );
    for s in all.iter().filter_map(|segment| segment.look(cred).ok()) {
        let (p, [cpid, lpid], [atime, dtime, ctime]) = (&s.perm, s.pids, s.times);
        let _ = writeln!(
            out,
            "{:10} {:10}  {:4o} {:21} {cpid:5} {lpid:5}  {:5} {:5} {:5} {:5} {:5} {atime:10} {dtime:10} {ctime:10} \
             {:21} {:21}",
            p.key, s.id, p.mode, s.size, s.attached, p.uid, p.gid, p.cuid, p.cgid, s.resident, 0
        );
    }
    Ok(())
}

fn sem(ipc: &Ipc, cred: &Cred, out: &mut String) -> Result {
    let all = ipc.sem.ids.all()?;
    room(out, all.len())?;
    out.push_str("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    for s in all.iter().filter_map(|set| set.look(cred).ok()) {
        let (p, [otime, ctime]) = (&s.perm, s.times);
        let _ = writeln!(
            out,
            "{:10} {:10}  {:4o} {:10} {:5} {:5} {:5} {:5} {otime:10} {ctime:10}",
            p.key, s.id, p.mode, s.count, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    Ok(())
}

fn msg(ipc: &Ipc, cred: &Cred, out: &mut String) -> Result {
    let all = ipc.msg.ids.all()?;
    room(out, all.len())?;
    out.push_str(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      \
         ctime\n",
    );
    for s in all.iter().filter_map(|queue| queue.look(cred).ok()) {
        let (p, [bytes, count, _], [lspid, lrpid], [stime, rtime, ctime]) = (&s.perm, s.sizes, s.pids, s.times);
        let _ = writeln!(
            out,
            "{:10} {:10}  {:4o}  {bytes:10} {count:10} {lspid:5} {lrpid:5} {:5} {:5} {:5} {:5} {stime:10} {rtime:10} \
             {ctime:10}",
            p.key, s.id, p.mode, p.uid, p.gid, p.cuid, p.cgid
        );
    }
    Ok(())
}

/// A setting, without its newline.
pub fn setting(name: &str) -> Option<String> {
    let ns = namespace();
    let ipc = Ipc::of(&ns);
    let limits = &ipc.sem.limits;
    Some(match name {
        "shmmax" => format!("{}", ipc.shm.max.load(Relaxed)),
        "shmall" => format!("{}", ipc.shm.all.load(Relaxed)),
        "shmmni" => format!("{}", ipc.shm.count.load(Relaxed)),
        "shm_rmid_forced" => format!("{}", u32::from(ipc.shm.forces_removal())),
        "sem" => {
            let [msl, mns, opm, mni] = [0, 1, 2, 3].map(|i: usize| limits[i].load(Relaxed));
            format!("{msl}\t{mns}\t{opm}\t{mni}")
        }
        _ => match (number(ipc, name), next_id(ipc, name)) {
            (Some((n, _)), _) => format!("{}", n.load(Relaxed)),
            (_, Some(n)) => format!("{}", n.load(Relaxed)),
            _ => return None,
        },
    })
}

/// Settings that are one number, with their range.
fn number<'a>(ipc: &'a Ipc, name: &str) -> Option<(&'a AtomicU32, RangeInclusive<u32>)> {
    const MOST: u32 = super::ids::MOST;
    if let Some(name) = name.strip_prefix("mqueue/") {
        let i = mqueue::SETTINGS.iter().position(|s| s.0 == name)?;
        let (_, least, most) = mqueue::SETTINGS[i];
        return Some((&ipc.mq.limits[i], least..=most));
    }
    let (place, most) = match name {
        "shmmni" => (&ipc.shm.count, MOST),
        "msgmax" => (&ipc.msg.max, i32::MAX as u32),
        "msgmnb" => (&ipc.msg.queue_bytes, i32::MAX as u32),
        "msgmni" => (&ipc.msg.count, MOST),
        _ => return None,
    };
    Some((place, 0..=most))
}

fn next_id<'a>(ipc: &'a Ipc, name: &str) -> Option<&'a AtomicI32> {
    Some(match name {
        "shm_next_id" => &ipc.shm.ids.next_id,
        "sem_next_id" => &ipc.sem.ids.next_id,
        "msg_next_id" => &ipc.msg.ids.next_id,
        _ => return None,
    })
}

/// Sets one.
///
/// # Errors
/// `EINVAL` for what is no number of the range.
pub fn set(name: &str, value: &[u8]) -> Result {
    let ns = namespace();
    let ipc = Ipc::of(&ns);
    let text = core::str::from_utf8(value).map_err(|_| Errno::EINVAL)?;
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next().ok_or(Errno::EINVAL).and_then(|w| w.parse::<u64>().map_err(|_| Errno::EINVAL));
    match name {
        "shmmax" => ipc.shm.max.store(next()?, Relaxed),
        "shmall" => ipc.shm.all.store(next()?, Relaxed),
        "shm_rmid_forced" => match next()? {
            on @ 0..=1 => ipc.shm.force_removal(on == 1)?,
            _ => return Err(Errno::EINVAL),
        },
        "sem" => set_sem(ipc, text)?,
        _ => match (number(ipc, name), next_id(ipc, name)) {
            (Some((place, range)), _) => {
                let n = u32::try_from(next()?).ok().filter(|n| range.contains(n)).ok_or(Errno::EINVAL)?;
                place.store(n, Relaxed);
            }
            (_, Some(place)) => {
                let n: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
                if n < 0 {
                    return Err(Errno::EINVAL);
                }
                place.store(n, Relaxed);
            }
            _ => return Err(Errno::EINVAL),
        },
    }
    Ok(())
}

/// `SEMMSL`, `SEMMNS`, `SEMOPM`, `SEMMNI`; what is not given stays.
fn set_sem(ipc: &Ipc, text: &str) -> Result {
    for (i, word) in text.split_ascii_whitespace().enumerate().take(4) {
        let n: u32 = word.parse().map_err(|_| Errno::EINVAL)?;
        if n > i32::MAX as u32 || i == 3 && n > super::ids::MOST {
            return Err(Errno::EINVAL);
        }
        ipc.sem.limits[i].store(n, Relaxed);
    }
    Ok(())
}
