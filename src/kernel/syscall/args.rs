//! From registers to types: what each kind of argument is, and how `--strace` prints it.

use crate::abi::{SysError, SysResult};
use crate::mm::{Plain, UserPtr, UserStr};
use crate::task::CurrentTask;

/// How `--strace` shows an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Int,
    Unsigned,
    Hex,
    Fd,
    Str,
    Ptr,
}

/// A type that a register can be decoded into.
pub trait Arg {
    /// For traces.
    const KIND: Kind;
    /// Takes the bits that Linux would take of the register.
    fn from_raw(raw: u64) -> Self;
}

macro_rules! ints { ($($t:ty: $k:ident),*) => { $(impl Arg for $t {
    const KIND: Kind = Kind::$k;
    fn from_raw(raw: u64) -> Self { raw as $t }
})* } }
ints!(i32: Int, i64: Int, u32: Unsigned, u64: Hex, usize: Unsigned, isize: Int);

/// A guest descriptor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Fd(pub i32);

impl Arg for Fd {
    const KIND: Kind = Kind::Fd;
    fn from_raw(raw: u64) -> Self {
        Fd(raw as i32)
    }
}

impl Arg for UserStr {
    const KIND: Kind = Kind::Str;
    fn from_raw(raw: u64) -> Self {
        UserStr(raw)
    }
}

impl<T: Plain> Arg for UserPtr<T> {
    const KIND: Kind = Kind::Ptr;
    fn from_raw(raw: u64) -> Self {
        UserPtr::new(raw)
    }
}

/// What a handler may return.
pub trait Ret {
    /// The register value.
    fn into_raw(self) -> u64;
}
macro_rules! rets { ($($t:ty),*) => { $(impl Ret for $t { fn into_raw(self) -> u64 { self as u64 } })* } }
rets!(i32, i64, u32, u64, usize);
impl Ret for () {
    fn into_raw(self) -> u64 {
        0
    }
}
impl Ret for Fd {
    fn into_raw(self) -> u64 {
        self.0 as u64
    }
}

/// A handler as the table stores it.
pub type RawHandler = fn(&CurrentTask, &[u64; 6]) -> SysResult<u64>;

/// A typed handler: arity and argument kinds come from its signature.
pub trait Handler<Marker>: Copy {
    /// Argument kinds, in order.
    const KINDS: &'static [Kind];
    /// Decodes and calls.
    ///
    /// # Errors
    /// The handler's.
    fn invoke(self, cur: &CurrentTask, a: &[u64; 6]) -> SysResult<u64>;
}

macro_rules! handler {
    ($($a:ident $i:literal),*) => {
        impl<F, R, E, $($a,)*> Handler<fn($($a,)*) -> (R, E)> for F
        where
            F: Fn(&CurrentTask, $($a),*) -> Result<R, E> + Copy,
            R: Ret,
            SysError: From<E>,
            $($a: Arg,)*
        {
            const KINDS: &'static [Kind] = &[$($a::KIND),*];
            #[inline(always)]
            fn invoke(self, cur: &CurrentTask, _a: &[u64; 6]) -> SysResult<u64> {
                Ok(self(cur, $($a::from_raw(_a[$i])),*)?.into_raw())
            }
        }
    };
}
handler!();
handler!(A 0);
handler!(A 0, B 1);
handler!(A 0, B 1, C 2);
handler!(A 0, B 1, C 2, D 3);
handler!(A 0, B 1, C 2, D 3, E2 4);
handler!(A 0, B 1, C 2, D 3, E2 4, F2 5);

/// The kinds of a handler's arguments.
pub const fn kinds<M, H: Handler<M>>(_h: &H) -> &'static [Kind] {
    H::KINDS
}
