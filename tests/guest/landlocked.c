/* Landlock: what rulesets and rules there can be, and what a program that has restricted itself can still do: with files,
 * names, mounts, ports, signals, sockets and other processes. Prints the same wherever it runs. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct attr { uint64_t fs, net, scope; };
struct beneath { uint64_t access; int32_t fd; } __attribute__((packed));
struct port { uint64_t access, port; };

#define E(call) ((call) < 0 ? errno : 0)

static int make(struct attr *a, size_t size, uint32_t flags) { return syscall(SYS_landlock_create_ruleset, a, size, flags); }
static int add(int fd, int type, const void *rule, uint32_t flags) { return syscall(SYS_landlock_add_rule, fd, type, rule, flags); }
static int restrict_self(int fd, uint32_t flags) { return syscall(SYS_landlock_restrict_self, fd, flags); }

static int ruleset(uint64_t fs, uint64_t net, uint64_t scope)
{
    struct attr a = {fs, net, scope};
    return make(&a, sizeof a, 0);
}

static int allow(int rs, const char *path, uint64_t access)
{
    struct beneath b = {access, open(path, O_PATH | O_CLOEXEC)};
    int err = E(add(rs, 1, &b, 0));
    close(b.fd);
    return err;
}

static void restricted(int rs)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    int err = E(restrict_self(rs, 0));
    if (err)
        printf("restrict %d\n", err);
    close(rs);
}

/* Runs f in a child, so that what it forbids itself ends with it. */
static void within(const char *what, void (*f)(void))
{
    printf("%s:\n", what);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        f();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (status)
        printf("  status %x\n", status);
}

