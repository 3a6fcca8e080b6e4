//! Rewritten call sites of an address space, as the rest of the kernel asks for them.

use super::super::rewrite::{self, StubHit, Trapped};
use super::super::vma::Backing;
use super::AddressSpace;
use crate::abi::linux::PROT_EXEC;

impl AddressSpace {
    /// A call at `site` trapped: hot sites are rewritten.
    #[inline]
    pub fn call_trapped(&self, site: u64) {
        if !rewrite::enabled() {
            return;
        }
        match self.heat.trapped(site) {
            Trapped::First => self.learn(site),
            Trapped::Hot(again) => {
                let inner = &mut *self.inner.write();
                inner.patches.rewrite(&mut inner.vmas, site, again);
            }
            Trapped::Again => {}
        }
    }

    /// Remembers a site for those who will map the same code.
    fn learn(&self, site: u64) {
        let inner = self.inner.read();
        if let Some(vma) = inner.vmas.find(site)
            && let (Some((text, fd)), Backing::File { map, offset, .. }) = (&vma.text, &vma.backing)
        {
            text.learn(*offset, vma.len(), offset + (site - vma.start), map, *fd);
        }
    }

    /// The call site on whose way to the kernel `pc` is.
    pub fn site_of_stub(&self, pc: u64) -> Option<StubHit> {
        if !rewrite::enabled() { None } else { self.inner.read().patches.site_of_stub(pc) }
    }

    /// Where a thread is to go on that is within what was written in front of a site ([`rewrite`]).
    pub fn moved(&self, pc: u64) -> Option<u64> {
        if !rewrite::enabled() { None } else { self.inner.read().patches.moved(pc) }
    }

    /// After a failure to fetch an instruction at `addr`: whether that may be because text was being written there,
    /// and if so a number that no other address space has, nor this one once text was written again. Waits for the end of
    /// a write under way.
    pub fn awaits_text(&self, addr: u64) -> Option<u64> {
        let inner = self.inner.read();
        let may_run = inner.vmas.find(addr).is_some_and(|v| v.prot & PROT_EXEC != 0);
        may_run.then(|| self.id << 32 | inner.patches.writes() & 0xffff_ffff)
    }

    /// The guest wants gs for itself: no site is rewritten any more.
    pub fn give_up_rewriting(&self) {
        let inner = &mut *self.inner.write();
        inner.patches.give_up(&inner.vmas);
    }

    /// Whether gs is the guest's.
    pub fn guest_has_gs(&self) -> bool {
        self.inner.read().patches.guest_gs()
    }
}
