//! The system call layer: one table, typed handlers, one file per family.
//!
//! A handler decodes, looks up and calls the object; it reads like its man page:
//! `fn sys_dup(cur: &CurrentTask, fd: Fd) -> SysResult<Fd>`.

pub mod admin;
pub mod advice;
pub mod aio;
pub mod args;
pub mod at;
pub mod attr;
pub mod dir;
pub mod epoll;
pub mod event;
pub mod fanotify;
mod fcntl;
pub mod file_attr;
pub mod files;
pub mod futex;
pub mod handle;
pub mod ids;
pub mod inotify;
pub mod kcmp;
pub mod keys;
pub mod landlock;
pub mod limits;
pub mod mem;
pub mod misc;
pub mod mount;
pub mod mount_api;
mod mount_options;
pub mod mqueue;
pub mod msg;
pub mod namespaces;
pub mod numa;
pub mod open;
pub mod owner;
pub mod poll;
pub mod prctl;
mod prctl_mm;
pub mod process;
pub mod process_vm;
pub mod ptrace;
pub mod read_write;
pub mod sched;
pub mod seccomp;
pub mod sem;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod socket_msg;
pub mod splice;
pub mod stat;
pub mod statmount;
pub mod strace;
pub mod syslog;
pub mod system;
pub mod table;
pub mod time;
pub mod timers;
pub mod timex;
pub mod xattr;

pub use args::Fd;
pub use table::{Support, TABLE, dispatch};
