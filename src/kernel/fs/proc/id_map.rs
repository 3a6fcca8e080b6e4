//! `/proc/PID/{uid_map,gid_map,projid_map,setgroups}`: the user namespace of a task, as it was when the file was opened.

use super::process::Entry;
use crate::abi::{Errno, Result, SysResult, linux};
use crate::cred::map::Writer;
use crate::cred::{Cred, Kind, UserNamespace, cap};
use crate::mm::{IoDst, IoSrc};
use crate::task::Task;
use crate::vfs::{FileOps, OpCtx, OpenFile, Whence};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;

/// The most bytes that a write may have, and one more.
const WRITE_MAX: usize = 4096;

struct IdMap {
    ns: Arc<UserNamespace>,
    /// `None` for `setgroups`.
    kind: Option<Kind>,
    opener: Cred,
}

/// Whether an entry is one of these.
pub fn is_one(entry: &Entry) -> bool {
    entry.name == "setgroups" || kind(entry).is_some()
}

fn kind(entry: &Entry) -> Option<Kind> {
    match entry.name {
        "uid_map" => Some(Kind::User),
        "gid_map" => Some(Kind::Group),
        "projid_map" => Some(Kind::Project),
        _ => None,
    }
}

/// Opens an entry of a task.
///
/// # Errors
/// `EACCES` for changing `setgroups` without CAP_SYS_ADMIN in the namespace.
pub fn open(task: &Task, entry: &Entry, ctx: &OpCtx<'_>, flags: u32) -> Result<Box<dyn FileOps>> {
    let ns = task.cred().user_ns.clone();
    let kind = kind(entry);
    let writes = flags & linux::O_ACCMODE != linux::O_RDONLY;
    if kind.is_none() && writes && !ctx.cred.capable_in(&ns, cap::SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    Ok(Box::new(IdMap { ns, kind, opener: ctx.cred.clone() }))
}

impl IdMap {
    fn text(&self) -> Vec<u8> {
        match self.kind {
            Some(kind) => self.ns.shown_map(kind, &self.opener.user_ns),
            None if self.ns.setgroups.load(Relaxed) => b"allow\n".to_vec(),
            None => b"deny\n".to_vec(),
        }
    }
}

impl FileOps for IdMap {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let text = self.text();
        let rest = usize::try_from(pos).ok().and_then(|p| text.get(p..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { Ok(dst.put(rest)?) }
    }

    fn write(&self, ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, pos: u64) -> SysResult<usize> {
        let parent = self.ns.parent.as_ref();
        if let (Some(_), Some(parent)) = (self.kind, parent) {
            let from = &self.opener.user_ns;
            if !Arc::ptr_eq(from, &self.ns) && !Arc::ptr_eq(from, parent) {
                return Err(Errno::EPERM.into());
            }
        } else if self.kind.is_some() {
            return Err(Errno::EPERM.into());
        }
        if pos != 0 || src.left() >= WRITE_MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = vec![0; src.left()];
        let n = src.take(&mut bytes)?;
        match self.kind {
            Some(kind) => self.ns.write_map(kind, Writer { opener: &self.opener, cred: ctx.cred }, &bytes[..n])?,
            None => self.ns.write_setgroups(&bytes[..n])?,
        }
        Ok(n)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek_to(&self, _file: &OpenFile, _whence: Whence, _offset: i64) -> Result<u64> {
        Err(Errno::EINVAL)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
