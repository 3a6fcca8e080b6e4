//! The end of a pid namespace (`zap_pid_ns_processes` in `kernel/pid_namespace.c`).

use super::exit::begin_group_exit;
use super::group::Run;
use super::pid::PidNamespace;
use super::{CurrentTask, ThreadGroup, tree};
use crate::abi::linux::{SIGCHLD, SIGKILL};
use crate::arch;
use crate::signal::{SIG_IGN, SigAction};
use crate::sync::{Kind, On};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Kills all of a namespace but its init. Nobody comes to it from now on.
pub(super) fn kill_all(ns: &PidNamespace, init: &ThreadGroup) {
    ns.close();
    for group in ns.processes() {
        if group.pid != init.pid {
            begin_group_exit(&group, SIGKILL as i32);
        }
    }
}

/// The running thread is the last of the init of its namespace, and ends: it kills all others there, reaps its children,
/// and waits until the rest are reaped, too.
pub(super) fn empty(cur: &CurrentTask) {
    let init = &cur.group;
    let ns = cur.pid_namespace();
    // Its children vanish from now on.
    init.actions().set(SIGCHLD, SigAction { handler: SIG_IGN, ..SigAction::default() });
    let slot = arch::slot();
    ns.tell_of_leavers(Some(slot));
    loop {
        let ticket = slot.waker.ticket();
        // One that was being made may have come meanwhile.
        kill_all(ns, init);
        reap_children(init);
        if ns.processes().len() <= 1 {
            break;
        }
        crate::sync::wait::sleep_deaf(slot, On::the(Kind::Child), ticket);
    }
    ns.tell_of_leavers(None);
}

fn reap_children(init: &Arc<ThreadGroup>) {
    let tree = tree::lock();
    let children: Vec<_> = init.state.lock().children.values().cloned().collect();
    for child in children {
        let ended = child.state.lock().run == Run::Zombie;
        if ended && !child.held.load(core::sync::atomic::Ordering::SeqCst) {
            tree.remove_process(&child);
            init.state.lock().remove_child(child.pid);
        }
    }
}
