use super::queue::{Outcome, State, Waiting};
use super::*;
use crate::cred::Cred;

fn op(num: u16, op: i16) -> SemBuf {
    SemBuf { num, op, flags: 0 }
}

fn set(values: &[u16]) -> State {
    let perm = Perm::new(&Cred::new(0, 0, Vec::new()), 0, 0o600);
    let mut state = State::new(perm, values.len(), 0).unwrap();
    for (sem, &v) in state.sems.iter_mut().zip(values) {
        sem.value = v;
    }
    state
}

fn values(s: &State) -> Vec<u16> {
    s.sems.iter().map(|s| s.value).collect()
}

fn wait(s: &mut State, ops: &[SemBuf]) -> Arc<Sleeper<Result>> {
    let Outcome::Blocks(blocking) = s.perform(ops, None, 1) else { panic!("it does not block") };
    let sleeper = Sleeper::here();
    let alters = ops.iter().any(|o| o.op != 0);
    s.queue(Waiting { ops: ops.into(), alters, blocking, undo: None, pid: 2, sleeper: sleeper.clone() });
    sleeper
}

fn change(s: &mut State, ops: &[SemBuf]) {
    assert_eq!(s.perform(ops, None, 3), Outcome::Done);
    s.after(ops, true, &mut WakeList::default());
}

#[test]
fn all_or_nothing() {
    let mut s = set(&[1, 0]);
    assert_eq!(s.perform(&[op(0, -1), op(1, -1)], None, 1), Outcome::Blocks(1));
    assert_eq!(values(&s), [1, 0]);
    let nowait = SemBuf { flags: 0o4000, ..op(1, -1) };
    assert_eq!(s.perform(&[op(0, -1), nowait], None, 1), Outcome::Fails(Errno::EAGAIN));
    assert_eq!(s.perform(&[op(0, 32767)], None, 1), Outcome::Fails(Errno::ERANGE));
    assert_eq!(s.perform(&[op(0, 5), op(0, -6), op(0, 0)], None, 7), Outcome::Done);
    assert_eq!((values(&s), s.sems[0].pid, s.sems[1].pid), (alloc::vec![0, 0], 7, 0));
}

#[test]
fn whoever_came_first_is_served_first_unless_he_wants_more() {
    let mut s = set(&[0, 0]);
    let (first, second, third) = (wait(&mut s, &[op(0, -2)]), wait(&mut s, &[op(0, -1)]), wait(&mut s, &[op(0, -1)]));
    assert_eq!((s.waiters(0, true), s.waiters(1, true)), (3, 0));
    change(&mut s, &[op(0, 1)]);
    assert_eq!((first.take(), second.take(), third.take()), (None, Some(Ok(())), None));
    change(&mut s, &[op(0, 2)]);
    assert_eq!((first.take(), third.take()), (Some(Ok(())), None));
    assert_eq!(values(&s), [0, 0]);
}

#[test]
fn one_that_is_served_makes_way_for_others() {
    let mut s = set(&[0, 0]);
    // Waits for the second, which the next one raises once it has the first.
    let b = wait(&mut s, &[op(1, -1)]);
    let a = wait(&mut s, &[op(0, -1), op(1, 1)]);
    let zero = {
        s.sems[1].value = 1;
        let z = wait(&mut s, &[op(1, 0)]);
        s.sems[1].value = 0;
        z
    };
    assert_eq!((s.waiters(1, true), s.waiters(1, false), s.waiters(0, true)), (1, 1, 1));
    change(&mut s, &[op(0, 1)]);
    assert_eq!((a.take(), b.take(), zero.take()), (Some(Ok(())), Some(Ok(())), Some(Ok(()))));
    assert_eq!(values(&s), [0, 0]);
}

#[test]
fn the_end_of_a_set_wakes_everybody() {
    let mut s = set(&[0]);
    let a = wait(&mut s, &[op(0, -1)]);
    s.end(&mut WakeList::default());
    assert_eq!(a.take(), Some(Err(Errno::EIDRM)));
}
