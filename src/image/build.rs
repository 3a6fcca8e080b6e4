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
        ("SLOT_USER_IP", offset_of!(SlotHeader, user_ip)),
        ("SLOT_USER_AX", offset_of!(SlotHeader, user_ax)),
        ("SLOT_STACK_TOP", offset_of!(SlotHeader, stack_top)),
        ("PLACE_KERNEL", place::KERNEL as usize),
        ("FRAME_UC", offset_of!(RtSigFrame, uc)),
        ("CTX_RIP", offset_of!(SigContext, rip)),
        ("CTX_RSP", offset_of!(SigContext, rsp)),
        ("CTX_R8", offset_of!(SigContext, r8)),
        ("CTX_R9", offset_of!(SigContext, r9)),
        ("CTX_R10", offset_of!(SigContext, r10)),
        ("CTX_R11", offset_of!(SigContext, r11)),
        ("CTX_R12", offset_of!(SigContext, r12)),
        ("CTX_R13", offset_of!(SigContext, r13)),
        ("CTX_R14", offset_of!(SigContext, r14)),
        ("CTX_R15", offset_of!(SigContext, r15)),
        ("CTX_RDI", offset_of!(SigContext, rdi)),
        ("CTX_RSI", offset_of!(SigContext, rsi)),
        ("CTX_RBP", offset_of!(SigContext, rbp)),
        ("CTX_RBX", offset_of!(SigContext, rbx)),
        ("CTX_RDX", offset_of!(SigContext, rdx)),
        ("CTX_RAX", offset_of!(SigContext, rax)),
        ("CTX_RCX", offset_of!(SigContext, rcx)),
        ("CTX_EFLAGS", offset_of!(SigContext, eflags)),
        ("CTX_CS", offset_of!(SigContext, cs)),
        ("CTX_FPSTATE", offset_of!(SigContext, fpstate)),
        ("CTX_SIZE", size_of::<SigContext>()),
    ] {
        writeln!(header, "#define {name} {value}").expect("writing to a string");
    }
    fs::write(out.join("offsets.h"), header).expect("OUT_DIR is writable");
    let mut cc = cc::Build::new();
    cc.include(&out).flag("-fno-stack-protector").flag("-Wa,--noexecstack");
    for file in ["entry.S", "gate.S", "mem.S", "rewrite.S", "sigreturn.S", "usercopy.S"] {
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
