//! Landlock (`landlock(7)`): a task forbids itself and its descendants what it does not need.

use super::files;
use super::prctl::set_cred;
use super::{Fd, at};
use crate::abi::{Errno, Result, SysResult, linux};
use crate::cred::landlock::{self, Domain, Handled, Ruleset, fs, net, scope};
use crate::cred::{Cred, cap};
use crate::mm::UserPtr;
use crate::task::CurrentTask;
use crate::vfs::{FileOps, OpenFile, anon_file};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

/// `LANDLOCK_CREATE_RULESET_VERSION`, `LANDLOCK_CREATE_RULESET_ERRATA`.
const VERSION: u32 = 1;
const ERRATA: u32 = 2;
/// Errata of Linux that are none here: 1 to 3.
const MENDED: u32 = 0b111;
/// `LANDLOCK_RESTRICT_SELF_LOG_*`: there is no log of what is refused, so all of them say what is so anyway.
const LOG_FLAGS: u32 = 7;
/// `LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF`.
const LOG_SUBDOMAINS_OFF: u32 = 4;
/// `LANDLOCK_RULE_*`.
const PATH_BENEATH: u32 = 1;
const NET_PORT: u32 = 2;

struct RulesetFile(Arc<Ruleset>);

impl FileOps for RulesetFile {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn ruleset(file: &OpenFile) -> Result<&Arc<Ruleset>> {
    file.ops.as_any().downcast_ref::<RulesetFile>().map(|f| &f.0).ok_or(Errno::EBADFD)
}

/// `landlock_create_ruleset(2)`.
///
/// # Errors
/// `EINVAL`, `E2BIG`, `EFAULT`, `ENOMSG` for a ruleset about nothing.
pub fn sys_landlock_create_ruleset(
    cur: &CurrentTask,
    attr: UserPtr<[u64; 3]>,
    size: usize,
    flags: u32,
) -> SysResult<i32> {
    if flags != 0 {
        return match flags {
            _ if attr.addr() != 0 || size != 0 => Err(Errno::EINVAL.into()),
            VERSION => Ok(landlock::ABI as i32),
            ERRATA => Ok(MENDED as i32),
            _ => Err(Errno::EINVAL.into()),
        };
    }
    let [files, ports, scopes] = attr.read_grown(size, 8)?;
    if files & !fs::ALL != 0 || ports & !net::ALL != 0 || scopes & !scope::ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    if files | ports | scopes == 0 {
        return Err(Errno::ENOMSG.into());
    }
    crate::arena::charge(crate::arena::Object::Namespace)?;
    let made = Arc::new(Ruleset::new(Handled { fs: files, net: ports, scope: scopes }));
    let file = anon_file("landlock-ruleset", Box::new(RulesetFile(made)), linux::O_RDWR, &cur.op_ctx());
    Ok(super::files::install(cur, file, linux::O_CLOEXEC)?.0)
}

/// `landlock_add_rule(2)`.
///
/// # Errors
/// `EINVAL`, `EBADF`, `EBADFD`, `EFAULT`, `ENOMSG` for a rule that allows nothing, `ENOMEM`.
pub fn sys_landlock_add_rule(
    cur: &CurrentTask,
    fd: Fd,
    kind: u32,
    rule: UserPtr<[u32; 3]>,
    flags: u32,
) -> SysResult<()> {
    at::only(flags, 0)?;
    let file = files::file(cur, fd)?;
    let ruleset = ruleset(&file)?;
    let fits = |access: u64, handled: u64| match access {
        0 => Err(Errno::ENOMSG),
        _ if access & !handled != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    };
    match kind {
        PATH_BENEATH => {
            let [low, high, fd] = rule.read()?;
            let access = u64::from(low) | u64::from(high) << 32;
            fits(access, ruleset.handled.fs)?;
            let file = cur.files().get_any(fd as i32)?;
            if self::ruleset(&file).is_ok() || !file.path().mount.is_mountable() {
                return Err(Errno::EBADFD.into());
            }
            if !file.path().dentry.is_dir() && access & !fs::OF_FILES != 0 {
                return Err(Errno::EINVAL.into());
            }
            Ok(ruleset.allow_file(file.inode.identity()?, access)?)
        }
        NET_PORT => {
            let [access, port] = rule.cast::<[u64; 2]>().read()?;
            fits(access, ruleset.handled.net)?;
            let port = u16::try_from(port).map_err(|_| Errno::EINVAL)?;
            Ok(ruleset.allow_port(port, access)?)
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// `landlock_restrict_self(2)`.
///
/// # Errors
/// `EPERM`, `EINVAL`, `EBADF`, `EBADFD`, `E2BIG` for too many layers, `ENOMEM`.
pub fn sys_landlock_restrict_self(cur: &CurrentTask, fd: Fd, flags: u32) -> SysResult<()> {
    let cred = cur.cred();
    if !cur.no_new_privs() && !cred.capable_here(cap::SYS_ADMIN) {
        return Err(Errno::EPERM.into());
    }
    at::only(flags, LOG_FLAGS)?;
    if fd.0 == -1 && flags == LOG_SUBDOMAINS_OFF {
        return Ok(());
    }
    let file = files::file(cur, fd)?;
    let domain = Domain::restrict(cred.landlock.as_ref(), ruleset(&file)?)?;
    set_cred(cur, Cred { landlock: Some(domain), ..Cred::clone(cred) });
    Ok(())
}
