//! `drupe run`

use crate::checkpoint::{go_on, named};
use crate::closed;
use crate::signals::{Signals, is_of_terminal};
use anyhow::{Context, bail};
use clap::ValueEnum;
use drupe::sandbox::{PANIC_STATUS, console::Console, shell_status};
use drupe::{
    Allowance, Change, Child, Error, Jail, LogLevel, Network, Publication, Sandbox, SandboxBuilder, Streams, Templates,
};
use nix::sys::signal::{Signal, raise};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options that an image has the answers to.
const OF_IMAGE: [&str; 22] = [
    "user",
    "root",
    "rw",
    "bind",
    "tmpfs",
    "net",
    "publish",
    "allow",
    "hostname",
    "seed",
    "memory",
    "pids",
    "cpus",
    "open_files",
    "file_size",
    "timeout",
    "rewrite",
    "jail",
    "strace",
    "strace_file",
    "perf_map",
    "log",
];

#[derive(Debug, PartialEq, clap::Args)]
pub struct Args {
    /// Name by which `drupe ps`, `exec`, `kill` and so on reach the sandbox while it runs
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write an image to the file of --image whenever this signal (HUP, TERM, USR1, USR2) comes, and go on
    #[arg(long, value_name = "SIGNAL", value_parser = saving_signal, requires = "image")]
    save_on_signal: Option<Signal>,
    /// Where --save-on-signal writes
    #[arg(long, value_name = "FILE", requires = "save_on_signal")]
    image: Option<PathBuf>,
    /// Make the sandbox of this template (`drupe template`), whose programs and settings it has. With PROGRAM that runs in
    /// it, and when it ends all does; without, the template's first program is the one that this is about
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = OF_IMAGE)]
    from: Option<String>,
    /// Directory that the program sees as `/`; the host's own tree otherwise
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Let writes reach the root directory; without it they stay in memory
    #[arg(long)]
    rw: bool,
    /// Make a host file or directory appear at DST (default: the same path), read-only unless `:rw`
    #[arg(long, value_name = "SRC[:DST][:ro|:rw]")]
    bind: Vec<String>,
    /// Mount an empty file system in memory at DST
    #[arg(long, value_name = "DST")]
    tmpfs: Vec<PathBuf>,
    /// Network that the program sees
    #[arg(long, value_enum, default_value_t = Net::Loopback)]
    net: Net,
    /// Have a TCP port of the host (on 127.0.0.1, unless ADDR is given) lead to one of the sandbox's loopback
    #[arg(long, value_name = "[ADDR:]HOST:GUEST")]
    publish: Vec<Publication>,
    /// Let the program connect, by TCP, to this place beyond its own network
    #[arg(long, value_name = "HOST[:PORT]")]
    allow: Vec<Allowance>,
    /// Set an environment variable
    #[arg(long, value_name = "K=V")]
    env: Vec<String>,
    /// Start from an empty environment
    #[arg(long)]
    clear_env: bool,
    /// Working directory, an absolute path in the sandbox; your own where it is there
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Run as this user and group; your own otherwise
    #[arg(long, value_name = "UID[:GID]", value_parser = parse_user)]
    user: Option<(u32, u32)>,
    /// Host name in the sandbox
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Chance (addresses, getrandom, AT_RANDOM, UUIDs …) follows from this number, so that a run can be repeated
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Memory for files in memory, the kernel and what programs have of their own, together, e.g. 512M or 4G. Where it is
    /// too much the largest program is ended. Not given: half of the host's for the first two, no bound for programs
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Processes and threads that there may be at once [default: 4096]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,
    /// CPUs that programs see and run on; all of yours otherwise
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// Descriptors that each process may have open at once; your own limit otherwise
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(3..))]
    open_files: Option<u64>,
    /// Largest file that a process may make, e.g. 64M; your own limit otherwise
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    file_size: Option<u64>,
    /// End everything after this time (a number of seconds, or with ms, s, m, h or d); the exit status is 124 then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Rewrite hot system call sites; off, every call is a trap
    #[arg(long, value_enum, default_value_t = Switch::On)]
    rewrite: Switch,
    /// What holds the program beyond the system call filter
    #[arg(long, value_enum, value_name = "LAYERS", default_value_t = Layers::Auto)]
    jail: Layers,
    /// Trace system calls, all or those named (comma-separated; !CALL leaves one out)
    #[arg(long, value_name = "CALLS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    strace: Option<String>,
    /// Write the trace to FILE instead of stderr; without --strace, of all calls
    #[arg(long, value_name = "FILE")]
    strace_file: Option<PathBuf>,
    /// Write /tmp/perf-PID.map for each host process, in which perf on the host finds the kernel's functions
    #[arg(long)]
    perf_map: bool,
    /// How much the kernel says on stderr
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Log::Warn)]
    log: Log,
    /// The program, looked up along PATH in the sandbox when it has no slash
    #[arg(required_unless_present = "from", value_name = "PROGRAM")]
    program: Option<OsString>,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    args: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Net {
    /// A loopback interface that is down
    None,
    /// A loopback interface of its own
    Loopback,
    /// The host's network (local and netlink sockets stay the sandbox's own)
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layers {
    /// Every layer that the host offers and that costs little
    Auto,
    /// Nothing starts on a host without Landlock, and no rewritten code is shared with other sandboxes
    Strict,
    /// As auto, and in namespaces of its own (pids, mounts, network …); nothing starts where you may not make them
    Namespaces,
    /// The filter alone
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Log {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Args {
    /// `run -- PROGRAM ARG…`, and `run PROGRAM ARG…` where nothing looks like an option: what the parser
    /// would make of it. Anything else is the parser's.
    pub fn plain(mut line: impl Iterator<Item = OsString>) -> Option<Args> {
        let is_option = |arg: &OsString| arg.as_encoded_bytes().first() == Some(&b'-');
        if line.next()? != "run" {
            return None;
        }
        let mut program = line.next()?;
        let marked = program == "--";
        if marked {
            program = line.next()?;
        }
        let args: Vec<OsString> = line.collect();
        if !marked && (is_option(&program) || args.iter().any(is_option)) {
            return None;
        }
        Some(Args {
            name: None,
            save_on_signal: None,
            image: None,
            from: None,
            root: None,
            rw: false,
            bind: Vec::new(),
            tmpfs: Vec::new(),
            net: Net::Loopback,
            publish: Vec::new(),
            allow: Vec::new(),
            env: Vec::new(),
            clear_env: false,
            cwd: None,
            user: None,
            hostname: None,
            seed: None,
            memory: None,
            pids: None,
            cpus: None,
            open_files: None,
            file_size: None,
            timeout: None,
            rewrite: Switch::On,
            jail: Layers::Auto,
            strace: None,
            strace_file: None,
            perf_map: false,
            log: Log::Warn,
            program: Some(program),
            args,
        })
    }
}

impl From<Log> for LogLevel {
    fn from(log: Log) -> LogLevel {
        match log {
            Log::Off => LogLevel::Off,
            Log::Error => LogLevel::Error,
            Log::Warn => LogLevel::Warn,
            Log::Info => LogLevel::Info,
            Log::Debug => LogLevel::Debug,
            Log::Trace => LogLevel::Trace,
        }
    }
}

pub fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let number = |t: &str| t.parse::<u32>().map_err(|_| format!("not a number: {t:?}"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => number(text).map(|uid| (uid, uid)),
    }
}

fn saving_signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let signal = format!("SIG{}", upper.strip_prefix("SIG").unwrap_or(&upper)).parse::<Signal>();
    let may = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];
    signal.ok().filter(|s| may.contains(s)).ok_or_else(|| "it must be HUP, TERM, USR1 or USR2".into())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        other => return Err(format!("unknown unit {other:?}: use K, M, G or T")),
    };
    let number = digits.parse::<u64>().map_err(|_| format!("not a size: {text:?}"))?;
    number.checked_mul(1 << shift).filter(|&n| n > 0).ok_or_else(|| format!("not a size: {text:?}"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("unknown unit {other:?}: use ms, s, m, h or d")),
    };
    let wrong = || format!("not a duration: {text:?}");
    let number = digits.parse::<f64>().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).ok().filter(|d| !d.is_zero()).ok_or_else(wrong)
}