static int opens(const char *path, int flags)
{
    int fd = open(path, flags, 0644);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void calls(void)
{
    struct attr a = {1, 0, 0};
    char big[8192] = {1};
    printf("version %d, with arguments %d %d, flags %d %d\n", make(0, 0, 1) >= 7, E(make(&a, 0, 1)), E(make(0, 8, 1)), E(make(0, 0, 4)),
           E(make(0, 0, 3)));
    printf("size 0 %d, 4 %d, 7 %d, 8 %d, 16 %d, 24 %d, 4096 %d, 4097 %d\n", E(make(&a, 0, 0)), E(make(&a, 4, 0)), E(make(&a, 7, 0)),
           E(make(&a, 8, 0)), E(make(&a, 16, 0)), E(make(&a, 24, 0)), E(make((void *)big, 4096, 0)), E(make((void *)big, 4097, 0)));
    big[100] = 1;
    printf("more %d, null %d, bad %d\n", E(make((void *)big, 4096, 0)), E(make(0, 24, 0)), E(make((void *)8, 24, 0)));
    printf("nothing %d, unknown fs %d, net %d, scope %d\n", E(ruleset(0, 0, 0)), E(ruleset(1 << 16, 0, 0)), E(ruleset(0, 4, 0)),
           E(ruleset(0, 0, 4)));
    int rs = ruleset(0x1f, 1, 1);
    printf("fd flags %x %x", fcntl(rs, F_GETFL), fcntl(rs, F_GETFD));
    char link[64], to[64] = {0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", rs);
    readlink(link, to, 63);
    printf(" %s, read %d write %d\n", to, E(read(rs, to, 1)), E(write(rs, to, 1)));
    struct beneath b = {4, open("a", O_PATH)};
    struct port p = {1, 80};
    int file = open("a/f", O_RDONLY), pipes[2], mem = memfd_create("x", 0);
    pipe(pipes);
    printf("rule %d, flags %d, type 0 %d 3 %d, no ruleset %d %d, bad pointer %d\n", E(add(rs, 1, &b, 0)), E(add(rs, 1, &b, 1)),
           E(add(rs, 0, &b, 0)), E(add(rs, 3, &b, 0)), E(add(-1, 1, &b, 0)), E(add(file, 1, &b, 0)), E(add(rs, 1, (void *)8, 0)));
    b.access = 0;
    printf("allows nothing %d", E(add(rs, 1, &b, 0)));
    b.access = 0x20;
    printf(", not handled %d", E(add(rs, 1, &b, 0)));
    b.access = 8, b.fd = file;
    printf(", directory's right for a file %d", E(add(rs, 1, &b, 0)));
    b.access = 4;
    printf(" %d", E(add(rs, 1, &b, 0)));
    b.fd = -1;
    printf(", no file %d", E(add(rs, 1, &b, 0)));
    b.fd = rs;
    printf(", a ruleset %d", E(add(rs, 1, &b, 0)));
    b.fd = pipes[0];
    printf(", a pipe %d", E(add(rs, 1, &b, 0)));
    b.fd = mem;
    printf(", a memfd %d\n", E(add(rs, 1, &b, 0)));
    printf("port %d", E(add(rs, 2, &p, 0)));
    p.access = 0;
    printf(" nothing %d", E(add(rs, 2, &p, 0)));
    p.access = 2;
    printf(" not handled %d", E(add(rs, 2, &p, 0)));
    p.access = 1, p.port = 65536;
    printf(" 65536 %d", E(add(rs, 2, &p, 0)));
    p.port = 0;
    printf(" 0 %d\n", E(add(rs, 2, &p, 0)));
    if (geteuid() != 0)
        printf("without no_new_privs %d\n", E(restrict_self(rs, 0)));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    printf("restrict: flags %d, -1 %d, a file %d", E(restrict_self(rs, 8)), E(restrict_self(-1, 0)), E(restrict_self(file, 0)));
    printf(", log off alone %d %d\n", E(restrict_self(-1, 4)), E(restrict_self(-1, 1)));
    int n = 0;
    rs = ruleset(0, 0, 1);
    while (n < 20 && restrict_self(rs, 0) == 0)
        n++;
    printf("layers %d %d\n", n, errno);
}

static void files(void)
{
    int rs = ruleset(0xffff, 0, 0), before = open("a/f", O_RDWR);
    printf("  allow %d %d %d %d\n", allow(rs, "a", 4 | 8), allow(rs, "b", 2 | 4 | 1 << 8 | 1 << 5 | 1 << 7), allow(rs, "a/w", 2 | 1 << 14),
           allow(rs, "/bin", 1 | 4));
    allow(rs, "/lib", 1 | 4), allow(rs, "/lib64", 1 | 4), allow(rs, "/usr", 1 | 4);
    restricted(rs);
    printf("  a/f r %d w %d rw %d t %d path %d\n", opens("a/f", O_RDONLY), opens("a/f", O_WRONLY), opens("a/f", O_RDWR),
           opens("a/f", O_RDONLY | O_TRUNC), opens("a/f", O_PATH));
    printf("  a/w r %d w %d wt %d\n", opens("a/w", O_RDONLY), opens("a/w", O_WRONLY), opens("a/w", O_WRONLY | O_TRUNC));
    printf("  dirs a %d b %d . %d / %d\n", opens("a", O_RDONLY), opens("b", O_RDONLY), opens(".", O_RDONLY), opens("/", O_RDONLY));
    printf("  b/n new %d w %d wt %d r %d, c/n %d, tmpfile %d %d\n", opens("b/n", O_CREAT | O_WRONLY), opens("b/n", O_WRONLY),
           opens("b/n", O_WRONLY | O_TRUNC), opens("b/n", O_RDONLY), opens("c/n", O_CREAT | O_WRONLY),
           opens("b", O_TMPFILE | O_WRONLY), opens("c", O_TMPFILE | O_WRONLY));
    printf("  truncate %d %d, before %d\n", E(truncate("a/w", 3)), E(truncate("b/n", 3)), E(ftruncate(before, 5)));
    int w = open("a/w", O_WRONLY), n = open("b/n", O_RDWR);
    printf("  ftruncate %d %d\n", E(ftruncate(w, 4)), E(ftruncate(n, 4)));
    printf("  mkdir %d %d, mknod %d fifo %d, symlink %d, rmdir %d unlink %d %d\n", E(mkdir("b/d", 0755)), E(mkdir("a/d", 0755)),
           E(mknod("b/r", S_IFREG | 0644, 0)), E(mkfifo("b/p", 0644)), E(symlink("x", "b/s")), E(rmdir("b/d")), E(unlink("b/r")),
           E(unlink("a/f")));
    printf("  rename in b %d, to a %d, link in b %d, to a %d\n", E(rename("b/n", "b/m")), E(rename("b/m", "a/m")), E(link("b/m", "b/l")),
           E(link("b/m", "a/l")));
    struct stat st;
    printf("  stat %d chmod %d access %d chdir %d readlink %d\n", E(stat("c/x", &st)), E(chmod("b/m", 0600)), E(access("c/x", R_OK)),
           E(chdir("c")), E(readlink("../c/s", (char[9]){0}, 8)));
    chdir("..");
    int null = open("/dev/null", O_RDWR), zero = open("/proc/self/status", O_RDONLY);
    printf("  null %d proc %d\n", null >= 0, zero >= 0);
    int p[2], mem = memfd_create("m", 0);
    printf("  pipe %d memfd %d sock %d\n", E(pipe(p)), E(ftruncate(mem, 10)), E(socketpair(AF_UNIX, SOCK_STREAM, 0, p)));
    struct sockaddr_un un = {AF_UNIX, "b/sock"};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    printf("  bind %d\n", E(bind(s, (void *)&un, sizeof un)));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)0);
        _exit(errno);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("  run true %d\n", WEXITSTATUS(status));
    pid = fork();
    if (pid == 0) {
        execl("c/prog", "prog", (char *)0);
        _exit(errno);
    }
    waitpid(pid, &status, 0);
    printf("  run another %d\n", WEXITSTATUS(status));
    printf("  mount %d umount %d pivot %d bind %d unshare %d\n", E(mount("none", "b", "tmpfs", 0, 0)), E(umount2("/proc", MNT_DETACH)),
           E(syscall(SYS_pivot_root, "b", "b")), E(mount("a", "b", 0, MS_BIND, 0)), 0);
}

