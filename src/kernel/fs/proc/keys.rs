//! `/proc/keys` and `/proc/key-users` (`keyrings(7)`).

use crate::cred::keys::{self, Found, Type, perm};
use crate::task::work;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The keys that the caller may look at (`proc_keys_show`).
pub fn keys() -> Vec<u8> {
    let Some(task) = work::running() else { return Vec::new() };
    let cred = &*task.cred();
    let mut out = Vec::new();
    for key in keys::all() {
        let found = Found { possessed: keys::is_possessed(cred, &key), key };
        if found.permits(cred, perm::VIEW).is_err() {
            continue;
        }
        let key = &found.key;
        let (uid, gid, all, left, [revoked, expired, invalidated]) = key.shown();
        let time = match left {
            -1 => String::from("perm"),
            _ if expired => String::from("expd"),
            s @ ..60 => format!("{s}s"),
            s @ ..3600 => format!("{}m", s / 60),
            s @ ..86400 => format!("{}h", s / 3600),
            s => format!("{}d", s / 86400),
        };
        let flag = |set, letter| if set { letter } else { '-' };
        // The search has one of its own.
        let holders = Arc::strong_count(key) - 1;
        let (uid, gid) = (cred.seen_uid(uid) as i32, keys::seen_gid(cred, gid) as i32);
        let (revoked, invalidated) = (flag(revoked, 'R'), flag(invalidated, 'i'));
        let kind = key.kind.name();
        let head = format!(
            "{:08x} I{revoked}-Q--{invalidated} {holders:5} {time:>4} {all:08x} {uid:5} {gid:5} {kind:<9.9} ",
            key.serial
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&key.description);
        let size = match (key.kind, key.size()) {
            (Type::Keyring, 0) => String::from(": empty\n"),
            (_, n) => format!(": {n}\n"),
        };
        out.extend_from_slice(size.as_bytes());
    }
    out
}

/// What keys count for each user (`proc_key_users_show`).
pub fn users() -> Vec<u8> {
    let mut out = String::new();
    for (uid, count) in keys::counts() {
        let (n, bytes, most) = (count.keys, count.bytes, keys::most(uid));
        out += &format!("{uid:5}: {:5} {n}/{n} {n}/{} {bytes}/{}\n", n + 1, most.keys, most.bytes);
    }
    out.into_bytes()
}