/// `SRC[:DST][:ro|:rw]`
fn parse_bind(text: &str) -> anyhow::Result<(PathBuf, PathBuf, bool)> {
    let (paths, read_only) = match text.rsplit_once(':') {
        Some((paths, "ro")) => (paths, true),
        Some((paths, "rw")) => (paths, false),
        _ => (text, true),
    };
    let (source, target) = paths.split_once(':').unwrap_or((paths, paths));
    // A path in the sandbox with a colon in it cannot be said here: what follows is meant as an option.
    if let Some((_, unknown)) = target.split_once(':').filter(|_| paths.contains(':')) {
        bail!("--bind {text}: unknown option `{unknown}` (ro or rw)");
    }
    if source.is_empty() || target.is_empty() {
        bail!("--bind {text}: an empty path");
    }
    let target = if paths.contains(':') { PathBuf::from(target) } else { std::path::absolute(source)? };
    Ok((source.into(), target, read_only))
}

/// Runs the program and returns the exit status that tells its fate.
pub fn run(args: Args) -> anyhow::Result<u8> {
    if let Some(template) = &args.from {
        return run_from(&args, template);
    }
    let console = Console::new();
    let settings = settings(&args)?;
    // The first process of a pid namespace is the supervisor, which the launcher cannot be then; and whoever serves
    // those who ask for a sandbox by its name is not in its jail.
    // Time is kept, and in a strict jail the end of everything seen to, by a process that shares nothing with it.
    let kept = args.jail == Layers::Strict || args.timeout.is_some();
    let apart = args.jail == Layers::Namespaces
        || args.name.is_some()
        || args.perf_map
        || args.save_on_signal.is_some()
        || kept;
    let sandbox = if apart { settings.start()? } else { settings.start_here()? };
    // Until now a signal simply ends the launcher, and the sandbox with it.
    let signals = Signals::take().context("take the signals that are meant for the program")?;
    run_in(&sandbox, &args, &console, &signals)
}

