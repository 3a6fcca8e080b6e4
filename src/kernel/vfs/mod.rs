//! The virtual file system: open files, inodes, dentries, mounts, path resolution, descriptors.

mod context;
pub mod file;
pub mod inode;

pub use context::{FdTable, FsContext};
pub use file::{FileOps, OpCtx, OpenFile, Whence};
pub use inode::{Directory, FileType, Inode, NewNode, SetAttr, Stat, StatFs};
