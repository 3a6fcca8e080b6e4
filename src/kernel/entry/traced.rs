//! Calls of a traced task: stops in front of them and behind them, single steps.

use super::{Interrupted, serve};
use crate::abi::sigctx::SigContext;
use crate::abi::{Errno, Restart, linux};
use crate::signal::info;
use crate::task::trace::{CallStop, flag};
use crate::task::{CurrentTask, dispatch};
use core::sync::atomic::Ordering::SeqCst;

/// `TRAP_TRACE`, `TRAP_HWBKPT`.
pub const TRAP_TRACE: i32 = 2;
const TRAP_HWBKPT: i32 = 4;
/// What a step over a call has.
const TRAP_BRKPT: i32 = 1;

/// What a tracer sees in rax of a call that is to be made again (`ERESTART*` in `linux/errno.h`).
fn seen_as(restart: Restart) -> u64 {
    let code: i64 = match restart {
        Restart::Sys => -512,
        Restart::NoIntr => -513,
        Restart::NoHand => -514,
        Restart::Block => -516,
    };
    code as u64
}

/// Serves a call that came by a trap, with its tracer's stops.
#[inline(never)]
pub fn call(regs: &mut SigContext, nr: u64) -> Option<Interrupted> {
    let cur = CurrentTask::here(regs);
    cur.note_call(nr);
    let mut nr = nr;
    let flags = cur.traced.load(SeqCst);
    if dispatch::takes(&cur, nr) {
        regs.rax = nr;
        return None;
    }
    if flags & (flag::CALLS | flag::EMULATE) != 0 {
        cur.frame().rax = -i64::from(Errno::ENOSYS.raw()) as u64;
        cur.call_stop(CallStop::Entry);
        nr = cur.noted_call();
    }
    let left_out = flags & flag::EMULATE != 0 || nr as i32 == -1 || cur.must_end();
    let interrupted = if left_out { None } else { serve(regs, u64::from(nr as u32)) };
    finish(regs, interrupted)
}

/// What follows a call: the stop behind it, and the step over it.
pub fn finish(regs: &mut SigContext, interrupted: Option<Interrupted>) -> Option<Interrupted> {
    let cur = CurrentTask::here(regs);
    if let Some(i) = interrupted {
        cur.frame().rax = seen_as(i.restart);
    }
    let flags = cur.traced.load(SeqCst);
    if flags & flag::CALLS != 0 {
        cur.call_stop(CallStop::Exit);
    }
    if cur.traced.load(SeqCst) & flag::STEP != 0 && flags & flag::STEP != 0 {
        cur.disarm_steps();
        cur.force_signal(&info::fault(linux::SIGTRAP, TRAP_BRKPT, cur.frame().rip));
    }
    still(&cur, interrupted)
}

/// Whether a call is still to be made again after its tracer has seen the registers.
fn still(cur: &CurrentTask, interrupted: Option<Interrupted>) -> Option<Interrupted> {
    interrupted.filter(|i| cur.frame().rax == seen_as(i.restart) && cur.noted_call() as i64 >= 0)
}

/// The exit work may stop a traced task: an interrupted call shows as such meanwhile. The task may have come to be
/// traced during the call, which nobody noted then.
pub fn before_exit_work(cur: &CurrentTask, interrupted: Option<Interrupted>) {
    if let Some(i) = interrupted {
        cur.note_call(i.nr);
        cur.frame().rax = seen_as(i.restart);
    }
}

/// See [`before_exit_work`].
pub fn after_exit_work(cur: &CurrentTask, interrupted: Option<Interrupted>) -> Option<Interrupted> {
    if cur.is_traced() { still(cur, interrupted) } else { interrupted }
}

/// The guest's own SIGTRAP of a single step; whether it is to be told, and how.
pub fn step(cur: &CurrentTask, code: i32) -> Option<i32> {
    let flags = cur.traced.load(SeqCst);
    if flags & flag::TRAP_FLAG == 0 || code != TRAP_TRACE {
        return Some(code);
    }
    let told = cur.step_is_stop();
    if told {
        cur.disarm_steps();
    }
    told.then_some(if flags & flag::STEP != 0 { TRAP_TRACE } else { TRAP_HWBKPT })
}
