//! Assembles `asm/` with the offsets of the kernel's own structures and links the image as a
//! self-contained shared object.

use drupe_kernel::abi::sigctx::{RtSigFrame, SigContext};
use drupe_kernel::abi::slot::{SlotHeader, place};
use std::fmt::Write as _;
use std::{env, fs, mem::offset_of, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let asm = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../asm");
    let mut header = String::new();
    for (name, value) in [
        ("SLOT_KICK", offset_of!(SlotHeader, kick)),
        ("SLOT_PLACE", offset_of!(SlotHeader, place)),
        ("SLOT_USER_SP", offset_of!(SlotHeader, user_sp)),
        ("PLACE_KERNEL", place::KERNEL as usize),
        ("FRAME_UC", offset_of!(RtSigFrame, uc)),
        ("CTX_RIP", offset_of!(SigContext, rip)),
        ("CTX_RSP", offset_of!(SigContext, rsp)),
    ] {
        writeln!(header, "#define {name} {value}").expect("writing to a string");
    }
    fs::write(out.join("offsets.h"), header).expect("OUT_DIR is writable");
    let mut cc = cc::Build::new();
    cc.include(&out).flag("-fno-stack-protector").flag("-Wa,--noexecstack");
    for file in ["entry.S", "gate.S", "mem.S", "sigreturn.S", "usercopy.S"] {
        cc.file(asm.join(file));
    }
    println!("cargo:rerun-if-changed={}", asm.display());
    cc.compile("drupe_asm");
    for arg in [
        "-nostdlib",
        "-nostartfiles",
        "-Wl,-Bsymbolic",
        "-Wl,-z,noexecstack",
        "-Wl,--build-id=none",
        "-Wl,-z,separate-code",
    ] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
