//! An open text file of `/proc`: made anew whenever it is read from its start.

use super::Node;
use super::process::View;
use crate::abi::{Errno, Result, SysResult};
use crate::mm::{IoDst, IoSrc};
use crate::sync::mend::forget_part;
use crate::sync::{Level, Mend, Mutex};
use crate::task::pid::PidNamespace;
use crate::vfs::{FileOps, OpCtx, OpenFile, Whence};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;

/// Longest write that is looked at.
const WRITE_MAX: usize = 4096;

pub struct Text {
    node: Node,
    pids: Arc<PidNamespace>,
    text: Mutex<Made>,
}

/// The text as it was made last.
struct Made(Option<Arc<[u8]>>);

impl Mend for Made {
    fn mend(&mut self) {
        forget_part(&mut self.0, None);
    }
}

impl Text {
    /// `pids` are those that the file shows.
    pub(super) fn new(node: Node, pids: &Arc<PidNamespace>) -> Box<Text> {
        Box::new(Text { node, pids: pids.clone(), text: Mutex::mended(Level::FileData, Made(None)) })
    }

    fn at(&self, ctx: &OpCtx<'_>, pos: u64) -> Result<Arc<[u8]>> {
        if pos > 0
            && let Some(text) = &self.text.lock().0
        {
            return Ok(text.clone());
        }
        // Made with no lock held: it looks at processes.
        let fresh: Arc<[u8]> = Arc::from(self.node.text(&View { ctx, pids: &self.pids, whole: true })?);
        let old = self.text.lock().0.replace(fresh.clone());
        drop(old);
        Ok(fresh)
    }
}

impl FileOps for Text {
    fn read(&self, ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, pos: u64) -> SysResult<usize> {
        let text = self.at(ctx, pos)?;
        let rest = usize::try_from(pos).ok().and_then(|p| text.get(p..)).unwrap_or(&[]);
        if rest.is_empty() { Ok(0) } else { Ok(dst.put(rest)?) }
    }

    fn write(&self, ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        let len = src.left().min(WRITE_MAX);
        let mut bytes = vec![0; len];
        let n = src.take(&mut bytes)?;
        self.node.write(ctx, &bytes[..n])?;
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
