//! Guest programs: each runs natively and in drupe, with rewriting on and off, and must agree.

use crate::common::{Link, agrees, as_user, compile, native, run, sandboxed};
use std::fs;
use std::path::Path;
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
    persona: &[Link::Dynamic];
    processes: ALL;
    waiting: GLIBC;
    rlimits: &[Link::Dynamic];
    credentials: &[Link::Dynamic];
    reuse: ALL;
    exit_signals: GLIBC;
    pipes: ALL;
    signals: GLIBC;
    handlers: GLIBC;
    epoll: GLIBC;
    watching: GLIBC;
    fanotify: &[Link::Dynamic];
    administering: &[Link::Dynamic];
    precedence: GLIBC;
    aio: &[Link::Dynamic];
    directory_signals: GLIBC;
    buffers: GLIBC;
    filled: GLIBC;
    owners: GLIBC;
    seen: GLIBC;
    timers: GLIBC;
    threads: GLIBC;
    pthreads: ALL;
    memory: GLIBC;
    growing: GLIBC;
    mapping: GLIBC;
    mapping_moves: &[Link::Dynamic];
    populate: GLIBC;
    files: GLIBC;
    names: ALL;
    errors: GLIBC;
    locks: GLIBC;
    shared_memory: GLIBC;
    posix_queues: &[Link::Dynamic];
    futexes: GLIBC;
    mounts: GLIBC;
    running: GLIBC;
    polling: GLIBC;
    vectors: GLIBC;
    rewriting: &[Link::Dynamic];
    hot_sites: GLIBC;
    fronts: ALL;
    time: GLIBC;
    vdso: ALL;
    odds: GLIBC;
    namespaces: GLIBC;
    extremes: GLIBC;
    local_states: GLIBC;
    local_messages: GLIBC;
    local_flight: GLIBC;
    interfaces: GLIBC;
    socket_filters: GLIBC;
    socket_effects: GLIBC;
    sockopts: GLIBC;
    option_table: &[Link::Dynamic];
    multicast: &[Link::Dynamic];
    local_errors: &[Link::Dynamic];
    tcp_holding: &[Link::Dynamic];
    tcp_closing: &[Link::Dynamic];
    tcp_many: &[Link::Dynamic];
    streams: &[Link::Dynamic];
    tcp: GLIBC;
    udp: GLIBC;
    remote: &[Link::Dynamic];
    tracing: &[Link::Dynamic];
    user_dispatch: &[Link::Dynamic];
    cores: &[Link::Dynamic];
    pty: GLIBC;
    pty_lines: &[Link::Dynamic];
    pty_storm: &[Link::Dynamic];
    pty_echoes: &[Link::Dynamic];
}

macro_rules! guests_of_root {
    ($($name:ident: $links:expr;)*) => { $(
        #[test]
        fn $name() {
            if !as_user() {
                check(stringify!($name), $links);
            }
        }
    )* };
}

// They give away what they have made, hang terminals up, make namespaces, or print what the filter of an ordinary
// user's tests changes natively.
guests_of_root! {
    links: GLIBC;
    landlocked: &[Link::Dynamic];
    semaphores: GLIBC;
    message_queues: GLIBC;
    pty_jobs: GLIBC;
    filters: GLIBC;
    spaces: GLIBC;
    user_spaces: &[Link::Dynamic];
    pid_spaces: &[Link::Dynamic];
    time_spaces: &[Link::Dynamic];
    tracer_calls: &[Link::Dynamic];
    comparisons: &[Link::Dynamic];
    secret_memory: &[Link::Dynamic];
    raw: GLIBC;
    places: GLIBC;
    paths: GLIBC;
    bounds: GLIBC;
    told: GLIBC;
    mount_steps: GLIBC;
    propagation: &[Link::Dynamic];
    tmpfs: &[Link::Dynamic];
    acls: &[Link::Dynamic];
    leases: &[Link::Dynamic];
    lock_table: &[Link::Dynamic];
    kept_ids: &[Link::Dynamic];
    watched_acts: &[Link::Dynamic];
    mount_texts: &[Link::Dynamic];
    keyrings: &[Link::Dynamic];
    io_flags: &[Link::Dynamic];
    mount_answers: &[Link::Dynamic];
    link_layer: &[Link::Dynamic];
    packet_rings: &[Link::Dynamic];
    sent_stamps: &[Link::Dynamic];
    dissolving: &[Link::Dynamic];
    interface_requests: &[Link::Dynamic];
    packet_headers: GLIBC;
    route_checks: &[Link::Dynamic];
    older_requests: &[Link::Dynamic];
    datagrams: &[Link::Dynamic];
    immutable: GLIBC;
    handles: GLIBC;
    descriptors: GLIBC;
}

