//! Writing the maps of a user namespace (`user_namespaces(7)`, `map_write` in `kernel/user_namespace.c`).

use super::ns::{Extent, Kind, UserNamespace};
use super::{Cred, cap};
use crate::abi::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

/// Most lines of a map (`UID_GID_MAP_MAX_EXTENTS`).
const LINES: usize = 340;

/// Who writes a map: with the credentials that the file was opened with, and those of the moment.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Of the open.
    pub opener: &'a Cred,
    /// Of the write.
    pub cred: &'a Cred,
}

impl Kind {
    /// The capability over the parent that lets any ids be mapped; none for projects, which anybody may map.
    fn capability(self) -> Option<u32> {
        match self {
            Kind::User => Some(cap::SETUID),
            Kind::Group => Some(cap::SETGID),
            Kind::Project => None,
        }
    }
}

/// A decimal number that ends at a blank or at the end, what follows it, and whether there was a blank
/// (`simple_strtoul`: no digits are zero, what is too large wraps).
fn number(text: &[u8]) -> (u64, &[u8]) {
    let start = text.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(text.len());
    let text = &text[start..];
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let value = text[..end].iter().fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
    (value, &text[end..])
}

/// A line: first id inside, first id outside, as the parent knows it, and how many.
fn line(text: &[u8]) -> Result<Extent> {
    let blank = |rest: &[u8]| rest.first().is_some_and(u8::is_ascii_whitespace);
    let (inside, rest) = number(text);
    if !blank(rest) {
        return Err(Errno::EINVAL);
    }
    let (outside, rest) = number(rest);
    if !blank(rest) {
        return Err(Errno::EINVAL);
    }
    let (count, rest) = number(rest);
    if rest.iter().any(|b| !b.is_ascii_whitespace()) {
        return Err(Errno::EINVAL);
    }
    let e = Extent { inside: inside as u32, outside: outside as u32, count: count as u32 };
    let ends = |first: u32| first != u32::MAX && first.wrapping_add(e.count) > first;
    if ends(e.inside) && ends(e.outside) { Ok(e) } else { Err(Errno::EINVAL) }
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    a.0 <= b.0 + (b.1 - 1) && b.0 <= a.0 + (a.1 - 1)
}

/// All lines of a map.
fn parse(text: &[u8]) -> Result<Vec<Extent>> {
    let text = &text[..text.iter().position(|&b| b == 0).unwrap_or(text.len())];
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut all: Vec<Extent> = Vec::new();
    for text in text.split(|&b| b == b'\n') {
        let e = line(text)?;
        let clash = |o: &Extent| {
            overlap((o.inside, o.count), (e.inside, e.count)) || overlap((o.outside, o.count), (e.outside, e.count))
        };
        if all.len() == LINES || all.iter().any(clash) {
            return Err(Errno::EINVAL);
        }
        all.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        all.push(e);
    }
    Ok(all)
}

impl UserNamespace {
    /// The ids of the initial namespace for a range of this one's; `None` if it is not mapped by one line.
    fn range(&self, kind: Kind, first: u32, count: u32) -> Option<u32> {
        let map = self.map(kind);
        let inside = |e: &&Extent| first >= e.inside && first - e.inside + (count - 1) < e.count;
        let e = map
            .iter()
            .find(|e| first >= e.inside && u64::from(first - e.inside) + u64::from(count) <= u64::from(e.count));
        e.filter(inside).map(|e| e.outside + (first - e.inside))
    }

    /// Whether the parent's root may be mapped (`verify_root_map`).
    fn may_map_root(self: &Arc<Self>, parent: &Arc<UserNamespace>, who: Writer<'_>, map: &[Extent]) -> bool {
        if !map.iter().any(|e| e.outside == 0) {
            return true;
        }
        if Arc::ptr_eq(self, &who.opener.user_ns) {
            return self.parent_could_setfcap;
        }
        who.opener.capable_in(parent, cap::SETFCAP)
    }

    /// Whether this map may be written (`new_idmap_permitted`).
    fn may_map(self: &Arc<Self>, kind: Kind, who: Writer<'_>, map: &[Extent]) -> bool {
        let Some(parent) = &self.parent else { return false };
        if kind == Kind::User && !self.may_map_root(parent, who, map) {
            return false;
        }
        let opener = who.opener;
        if let [Extent { outside, count: 1, .. }] = map
            && self.owner.0 == opener.euid
        {
            let own = parent.outside(kind, *outside);
            let free = match kind {
                Kind::User => own == Some(opener.euid),
                Kind::Group => !self.setgroups.load(Relaxed) && own == Some(opener.egid),
                Kind::Project => false,
            };
            if free {
                return true;
            }
        }
        let Some(needed) = kind.capability() else { return true };
        who.cred.capable_in(parent, needed) && opener.capable_in(parent, needed)
    }

