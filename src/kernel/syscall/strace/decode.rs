//! What a call's arguments look like to a person: by the table's kinds, and by what is known of
//! single calls.

use super::names::{self, Flags, Signal};
use crate::abi::{Errno, SysResult, linux};
use crate::mm::{UserPtr, UserSlice, UserStr};
use crate::syscall::args::Kind;
use crate::syscall::table::{Support, TABLE};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

/// Most bytes of a buffer that are shown.
const BUFFER: usize = 32;
/// Most strings of an argument list that are shown.
const STRINGS: usize = 16;

/// How one argument is shown.
#[derive(Clone, Copy)]
pub enum Show {
    /// By the table's kind.
    Auto,
    /// Signed.
    Int,
    Octal,
    Hex,
    /// A descriptor number or AT_FDCWD.
    DirFd,
    Text,
    Flags(&'static Flags),
    /// One of these values.
    Choice(&'static Flags),
    Signal,
    /// Bytes that go in; their number is that argument.
    In(usize),
    /// Bytes that come out; their number is the result.
    Out,
    /// A list of strings.
    Strings,
    /// How many strings there are.
    Environment,
    /// Two longs: seconds and the rest.
    Time,
    TimeOut,
    /// A signal set.
    Set,
    /// Two ints that come out.
    Pair,
    /// An int that comes out.
    IntOut,
}

/// The name of a call.
pub struct CallName(pub u64);

impl Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.get(self.0 as usize) {
            Some(e) if !e.name().is_empty() => f.write_str(e.name()),
            _ => write!(f, "syscall_{:#x}", self.0),
        }
    }
}

/// A result with the number of its call.
pub struct Outcome<'a>(pub u64, pub &'a SysResult<u64>);

/// Whether the result is an address.
pub fn gives_address(nr: u64) -> bool {
    matches!(nr as u32, linux::__NR_brk | linux::__NR_mmap | linux::__NR_mremap | linux::__NR_shmat)
}

/// How the arguments of a call are shown, in order.
fn shows(nr: u64) -> Vec<Show> {
    let Some(entry) = TABLE.get(nr as usize) else { return [Show::Hex; 6].to_vec() };
    if let Some(known) = names::call(entry.name()) {
        return known.to_vec();
    }
    if entry.support == Support::None {
        return [Show::Hex; 6].to_vec();
    }
    entry.kinds().iter().map(|_| Show::Auto).collect()
}

fn kind(nr: u64, i: usize) -> Kind {
    TABLE.get(nr as usize).and_then(|e| e.kinds().get(i).copied()).unwrap_or(Kind::Hex)
}

/// The arguments that go in, as text; `None` for those that come out.
pub fn before(nr: u64, args: &[u64; 6]) -> Vec<Option<String>> {
    shows(nr).iter().zip(args).enumerate().map(|(i, (&show, &raw))| text(show, kind(nr, i), raw, args)).collect()
}

/// All arguments as text, once the call has succeeded with a value, or failed.
pub fn after(nr: u64, args: &[u64; 6], asked: Vec<Option<String>>, value: Option<u64>) -> String {
    let shows = shows(nr);
    let mut out = String::new();
    for (i, known) in asked.into_iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let raw = args.get(i).copied().unwrap_or(0);
        let shown = known.or_else(|| came_out(*shows.get(i)?, raw, value?));
        out.push_str(&shown.unwrap_or_else(|| pointer(raw)));
    }
    out
}

fn pointer(raw: u64) -> String {
    if raw == 0 { String::from("NULL") } else { format!("{raw:#x}") }
}

