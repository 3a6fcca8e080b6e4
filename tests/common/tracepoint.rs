//! Counting with the host's tracepoints, from outside of what is counted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;

/// A counter of one tracepoint in the calling thread and whatever it starts from now on.
pub struct Counter(File);

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;
const INHERIT: u64 = 1 << 1;
/// `_IOW('$', 6, char *)`
const SET_FILTER: libc::c_ulong = 0x4008_2406;

/// The first version of `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 3],
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
}

/// The number of an event such as `signal/signal_deliver`.
fn id(event: &str) -> io::Result<u64> {
    let number = |root: &Path| -> io::Result<u64> {
        let text = fs::read_to_string(root.join("events").join(event).join("id"))?;
        text.trim().parse().map_err(io::Error::other)
    };
    for root in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
        if let Ok(id) = number(Path::new(root)) {
            return Ok(id);
        }
    }
    let here = super::guest_dir().join(format!("tracefs-{}", std::process::id()));
    fs::create_dir_all(&here)?;
    let at = std::ffi::CString::new(here.as_os_str().as_encoded_bytes())?;
    // SAFETY: strings that outlive the calls.
    let mounted = unsafe { libc::mount(c"tracefs".as_ptr(), at.as_ptr(), c"tracefs".as_ptr(), 0, std::ptr::null()) };
    let found = if mounted == 0 { number(&here) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as above.
    unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    let _ = fs::remove_dir(&here);
    found
}

impl Counter {
    /// Starts to count `event` where `filter` holds.
    ///
    /// # Errors
    /// A host without tracepoints, or that does not let us.
    pub fn start(event: &str, filter: &str) -> io::Result<Counter> {
        let attr = Attr {
            kind: PERF_TYPE_TRACEPOINT,
            size: size_of::<Attr>() as u32,
            config: id(event)?,
            flags: INHERIT,
            ..Attr::default()
        };
        let filter = std::ffi::CString::new(filter)?;
        // SAFETY: the attributes and the filter outlive the calls; a descriptor made just now is ours.
        unsafe {
            let fd = libc::syscall(libc::SYS_perf_event_open, &raw const attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let counter = Counter(File::from_raw_fd(fd as i32));
            if libc::ioctl(counter.0.as_raw_fd(), SET_FILTER, filter.as_ptr()) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(counter)
        }
    }

    /// How often it happened so far.
    pub fn read(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
