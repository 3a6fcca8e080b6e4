//! Arguments as text, from the test's own memory.

use super::decode::{after, before, quoted};
use crate::abi::linux;

fn shown(nr: u32, args: [u64; 6], value: Option<u64>) -> String {
    after(u64::from(nr), &args, before(u64::from(nr), &args), value)
}

#[test]
fn strings_are_quoted() {
    assert_eq!(quoted(b"a\n\"\x01"), "\"a\\n\\\"\\x01\"");
}

#[test]
fn calls_read_as_in_strace() {
    let path = c"/etc/hosts";
    let cwd = linux::AT_FDCWD as u64;
    assert_eq!(
        shown(linux::__NR_openat, [cwd, path.as_ptr() as u64, 0o2000000, 0, 0, 0], Some(3)),
        "AT_FDCWD, \"/etc/hosts\", O_RDONLY|O_CLOEXEC, 00"
    );
    let buf = b"0123456789012345678901234567890123456789";
    let at = buf.as_ptr() as u64;
    assert_eq!(shown(linux::__NR_read, [0, at, 100, 0, 0, 0], Some(4)), "0, \"0123\", 100");
    assert_eq!(shown(linux::__NR_read, [0, at, 100, 0, 0, 0], None), format!("0, {at:#x}, 100"));
    assert_eq!(
        shown(linux::__NR_write, [1, at, 40, 0, 0, 0], Some(40)),
        "1, \"01234567890123456789012345678901\"..., 40"
    );
    assert_eq!(shown(linux::__NR_openat, [cwd, 8, 0, 0, 0, 0], None), "AT_FDCWD, 0x8, O_RDONLY, 00");
    let list = [path.as_ptr() as u64, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8];
    let args = [path.as_ptr() as u64, list.as_ptr() as u64, 0, 0, 0, 0];
    assert_eq!(shown(linux::__NR_execve, args, None), "\"/etc/hosts\", [\"/etc/hosts\"], NULL /* 0 vars */");
    assert_eq!(shown(linux::__NR_getpid, [0; 6], Some(1)), "");
}
