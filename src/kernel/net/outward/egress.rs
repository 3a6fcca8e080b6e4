//! Connections to the host's network: the porter makes them where they are allowed, and hands their descriptors in.

use super::{Means, OfHost, Watch, Work, add, bridge, new_key};
use crate::abi::porter::{Answer, Ask};
use crate::abi::{Errno, Result};
use crate::host::net;
use crate::net::inet::addr::Addr;
use crate::net::inet::tcp::Tcp;
use crate::sync::{Level, Mutex, Polled};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use hashbrown::HashMap;

/// Descriptor of the socket to the porter; below 0: there is none.
static LINE: AtomicI32 = AtomicI32::new(-1);
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Who waits for an answer.
static ASKED: Mutex<Option<HashMap<u64, Weak<Tcp>>>> = Mutex::new(Level::Leaf, None);

struct Line {
    _of_host: Watch<OfHost>,
    /// The supervisor's, which closes it at the end.
    socket: i32,
}

/// Takes answers of the porter.
pub(super) fn open(fd: i32) {
    let key = new_key();
    let polled = Polled::new(fd);
    polled.watch();
    LINE.store(fd, Relaxed);
    add(key, Arc::new(Line { _of_host: Watch::new(OfHost(polled), key), socket: fd }));
}

/// Whether there is a way out at all.
pub fn is_open() -> bool {
    LINE.load(Relaxed) >= 0
}

/// Asks for a connection to `to`: [`Tcp::let_out`] or [`Tcp::let_down`] tells the socket.
///
/// # Errors
/// `ENETUNREACH` where there is no way out; `EAGAIN` while too many ask.
pub fn ask(socket: &Weak<Tcp>, to: Addr) -> Result {
    if !is_open() {
        return Err(Errno::ENETUNREACH);
    }
    let id = NEXT.fetch_add(1, Relaxed);
    {
        let mut asked = ASKED.lock();
        let asked = asked.get_or_insert_with(HashMap::new);
        asked.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        asked.insert(id, socket.clone());
    }
    let ask = Ask { id, ip: to.ip.bytes(), port: to.port };
    let sent = net::write_message(LINE.load(Relaxed), &ask.to_bytes());
    if sent.is_err() {
        take(id);
    }
    sent.map(drop)
}

fn take(id: u64) -> Option<Weak<Tcp>> {
    ASKED.lock().as_mut().and_then(|asked| asked.remove(&id))
}

impl Work for Line {
    fn run(&self, _means: &mut Means) -> bool {
        for _ in 0..64 {
            let mut bytes = [0; Answer::SIZE];
            let (n, host) = match net::receive_with_descriptor(self.socket, &mut bytes) {
                Ok(got) => got,
                Err(Errno::EAGAIN) => return false,
                Err(_) => break,
            };
            if n == 0 {
                break;
            }
            let answer = Answer::from_bytes(&bytes);
            let Some(socket) = take(answer.id).and_then(|w| w.upgrade()) else { continue };
            match host {
                Some(host) if answer.errno == 0 => {
                    if let Some(inner) = socket.let_out() {
                        bridge::start(host, inner, false, alloc::vec::Vec::new());
                    }
                }
                _ => {
                    if answer.errno == Errno::ENETUNREACH.raw() {
                        log::info!("a connection to where --allow names nothing");
                    }
                    socket.let_down(Errno::from_raw(answer.errno.max(1)));
                }
            }
        }
        // A porter that is gone answers nobody.
        if net::is_hung_up(self.socket) {
            LINE.store(-1, Relaxed);
            let all = ASKED.lock().as_mut().map(core::mem::take).unwrap_or_default();
            for socket in all.into_values().filter_map(|w| w.upgrade()) {
                socket.let_down(Errno::ENETUNREACH);
            }
            return false;
        }
        true
    }
}
