//! The forms of images (on pipes, compressed, on top of others), what is handed in when they are restored, the rules of a
//! sandbox's life while it is saved, and images that are not what was written.

mod common;

use common::saving::{LIMIT, Place, half_read, paused, saved, streams};
use drupe::{Child, Error, Image, ImageError, Jail, Network, Sandbox, SaveOptions, Stdio, Streams};
use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Fills some MiB, and says at the end whether they are what they were: with a line of its own for each second that it has had.
const FILLED: &str = "import os, time, hashlib\n\
    data = bytearray(os.urandom(8 << 20))\nn = hashlib.sha256(data).hexdigest()\nprint('filled', flush=True)\n\
    while not os.path.exists('/tmp/go'): time.sleep(0.01)\n\
    print(hashlib.sha256(data).hexdigest() == n, flush=True)";

fn filled(place: &Place) -> (Sandbox, Child) {
    let sandbox = Sandbox::builder().tmpfs("/tmp").start().expect("it starts");
    let mut command = sandbox.command("python3");
    // An empty `/tmp` may hide where the tests run.
    command.args(["-c", FILLED]).current_dir("/").stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err"));
    let child = command.spawn().expect("it runs");
    while !place.text("out").ends_with('\n') {
        assert_eq!(place.text("err"), "");
        sleep(Duration::from_millis(20));
    }
    (sandbox, child)
}

/// Lets a restored program say whether its memory is what it was.
fn is_right(place: &Place, image: &Image, name: &str) {
    let streams = Streams { stdin: Stdio::Null, stdout: place.log(name).into(), stderr: place.log("err").into() };
    let (sandbox, mut child) = image.restore(&streams, false, |b| b).expect("restored");
    sandbox.write_file("/tmp/go", b"").expect("written");
    let status = child.wait_timeout(LIMIT).expect("it lives").expect("it ends");
    assert_eq!((place.text("err").as_str(), place.text(name).as_str(), status.code()), ("", "True\n", Some(0)));
}

#[test]
fn an_image_goes_through_pipes() {
    for compress in [false, true] {
        let place = Place::new(&format!("pipe-{compress}"));
        let (sandbox, _child) = filled(&place);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let loader = thread::spawn(move || Image::read(reader));
        sandbox.pause().expect("it pauses");
        let options = SaveOptions { compress, ..SaveOptions::default() };
        sandbox.save_to_with(writer, &options).expect("saved");
        sandbox.stop();
        let image = loader.join().expect("no panic").expect("whole");
        is_right(&place, &image, "restored");
    }
}

