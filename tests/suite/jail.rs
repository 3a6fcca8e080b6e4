//! A guest that calls the host through the gate with arguments of its own reaches what was given, and nothing else.

use crate::common::host::{children, wait_for};
use crate::common::{DRUPE, Link, Outcome, as_tested, as_user, compile, run, sandboxed};
use drupe_kernel::abi::slot::SlotHeader;
use object::{Object, ObjectSymbol};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const AT_FDCWD: i64 = libc::AT_FDCWD as i64;

/// A tree with something that is given and something that is not.
struct Tree {
    dir: PathBuf,
    /// A process outside.
    bystander: Child,
}

impl Tree {
    fn new(name: &str) -> Tree {
        let dir = std::env::temp_dir().join(format!("drupe-jail-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for sub in ["", "given", "given/sub", "root", "root/bin", "outside", "outside/empty"] {
            fs::create_dir(dir.join(sub)).expect("a directory");
            // An ordinary user's rights are no wall here.
            fs::set_permissions(dir.join(sub), fs::Permissions::from_mode(0o777)).expect("its mode");
        }
        for file in ["outside/secret", "outside/other", "given/own", "root/own"] {
            fs::write(dir.join(file), format!("text of {file}")).expect("a file");
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o666)).expect("its mode");
        }
        symlink(dir.join("outside"), dir.join("given/out")).expect("a link");
        symlink(dir.join("outside"), dir.join("root/out")).expect("a link");
        if as_user() && nix::unistd::geteuid().is_root() {
            // All of it is the user's own.
            let chown = Command::new("chown").args(["-R", "-h", "65534:65534"]).arg(&dir).status();
            assert!(chown.is_ok_and(|s| s.success()));
        }
        let bystander = Command::new("sleep").arg("1000").spawn().expect("it starts");
        Tree { dir, bystander }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("ASCII").into()
    }

    /// Everything outside that a program could have changed.
    fn outside(&mut self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut todo = vec![self.dir.join("outside")];
        while let Some(path) = todo.pop() {
            let meta = path.symlink_metadata().expect("it is there");
            let text = fs::read_to_string(&path).unwrap_or_default();
            let (mode, uid, links, time) = (meta.mode(), meta.uid(), meta.nlink(), meta.mtime_nsec());
            all.insert(path.clone(), format!("{mode:o} {uid} {links} {time} {text}"));
            if meta.is_dir() {
                todo.extend(fs::read_dir(&path).expect("readable").map(|e| e.expect("an entry").path()));
            }
        }
        assert!(self.bystander.try_wait().expect("our own child").is_none(), "the bystander has ended");
        all
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = self.bystander.kill();
        let _ = self.bystander.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What the guest is told: where the slot names the kernel's entry, and how far from it the gate is.
fn door() -> (String, String) {
    let image = object::File::parse(drupe::image_bytes()).expect("an ELF file");
    let at = |name: &str| {
        let all = image.symbols().chain(image.dynamic_symbols());
        all.filter(|s| s.name() == Ok(name)).map(|s| s.address()).next().unwrap_or_else(|| panic!("no symbol {name}"))
    };
    let distance = at("drupe_gate") as i64 - at("drupe_fast_entry") as i64;
    (std::mem::offset_of!(SlotHeader, fast_entry).to_string(), distance.to_string())
}

/// Ways to name `name`, which lies outside: from a directory descriptor, and below one.
fn forms(tree: &Tree, name: &str) -> Vec<(i64, String)> {
    let mut all = vec![];
    for dir in [3, 5, 8, AT_FDCWD] {
        all.push((dir, tree.path(name)));
        all.push((dir, format!("/proc/self/root{}", tree.path(name))));
    }
    // Whatever the descriptors are, one of them is the root or the bind.
    for dir in 3..16 {
        let rest = name.strip_prefix("outside/").expect("it is outside");
        all.push((dir, format!("../{name}")));
        all.push((dir, format!("out/{rest}")));
        all.push((dir, tree.path(name)[1..].to_string()));
    }
    all
}

/// Every path call in every form, as the guest takes them.
fn attempts(tree: &Tree) -> Vec<String> {
    let mut all = Vec::new();
    let own = tree.path("given/own");
    for (dir, secret) in forms(tree, "outside/secret") {
        let open = |flags: i32| format!("{},{dir},@{secret},{flags},0x1b6", libc::SYS_openat);
        all.extend([
            open(libc::O_WRONLY),
            open(libc::O_RDWR),
            open(libc::O_WRONLY | libc::O_TRUNC),
            open(libc::O_WRONLY | libc::O_APPEND),
            open(libc::O_CREAT | libc::O_RDONLY),
        ]);
        for nr in [libc::SYS_fchmodat, libc::SYS_unlinkat] {
            all.push(format!("{nr},{dir},@{secret},0"));
        }
        all.push(format!("{},{dir},@{secret},1,1,0", libc::SYS_fchownat));
        all.push(format!("{},{dir},@{secret},0,0", libc::SYS_utimensat));
        all.push(format!("{},3,@{own},{dir},@{secret},0", libc::SYS_renameat2));
        all.push(format!("{},{dir},@{secret},3,@{own},0", libc::SYS_renameat2));
        all.push(format!("{},{dir},@{secret},3,@{}", libc::SYS_linkat, tree.path("given/hard")));
        for nr in [libc::SYS_truncate, libc::SYS_chmod, libc::SYS_unlink, libc::SYS_creat, libc::SYS_open] {
            all.push(format!("{nr},@{secret},2"));
        }
        for nr in [libc::SYS_setxattr, libc::SYS_lsetxattr] {
            all.push(format!("{nr},@{secret},@user.x,@v,1,0"));
        }
    }
    for (dir, new) in forms(tree, "outside/new") {
        all.push(format!("{},{dir},@{new},0x41,0x1b6", libc::SYS_openat));
        all.push(format!("{},{dir},@{new},0x1ff", libc::SYS_mkdirat));
        all.push(format!("{},{dir},@{new},0x11b6,0", libc::SYS_mknodat));
        all.push(format!("{},@x,{dir},@{new}", libc::SYS_symlinkat));
        all.push(format!("{},3,@{own},{dir},@{new},0", libc::SYS_linkat));
    }
    for (dir, empty) in forms(tree, "outside/empty") {
        all.push(format!("{},{dir},@{empty},0x200", libc::SYS_unlinkat));
        all.push(format!("{},{dir},@{empty},{},0x1b6", libc::SYS_openat, libc::O_TMPFILE | libc::O_RDWR));
    }
    let pid = tree.bystander.id();
    for sig in [0, 9, 15, 16, 19] {
        all.push(format!("{},{pid},{pid},{sig}", libc::SYS_tgkill));
        all.push(format!("{},{pid},{sig}", libc::SYS_kill));
        all.push(format!("{},{pid},{sig}", libc::SYS_tkill));
    }
    all.push(format!("{},0,{pid},10", libc::SYS_setpriority));
    all.push(format!("{},{pid},7,@00000000,0", libc::SYS_prlimit64));
    all.push(format!("{},16,{pid},0,0", libc::SYS_ptrace));
    all.push(format!("{},{pid},8,=01000000000000000000", libc::SYS_sched_setaffinity));
    for nr in [libc::SYS_execve, libc::SYS_socket, libc::SYS_mount, libc::SYS_unshare, libc::SYS_bpf, libc::SYS_chroot]
    {
        all.push(format!("{nr},@/bin/true,0,0"));
    }
    all
}

/// Lets a guest with these options make all of `calls` at the gate; one line each.
fn escape(options: &[&str], program: &str, calls: &[String]) -> Outcome {
    let (entry, gate) = door();
    let mut argv = vec![program, &entry, &gate];
    argv.extend(calls.iter().map(String::as_str));
    let out = run(&mut sandboxed(options, &argv), LIMIT);
    assert!(out.stdout.ends_with("done\n"), "{options:?}: {}\n{}", out.stdout, out.stderr);
    out
}

fn fsgsbase() -> bool {
    let there = fs::read_to_string("/proc/cpuinfo").is_ok_and(|t| t.contains(" fsgsbase "));
    if !there {
        eprintln!("skipped: fsgsbase");
    }
    there
}

fn landlock() -> bool {
    let findings = drupe::sandbox::doctor::examine();
    let there = findings.iter().any(|f| f.name == "landlock" && f.detail.starts_with("ABI"));
    if !there {
        eprintln!("skipped: landlock");
    }
    there
}

#[test]
fn nothing_outside_changes_where_nothing_is_writable() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() || !landlock() {
        return;
    }
    let mut tree = Tree::new(if as_user() { "read-user" } else { "read" });
    let root = tree.path("root");
    fs::copy(&program, tree.dir.join("root/bin/escape")).expect("copied");
    let calls = attempts(&tree);
    let before = tree.outside();
    for jail in ["auto", "strict"] {
        for chunk in calls.chunks(200) {
            escape(&["--jail", jail], program.to_str().expect("ASCII"), chunk);
            escape(&["--jail", jail, "--root", &root], "/bin/escape", chunk);
        }
    }
    assert_eq!(tree.outside(), before);
}

