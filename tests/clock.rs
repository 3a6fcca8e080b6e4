//! A sandbox whose wall clock is apart from the host's: every way of asking agrees.

use drupe::Sandbox;
use std::time::{SystemTime, UNIX_EPOCH};

/// A hundred days and a bit, ns: the nanoseconds carry in both directions.
const AHEAD: i64 = 100 * 86_400_000_000_000 + 999_999_999;

fn clocks(ahead: i64) -> (i64, Vec<i64>) {
    let sandbox = Sandbox::builder().clock_ahead(ahead).start().expect("a sandbox starts");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    // By the vDSO, by what a new file is stamped with, and by a system call of another clock's sleep.
    let script = "date +%s; : > /tmp/stamp; stat -c %Y /tmp/stamp; sleep 0.01; date +%s";
    let out = sandbox.command("/bin/sh").args(["-c", script]).output().expect("a shell runs");
    let text = String::from_utf8(out.stdout).expect("digits");
    let seen = text.lines().map(|l| l.parse::<i64>().expect("a number")).collect();
    (before + ahead.div_euclid(1_000_000_000), seen)
}

#[test]
fn the_wall_clock_can_be_elsewhere() {
    for ahead in [0, AHEAD, -AHEAD] {
        let (expected, seen) = clocks(ahead);
        assert_eq!(seen.len(), 3, "{seen:?}");
        for s in seen {
            assert!((expected - 1..expected + 10).contains(&s), "{ahead}: {s} instead of {expected}");
        }
    }
}
