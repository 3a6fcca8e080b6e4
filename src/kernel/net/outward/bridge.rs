//! Bridges: a stream of the host and one of the sandbox, and what passes between them.
//!
//! What one side cannot take yet is kept, at most as much as is passed on at a time, and nothing more is taken from the
//! other side meanwhile: so a slow reader slows the writer at the other end. An end of data passes as such; a side that
//! breaks resets the other.

use super::{Means, OfHost, OfSocket, Watch, Work, add, new_key, publish, remove};
use crate::abi::{Errno, SysError};
use crate::host::{HostFd, net};
use crate::mm::{IoDst, IoSrc};
use crate::net::socket::{Halves, MsgFlags, RecvMsg, SendMsg, SockCtx, SocketOps};
use crate::sync::{Level, Mutex, Polled};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How often a bridge passes data on before others have their turn.
const ROUNDS: usize = 32;

/// Data on its way in one direction.
#[derive(Default)]
struct Way {
    /// What was taken and not given yet.
    kept: Vec<u8>,
    /// How much of it was given.
    given: usize,
    /// The end of data came.
    ended: bool,
    /// And was passed on.
    told: bool,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
    Broken,
}

/// Broken, or nothing to be done for now.
fn failed(e: SysError) -> Step {
    if e == SysError::Errno(Errno::EAGAIN) { Step::Waits } else { Step::Broken }
}

impl Way {
    /// Passes on what there is.
    fn step(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(&mut [u8]) -> Result<usize, SysError>,
        mut give: impl FnMut(&[u8]) -> Result<usize, SysError>,
        mut end: impl FnMut(),
    ) -> Step {
        if self.kept.is_empty() && !self.ended {
            match take(scratch) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    let given = match give(&scratch[..n]) {
                        Ok(given) => given,
                        Err(e) if failed(e) == Step::Waits => 0,
                        Err(_) => return Step::Broken,
                    };
                    if given < n {
                        let rest = &scratch[given..n];
                        if self.kept.try_reserve_exact(rest.len()).is_err() {
                            return Step::Broken;
                        }
                        self.kept.extend_from_slice(rest);
                        self.given = 0;
                    }
                    return Step::Moved;
                }
                Err(e) => return failed(e),
            }
        }
        if !self.kept.is_empty() {
            match give(&self.kept[self.given..]) {
                Ok(n) => self.given += n,
                Err(e) => return failed(e),
            }
            if self.given == self.kept.len() {
                self.kept = Vec::new();
            }
            return Step::Moved;
        }
        if !self.told {
            self.told = true;
            end();
            return Step::Moved;
        }
        Step::Waits
    }
}

struct State {
    /// From the host into the sandbox, and back.
    ways: [Way; 2],
    /// The sandbox's side is still to be connected.
    connecting: bool,
    /// Other places to connect to, in order.
    places: Vec<publish::Place>,
    inner: Arc<dyn SocketOps>,
    of_inner: Watch<OfSocket>,
}

/// See the module.
struct Bridge {
    key: u64,
    /// Taken while it runs, so that no lock is held then.
    state: Mutex<Option<State>>,
    _of_host: Watch<OfHost>,
    host: HostFd,
}

/// Bridges a connection of the host and one of the sandbox. `places`: where else to connect to if the sandbox's does
/// not come about.
pub(super) fn start(host: HostFd, inner: Arc<dyn SocketOps>, connecting: bool, places: Vec<publish::Place>) {
    let key = new_key();
    // Small pieces come with what follows them anyway.
    let _ = net::set_option(host.raw(), 6, 1, &1u32.to_ne_bytes());
    let polled = Polled::new(host.raw());
    polled.watch();
    let of_inner = Watch::new(OfSocket(inner.clone()), key);
    let state = State { ways: Default::default(), connecting, places, inner, of_inner };
    let bridge =
        Bridge { key, state: Mutex::new(Level::Leaf, Some(state)), _of_host: Watch::new(OfHost(polled), key), host };
    add(key, Arc::new(bridge));
}

impl State {
    /// The sandbox's side is connected, or will be.
    fn connect(&mut self, ctx: &SockCtx<'_>, key: u64) -> Step {
        loop {
            match self.inner.connected() {
                Ok(()) => {
                    self.connecting = false;
                    return Step::Moved;
                }
                Err(Errno::EAGAIN) => return Step::Waits,
                Err(_) => {}
            }
            let Some(place) = self.places.pop() else { return Step::Broken };
            let Ok(inner) = publish::connect(ctx, &place) else { continue };
            self.inner.close();
            self.of_inner = Watch::new(OfSocket(inner.clone()), key);
            self.inner = inner;
        }
    }

    fn pass(&mut self, ctx: &SockCtx<'_>, fd: i32, scratch: &mut [u8]) -> Step {
        let inner = &*self.inner;
        let [inward, outward] = &mut self.ways;
        let into = inward.step(
            scratch,
            |room| Ok(net::read(fd, room)?),
            |data| {
                let flags = MsgFlags::DONTWAIT | MsgFlags::NOSIGNAL;
                let mut msg = SendMsg { flags, ..SendMsg::default() };
                IoSrc::with_kernel(data, |src| inner.send(ctx, src, &mut msg))
            },
            || {
                let _ = inner.shutdown(Halves { read: false, write: true });
            },
        );
        if into == Step::Broken {
            return into;
        }
        let out = outward.step(
            scratch,
            |room| IoDst::with_kernel(room, |dst| inner.receive(ctx, dst, MsgFlags::DONTWAIT, &mut RecvMsg::default())),
            |data| Ok(net::write(fd, data)?),
            || {
                let _ = net::shutdown(fd, 1);
            },
        );
        match (into, out) {
            (_, Step::Broken) => Step::Broken,
            (Step::Waits, Step::Waits) => Step::Waits,
            _ => Step::Moved,
        }
    }

    fn is_over(&self) -> bool {
        self.ways.iter().all(|w| w.told)
    }
}

impl Bridge {
    /// Ends both sides; `broken`: by a reset.
    fn end(&self, state: State, broken: bool) {
        if broken {
            let _ = net::set_option(self.host.raw(), 1, 13, &[1, 0, 0, 0, 0, 0, 0, 0]);
            state.inner.core().set_linger(true, 0);
        }
        state.inner.close();
        drop(state);
        remove(self.key);
        publish::one_less();
    }
}

impl Work for Bridge {
    fn run(&self, means: &mut Means) -> bool {
        let Some(mut state) = self.state.lock().take() else { return false };
        let mut scratch = core::mem::take(&mut means.scratch);
        let ctx = means.ctx();
        let mut step = Step::Moved;
        for _ in 0..ROUNDS {
            step = match state.connecting {
                true => state.connect(&ctx, self.key),
                false => state.pass(&ctx, self.host.raw(), &mut scratch),
            };
            if step != Step::Moved || state.is_over() {
                break;
            }
        }
        means.scratch = scratch;
        if step == Step::Broken || state.is_over() {
            self.end(state, step == Step::Broken);
            return false;
        }
        *self.state.lock() = Some(state);
        step == Step::Moved
    }
}
