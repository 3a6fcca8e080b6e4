//! System V shared memory (`ipc/shm.c` is what programs see). A segment is an extent of the memory file, charged in
//! full like shared anonymous memory; attaching it is a mapping, and its mappings are counted by the address spaces.

use super::ids::{End, Ids, Object};
use super::perm::{ALTER, EXEC, PRIVATE, Perm, READ, UserPerm};
use crate::abi::linux::{MAP_FIXED, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use crate::abi::{Errno, Result};
use crate::cred::{Cred, User, cap, user};
use crate::host::mem;
use crate::mm::memfile::{Extent, PAGE};
use crate::mm::space::{MAY_ALL, Request};
use crate::mm::{Backing, HostRun, Mappable};
use crate::sync::{Level, Mutex};
use crate::task::ns::IpcNamespace;
use crate::task::ns::seen_pid;
use crate::task::{CurrentTask, limits, work};
use crate::time;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// It goes with its last attachment.
const DEST: u32 = 0o1000;
/// Its pages are to stay in memory.
const LOCKED: u32 = 0o2000;
/// Flags of `shmget`: no memory is promised; huge pages.
const NORESERVE: u32 = 0o10000;
const HUGETLB: u32 = 0o4000;
/// Flags of `shmat`.
const RDONLY: u32 = 0o10000;
const RND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100000;
/// `SHMMAX` and `SHMALL` until somebody sets them.
const NO_LIMIT: u64 = u64::MAX - (1 << 24);
/// `vm.mmap_min_addr` is an ordinary mapping's business; this is what attachments are aligned to (`SHMLBA`).
const ALIGN: u64 = PAGE;

/// The segments of a namespace, and their limits.
pub struct Shm {
    /// By id.
    pub ids: Arc<Ids<Segment>>,
    totals: Arc<Totals>,
    /// Largest segment, bytes.
    pub max: AtomicU64,
    /// Pages of all segments.
    pub all: AtomicU64,
    /// Number of segments.
    pub count: AtomicU32,
}

/// What segments, which may outlive the table's mention of them, add to.
struct Totals {
    pages: AtomicU64,
    /// Segments go with their last attachment, or with the task that made them.
    rmid_forced: AtomicBool,
    /// Segments by the live task that made them, and their indices.
    made_by: Mutex<BTreeSet<(usize, i32)>>,
}

struct State {
    perm: Perm,
    gone: bool,
    attached: u64,
    atime: i64,
    dtime: i64,
    ctime: i64,
    maker: u32,
    last: u32,
    /// The task that made it, while that lives.
    creator: usize,
    /// Whose memory is counted as locked, bytes.
    locked: Option<Arc<User>>,
}

/// A segment.
pub struct Segment {
    /// As asked for, bytes.
    size: u64,
    extent: Extent,
    /// Identity for futexes.
    serial: u64,
    state: Mutex<State>,
    ids: Weak<Ids<Segment>>,
    totals: Arc<Totals>,
}

impl Object for Segment {
    fn perm(&self) -> Result<Perm> {
        let state = self.state.lock();
        if state.gone { Err(Errno::EIDRM) } else { Ok(state.perm) }
    }
    fn set_id(&self, id: i32) {
        let creator = {
            let mut state = self.state.lock();
            state.perm.id = id;
            state.creator
        };
        self.totals.pages.fetch_add(self.pages(), Relaxed);
        self.totals.made_by.lock().insert((creator, id));
    }
}

/// What `shmctl(IPC_STAT)` says.
pub struct Stat {
    /// Owner and mode.
    pub perm: UserPerm,
    /// Id.
    pub id: i32,
    /// Bytes asked for.
    pub size: u64,
    /// Seconds of the last attachment, the last detachment, the last change.
    pub times: [i64; 3],
    /// Pids of the maker, and of whoever attached or detached last.
    pub pids: [u32; 2],
    /// Attachments.
    pub attached: u64,
    /// Bytes of memory that it holds.
    pub resident: u64,
}

fn seconds() -> i64 {
    time::now_coarse() / 1_000_000_000
}

/// Identity of the running task while it lives.
fn own_identity(cur: &CurrentTask) -> usize {
    Arc::as_ptr(cur) as usize
}

impl Shm {
    pub(super) fn new() -> Shm {
        Shm {
            ids: Arc::default(),
            totals: Arc::new(Totals {
                pages: AtomicU64::new(0),
                rmid_forced: AtomicBool::new(false),
                made_by: Mutex::new(Level::Leaf, BTreeSet::new()),
            }),
            max: AtomicU64::new(NO_LIMIT),
            all: AtomicU64::new(NO_LIMIT),
            count: AtomicU32::new(4096),
        }
    }

    /// Pages of all segments.
    pub fn pages(&self) -> u64 {
        self.totals.pages.load(Relaxed)
    }

    /// `shmget(2)`.
    ///
    /// # Errors
    /// Those of the manual page. Huge pages are not to be had.
    pub fn get(&self, cur: &CurrentTask, ns: &IpcNamespace, key: i32, size: u64, flags: u32) -> Result<i32> {
        crate::arena::charge(crate::arena::Object::File)?;
        let cred = cur.cred();
        let fits = |there: &Segment| if there.size < size { Err(Errno::EINVAL) } else { Ok(()) };
        let make = || {
            if size < 1 || size > self.max.load(Relaxed) {
                return Err(Errno::EINVAL);
            }
            let bytes = size.checked_next_multiple_of(PAGE).ok_or(Errno::ENOSPC)?;
            let pages = self.pages().checked_add(bytes / PAGE).ok_or(Errno::ENOSPC)?;
            if pages > self.all.load(Relaxed) {
                return Err(Errno::ENOSPC);
            }
            if flags & HUGETLB != 0 {
                return Err(if cred.capable(cap::IPC_LOCK) { Errno::ENOMEM } else { Errno::EPERM });
            }
            let extent = if flags & NORESERVE != 0 { Extent::sparse(bytes)? } else { Extent::alloc(bytes)? };
            Ok(self.segment(cur, Perm::new(cred, key, flags), size, extent))
        };
        self.ids.get((ns, cred), (key, flags), self.count.load(Relaxed), fits, make)
    }

    fn segment(&self, cur: &CurrentTask, perm: Perm, size: u64, extent: Extent) -> Arc<Segment> {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let state = State {
            perm,
            gone: false,
            attached: 0,
            atime: 0,
            dtime: 0,
            ctime: seconds(),
            maker: cur.group.pid,
            last: 0,
            creator: own_identity(cur),
            locked: None,
        };
        Arc::new(Segment {
            size,
            extent,
            serial: SERIAL.fetch_add(1, Relaxed),
            state: Mutex::new(Level::IpcObject, state),
            ids: Arc::downgrade(&self.ids),
            totals: self.totals.clone(),
        })
    }

    /// A task ended: what it made has no maker any more, and goes where that is asked for.
    pub(super) fn creator_ended(&self, task: usize) {
        loop {
            let next = {
                let mut made = self.totals.made_by.lock();
                let next = made.range((task, i32::MIN)..=(task, i32::MAX)).next().copied();
                if let Some(next) = next {
                    made.remove(&next);
                }
                next
            };
            let Some((_, id)) = next else { return };
            let Ok(segment) = self.ids.find(id) else { continue };
            segment.state.lock().creator = 0;
            if self.totals.rmid_forced.load(Relaxed) {
                segment.end_if(|s| s.attached == 0);
            }
        }
    }

    /// Sets whether segments go with their makers; those whose makers are gone already go now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn force_removal(&self, on: bool) -> Result {
        self.totals.rmid_forced.store(on, Relaxed);
        if on {
            for segment in self.ids.all()? {
                segment.end_if(|s| s.attached == 0 && s.creator == 0);
            }
        }
        Ok(())
    }

    /// Whether segments go with the task that made them.
    pub fn forces_removal(&self) -> bool {
        self.totals.rmid_forced.load(Relaxed)
    }

    /// Bytes of memory that all segments hold.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn resident(&self) -> Result<u64> {
        Ok(self.ids.all()?.iter().map(|s| s.resident()).sum())
    }
}