#[test]
fn a_compressed_image_is_smaller_and_the_same() {
    let place = Place::new("packed");
    let (sandbox, _child) = filled(&place);
    let [plain, packed] = ["plain", "packed"].map(|name| place.path(name));
    let whole = sandbox.save_to_file(&plain).expect("saved");
    let options = SaveOptions { compress: true, ..SaveOptions::default() };
    let small = sandbox.save_to_file_with(&packed, &options).expect("saved");
    assert_eq!(small, fs::metadata(&packed).expect("there").len());
    assert!(small < whole, "{small} of {whole} bytes");
    assert_eq!(fs::read_dir(&place.0).expect("readable").count(), 4, "nothing else is left");
    sandbox.stop();
    is_right(&place, &Image::open(&packed).expect("whole"), "restored");
    // As damaged as another.
    let bytes = fs::read(&packed).expect("readable");
    for at in (0..bytes.len()).step_by(bytes.len() / 50) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        let e = Image::read(&changed[..]).expect_err("it is damaged");
        assert!(matches!(e, Error::Image(_)), "byte {at}: {e}");
        let e = Image::read(&bytes[..at]).expect_err("it is cut off");
        assert!(matches!(e, Error::Image(ImageError::Truncated | ImageError::NotAnImage)), "{at} bytes: {e}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(Image::read(&longer[..]), Err(Error::Image(ImageError::Damaged(_)))));
}

#[test]
fn images_build_on_one_another() {
    let place = Place::new("chain");
    let (sandbox, _child) = filled(&place);
    let paths = [0, 1, 2].map(|i| place.path(&format!("image-{i}")));
    let whole = sandbox.save_to_file(&paths[0]).expect("saved");
    for i in 1..3 {
        sandbox.write_file(format!("/tmp/file-{i}"), vec![i as u8; 300_000]).expect("written");
        let options = SaveOptions { parent: Some(paths[i - 1].clone()), ..SaveOptions::default() };
        let bytes = sandbox.save_to_file_with(&paths[i], &options).expect("saved");
        assert!(bytes < whole / 3, "{bytes} bytes beside {whole}");
    }
    for path in &paths {
        let options = SaveOptions { parent: Some(paths[2].clone()), ..SaveOptions::default() };
        let e = sandbox.save_to_file_with(path, &options).expect_err("it builds on that").to_string();
        assert!(e.contains("cannot take the place"), "{e}");
    }
    sandbox.stop();
    is_right(&place, &Image::open(&paths[2]).expect("whole"), "restored");
    // What was restored of a chain is saved on top of it, and whole.
    let image = Image::open(&paths[2]).expect("whole");
    let (again, child) = image.restore(&streams(&place), false, |b| b).expect("restored");
    assert_eq!(again.read_file("/tmp/file-2").expect("there"), vec![2; 300_000]);
    let options = SaveOptions { parent: Some(paths[2].clone()), ..SaveOptions::default() };
    let last = place.path("image-3");
    let bytes = again.save_to_file_with(&last, &options).expect("saved");
    assert!(bytes < whole / 3, "{bytes} bytes beside {whole}");
    drop((again, child));
    is_right(&place, &Image::open(&last).expect("whole"), "again");
    let squashed = place.path("on-its-own");
    Image::open(&last).expect("whole").squash(&squashed, false).expect("written");
    // The middle one is another, and gone, and damaged.
    fs::copy(&paths[0], &paths[1]).expect("copied");
    let e = Image::open(&paths[2]).expect_err("it builds on another");
    assert!(matches!(&e, Error::Image(ImageError::Changed(path)) if path.ends_with("/image-1")), "{e}");
    fs::remove_file(&paths[1]).expect("there");
    let e = Image::open(&last).expect_err("it builds on nothing");
    assert!(e.to_string().contains("image-2, which it builds on") && e.to_string().contains("image-1"), "{e}");
    fs::write(&paths[1], &fs::read(&paths[0]).expect("readable")[..5000]).expect("writable");
    let e = Image::open(&paths[2]).expect_err("it builds on half of one");
    assert!(
        matches!(&e, Error::Image(ImageError::Parent { source, .. }) if matches!(**source, ImageError::Truncated)),
        "{e}"
    );
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    is_right(&place, &Image::open(&squashed).expect("whole"), "squashed");
}

#[test]
fn programs_that_were_started_later_are_detached_or_handed_in() {
    let place = Place::new("sessions");
    let sandbox = Sandbox::builder().tmpfs("/tmp").start().expect("it starts");
    let mut command = sandbox.command("sh");
    command.args(["-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; cat /tmp/said; exit 4"]).current_dir("/");
    let mut child =
        command.stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err")).spawn().expect("it runs");
    let mut session = sandbox.command("sh");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    session.args(["-c", "read line; echo \"<$line>\"; echo \"<$line>\" >/tmp/said; touch /tmp/go; sleep 100"]);
    session.current_dir("/");
    session.stdin(std::os::fd::OwnedFd::from(reader)).stdout(place.log("session")).stderr(Stdio::Null);
    let session = session.spawn().expect("it runs");
    sleep(Duration::from_millis(200));
    sandbox.pause().expect("it pauses");
    let e = sandbox.save_to(Vec::new()).expect_err("a session").to_string();
    assert!(e.contains("started from outside"), "{e}");
    let mut bytes = Vec::new();
    let options = SaveOptions { detach: true, ..SaveOptions::default() };
    sandbox.save_to_with(&mut bytes, &options).expect("saved");
    // It is as before to itself.
    sandbox.unpause().expect("it goes on");
    writeln!(&writer, "self").expect("it reads");
    assert_eq!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").code(), Some(4));
    assert_eq!((place.text("out").as_str(), place.text("session").as_str()), ("<self>\n", "<self>\n"));
    drop((sandbox, session));
    let mut image = Image::read(&bytes[..]).expect("whole");
    let run = |image: &Image, name: &str| {
        let streams = Streams { stdin: Stdio::Null, stdout: place.log(name).into(), stderr: place.log("err").into() };
        let (_sandbox, mut child) = image.restore(&streams, false, |b| b).expect("restored");
        assert_eq!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").code(), Some(4));
        place.text(name)
    };
    assert_eq!(run(&image, "detached"), "<>\n");
    assert!(image.names().contains(&"1.stdin".to_string()), "{:?}", image.names());
    let e = image.hand_in_file("2.stdin", "/dev/null").expect_err("there is none").to_string();
    assert!(e.contains("nothing named \"2.stdin\"") && e.contains("1.stdin"), "{e}");
    fs::write(place.path("input"), "given\n").expect("writable");
    image.hand_in_file("1.stdin", place.path("input")).expect("a name");
    image.hand_in("1.stdout", place.log("output")).expect("a name");
    assert_eq!(run(&image, "handed-in"), "<given>\n");
    assert_eq!(place.text("output"), "<given>\n");
}

#[test]
fn a_file_is_handed_in_by_its_name() {
    let place = Place::new("named");
    let (data, other) = (place.path("data"), place.path("other"));
    fs::write(&data, "0123456789").expect("writable");
    fs::write(&other, "abcdefghij").expect("writable");
    let bytes = half_read(&place);
    fs::remove_file(&data).expect("there");
    let mut image = Image::read(&bytes[..]).expect("whole");
    let name = data.to_str().expect("text");
    image.hand_in_file(name, place.path("nothing")).expect("a name");
    let e = image.restore(&streams(&place), false, |b| b).expect_err("it is not there");
    assert!(matches!(&e, Error::Image(ImageError::Missing { path, .. }) if path.ends_with("/nothing")), "{e}");
    image.hand_in_file(name, &place.0).expect("a name");
    let e = image.restore(&streams(&place), false, |b| b).expect_err("a directory").to_string();
    assert!(e.contains("a file of another kind"), "{e}");
    image.hand_in_file(name, &other).expect("a name");
    let (_sandbox, mut child) = image.restore(&streams(&place), false, |b| b).expect("restored");
    assert!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").success());
    assert_eq!(place.text("out"), "0123,efghij\n");
}

/// A server on the host's network that counts what it is told.
const SERVER: &str = r#"
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
while True:
    c, _ = s.accept()
    try:
        while d := c.recv(100): c.sendall(d.upper())
        print("closed", flush=True)
    except ConnectionResetError:
        print("reset", flush=True)
        try: c.sendall(b"x")
        except BrokenPipeError: print("broken pipe", flush=True)
"#;

#[test]
fn a_server_on_the_hosts_network_listens_again_and_its_clients_are_reset() {
    let place = Place::new("net");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let sandbox = Sandbox::builder().network(Network::Host).start().expect("it starts");
    let mut command = sandbox.command("python3");
    command
        .args(["-c", SERVER, &port.to_string()])
        .stdin(Stdio::Null)
        .stdout(place.log("out"))
        .stderr(place.log("err"));
    let child = command.spawn().expect("it runs");
    while !place.text("out").ends_with('\n') {
        assert_eq!(place.text("err"), "");
        sleep(Duration::from_millis(20));
    }
    let ask = |client: &mut TcpStream| {
        let mut answer = [0; 3];
        client.write_all(b"abc").and_then(|()| client.read_exact(&mut answer)).expect("it answers");
        assert_eq!(&answer, b"ABC");
    };
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    ask(&mut client);
    sandbox.pause().expect("it pauses");
    let mut bytes = Vec::new();
    sandbox.save_to(&mut bytes).expect("saved");
    let image = Image::read(&bytes[..]).expect("whole");
    // Both cannot listen.
    let e = image.restore(&streams(&place), false, |b| b).expect_err("the port is in use").to_string();
    assert!(e.contains(&format!("127.0.0.1:{port}")) && e.lines().count() == 1, "{e}");
    drop((sandbox, child));
    let (_restored, _child) = image.restore(&streams(&place), false, |b| b).expect("restored");
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    ask(&mut client);
    assert_eq!((place.text("out").as_str(), place.text("err").as_str()), ("up\nreset\nbroken pipe\n", ""));
}

#[test]
fn a_published_port_is_listened_on_again() {
    let place = Place::new("published");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let publication = format!("{port}:8080").parse().expect("a publication");
    let mut sandbox = Sandbox::builder().publish(publication).start().expect("it starts");
    let mut command = sandbox.command("python3");
    command.args(["-c", SERVER, "8080"]).stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err"));
    let mut child = command.spawn().expect("it runs");
    while !place.text("out").ends_with('\n') {
        assert_eq!(place.text("err"), "");
        sleep(Duration::from_millis(20));
    }
    // The image of a restored one is as good.
    for round in 0..3 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        let mut answer = [0; 3];
        client.write_all(b"abc").and_then(|()| client.read_exact(&mut answer)).expect("it answers");
        assert_eq!(&answer, b"ABC", "round {round}");
        let bytes = saved(sandbox);
        (sandbox, child) =
            Image::read(&bytes[..]).expect("whole").restore(&streams(&place), false, |b| b).expect("restored");
    }
    drop((sandbox, child));
    assert_eq!(place.text("err"), "");
}

