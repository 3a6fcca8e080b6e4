//! The guest programs and the real programs once more, as an ordinary user: without any capability, user
//! namespace or ptrace. What runs a command in `common` knows that it is compiled into this test.

mod common;
#[path = "suite/ends.rs"]
mod ends;
#[path = "suite/guest.rs"]
mod guest;
#[path = "suite/jail.rs"]
mod jail;
#[path = "suite/outside.rs"]
mod outside;
#[path = "suite/programs.rs"]
mod programs;

use common::{native, run, sandboxed};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn the_user_is_an_ordinary_one() {
    let shell = |script| run(&mut native(&["/bin/sh", "-c", script]), LIMIT);
    let status = shell("grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status").stdout;
    for line in status.lines() {
        let (name, value) = line.split_once(':').expect("a field");
        let value = u64::from_str_radix(value.trim(), 16).expect("a number");
        assert_eq!(value, u64::from(name == "NoNewPrivs"), "{line}");
    }
    assert_eq!(status.lines().count(), 3, "{status}");
    assert_ne!(shell("id -u").stdout.trim(), "0");
    assert_ne!(shell("unshare -U true").status, 0, "user namespaces can be made");
}

#[test]
fn it_is_itself_inside() {
    let ids = |mut command| run(&mut command, LIMIT).stdout;
    let script = ["/bin/sh", "-c", "id -u; id -g"];
    assert_eq!(ids(sandboxed(&[], &script)), ids(native(&script)));
    // Files of others stay theirs.
    let out = run(&mut sandboxed(&[], &["/bin/sh", "-c", "cat /etc/shadow || echo x > /etc/passwd"]), LIMIT);
    assert_ne!((out.status, out.stdout.as_str()), (0, ""), "{}", out.stderr);
}
