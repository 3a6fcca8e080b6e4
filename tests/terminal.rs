//! The launcher on a terminal: what a person at the keyboard expects.

mod common;

use common::DRUPE;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A program on a terminal of its own, and the keyboard and screen of that.
struct Terminal {
    child: Child,
    master: File,
    output: Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    fn run(program: &[&str]) -> Terminal {
        Terminal::launch(Command::new(DRUPE).args(["run", "--"]).args(program))
    }

    fn launch(command: &mut Command) -> Terminal {
        let (mut master, mut slave) = (-1, -1);
        let mut size = libc::winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: writes two descriptors, which are ours from then on, and reads a size.
        let (master, slave) = unsafe {
            use std::ptr::null_mut;
            assert_eq!(libc::openpty(&raw mut master, &raw mut slave, null_mut(), null_mut(), &raw mut size), 0);
            libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let copy = || slave.try_clone().expect("a descriptor");
        command.stdin(copy()).stdout(copy()).stderr(copy()).env("PS1", "$ ");
        common::with_default_signals(command);
        // SAFETY: two host calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let child = command.spawn().expect("it runs");
        let mut reader = master.try_clone().expect("a descriptor");
        let (screen, output) = channel();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buf) {
                if screen.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, master, output, screen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("a keyboard");
    }

    /// Presses a key again and again: whoever it is meant for may not have the terminal yet.
    fn press_until(&mut self, key: &str, text: &str) {
        for _ in 0..30 {
            self.press(key);
            if self.shows(text, Duration::from_millis(500)) {
                return;
            }
        }
        panic!("{text:?} does not come: {:?}", self.screen);
    }

    fn expect(&mut self, text: &str) {
        assert!(self.shows(text, Duration::from_secs(15)), "{text:?} does not come: {:?}", self.screen);
    }

    /// Waits until the screen shows `text`, and takes it away with all before it.
    fn shows(&mut self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.screen.find(text) {
                self.screen.drain(..at + text.len());
                return true;
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        use std::os::fd::AsRawFd;
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: reads one record.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
    }

    fn status(&mut self) -> Option<i32> {
        self.child.wait().expect("ours").code()
    }
}

#[test]
fn a_terminal_has_its_name_and_size() {
    let mut t = Terminal::run(&[
        "sh",
        "-c",
        "echo name $(tty); stty size; ls /dev/pts; echo there > $(tty); ps -o tty= -p $$; read x",
    ]);
    t.expect("name /dev/pts/");
    t.expect("33 99");
    t.expect("there");
    t.expect("pts/");
    t.press("\n");
    assert_eq!(t.status(), Some(0));
}

#[test]
fn keys_make_signals() {
    let mut t = Terminal::run(&["sh", "-c", "echo ready; exec sleep 60"]);
    t.expect("ready");
    t.press("\x03");
    assert_eq!(t.status(), Some(130));
    let mut t =
        Terminal::run(&["sh", "-c", "trap 'echo got INT; exit 4' INT; echo ready; while :; do sleep 0.05; done"]);
    t.expect("ready");
    t.press("\x03");
    t.expect("got INT");
    assert_eq!(t.status(), Some(4));
}

/// Runs a job that says "on" in the foreground of a shell, stops it, continues it and interrupts it; its line ends in `end`.
fn stop_and_continue(t: &mut Terminal, job: &str, end: &str) {
    t.press(&format!("{job}\n"));
    t.expect("on\r\n");
    t.press_until("\x1a", "Stopped");
    t.expect("$ ");
    t.press("fg\n");
    t.expect(&format!("{end}\r\n"));
    t.press_until("\x03", "$ ");
    t.press("echo st=$?\n");
    t.expect("st=130");
}

#[test]
fn a_shell_controls_its_jobs() {
    if !common::has("bash") {
        return;
    }
    let mut t = Terminal::run(&["bash", "--norc", "--noediting", "-i"]);
    t.expect("$ ");
    stop_and_continue(&mut t, "sh -c 'echo on; exec sleep 60'", "sleep 60'");
    t.expect("$ ");
    t.press("cat\n");
    t.press("line\n");
    t.expect("line\r\nline\r\n");
    t.press("\x04");
    t.expect("$ ");
    t.press("exit 3\n");
    assert_eq!(t.status(), Some(3));
}

/// What is saved on one terminal comes back on another one, whose size and modes it finds.
#[test]
fn a_shell_comes_back_on_another_terminal() {
    if !common::has("bash") {
        return;
    }
    let place = std::env::temp_dir().join(format!("drupe-other-terminal-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&place).expect("writable");
    let image = place.join("image");
    let drupe = || {
        let mut command = Command::new(DRUPE);
        command.env("XDG_RUNTIME_DIR", &place).env("TERM", "dumb");
        command
    };
    let mut first =
        Terminal::launch(drupe().args(["run", "--name", "box", "--tmpfs", "/root", "--", "bash", "--norc", "-i"]));
    first.expect("$ ");
    first.press("n=some; sh -c 'echo on; exec sleep 60'\n");
    first.expect("on\r\n");
    first.press_until("\x1a", "Stopped");
    first.expect("$ ");
    first.press("stty -a | grep -o '.icanon'\n");
    first.expect(" icanon\r\n");
    first.expect("$ ");
    let saved = drupe().args(["checkpoint", "box"]).arg(&image).output().expect("it runs");
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    assert_eq!(first.status(), Some(137));
    for _ in 0..2 {
        let mut other = Terminal::launch(drupe().arg("restore").arg(&image));
        other.press("echo $n-thing; stty size; jobs\n");
        other.expect("some-thing\r\n");
        other.expect("33 99\r\n");
        other.expect("Stopped");
        other.expect("$ ");
        other.press("fg\n");
        other.expect("sleep 60'\r\n");
        other.press_until("\x03", "$ ");
        other.press("echo st=$?; exit 3\n");
        other.expect("st=130");
        assert_eq!(other.status(), Some(3));
    }
    let _ = std::fs::remove_dir_all(&place);
}

/// A sandbox with a name, in a registry of its own, that ends with the test.
struct Named {
    child: Child,
    place: std::path::PathBuf,
}

impl Named {
    fn start(what: &str) -> Named {
        use std::os::unix::fs::DirBuilderExt;
        let place = std::env::temp_dir().join(format!("drupe-terminal-{what}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::DirBuilder::new().mode(0o700).create(&place).expect("writable");
        let mut command = Command::new(DRUPE);
        command.args(["run", "--name", "box", "--", "sleep", "100"]).env("XDG_RUNTIME_DIR", &place);
        let named = Named { child: command.spawn().expect("it runs"), place };
        common::host::wait_for("the sandbox", Duration::from_secs(15), || {
            let ready = named.drupe(&["exec", "box", "true"]).output().expect("it runs").status.success();
            ready.then_some(())
        });
        named
    }

    fn drupe(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DRUPE);
        command.args(args).env("XDG_RUNTIME_DIR", &self.place).env("PS1", "$ ");
        command
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

#[test]
fn a_program_in_a_running_sandbox_gets_the_terminal() {
    let sandbox = Named::start("shells");
    // Two at once, each on a terminal of its own.
    let shell = ["exec", "-it", "--env", "PS1=$ ", "box", "sh", "-i"];
    let mut all = [0, 1].map(|_| Terminal::launch(&mut sandbox.drupe(&shell)));
    for t in &mut all {
        t.expect("$ ");
        t.press("tty; stty size; ps -o tty= -p $$\n");
        t.expect("/dev/pts/");
        t.expect("33 99");
        t.expect("pts/");
        t.expect("$ ");
        t.press("echo on; sleep 60\n");
        t.expect("on\r\n");
    }
    for t in &mut all {
        t.press_until("\x03", "$ ");
        t.press("echo st=$?\n");
        t.expect("st=130");
        t.expect("$ ");
        t.press("trap 'echo resized; exit 3' WINCH; echo set\n");
        t.expect("set\r\n");
        t.expect("$ ");
        t.resize(20, 40);
        t.press_until("\n", "resized");
        assert_eq!(t.status(), Some(3));
    }
}

#[test]
fn ctrl_z_stops_an_exec_and_fg_continues_it() {
    if !common::has("bash") {
        return;
    }
    let sandbox = Named::start("jobs");
    let shell = sandbox.drupe(&[]);
    let mut outer = Command::new("bash");
    outer.args(["--norc", "--noediting", "-i"]).envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut t = Terminal::launch(&mut outer);
    t.expect("$ ");
    // A shell that waits for a child of vfork to exec does not stop, if that stops first: so there is none.
    let job = format!("{} exec -it box sh -c 'echo on; exec sleep 60'", shell.get_program().display());
    stop_and_continue(&mut t, &job, "sleep 60'");
    t.press("exit\n");
    t.status();
}