/// What `below.c` expects to find.
fn make_tree(dir: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let _ = fs::remove_dir_all(dir);
    let text = |name: &str, content: &str, mode: u32| {
        let path = dir.join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    for sub in ["", "sub", "closed", "many", "crowd"] {
        fs::create_dir_all(dir.join(sub)).expect("a directory");
        fs::set_permissions(dir.join(sub), fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    text("plain", "0123456789abcdef", 0o644);
    text("private", "secret", 0o600);
    text("closed/inner", "inner", 0o644);
    text("sub/inner", "inner", 0o644);
    for name in ["grow", "cut", "cut2", "doomed", "target", "source"] {
        text(name, &format!("{name}: what the host has"), 0o644);
    }
    for i in 0..20 {
        text(&format!("many/f{i:02}"), "", 0o644);
    }
    for i in 0..400 {
        text(&format!("crowd/{i}"), &i.to_string(), 0o644);
    }
    for i in 0..8 {
        text(&format!("race{i}"), &"A".repeat(4096), 0o644);
    }
    for (to, name) in [("plain", "link"), ("loop", "loop"), ("gone", "dangling")] {
        symlink(to, dir.join(name)).expect("a link");
    }
    fs::set_permissions(dir.join("closed"), fs::Permissions::from_mode(0o700)).expect("its mode");
}

/// Every name below `dir` with its content.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.display().to_string();
        if path.is_symlink() {
            out.push((name, Vec::new()));
        } else if path.is_dir() {
            out.extend(contents(&path));
        } else {
            out.push((name, fs::read(&path).expect("a file")));
        }
    }
    out.sort();
    out
}

/// Host files are opened, too, where the thread that a process began with has ended.
#[test]
fn threads_over_the_hosts_files() {
    let Some(program) = compile("threads", Link::Dynamic) else { return };
    let program = [program.to_str().expect("ASCII path")];
    let limit = Duration::from_secs(30);
    let expected = run(&mut native(&program), limit);
    for rewrite in ["on", "off"] {
        let seen = run(&mut sandboxed(&["--rw", "--rewrite", rewrite], &program), limit);
        assert_eq!((seen.status, &seen.stdout), (expected.status, &expected.stdout), "rewriting {rewrite}");
    }
}

#[test]
fn below() {
    let dir = std::env::temp_dir().join(format!("drupe-below-{}", std::process::id()));
    let at = dir.to_str().expect("ASCII path");
    for link in GLIBC {
        let Some(program) = compile("below", *link) else { continue };
        let program = [program.to_str().expect("ASCII path"), at];
        let limit = Duration::from_secs(30);
        make_tree(&dir);
        let expected = run(&mut native(&program), limit);
        make_tree(&dir);
        let before = contents(&dir);
        for rewrite in ["on", "off"] {
            let got = run(&mut sandboxed(&["--rewrite", rewrite], &program), limit);
            assert_eq!((got.status, &got.stdout), (expected.status, &expected.stdout), "{link:?}: {}", got.stderr);
            assert!(contents(&dir) == before, "the host's files were changed");
        }
        // The same on a writable bind, where the host's files are the guest's.
        let bind = format!("{at}:{at}:rw");
        let got = run(&mut sandboxed(&["--bind", &bind], &program), limit);
        assert_eq!((got.status, &got.stdout), (expected.status, &expected.stdout), "{link:?}, bound: {}", got.stderr);
    }
    fs::remove_dir_all(&dir).expect("our own");
}

/// What `resetting.c` prints.
const RESET: &str = "set 0 1 1
timers 0 0, before 11 11
sleep 0
runs out 1 0, canceled 1 125 11
moved 1 1
speed 95
synchronised 0
too early 22
zone 0 60 22
too late 22 22 22 22
";

/// Natively the host's clock would be set.
#[test]
fn the_wall_clock_can_be_set_inside() {
    let Some(program) = compile("resetting", Link::Dynamic) else { return };
    let program = [program.to_str().expect("ASCII path"), "inside"];
    for rewrite in ["on", "off"] {
        let got = run(&mut sandboxed(&["--rewrite", rewrite, "--user", "0"], &program), Duration::from_secs(30));
        assert_eq!((got.status, got.stdout.as_str()), (0, RESET), "{}", got.stderr);
    }
}
