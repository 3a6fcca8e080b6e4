//! `drupe checkpoint` and `drupe restore`.

use crate::closed;
use crate::run::{end_of, follow};
use crate::signals::Signals;
use anyhow::Context;
use drupe::outside::Remote;
use drupe::sandbox::console::Console;
use drupe::{Image, SandboxBuilder, SaveOptions, Stdio, Streams};
use nix::sys::signal::Signal;
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct CheckpointArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// The image, which is there once it is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Let the sandbox go on afterwards
    #[arg(long)]
    leave_running: bool,
    /// Write only what the image of an earlier instant does not have; that must stay where it is
    #[arg(long, value_name = "IMAGE")]
    parent: Option<PathBuf>,
    /// Compress it (zstd): it takes less room, and longer to restore
    #[arg(long)]
    compress: bool,
    /// Let programs of `drupe exec` be saved, too: in the restored sandbox nobody is at the other end of their streams
    #[arg(long)]
    detach: bool,
}

#[derive(clap::Args)]
pub struct SquashArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Where the new one is written, which may be the same
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Compress it (zstd)
    #[arg(long)]
    compress: bool,
}

#[derive(clap::Args)]
pub struct RestoreArgs {
    /// The image
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Give the sandbox a name by which other commands reach it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take files that are only read as they are now, though they were others
    #[arg(long)]
    allow_changed: bool,
    /// Standard input of the restored program, as a shell's `<`; otherwise this command's
    #[arg(long, value_name = "PATH")]
    stdin: Option<PathBuf>,
    /// Its standard output, as a shell's `>`
    #[arg(long, value_name = "PATH")]
    stdout: Option<PathBuf>,
    /// Its standard error, as a shell's `2>`
    #[arg(long, value_name = "PATH")]
    stderr: Option<PathBuf>,
    /// A file that takes the place of one that the sandbox had open (NAME is its path), or of a stream of a program of
    /// `drupe exec` that was saved with --detach (`1.stdout`)
    #[arg(long, value_name = "NAME=PATH")]
    fd: Vec<String>,
}

#[derive(clap::Args)]
pub struct CloneArgs {
    /// The sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// Give the copy a name by which other commands reach it
    #[arg(long = "name", value_name = "NAME")]
    as_name: Option<String>,
}

/// Saves a running sandbox.
pub fn checkpoint(args: &CheckpointArgs) -> anyhow::Result<u8> {
    let options = SaveOptions { compress: args.compress, parent: args.parent.clone(), detach: args.detach };
    Remote::find(&args.name)?.save(&args.file, args.leave_running, &options)?;
    Ok(0)
}

/// Makes of an image that builds on others one that does not.
pub fn squash(args: &SquashArgs) -> anyhow::Result<u8> {
    Image::open(&args.image)?.squash(&args.file, args.compress)?;
    Ok(0)
}

/// Goes on with a saved one, and returns the exit status that tells the fate of its first program.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<u8> {
    let mut image = Image::open(&args.file)?;
    for pair in &args.fd {
        let (name, path) = pair.split_once('=').with_context(|| format!("--fd {pair}: no `=` in it"))?;
        image.hand_in_file(name, path)?;
    }
    let stream = |path: &Option<PathBuf>, number: u8| -> anyhow::Result<Stdio> {
        let Some(path) = path else { return Ok(closed::stream(number)) };
        let opened = if number == 0 { File::open(path) } else { File::create(path) };
        Ok(opened.with_context(|| path.display().to_string())?.into())
    };
    let streams =
        Streams { stdin: stream(&args.stdin, 0)?, stdout: stream(&args.stdout, 1)?, stderr: stream(&args.stderr, 2)? };
    go_on_with(&image, &streams, args.name.clone(), args.allow_changed, None)
}

/// Goes on with a copy of a running one, likewise.
pub fn clone(args: &CloneArgs) -> anyhow::Result<u8> {
    go_on(&Remote::find(&args.name)?.image()?, args.as_name.clone(), false, None)
}

/// Lets the sandbox of an image go on, and follows its first program.
pub fn go_on(
    image: &Image,
    name: Option<String>,
    allow_changed: bool,
    saves: Option<(Signal, &Path)>,
) -> anyhow::Result<u8> {
    let streams = Streams { stdin: closed::stream(0), stdout: closed::stream(1), stderr: closed::stream(2) };
    go_on_with(image, &streams, name, allow_changed, saves)
}

fn go_on_with(
    image: &Image,
    streams: &Streams,
    name: Option<String>,
    allow_changed: bool,
    saves: Option<(Signal, &Path)>,
) -> anyhow::Result<u8> {
    let _console = Console::new();
    let (sandbox, mut child) = image.restore(streams, allow_changed, |builder| named(builder, name))?;
    let signals = Signals::take().context("take the signals that are meant for the program")?;
    end_of(&sandbox, follow(&sandbox, &mut child, &signals, saves))
}

/// Gives a sandbox a name, if there is one.
pub fn named(builder: SandboxBuilder, name: Option<String>) -> SandboxBuilder {
    match name {
        Some(name) => builder.name(name),
        None => builder,
    }
}
