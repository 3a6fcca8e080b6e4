mod common;
#[path = "suite/outside.rs"]
mod outside;
