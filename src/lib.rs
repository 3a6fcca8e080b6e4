//! drupe
