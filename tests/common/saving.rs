//! What tests of saving share.

use drupe::{Sandbox, SandboxBuilder, Stdio, Streams};
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// How long a program may take after it was restored.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A directory of this test's own.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Place {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("save-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("writable");
        Place(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file to append to.
    pub fn log(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.path(name)).expect("writable")
    }

    pub fn text(&self, name: &str) -> String {
        let mut text = String::new();
        File::open(self.path(name)).and_then(|mut f| f.read_to_string(&mut text)).expect("readable");
        text
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Streams of a restored program: two files of the place.
pub fn streams(place: &Place) -> Streams {
    Streams { stdin: Stdio::Null, stdout: place.log("out").into(), stderr: place.log("err").into() }
}

/// The image of a sandbox, which ends.
pub fn saved(sandbox: Sandbox) -> Vec<u8> {
    sandbox.pause().expect("it pauses");
    let mut image = Vec::new();
    sandbox.save_to(&mut image).expect("saved");
    sandbox.stop();
    image
}

/// The image of a sandbox whose program has read four bytes of the place's file `data` and goes on to read the rest, which it
/// then writes, both, to `out`.
pub fn half_read(place: &Place) -> Vec<u8> {
    let sandbox = Sandbox::builder().bind(&place.0, "/data", true).start().expect("it starts");
    let mut command = sandbox.command("bash");
    command.args(["-c", "exec 5</data/data; read -n 4 -u 5 a; sleep 0.5; read -u 5 b; echo $a,$b"]);
    command.stdin(Stdio::Null).stdout(place.log("out")).stderr(place.log("err")).spawn().expect("it runs");
    sleep(Duration::from_millis(200));
    saved(sandbox)
}

/// A sandbox that sleeps, paused.
pub fn paused(settings: SandboxBuilder) -> Sandbox {
    let sandbox = settings.start().expect("it starts");
    let mut command = sandbox.command("sleep");
    command.arg("100").stdin(Stdio::Null).stdout(Stdio::Null).stderr(Stdio::Null).spawn().expect("it runs");
    sleep(Duration::from_millis(100));
    sandbox.pause().expect("it pauses");
    sandbox
}
