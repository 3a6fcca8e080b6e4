//! File systems and event sources.

pub mod dev;
pub mod eventfd;
pub mod hostfd;
pub mod hostfs;
pub mod memfs;
pub mod pipe;
pub mod proc;

#[cfg(test)]
mod tests;