/// Runs the program in a sandbox.
fn run_in(sandbox: &Sandbox, args: &Args, console: &Console, signals: &Signals) -> anyhow::Result<u8> {
    let program = args.program.as_ref().context("no program")?;
    let mut command = sandbox.command(program);
    command.args(&args.args).tty(console.is_terminal()).umask(current_umask());
    command.stdin(closed::stream(0)).stdout(closed::stream(1)).stderr(closed::stream(2));
    if args.clear_env {
        command.env_clear();
    }
    for pair in &args.env {
        let (key, value) = pair.split_once('=').with_context(|| format!("--env {pair}: no `=` in it"))?;
        command.env(key, value);
    }
    if let Some(dir) = &args.cwd {
        command.current_dir(dir);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(Error::Spawn { program, errno, message }) => return Ok(unrunnable(&program, errno, &message)),
        Err(Error::Panic(text)) => return Ok(panicked(&text)),
        Err(Error::Expired(_)) => return Ok(EXPIRED),
        Err(e) => return Err(e.into()),
    };
    let saves = args.save_on_signal.zip(args.image.as_deref());
    end_of(sandbox, follow(sandbox, &mut child, signals, saves))
}

/// Makes a sandbox of a template, and runs the program in it, if there is one.
fn run_from(args: &Args, template: &str) -> anyhow::Result<u8> {
    let image = Templates::own()?.open(template)?;
    if args.program.is_none() {
        if !args.env.is_empty() || args.clear_env || args.cwd.is_some() {
            bail!("--from without a program: the template's has its environment and directory already");
        }
        return go_on(&image, args.name.clone(), false, args.save_on_signal.zip(args.image.as_deref()));
    }
    let console = Console::new();
    let (sandbox, _first) = image.restore(&Streams::default(), false, |builder| named(builder, args.name.clone()))?;
    let signals = Signals::take().context("take the signals that are meant for the program")?;
    run_in(&sandbox, args, &console, &signals)
}

