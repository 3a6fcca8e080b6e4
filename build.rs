//! Builds the kernel image with a nested cargo (its own target directory, a cleaned environment) and
//! the guest's vDSO, for the library to embed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for dir in ["asm", "src/kernel", "src/image", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(dir).display());
    }
    let image = build_image(&root, &out);
    println!("cargo:rustc-env=DRUPE_IMAGE_PATH={}", image.display());
}

/// Builds `drupe-image` and returns the shared object's path.
fn build_image(root: &Path, out: &Path) -> PathBuf {
    let target_dir = out.join("image");
    let release = env::var("PROFILE").is_ok_and(|p| p == "release");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .current_dir(root)
        .args(["build", "-p", "drupe-image", "--locked", "--quiet", "--target-dir"])
        .arg(&target_dir);
    cargo.args(["--target", "x86_64-unknown-linux-gnu"]);
    if release {
        cargo.arg("--release");
    }
    // Frame pointers make the kernel's own backtraces cheap; everything else of the outer build's
    // environment must stay out.
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy().into_owned();
        let outer = ["CARGO_FEATURE", "CARGO_CFG", "CARGO_PKG", "CARGO_PROFILE"].iter().any(|p| name.starts_with(p));
        let named = [
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET_DIR",
            "CARGO_MAKEFLAGS",
            "MAKEFLAGS",
            "OUT_DIR",
            "PROFILE",
            "OPT_LEVEL",
            "DEBUG",
            "TARGET",
            "HOST",
            "NUM_JOBS",
        ];
        if outer || named.contains(&name.as_str()) {
            cargo.env_remove(&key);
        }
    }
    // Nothing unwinds in the kernel. Not in the profiles of the workspace: tests unwind, and cargo would
    // build this library twice under one file name.
    cargo.env("CARGO_PROFILE_RELEASE_PANIC", "abort").env("CARGO_PROFILE_DEV_PANIC", "abort");
    cargo.env("RUSTFLAGS", "-Cforce-frame-pointers=yes");
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "the kernel image did not build");
    let built = target_dir
        .join("x86_64-unknown-linux-gnu")
        .join(if release { "release" } else { "debug" })
        .join("libdrupe_image.so");
    let image = out.join("drupe-image.so");
    fs::copy(&built, &image).expect("the image can be copied");
    image
}
