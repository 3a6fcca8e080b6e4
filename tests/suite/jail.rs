//! A guest that calls the host through the gate with arguments of its own reaches what was given, and nothing else.

use crate::common::bpf::deny;
use crate::common::host::{family, stat, wait_for};
use crate::common::{DRUPE, Link, Outcome, as_tested, as_user, compile, run, sandboxed};
use drupe_kernel::abi::slot::SlotHeader;
use object::{Object, ObjectSymbol};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(60);
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
        give(&dir, false);
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

/// Gives a tree to the user whom the tests are about, or these layers.
fn give(dir: &Path, plain_user: bool) {
    if (as_user() || plain_user) && nix::unistd::geteuid().is_root() {
        let chown = Command::new("chown").args(["-R", "-h", "65534:65534"]).arg(dir).status();
        assert!(chown.is_ok_and(|s| s.success()));
    }
}

/// What the guest is told: where the slot names the kernel's entry, and how far from it the gate is.
pub fn door() -> (String, String) {
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
    all.push((AT_FDCWD, format!("/proc/1/root{}", tree.path(name))));
    all.push((AT_FDCWD, format!("/proc/self/cwd/../../../../../../..{}", tree.path(name))));
    // Whatever the descriptors are, one of them is the root or the bind.
    for dir in 3..16 {
        all.push((3, format!("/proc/self/fd/{dir}/../{name}")));
        all.push((dir, format!("self/fd/{dir}/../../../../../..{}", tree.path(name))));
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

/// What holds a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    pub jail: &'static str,
    /// The host has it.
    landlock: bool,
    /// Started by an ordinary user, who may make user namespaces (the users of the test by that name may not).
    plain_user: bool,
}

impl Layers {
    /// Calls that these layers hold against: the kick's signal reaches every process of the user's but for Landlock and
    /// a pid namespace.
    fn possible(self, calls: &[String]) -> Vec<String> {
        let kick = |call: &String| {
            call.starts_with(&format!("{},", libc::SYS_tgkill)) && call.ends_with(&format!(",{}", libc::SIGSTKFLT))
        };
        calls.iter().filter(|call| self.landlock || self.jail == "namespaces" || !kick(call)).cloned().collect()
    }

    /// Takes away from a command what these layers are without.
    pub fn prepare(self, command: &mut Command) -> &mut Command {
        if !self.landlock {
            deny(command, &[libc::SYS_landlock_create_ruleset], libc::ENOSYS);
        }
        if self.plain_user {
            command.env("HOME", "/nonexistent").current_dir("/");
            // SAFETY: the child makes plain calls.
            unsafe {
                command.pre_exec(|| {
                    let done = libc::setgroups(0, std::ptr::null()) | libc::setgid(65534) | libc::setuid(65534);
                    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
                });
            }
        }
        command
    }
}

/// Every combination of layers that shall hold and that this host offers.
pub fn layers() -> Vec<Layers> {
    let mut all = Vec::new();
    if landlock() {
        all.extend(["auto", "strict"].map(|jail| Layers { jail, landlock: true, plain_user: false }));
    }
    if namespaces() {
        all.extend([true, false].map(|landlock| Layers { jail: "namespaces", landlock, plain_user: false }));
        if nix::unistd::geteuid().is_root() && !as_user() {
            let by_user = |landlock| Layers { jail: "namespaces", landlock, plain_user: true };
            let probe = run(by_user(true).prepare(&mut sandboxed(&["--jail", "namespaces"], &["/bin/true"])), LIMIT);
            match probe.status {
                0 => all.extend([true, false].map(by_user)),
                _ => eprintln!("skipped: namespaces of an ordinary user ({})", probe.stderr.trim()),
            }
        }
    }
    all
}

fn namespaces() -> bool {
    let out = run(&mut sandboxed(&["--jail", "namespaces"], &["/bin/true"]), LIMIT);
    let one_line = out.status == 125 && out.stderr.lines().count() == 1 && out.stderr.contains("namespaces");
    assert!(out.status == 0 || one_line, "{}", out.stderr);
    if out.status != 0 {
        eprintln!("skipped: namespaces ({})", out.stderr.trim());
    }
    out.status == 0
}

/// Lets a guest with these options make all of `calls` at the gate; one line each.
fn escape(layers: Layers, options: &[&str], program: &str, calls: &[String]) -> Outcome {
    let (entry, gate) = door();
    let mut argv = vec![program, &entry, &gate];
    argv.extend(calls.iter().map(String::as_str));
    let mut command = sandboxed(&[&["--jail", layers.jail], options].concat(), &argv);
    let out = run(layers.prepare(&mut command), LIMIT);
    assert!(out.stdout.ends_with("done\n"), "{layers:?} {options:?}: {}\n{}", out.stdout, out.stderr);
    out
}

pub fn fsgsbase() -> bool {
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
    if !fsgsbase() {
        return;
    }
    let mut tree = Tree::new(if as_user() { "read-user" } else { "read" });
    let (root, program_path) = (tree.path("root"), program.to_str().expect("ASCII"));
    fs::copy(&program, tree.dir.join("root/bin/escape")).expect("copied");
    let calls = attempts(&tree);
    let before = tree.outside();
    for layers in layers() {
        for chunk in layers.possible(&calls).chunks(300) {
            escape(layers, &[], program_path, chunk);
            escape(layers, &["--root", &root], "/bin/escape", chunk);
        }
        assert_eq!(tree.outside(), before, "{layers:?}");
    }
    // Without a jail the same calls reach it: the test can tell.
    let off = Layers { jail: "off", landlock: true, plain_user: false };
    let unlink = format!("{},3,@{},0", libc::SYS_unlinkat, tree.path("outside/other"));
    escape(off, &[], program_path, &[unlink]);
    assert_ne!(tree.outside(), before);
}

#[test]
fn nothing_outside_of_a_root_is_read() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() {
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
    // Of pid 1 only what it has of the root: in a pid namespace it is the sandbox's own supervisor.
    let bystander = format!("/proc/{}/environ", tree.bystander.id());
    for path in ["/etc/passwd", &bystander, "/proc/1/root/etc/passwd", "/sys/kernel", "/bin/sh"] {
        calls.push(format!("{},3,@{path},0,0", libc::SYS_openat));
    }
    for layers in layers() {
        let out = escape(layers, &["--root", &root], "/bin/escape", &calls);
        for (i, call) in calls.iter().enumerate() {
            let opened = out
                .stdout
                .lines()
                .any(|l| l.split(' ').next() == Some(&i.to_string()) && !l.contains('-') && !l.contains("killed"));
            assert!(!opened, "{layers:?} {call}: {}", out.stdout);
        }
    }
    // The same test without a jail shows that it can tell.
    let off = Layers { jail: "off", landlock: true, plain_user: false };
    let out = escape(off, &["--root", &root], "/bin/escape", &[format!("{},3,@/etc/passwd,0,0", libc::SYS_openat)]);
    assert!(!out.stdout.contains('-') && !out.stdout.contains("killed"), "{}", out.stdout);
}

/// Whether the host can keep the constants from a guest with which names are looked up.
fn seals() -> bool {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let there = (numbers.next(), numbers.next()) >= (Some(6), Some(11));
    if !there {
        eprintln!("skipped: mseal ({release})");
    }
    there
}

/// Nor what it is: its size, its owner, where it leads.
#[test]
fn nothing_outside_of_a_root_is_looked_at() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() {
        return;
    }
    let tree = Tree::new(if as_user() { "seen-user" } else { "seen" });
    fs::copy(&program, tree.dir.join("root/bin/escape")).expect("copied");
    let root = tree.path("root");
    let mut calls = Vec::new();
    for (dir, secret) in forms(&tree, "outside/secret") {
        calls.push(format!("{},{dir},@{secret},0,0xfff,$", libc::SYS_statx));
        calls.push(format!("{},{dir},@{secret},{},0", libc::SYS_openat, libc::O_PATH | libc::O_CLOEXEC));
        calls.push(format!("{},{dir},@{},$,4096", libc::SYS_readlinkat, secret.replace("outside/secret", "given/out")));
        // A place, links followed, wherever it lies.
        let how = format!("000020{}", "00".repeat(21));
        calls.push(format!("{},{dir},@{secret},={how},24", libc::SYS_openat2));
    }
    let sealed = seals();
    let keeps = |l: &Layers| l.jail == "namespaces" || sealed;
    let off = Layers { jail: "off", landlock: true, plain_user: false };
    let bind = format!("{}:/mnt:rw", tree.path("given"));
    for layers in layers().into_iter().filter(keeps).chain([off]) {
        let reach = |more: &[&str]| {
            let mut reached = Vec::new();
            for chunk in calls.chunks(300) {
                let out = escape(layers, &[&["--root", &root], more].concat(), "/bin/escape", chunk);
                let got = out.stdout.lines().filter_map(|l| l.split_once(' '));
                let got = got.filter(|(_, r)| !r.starts_with('-') && !r.starts_with("killed"));
                reached.extend(got.filter_map(|(i, _)| Some(chunk.get(i.parse::<usize>().ok()?)?.clone())));
            }
            reached
        };
        let reached = reach(&[]);
        assert_eq!(reached.is_empty(), layers.jail != "off", "{layers:?}: {reached:?}");
        // Where the launcher does not leave the host's mounts.
        if layers.jail != "off" && sealed {
            assert_eq!(reach(&["--timeout", "60"]), [""; 0], "{layers:?}");
            // What is given may be looked at.
            let given = reach(&["--bind", &bind]);
            assert!(given.iter().all(|call| !call.contains("outside")), "{layers:?}: {given:?}");
        }
    }
}