    /// Writes the map of a kind of ids, once and for all.
    ///
    /// # Errors
    /// `EPERM` for the initial namespace, a second time, without privilege, for ids that the parent does not know;
    /// `EINVAL` for what is no map.
    pub fn write_map(self: &Arc<Self>, kind: Kind, who: Writer<'_>, text: &[u8]) -> Result {
        let parent = self.parent.as_ref().ok_or(Errno::EPERM)?;
        let from = &who.opener.user_ns;
        if !Arc::ptr_eq(from, self) && !Arc::ptr_eq(from, parent) {
            return Err(Errno::EPERM);
        }
        if text.len() >= 4096 {
            return Err(Errno::EINVAL);
        }
        let _writing = self.writing.lock();
        if !self.map(kind).is_empty() {
            return Err(Errno::EPERM);
        }
        if kind != Kind::Project && !who.opener.capable_in(self, cap::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let mut map = parse(text)?;
        if !self.may_map(kind, who, &map) {
            return Err(Errno::EPERM);
        }
        for e in &mut map {
            e.outside = parent.range(kind, e.outside, e.count).ok_or(Errno::EPERM)?;
        }
        let map: Arc<[Extent]> = map.into();
        *self.maps[kind as usize].lock() = map;
        Ok(())
    }

    /// The map of a kind of ids as `reader` sees it.
    pub fn shown_map(self: &Arc<Self>, kind: Kind, reader: &Arc<UserNamespace>) -> Vec<u8> {
        let lower = match &reader.parent {
            Some(parent) if Arc::ptr_eq(self, reader) => parent,
            _ => reader,
        };
        let mut out = alloc::string::String::new();
        for e in self.map(kind).iter() {
            let outside = lower.inside(kind, e.outside).unwrap_or(u32::MAX);
            let _ = writeln!(out, "{:10} {outside:10} {:10}", e.inside, e.count);
        }
        out.into_bytes()
    }

    /// Writes `/proc/PID/setgroups`.
    ///
    /// # Errors
    /// `EINVAL` for another word; `EPERM` for `allow` after `deny`, and for `deny` once groups are mapped.
    pub fn write_setgroups(&self, text: &[u8]) -> Result {
        if text.len() >= 8 {
            return Err(Errno::EINVAL);
        }
        let (allow, rest) = match (text.strip_prefix(b"allow"), text.strip_prefix(b"deny")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(Errno::EINVAL),
        };
        let rest = &rest[..rest.iter().position(|&b| b == 0).unwrap_or(rest.len())];
        if rest.iter().any(|b| !b.is_ascii_whitespace()) {
            return Err(Errno::EINVAL);
        }
        let _writing = self.writing.lock();
        if allow {
            return if self.setgroups.load(Relaxed) { Ok(()) } else { Err(Errno::EPERM) };
        }
        if !self.map(Kind::Group).is_empty() {
            return Err(Errno::EPERM);
        }
        self.setgroups.store(false, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Cred {
        Cred::new(uid, uid, Vec::new())
    }

    fn inside(maker: &Cred) -> Cred {
        let mut cred = maker.clone();
        cred.enter(UserNamespace::child(maker).unwrap());
        cred
    }

    fn write(cred: &Cred, by: &Cred, kind: Kind, text: &str) -> Result {
        cred.user_ns.write_map(kind, Writer { opener: by, cred: by }, text.as_bytes())
    }

    #[test]
    fn lines() {
        let at = |inside, outside, count| Extent { inside, outside, count };
        assert_eq!(parse(b"0 1000 1"), Ok(alloc::vec![at(0, 1000, 1)]));
        assert_eq!(parse(b"  0\t1000  1 \n 5 6 7\n"), Ok(alloc::vec![at(0, 1000, 1), at(5, 6, 7)]));
        let bad = ["", "\n", "0", "0 1", "0 1 0", "0 1 2 3", "a 1 1", "0 1 1\n\n", "4294967295 0 1", "1 4294967295 1"];
        for text in bad {
            assert_eq!(parse(text.as_bytes()), Err(Errno::EINVAL), "{text:?}");
        }
        for text in ["0 0 10\n9 100 1", "0 0 10\n100 9 1", "4294967290 0 10"] {
            assert_eq!(parse(text.as_bytes()), Err(Errno::EINVAL), "{text:?}");
        }
        let many =
            |n: u32| (0..n).map(|i| alloc::format!("{} {} 1\n", 2 * i, 2 * i)).collect::<alloc::string::String>();
        assert!(parse(many(340).as_bytes()).is_ok() && parse(many(341).as_bytes()).is_err());
    }

    #[test]
    fn a_user_maps_only_himself() {
        let maker = user(1000);
        let cred = inside(&maker);
        assert_eq!(write(&cred, &cred, Kind::User, "0 1001 1"), Err(Errno::EPERM));
        assert_eq!(write(&cred, &cred, Kind::User, "0 1000 2"), Err(Errno::EPERM));
        assert_eq!(write(&cred, &user(1001), Kind::User, "0 1000 1"), Err(Errno::EPERM));
        assert_eq!(write(&cred, &cred, Kind::Group, "0 1000 1"), Err(Errno::EPERM));
        assert_eq!(write(&cred, &cred, Kind::User, "0 1000 1"), Ok(()));
        assert_eq!(write(&cred, &cred, Kind::User, "0 1000 1"), Err(Errno::EPERM));
        assert_eq!(cred.user_ns.write_setgroups(b"denyx"), Err(Errno::EINVAL));
        assert_eq!(cred.user_ns.write_setgroups(b"deny\n"), Ok(()));
        assert_eq!(cred.user_ns.write_setgroups(b"allow"), Err(Errno::EPERM));
        assert_eq!(write(&cred, &cred, Kind::Group, "0 1000 1"), Ok(()));
        assert!(!cred.user_ns.may_setgroups());
        assert_eq!((cred.seen_uid(1000), cred.seen_uid(0)), (0, super::super::ns::OVERFLOW));
        assert_eq!(cred.user_ns.meant(Kind::User, 1), Err(Errno::EINVAL));
        assert!(cred.capable_over(cap::CHOWN, 1000, 1000) && !cred.capable_over(cap::CHOWN, 0, 0));
        assert!(!cred.capable(cap::CHOWN) && maker.capable_in(&cred.user_ns, cap::CHOWN));
        assert!(!cred.capable_in(UserNamespace::initial(), cap::CHOWN) && maker.covers(&cred));
    }

    #[test]
    fn root_maps_anybody_and_maps_nest() {
        let root = user(0);
        let cred = inside(&root);
        assert_eq!(write(&cred, &root, Kind::User, "0 100000 65536"), Ok(()));
        let outer = Cred { euid: 100_005, egid: 0, ..cred.clone() };
        let cred = Cred { euid: 100_005, ..cred };
        assert_eq!(UserNamespace::child(&cred).map(|_| ()), Err(Errno::EPERM), "its group is not mapped");
        assert_eq!(write(&outer, &root, Kind::Group, "0 0 1"), Ok(()));
        let nested = inside(&outer);
        assert_eq!(write(&nested, &outer, Kind::User, "7 70000 1"), Err(Errno::EPERM));
        assert_eq!(write(&nested, &outer, Kind::User, "7 5 1"), Ok(()));
        assert_eq!(nested.user_ns.outside(Kind::User, 7), Some(100_005));
        let shown =
            |reader: &Cred| alloc::string::String::from_utf8(nested.user_ns.shown_map(Kind::User, &reader.user_ns));
        assert_eq!(shown(&nested).unwrap().split_whitespace().collect::<Vec<_>>(), ["7", "5", "1"]);
        assert_eq!(shown(&root).unwrap().split_whitespace().collect::<Vec<_>>(), ["7", "100005", "1"]);
    }

    #[test]
    fn namespaces_nest_33_deep() {
        let mut cred = user(0);
        for level in 0..33 {
            let next = UserNamespace::child(&cred).unwrap();
            let who = Writer { opener: &cred, cred: &cred };
            next.write_map(Kind::User, who, b"0 0 1").unwrap();
            next.write_map(Kind::Group, who, b"0 0 1").unwrap();
            assert_eq!(next.level, level + 1);
            cred.enter(next);
        }
        assert_eq!(UserNamespace::child(&cred).map(|_| ()), Err(Errno::ENOSPC));
    }
}
