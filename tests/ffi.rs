//! The C interface: its header is the one that the code says.

use drupe::ffi::{drupe_error_message, drupe_error_number, drupe_sandbox_free, drupe_sandbox_new, drupe_sandbox_wait};
use std::ffi::CStr;
use std::path::Path;

/// `DRUPE_UPDATE=1 cargo test --test ffi` writes the header anew.
#[test]
fn header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let mut made = Vec::new();
    // It reads the module's files by itself.
    let builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/ffi/mod.rs"));
    builder.generate().expect("src/ffi can be read").write(&mut made);
    let made = String::from_utf8(made).expect("text");
    let path = root.join("include/drupe.h");
    if std::env::var_os("DRUPE_UPDATE").is_some() {
        std::fs::write(&path, &made).expect("include/ is writable");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, made, "include/drupe.h is not what src/ffi says: DRUPE_UPDATE=1 cargo test --test ffi");
}

/// Arguments of one call in C are evaluated in any order: a text that was asked for stays while others fail.
#[test]
fn the_text_of_an_error_survives_other_calls() {
    assert_eq!((drupe_error_number(), text(drupe_error_message())), (0, String::new()));
    // SAFETY: null is allowed, and the handle is live until it is freed.
    unsafe {
        assert_eq!(drupe_sandbox_wait(std::ptr::null()), -1);
        let first = drupe_error_message();
        let sandbox = drupe_sandbox_new();
        assert_eq!(drupe_sandbox_wait(sandbox), -1);
        let second = drupe_error_message();
        drupe_sandbox_free(sandbox);
        for _ in 0..14 {
            assert_eq!(drupe_sandbox_wait(std::ptr::null()), -1);
        }
        assert_eq!(text(first), "the sandbox is a null pointer");
        assert_eq!(text(second), "the sandbox is not running: start it first");
    }
}

fn text(text: *const std::ffi::c_char) -> String {
    // SAFETY: a string of the library's that is still valid.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
