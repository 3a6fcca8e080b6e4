//! Events for the host half: queued here, taken by the supervisor after every image entry or when its
//! doorbell rings.

use crate::abi::Errno;
use crate::abi::control::{Event, Recorded};
use crate::host::panic;
use crate::sync::{Level, Mutex, polled};
use crate::syscall::TABLE;
use crate::task::{exit, kernel, record, signals};
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

static QUEUE: Mutex<VecDeque<Event>> = Mutex::new(Level::Leaf, VecDeque::new());
static PANIC_TOLD: AtomicBool = AtomicBool::new(false);

/// Registers with the rooms that raise events.
pub fn register(recording: bool) {
    if recording {
        record::begin(|| push_event(Event::News));
    }
    exit::set_ended(|pid, status| push_event(Event::Exited { pid, status }));
    signals::set_stopped(|pid, signal| push_event(Event::Stopped { pid, signal }));
    kernel().set_unimplemented(|pid, call| {
        let name = TABLE.get(call as usize).map_or("", |entry| entry.name());
        log::info!("process {pid} made call {call} {name}, which is not there");
        record::record(|| Recorded::Unimplemented { pid, call });
        push_quietly(Event::Unimplemented { pid, call });
    });
    polled::set_ask(|fd, events| push_event(Event::Arm { fd, events }));
}

/// Queues an event and rings the supervisor.
pub fn push_event(event: Event) {
    QUEUE.lock().push_back(event);
    panic::ring();
}

/// Events that wait for the supervisor to be woken by something else.
const QUIET: usize = 16;

/// Queues an event that is taken with the next that rings, or when there are many: nobody acts by it, and to wake the
/// supervisor for each program's `rseq` takes longer than most calls.
fn push_quietly(event: Event) {
    let many = {
        let mut queue = QUEUE.lock();
        queue.push_back(event);
        queue.len() >= QUIET
    };
    if many {
        panic::ring();
    }
}

/// Takes the next event, encoded; its length, 0 for none.
pub fn next_event(buf: &mut [u8]) -> i64 {
    // A panic may have left locks held: it is told first, and without the queue.
    if let Some(text) = panic::message()
        && !PANIC_TOLD.swap(true, SeqCst)
    {
        return encode(&Event::Panic(alloc::string::String::from(text)), buf);
    }
    let event = QUEUE.lock().pop_front();
    event.map_or(0, |e| encode(&e, buf))
}

fn encode(event: &Event, buf: &mut [u8]) -> i64 {
    postcard::to_slice(event, buf).map_or(-i64::from(Errno::EOVERFLOW.raw()), |used| used.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_in_order() {
        QUEUE.lock().push_back(Event::Exited { pid: 3, status: 256 });
        QUEUE.lock().push_back(Event::Stopped { pid: 4, signal: 20 });
        let mut buf = [0; 64];
        let n = next_event(&mut buf);
        let first: Event = postcard::from_bytes(&buf[..n as usize]).unwrap();
        assert!(matches!(first, Event::Exited { pid: 3, status: 256 }));
        assert!(next_event(&mut buf) > 0);
        assert_eq!(next_event(&mut buf), 0);
    }
}