/// Does something at the first piece that is written.
struct Meanwhile<F>(Option<F>, Vec<u8>);

impl<F: FnOnce()> Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(job) = self.0.take() {
            job();
        }
        self.1.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_asked_during_a_save_is_done_after_it() {
    let sandbox = Arc::new(paused(Sandbox::builder()));
    let (other, done) = (sandbox.clone(), Arc::new(AtomicBool::new(false)));
    let told = done.clone();
    let mut asker = None;
    let mut out = Meanwhile(
        Some(|| {
            asker = Some(thread::spawn(move || {
                let killed = other.kill_all(libc::SIGKILL);
                told.store(true, SeqCst);
                killed
            }));
            sleep(Duration::from_millis(200));
            assert!(!done.load(SeqCst), "it stands still");
        }),
        Vec::new(),
    );
    sandbox.save_to(&mut out).expect("saved");
    let bytes = out.1;
    asker.expect("begun").join().expect("no panic").expect("it lives");
    assert_eq!(sandbox.save_error(), None);
    // Its first program is gone at once, though it is paused; the image's is not.
    assert!(sandbox.wait_timeout(LIMIT).expect("it lives").is_some());
    let image = Image::read(&bytes[..]).expect("whole");
    let null = Streams { stdin: Stdio::Null, stdout: Stdio::Null, stderr: Stdio::Null };
    let (restored, mut child) = image.restore(&null, false, |b| b).expect("restored");
    assert_eq!(child.wait_timeout(Duration::from_millis(100)).expect("it lives"), None);
    drop(restored);
}

