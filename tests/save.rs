//! Saving a sandbox in the middle and restoring it: the result is that of an uninterrupted run.

mod common;

use common::saving::{LIMIT, Place, half_read, paused, saved, streams};
use drupe::{Error, Image, ImageError, Sandbox, SandboxBuilder, SaveError, Stdio, Streams};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

/// Starts a program, saves it after `delay`, ends it, restores it, and so on for each delay; its exit status and what it
/// has printed in all its lives.
fn interrupted(name: &str, settings: SandboxBuilder, program: &[&str], delays: &[u64]) -> (i32, String) {
    let place = Place::new(name);
    let given = streams(&place);
    let mut sandbox = settings.start().expect("it starts");
    let mut command = sandbox.command(program[0]);
    // An empty `/tmp` may hide where the tests run.
    command.args(&program[1..]).current_dir("/");
    command.stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err"));
    let mut child = command.spawn().expect("it runs");
    for (round, delay) in delays.iter().enumerate() {
        sleep(Duration::from_millis(*delay));
        sandbox.pause().expect("it pauses");
        // The sandbox's memory is the last image's: that may not be written to.
        let path = place.path(&format!("image-{round}"));
        let written = sandbox.save_to(File::create(&path).expect("writable"));
        let bytes = written.unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
        assert_eq!(bytes, fs::metadata(&path).expect("there").len(), "the length of the image");
        sandbox.stop();
        let image = Image::open(&path).unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
        (sandbox, child) = image.restore(&given, false, |b| b).unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
    }
    let status = child
        .wait_timeout(LIMIT)
        .expect("the sandbox lives")
        .unwrap_or_else(|| panic!("{name} hangs:\n{}\n{}", sandbox.dump().unwrap_or_default(), place.text("err")));
    assert_eq!(place.text("err"), "", "{name}");
    (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), place.text("out"))
}

const PIPELINES: &str =
    "i=0; while [ $i -lt 12 ]; do echo $i $(echo x | cat | tr x y); sleep 0.05; i=$((i+1)); done; exit 7";

fn pipelines() -> String {
    (0..12).map(|i| format!("{i} y\n")).collect()
}

#[test]
fn a_shell_with_pipelines() {
    let told = interrupted("shell", Sandbox::builder(), &["bash", "-c", PIPELINES], &[150, 120, 10]);
    assert_eq!(told, (7, pipelines()));
}

#[test]
fn without_rewriting_and_without_a_jail() {
    let told = interrupted("traps", Sandbox::builder().rewrite(false), &["bash", "-c", PIPELINES], &[200, 100]);
    assert_eq!(told, (7, pipelines()));
    let told = interrupted("open", Sandbox::builder().jail(drupe::Jail::Off), &["bash", "-c", PIPELINES], &[200, 100]);
    assert_eq!(told, (7, pipelines()));
}

/// Threads, a child behind pipes, a connection over loopback, an interval timer and an epoll set, all in use.
const PYTHON: &str = r#"
import threading, subprocess, time, os, socket, signal, sys, hashlib, select, tempfile
res = []
def worker(i):
    h = hashlib.sha256()
    for k in range(20):
        h.update(b"%d %d" % (i, k)); time.sleep(0.04)
    res.append((i, h.hexdigest()[:8]))
ts = [threading.Thread(target=worker, args=(i,)) for i in range(6)]
[t.start() for t in ts]
p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
q = subprocess.Popen(["sh", "-c", "sleep 1; echo late"], stdout=subprocess.PIPE)
srv = socket.create_server(("127.0.0.1", 0)); port = srv.getsockname()[1]
def serve():
    c, _ = srv.accept()
    while d := c.recv(100): c.sendall(d.upper())
    c.close()
st = threading.Thread(target=serve); st.start()
cl = socket.create_connection(("127.0.0.1", port))
alarms = [0]
def onalarm(s, f): alarms[0] += 1
signal.signal(signal.SIGALRM, onalarm)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
ep = select.epoll(); r, w = os.pipe(); ep.register(r, select.EPOLLIN)
f = tempfile.TemporaryFile(); mono = time.monotonic()
out = []
for i in range(12):
    p.stdin.write(b"line %d\n" % i); p.stdin.flush(); out.append(p.stdout.readline())
    cl.sendall(b"msg%d" % i); out.append(cl.recv(100))
    os.write(w, b"x"); out.append(len(ep.poll(1))); os.read(r, 1)
    f.write(b"%d" % i); f.flush()
    time.sleep(0.1)
