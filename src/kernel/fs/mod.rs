//! File systems and event sources.

pub mod aio;
pub mod dev;
pub mod devpts;
pub mod epoll;
pub mod eventfd;
pub mod fanotify;
pub mod hostfd;
pub mod hostfs;
pub mod inotify;
pub mod memfs;
pub mod pidfd;
pub mod pipe;
pub mod proc;
pub mod signalfd;
pub mod sys;
pub mod timerfd;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