/// A directory as standard input is read, as it is natively, and no more.
#[test]
fn an_inherited_directory_is_no_way_to_write() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() || !landlock() {
        return;
    }
    let mut tree = Tree::new(if as_user() { "inherited-user" } else { "inherited" });
    let bind = format!("{}:rw", tree.path("given"));
    let mut calls = Vec::new();
    for dir in 0..32 {
        for flags in [libc::O_WRONLY, libc::O_RDWR | libc::O_TRUNC, libc::O_WRONLY | libc::O_APPEND] {
            calls.push(format!("{},{dir},@secret,{flags},0", libc::SYS_openat));
        }
        calls.push(format!("{},{dir},@secret,0", libc::SYS_unlinkat));
        calls.push(format!("{},{dir},@new,0x1ff", libc::SYS_mkdirat));
        calls.push(format!("{},{dir},@secret,{dir},@moved,0", libc::SYS_renameat2));
        calls.push(format!("{},{dir},@,0,0", libc::SYS_recvmsg));
    }
    let before = tree.outside();
    let (entry, gate) = door();
    let mut argv = vec![program.to_str().expect("ASCII"), &entry, &gate];
    argv.extend(calls.iter().map(String::as_str));
    let mut command = sandboxed(&["--bind", &bind], &argv);
    command.stdin(fs::File::open(tree.dir.join("outside")).expect("it is there"));
    as_tested(&mut command);
    let out = command.output().expect("it runs");
    assert!(out.stdout.ends_with(b"done\n"), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(tree.outside(), before);
}