#[test]
fn a_save_that_the_sandbox_does_not_survive_is_kept() {
    let sandbox = Arc::new(paused(Sandbox::builder()));
    let other = sandbox.clone();
    let stop = Meanwhile(Some(move || other.stop()), Vec::new());
    let e = sandbox.save_to(stop).expect_err("it ended");
    assert_eq!(sandbox.save_error(), Some(e.to_string().as_str()));
    // Others do not take its place.
    assert!(matches!(sandbox.save_to(Vec::new()), Err(Error::Ended(_))));
    assert!(matches!(sandbox.pause(), Err(Error::Ended(_))));
    assert_eq!(sandbox.save_error(), Some(e.to_string().as_str()));

    // The host ends it.
    let sandbox = paused(Sandbox::builder());
    let pid = sandbox.supervisor() as i32;
    // SAFETY: a child of ours.
    let kill = Meanwhile(Some(move || assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0)), Vec::new());
    let e = sandbox.save_to(kill).expect_err("it ended");
    assert!(sandbox.save_error().is_some(), "{e}");

    // A stream that panics: it goes on.
    let sandbox = paused(Sandbox::builder());
    let bad = Meanwhile(Some(|| panic!("on purpose")), Vec::new());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sandbox.save_to(bad)));
    assert!(caught.is_err());
    sandbox.unpause().expect("it goes on");
    assert_eq!(sandbox.command("echo").arg("on").output().expect("it runs").stdout, b"on\n");
    assert_eq!(sandbox.save_error(), None);
}

#[test]
fn states_in_which_nothing_is_saved() {
    let sandbox = Sandbox::builder().start().expect("it starts");
    sandbox.pause().expect("it pauses");
    let e = sandbox.save_to(Vec::new()).expect_err("nothing runs").to_string();
    assert!(e.contains("no program was started"), "{e}");
    sandbox.unpause().expect("once");
    assert!(matches!(sandbox.unpause(), Err(Error::Refused { errno: libc::EINVAL, .. })));
    let sandbox = paused(Sandbox::builder().jail(Jail::Strict));
    // Any number of times from one pause, by several threads at once.
    let all: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| sandbox.save_to(std::io::sink()))).collect();
        threads.into_iter().map(|t| t.join().expect("no panic").expect("saved")).collect()
    });
    assert!(all.iter().all(|bytes| *bytes > 0));
    assert!(sandbox.stats().expect("it lives").paused);
}

