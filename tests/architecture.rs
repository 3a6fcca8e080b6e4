//! The kernel's rooms have one direction, `unsafe` has its places, and the kernel has no `std`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from top to bottom; rooms on one line do not use each other (see `src/kernel/lib.rs`).
const LINES: &[&[&str]] = &[
    &["boot", "control"],
    &["trap"],
    &["entry"],
    &["syscall"],
    &["fs", "net", "ipc"],
    &["tty"],
    &["task"],
    &["signal", "vfs"],
    &["mm", "cred", "time"],
    &["sync"],
    &["host", "arena"],
    &["arch"],
    &["abi"],
];

/// Rooms whose business needs `unsafe`.
const UNSAFE_ROOMS: &[&str] = &["arch", "host", "arena", "trap", "entry", "sync", "mm", "boot", "control"];
/// Single files elsewhere that need it, with the reason.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("task/", "tasks are bound to slots by raw references"),
    ("signal/mod.rs", "a plain C struct is declared as such"),
    ("fs/memfs/file.rs", "file data lies in the memory file"),
    ("syscall/", "plain C structs are declared as such"),
];

fn kernel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel")
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Every source file of the kernel with its path below `src/kernel`, without its tests.
fn files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    sources(&kernel(), &mut paths);
    paths
        .iter()
        .map(|p| {
            let name = p.strip_prefix(kernel()).expect("below").to_string_lossy().into_owned();
            let text = fs::read_to_string(p).expect("readable");
            (name, text)
        })
        .filter(|(name, _)| !name.ends_with("tests.rs") && !name.contains("_tests"))
        .map(|(name, text)| {
            let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
            (name, text[..end].to_string())
        })
        .collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
}

#[test]
fn use_goes_down_only() {
    let line_of: BTreeMap<&str, usize> =
        LINES.iter().enumerate().flat_map(|(i, rooms)| rooms.iter().map(move |r| (*r, i))).collect();
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let Some((room, _)) = name.split_once('/') else { continue };
        let own = *line_of.get(room).unwrap_or_else(|| panic!("room {room} is not in the list"));
        for (n, line) in code_lines(&text) {
            for part in line.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(&there) = line_of.get(target.as_str()) else { continue };
                if target != room && there <= own {
                    wrong.push(format!("{name}:{}: {room} uses {target}", n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "rooms use what is not below them:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let room = name.split('/').next().unwrap_or_default();
        let allowed = UNSAFE_ROOMS.contains(&room) || UNSAFE_FILES.iter().any(|(f, _)| name.starts_with(f));
        for (n, line) in code_lines(&text) {
            let uses = line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn");
            if uses && !allowed && !line.contains("deny(unsafe") {
                wrong.push(format!("{name}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe outside of its rooms:\n{}", wrong.join("\n"));
}

#[test]
fn every_unsafe_block_says_why() {
    let mut wrong = Vec::new();
    for (name, text) in files() {
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in code_lines(&text) {
            if !line.contains("unsafe {") && !line.contains("unsafe impl") {
                continue;
            }
            let from = n.saturating_sub(6);
            let said = lines[from..=n].iter().any(|l| l.contains("SAFETY"));
            let declaration = line.contains("extern") || lines[from..=n].iter().any(|l| l.contains("macro_rules"));
            if !said && !declaration {
                wrong.push(format!("{name}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe without a SAFETY line:\n{}", wrong.join("\n"));
}

#[test]
fn the_kernel_has_no_std_and_nothing_unfinished() {
    let mut wrong = Vec::new();
    for (name, text) in files() {
        for (n, line) in code_lines(&text) {
            let std = line.contains("std::") && !line.contains("cfg") && name != "arch/slot.rs";
            if std || line.contains("todo!(") || line.contains("unimplemented!(") {
                wrong.push(format!("{name}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "not for the kernel:\n{}", wrong.join("\n"));
}
