//! The examples do what they say, and so does `drupe bench`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo puts the library and the examples of this profile.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_drupe")).parent().expect("a directory").to_path_buf()
}

fn checked(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn rust() {
    let example = built().join("examples/hello");
    if !example.exists() {
        // `cargo test` builds the examples, `cargo test --test examples` does not.
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["build", "--quiet", "--example", "hello"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        checked(&mut cargo);
    }
    let output = checked(&mut Command::new(example));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("apple\npear\nplum\nstatus 3\n16 bytes in the sandbox, 0 on the host\n"), "{text}");
    assert!(text.contains("SIGKILL"), "{text}");
}

/// Compiles an example and runs it.
fn c(name: &str, args: &[&Path]) -> String {
    // `cargo test` leaves the shared library beside the other dependencies; only `cargo build` lifts it up.
    let library = built().join("deps");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-c"));
    checked(
        Command::new("cc")
            .args(["-Wall", "-Werror"])
            .arg(format!("-I{}", root().join("include").display()))
            .arg(root().join(format!("examples/{name}.c")))
            .arg(format!("-L{}", library.display()))
            .arg(format!("-Wl,-rpath,{}", library.display()))
            .args(["-ldrupe", "-o"])
            .arg(&binary),
    );
    let output = checked(Command::new(binary).args(args));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn c_starts_a_sandbox() {
    assert_eq!(c("hello", &[]), "status 3\napple\npear\nplum\nerror 2\n");
}

#[test]
fn c_saves_and_restores_one() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("saving-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("writable");
    let told = c("saving", &[&dir]);
    let _ = std::fs::remove_dir_all(&dir);
    let want = "the sandbox cannot be saved: it is not paused\ntemplate prepared\nstatus 5: the same, clone\n\
        status 5: the same, itself\nstatus 5: the same, image\nstatus 5: the same, template\n";
    assert_eq!(told, want);
}

#[test]
fn bench_prints_its_table() {
    let drupe = env!("CARGO_BIN_EXE_drupe");
    let output = checked(Command::new(drupe).args(["bench", "--json", "getppid", "pipe.same", "patch"]));
    let lines: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lines = lines.as_array().expect("an array");
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["ratio"].as_f64().is_some_and(|r| r > 0.0), "{lines:?}");
    assert!(lines[2]["ratio"].is_null(), "a row that cannot run is n/a");
    let output = Command::new(drupe).args(["bench", "no-such-row"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(125));
}