/// What of the address `shmat` and its flags want to be mapped where.
struct Wish {
    addr: u64,
    flags: u32,
    prot: u32,
    access: u32,
}

impl Wish {
    fn check(addr: u64, flags: u32) -> Result<Wish> {
        let mut wish = Wish { addr, flags: MAP_SHARED, prot: PROT_READ, access: READ };
        if addr != 0 {
            if !addr.is_multiple_of(ALIGN) {
                if flags & RND == 0 {
                    return Err(Errno::EINVAL);
                }
                wish.addr = addr & !(ALIGN - 1);
                if wish.addr == 0 && flags & REMAP != 0 {
                    return Err(Errno::EINVAL);
                }
            }
            wish.flags |= MAP_FIXED;
        } else if flags & REMAP != 0 {
            return Err(Errno::EINVAL);
        }
        if flags & RDONLY == 0 {
            wish.prot |= PROT_WRITE;
            wish.access |= ALTER;
        }
        if flags & SHM_EXEC != 0 {
            wish.prot |= PROT_EXEC;
            wish.access |= EXEC;
        }
        Ok(wish)
    }
}

/// `shmat(2)`; `memlock`: `RLIMIT_MEMLOCK`, bytes. Returns where, and how many bytes.
///
/// # Errors
/// Those of the manual page.
pub fn attach(cur: &CurrentTask, id: i32, addr: u64, flags: u32, memlock: u64) -> Result<(u64, u64)> {
    let ns = super::namespace(cur);
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let wish = Wish::check(addr, flags)?;
    let segment = super::Ipc::of(&ns).shm.ids.find(id)?;
    {
        let mut state = segment.state.lock();
        if state.gone {
            return Err(Errno::EIDRM);
        }
        state.perm.check(&ns, cur.cred(), wish.access)?;
        // It must not go while it is being mapped.
        state.attached += 1;
    }
    let len = segment.extent.len();
    let done = segment.map(cur, &wish, flags & REMAP != 0, memlock);
    segment.detached(false);
    done.map(|at| (at, len))
}