/// Sends descriptors of `files` by SCM_RIGHTS, one after the other.
fn pass(socket: &UnixDatagram, files: &[fs::File]) {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    for file in files {
        let fds = [file.as_raw_fd()];
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[std::io::IoSlice::new(b"x")],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            None,
        );
        assert_eq!(sent, Ok(1));
    }
}

/// Neither somebody outside nor a sandbox with more rights can hand a descriptor to a sandbox, whose program owns its
/// kernel and whose standard input is a socket.
#[test]
fn a_descriptor_that_is_passed_never_arrives() {
    let Some(program) = compile("passing", Link::Static) else { return };
    if !fsgsbase() {
        return;
    }
    let mut tree = Tree::new(if as_user() { "passed-user" } else { "passed" });
    let before = tree.outside();
    let inode = fs::metadata(tree.dir.join("outside/secret")).expect("it is there").ino().to_string();
    let program = program.to_str().expect("ASCII");
    let (entry, gate) = door();
    let files = || {
        let secret = tree.dir.join("outside/secret");
        let file = fs::OpenOptions::new().read(true).write(true).open(secret).expect("ours");
        (0..8).map(|_| file.try_clone().expect("copied")).collect::<Vec<_>>()
    };
    let (ours, theirs) = UnixDatagram::pair().expect("a pair");
    ours.set_nonblocking(true).expect("ours");
    let taken = |command: &mut Command| {
        as_tested(command);
        let out = as_given(command, &theirs).output().expect("it runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    // The test can tell: natively it arrives.
    pass(&ours, &files());
    assert_eq!(taken(Command::new(program).args(["natively", &inode])), "reached\n");
    for layers in layers() {
        pass(&ours, &files());
        let mut taking = sandboxed(&["--jail", layers.jail], &[program, "take", &entry, &gate, &inode]);
        let out = taken(layers.prepare(&mut taking));
        assert!(out.ends_with("done\n") && !out.contains("reached"), "{layers:?}: {out}");
        while theirs.recv(&mut [0; 8]).is_ok() {}
        // One that may write there, and has it open, gives it away.
        let bind = format!("{}:rw", tree.path("outside"));
        let line = format!("exec 9<>{} {program} give {entry} {gate}", tree.path("outside/secret"));
        let mut giving = sandboxed(&["--jail", layers.jail, "--bind", &bind], &["/bin/sh", "-c", &line]);
        let out = taken(layers.prepare(&mut giving));
        assert!(out.ends_with("done\n"), "{layers:?}: {out}");
        assert!(ours.recv(&mut [0; 8]).is_err(), "{layers:?}: something was sent: {out}");
    }
    assert_eq!(tree.outside(), before);
}

/// Gives a program the socket as standard input.
fn as_given<'a>(command: &'a mut Command, socket: &UnixDatagram) -> &'a mut Command {
    socket.set_nonblocking(true).expect("ours");
    command.stdin(OwnedFd::from(socket.try_clone().expect("copied"))).stderr(Stdio::null())
}

