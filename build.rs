//! Builds the kernel image with a nested cargo (its own target directory, a cleaned environment) and
//! the guest's vDSO, for the library to embed.

use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for dir in ["asm", "src/kernel", "src/image", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(dir).display());
    }
    link_launcher(&root, &out);
    // The shared library can be executed: `sandbox/supervisor/apart.rs` does it.
    if env::var("TARGET").is_ok_and(|t| t == "x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-e,drupe_supervisor_start");
    }
    let image = build_image(&root, &out);
    println!("cargo:rustc-env=DRUPE_IMAGE_PATH={}", image.display());
    let mut identity = std::hash::DefaultHasher::new();
    identity.write(&fs::read(&image).expect("it was built just now"));
    println!("cargo:rustc-env=DRUPE_IMAGE_ID={}", identity.finish());
}

/// Links the launcher statically where the GNU C library can be: the dynamic linker would take a seventh of a launch.
///
/// The compiler has that for whole builds only (`crt-static`), and then it makes no shared library. So it goes on
/// asking for shared libraries, and a directory that is searched first leads their names to the static ones.
fn link_launcher(root: &Path, out: &Path) {
    let is_static = env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|f| f.split(',').any(|f| f == "crt-static"));
    if is_static || env::var("TARGET").is_ok_and(|t| t != "x86_64-unknown-linux-gnu") {
        return;
    }
    let compiler = cc::Build::new().get_compiler();
    let has = |file: &str| {
        let found = compiler.to_command().arg(format!("-print-file-name={file}")).output();
        // The bare name comes back for what is not there.
        found.is_ok_and(|o| o.status.success() && o.stdout.contains(&b'/'))
    };
    if !["rcrt1.o", "libc.a", "libgcc.a", "libgcc_eh.a"].into_iter().all(has) {
        return;
    }
    let dir = out.join("static");
    fs::create_dir_all(&dir).expect("the output directory is writable");
    let all = "GROUP(-l:libc.a -l:libgcc_eh.a -l:libgcc.a)";
    for name in ["c", "gcc_s"] {
        fs::write(dir.join(format!("lib{name}.so")), all).expect("the output directory is writable");
    }
    for name in ["m", "dl", "rt", "util", "pthread"].into_iter().filter(|name| has(&format!("lib{name}.a"))) {
        fs::write(dir.join(format!("lib{name}.so")), format!("INPUT(-l:lib{name}.a)"))
            .expect("the output directory is writable");
    }
    println!("cargo:rustc-link-arg-bins=-static-pie");
    println!("cargo:rustc-link-arg-bins=-L{}", dir.display());
    let order = root.join("src/launcher/hot.lds");
    println!("cargo:rerun-if-changed={}", order.display());
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", order.display());
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
    } else {
        cargo.args(["--config", "profile.dev.package.drupe-kernel.opt-level=1"]);
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
