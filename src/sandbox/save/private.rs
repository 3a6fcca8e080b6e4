//! Writes what address spaces have of their own.

use super::error::{SaveError, Saved};
use super::format::Writer;
use super::process::{Present, Process};
use super::write::{Memory, PIECE, Placed, SavedSpace};
use crate::sandbox::without_signals;
use drupe_kernel::abi::saved::{Fill, Space};
use std::cell::Cell;
use std::io::{self, Write};
use std::sync::mpsc::sync_channel;
use std::thread;

/// From how many bytes on another thread reads what this one writes.
const MUCH: u64 = 8 << 20;
/// Pieces that have been read and not yet written, at most.
const AHEAD: usize = 4;

/// Pages of a mapping.
struct Run {
    /// Index of the mapping.
    map: usize,
    pages: Present,
    /// It may end earlier, where its file does.
    open: bool,
}

/// Memory that was read, of one mapping after the other.
#[derive(Default)]
struct Piece {
    parts: Vec<Part>,
    bytes: Vec<u8>,
}

/// So many of a piece's bytes.
struct Part {
    map: usize,
    at: u64,
    len: usize,
}

/// Writes what an address space has of its own.
pub fn private<W: Write>(memory: &Memory, writer: &mut Writer<'_, W>) -> Saved<SavedSpace> {
    let Memory { process, pids, maps, .. } = memory;
    let runs = runs(process, maps)?;
    // None reaches from one mapping into the next.
    let mut fills: Vec<Vec<Fill>> = vec![Vec::new(); maps.len()];
    let mut write = |piece: &Piece| {
        let mut rest = &piece.bytes[..];
        for part in &piece.parts {
            let (bytes, after) = rest.split_at(part.len);
            let zeros = maps[part.map].map.fd < 0;
            writer.pages(part.at, bytes, zeros, &mut fills[part.map]).map_err(SaveError::Write)?;
            rest = after;
        }
        Ok(())
    };
    if runs.iter().map(|run| run.pages.end - run.pages.start).sum::<u64>() < MUCH {
        let spare = Cell::new(Piece::default());
        read(process, &runs, &|| spare.take(), &mut |piece| {
            write(&piece)?;
            spare.set(piece);
            Ok(true)
        })?;
    } else {
        beside(process, &runs, &mut write)?;
    }
    let of_files = maps.iter().map(|m| m.of_file).collect();
    let space = Space {
        host_pid: pids[0],
        sharers: pids[1..].to_vec(),
        maps: maps.iter().map(|m| m.map.clone()).collect(),
        fills: fills.concat(),
    };
    Ok(SavedSpace { space, of_files })
}

/// What there is to be read of these mappings.
fn runs(process: &Process, maps: &[Placed]) -> Saved<Vec<Run>> {
    let mut all = Vec::new();
    for (map, Placed { map: m, whole, .. }) in maps.iter().enumerate().filter(|(_, m)| !m.map.shared) {
        if *whole {
            all.push(Run { map, pages: Present { start: m.start, end: m.end }, open: true });
        } else {
            let own = process.own_pages(m.start, m.end)?;
            all.extend(own.into_iter().map(|pages| Run { map, pages, open: false }));
        }
    }
    Ok(all)
}

/// Reads runs, in pieces that are given to `give` until that wants no more; `spare` is what a piece is made of.
fn read(
    process: &Process,
    runs: &[Run],
    spare: &dyn Fn() -> Piece,
    give: &mut dyn FnMut(Piece) -> Saved<bool>,
) -> Saved {
    let empty = || {
        let mut piece = spare();
        piece.parts.clear();
        piece.bytes.clear();
        piece
    };
    let mut piece = empty();
    for run in runs {
        let mut at = run.pages.start;
        while at < run.pages.end {
            let done = piece.bytes.len();
            let len = (run.pages.end - at).min((PIECE - done) as u64) as usize;
            piece.bytes.resize(done + len, 0);
            match process.read(at, &mut piece.bytes[done..]) {
                Ok(n) if n == len => {}
                _ if run.open => {
                    piece.bytes.truncate(done);
                    break;
                }
                Ok(_) => return Err(gone(process, io::Error::from(io::ErrorKind::UnexpectedEof))),
                Err(e) => return Err(gone(process, e)),
            }
            piece.parts.push(Part { map: run.map, at, len });
            at += len as u64;
            if piece.bytes.len() == PIECE && !give(std::mem::replace(&mut piece, empty()))? {
                return Ok(());
            }
        }
    }
    give(piece).map(drop)
}

/// As [`read`], on a thread of its own, while what it has read is written.
fn beside(process: &Process, runs: &[Run], write: &mut dyn FnMut(&Piece) -> Saved) -> Saved {
    let (full, filled) = sync_channel::<Piece>(AHEAD);
    let (empty, emptied) = sync_channel::<Piece>(AHEAD);
    thread::scope(|scope| {
        let reads = move || {
            let spare = || emptied.try_recv().unwrap_or_default();
            read(process, runs, &spare, &mut |piece| Ok(full.send(piece).is_ok()))
        };
        let reader = without_signals(|| thread::Builder::new().name("drupe-save".into()).spawn_scoped(scope, reads));
        let reader = reader.map_err(|e| SaveError::host("start a thread that reads memory", e))?;
        let written = filled.iter().try_for_each(|piece| {
            write(&piece)?;
            // What finds no room is freed.
            let _ = empty.try_send(piece);
            Ok(())
        });
        // It wants no more, and the reader ends.
        drop(filled);
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.and(read)
    })
}

fn gone(process: &Process, e: io::Error) -> SaveError {
    SaveError::host(format!("read the memory of the host process {}", process.pid()), e)
}
