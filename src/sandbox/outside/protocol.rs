//! What is said on the socket of a running sandbox, encoded as on the control socket (`channel`).
//!
//! The sandbox says [`FromSandbox::Hello`], the client puts one request, and one answer or a sequence of answers follows.

use drupe_kernel::abi::control::Record;
use serde::{Deserialize, Serialize};

/// Changes with the messages: builds that differ in it do not understand each other.
pub const PROTOCOL: u32 = 3;

/// A program to be run in a running sandbox. Its standard streams come with the message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exec {
    /// As in [`Command`](crate::Command).
    pub program: Vec<u8>,
    /// Arguments behind the zeroth.
    pub args: Vec<Vec<u8>>,
    /// Variables besides those of the sandbox's first program.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; otherwise the first program's.
    pub cwd: Option<Vec<u8>>,
    /// Uid and gid; otherwise the first program's.
    pub user: Option<(u32, u32)>,
    /// Standard input becomes the controlling terminal.
    pub tty: bool,
    /// Which of the standard streams come with the message, in order; the others are closed.
    pub streams: [bool; 3],
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The sandbox's first process.
    Init,
    /// The process with this pid, as the sandbox's first process sees it.
    Process(u32),
    /// Every process.
    All,
}

/// A client's request, and what it says after [`ToSandbox::Exec`].
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSandbox {
    /// Answered by [`FromSandbox::Status`].
    Status,
    /// Answered by [`FromSandbox::Started`] and changes until the end, or by [`FromSandbox::Unrunnable`].
    Exec(Exec),
    /// A signal to the process that was started on this connection.
    Signal(i32),
    /// A signal to the foreground of its terminal.
    Foreground(i32),
    /// Answered by [`FromSandbox::Done`].
    Kill {
        /// Its number.
        signal: i32,
        /// To whom.
        target: Target,
    },
    /// Answered by [`FromSandbox::Done`] when every task stands still.
    Pause,
    /// Answered by [`FromSandbox::Done`].
    Resume,
    /// Write an image to the file that comes along; answered by [`FromSandbox::Saved`].
    Save {
        /// It goes on as soon as it can; otherwise it is paused until [`ToSandbox::End`].
        go_on: bool,
        /// Streams of programs that were started from outside are not in the way.
        detach: bool,
        /// The image that it builds on, by its absolute path.
        parent: Option<Vec<u8>>,
    },
    /// After [`FromSandbox::Saved`]: end it; answered by [`FromSandbox::Done`]. A client that hangs up instead lets it go
    /// on.
    End,
    /// Answered by [`FromSandbox::Exited`] with the first process's status.
    Wait,
    /// Answered by [`FromSandbox::Records`], as often as there are some, and [`FromSandbox::Done`].
    Events {
        /// Until the sandbox ends, not only those that there are.
        follow: bool,
    },
    /// Lets it connect to `HOST[:PORT]`; answered by [`FromSandbox::Done`].
    Allow(String),
    /// Answered by [`FromSandbox::Text`].
    Debug,
}

/// What a sandbox answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSandbox {
    /// Comes first.
    Hello {
        /// Its [`PROTOCOL`].
        protocol: u32,
    },
    /// It is done, or nothing more comes.
    Done,
    /// It is not done.
    Refused {
        /// Error number or 0.
        errno: i32,
        /// For a person.
        message: String,
    },
    /// See [`Status`].
    Status(Status),
    /// A program runs.
    Started {
        /// Its pid in the sandbox.
        pid: u32,
    },
    /// It cannot be run.
    Unrunnable {
        /// Error number.
        errno: i32,
        /// For a person.
        message: String,
    },
    /// It has ended with this wait status.
    Exited(i32),
    /// It was stopped by this signal.
    Stopped(i32),
    /// What has happened.
    Records {
        /// In order.
        list: Vec<Record>,
        /// How many are missing before these.
        lost: u64,
    },
    /// For a person.
    Text(String),
    /// An image of so many bytes was written.
    Saved(u64),
}

/// How a sandbox is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Host process id of its supervisor.
    pub supervisor: u32,
    /// The first program and its arguments; empty before there is one.
    pub command: Vec<String>,
    /// Processes and threads that have not ended.
    pub tasks: u32,
    /// Bytes that its kernel, its files in memory and its programs have.
    pub memory: u64,
    /// Whether it is paused.
    pub paused: bool,
}
