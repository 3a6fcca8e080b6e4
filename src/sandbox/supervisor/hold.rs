//! The supervisor while its sandbox is saved: it does nothing, since whatever it does changes the kernel.

use super::serve::{End, Holder, Server};
use crate::sandbox::broker::Broker;
use crate::sandbox::channel::{FromSupervisor, Received, ToSupervisor};
use crate::sandbox::meter::Meter;
use drupe_kernel::abi::control::{Request, Response};
use drupe_kernel::abi::saved::Frozen;
use std::os::fd::{AsRawFd, RawFd};

impl Server {
    /// Adds what the kernel does not know to its answer.
    pub(super) fn complete(&self, frozen: &mut Frozen) {
        frozen.own = self.own_descriptors();
        frozen.armed = self.armed.iter().map(|(fd, events)| (*fd, *events)).collect();
        frozen.armed.extend(self.always_ready.iter().copied());
        frozen.running = self.running.map(|n| n as u32);
    }

    /// What the supervisor has opened for itself.
    fn own_descriptors(&self) -> Vec<RawFd> {
        let socket = match &self.holder {
            Holder::Apart(channel) => channel.socket().as_raw_fd(),
            Holder::Here(_) => -1,
        };
        let own = [&self.epoll, &self.children, &self.doorbell, &self.timer].map(AsRawFd::as_raw_fd);
        let helpers = self.broker.iter().map(Broker::fd).chain(self.meter.iter().filter_map(Meter::descriptor));
        let all = own.into_iter().chain([socket]).chain(helpers).chain(self.named.iter().copied());
        all.chain(super::children::list_fd()).filter(|fd| *fd >= 0).collect()
    }

    /// Waits for the end of the save; what is asked meanwhile is done then.
    pub(super) fn hold(&mut self) -> Result<(), End> {
        loop {
            let Holder::Apart(channel) = &mut self.holder else { return Ok(()) };
            match channel.receive::<ToSupervisor>(true) {
                Ok(Received::Message(ToSupervisor::Request { id, request }, fds)) => {
                    let request = request.into_owned();
                    if matches!(request, Request::Thaw) {
                        self.say(FromSupervisor::Reply { id, response: Response::Ok })?;
                        break;
                    }
                    self.postponed.push_back((id, request, fds));
                }
                Ok(Received::Pending) => {}
                Ok(Received::HungUp) | Err(_) => return Err(End::Told),
            }
        }
        while let Some((id, request, fds)) = self.postponed.pop_front() {
            let response = self.ask(request, fds);
            self.say(FromSupervisor::Reply { id, response })?;
        }
        Ok(())
    }

    /// Takes note of descriptors that are none of the kernel's objects: those that settings name, and `/proc`.
    pub(super) fn knows(&mut self, fds: [RawFd; 4]) {
        self.named = fds.into_iter().filter(|fd| *fd >= 0).collect();
    }

    /// Goes on with what a saved supervisor waited for.
    pub(super) fn resume(&mut self, running: Option<usize>, armed: &[(RawFd, u32)]) {
        self.running = running;
        // It may have made processes from the mother's.
        self.reserve = true;
        for &(fd, events) in armed {
            self.arm(fd, events);
        }
        // The saved kernel may have rung for something that its supervisor did not come to.
        self.ring();
    }
}
