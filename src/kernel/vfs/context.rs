//! What a task knows of the file system: root, working directory, umask; and its descriptors.

/// Root, working directory and umask (`CLONE_FS` shares it).
pub struct FsContext {}

/// A descriptor table (`CLONE_FILES` shares it).
pub struct FdTable {}
