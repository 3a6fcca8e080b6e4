mod common;
#[path = "suite/ends.rs"]
mod ends;
#[path = "suite/jail.rs"]
mod jail;