mono = time.monotonic() - mono
cl.close(); st.join(); [t.join() for t in ts]; p.stdin.close(); p.wait()
f.seek(0)
print(out); print(sorted(res)); print(q.stdout.read(), q.wait(), p.returncode, f.read())
print(1.1 < mono < 20, 3 < alarms[0])
signal.setitimer(signal.ITIMER_REAL, 0)
sys.exit(3)
"#;

#[test]
fn python_with_threads_pipes_sockets_and_timers() {
    let whole = Sandbox::builder().start().expect("it starts");
    let whole = whole.command("python3").args(["-c", PYTHON]).output().expect("it runs");
    let want = (3, String::from_utf8(whole.stdout).expect("text"));
    assert_eq!(whole.status.code(), Some(3));
    let told = interrupted("python", Sandbox::builder(), &["python3", "-c", PYTHON], &[400, 200, 150]);
    assert_eq!(told, want);
}

/// Locks that others wait for, a signal that is pending, and a file in memory whose last page is half of one and was never written to.
const HELD: &str = r#"
import fcntl, mmap, os, signal, sys, time
flock, lockf = [os.open("/tmp/" + n, os.O_CREAT | os.O_RDWR) for n in ("a", "b")]
fcntl.flock(flock, fcntl.LOCK_EX)
fcntl.lockf(lockf, fcntl.LOCK_EX, 20, 10)
signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)
file = os.memfd_create("file"); os.ftruncate(file, 5000)
memory = mmap.mmap(file, 5000); memory[7] = 9
def child(status, f):
    pid = os.fork()
    if pid == 0:
        f(); os._exit(status)
    return pid
def by_flock(): fcntl.flock(os.open("/tmp/a", os.O_RDWR), fcntl.LOCK_EX)
def by_lockf(): fcntl.lockf(os.open("/tmp/b", os.O_RDWR), fcntl.LOCK_EX, 100)
waiting = [child(3, by_flock), child(4, by_lockf)]
time.sleep(1.2)
print([os.waitpid(p, os.WNOHANG)[0] for p in waiting])
fcntl.flock(flock, fcntl.LOCK_UN)
fcntl.lockf(lockf, fcntl.LOCK_UN, 20, 10)
print([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in waiting])
print(memory[7], memory[4999], os.fstat(file).st_size)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
sys.exit(6)
"#;

#[test]
fn locks_that_others_wait_for() {
    let settings = Sandbox::builder().tmpfs("/tmp");
    let told = interrupted("locks", settings, &["python3", "-c", HELD], &[400, 200, 150]);
    assert_eq!(told, (6, "[0, 0]\n[3, 4]\n9 0 5000\nsignal\n".into()));
}

#[test]
fn thirty_rounds() {
    let script = "import time,hashlib\nh=hashlib.sha256()\nfor i in range(30000):\n  h.update(b'%d'%i)\n  if i%100==0: time.sleep(0.002)\nprint(h.hexdigest())";
    let rounds: Vec<u64> = (0..30).map(|i| 1 + i * 7 % 13).collect();
    let whole = Sandbox::builder().start().expect("it starts");
    let whole = whole.command("python3").args(["-c", script]).output().expect("it runs");
    let told = interrupted("rounds", Sandbox::builder(), &["python3", "-c", script], &rounds);
    assert_eq!(told, (0, String::from_utf8(whole.stdout).expect("text")));
}

/// Each round a process that shares the memory until its exec, by a clean process that somebody has to make.
#[test]
fn programs_are_started_before_and_after() {
    let script = "import subprocess, time\nfor i in range(40):\n  print(subprocess.check_output(['echo', str(i)]).decode().strip(), flush=True)\n  time.sleep(0.02)";
    let told = interrupted("spawns", Sandbox::builder(), &["python3", "-c", script], &[400, 150, 100]);
    assert_eq!(told, (0, (0..40).map(|i| format!("{i}\n")).collect()));
}

/// What a restored program has of the image is private memory of no file: pages that it gives back are zeros, it grows and
/// moves, and children have copies.
const MEMORY: &str = r#"
import ctypes, mmap, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
P = 4096
def fresh(pages):
    at = libc.mmap(None, pages * P, 3, 0x22, -1, 0)
    ctypes.memset(at, 7, pages * P)
    return at
