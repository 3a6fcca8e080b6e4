/* What mmap and its family refuse and do: limits, locks, seals, advice, moves. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define P 4096UL

static void say(const char *what, long r) {
    if (r < 0 && r > -4096)
        printf("%s: %s\n", what, strerror(errno));
    else
        printf("%s: ok\n", what);
}

static sigjmp_buf back;
static void on_fault(int sig) { siglongjmp(back, sig); }

static void touch(const char *what, volatile char *p, int write) {
    int sig = sigsetjmp(back, 1);
    if (!sig) {
        if (write)
            *p = 1;
        else
            (void)*p;
        printf("%s: %d\n", what, *p);
    } else
        printf("%s: signal %d\n", what, sig);
}

static char *anon(size_t n, int prot, int flags) { return mmap(0, n, prot, MAP_ANONYMOUS | flags, -1, 0); }

static void ranges(void) {
    char *shared = anon(2 * P, 3, MAP_SHARED), *p = anon(4 * P, 3, MAP_PRIVATE);
    unsigned long wild[] = {0xfffffffffffff000UL, 0x7ffffffff000UL, 0x8000000000000000UL, P, 1};
    for (unsigned i = 0; i < sizeof wild / sizeof *wild; i++) {
        printf("address %u\n", i);
        say("mremap nothing", syscall(SYS_mremap, shared, 0, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, wild[i]));
        say("mremap", syscall(SYS_mremap, p, P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, wild[i]));
        say("old length", syscall(SYS_mremap, p, wild[i], P, 0, 0) < 0 ? -1 : 0);
        say("new length", syscall(SYS_mremap, p, P, wild[i], 0, 0));
        say("munmap", syscall(SYS_munmap, wild[i], P));
        say("munmap length", syscall(SYS_munmap, p + 16 * P, wild[i]) < 0 ? -1 : 0);
        say("mprotect", syscall(SYS_mprotect, wild[i], P, 1));
        say("mprotect length", i == 3 || i == 4 ? 0 : syscall(SYS_mprotect, p, wild[i], 1));
        p = mmap(p, 4 * P, 3, MAP_ANONYMOUS | MAP_PRIVATE | MAP_FIXED, -1, 0);
        say("madvise", syscall(SYS_madvise, wild[i], P, MADV_NORMAL));
        say("msync", syscall(SYS_msync, wild[i], P, MS_ASYNC));
        say("mincore", syscall(SYS_mincore, wild[i], P, p));
        say("mlock", syscall(SYS_mlock, wild[i] & ~(P - 1), P));
        say("mlock length", i == 3 || i == 4 ? 0 : syscall(SYS_mlock, p, wild[i]));
        say("fixed", syscall(SYS_mmap, wild[i], P, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0 && i != 3 ? -1 : 0);
    }
}

static void seals(void) {
    int f = memfd_create("a", MFD_ALLOW_SEALING);
    ftruncate(f, 2 * P);
    char *w = mmap(0, P, 3, MAP_SHARED, f, 0), *r;
    say("write seal, mapped", fcntl(f, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(w, P);
    r = mmap(0, P, 1, MAP_SHARED, f, 0);
    say("future write seal", fcntl(f, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    say("new writable mapping", (long)mmap(0, P, 3, MAP_SHARED, f, 0));
    char *n = mmap(0, P, 1, MAP_SHARED, f, 0);
    say("new one becomes writable", mprotect(n, P, 3));
    say("old one becomes writable", mprotect(r, P, 3));
    say("write", write(f, "x", 1));
    say("punch", fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, P));
    say("private writable", (long)mmap(0, P, 3, MAP_PRIVATE, f, 0));
    munmap(n, P);
    munmap(r, P);
    say("write seal, unmapped", fcntl(f, F_ADD_SEALS, F_SEAL_WRITE));
    say("grow seal", fcntl(f, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
    say("grow", ftruncate(f, 3 * P));
    say("shrink", ftruncate(f, P));
    say("unknown seal", fcntl(f, F_ADD_SEALS, 0x400));
    say("seal seal", fcntl(f, F_ADD_SEALS, F_SEAL_SEAL));
    say("after it", fcntl(f, F_ADD_SEALS, F_SEAL_WRITE));
    printf("seals %x\n", fcntl(f, F_GET_SEALS));
    int x = memfd_create("b", 8 /* MFD_NOEXEC_SEAL */), both = memfd_create("c", 8 | 16);
    struct stat s;
    fstat(x, &s);
    printf("noexec: mode %o seals %x, both %d\n", s.st_mode, fcntl(x, F_GET_SEALS), both < 0 ? errno : 0);
    say("chmod +x", fchmod(x, 0777));
    say("chmod", fchmod(x, 0600));
    int e = memfd_create("d", MFD_ALLOW_SEALING);
    say("exec seal", fcntl(e, F_ADD_SEALS, 0x20));
    printf("seals %x\n", fcntl(e, F_GET_SEALS));
    int plain = memfd_create("e", 0);
    printf("plain %x\n", fcntl(plain, F_GET_SEALS));
    say("seal it", fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
}

