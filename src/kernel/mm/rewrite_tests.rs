//! Rewriting of real code, run natively: stubs lead to a test's own entry.

use super::*;
use crate::abi::linux::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE};
use crate::mm::memfile::tests::set_up;

// Answers a call as the kernel's entry would: rcx is where to go on.
core::arch::global_asm!(".globl drupe_test_entry", "drupe_test_entry:", "lea eax, [eax + 0x10000]", "jmp rcx",);
unsafe extern "C" {
    fn drupe_test_entry();
}

/// `mov eax, edi; syscall; cmp rax, -4095; ret`, as libc has it.
const CODE: [u8; 11] = [0x89, 0xf8, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xc3];
const GETPID: i32 = 39;

/// A text mapping at `base` with the code at each of `places`.
fn text(vmas: &mut VmaTree, base: u64, len: u64, places: &[u64]) {
    let anon = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    mem::mmap(base, len, PROT_READ | PROT_WRITE, anon, -1, 0).expect("free addresses");
    for &p in places {
        // SAFETY: within the mapping.
        unsafe { core::ptr::copy_nonoverlapping(CODE.as_ptr(), (base + p) as *mut u8, CODE.len()) };
    }
    mem::mprotect(base, len, PROT_READ | PROT_EXEC).expect("protect");
    let prot = PROT_READ | PROT_EXEC;
    vmas.admit(1).expect("room");
    vmas.insert(Vma {
        start: base,
        end: base + len,
        prot,
        shared: false,
        backing: Backing::Anon,
        label: "",
        text: None,
        may: 7,
        flags: VmaFlags::empty(),
    });
}

fn run(at: u64) -> i32 {
    // SAFETY: the test's own code.
    unsafe { core::mem::transmute::<u64, extern "C" fn(i32) -> i32>(at)(GETPID) }
}

fn bytes(at: u64) -> [u8; 5] {
    // SAFETY: mapped text.
    unsafe { *(at as *const [u8; 5]) }
}

#[test]
fn sites_lead_to_the_entry_and_back() {
    let _one = set_up();
    enable(drupe_test_entry as *const () as u64);
    let base = 0x5000_0000_0000u64;
    let places: Vec<u64> = (0..200).map(|i| 0xff0 + i * 24).collect();
    let (mut vmas, mut patches) = (VmaTree::default(), Patches::default());
    text(&mut vmas, base, 0x4000, &places);
    let pid = std::process::id() as i32;
    let rewritten = REWRITTEN.load(Relaxed);
    for &p in &places {
        assert_eq!(run(base + p), pid);
        patches.rewrite(&mut vmas, base + p + 2, false);
    }
    let done = REWRITTEN.load(Relaxed) - rewritten;
    assert_eq!(done, 200);
    assert_eq!(patches.regions.len(), 1);
    for &p in &places {
        assert_eq!(run(base + p), GETPID + 0x10000);
        assert_eq!(&bytes(base + p + 2)[2..], &CODE[4..7]);
        let stub = patches.sites[&(base + p + 2)];
        let site = base + p + 2;
        assert_eq!(patches.site_of_stub(stub + 7), Some(StubHit { site, resume: site, early: false }));
    }

    // A page that is thrown away has its calls again, which are rewritten again.
    let thrown = base + places[5] + 2;
    patches.write(&vmas, thrown, &SYSCALL).expect("text can be written");
    patches.rewrite(&mut vmas, thrown, true);
    assert_eq!(run(base + places[5]), GETPID + 0x10000);

    // A copy knows the same stubs, and puts nothing where the other did.
    let mut child = patches.fork_copy();
    let mut child_vmas = vmas.try_copy().expect("memory");
    assert!(child.has(base + places[3] + 2));
    child.put_back(&child_vmas, &[base + places[3] + 2]);
    assert_eq!(run(base + places[3]), pid);
    child.rewrite(&mut child_vmas, base + places[3] + 2, false);
    assert_eq!(child.sites[&(base + places[3] + 2)], patches.sites[&(base + places[3] + 2)]);

    // Writable text is as it was.
    patches.before_change(&vmas, base + 0x1000, base + 0x2000, false);
    for &p in &places {
        let call = base + p + 2;
        let inside = call + 4 >= base + 0x1000 && call < base + 0x2000;
        assert_eq!(run(base + p), if inside { pid } else { GETPID + 0x10000 });
    }
    // The loss of the stubs leaves no jump to them behind.
    let region = patches.regions[0].clone();
    patches.before_change(&vmas, region.start, region.end, true);
    assert!(patches.sites.is_empty() && patches.regions.is_empty());
    assert!(places.iter().all(|&p| run(base + p) == pid));
    patches.give_up(&vmas);
    patches.rewrite(&mut vmas, base + places[0] + 2, false);
    assert!(!patches.has(base + places[0] + 2));
}

#[test]
fn what_cannot_be_rewritten_stays() {
    let _one = set_up();
    enable(drupe_test_entry as *const () as u64);
    let base = 0x5100_0000_0000u64;
    let (mut vmas, mut patches) = (VmaTree::default(), Patches::default());
    text(&mut vmas, base, 0x1000, &[0x100]);
    // Not a call; at the very end of the mapping; where the stub's place is taken.
    patches.rewrite(&mut vmas, base + 0x103, false);
    let target = (base + 0x102 + 5 + 0x013d_4800) & !0xfff;
    let taken = Vma { start: target, end: target + 0x2000, ..vmas.find(base).expect("text").clone() };
    vmas.insert(taken);
    patches.rewrite(&mut vmas, base + 0x102, false);
    assert!(patches.sites.is_empty());
    assert_eq!(run(base + 0x100), std::process::id() as i32);
}
