//! Guest programs: each runs natively and in drupe, with rewriting on and off, and must agree.

mod common;

use common::{Link, agrees, compile};
use std::time::Duration;

fn check(name: &str, links: &[Link]) {
    for &link in links {
        if let Some(path) = compile(name, link) {
            agrees(&[path.to_str().expect("ASCII path")], Duration::from_secs(30));
        }
    }
}

const ALL: &[Link] = &[Link::Dynamic, Link::Static, Link::Musl];
const GLIBC: &[Link] = &[Link::Dynamic, Link::Static];

macro_rules! guests {
    ($($name:ident: $links:expr;)*) => { $(
        #[test]
        fn $name() {
            check(stringify!($name), $links);
        }
    )* };
}

guests! {
    hello: ALL;
    processes: ALL;
    reuse: ALL;
    pipes: ALL;
    signals: GLIBC;
    handlers: GLIBC;
    epoll: GLIBC;
    threads: GLIBC;
    pthreads: ALL;
    memory: GLIBC;
    files: GLIBC;
    names: ALL;
    errors: GLIBC;
    locks: GLIBC;
    polling: GLIBC;
    vectors: GLIBC;
    rewriting: &[Link::Dynamic];
    time: GLIBC;
    vdso: ALL;
}