/// `shmdt(2)`.
///
/// # Errors
/// `EINVAL` where no attachment starts at `addr`.
pub fn detach(cur: &CurrentTask, addr: u64) -> Result {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    cur.mm().unmap_attachment(addr, |map| map.attachment())
}

impl Segment {
    fn pages(&self) -> u64 {
        self.extent.len() / PAGE
    }

    fn map(self: &Arc<Self>, cur: &CurrentTask, wish: &Wish, replace: bool, memlock: u64) -> Result<u64> {
        let (key, id) = {
            let perm = self.state.lock().perm;
            (perm.key, perm.id)
        };
        let may = if wish.prot & PROT_WRITE == 0 { MAY_ALL & !PROT_WRITE } else { MAY_ALL };
        let name = format!("/SYSV{key:08x} (deleted)");
        let map = Arc::new(Attachment { segment: self.clone(), id });
        let backing = Backing::File { map, offset: 0, name: Arc::from(name.as_bytes()) };
        let len = self.extent.len();
        if wish.addr.checked_add(len).is_none() {
            return Err(Errno::EINVAL);
        }
        let keep = crate::abi::linux::MAP_FIXED_NOREPLACE;
        let flags = if wish.addr != 0 && !replace { wish.flags & !MAP_FIXED | keep } else { wish.flags };
        let request = Request { addr: wish.addr, len, prot: wish.prot, flags, backing, label: "", may, memlock };
        cur.mm().mmap(&request).map_err(|e| if e == Errno::EEXIST { Errno::EINVAL } else { e })
    }

    /// One attachment less; `told`: it was one that programs know of.
    fn detached(self: &Arc<Self>, told: bool) {
        let last = {
            let mut state = self.state.lock();
            if told {
                state.dtime = seconds();
                state.last = running_pid();
            }
            state.attached -= 1;
            state.attached == 0
        };
        if last {
            let forced = self.totals.rmid_forced.load(Relaxed);
            self.end_if(|s| s.attached == 0 && (s.perm.mode & DEST != 0 || forced));
        }
    }

    /// Ends it if `when` says so.
    fn end_if(self: &Arc<Self>, when: impl FnOnce(&State) -> bool) {
        let Some(ids) = self.ids.upgrade() else { return };
        let creator = ids.end(self, || {
            let mut state = self.state.lock();
            if state.gone || !when(&state) {
                return (End::Nothing, None);
            }
            (End::All(state.perm.key), Some(self.forget(&mut state)))
        });
        if let Some(entry) = creator {
            self.totals.made_by.lock().remove(&entry);
        }
    }

    fn forget(&self, state: &mut State) -> (usize, i32) {
        state.gone = true;
        self.totals.pages.fetch_sub(self.pages(), Relaxed);
        if let Some(user) = state.locked.take() {
            user::uncharge(&user.locked_shm, self.extent.len());
        }
        (state.creator, state.perm.id)
    }

    /// `IPC_RMID`: at once, or with the last attachment.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`.
    pub fn remove(self: &Arc<Self>, cur: &CurrentTask, ns: &IpcNamespace) -> Result {
        let ids = self.ids.upgrade().ok_or(Errno::EIDRM)?;
        let entry = ids.end(self, || {
            let mut state = self.state.lock();
            if state.gone {
                return (End::Nothing, Err(Errno::EIDRM));
            }
            if let Err(e) = state.perm.check_owner(ns, cur.cred()) {
                return (End::Nothing, Err(e));
            }
            let key = state.perm.key;
            if state.attached > 0 {
                state.perm.mode |= DEST;
                state.perm.key = PRIVATE;
                return (End::Key(key), Ok(None));
            }
            (End::All(key), Ok(Some(self.forget(&mut state))))
        })?;
        if let Some(entry) = entry {
            self.totals.made_by.lock().remove(&entry);
        }
        Ok(())
    }

