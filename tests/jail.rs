mod common;
#[path = "suite/jail.rs"]
mod jail;