#[test]
fn nothing_outside_of_a_root_is_read() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() || !landlock() {
        return;
    }
    let tree = Tree::new(if as_user() { "root-user" } else { "root" });
    fs::copy(&program, tree.dir.join("root/bin/escape")).expect("copied");
    let root = tree.path("root");
    let mut calls = Vec::new();
    for (dir, secret) in forms(&tree, "outside/secret") {
        calls.push(format!("{},{dir},@{secret},0,0", libc::SYS_openat));
        calls.push(format!("{},{dir},@{secret},{},0", libc::SYS_openat, libc::O_DIRECTORY));
    }
    for path in ["/etc/passwd", "/proc/1/status", "/proc/self/environ", "/proc/sys/kernel/hostname", "/sys", "/"] {
        calls.push(format!("{},3,@{path},0,0", libc::SYS_openat));
    }
    let out = escape(&["--root", &root], "/bin/escape", &calls);
    for (i, call) in calls.iter().enumerate() {
        let opened = out
            .stdout
            .lines()
            .any(|l| l.split(' ').next() == Some(&i.to_string()) && !l.contains('-') && !l.contains("killed"));
        assert!(!opened, "{call}: {}", out.stdout);
    }
    // The same test without a jail shows that it can tell.
    let out = escape(
        &["--root", &root, "--jail", "off"],
        "/bin/escape",
        &[format!("{},3,@/etc/passwd,0,0", libc::SYS_openat)],
    );
    assert!(!out.stdout.contains('-') && !out.stdout.contains("killed"), "{}", out.stdout);
}

