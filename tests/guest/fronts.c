// System call sites that offer no room for a jump: what lies in front of them is short, and what follows them makes
// their own jump land in the program itself. Whatever the kernel does about them, every call answers, from wherever it
// is reached, while signals come, in a child as well.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// `add $0, %eax` in five bytes behind each call: the first three say "close by".
#define NEAR "  .byte 0x05, 0, 0, 0, 0\n"
asm(".text\n"
    ".balign 16\n.type one, @function\none: .cfi_startproc\n"
    "  test %esi, %esi\n  jnz 2f\n"
    "1: mov %rdi, %rax\n"
    "2: syscall\n" NEAR "  ret\n.cfi_endproc\n.size one, . - one\n"
    ".balign 16\n.type two, @function\ntwo: .cfi_startproc\n"
    "  cmp $1, %esi\n  je 1f\n  cmp $2, %esi\n  je 2f\n"
    "  xor %eax, %eax\n"
    "1: mov $110, %al\n"
    "2: syscall\n" NEAR "  ret\n.cfi_endproc\n.size two, . - two\n"
    ".balign 16\n.type many, @function\nmany: .cfi_startproc\n"
    "  cmp $1, %esi\n  je 1f\n  cmp $2, %esi\n  je 2f\n"
    "  lea 7(%rdi), %rdx\n"
    "1: mov %edi, %eax\n"
    "2: syscall\n" NEAR "  ret\n.cfi_endproc\n.size many, . - many\n"
    ".balign 16\n.type rd, @function\nrd: .cfi_startproc\n"
    "  mov %edx, %edx\n  xor %eax, %eax\n  syscall\n" NEAR "  ret\n.cfi_endproc\n.size rd, . - rd\n");
// %rax is not an argument: entry at the call itself needs it set, which `call_at` does.
long one(long nr, long at), two(long nr, long at), many(long nr, long at);
long rd(int fd, void *buf, long len);

static long call_at(long (*f)(long, long), long nr, long at) {
    long result;
    asm volatile("call *%[f]" : "=a"(result) : [f] "r"(f), "a"(nr), "D"(nr), "S"(at) : "rcx", "rdx", "r11", "memory", "cc");
    return result;
}

static volatile int ticks;
static void tick(int sig) {
    (void)sig;
    ticks++;
}

static int wrong(const char *name, long (*f)(long, long), long entries, long rounds) {
    long want = getppid(), bad = 0;
    for (long i = 0; i < rounds; i++)
        for (long at = 0; at < (i % 512 ? 1 : entries); at++)
            bad += (int)call_at(f, SYS_getppid, at) != want;
    if (bad) printf("%s: %ld wrong\n", name, bad);
    return bad != 0;
}

static int all(long rounds) {
    return wrong("one", one, 2, rounds) | wrong("two", two, 3, rounds) | wrong("many", many, 3, rounds);
}

// A read that a signal interrupts is made again, by the way it came.
static void restarts(void) {
    int p[2];
    char c = 'x';
    if (pipe(p)) exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(20000);
        for (int i = 0; i < 5; i++) {
            kill(getppid(), SIGUSR1);
            usleep(2000);
        }
        _exit(write(p[1], &c, 1) != 1);
    }
    char got = 0;
    long n = rd(p[0], &got, 1);
    printf("read %ld %c\n", n, got);
    int status;
    waitpid(pid, &status, 0);
    printf("child %d\n", status);
}

int main(void) {
    struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    struct itimerval every = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &every, NULL);
    int bad = 0;
    // The copy of the text comes meanwhile.
    int zero = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < 20; i++) {
        bad |= all(3000);
        char c = 'x';
        for (int n = 0; n < 1000; n++) bad |= rd(zero, &c, 1) != 1 || c;
        usleep(5000);
    }
    printf("calls %s, ticks %s\n", bad ? "wrong" : "right", ticks ? "some" : "none");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) _exit(all(3000));
    int status;
    waitpid(pid, &status, 0);
    printf("child %d\n", status);
    memset(&every, 0, sizeof every);
    setitimer(ITIMER_REAL, &every, NULL);
    restarts();
    // What a program reads of itself is what its file holds.
    unsigned char code[8];
    int self = open("/proc/self/mem", O_RDONLY);
    if (pread(self, code, 5, (off_t)(long)rd) == 5) printf("code %02x %02x %02x %02x %02x\n", code[0], code[1], code[2], code[3], code[4]);
    return bad;
}
