//! Program images: everything that `execve` opens and checks before its point of no return, and the
//! mapping of the result into an empty address space.

use super::group::ExecInfo;
use crate::abi::linux::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::{Errno, Result, SysResult};
use crate::cred::exec::{FileCaps, Program as Credentials};
use crate::cred::{Cred, Kind};
use crate::mm::{Backing, MapWish, Mappable};
use crate::vfs::mount::{NOEXEC, NOSUID};
use crate::vfs::open::{RUN, again_if_stale, open_at};
use crate::vfs::resolve::Lookup;
use crate::vfs::state::DenyWrite;
use crate::vfs::{FileType, FsContext, OpCtx, OpenFile, Path, access, marks, notify};
use alloc::sync::Arc;
use alloc::vec::Vec;
use object::elf::{
    EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR,
    ProgramHeader64,
};
use object::{LittleEndian, pod};

/// Longest interpreter chain of scripts (`BINPRM_BUF` recursion in Linux: 5).
const MAX_SCRIPTS: usize = 5;
/// What is read of a file to recognise it (`BINPRM_BUF_SIZE`).
const HEAD: usize = 256;
/// Most program headers, bytes (as Linux: a page of them, 65536 at most).
const MAX_PHDRS: usize = 65536;
const PAGE: u64 = 4096;

/// A loadable segment.
#[derive(Clone, Copy, Debug)]
struct Segment {
    vaddr: u64,
    offset: u64,
    filesz: u64,
    memsz: u64,
    prot: u32,
}

/// An ELF file that passed all checks.
pub struct ElfImage {
    map: Arc<dyn Mappable>,
    segments: Vec<Segment>,
    /// Entry point before relocation.
    entry: u64,
    /// Address of the program headers before relocation, 0 if not mapped.
    phdr: u64,
    phnum: u64,
    dynamic: bool,
    name: Arc<[u8]>,
    interp: Option<Vec<u8>>,
    exec_stack: bool,
}

/// Everything that a zygote needs to become the program.
pub struct ExecPlan {
    /// The program.
    main: ElfImage,
    /// Its dynamic linker.
    interp: Option<ElfImage>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// What `AT_EXECFN` says.
    pub execfn: Vec<u8>,
    /// The program's file, for `/proc/self/exe`.
    pub exe: Path,
    /// Nobody may write to it meanwhile.
    pub running: Arc<DenyWrite>,
    /// Thread name: the last component of the file name, at most 15 bytes.
    pub comm: Vec<u8>,
    /// Owner and set-id bits of the file, for credentials: mode, uid, gid.
    owner: (u32, u32, u32),
    /// The file's capabilities.
    caps: Option<FileCaps>,
    /// What `AT_SECURE` says.
    pub secure: bool,
    /// Whether others of the user may look at the process.
    pub dumpable: bool,
}

impl ExecPlan {
    /// What the process is told to be running.
    pub fn info(&self) -> ExecInfo {
        ExecInfo {
            exe: Some(self.exe.clone()),
            running: Some(self.running.clone()),
            execfn: self.execfn.clone(),
            cmdline: self.argv.iter().flat_map(|a| a.iter().copied().chain([0])).collect(),
        }
    }

    /// Whether the file may give ids or capabilities at all.
    pub fn gives_ids(&self) -> bool {
        self.owner.0 & 0o6000 != 0 || self.caps.is_some()
    }

    /// What the file says of credentials (`bprm_fill_uid` in `fs/exec.c`): nothing on a nosuid mount.
    /// Neither do ids that the user namespace does not know count, nor what is on a file system of another one.
    pub fn credentials(&self, cred: &Cred, shares_fs: bool, no_new_privs: bool) -> Credentials {
        if self.exe.mount.has(NOSUID) || !self.exe.mount.gives_ids_in(&cred.user_ns) {
            return Credentials { shares_fs, ..Credentials::default() };
        }
        let (mode, uid, gid) = self.owner;
        let known = cred.user_ns.has(Kind::User, uid) && cred.user_ns.has(Kind::Group, gid);
        let counts = |bits: u32, id: u32| (mode & bits == bits && !no_new_privs && known).then_some(id);
        Credentials {
            set_uid: counts(0o4000, uid),
            // Without execution for the group the bit once meant mandatory locking.
            set_gid: counts(0o2010, gid),
            caps: self.caps,
            shares_fs,
            traced: false,
        }
    }
}