fn text(show: Show, kind: Kind, raw: u64, args: &[u64; 6]) -> Option<String> {
    Some(match show {
        Show::Auto => match kind {
            Kind::Int | Kind::Fd => format!("{}", raw as i32),
            Kind::Unsigned => format!("{raw}"),
            Kind::Hex if raw < 10 => format!("{raw}"),
            Kind::Hex => format!("{raw:#x}"),
            Kind::Str => string(raw),
            Kind::Ptr => pointer(raw),
        },
        // Upper halves are left out by callers of calls that take an int.
        Show::Int => format!("{}", u32::try_from(raw).map_or(raw as i64, |low| i64::from(low as i32))),
        Show::Octal => format!("0{:o}", raw as u32),
        Show::Hex => format!("{raw:#x}"),
        Show::DirFd if raw as i32 == linux::AT_FDCWD => String::from("AT_FDCWD"),
        Show::DirFd => format!("{}", raw as i32),
        Show::Text => string(raw),
        Show::Flags(names) => names.all(u64::from(raw as u32)),
        Show::Choice(names) => names.one(u64::from(raw as u32)),
        Show::Signal => format!("{}", Signal(raw)),
        Show::In(len) => bytes(raw, args.get(len).copied().unwrap_or(0)),
        Show::Strings => strings(raw),
        Show::Environment => format!("{} /* {} vars */", pointer(raw), count(raw)),
        Show::Time => time(raw),
        Show::Set => set(raw),
        Show::Out | Show::TimeOut | Show::Pair | Show::IntOut => return None,
    })
}

fn came_out(show: Show, raw: u64, value: u64) -> Option<String> {
    if raw == 0 {
        return None;
    }
    match show {
        Show::Out => Some(bytes(raw, value)),
        Show::TimeOut => Some(time(raw)),
        Show::Pair => UserPtr::<[i32; 2]>::new(raw).read().ok().map(|[a, b]| format!("[{a}, {b}]")),
        Show::IntOut => UserPtr::<i32>::new(raw).read().ok().map(|v| format!("[{v}]")),
        _ => None,
    }
}

/// Bytes in quotes, as C writes them.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &b in bytes {
        match b {
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(b));
            }
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "\\x{b:02x}");
            }
        }
    }
    out.push('"');
    out
}

fn string(addr: u64) -> String {
    UserStr(addr).read(4096, Errno::ENAMETOOLONG).map_or_else(|_| pointer(addr), |s| quoted(&s))
}

fn bytes(addr: u64, len: u64) -> String {
    let shown = len.min(BUFFER as u64) as usize;
    match UserSlice::<u8>::new(addr, shown).read_vec() {
        Ok(b) if addr != 0 => quoted(&b) + if len > BUFFER as u64 { "..." } else { "" },
        _ => pointer(addr),
    }
}

/// The pointer at place `i` of a list that ends with null.
fn item(list: u64, i: usize) -> Option<u64> {
    UserPtr::<u64>::new(list).add(i).read().ok().filter(|&p| p != 0)
}

fn strings(list: u64) -> String {
    let mut out = String::from("[");
    for i in 0..=STRINGS {
        let Some(at) = item(list, i) else { break };
        out.push_str(if i > 0 { ", " } else { "" });
        out.push_str(&if i < STRINGS { string(at) } else { String::from("...") });
    }
    out + "]"
}

fn count(list: u64) -> usize {
    const MOST: usize = 10_000;
    (0..MOST).take_while(|&i| item(list, i).is_some()).count()
}

fn time(addr: u64) -> String {
    match UserPtr::<[i64; 2]>::new(addr).read() {
        Ok([sec, rest]) if addr != 0 => format!("{{{sec}, {rest}}}"),
        _ => pointer(addr),
    }
}

fn set(addr: u64) -> String {
    let Ok(mask) = UserPtr::<u64>::new(addr).read() else { return pointer(addr) };
    if addr == 0 {
        return pointer(0);
    }
    if mask.count_ones() > 40 {
        return format!("~{}", members(!mask));
    }
    members(mask)
}

fn members(mask: u64) -> String {
    let mut out = String::from("[");
    for sig in (1..=64).filter(|s| mask >> (s - 1) & 1 != 0) {
        let _ = write!(out, "{}{}", if out.len() > 1 { " " } else { "" }, Signal(sig));
    }
    out + "]"
}
