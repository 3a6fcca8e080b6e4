//! Character devices of `/dev`.

use crate::abi::linux::O_NOCTTY;
use crate::abi::{Errno, Result, SysResult};
use crate::cred::Cred;
use crate::host::random;
use crate::mm::{IoDst, IoSrc, MapWish, Mapped, UserPtr};
use crate::task::signal_pending;
use crate::tty;
use crate::tty::host::HostTerminal;
use crate::tty::pty::Pty;
use crate::vfs::inode::NewNode;
use crate::vfs::{Dentry, FileOps, FileType, OpCtx, OpenFile, Path};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// Bits of randomness that there are: the pool is always full (`random(4)`).
const RNDGETENTCNT: u32 = 0x8004_5200;

/// Device numbers of major 1 and 5 (`Documentation/admin-guide/devices.txt`).
const NODES: [(&str, u32, u32, u32); 7] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
    ("ptmx", 5, 2, 0o666),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Null,
    Zero,
    Full,
    Random,
}

/// Opens the device with this number, whose node lies at `path`.
///
/// # Errors
/// `ENXIO` if there is none, `EIO` for the slave of a pty anywhere but in its devpts.
pub fn open_device(ctx: &OpCtx<'_>, rdev: u64, path: &Path, flags: u32) -> Result<Box<dyn FileOps>> {
    let device = match rdev {
        0x103 => Device::Null,
        0x105 => Device::Zero,
        0x107 => Device::Full,
        0x108 | 0x109 => Device::Random,
        0x500 => return open_controlling(ctx),
        0x502 => return super::devpts::open_ptmx(ctx, path),
        _ if (136..144).contains(&(rdev >> 8 & 0xfff)) => return Err(Errno::EIO),
        _ => return super::hostfd::open_terminal(ctx, rdev, flags),
    };
    Ok(Box::new(device))
}

/// `/dev/tty`: the caller's controlling terminal.
fn open_controlling(ctx: &OpCtx<'_>) -> Result<Box<dyn FileOps>> {
    let terminal = tty::controlling(ctx).ok_or(Errno::ENXIO)?;
    let any = terminal.as_any();
    if let Some(pty) = any.downcast_ref::<Pty>() {
        return pty.open_slave(ctx, O_NOCTTY);
    }
    let host = any.downcast_ref::<HostTerminal>().ok_or(Errno::ENXIO)?;
    super::hostfd::open_terminal(ctx, host.host_device, O_NOCTTY)
}

/// Fills an empty directory with the standard nodes and links.
///
/// # Errors
/// Those of making a file.
pub fn populate(dev: &Arc<Dentry>) -> Result {
    let cred = Cred::new(0, 0, Vec::new());
    let ctx = OpCtx { cred: &cred, tgid: 0, tid: 0, fsize_limit: u64::MAX, umask: 0 };
    for (name, major, minor, mode) in NODES {
        let node = NewNode::Node(FileType::Char, super::memfs::makedev(major, minor));
        dev.create(&ctx, name.as_bytes(), node, mode)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        dev.create(&ctx, name.as_bytes(), NewNode::Symlink(target.as_bytes()), 0o777)?;
    }
    for (name, mode) in [("shm", 0o1777), ("pts", 0o755)] {
        dev.create(&ctx, name.as_bytes(), NewNode::Dir, mode)?;
    }
    Ok(())
}

/// Moves `n` bytes in pieces of at most `piece` by `put`, until a signal waits or it puts less.
fn in_pieces(n: usize, piece: usize, mut put: impl FnMut(usize) -> Result<usize>) -> SysResult<usize> {
    let mut done = 0;
    while done < n {
        let want = piece.min(n - done);
        match put(want) {
            Ok(k) => {
                done += k;
                if k < want || done < n && signal_pending() {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// Fills `dst` with random bytes, or as much of it as comes before a signal that waits: a page at least
/// (`random(4)`).
///
/// # Errors
/// `EFAULT`.
pub fn random_bytes(dst: &mut IoDst<'_>) -> SysResult<usize> {
    in_pieces(dst.left(), 4096, |n| {
        let mut done = 0;
        let mut block = [0u8; 256];
        while done < n {
            let k = (n - done).min(block.len());
            random::fill(&mut block[..k]);
            match dst.put(&block[..k]) {
                Ok(put) => {
                    done += put;
                    if put < k {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    })
}

impl FileOps for Device {
    fn read(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, dst: &mut IoDst<'_>, _pos: u64) -> SysResult<usize> {
        let n = dst.left();
        match self {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => in_pieces(n, 64 << 10, |k| dst.put_zeros(k)),
            Device::Random => random_bytes(dst),
        }
    }

    fn write(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, src: &mut IoSrc<'_>, _pos: u64) -> SysResult<usize> {
        match self {
            Device::Full => Err(Errno::ENOSPC.into()),
            Device::Random => {
                let mut sink = [0u8; 256];
                let mut done = 0;
                while src.left() > 0 {
                    let n = src.left().min(sink.len());
                    match src.take(&mut sink[..n]) {
                        Ok(n) => done += n,
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(e.into()),
                    }
                }
                Ok(done)
            }
            _ => {
                let n = src.left();
                src.limit(0);
                Ok(n)
            }
        }
    }

    fn ioctl(&self, _ctx: &OpCtx<'_>, _file: &OpenFile, request: u32, arg: u64) -> SysResult<u64> {
        match (self, request) {
            (Device::Random, RNDGETENTCNT) => UserPtr::<i32>::new(arg).write(256).map(|()| 0).map_err(Into::into),
            (Device::Random, _) => Err(Errno::EINVAL.into()),
            _ => Err(Errno::ENOTTY.into()),
        }
    }

    /// There is an offset, which never moves: reads and writes need not lock it.
    fn host_seek(&self, _whence: u32, _offset: i64) -> Option<Result<u64>> {
        Some(Ok(0))
    }

    fn mappable(&self, _wish: &mut MapWish) -> Result<Mapped> {
        if *self == Device::Zero { Ok(None) } else { Err(Errno::ENODEV) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
