//! The tree of names with rename against nested maps, over memory and over a host directory.

use super::tests::{TempDir, View};
use crate::abi::Errno;
use crate::abi::linux::{O_CREAT, O_EXCL, O_WRONLY, RENAME_EXCHANGE, RENAME_NOREPLACE};
use crate::mm::memfile::tests::set_up;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use std::{fs, vec};

/// A file, or a directory with its names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Model {
    File,
    Dir(BTreeMap<&'static str, Model>),
}

type Names = Vec<&'static str>;

#[derive(Clone, Debug)]
enum Op {
    File(Names),
    Dir(Names),
    Unlink(Names),
    Rmdir(Names),
    Rename(Names, Names, u32),
}

fn names() -> impl Strategy<Value = Names> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..5)
}

fn op() -> impl Strategy<Value = Op> {
    let flags = prop_oneof![3 => Just(0), 1 => Just(RENAME_NOREPLACE), 1 => Just(RENAME_EXCHANGE)];
    prop_oneof![
        2 => names().prop_map(Op::File),
        4 => names().prop_map(Op::Dir),
        1 => names().prop_map(Op::Unlink),
        1 => names().prop_map(Op::Rmdir),
        5 => (names(), names(), flags).prop_map(|(from, to, flags)| Op::Rename(from, to, flags)),
    ]
}

impl Model {
    fn is_dir(&self) -> bool {
        matches!(self, Model::Dir(_))
    }

    fn at(&mut self, path: &[&'static str]) -> Result<&mut Model, Errno> {
        let Some((first, rest)) = path.split_first() else { return Ok(self) };
        match self {
            Model::File => Err(Errno::ENOTDIR),
            Model::Dir(names) => names.get_mut(first).ok_or(Errno::ENOENT)?.at(rest),
        }
    }

    /// The names of the directory that holds the last name of `path`.
    fn dir(&mut self, path: &[&'static str]) -> Result<&mut BTreeMap<&'static str, Model>, Errno> {
        match self.at(&path[..path.len() - 1])? {
            Model::File => Err(Errno::ENOTDIR),
            Model::Dir(names) => Ok(names),
        }
    }

    fn make(&mut self, path: &Names, node: Model) -> Result<(), Errno> {
        let names = self.dir(path)?;
        let last = path[path.len() - 1];
        if names.contains_key(last) {
            return Err(Errno::EEXIST);
        }
        names.insert(last, node);
        Ok(())
    }

    fn remove(&mut self, path: &Names, dir: bool) -> Result<(), Errno> {
        let names = self.dir(path)?;
        let last = path[path.len() - 1];
        match (names.get(last).ok_or(Errno::ENOENT)?, dir) {
            (Model::File, true) => return Err(Errno::ENOTDIR),
            (Model::Dir(_), false) => return Err(Errno::EISDIR),
            (Model::Dir(inner), true) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        names.remove(last);
        Ok(())
    }

    fn rename(&mut self, from: &Names, to: &Names, flags: u32) -> Result<(), Errno> {
        let (from_last, to_last) = (from[from.len() - 1], to[to.len() - 1]);
        let source = self.dir(from)?.get(from_last).cloned();
        let target = self.dir(to)?.get(to_last).cloned();
        let source = source.ok_or(Errno::ENOENT)?;
        let exchange = flags & RENAME_EXCHANGE != 0;
        match &target {
            Some(_) if flags & RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            _ => {}
        }
        if source.is_dir() && to[..to.len() - 1].starts_with(from) {
            return Err(Errno::EINVAL);
        }
        if target.as_ref().is_some_and(Model::is_dir) && from[..from.len() - 1].starts_with(to) {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if from == to {
            return Ok(());
        }
        if !exchange {
            match (&source, &target) {
                (Model::Dir(_), Some(Model::File)) => return Err(Errno::ENOTDIR),
                (Model::File, Some(Model::Dir(_))) => return Err(Errno::EISDIR),
                (Model::Dir(_), Some(Model::Dir(inner))) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        self.dir(from)?.remove(from_last);
        if let Some(target) = target.filter(|_| exchange) {
            self.dir(from)?.insert(from_last, target);
        }
        self.dir(to)?.insert(to_last, source);
        Ok(())
    }

    /// Every path with whether it is a directory.
    fn picture(&self, at: &str, out: &mut Vec<(String, bool)>) {
        if let Model::Dir(names) = self {
            for (name, node) in names {
                let path = std::format!("{at}/{name}");
                out.push((path.clone(), node.is_dir()));
                node.picture(&path, out);
            }
        }
    }
}

fn picture(v: &View, at: &str, out: &mut Vec<(String, bool)>) {
    for name in v.list(if at.is_empty() { "/" } else { at }) {
        let path = std::format!("{at}/{name}");
        let place = v.path(&path).expect("it is listed");
        assert_eq!(place.name(&v.fs.root()).expect("short").0, path.as_bytes());
        let is_dir = place.dentry.is_dir();
        out.push((path.clone(), is_dir));
        if is_dir {
            let subdirs = place.inode().stat().expect("attributes").nlink - 2;
            let mut inner = Vec::new();
            picture(v, &path, &mut inner);
            let own = inner.iter().filter(|(p, dir)| *dir && !p[path.len() + 1..].contains('/')).count();
            assert_eq!(subdirs as usize, own, "the links of {path}");
            out.append(&mut inner);
        }
    }
}

fn check(v: &View, mut model: Model, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let path = |names: &Names| std::format!("/{}", names.join("/"));
    for op in ops {
        let (done, want) = match &op {
            Op::File(p) => {
                let made = v.open(&path(p), O_CREAT | O_EXCL | O_WRONLY).map(drop);
                (made, model.make(p, Model::File))
            }
            Op::Dir(p) => (v.mkdir(&path(p)), model.make(p, Model::Dir(BTreeMap::new()))),
            Op::Unlink(p) => (v.remove(&path(p), false), model.remove(p, false)),
            Op::Rmdir(p) => (v.remove(&path(p), true), model.remove(p, true)),
            Op::Rename(from, to, flags) => (v.rename(&path(from), &path(to), *flags), model.rename(from, to, *flags)),
        };
        prop_assert_eq!(done, want, "{:?}", op);
        let (mut is, mut should) = (vec![], vec![]);
        picture(v, "", &mut is);
        model.picture("", &mut should);
        prop_assert_eq!(is, should, "after {:?}", op);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn names_in_memory(ops in proptest::collection::vec(op(), 1..40)) {
        let _one = set_up();
        check(&View::tmpfs(), Model::Dir(BTreeMap::new()), ops)?;
    }

    #[test]
    fn names_over_a_host_directory(ops in proptest::collection::vec(op(), 1..40)) {
        let _one = set_up();
        let dir = TempDir::new();
        fs::create_dir_all(dir.0.join("a/b")).expect("made");
        fs::create_dir(dir.0.join("c")).expect("made");
        fs::write(dir.0.join("a/a"), "").expect("made");
        let inner = Model::Dir(BTreeMap::from([("a", Model::File), ("b", Model::Dir(BTreeMap::new()))]));
        let model = Model::Dir(BTreeMap::from([("a", inner), ("c", Model::Dir(BTreeMap::new()))]));
        check(&View::overlay(&dir), model, ops)?;
    }
}