/// The host descriptor by which a sandbox with these options asks its broker: they share a pipe.
fn broker_fd(options: &[&str]) -> i32 {
    let mut command = Command::new(DRUPE);
    command.arg("run").args(options).args(["--", "/bin/sleep", "100"]).stdin(Stdio::null());
    as_tested(&mut command);
    let mut launcher = command.spawn().expect("it starts");
    let pipes = |pid: i32| -> BTreeMap<String, i32> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        all.filter_map(|e| {
            let to = fs::read_link(e.path()).ok()?.to_str()?.to_string();
            let fd = e.file_name().to_str()?.parse().ok()?;
            to.starts_with("pipe:").then_some((to, fd))
        })
        .filter(|(_, fd)| *fd > 2)
        .collect()
    };
    let pid = launcher.id() as i32;
    let broker = wait_for("a broker", LIMIT, || {
        let named =
            |p: &i32| fs::read_to_string(format!("/proc/{p}/comm")).is_ok_and(|c| c.starts_with("drupe-broker"));
        let broker = children(pid).into_iter().find(named)?;
        // Nothing is left of what it inherited.
        (pipes(broker).len() == 1).then_some(broker)
    });
    let (theirs, ours) = (pipes(broker), pipes(pid));
    let fd = theirs.keys().find_map(|pipe| ours.get(pipe)).copied();
    let _ = launcher.kill();
    let _ = launcher.wait();
    fd.expect("a pipe of both")
}

