//! The virtual file system: open files, inodes, dentries, mounts, path resolution, descriptors.
//!
//! Dentries form the tree: a child that was found once is found by a hash look-up from then on, and so
//! is a name that is known to be absent. A negative dentry in a directory of an overlay doubles as the
//! whiteout of what lies below. File systems whose names change on their own (`/proc`, writable host
//! trees) are not cached ([`Inode::cacheable`]).

pub mod access;
pub mod acl;
pub mod anon;
pub mod async_io;
pub mod attr;
mod context;
pub mod dentry;
pub mod dirfile;
pub mod dnotify;
pub mod fdtable;
pub mod file;
pub mod handles;
pub mod inode;
pub mod landlock;
pub mod lease;
pub mod locks;
pub mod marks;
pub mod mount;
pub mod names;
pub mod notify;
pub mod open;
pub mod resolve;
pub mod state;
mod trim;
pub mod watch;
pub mod xattr;

pub use anon::anon_file;
pub use context::FsContext;
pub use dentry::Dentry;
pub use fdtable::FdTable;
pub use file::{FileOps, HERE, OpCtx, OpenFile, Whence};
pub use inode::{Directory, FileType, Inode, NewNode, SetAttr, Stat, StatFs, kernel_dev, split_dev};
pub use mount::{Mount, Path};
pub use open::open;
pub use resolve::{Found, Lookup};

#[cfg(test)]
pub(crate) use trim::trim as trim_for_tests;
