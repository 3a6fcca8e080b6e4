//! The cache of rewritten code: what is damaged in it, or none of ours, is dropped, and said once.

mod common;

use common::{run, sandboxed};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs a shell for long enough that its sites, and those of what it runs, are kept; what the kernel says.
fn said(home: &Path) -> Vec<String> {
    let line = "i=0; while [ $i -lt 40 ]; do /bin/true; i=$((i+1)); done";
    let mut command = sandboxed(&[], &["/bin/sh", "-c", line]);
    let out = run(command.env("XDG_CACHE_HOME", home), LIMIT);
    assert_eq!(out.status, 0, "{}", out.stderr);
    out.stderr.lines().map(String::from).collect()
}

fn copies(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
    let mut all: Vec<_> = all.filter(|p| p.file_name().is_some_and(|n| n.len() == 16)).collect();
    all.sort();
    all
}

#[test]
fn what_is_damaged_is_dropped_and_said_once() {
    let home = std::env::temp_dir().join(format!("drupe-cache-test-{}", std::process::id()));
    let dir = home.join("drupe");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home).expect("a directory");
    assert_eq!(said(&home), [""; 0]);
    assert!(!copies(&dir).is_empty(), "nothing was kept in {}", dir.display());
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("is damaged, or none of ours", |path| fs::write(path, "text of another program").expect("ours")),
        ("is damaged", |path| {
            let mut bytes = fs::read(path).expect("ours");
            bytes[100] ^= 1;
            fs::write(path, bytes).expect("ours");
        }),
        ("is damaged", |path| {
            let half = fs::metadata(path).expect("ours").len() / 2;
            fs::File::options().write(true).open(path).and_then(|f| f.set_len(half)).expect("ours");
        }),
        ("is not the user's own", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("ours");
        }),
    ];
    for (what, damage) in damages {
        let damaged = copies(&dir);
        damaged.iter().for_each(|path| damage(path));
        let lines = said(&home);
        assert!(!lines.is_empty() && lines.len() <= damaged.len(), "{what}: {lines:?}");
        assert!(lines.iter().all(|l| l.contains(what) && l.contains("is dropped")), "{what}: {lines:?}");
        // Those that no program of these has mapped are still there.
        for path in damaged {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let told = lines.iter().filter(|l| l.contains(&name)).count();
            assert!(told <= 1, "{name}: {lines:?}");
            if told == 0 {
                let _ = fs::remove_file(path);
            }
        }
        assert_eq!(said(&home), [""; 0], "after {what}");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("ours");
    let lines = said(&home);
    assert!(lines.len() == 1 && lines[0].contains("is not used: others can write to it"), "{lines:?}");
    let _ = fs::remove_dir_all(&home);
}
