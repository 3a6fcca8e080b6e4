//! Compressed images: one zstd frame (RFC 8878) around an image. It is unpacked into memory before anything of it is looked at.

use super::file::Unfinished;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// How hard is tried: the fastest level, which takes about as long as it takes to read and sum up an image.
const LEVEL: i32 = 1;
/// First bytes of a frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether a file or a stream begins like a frame.
pub fn is_packed(begin: &[u8]) -> bool {
    begin.starts_with(&MAGIC)
}

/// A stream that compresses what is written to it, until `finish` ends the frame.
///
/// # Errors
/// The host's.
pub fn packing<'a, W: Write>(out: W) -> io::Result<zstd::Encoder<'a, W>> {
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// Writes the image of `from` to a new file beside `path`.
///
/// # Errors
/// The host's.
pub fn pack(mut from: &File, path: &Path) -> io::Result<(Unfinished, u64)> {
    let to = Unfinished::packed(path)?;
    from.rewind()?;
    let mut encoder = packing(&to.file)?;
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?;
    let len = to.file.metadata()?.len();
    Ok((to, len))
}

/// Unpacks the frame that `from` holds into `to`.
///
/// # Errors
/// The host's; what is wrong with the frame.
pub fn unpack(from: impl Read, mut to: &File) -> io::Result<()> {
    let mut decoder = zstd::Decoder::new(from)?.single_frame();
    io::copy(&mut decoder, &mut to)?;
    // Nothing may follow.
    let mut rest = decoder.finish();
    match rest.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
