//! File systems and event sources.

pub mod dev;
pub mod eventfd;
pub mod hostfd;
pub mod hostfs;
pub mod memfs;
pub mod pipe;

#[cfg(test)]
mod tests;
