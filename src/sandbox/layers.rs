//! What each layer of the jail costs at a start, by itself.
//!
//! A process is forked that sets one layer up and ends, and the time until it is reaped is compared with that of one that
//! sets up none: so what the host has to take down again counts, too.

use super::broker::{Broker, Owner};
use super::error::Result;
use super::jail::{self, Reach};
use super::meter::Meter;
use super::{filter, namespaces, open_path};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

/// A layer, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// For a person.
    pub name: &'static str,
    set_up: fn() -> Result,
}

/// Every layer.
pub const LAYERS: &[Layer] = &[
    Layer { name: "Landlock", set_up: || jail::shut(jail::Jail::Strict, &reach()?, u64::MAX).map(drop) },
    Layer { name: "filter of the guests: made and installed", set_up: guests_filter },
    Layer { name: "filter of the supervisor: made and installed", set_up: supervisors_filter },
    Layer { name: "broker: a process more", set_up: broker },
    Layer { name: "meter of --memory: a process more", set_up: meter },
    Layer { name: "namespace: host name (on by default for root)", set_up: || unshare(libc::CLONE_NEWUTS) },
    Layer { name: "namespace: control groups (the same)", set_up: || unshare(libc::CLONE_NEWCGROUP) },
    Layer { name: "namespace: IPC (the same)", set_up: || unshare(libc::CLONE_NEWIPC) },
    Layer { name: "namespace: users", set_up: || unshare(libc::CLONE_NEWUSER) },
    Layer { name: "namespace: mounts, a copy of the host's", set_up: || unshare(libc::CLONE_NEWNS) },
    Layer { name: "namespace: network", set_up: || unshare(libc::CLONE_NEWNET) },
    Layer { name: "namespace: processes, with the process that stays behind", set_up: pids },
    Layer { name: "namespaces: all but processes, with an empty root", set_up: all },
];

impl Layer {
    /// Nanoseconds for a process that sets up nothing, and for one that sets this layer up; `None` where it cannot be.
    pub fn cost(&self) -> Option<(f64, f64)> {
        Some((timed(|| Ok(()))?, timed(self.set_up)?))
    }
}

fn timed(set_up: fn() -> Result) -> Option<f64> {
    let start = Instant::now();
    // SAFETY: the child sets a layer up and ends; `drupe bench`, which measures, has one thread.
    let status = unsafe {
        match libc::fork() {
            -1 => return None,
            0 => {
                // As a supervisor has it, who waits for the end of its helpers.
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                let mut deaths = std::mem::zeroed();
                libc::sigemptyset(&raw mut deaths);
                libc::sigaddset(&raw mut deaths, libc::SIGCHLD);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const deaths, std::ptr::null_mut());
                libc::_exit(i32::from(set_up().is_err()))
            }
            pid => {
                let mut status = 1;
                if libc::waitpid(pid, &raw mut status, 0) != pid {
                    return None;
                }
                status
            }
        }
    };
    // The guests' filter ends whoever calls the host from elsewhere than the gate, as by exiting.
    (status == 0 || status & 0x7f == libc::SIGSYS).then(|| start.elapsed().as_nanos() as f64)
}

fn reach() -> Result<Reach> {
    let root = open_path(Path::new("/"))?;
    let reach = Reach { read: vec![root.as_raw_fd()], ..Reach::default() };
    std::mem::forget(root);
    jail::enter()?;
    Ok(reach)
}

fn unshare(flags: i32) -> Result {
    // SAFETY: a plain number.
    if unsafe { libc::unshare(flags) } == 0 { Ok(()) } else { Err(super::Error::last("make a namespace")) }
}

fn guests_filter() -> Result {
    jail::enter()?;
    let program = filter::build(0x7e80_0020_1000, 0x7e80_0020_2000, filter::May::default())?;
    filter::install(&program).map_err(|e| super::Error::host("install a filter", e))
}

fn supervisors_filter() -> Result {
    jail::enter()?;
    filter::install(&filter::of_supervisor(true, false, filter::May::default())?)
        .map_err(|e| super::Error::host("install a filter", e))
}

fn broker() -> Result {
    let dir = open_path(Path::new("/tmp"))?;
    let root = Owner { uid: 0, gids: Vec::new() };
    Broker::start(&[dir.as_raw_fd()], &root, 0, false, jail::permitted()?).map(drop)
}

fn meter() -> Result {
    let proc = open_path(Path::new("/proc"))?;
    Meter::start(proc.as_raw_fd(), &[], 1 << 30, jail::permitted()?, None).map(drop)
}

fn pids() -> Result {
    namespaces::leave_pids(None)
}

fn all() -> Result {
    let (root, proc) = (open_path(Path::new("/"))?, open_path(Path::new("/proc"))?);
    let given = [
        namespaces::Given { fd: root.as_raw_fd(), writable: false, at: None },
        namespaces::Given { fd: proc.as_raw_fd(), writable: false, at: Some(namespaces::PROC) },
    ];
    namespaces::enter(&given, false)
}
