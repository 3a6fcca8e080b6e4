//! Process-shared locks and wait queues. Every lock lives in the arena and works between host
//! processes, because its word is waited for with a shared host futex.
//!
//! Order of locks (a lock may be taken while one further up is held): see [`Level`].

pub mod deferred;
mod entries;
mod knob;
pub mod left;
mod lockdep;
pub mod mend;
mod mutex;
mod orphaned;
pub mod polled;
mod rwlock;
pub mod steps;
pub mod wait;
pub mod waiting;

#[cfg(test)]
mod tests;

pub use knob::Knob;
pub use lockdep::{Level, may_block, may_fault};
pub use mend::{Mend, MendHashMap, MendMap};
pub use mutex::{Mutex, MutexGuard};
pub use orphaned::{bereaved, init, set_repair};
pub use polled::Polled;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use steps::{StepArray, StepQueue};
pub use wait::{Events, Interrupted, Notify, WaitEnd, WaitQueue};
pub use waiting::{Kind, On};
