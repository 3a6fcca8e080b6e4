/* Namespaces: unshare, setns, clone's flags; what one holds is not seen in another. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "in_child.h"

#define E(x) ((x) < 0 ? errno : 0)

static const struct {
    const char *name;
    int flag;
} kind[] = {{"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC}, {"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS}, {"cgroup", CLONE_NEWCGROUP}};
#define KINDS 5

static ino_t first[KINDS];

static ino_t number(int k)
{
    char path[40];
    struct stat s;
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind[k].name);
    return stat(path, &s) ? 0 : s.st_ino;
}

static int open_ns(const char *who, int k)
{
    char path[60];
    snprintf(path, sizeof path, "/proc/%s/ns/%s", who, kind[k].name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void differences(const char *what)
{
    printf("%s:", what);
    for (int k = 0; k < KINDS; k++)
        printf(" %d", number(k) != first[k]);
    printf("\n");
}

static void errors(void)
{
    int p[2];
    if (pipe(p))
        return;
    printf("nothing %d unknown %d %d\n", E(unshare(0)), E(unshare(1)), E(syscall(SYS_unshare, 1L << 32)));
    printf("bad %d pipe %d root %d\n", E(setns(-1, 0)), E(setns(p[0], 0)), E(setns(open("/", O_RDONLY), 0)));
    int uts = open_ns("self", 0), me = syscall(SYS_pidfd_open, getpid(), 0);
    printf("kind %d %d\n", E(setns(uts, CLONE_NEWNET)), E(setns(uts, CLONE_NEWUTS)));
    printf("pidfd %d %d %d\n", E(setns(me, 0)), E(setns(me, CLONE_FS)), E(setns(me, CLONE_NEWUTS | CLONE_NEWIPC)));
    printf("user %d\n", E(setns(open("/proc/self/ns/user", O_RDONLY), 0)));
    struct stat a, b;
    int owner = ioctl(uts, 0xb701), owners = ioctl(owner, 0xb701);
    printf("owner %d", E(fstat(owner, &a)) || stat("/proc/self/ns/user", &b) || a.st_ino != b.st_ino);
    printf(" cloexec %d its own %d", fcntl(owner, F_GETFD), owners < 0 ? EPERM : 0);
    printf(" parent %d %d type %x\n", E(ioctl(uts, 0xb702)), E(ioctl(open("/proc/self/ns/pid", O_RDONLY), 0xb702)) != 0, ioctl(owner, 0xb703));
    printf("clone %d %d\n", E(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0)), E(syscall(SYS_clone, CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0)));
    if (setresuid(65534, 65534, 65534))
        return;
    printf("nobody");
    for (int k = 0; k < KINDS; k++)
        printf(" %d %d %d", E(unshare(kind[k].flag)), E(syscall(SYS_clone, kind[k].flag | SIGCHLD, 0, 0, 0, 0)), E(setns(uts, 0)));
    printf("\n");
}

static void each(void)
{
    for (int k = 0; k < KINDS; k++) {
        int back = open_ns("self", k);
        printf("%s %d", kind[k].name, E(unshare(kind[k].flag)));
        differences("");
        printf("back %d\n", E(setns(back, kind[k].flag)));
    }
    differences("all back");
    fflush(stdout);
    pid_t p = syscall(SYS_clone, CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWCGROUP | SIGCHLD, 0, 0, 0, 0);
    if (!p) {
        differences("clone");
        fflush(stdout);
        _exit(0);
    }
    waitpid(p, NULL, 0);
}

static void names(void)
{
    char before[65], name[65];
    gethostname(before, sizeof before);
    int to[2], back[2];
    if (pipe(to) || pipe(back))
        return;
    pid_t p = fork();
    if (!p) {
        unshare(CLONE_NEWUTS);
        gethostname(name, sizeof name);
        printf("a copy %d", !strcmp(name, before));
        printf(" %d\n", sethostname("inner", 5));
        fflush(stdout);
        char c = 0;
        c = write(back[1], &c, 1) + read(to[0], &c, 1);
        _exit(c == 9);
    }
    char c;
    c = read(back[0], &c, 1);
    gethostname(name, sizeof name);
    printf("outside the same %d\n", !strcmp(name, before));
    int fd = syscall(SYS_pidfd_open, p, 0);
    printf("follow %d", E(setns(fd, CLONE_NEWUTS)));
    gethostname(name, sizeof name);
    printf(" %s\n", name);
    c = write(to[1], &c, 1);
    waitpid(p, NULL, 0);
    gethostname(name, sizeof name);
    printf("outlives its maker %s\n", name);
}

static void ipc(void)
{
    int old = open_ns("self", 1), id = shmget(0x5eed, 4096, IPC_CREAT | 0600);
    unshare(CLONE_NEWIPC);
    printf("key there %d", E(shmget(0x5eed, 4096, 0)));
    printf(" own %d\n", E(shmget(0x5eed, 4096, IPC_CREAT | IPC_EXCL | 0600)));
    printf("back %d", E(setns(old, 0)));
    printf(" key there %d\n", shmget(0x5eed, 4096, 0) == id);
    shmctl(id, IPC_RMID, 0);
}

static void net(void)
{
    struct sockaddr_un name = {AF_UNIX, "\0drupe-spaces"};
    int a = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(a, (void *)&name, 2 + 13);
    listen(a, 1);
    unshare(CLONE_NEWNET);
    int b = socket(AF_UNIX, SOCK_STREAM, 0);
    printf("name there %d\n", E(connect(b, (void *)&name, 2 + 13)));
    struct sockaddr_in in = {AF_INET, htons(0), {htonl(INADDR_LOOPBACK)}, {0}};
    int t = socket(AF_INET, SOCK_STREAM, 0);
    printf("loopback is down: %d", E(connect(t, (void *)&in, sizeof in)));
    in.sin_addr.s_addr = 0;
    printf(" any %d\n", E(bind(t, (void *)&in, sizeof in)));
}

static void mounts(void)
{
    char dir[] = "/tmp/spacesXXXXXX", file[40];
    struct stat s;
    if (!mkdtemp(dir))
        return;
    snprintf(file, sizeof file, "%s/f", dir);
    int to[2], back[2];
    if (pipe(to) || pipe(back) || chdir(dir))
        return;
    pid_t p = fork();
    if (!p) {
        printf("unshared %d", E(unshare(CLONE_NEWNS)));
        printf(" private %d", E(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)));
        printf(" mounted %d", E(mount("t", dir, "tmpfs", 0, 0)));
        printf(" file %d\n", close(open(file, O_CREAT | O_WRONLY, 0600)));
        fflush(stdout);
        char c = 0;
        c = write(back[1], &c, 1) + read(to[0], &c, 1);
        _exit(c == 9);
    }
    char c, cwd[100];
    c = read(back[0], &c, 1);
    printf("outside %d\n", E(stat(file, &s)));
    snprintf(cwd, sizeof cwd, "%d", p);
    printf("follow %d", E(setns(open_ns(cwd, 3), CLONE_NEWNS)));
    printf(" file %d cwd %s\n", E(stat(file, &s)), getcwd(cwd, sizeof cwd));
    c = write(to[1], &c, 1);
    waitpid(p, NULL, 0);
    printf("outlives its maker %d\n", E(stat(file, &s)));
    umount(dir);
    rmdir(dir);
}

static int stage;
static void *thread(void *a)
{
    int fd = dup(0);
    printf("several threads: %d %d %d\n", E(unshare(CLONE_VM)), E(unshare(CLONE_SIGHAND)), E(unshare(CLONE_THREAD)));
    printf("shared directories: %d", E(setns(open_ns("self", 3), 0)));
    printf(" own %d", E(unshare(CLONE_FS | CLONE_FILES)));
    printf(" %d\n", E(chdir("/tmp")));
    close(fd);
    stage = fd;
    return a;
}
static void parts(void)
{
    pthread_t t;
    char cwd[100];
    if (chdir("/"))
        return;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
    printf("others: %s, descriptor %d\n", getcwd(cwd, sizeof cwd), E(fcntl(stage, F_GETFD)));
    usleep(50000);
    printf("alone %d\n", E(unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOFBF, 65536);
    for (int k = 0; k < KINDS; k++)
        first[k] = number(k);
    in_child("errors", errors);
    in_child("each", each);
    in_child("names", names);
    in_child("ipc", ipc);
    in_child("net", net);
    in_child("mounts", mounts);
    in_child("parts", parts);
    return 0;
}