/// What is said of a sandbox that has ended before its program.
pub fn end_of(sandbox: &Sandbox, followed: anyhow::Result<u8>) -> anyhow::Result<u8> {
    if let (Err(_), Some(why)) = (&followed, sandbox.save_error()) {
        eprintln!("drupe: it ended while it was saved: {why}");
    }
    match followed {
        Err(e) => match e.downcast::<Error>() {
            Ok(Error::Panic(text)) => Ok(panicked(&text)),
            Ok(Error::Expired(_)) => Ok(EXPIRED),
            Ok(e) => Err(e.into()),
            Err(e) => Err(e),
        },
        ok => ok,
    }
}

/// Says why a program was not started; the exit status that tells it.
pub fn unrunnable(program: &str, errno: i32, message: &str) -> u8 {
    eprintln!("drupe: {program}: {message}");
    if errno == libc::ENOENT { 127 } else { 126 }
}

/// Exit status of a sandbox whose time was over, as `timeout(1)` has it.
const EXPIRED: u8 = 124;

fn panicked(text: &str) -> u8 {
    eprintln!("drupe: {text}");
    PANIC_STATUS as u8
}

fn settings(args: &Args) -> anyhow::Result<SandboxBuilder> {
    let network = match args.net {
        Net::None => Network::None,
        Net::Loopback => Network::Loopback,
        Net::Host => Network::Host,
    };
    let jail = match args.jail {
        Layers::Auto => Jail::Auto,
        Layers::Strict => Jail::Strict,
        Layers::Namespaces => Jail::Namespaces,
        Layers::Off => {
            eprintln!("drupe: without a jail, a program that takes over its kernel may do on the host what you may");
            Jail::Off
        }
    };
    let mut builder = named(Sandbox::builder(), args.name.clone())
        .writable_root(args.rw)
        .jail(jail)
        .confined(true)
        .perf_map(args.perf_map)
        .network(network)
        .rewrite(args.rewrite == Switch::On)
        .log_level(args.log.into());
    if let Some(root) = &args.root {
        builder = builder.root(root);
    }
    for bind in &args.bind {
        let (source, target, read_only) = parse_bind(bind)?;
        builder = builder.bind(source, target, read_only);
    }
    for port in &args.publish {
        builder = builder.publish(*port);
    }
    for place in &args.allow {
        builder = builder.allow(place.clone());
    }
    for target in &args.tmpfs {
        builder = builder.tmpfs(target);
    }
    if let Some((uid, gid)) = args.user {
        builder = builder.user(uid, gid);
    }
    if let Some(number) = args.seed {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        builder = builder.seed(seed);
    }
    if let Some(name) = &args.hostname {
        builder = builder.hostname(name);
    }
    if let Some(bytes) = args.memory {
        builder = builder.memory(bytes);
    }
    if let Some(most) = args.pids {
        builder = builder.pids(most);
    }
    if let Some(count) = args.cpus {
        builder = builder.cpus(count);
    }
    if let Some(most) = args.open_files {
        builder = builder.open_files(most);
    }
    if let Some(bytes) = args.file_size {
        builder = builder.file_size(bytes);
    }
    if let Some(limit) = args.timeout {
        builder = builder.timeout(limit);
    }
    if let Some(calls) = &args.strace {
        builder = builder.strace(calls.split(',').filter(|c| !c.is_empty()));
    }
    if let Some(path) = &args.strace_file {
        let file = File::create(path).with_context(|| format!("--strace-file {}", path.display()))?;
        builder = builder.strace_file(file);
        if args.strace.is_none() {
            builder = builder.strace(Vec::<String>::new());
        }
    }
    Ok(builder)
}