def byte(at): return ctypes.string_at(at, 1)[0]
given, freed, wiped, grown, holed = [fresh(256) for _ in range(5)]
ctypes.memset(holed + 100 * P, 0, 50 * P)
print("ready", flush=True)
while not os.path.exists("/tmp/go"): time.sleep(0.01)
def told(name, *values): print(name, *values, flush=True)
told("there", *[byte(at + 200 * P) for at in (given, freed, wiped, grown, holed)], byte(holed + 120 * P))
told("given", libc.madvise(given + 10 * P, 100 * P, mmap.MADV_DONTNEED), byte(given + 9 * P), byte(given + 10 * P), byte(given + 110 * P))
ctypes.memset(given + 20 * P, 5, 10 * P)
told("again", libc.madvise(given, 30 * P, mmap.MADV_DONTNEED), byte(given + 25 * P))
told("freed", libc.madvise(freed, 256 * P, mmap.MADV_FREE), byte(freed) in (0, 7))
moved = libc.mremap(grown, 256 * P, 4096 * P, 1)
told("grown", byte(moved), byte(moved + 255 * P), byte(moved + 256 * P))
told("shrunk", libc.mremap(moved, 4096 * P, 100 * P, 0) == moved, byte(moved + 99 * P))
told("wiped", libc.madvise(wiped, 256 * P, mmap.MADV_WIPEONFORK if hasattr(mmap, "MADV_WIPEONFORK") else 18), byte(wiped + 255 * P))
told("no advice", libc.madvise(wiped, 256 * P, 5), ctypes.get_errno() == 22)
r, w = os.pipe()
if os.fork() == 0:
    ctypes.memset(moved, 9, P)
    os.write(w, bytes([byte(moved), byte(moved + P), byte(wiped), byte(given + 200 * P)]))
    os._exit(0)
os.wait()
told("child", *os.read(r, 4))
told("parent", byte(moved), byte(wiped), byte(given + 200 * P))
"#;

#[test]
fn memory_of_an_image_is_memory_of_no_file() {
    let want = "there 7 7 7 7 7 0\ngiven 0 7 0 7\nagain 0 0\nfreed 0 True\ngrown 7 7 0\nshrunk True 7\nwiped 0 7\n\
        no advice -1 True\nchild 9 7 0 7\nparent 7 7 7\n";
    for rounds in 0..3 {
        let place = Place::new(&format!("memory-{rounds}"));
        let mut sandbox = Sandbox::builder().tmpfs("/tmp").start().expect("it starts");
        let mut command = sandbox.command("python3");
        command
            .args(["-c", MEMORY])
            .current_dir("/")
            .stdin(Stdio::Null)
            .stdout(place.log("out"))
            .stderr(place.log("err"));
        let mut child = command.spawn().expect("it runs");
        while !place.text("out").ends_with('\n') {
            assert_eq!(place.text("err"), "");
            sleep(Duration::from_millis(20));
        }
        for _ in 0..rounds {
            let path = place.path("image");
            sandbox.save_to_file(&path).expect("saved");
            sandbox.stop();
            let image = Image::open(&path).expect("whole");
            (sandbox, child) = image.restore(&streams(&place), false, |b| b).expect("restored");
        }
        sandbox.write_file("/tmp/go", b"").expect("written");
        let status = child.wait_timeout(LIMIT).expect("the sandbox lives").expect("it ends");
        assert_eq!((place.text("err").as_str(), status.code()), ("", Some(0)));
        assert_eq!(place.text("out"), format!("ready\n{want}"), "after {rounds} images");
    }
}