/// The host descriptor by which a sandbox with these options asks its broker: they share a pipe.
fn broker_fd(layers: Layers, options: &[&str]) -> i32 {
    let mut command = Command::new(DRUPE);
    command.arg("run").args(options).args(["--", "/bin/sleep", "100"]).stdin(Stdio::null());
    as_tested(&mut command);
    layers.prepare(&mut command);
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
        let broker = family(pid).into_iter().find(named)?;
        // Nothing is left of what it inherited.
        (pipes(broker).len() == 1).then_some(broker)
    });
    let supervisor = stat(broker).and_then(|fields| fields.get(1)?.parse().ok()).expect("the broker's parent");
    let (theirs, ours) = (pipes(broker), pipes(supervisor));
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
    if !fsgsbase() {
        return;
    }
    for layers in layers() {
        let name = format!("write-{}{}{}", layers.jail, layers.landlock, if as_user() { "-user" } else { "" });
        writable(layers, &mut Tree::new(&name), program.to_str().expect("ASCII"));
    }
}

fn writable(layers: Layers, tree: &mut Tree, program: &str) {
    let bind = format!("{}:rw", tree.path("given"));
    let options = ["--bind", bind.as_str()];
    let broker = broker_fd(layers, &[&["--jail", layers.jail], &options[..]].concat());
    let mut calls = Vec::new();
    // All of them stay open: the host's descriptors are the sandbox's.
    let open = |path: &str, flags: i32| format!("{},3,@{path},{flags},0", libc::SYS_openat);
    for name in ["outside/secret", "outside/empty", "outside", "root/own", "given/out/other"] {
        calls.extend([open(&tree.path(name), libc::O_RDONLY), open(&tree.path(name), libc::O_PATH)]);
        // In a namespace the root is empty: by a descriptor.
        let below = &tree.path(name)[1..];
        calls.extend((3..6).map(|dir| format!("{},{dir},@{below},0,0", libc::SYS_openat)));
    }
    let opens = calls.len();
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
    calls.extend(attempts(tree));
    let before = tree.outside();
    for chunk in calls.chunks(300) {
        // What was opened is gone in the next sandbox, so it is opened again.
        let mut calls = calls[..opens].to_vec();
        calls.extend_from_slice(chunk);
        escape(layers, &options, program, &layers.possible(&calls));
    }
    assert_eq!(tree.outside(), before, "{layers:?}");
    // The same requests for what was given are heard: also those above for the bind's own directory.
    fs::set_permissions(tree.dir.join("given"), fs::Permissions::from_mode(0o777)).expect("its mode");
    fs::write(tree.dir.join("given/own"), "").expect("written");
    give(&tree.dir.join("given"), layers.plain_user);
    let mut calls: Vec<String> = (3..8).map(|dir| format!("{},{dir},@own,0,0", libc::SYS_openat)).collect();
    calls.extend((0..48).map(|fd| ask_broker(broker, 1, fd, [0o612, 0])));
    let out = escape(layers, &options, program, &calls);
    let mode = fs::metadata(tree.dir.join("given/own")).expect("it is there").mode() & 0o777;
    assert_eq!(mode, 0o612, "{layers:?}: {}", out.stdout);
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

/// Every number at the gate, with arguments that are nothing to it: those that `door.txt` does not list end the process.
#[test]
fn a_number_that_is_not_listed_ends_its_process() {
    let Some(program) = compile("escape", Link::Static) else { return };
    if !fsgsbase() {
        return;
    }
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/door.txt")).expect("it is there");
    let listed: Vec<usize> = table
        .lines()
        .skip(1)
        .take_while(|l| l.starts_with(' '))
        .filter_map(|l| l.split_whitespace().next()?.parse().ok())
        .collect();
    assert!(listed.contains(&0) && listed.len() > 40, "{listed:?}");
    let mut tree = Tree::new(if as_user() { "numbers-user" } else { "numbers" });
    let before = tree.outside();
    // (The two at which no filter looks are illegal instructions but for their own place.)
    let numbers: Vec<usize> = (0..=512).filter(|nr| ![335, 336].contains(nr)).collect();
    for layers in layers() {
        for arguments in ["0,0,0,0,0,0", "-1,-1,-1,-1,-1,-1"] {
            let calls: Vec<String> = numbers.iter().map(|nr| format!("{nr},{arguments}")).collect();
            let out = escape(layers, &[], program.to_str().expect("ASCII"), &calls);
            let killed: Vec<&str> = out.stdout.lines().filter_map(|l| l.strip_suffix(" killed")).collect();
            for (i, nr) in numbers.iter().enumerate().filter(|(_, nr)| !listed.contains(nr)) {
                assert!(killed.contains(&i.to_string().as_str()), "{layers:?} {nr} with {arguments}: {}", out.stdout);
            }
        }
    }
    assert_eq!(tree.outside(), before);
}

/// No call that a program makes reads or changes the kernel's memory, whose address is no secret.
#[test]
fn ordinary_calls_do_not_reach_the_kernels_memory() {
    let Some(program) = compile("window", Link::Dynamic) else { return };
    if !fsgsbase() {
        return;
    }
    let out = run(&mut sandboxed(&[], &[program.to_str().expect("ASCII")]), LIMIT);
    let refused = [
        (
            "Bad address",
            "read into it, write from it, process_vm_readv, process_vm_writev, process_vm_readv into it, vmsplice",
        ),
        ("Input/output error", "/proc/self/mem, read; /proc/self/mem, write"),
        (
            "Cannot allocate memory",
            "mprotect, madvise, mmap over it, a file over it, shmat over it, mlock, mincore, brk below it",
        ),
        ("Invalid argument", "mremap from it, mremap over it, remap_file_pages"),
        (if as_user() { "Operation not permitted" } else { "Invalid argument" }, "PR_SET_MM"),
        ("Function not implemented", "rseq in it"),
    ];
    for (error, calls) in refused {
        let separator = if calls.contains(';') { "; " } else { ", " };
        for call in calls.split(separator) {
            assert!(out.stdout.lines().any(|l| l == format!("{call}: {error}")), "{call}: {}", out.stdout);
        }
    }
    assert_eq!((out.status, out.stdout.lines().last()), (0, Some("alive 1")), "{}{}", out.stdout, out.stderr);
}
