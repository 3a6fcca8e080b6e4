//! A Linux kernel inside the address space of the programs it hosts.
//!
//! ```no_run
//! # fn main() -> drupe::Result {
//! let sandbox = drupe::Sandbox::builder().hostname("box").start()?;
//! sandbox.write_file("/tmp/greeting", "hello\n")?;
//! let output = sandbox.command("cat").arg("/tmp/greeting").output()?;
//! assert_eq!(output.stdout, b"hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! A *drupe* is a fruit that carries its kernel inside. Programs run unmodified, as ordinary host
//! processes, but their system calls are answered by a Linux kernel written in Rust that is mapped
//! into each of them. No virtual machine, no ptrace, no second process to switch to.
//!
//! There are three parties:
//!
//! * **The holder**: the program that links this library. It holds one control socket per sandbox and
//!   nothing else: no descriptor and no memory is shared with guests. (The `drupe` launcher, which has
//!   nothing else to do, is its sandbox's supervisor itself: [`SandboxBuilder::start_here`].)
//! * **The supervisor**: one single-threaded process per sandbox: the holder's program, executed anew. It makes the
//!   *window* (a sparse memory file mapped at a random base), unpacks the embedded kernel image into
//!   it, boots it, and from then on only serves: it reaps host processes, keeps the timer and the
//!   poller, and carries requests into the kernel and events out of it.
//! * **The guests**: guest process = host process, guest thread = host thread. All have the window
//!   mapped shared at the same address, so that the kernel's heap *is* the kernel's state, whoever
//!   runs it. All share one host descriptor table, whose entries belong to kernel objects.
//!
//! A seccomp filter turns each system call of a guest into SIGSYS, whose handler is the kernel's
//! entry; the kernel calls the host through exactly one instruction, the gate, and the filter holds
//! even that to an allowlist. When the holder goes away, however suddenly, the host ends the
//! supervisor, and with it every guest: nothing is left behind.
//!
//! The kernel itself is the crate `drupe_kernel`; `ARCHITECTURE.md` leads through it.
//!
//! # What it protects against
//!
//! The guest shares an address space with its kernel. Against programs that are merely buggy, the
//! emulated kernel isolates. A hostile program can, with effort, reach the gate, and is then held
//! only by the filter's allowlist and the other layers of the jail, which `drupe doctor` lists.

pub mod ffi;
pub mod sandbox;

pub use sandbox::TrappingSite;
pub use sandbox::image::bytes as image_bytes;
pub use sandbox::outside;
pub use sandbox::{
    Allowance, Change, Child, Command, Error, Happening, Image, ImageError, Jail, LogLevel, Network, PsEntry,
    Publication, Result, Sandbox, SandboxBuilder, SaveError, SaveOptions, Stats, Stdio, Streams, Template, Templates,
};
pub use std::process::{ExitStatus, Output};