/// Opens a program with the checks of `do_open_execat`.
///
/// # Errors
/// `ENOENT`, `EACCES`, `ELOOP` and the rest of path resolution.
fn open_exec(
    fs: &FsContext,
    ctx: &OpCtx<'_>,
    base: Option<Path>,
    path: &[u8],
    follow: bool,
) -> SysResult<Arc<OpenFile>> {
    again_if_stale(|| {
        let target = Lookup::new(fs, ctx, base.clone()).path(path, follow)?;
        check_exec(ctx, &target)?;
        open_at(ctx, target, RUN, true)
    })
}

/// Whether `target` may be executed.
///
/// # Errors
/// `EACCES`, `ELOOP`.
pub fn check_exec(ctx: &OpCtx<'_>, target: &Path) -> Result {
    match target.inode().file_type() {
        FileType::Regular => {}
        FileType::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if target.mount.has(NOEXEC) {
        return Err(Errno::EACCES);
    }
    access::check(ctx.cred, &**target.inode(), access::EXEC)
}

/// What to execute.
pub enum Program<'a> {
    /// A path, relative to `base` or the working directory.
    Path {
        /// Directory of a relative path, and the descriptor that stands for it.
        base: Option<(Path, FromFd)>,
        /// The path.
        path: &'a [u8],
        /// Whether a last symbolic link is followed.
        follow: bool,
    },
    /// A place that a descriptor stands for (`execveat` with AT_EMPTY_PATH).
    Place(Path, FromFd),
}

/// The descriptor that `execveat` was given.
#[derive(Clone, Copy)]
pub struct FromFd {
    /// Its number.
    pub fd: i32,
    /// It is closed by the exec: an interpreter could not open the name that stands for it.
    pub cloexec: bool,
}

impl Program<'_> {
    /// The name that the program is told (`AT_EXECFN`), and whether it leads nowhere after the exec.
    fn name(&self) -> (Vec<u8>, bool) {
        match self {
            Program::Path { base: None, path, .. } => (path.to_vec(), false),
            Program::Path { base: Some((_, from)), path, .. } => {
                let mut name = alloc::format!("/dev/fd/{}/", from.fd).into_bytes();
                name.extend_from_slice(path);
                (name, from.cloexec)
            }
            Program::Place(_, from) => (alloc::format!("/dev/fd/{}", from.fd).into_bytes(), from.cloexec),
        }
    }
}

/// Opens the file that is to be run; its name is what the process will be called.
fn open_program(fs: &FsContext, ctx: &OpCtx<'_>, program: Program<'_>) -> SysResult<(Arc<OpenFile>, Vec<u8>)> {
    match program {
        Program::Path { base, path, follow } => {
            let comm = path.rsplit(|&b| b == b'/').next().unwrap_or(path).to_vec();
            Ok((open_exec(fs, ctx, base.map(|b| b.0), path, follow)?, comm))
        }
        Program::Place(target, _) => {
            check_exec(ctx, &target)?;
            let comm = target.file_name();
            Ok((open_at(ctx, target, RUN, true)?, comm))
        }
    }
}

/// Whether the file might be run, whatever it holds (`AT_EXECVE_CHECK`).
///
/// # Errors
/// Those of `execve(2)` but for what lies in the file.
pub fn check(fs: &FsContext, ctx: &OpCtx<'_>, program: Program<'_>) -> SysResult<()> {
    let (file, _) = open_program(fs, ctx, program)?;
    DenyWrite::new(&file.inode)?;
    Ok(())
}

/// Opens and checks everything that running a program needs.
///
/// # Errors
/// `ENOENT`, `EACCES`, `ENOEXEC`, `ELIBBAD`, `ENOMEM` as `execve(2)` gives them.
pub fn prepare(
    fs: &FsContext,
    ctx: &OpCtx<'_>,
    program: Program<'_>,
    mut argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
) -> SysResult<ExecPlan> {
    let (execfn, hidden) = program.name();
    let (mut file, comm) = open_program(fs, ctx, program)?;
    let comm = comm[..comm.len().min(15)].to_vec();
    // While a file is run, or about to be, nobody may write to it.
    let mut running = DenyWrite::new(&file.inode)?;
    if argv.is_empty() {
        argv.push(Vec::new());
    }
    let mut script = execfn.clone();
    for _ in 0..=MAX_SCRIPTS {
        let mut head = [0u8; HEAD];
        marks::ask_read(&file)?;
        let n = file.read_at(ctx, &mut head, 0)?;
        notify::transferred(&file, n, false);
        if head[..n].starts_with(b"\x7fELF") {
            return finish(fs, ctx, file, running, argv, envp, execfn, comm);
        }
        let (interp, arg) = parse_script(&head[..n])?;
        if hidden {
            return Err(Errno::ENOENT.into());
        }
        argv[0] = script;
        if let Some(arg) = arg {
            argv.insert(0, arg);
        }
        argv.insert(0, interp.clone());
        file = open_exec(fs, ctx, None, &interp, true)?;
        running = DenyWrite::new(&file.inode)?;
        script = interp;
    }
    Err(Errno::ELOOP.into())
}