/// Nothing is left of a life in the next one's table of descriptors.
#[test]
fn descriptors_do_not_pile_up() {
    let place = Place::new("lives");
    let mut sandbox = Sandbox::builder().bind("/etc", "/mnt", true).start().expect("it starts");
    let mut command = sandbox.command("python3");
    command.args(["-c", "import time\nprint('ready', flush=True)\ntime.sleep(100)"]);
    let _first = command.stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err")).spawn();
    // Until then it opens files, and with them the host's handles become more.
    while !place.text("out").ends_with('\n') {
        sleep(Duration::from_millis(20));
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let image = saved(sandbox);
        (sandbox, _) =
            Image::read(&image[..]).expect("whole").restore(&streams(&place), false, |b| b).expect("restored");
        seen.push(fs::read_dir(format!("/proc/{}/fd", sandbox.supervisor())).expect("it lives").count());
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
}

/// The image is of one instant, though the program goes on while it is written.
#[test]
fn an_image_of_a_program_that_goes_on_is_of_one_instant() {
    let script = "import time\nbig = bytearray(64 << 20)\nn = 0\nlimit = time.monotonic() + 4\n\
        while time.monotonic() < limit:\n  n = (n + 1) % 256\n  big[:] = bytes([n]) * len(big)\n  print(n, flush=True)\n\
        print(big.count(n) == len(big), flush=True)";
    let place = Place::new("instant");
    let sandbox = Sandbox::builder().start().expect("it starts");
    let mut command = sandbox.command("python3");
    command.args(["-c", script]).stdin(Stdio::Null).stdout(place.log("first")).stderr(place.log("err"));
    let mut first = command.spawn().expect("it runs");
    while place.text("first").lines().count() < 3 {
        sleep(Duration::from_millis(20));
    }
    let image = sandbox.image().expect("saved");
    let clones = image.restore_many(3, |i, builder| {
        let name = format!("clone-{i}");
        let streams = Streams { stdin: Stdio::Null, stdout: place.log(&name).into(), stderr: place.log("err").into() };
        (streams, builder)
    });
    for (i, (_sandbox, mut child)) in clones.expect("restored").into_iter().enumerate() {
        assert_eq!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").code(), Some(0));
        assert_eq!(place.text(&format!("clone-{i}")).lines().last(), Some("True"), "{}", place.text("err"));
    }
    assert_eq!(first.wait_timeout(LIMIT).expect("it lives").expect("it ends").code(), Some(0));
    assert_eq!(place.text("first").lines().last(), Some("True"));
    // The copies that the image was written from are gone.
    let stats = sandbox.stats().expect("it lives");
    assert!(stats.slots < 8, "{} slots", stats.slots);
}

#[test]
fn only_what_is_paused_is_saved_and_it_goes_on() {
    let sandbox = paused(Sandbox::builder());
    sandbox.unpause().expect("it goes on");
    assert!(matches!(sandbox.save_to(Vec::new()), Err(Error::Save(SaveError::NotPaused))));
    sandbox.pause().expect("it pauses");
    sandbox.pause().expect("twice");
    let mut image = Vec::new();
    sandbox.save_to(&mut image).expect("saved");
    sandbox.unpause().expect("once");
    sandbox.unpause().expect("twice");
    assert_eq!(sandbox.command("echo").arg("on").output().expect("it runs").stdout, b"on\n");
    // It was paused twice, and is so once now.
    let streams = Streams { stdin: Stdio::Null, stdout: Stdio::Null, stderr: Stdio::Null };
    let (restored, child) = Image::read(&image[..]).expect("whole").restore(&streams, false, |b| b).expect("restored");
    assert!(restored.stats().expect("it lives").paused);
    restored.unpause().expect("once more");
    assert_eq!(restored.command("echo").arg("on").output().expect("it runs").stdout, b"on\n");
    drop((restored, child));
}

/// Takes so many bytes, and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let n = bytes.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_saved_is_named_and_goes_on() {
    let sandbox = paused(Sandbox::builder());
    for room in [0, 100, 5000, 300_000] {
        let e = sandbox.save_to(Full(room)).expect_err("there is no room");
        assert!(matches!(e, Error::Save(SaveError::Write(_))), "{e}");
    }
    sandbox.unpause().expect("it goes on");
    let mut session = sandbox.command("sleep");
    let mut session = session.arg("50").stdout(File::create("/dev/null").expect("there")).spawn().expect("it runs");
    sleep(Duration::from_millis(100));
    sandbox.pause().expect("it pauses");
    let e = sandbox.save_to(Vec::new()).expect_err("a session").to_string();
    assert!(e.contains("started from outside"), "{e}");
    sandbox.unpause().expect("it goes on");
    session.kill().expect("it can be ended");
}

#[test]
fn a_changed_or_missing_file_is_named() {
    let place = Place::new("changed");
    let file = place.path("data");
    fs::write(&file, "0123456789").expect("writable");
    let image = half_read(&place);
    let given = streams(&place);
    let image = Image::read(&image[..]).expect("whole");
    let (restored, mut child) = image.restore(&given, false, |b| b).expect("restored");
    assert!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").success());
    assert_eq!(place.text("out"), "0123,456789\n");
    drop(restored);
    File::options().write(true).open(&file).expect("there").write_all_at(b"x", 9).expect("writable");
    let e = image.restore(&given, false, |b| b).expect_err("it was changed");
    assert!(matches!(&e, Error::Image(ImageError::Changed(path)) if path.ends_with("/data")), "{e}");
    let (restored, mut child) = image.restore(&given, true, |b| b).expect("restored");
    assert!(child.wait_timeout(LIMIT).expect("it lives").expect("it ends").success());
    assert_eq!(place.text("out"), "0123,456789\n0123,45678x\n");
    drop(restored);
    fs::remove_file(&file).expect("there");
    let e = image.restore(&given, false, |b| b).expect_err("it is gone");
    assert!(matches!(&e, Error::Image(ImageError::Missing { path, .. }) if path.ends_with("/data")), "{e}");
}
