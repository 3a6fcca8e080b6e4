/* Filling and locking large ranges: what is filled is resident, and a kill does not wait for the end. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE (1ul << 40)

static int resident(char *p, size_t len) {
    static unsigned char vec[1 << 16];
    int n = 0;
    if (mincore(p, len, vec))
        return -1;
    for (size_t i = 0; i < len / 4096; i++)
        n += vec[i] & 1;
    return n;
}

int main(void) {
    size_t len = 40 << 20;
    char *p = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    printf("populated: %d\n", resident(p, len));
    munmap(p, len);
    p = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_NONBLOCK, -1, 0);
    printf("with MAP_NONBLOCK: %d\n", resident(p, len));
    munmap(p, len);
    p = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    printf("no access: %s\n", p == MAP_FAILED ? "failed" : "mapped");

    for (int how = 0; how < 2; how++) {
        int ready[2], st;
        pipe(ready);
        int pid = fork();
        if (pid == 0) {
            int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
            write(ready[1], "x", 1);
            p = mmap(0, HUGE, PROT_READ, how ? flags : flags | MAP_POPULATE, -1, 0);
            if (how)
                madvise(p, HUGE, 22 /* MADV_POPULATE_READ */);
            _exit(0);
        }
        char c;
        read(ready[0], &c, 1);
        usleep(20000);
        kill(pid, SIGKILL);
        waitpid(pid, &st, 0);
        printf("killed while it fills: signal %d\n", WIFSIGNALED(st) ? WTERMSIG(st) : 0);
    }
    return 0;
}