fn current_umask() -> u32 {
    use nix::sys::stat::{Mode, umask};
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

/// Passes signals on until the program has ended, but for the one that has an image written.
pub fn follow(
    sandbox: &Sandbox,
    child: &mut Child,
    signals: &Signals,
    saves: Option<(Signal, &Path)>,
) -> anyhow::Result<u8> {
    loop {
        while let Some(change) = child.try_change()? {
            match change {
                Change::Exited(status) => return Ok(shell_status(status) as u8),
                // The person pressed Ctrl-Z: stop as the guest did, so that the shell sees it.
                Change::Stopped(_) => drop(raise(Signal::SIGSTOP)),
            }
        }
        signals.wait(sandbox.as_fd()).context("wait for what the sandbox says")?;
        while let Some(signal) = signals.next() {
            match saves {
                Some((saving, path)) if saving == signal => {
                    // It goes on whether that is possible or not.
                    if let Err(e) = sandbox.save_to_file(path) {
                        eprintln!("drupe: {e}");
                    }
                }
                _ => forward(sandbox, child, signal)?,
            }
        }
    }
}

fn forward(sandbox: &Sandbox, child: &mut Child, signal: Signal) -> anyhow::Result<()> {
    let outcome = match signal {
        // What a terminal sends goes to whoever has the terminal in there.
        _ if is_of_terminal(signal) => sandbox.kill_foreground(signal as i32),
        Signal::SIGCONT => sandbox.kill_all(signal as i32),
        _ => child.signal(signal as i32),
    };
    match outcome {
        // It ended meanwhile: the next look will tell.
        Err(Error::ProcessEnded(_) | Error::Refused { .. }) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cli, Verb};
    use clap::Parser;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_plain_line_means_what_the_parser_says() {
        for line in ["run -- true", "run true", "run -- sh -c ls", "run ls a b", "run -- -x", "run -- a -- b"] {
            let plain = Args::plain(words(line).into_iter());
            let cli = Cli::try_parse_from(words(&format!("drupe {line}"))).unwrap_or_else(|e| panic!("{line}: {e}"));
            let Verb::Run(parsed) = cli.verb else { panic!("{line} is no run") };
            assert_eq!(plain.as_ref(), Some(&*parsed), "{line}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("2", 2000), ("0.5s", 500), ("50ms", 50), ("1m", 60_000), ("2h", 7_200_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "0", "1y", "nan", "inf", "1e40"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn binds_have_two_paths_and_one_option() {
        let bind =
            |text| parse_bind(text).map(|(from, to, ro)| (from.display().to_string(), to.display().to_string(), ro));
        assert_eq!(bind("/a").expect("a bind"), ("/a".into(), "/a".into(), true));
        assert_eq!(bind("/a:rw").expect("a bind"), ("/a".into(), "/a".into(), false));
        assert_eq!(bind("/a:/b:ro").expect("a bind"), ("/a".into(), "/b".into(), true));
        for (text, option) in [("/a:/b:rx", "rx"), ("/a:/b:rw:y", "rw:y"), ("/a:/b:ro:rw", "ro"), ("/a:/b:", "")] {
            let said = bind(text).expect_err(text).to_string();
            assert!(said.contains(&format!("unknown option `{option}`")), "{said}");
        }
        assert!(bind("").is_err() && bind(":/a").is_err());
    }

    #[test]
    fn other_lines_are_the_parsers() {
        for line in ["run", "run --", "run --rw true", "run sh -c ls", "bench", "run --help", "--version", "run ls --"]
        {
            assert_eq!(Args::plain(words(line).into_iter()), None, "{line}");
        }
    }
}
