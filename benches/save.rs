//! What saving, restoring and cloning cost. Prints medians; asserts nothing of them.
//!
//! A program answers each line of its input. A restored one has got a line before it goes on, so the time until its answer is that
//! until it has run.

use drupe::{Child, Image, Sandbox, Stdio, Streams};
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
const SHELL: [&str; 3] = ["bash", "-c", "while read line; do echo $line; done"];
const SMALL: [&str; 3] = ["python3", "-c", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"];
const LARGE: [&str; 3] = [
    "python3",
    "-c",
    "import sys\ndata = [bytes([i % 251 + 1]) * 4096 for i in range(24000)]\nfor line in sys.stdin: print(line, end='', flush=True)",
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rows: Vec<_> = args.iter().filter(|a| !a.starts_with("--")).collect();
    // `cargo test` starts it, too.
    if !args.iter().any(|a| a == "--bench") || !rows.is_empty() && rows.iter().all(|row| *row != "save") {
        return;
    }
    println!("medians of {ROUNDS}, ms      save  stood still   restore  to answer     clone  image MiB");
    for (name, program) in [("bash", SHELL), ("python3", SMALL), ("python3, 100 MB", LARGE)] {
        measure(name, &program);
    }
    many();
}

/// A program that answers, and both ends of its pipes.
struct Answering {
    child: Child,
    input: std::io::PipeWriter,
    output: std::io::PipeReader,
}

impl Answering {
    fn start(sandbox: &Sandbox, program: &[&str]) -> Answering {
        let ((stdin, input), (output, stdout)) = (pipe().expect("a pipe"), pipe().expect("a pipe"));
        let mut command = sandbox.command(program[0]);
        command.args(&program[1..]).stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout));
        let child = command.stderr(Stdio::Null).spawn().expect("it runs");
        let mut it = Answering { child, input, output };
        it.ask();
        it
    }

    fn ask(&mut self) {
        self.input.write_all(b"?\n").expect("it reads");
        let mut answer = [0; 2];
        self.output.read_exact(&mut answer).expect("it answers");
    }
}

fn restored(image: &Image) -> (Sandbox, Answering, Duration) {
    let ((stdin, mut input), (output, stdout)) = (pipe().expect("a pipe"), pipe().expect("a pipe"));
    input.write_all(b"?\n").expect("there is room");
    let streams =
        Streams { stdin: OwnedFd::from(stdin).into(), stdout: OwnedFd::from(stdout).into(), stderr: Stdio::Null };
    let began = Instant::now();
    let (sandbox, child) = image.restore(&streams, false, |b| b).expect("restored");
    let took = began.elapsed();
    (sandbox, Answering { child, input, output }, took)
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all[all.len() / 2].as_secs_f64() * 1e3
}

fn measure(name: &str, program: &[&str]) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}.image", std::process::id()));
    let sandbox = Sandbox::builder().start().expect("it starts");
    let _program = Answering::start(&sandbox, program);
    let [mut save, mut stood, mut restore, mut answer, mut clone] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let began = Instant::now();
        sandbox.save_to_file(&path).expect("saved");
        save.push(began.elapsed());
        let began = Instant::now();
        let image = Image::open(&path).expect("whole");
        let opened = began.elapsed();
        stood.push(image.saving_stopped());
        let (other, mut it, took) = restored(&image);
        restore.push(opened + took);
        let mut byte = [0; 2];
        it.output.read_exact(&mut byte).expect("it answers");
        answer.push(began.elapsed());
        drop((other, it.child));
        let began = Instant::now();
        let image = sandbox.image().expect("saved");
        let (other, mut it, _) = restored(&image);
        it.output.read_exact(&mut byte).expect("it answers");
        clone.push(began.elapsed());
        drop((other, it.child));
    }
    let size = File::open(&path).and_then(|f| f.metadata()).expect("there").len() as f64 / f64::from(1 << 20);
    let [save, stood, restore, answer, clone] = [save, stood, restore, answer, clone].map(median);
    println!("{name:<20} {save:>9.2} {stood:>12.2} {restore:>9.2} {answer:>10.2} {clone:>9.2} {size:>10.1}");
    let _ = std::fs::remove_file(&path);
}

/// Many sandboxes of one image, all of which answer.
fn many() {
    const COUNT: usize = 100;
    let sandbox = Sandbox::builder().start().expect("it starts");
    let _program = Answering::start(&sandbox, &SMALL);
    let image = sandbox.image().expect("saved");
    let began = Instant::now();
    let mut all: Vec<_> = (0..COUNT).map(|_| restored(&image)).collect();
    for (_, it, _) in &mut all {
        let mut byte = [0; 2];
        it.output.read_exact(&mut byte).expect("it answers");
    }
    let took = began.elapsed();
    println!(
        "{COUNT} sandboxes of one image, all have answered: {:.1} ms, {:.2} each",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3 / COUNT as f64
    );
}
