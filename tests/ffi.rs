//! The C interface: its header is the one that the code says.

use std::path::Path;

/// `DRUPE_UPDATE=1 cargo test --test ffi` writes the header anew.
#[test]
fn header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_src(root.join("src/ffi.rs"))
        .with_config(config)
        .generate()
        .expect("src/ffi.rs can be read")
        .write(&mut made);
    let made = String::from_utf8(made).expect("text");
    let path = root.join("include/drupe.h");
    if std::env::var_os("DRUPE_UPDATE").is_some() {
        std::fs::write(&path, &made).expect("include/ is writable");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, made, "include/drupe.h is not what src/ffi.rs says: DRUPE_UPDATE=1 cargo test --test ffi");
}
