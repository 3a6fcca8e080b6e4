//! A sandbox starts and ends in a program of any size as in a small one.

mod common;

use drupe::Sandbox;
use std::time::{Duration, Instant};

/// What starting and dropping a sandbox takes: the shortest and the median of each.
fn times(rounds: usize) -> [[Duration; 2]; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let begin = Instant::now();
        let sandbox = Sandbox::builder().start().expect("this host runs drupe");
        all[0].push(begin.elapsed());
        let begin = Instant::now();
        drop(sandbox);
        all[1].push(begin.elapsed());
    }
    all.map(|mut t| {
        t.sort();
        [t[0], t[t.len() / 2]]
    })
}

fn memory(mib: usize) -> Vec<u8> {
    let mut memory = vec![0u8; mib << 20];
    memory.iter_mut().step_by(4096).for_each(|b| *b = 1);
    memory
}

/// Threads that do nothing until the returned senders are dropped.
fn threads(count: usize) -> Vec<std::sync::mpsc::Sender<()>> {
    let thread = |_| {
        let (keep, wait) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || wait.recv());
        keep
    };
    (0..count).map(thread).collect()
}

#[test]
fn a_start_does_not_depend_on_the_holder() {
    let small = times(15);
    let (memory, threads) = (memory(256), threads(50));
    let large = times(15);
    drop((memory, threads));
    // A fork would take 5 ms more for each. The shortest: others run on this machine, too.
    let slack = Duration::from_millis(2);
    assert!(
        large.iter().zip(&small).all(|(l, s)| l[0] <= s[0] * 3 / 2 + slack),
        "start and drop take {large:?} in a large program and {small:?} in a small one"
    );
    // It is whole: it runs programs, and shows what it was given.
    let sandbox = Sandbox::builder().start().expect("this host runs drupe");
    let out = sandbox.command("sh").args(["-c", "echo $0; exit 3"]).output().expect("it runs");
    assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(3), &b"sh\n"[..]));
}

/// By hand: `cargo test --release --test starting -- --ignored --nocapture`.
#[test]
#[ignore = "takes a gigabyte, and prints figures"]
fn figures() {
    println!("start and drop in a small program: {:?}", times(50));
    let memory = memory(1024);
    println!("start and drop in one of 1 GiB: {:?}", times(50));
    let threads = threads(100);
    println!("with 100 threads: {:?}", times(50));
    drop((memory, threads));
}