fn one_line(e: &Error, at: impl std::fmt::Display) {
    assert!(matches!(e, Error::Image(_)), "{at}: {e}");
    assert_eq!(e.to_string().lines().count(), 1, "{at}: {e}");
}

#[test]
fn a_damaged_image_is_an_error_of_one_line() {
    let place = Place::new("damaged");
    let sandbox = paused(Sandbox::builder());
    let mut image = Vec::new();
    sandbox.save_to(&mut image).expect("saved");
    sandbox.stop();
    // Headers begin 64 bytes before a page.
    let headers: Vec<usize> = (1..image.len() / 4096).map(|page| page * 4096 - 64).collect();
    let headers: Vec<usize> = headers.into_iter().filter(|&at| image[at..].starts_with(b"drupesv1")).collect();
    assert!(headers.len() >= 7, "{headers:?}");
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let mut places: Vec<usize> = headers.iter().flat_map(|&at| at..at + 64).collect();
    places.extend((0..1000).map(|_| random() % image.len()));
    let path = place.path("image");
    fs::write(&path, &image).expect("writable");
    let file = File::options().read(true).write(true).open(&path).expect("there");
    for at in places {
        let changed = image[at] ^ (1 << (random() % 8));
        file.write_all_at(&[changed], at as u64).expect("writable");
        one_line(&Image::open(&path).expect_err("it is damaged"), at);
        file.write_all_at(&[image[at]], at as u64).expect("writable");
    }
    Image::open(&path).expect("it is whole again");
    for len in (0..image.len()).step_by(4096).rev() {
        file.set_len(len as u64).expect("writable");
        let e = Image::open(&path).expect_err("it is cut off");
        assert!(matches!(e, Error::Image(ImageError::Truncated | ImageError::NotAnImage)), "{len} bytes: {e}");
        one_line(&e, len);
    }
    assert!(matches!(Image::read(&b"#!/bin/sh\n"[..]), Err(Error::Image(_))));
    assert!(matches!(Image::open(&place.0), Err(Error::Image(ImageError::NotAnImage))));
}

/// What an image holds is not compared with its sums again where it has a mark; whoever changes it takes that away.
#[test]
fn a_mark_does_not_hide_a_change() {
    let place = Place::new("marks");
    let sandbox = paused(Sandbox::builder());
    let path = place.path("image");
    sandbox.save_to_file(&path).expect("saved");
    sandbox.stop();
    Image::open(&path).expect("whole");
    let times = |path: &Path| {
        let meta = fs::metadata(path).expect("there");
        FileTimes::new().set_modified(meta.modified().expect("told")).set_accessed(meta.accessed().expect("told"))
    };
    let pages = fs::read(&path).expect("readable");
    // The last byte of the first run of pages.
    let header = (1..).map(|page| page * 4096 - 64).find(|&at| pages[at + 8] == 4).expect("pages");
    let damage = |path: &Path| {
        let kept = times(path);
        let file = File::options().write(true).open(path).expect("there");
        file.write_all_at(&[!pages[header + 64]], header as u64 + 64).expect("writable");
        file.set_times(kept).expect("settable");
    };
    // The mark says when the file was changed last, give or take some milliseconds.
    sleep(Duration::from_millis(20));
    let copy = place.path("copy");
    let cp = std::process::Command::new("cp").args(["--preserve=all"]).args([&path, &copy]).status();
    assert!(cp.expect("it runs").success());
    damage(&copy);
    one_line(&Image::open(&copy).expect_err("it was changed"), "a copy");
    damage(&path);
    one_line(&Image::open(&path).expect_err("it was changed"), "in place");
    // A name more, or less, is no damage.
    let whole = place.path("whole");
    fs::write(&whole, &pages).expect("writable");
    Image::open(&whole).expect("whole");
    fs::rename(&whole, place.path("renamed")).expect("renamed");
    let began = Instant::now();
    Image::open(place.path("renamed")).expect("whole");
    assert!(began.elapsed() < Duration::from_secs(30));
}