    /// `IPC_SET`.
    ///
    /// # Errors
    /// `EPERM`, `EIDRM`, `EINVAL`.
    pub fn set(&self, cur: &CurrentTask, ns: &IpcNamespace, to: &UserPerm) -> Result {
        let mut state = self.state.lock();
        if state.gone {
            return Err(Errno::EIDRM);
        }
        state.perm.check_owner(ns, cur.cred())?;
        state.perm.update(cur.cred(), to)?;
        state.ctime = seconds();
        Ok(())
    }

    /// `IPC_STAT` and the like; `open`: whoever asks need not be allowed to read it.
    ///
    /// # Errors
    /// `EACCES`, `EIDRM`.
    pub fn stat(&self, cur: &CurrentTask, ns: &IpcNamespace, open: bool) -> Result<Stat> {
        if !open {
            self.perm()?.check(ns, cur.cred(), READ)?;
        }
        self.seen(cur.cred(), 0)
    }

    /// What it is like, as `cred` sees it.
    ///
    /// # Errors
    /// `EIDRM`.
    pub fn look(&self, cred: &Cred) -> Result<Stat> {
        self.seen(cred, self.resident())
    }

    fn seen(&self, cred: &Cred, resident: u64) -> Result<Stat> {
        let state = self.state.lock();
        if state.gone {
            return Err(Errno::EIDRM);
        }
        let mut stat = Stat {
            perm: state.perm.to_user(cred),
            id: state.perm.id,
            size: self.size,
            times: [state.atime, state.dtime, state.ctime],
            pids: [state.maker, state.last],
            attached: state.attached,
            resident,
        };
        drop(state);
        stat.pids = stat.pids.map(seen_pid);
        Ok(stat)
    }

    /// `SHM_LOCK` and `SHM_UNLOCK`: counted; the host decides what stays in memory.
    ///
    /// # Errors
    /// `EPERM`, `ENOMEM` past `RLIMIT_MEMLOCK`, `EIDRM`.
    pub fn lock(&self, cur: &CurrentTask, ns: &IpcNamespace, on: bool) -> Result {
        let cred = cur.cred();
        let mut state = self.state.lock();
        if state.gone {
            return Err(Errno::EIDRM);
        }
        let limit = cur.group.limits.get(limits::MEMLOCK).0;
        if !cred.capable_in(&ns.user_ns, cap::IPC_LOCK) {
            let owns = cred.euid == state.perm.uid || cred.euid == state.perm.cuid;
            if !owns || on && limit == 0 {
                return Err(Errno::EPERM);
            }
        }
        if on && state.locked.is_none() {
            let most = if cred.capable(cap::IPC_LOCK) { u64::MAX } else { limit };
            if !user::charge(&cred.user.locked_shm, self.extent.len(), most) {
                return Err(Errno::ENOMEM);
            }
            state.locked = Some(cred.user.clone());
            state.perm.mode |= LOCKED;
        } else if !on {
            if let Some(user) = state.locked.take() {
                user::uncharge(&user.locked_shm, self.extent.len());
            }
            state.perm.mode &= !LOCKED;
        }
        Ok(())
    }

    /// Bytes of memory that it holds, as far as a bounded look tells.
    pub fn resident(&self) -> u64 {
        const RUNS: usize = 1 << 14;
        let (mut at, end, mut sum) = (self.extent.offset(), self.extent.offset() + self.extent.len(), 0);
        for _ in 0..RUNS {
            let Ok(data) = mem::window_seek(at, true) else { break };
            if data >= end {
                break;
            }
            let hole = mem::window_seek(data, false).unwrap_or(end).min(end);
            sum += hole - data;
            at = hole;
            if at >= end {
                break;
            }
        }
        sum
    }
}

/// Pid of the process that the running thread belongs to, 0 for none.
fn running_pid() -> u32 {
    work::running().map_or(0, |t| t.group.pid)
}

/// What a mapping of a segment holds.
struct Attachment {
    segment: Arc<Segment>,
    id: i32,
}

impl Mappable for Attachment {
    fn run(&self, offset: u64, len: u64, _shared_write: bool) -> Result<HostRun> {
        self.segment.extent.run(offset, len).ok_or(Errno::ENOMEM)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        (1, self.id as u64, Vec::new())
    }

    fn identity(&self) -> (u64, u64) {
        (u64::MAX - 1, self.segment.serial)
    }

    fn memory(&self) -> u64 {
        self.segment.extent.len()
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn mapped(&self) {
        let mut state = self.segment.state.lock();
        state.attached += 1;
        state.atime = seconds();
        state.last = running_pid();
    }

    fn unmapped(&self) {
        self.segment.detached(true);
    }

    fn attachment(&self) -> Option<u64> {
        Some(self.segment.size)
    }
}