static void referring(void)
{
    uint64_t refer = 1 << 13, all = 0x1fff | refer;
    int rs = ruleset(0xffff, 0, 0);
    allow(rs, "r1", all & ~1), allow(rs, "r2", all & ~1), allow(rs, "r3", all), allow(rs, "r4", all & ~refer), allow(rs, "r5", refer | 0x30);
    restricted(rs);
    printf("  same rights %d", E(rename("r1/f", "r2/f")));
    printf(" back %d, to more %d, to less %d\n", E(rename("r2/f", "r1/f")), E(rename("r1/f", "r3/f")), E(rename("r3/g", "r1/g")));
    printf("  without refer: to %d from %d, within %d\n", E(rename("r1/f", "r4/f")), E(rename("r4/g", "r1/h")), E(rename("r4/g", "r4/h")));
    printf("  no make %d, link %d %d, directory %d %d\n", E(rename("r1/f", "r5/f")), E(link("r1/f", "r2/l")), E(link("r1/f", "r3/l")),
           E(rename("r1/d", "r2/d")), E(rename("r2/d", "r3/d")));
    printf("  exchange %d %d\n", E(renameat2(AT_FDCWD, "r1/f", AT_FDCWD, "r2/l", RENAME_EXCHANGE)),
           E(renameat2(AT_FDCWD, "r1/f", AT_FDCWD, "r3/h", RENAME_EXCHANGE)));
    printf("  replace %d %d, missing %d %d\n", E(rename("r1/f", "r2/l")), E(rename("r3/h", "r1/g")), E(rename("r1/none", "r2/x")),
           E(rename("r2/l", "c/x")));
}

/* Even a ruleset about other things forbids to move files to other directories. */
static void implied(void)
{
    int rs = ruleset(2, 0, 0);
    restricted(rs);
    printf("  rename across %d, within %d, link across %d, mkdir %d\n", E(rename("c/x", "b/x")), E(rename("c/x", "c/y")),
           E(link("c/y", "b/y")), E(mkdir("c/new", 0755)));
}

static void layered(void)
{
    int rs = ruleset(4 | 8, 0, 0);
    allow(rs, ".", 4 | 8);
    restricted(rs);
    rs = ruleset(4, 0, 0);
    allow(rs, "a", 4);
    restricted(rs);
    printf("  a/f %d c/y %d / %d dir c %d\n", opens("a/f", O_RDONLY), opens("c/y", O_RDONLY), opens("/", O_RDONLY), opens("c", O_RDONLY));
    printf("  write %d\n", opens("c/y", O_WRONLY));
}

static void devices(void)
{
    int before = open("/dev/null", O_RDWR), n;
    int rs = ruleset(1 << 15, 0, 0);
    restricted(rs);
    int null = open("/dev/null", O_RDWR);
    printf("  before %d", E(ioctl(before, TCGETS, &n)));
    printf(" after %d FIONBIO %d FIOCLEX %d FIONREAD %d\n", E(ioctl(null, TCGETS, &n)), E(ioctl(null, FIONBIO, &(int){0})), E(ioctl(null, FIOCLEX)),
           E(ioctl(null, FIONREAD, &n)));
    int f = open("a/f", O_RDONLY), p[2];
    pipe(p);
    printf("  file %d pipe %d\n", E(ioctl(f, TCGETS, &n)), E(ioctl(p[0], FIONREAD, &n)));
}

static int tcp(int port, int family)
{
    int s = socket(family, SOCK_STREAM, 0);
    struct sockaddr_in in = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}};
    int err = E(bind(s, (void *)&in, sizeof in));
    close(s);
    return err;
}

static int free_port(void)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof in;
    bind(s, (void *)&in, sizeof in);
    getsockname(s, (void *)&in, &len);
    close(s);
    return ntohs(in.sin_port);
}