static long locked(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[200];
    long kb = -1;
    while (fgets(line, sizeof line, f))
        sscanf(line, "VmLck: %ld", &kb);
    fclose(f);
    return kb;
}

static void locks(void) {
    struct rlimit l = {64 * P, 64 * P};
    setrlimit(RLIMIT_MEMLOCK, &l);
    if (geteuid() == 0)
        setresuid(1000, 1000, 1000);
    char *p = anon(128 * P, 3, MAP_PRIVATE);
    say("mlock", mlock(p, 10 * P));
    printf("locked %ld\n", locked());
    say("again", mlock(p + P, 9 * P));
    say("too much", mlock(p, 65 * P));
    say("just enough", mlock(p, 64 * P));
    printf("locked %ld\n", locked());
    say("map locked", (long)anon(P, 3, MAP_PRIVATE | MAP_LOCKED));
    say("dontneed", madvise(p, P, MADV_DONTNEED));
    say("pageout", madvise(p, P, 21));
    say("invalidate", msync(p, P, MS_INVALIDATE));
    say("munlock", munlock(p, 32 * P));
    say("map locked", (long)anon(P, 3, MAP_PRIVATE | MAP_LOCKED));
    printf("locked %ld\n", locked());
    if (fork() == 0) {
        printf("child %ld\n", locked());
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    say("mlock2 on fault", syscall(SYS_mlock2, p, 4 * P, 1));
    say("mlock2 unknown", syscall(SYS_mlock2, p, 4 * P, 2));
    munmap(p + 64 * P, P);
    say("over a hole", mlock(p + 62 * P, 4 * P));
    say("mlockall none", mlockall(0));
    say("mlockall on fault alone", mlockall(4));
    say("mlockall too much", mlockall(MCL_CURRENT));
    say("munlockall", munlockall());
    printf("locked %ld\n", locked());
    say("mlockall future", mlockall(MCL_FUTURE));
    char *q = anon(8 * P, 3, MAP_PRIVATE);
    printf("locked %ld\n", locked());
    say("more than allowed", (long)anon(100 * P, 3, MAP_PRIVATE));
    say("mremap", (long)mremap(q, 8 * P, 100 * P, MREMAP_MAYMOVE) == -1 ? -1 : 0);
    munlockall();
    l.rlim_cur = 0;
    setrlimit(RLIMIT_MEMLOCK, &l);
    say("mlock, nothing allowed", mlock(p, P));
    say("MAP_LOCKED, nothing allowed", (long)anon(P, 3, MAP_PRIVATE | MAP_LOCKED));
}

static void advice(void) {
    char *p = anon(4 * P, 3, MAP_PRIVATE), *s = anon(4 * P, 3, MAP_SHARED);
    int f = memfd_create("f", 0);
    ftruncate(f, 4 * P);
    char *m = mmap(0, 4 * P, 3, MAP_SHARED, f, 0), *r = mmap(0, 4 * P, 1, MAP_PRIVATE, f, 0);
    memset(p, 'p', 4 * P);
    memset(s, 's', 4 * P);
    memset(m, 'm', 4 * P);
    int all[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 26, 60, -1};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        int a = madvise(p, P, all[i]) ? errno : 0, b = madvise(s, P, all[i]) ? errno : 0, c = madvise(m, P, all[i]) ? errno : 0,
            d = madvise(r, P, all[i]) ? errno : 0;
        printf("advice %d: %d %d %d %d\n", all[i], a, b, c, d);
    }
    printf("%d %d %d %d\n", p[0], s[0], m[0], r[0]);
    madvise(p, P, MADV_DONTFORK);
    madvise(p + P, P, MADV_WIPEONFORK);
    if (fork() == 0) {
        touch("not forked", p, 0);
        touch("wiped", p + P, 0);
        touch("kept", p + 2 * P, 0);
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    munmap(p + 2 * P, P);
    say("over a hole", madvise(p, 4 * P, MADV_NORMAL));
    touch("behind the hole", p + 3 * P, 0);
}

static void moves(void) {
    char *p = anon(4 * P, 3, MAP_PRIVATE);
    strcpy(p, "first");
    strcpy(p + P, "second");
    char *q = mremap(p, 2 * P, 2 * P, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, 0);
    printf("%s %d\n", q, p[0]);
    say("dontunmap grows", (long)mremap(q, P, 2 * P, MREMAP_MAYMOVE | 4, 0));
    say("fixed alone", syscall(SYS_mremap, q, P, P, MREMAP_FIXED, p));
    say("unknown flag", syscall(SYS_mremap, q, P, P, 8, 0));
    say("overlap", syscall(SYS_mremap, q, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, q + P));
    say("private nothing", syscall(SYS_mremap, q, 0, P, MREMAP_MAYMOVE, 0));
    char *to = anon(8 * P, 3, MAP_PRIVATE);
    char *r = mremap(q, 2 * P, 4 * P, MREMAP_MAYMOVE | MREMAP_FIXED, to + P);
    printf("%d %s %s %d\n", r == to + P, r, r + P, r[2 * P]);
    touch("old place", q, 0);
    say("shrink", (long)mremap(r, 4 * P, P, 0) == -1 ? -1 : 0);
    touch("cut off", r + P, 0);
    int f = memfd_create("m", 0);
    ftruncate(f, 4 * P);
    char *m = mmap(0, P, 3, MAP_SHARED, f, 0);
    m = mremap(m, P, 4 * P, MREMAP_MAYMOVE);
    m[3 * P] = 'e';
    char c;
    pread(f, &c, 1, 3 * P);
    printf("file %c\n", c);
    char *d = mremap(m, 0, 2 * P, MREMAP_MAYMOVE);
    d[P] = 'd';
    printf("second view %c\n", m[P]);
    say("remap_file_pages", syscall(SYS_remap_file_pages, m, P, 0, 3, 0));
    printf("page 3 at 0: %c\n", m[0]);
    say("remap with protection", syscall(SYS_remap_file_pages, m, P, 1, 3, 0));
    say("remap private", syscall(SYS_remap_file_pages, to, P, 0, 0, 0));
    ftruncate(f, P);
    touch("behind the end", d + P, 1);
    touch("behind the end, read", m + 2 * P, 0);
    struct stat s;
    ftruncate(f, 1UL << 40);
    char *big = mmap(0, 1UL << 36, 3, MAP_SHARED | MAP_NORESERVE, f, 0);
    say("a large sparse file", (long)big);
    big[1UL << 35] = 1;
    fstat(f, &s);
    printf("blocks %ld\n", (long)s.st_blocks);
}

static void limits(void) {
    struct rlimit l;
    getrlimit(RLIMIT_DATA, &l);
    rlim_t old = l.rlim_cur;
    l.rlim_cur = 0;
    setrlimit(RLIMIT_DATA, &l);
    say("private writable", (long)anon(64 << 20, 3, MAP_PRIVATE));
    say("shared", (long)anon(P, 3, MAP_SHARED));
    char *r = anon(64 << 20, 1, MAP_PRIVATE);
    say("readable", (long)r);
    say("becomes writable", mprotect(r, 64 << 20, 3));
    l.rlim_cur = old;
    setrlimit(RLIMIT_DATA, &l);
    getrlimit(RLIMIT_AS, &l);
    l.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_AS, &l);
    say("address space", (long)anon(64 << 20, 0, MAP_PRIVATE));
    say("in place of another", (long)mmap(r, 4 << 20, 1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    void (*parts[])(void) = {ranges, seals, advice, moves, locks, limits};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        fflush(stdout);
        if (fork() == 0) {
            parts[i]();
            fflush(stdout);
            _exit(0);
        }
        int status;
        wait(&status);
        printf("part %u: %x\n", i, status);
    }
    return 0;
}
