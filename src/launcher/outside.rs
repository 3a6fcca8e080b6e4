//! `drupe ps`, `kill`, `pause`, `resume`, `wait`, `events` and `debug`: running sandboxes by their names.

use drupe::outside::{self, Record, Recorded, Remote, Running, Target};
use drupe::sandbox::shell_status;
use drupe_kernel::syscall::table::TABLE;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub struct PsArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Named {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(clap::Args)]
pub struct AllowArgs {
    /// The sandbox, which was started with --allow
    #[arg(value_name = "NAME")]
    name: String,
    /// Names or addresses of the host's network, each with a port or for any
    #[arg(value_name = "HOST[:PORT]", required = true, value_parser = parse_place)]
    places: Vec<String>,
}

fn parse_place(text: &str) -> Result<String, String> {
    text.parse::<drupe::Allowance>().map(|_| text.to_string())
}

#[derive(clap::Args)]
pub struct KillArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
    /// Send it to this process, instead of the first one
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Send it to every process
    #[arg(long, conflicts_with = "pid")]
    all: bool,
}

#[derive(clap::Args)]
pub struct EventsArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// Go on until the sandbox ends
    #[arg(short, long)]
    follow: bool,
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+1`.
fn parse_signal(text: &str) -> Result<i32, String> {
    let unknown = || format!("there is no signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|n| (1..=64).contains(n)).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let real_time = short.strip_prefix("RTMIN").and_then(offset).map(|n| 34 + n);
    let real_time = real_time.or_else(|| short.strip_prefix("RTMAX").and_then(offset).map(|n| 64 + n));
    match real_time {
        Some(number) => Some(number).filter(|n| (34..=64).contains(n)).ok_or_else(unknown),
        None => format!("SIG{short}").parse::<Signal>().map(|s| s as i32).map_err(|_| unknown()),
    }
}

/// Text that came out of a sandbox, for a terminal: a program may put anything into its name.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// A JSON text that a terminal can be given: the encoder leaves some control characters as they are.
fn ascii_safe(value: &Value, pretty: bool) -> serde_json::Result<String> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }?;
    let escaped = |c: char| match c {
        '\n' => c.to_string(),
        c if c.is_control() => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    };
    Ok(text.chars().map(escaped).collect())
}

/// As RFC 3339 has it, in UTC.
pub fn date(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // From days to a date of the Gregorian calendar, in years that begin in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

pub fn size(bytes: u64) -> String {
    match bytes >> 10 {
        kib @ 0..10_000 => format!("{kib}K"),
        kib => format!("{}M", kib >> 10),
    }
}

fn state(running: &Running) -> &'static str {
    match &running.status {
        None => "silent",
        Some(status) if status.paused => "paused",
        Some(_) => "running",
    }
}

fn as_json(running: &Running) -> Value {
    let status = running.status.as_ref();
    json!({
        "name": running.name,
        "pid": status.map_or(running.holder, |s| s.supervisor),
        "holder": running.holder,
        "state": state(running),
        "started": date(running.started),
        "tasks": status.map(|s| s.tasks),
        "memory": status.map(|s| s.memory),
        "command": status.map(|s| &s.command),
    })
}

/// Lists the sandboxes that run.
pub fn ps(args: &PsArgs) -> anyhow::Result<u8> {
    let all = outside::running()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", ascii_safe(&Value::Array(all.iter().map(as_json).collect()), true)?)?;
        return Ok(0);
    }
    let width = all.iter().map(|r| r.name.len()).max().unwrap_or(0).max(4);
    let head = ("NAME", "PID", "STATE", "TASKS", "MEMORY");
    writeln!(
        out,
        "{:<width$} {:>7} {:<7} {:>5} {:>7} {:<24} COMMAND",
        head.0, head.1, head.2, head.3, head.4, "STARTED"
    )?;
    for r in &all {
        let (pid, tasks, memory, command) = match &r.status {
            Some(s) => (s.supervisor, s.tasks.to_string(), size(s.memory), s.command.join(" ")),
            None => (r.holder, "-".into(), "-".into(), String::new()),
        };
        let (command, started) = (plain(&command).replace('\n', "\\n"), date(r.started));
        writeln!(out, "{:<width$} {pid:>7} {:<7} {tasks:>5} {memory:>7} {started:<24} {command}", r.name, state(r))?;
    }
    Ok(0)
}

/// Sends a signal.
pub fn kill(args: &KillArgs) -> anyhow::Result<u8> {
    let target = match args.pid {
        Some(pid) => Target::Process(pid),
        None if args.all => Target::All,
        None => Target::Init,
    };
    Remote::find(&args.name)?.kill(args.signal, target)?;
    Ok(0)
}

/// Suspends every process.
pub fn pause(named: &Named) -> anyhow::Result<u8> {
    Remote::find(&named.name)?.pause()?;
    Ok(0)
}

/// Lets it connect to more places.
pub fn allow(args: &AllowArgs) -> anyhow::Result<u8> {
    let remote = Remote::find(&args.name)?;
    for place in &args.places {
        remote.allow(place)?;
    }
    Ok(0)
}

/// Lets them go on.
pub fn resume(named: &Named) -> anyhow::Result<u8> {
    Remote::find(&named.name)?.resume()?;
    Ok(0)
}

/// Waits for the end, and prints the status as a shell tells it.
pub fn wait(named: &Named) -> anyhow::Result<u8> {
    let status = Remote::find(&named.name)?.wait()?;
    writeln!(std::io::stdout(), "{}", shell_status(status))?;
    Ok(0)
}

/// Prints where every task is.
pub fn debug(named: &Named) -> anyhow::Result<u8> {
    let text = Remote::find(&named.name)?.debug()?;
    write!(std::io::stdout(), "{}", plain(&text))?;
    Ok(0)
}

/// Prints what has happened.
pub fn events(args: &EventsArgs) -> anyhow::Result<u8> {
    let mut events = Remote::find(&args.name)?.events(args.follow)?;
    let mut out = std::io::stdout().lock();
    loop {
        match events.next_records() {
            Ok(Some((list, lost))) => {
                if lost > 0 {
                    writeln!(out, "{}", json!({ "event": "lost", "count": lost }))?;
                }
                for record in &list {
                    writeln!(out, "{}", ascii_safe(&event(record), false)?)?;
                }
                out.flush()?;
            }
            Ok(None) => return Ok(0),
            Err(e) => return Err(e.into()),
        }
    }
}

fn event(record: &Record) -> Value {
    let time = date(UNIX_EPOCH + Duration::from_nanos(record.at));
    let mut event = match &record.what {
        Recorded::Exec { pid, path } => json!({ "event": "exec", "pid": pid, "path": String::from_utf8_lossy(path) }),
        Recorded::Exit { pid, status } => {
            let status = ExitStatus::from_raw(*status);
            match status.signal() {
                Some(signal) => json!({ "event": "exit", "pid": pid, "signal": signal, "core": status.core_dumped() }),
                None => json!({ "event": "exit", "pid": pid, "status": status.code() }),
            }
        }
        Recorded::OutOfMemory { pid, name, bytes } => {
            json!({ "event": "oom", "pid": pid, "name": name, "bytes": bytes })
        }
        Recorded::Unimplemented { pid, call } => {
            let name = TABLE.get(*call as usize).map_or("", |entry| entry.name());
            json!({ "event": "unimplemented", "pid": pid, "call": call, "name": name })
        }
        Recorded::Signal { pid, signal } => json!({ "event": "signal", "to": to(*pid), "signal": signal }),
        Recorded::Paused(true) => json!({ "event": "pause" }),
        Recorded::Paused(false) => json!({ "event": "resume" }),
    };
    event["time"] = Value::String(time);
    event
}

/// Whom a signal from outside was for.
fn to(pid: i32) -> Value {
    match pid {
        0 => json!("all"),
        1.. => json!(pid),
        _ => json!({ "group": pid.unsigned_abs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+1", 35), ("RTMAX", 64)]
        {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIG", "NOPE", "RTMIN+31", "RTMAX+1"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates() {
        let at = |seconds: u64| date(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.007Z");
    }

    #[test]
    fn nothing_that_a_program_says_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\u{9b}c\n"), "a\\u{1b}[2Jb\\u{9b}c\n");
        let text = ascii_safe(&json!({ "path": "\u{1b}x\u{9b}\u{7f}" }), false).expect("encoded");
        assert_eq!(text, r#"{"path":"\u001bx\u009b\u007f"}"#);
    }
}