/// The interpreter and its optional argument of a `#!` line (`fs/binfmt_script.c`).
fn parse_script(head: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let line = head.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let (line, whole) = match line.iter().position(|&b| b == b'\n') {
        Some(end) => (&line[..end], true),
        None => (line, head.len() < HEAD),
    };
    let line = line.split(|&b| b == 0).next().unwrap_or(line);
    let start = line.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?;
    let line = &line[start..];
    let end = line.iter().position(blank).unwrap_or(line.len());
    if end == line.len() && !whole {
        // The path itself was cut off.
        return Err(Errno::ENOEXEC);
    }
    let (name, rest) = line.split_at(end);
    let first = rest.iter().position(|b| !blank(b));
    let arg = first.map(|f| {
        let rest = &rest[f..];
        let last = rest.iter().rposition(|b| !blank(b)).map_or(0, |l| l + 1);
        rest[..last].to_vec()
    });
    Ok((name.to_vec(), arg))
}

#[allow(clippy::too_many_arguments)]
fn finish(
    fs: &FsContext,
    ctx: &OpCtx<'_>,
    file: Arc<OpenFile>,
    running: Arc<DenyWrite>,
    argv: Vec<Vec<u8>>,
    envp: Vec<Vec<u8>>,
    execfn: Vec<u8>,
    comm: Vec<u8>,
) -> SysResult<ExecPlan> {
    let root = fs.root();
    let main = parse(ctx, &file, &root, true)?;
    let interp = match &main.interp {
        Some(path) => {
            let file = open_exec(fs, ctx, None, path, true)?;
            let _running = DenyWrite::new(&file.inode)?;
            let image = parse(ctx, &file, &root, false).map_err(|e| match e.errno() {
                Errno::ENOEXEC => Errno::ELIBBAD.into(),
                _ => e,
            })?;
            Some(image)
        }
        None => None,
    };
    let owner = file.inode.permissions()?;
    let caps = file_caps(&file)?;
    let exe = file.path().clone();
    Ok(ExecPlan { main, interp, argv, envp, execfn, exe, running, comm, owner, caps, secure: false, dumpable: true })
}

/// The capabilities of a file, if it has any.
fn file_caps(file: &OpenFile) -> Result<Option<FileCaps>> {
    let Some(attributes) = file.inode.xattrs() else { return Ok(None) };
    let attributes = attributes.lock();
    attributes.get(&b"security.capability"[..]).map(|value| FileCaps::parse(value)).transpose()
}

/// Reads exactly `n` bytes.
fn read_exact(ctx: &OpCtx<'_>, file: &OpenFile, offset: u64, n: usize) -> SysResult<Vec<u8>> {
    let mut buf = Vec::new();
    buf.try_reserve_exact(n).map_err(|_| Errno::ENOMEM)?;
    buf.resize(n, 0);
    if file.read_at(ctx, &mut buf, offset)? < n {
        return Err(Errno::ENOEXEC.into());
    }
    Ok(buf)
}