static void ports(void)
{
    int yes = free_port(), no = free_port();
    while (no == yes)
        no = free_port();
    int rs = ruleset(0, 3, 0);
    struct port p = {3, yes};
    add(rs, 2, &p, 0);
    restricted(rs);
    printf("  bind %d %d", tcp(yes, AF_INET), tcp(no, AF_INET));
    struct sockaddr_in in = {AF_INET, htons(yes), {htonl(INADDR_LOOPBACK)}};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    printf(" connect %d", E(connect(s, (void *)&in, sizeof in)));
    in.sin_port = htons(no);
    printf(" %d", E(connect(s, (void *)&in, sizeof in)));
    printf(" short %d %d", E(bind(s, (void *)&in, 1)), E(bind(s, (void *)&in, 8)));
    in.sin_family = AF_UNSPEC;
    printf(" unspec %d %d", E(connect(s, (void *)&in, sizeof in)), E(bind(s, (void *)&in, sizeof in)));
    in.sin_addr.s_addr = 0;
    printf(" any %d", E(bind(s, (void *)&in, sizeof in)));
    in.sin_family = AF_INET6;
    printf(" other family %d", E(bind(s, (void *)&in, sizeof in)));
    in.sin_family = AF_INET;
    int u = socket(AF_INET, SOCK_DGRAM, 0);
    printf(" udp %d", E(bind(u, (void *)&in, sizeof in)));
    struct sockaddr_in6 in6 = {AF_INET6, htons(no), 0, IN6ADDR_LOOPBACK_INIT, 0};
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    printf(" six %d", E(bind(six, (void *)&in6, sizeof in6)));
    int l = socket(AF_INET, SOCK_STREAM, 0);
    printf(" listen %d\n", E(listen(l, 1)));
}

static pid_t outside;
static int named;

static void scopes(void)
{
    restricted(ruleset(0, 0, 3));
    pid_t child = fork();
    if (child == 0)
        pause(), _exit(0);
    printf("  kill outside %d, 0 %d, own %d, child %d", E(kill(outside, SIGCONT)), E(kill(outside, 0)), E(kill(getpid(), SIGCONT)),
           E(kill(child, SIGKILL)));
    waitpid(child, 0, 0);
    printf(", all %d\n", E(kill(-1, 0)));
    struct sockaddr_un un = {AF_UNIX};
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + snprintf(un.sun_path + 1, 90, "landlocked-%d", named);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0);
    printf("  connect outside %d", E(connect(s, (void *)&un, len)));
    un.sun_path[1] = 'L';
    printf(" dgram %d %d\n", E(sendto(d, "x", 1, 0, (void *)&un, len)), E(connect(d, (void *)&un, len)));
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    un.sun_path[1] = 'M';
    printf("  bind %d listen %d", E(bind(l, (void *)&un, len)), E(listen(l, 1)));
    printf(" connect own %d\n", E(connect(s, (void *)&un, len)));
}

static void tracing(void)
{
    restricted(ruleset(0, 1, 0));
    char c;
    struct { void *base; size_t len; } v = {&c, 1};
    printf("  attach outside %d, memory %d", E(ptrace(PTRACE_ATTACH, outside, 0, 0)), E(syscall(SYS_process_vm_readv, outside, &v, 1, &v, 1, 0)));
    pid_t child = fork();
    if (child == 0)
        pause(), _exit(0);
    printf(", child %d", E(ptrace(PTRACE_SEIZE, child, 0, 0)));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    child = fork();
    if (child == 0) {
        restricted(ruleset(0, 1, 0));
        pause();
        _exit(0);
    }
    printf(" %d\n", E(ptrace(PTRACE_SEIZE, child, 0, 0)));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
}

static void put(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    write(fd, "text text", 9);
    close(fd);
}

int main(int argc, char **argv)
{
    char base[64];
    snprintf(base, sizeof base, "/tmp/landlocked-%d", getpid());
    mkdir(base, 0755);
    if (chdir(base))
        return 1;
    const char *const dirs[] = {"a", "b", "c", "r1", "r2", "r3", "r4", "r5", "r1/d", "r3/d2"};
    for (unsigned i = 0; i < sizeof dirs / sizeof *dirs; i++)
        mkdir(dirs[i], 0755);
    const char *const names[] = {"a/f", "a/w", "c/x", "c/prog", "r1/f", "r3/g", "r4/g", "r3/h"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        put(names[i]);
    chmod("c/prog", 0755);
    symlink("nowhere", "c/s");
    within("calls", calls);
    within("files", files);
    within("referring", referring);
    within("implied", implied);
    within("layered", layered);
    within("devices", devices);
    within("ports", ports);
    fflush(stdout);
    outside = fork();
    if (outside == 0)
        for (;;)
            pause();
    named = getpid();
    struct sockaddr_un un = {AF_UNIX};
    socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 + snprintf(un.sun_path + 1, 90, "landlocked-%d", named);
    int l = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0);
    bind(l, (void *)&un, len), listen(l, 5);
    un.sun_path[1] = 'L';
    bind(d, (void *)&un, len);
    within("scopes", scopes);
    within("tracing", tracing);
    kill(outside, SIGKILL);
    waitpid(outside, 0, 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}
