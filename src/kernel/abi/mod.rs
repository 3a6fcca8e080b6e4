//! Data shapes only: errno, system call numbers, flags and `repr(C)` structs, and
//! what both halves read (`layout`, `slot`, `control`). No behaviour lives here.

pub mod broker;
pub mod control;
pub mod errno;
pub mod layout;
pub mod porter;
pub mod saved;
pub mod sigctx;
pub mod slot;
pub mod text;
pub mod vdso;

pub use errno::{Errno, Restart, Result, SysError, SysResult};
pub use linux_raw_sys::general as linux;
