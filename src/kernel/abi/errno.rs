//! Linux error numbers, and the outcomes of a system call that never reach a guest.

use core::fmt;

/// A Linux error number (`errno(3)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Errno(u16);

/// The result of an operation on a kernel object.
pub type Result<T = ()> = core::result::Result<T, Errno>;
/// The result of a system call or of anything that may wait: an [`Errno`] or a restart code.
pub type SysResult<T = ()> = core::result::Result<T, SysError>;

/// How a call that a signal interrupted goes on (the kernel's internal `ERESTART*` codes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// `ERESTARTSYS`: again if no handler runs or the handler has `SA_RESTART`, else `EINTR`.
    Sys,
    /// `ERESTARTNOINTR`: always again.
    NoIntr,
    /// `ERESTARTNOHAND`: again only if no handler runs, else `EINTR`.
    NoHand,
    /// `ERESTART_RESTARTBLOCK`: by `restart_syscall(2)` with what the task's restart block says, else `EINTR`.
    Block,
}

/// Why a system call did not succeed. Restart codes are turned into a repeated call or `EINTR` on
/// the way out and cannot leak to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SysError {
    /// An error that the guest sees.
    Errno(Errno),
    /// The call was interrupted.
    Restart(Restart),
}

impl From<Errno> for SysError {
    fn from(e: Errno) -> Self {
        SysError::Errno(e)
    }
}

impl SysError {
    /// The error as a caller inside the kernel sees it: an interrupted call is `EINTR`.
    pub fn errno(self) -> Errno {
        match self {
            SysError::Errno(e) => e,
            SysError::Restart(_) => Errno::EINTR,
        }
    }
}

impl Errno {
    /// The error with number `raw`, taken modulo the range of error numbers (1..=4095).
    pub const fn from_raw(raw: i32) -> Errno {
        Errno((raw & 0xfff) as u16)
    }

    /// The positive error number.
    pub const fn raw(self) -> i32 {
        self.0 as i32
    }

    /// Splits a raw system call return value.
    ///
    /// # Errors
    /// The error that a value in `-4095..=-1` stands for.
    pub const fn check(ret: i64) -> Result<u64> {
        if ret < 0 && ret >= -4095 { Err(Errno(-ret as u16)) } else { Ok(ret as u64) }
    }
}

macro_rules! errnos {
    ($($name:ident = $n:literal),* $(,)?) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno($n);)*
        }
        impl Errno {
            /// The symbolic name, as in `errno(3)`.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($n => stringify!($name),)*
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EINTR = 4,
    EIO = 5,
    ENXIO = 6,
    E2BIG = 7,
    ENOEXEC = 8,
    EBADF = 9,
    ECHILD = 10,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    ENOTBLK = 15,
    EBUSY = 16,
    EEXIST = 17,
    EXDEV = 18,
    ENODEV = 19,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENFILE = 23,
    EMFILE = 24,
    ENOTTY = 25,
    ETXTBSY = 26,
    EFBIG = 27,
    ENOSPC = 28,
    ESPIPE = 29,
    EROFS = 30,
    EMLINK = 31,
    EPIPE = 32,
    EDOM = 33,
    ERANGE = 34,
    EDEADLK = 35,
    ENAMETOOLONG = 36,
    ENOLCK = 37,
    ENOSYS = 38,
    ENOTEMPTY = 39,
    ELOOP = 40,
    ENOMSG = 42,
    EIDRM = 43,
    ECHRNG = 44,
    EL2NSYNC = 45,
    EL3HLT = 46,
    EL3RST = 47,
    ELNRNG = 48,
    EUNATCH = 49,
    ENOCSI = 50,
    EL2HLT = 51,
    EBADE = 52,
    EBADR = 53,
    EXFULL = 54,
    ENOANO = 55,
    EBADRQC = 56,
    EBADSLT = 57,
    EBFONT = 59,
    ENOSTR = 60,
    ENODATA = 61,
    ETIME = 62,
    ENOSR = 63,
    ENONET = 64,
    ENOPKG = 65,
    EREMOTE = 66,
    ENOLINK = 67,
    EADV = 68,
    ESRMNT = 69,
    ECOMM = 70,
    EPROTO = 71,
    EMULTIHOP = 72,
    EDOTDOT = 73,
    EBADMSG = 74,
    EOVERFLOW = 75,
    ENOTUNIQ = 76,
    EBADFD = 77,
    EREMCHG = 78,
    ELIBACC = 79,
    ELIBBAD = 80,
    ELIBSCN = 81,
    ELIBMAX = 82,
    ELIBEXEC = 83,
    EILSEQ = 84,
    ERESTART = 85,
    ESTRPIPE = 86,
    EUSERS = 87,
    ENOTSOCK = 88,
    EDESTADDRREQ = 89,
    EMSGSIZE = 90,
    EPROTOTYPE = 91,
    ENOPROTOOPT = 92,
    EPROTONOSUPPORT = 93,
    ESOCKTNOSUPPORT = 94,
    EOPNOTSUPP = 95,
    EPFNOSUPPORT = 96,
    EAFNOSUPPORT = 97,
    EADDRINUSE = 98,
    EADDRNOTAVAIL = 99,
    ENETDOWN = 100,
    ENETUNREACH = 101,
    ENETRESET = 102,
    ECONNABORTED = 103,
    ECONNRESET = 104,
    ENOBUFS = 105,
    EISCONN = 106,
    ENOTCONN = 107,
    ESHUTDOWN = 108,
    ETOOMANYREFS = 109,
    ETIMEDOUT = 110,
    ECONNREFUSED = 111,
    EHOSTDOWN = 112,
    EHOSTUNREACH = 113,
    EALREADY = 114,
    EINPROGRESS = 115,
    ESTALE = 116,
    EUCLEAN = 117,
    ENOTNAM = 118,
    ENAVAIL = 119,
    EISNAM = 120,
    EREMOTEIO = 121,
    EDQUOT = 122,
    ENOMEDIUM = 123,
    EMEDIUMTYPE = 124,
    ECANCELED = 125,
    ENOKEY = 126,
    EKEYEXPIRED = 127,
    EKEYREVOKED = 128,
    EKEYREJECTED = 129,
    EOWNERDEAD = 130,
    ENOTRECOVERABLE = 131,
    ERFKILL = 132,
    EHWPOISON = 133,
}

#[allow(missing_docs)]
impl Errno {
    pub const EWOULDBLOCK: Errno = Errno::EAGAIN;
    pub const ENOTSUP: Errno = Errno::EOPNOTSUPP;
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