fn parse(ctx: &OpCtx<'_>, file: &Arc<OpenFile>, root: &Path, is_main: bool) -> SysResult<ElfImage> {
    const LE: LittleEndian = LittleEndian;
    let head = read_exact(ctx, file, 0, size_of::<FileHeader64<LittleEndian>>())?;
    let (header, _) = pod::from_bytes::<FileHeader64<LittleEndian>>(&head).map_err(|()| Errno::ENOEXEC)?;
    let kind = header.e_type.get(LE);
    let is_64 = header.e_ident.class == object::elf::ELFCLASS64 && header.e_ident.data == object::elf::ELFDATA2LSB;
    if header.e_ident.magic != object::elf::ELFMAG
        || !is_64
        || !matches!(kind, ET_EXEC | ET_DYN)
        || header.e_machine.get(LE) != EM_X86_64
        || usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LittleEndian>>()
    {
        return Err(Errno::ENOEXEC.into());
    }
    let phnum = usize::from(header.e_phnum.get(LE));
    let bytes = phnum * size_of::<ProgramHeader64<LittleEndian>>();
    if phnum == 0 || bytes > MAX_PHDRS {
        return Err(Errno::ENOEXEC.into());
    }
    let phoff = header.e_phoff.get(LE);
    let table = read_exact(ctx, file, phoff, bytes)?;
    let (headers, _) =
        pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(&table, phnum).map_err(|()| Errno::ENOEXEC)?;
    let size = file.inode.stat()?.size;
    let mut image = ElfImage {
        map: file.ops.mappable(&mut MapWish::PRIVATE.clone()).ok().flatten().ok_or(Errno::EACCES)?,
        segments: Vec::new(),
        entry: header.e_entry.get(LE),
        phdr: 0,
        phnum: phnum as u64,
        dynamic: kind == ET_DYN,
        name: Arc::from(file.path().name(root).unwrap_or_default().0),
        interp: None,
        exec_stack: false,
    };
    for h in headers {
        match h.p_type.get(LE) {
            PT_LOAD => image.segments.push(segment(h, size)?),
            PT_INTERP if is_main && image.interp.is_none() => {
                image.interp = Some(interp_path(ctx, file, h)?);
            }
            PT_GNU_STACK => image.exec_stack = h.p_flags.get(LE).0 & PF_X.0 != 0,
            PT_PHDR => image.phdr = h.p_vaddr.get(LE),
            _ => {}
        }
    }
    if image.segments.is_empty() {
        return Err(Errno::ENOEXEC.into());
    }
    if image.phdr == 0 {
        let holds = |s: &&Segment| s.offset <= phoff && phoff < s.offset + s.filesz;
        image.phdr = image.segments.iter().find(holds).map_or(0, |s| phoff - s.offset + s.vaddr);
    }
    Ok(image)
}

fn segment(h: &ProgramHeader64<LittleEndian>, file_size: u64) -> Result<Segment> {
    const LE: LittleEndian = LittleEndian;
    let (vaddr, offset) = (h.p_vaddr.get(LE), h.p_offset.get(LE));
    let (filesz, memsz) = (h.p_filesz.get(LE), h.p_memsz.get(LE));
    let flags = h.p_flags.get(LE).0;
    let limit = crate::abi::layout::TASK_SIZE;
    if filesz > memsz
        || memsz > limit
        || vaddr.checked_add(memsz).is_none_or(|e| e > limit)
        || vaddr % PAGE != offset % PAGE
        || offset.checked_add(filesz).is_none_or(|e| e > file_size)
    {
        return Err(Errno::ENOEXEC);
    }
    let bit = |f: u32, p: u32| if flags & f != 0 { p } else { 0 };
    let prot = bit(PF_R.0, PROT_READ) | bit(PF_W.0, PROT_WRITE) | bit(PF_X.0, PROT_EXEC);
    Ok(Segment { vaddr, offset, filesz, memsz, prot })
}

fn interp_path(ctx: &OpCtx<'_>, file: &OpenFile, h: &ProgramHeader64<LittleEndian>) -> SysResult<Vec<u8>> {
    const LE: LittleEndian = LittleEndian;
    let len = h.p_filesz.get(LE);
    if !(2..=4096).contains(&len) {
        return Err(Errno::ENOEXEC.into());
    }
    let mut path = read_exact(ctx, file, h.p_offset.get(LE), len as usize)?;
    if path.pop() != Some(0) {
        return Err(Errno::ENOEXEC.into());
    }
    Ok(path)
}

mod map;
pub use map::{Places, RANDOMIZE, Started, load, set_hardware};

/// Where an image's parts are, for the auxiliary vector.
#[derive(Clone, Copy, Debug)]
struct Placed {
    bias: u64,
    end: u64,
}

/// Flags of a private file mapping at a fixed place.
const FIXED_PRIVATE: u32 = MAP_PRIVATE | MAP_FIXED;
/// Flags of anonymous memory at a fixed place.
const FIXED_ANON: u32 = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;

impl ElfImage {
    fn span(&self) -> (u64, u64) {
        let start = self.segments.iter().map(|s| s.vaddr & !(PAGE - 1)).min().unwrap_or(0);
        let end = self.segments.iter().map(|s| s.vaddr + s.memsz).max().unwrap_or(0);
        (start, (end + PAGE - 1) & !(PAGE - 1))
    }

    fn backing(&self, offset: u64) -> Backing {
        Backing::File { map: self.map.clone(), offset, name: self.name.clone() }
    }
}