/// A request to the broker, as the guest writes it.
fn ask_broker(broker: i32, op: u32, fd: i32, args: [i64; 2]) -> String {
    let mut bytes = Vec::new();
    bytes.extend(op.to_ne_bytes());
    bytes.extend(fd.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(args.iter().flat_map(|a| a.to_ne_bytes()));
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{},{broker},={hex},{}", libc::SYS_write, bytes.len())
}

/// The broker changes what lies in a writable bind, and nothing else, whoever asks.
#[test]
fn nothing_outside_of_a_writable_bind_changes() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() || !landlock() {
        return;
    }
    let mut tree = Tree::new(if as_user() { "write-user" } else { "write" });
    let bind = format!("{}:rw", tree.path("given"));
    let options = ["--bind", bind.as_str(), "--rewrite", "on"];
    let broker = broker_fd(&options);
    let mut calls = Vec::new();
    // All of them stay open: the host's descriptors are the sandbox's.
    let open = |path: &str, flags: i32| format!("{},3,@{path},{flags},0", libc::SYS_openat);
    for name in ["outside/secret", "outside/empty", "outside", "root/own", "given/out/other"] {
        calls.extend([open(&tree.path(name), libc::O_RDONLY), open(&tree.path(name), libc::O_PATH)]);
    }
    for fd in 0..48 {
        for (op, args) in [(1, [0, 0]), (2, [1, 1]), (3, [0, 0])] {
            calls.push(ask_broker(broker, op, fd, args));
        }
    }
    for fd in 0..48 {
        calls.push(format!("{},{fd},0", libc::SYS_fchmod));
        calls.push(format!("{},{fd},1,1", libc::SYS_fchown));
        calls.push(format!("{},{fd},0,0,0", libc::SYS_utimensat));
        calls.push(format!("{},{fd},@user.x,@v,1,0", libc::SYS_fsetxattr));
    }
    calls.extend(attempts(&tree));
    let before = tree.outside();
    for chunk in calls.chunks(200) {
        // What was opened is gone in the next sandbox, so it is opened again.
        let mut calls = calls[..10].to_vec();
        calls.extend_from_slice(chunk);
        escape(&options, program.to_str().expect("ASCII"), &calls);
    }
    assert_eq!(tree.outside(), before);
    // The same requests for what was given are heard.
    fs::write(tree.dir.join("given/own"), "").expect("written");
    let mut calls = vec![open(&tree.path("given/own"), libc::O_RDONLY)];
    calls.extend((0..48).map(|fd| ask_broker(broker, 1, fd, [0o612, 0])));
    let out = escape(&options, program.to_str().expect("ASCII"), &calls);
    let mode = fs::metadata(tree.dir.join("given/own")).expect("it is there").mode() & 0o777;
    assert_eq!(mode, 0o612, "{}", out.stdout);
    assert_eq!(tree.outside(), before);
}

#[test]
fn a_strict_jail_says_what_is_missing() {
    let there = drupe::sandbox::doctor::examine().iter().any(|f| f.name == "landlock" && f.detail.starts_with("ABI"));
    let out = run(Command::new(DRUPE).args(["run", "--jail", "strict", "--", "true"]), LIMIT);
    match there {
        true => assert_eq!(out.status, 0, "{}", out.stderr),
        false => assert!(out.status == 125 && out.stderr.contains("Landlock"), "{}", out.stderr),
    }
    assert!(Path::new(DRUPE).exists());
}
