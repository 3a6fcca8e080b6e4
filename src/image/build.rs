//! Assembles `asm/` with the offsets of the kernel's own structures and links the image as a
//! self-contained shared object.

use drupe_kernel::abi::sigctx::{RtSigFrame, SigContext};
use drupe_kernel::abi::slot::{SlotHeader, fast, place};
use drupe_kernel::abi::vdso::VdsoData;
use drupe_kernel::arch::fpu::{HEADER, SW_RESERVED};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, mem::offset_of};

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
        ("FPU_FEATURES", SW_RESERVED + 8),
        ("FPU_HEADER", HEADER),
        ("FAST_DEFER", fast::DEFER as usize),
        ("FAST_WHOLE", fast::WHOLE as usize),
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
        ("VDSO_CLOCK_GETTIME", offset_of!(VdsoData, clock_gettime)),
        ("VDSO_GETCPU", offset_of!(VdsoData, getcpu)),
        ("VDSO_REALTIME_AHEAD", offset_of!(VdsoData, realtime_ahead)),
        ("VDSO_MONOTONIC_AHEAD", offset_of!(VdsoData, monotonic_ahead)),
        ("VDSO_MOVED", offset_of!(VdsoData, moved)),
    ] {
        writeln!(header, "#define {name} {value}").expect("writing to a string");
    }
    fs::write(out.join("offsets.h"), header).expect("OUT_DIR is writable");
    link_vdso(&asm, &out);
    let mut cc = cc::Build::new();
    cc.include(&out).flag("-fno-stack-protector").flag("-Wa,--noexecstack");
    for file in
        ["entry.S", "fpu.S", "gate.S", "mem.S", "park.S", "rewrite.S", "sigreturn.S", "usercopy.S", "vdso_image.S"]
    {
        cc.file(asm.join(file));
    }
    println!("cargo:rerun-if-changed={}", asm.display());
    cc.compile("drupe_asm");
    for script in ["life.lds", "hot.lds"] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-T,{}", asm.join(script).display());
    }
    for arg in [
        "-nostdlib",
        "-nostartfiles",
        "-Wl,-Bsymbolic",
        "-Wl,-z,noexecstack",
        "-Wl,--build-id=none",
        "-Wl,-z,separate-code",
        // The loader finds the header without looking at symbols.
        "-Wl,-e,DRUPE_IMAGE",
    ] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}

/// Links the guest's vDSO, an ELF object of its own, as `vdso.so` in `out`.
fn link_vdso(asm: &Path, out: &Path) {
    let objects =
        cc::Build::new().include(out).flag("-fno-stack-protector").file(asm.join("vdso.S")).compile_intermediates();
    let mut linker = cc::Build::new().get_compiler().to_command();
    linker.args(["-shared", "-nostdlib", "-Wl,-soname,linux-vdso.so.1", "-Wl,-Bsymbolic", "-Wl,--hash-style=both"]);
    linker.args(["-Wl,--eh-frame-hdr", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096", "-Wl,-z,noexecstack"]);
    linker.arg("-Wl,-T").arg(asm.join("vdso.lds")).args(objects).arg("-o").arg(out.join("vdso.so"));
    let status = linker.status().expect("the C compiler can be run");
    assert!(status.success(), "the vDSO cannot be linked");
}
