/* What administrators do: accounting, swap areas, quotas, the end of a pid namespace, mounts beneath mounts and into groups,
 * trees that are opened with attributes, settings of processes. Prints the same wherever it runs, as root in a mount
 * namespace of its own; others see what is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define E(...) ({ errno = 0; long r_ = syscall(__VA_ARGS__); r_ < 0 ? errno : 0; })

struct record {
    uint8_t flag, version;
    uint16_t tty;
    uint32_t exit, uid, gid, pid, ppid, btime;
    float etime;
    uint16_t times[8];
    char comm[16];
};

static void put(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    write(fd, text, strlen(text));
    close(fd);
}

static pid_t child(int how)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, "accounted");
        if (how == 0)
            _exit(3);
        if (how == 1)
            kill(getpid(), SIGKILL);
        if (how == 2 && setgid(65534) == 0 && setuid(65534) == 0)
            _exit(0);
        execl("/bin/true", "true", (char *)0);
        _exit(1);
    }
    waitpid(pid, 0, 0);
    return pid;
}

static void accounting(void)
{
    printf("acct: none %d, missing %d, directory %d, device %d, proc %d, too long %d, bad %d\n", E(SYS_acct, 0), E(SYS_acct, "none"),
           E(SYS_acct, "."), E(SYS_acct, "/dev/null"), E(SYS_acct, "/proc/self/comm"), E(SYS_acct, memset(malloc(5001), 'x', 5000)),
           E(SYS_acct, (char *)8));
    put("log", "");
    if (E(SYS_acct, "log"))
        return;
    time_t before = time(0);
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = child(i);
    E(SYS_acct, 0);
    child(0);
    struct record r;
    int fd = open("log", O_RDONLY), n = 0;
    while (read(fd, &r, sizeof r) == sizeof r)
        for (int i = 0; i < 4; i++)
            if (r.pid == pids[i]) {
                printf("record %d: version %d flags %x exit %x uid %u gid %u parent %d time %d length %d name %.16s\n", i, r.version, r.flag & ~2,
                       r.exit, r.uid, r.gid, r.ppid == getpid(), r.btime + 2 >= before && r.btime <= time(0), r.etime >= 0 && r.etime < 6000, r.comm);
                n++;
            }
    printf("records %d\n", n);
    close(fd);
}

static void swapping(void)
{
    printf("swapon: flags %d, missing %d, empty %d, directory %d, file %d, bad %d\n", E(SYS_swapon, "log", 0x100000), E(SYS_swapon, "none", 0),
           E(SYS_swapon, "", 0), E(SYS_swapon, ".", 0), E(SYS_swapon, "log", 0), E(SYS_swapon, 8, 0));
    printf("swapoff: missing %d, file %d, directory %d\n", E(SYS_swapoff, "none"), E(SYS_swapoff, "log"), E(SYS_swapoff, "."));
}

static void quotas(void)
{
    mknod("block", S_IFBLK | 0600, makedev(7, 1234));
    int fd = open(".", O_RDONLY);
#define Q(c, t) ((unsigned)(c) << 8 | (t))
    printf("quotactl: type %d, all %d, none %d, missing %d, no device %d, unknown %d, %d\n", E(SYS_quotactl, Q(0x800001, 3), "log", 0, 0),
           E(SYS_quotactl, Q(0x800001, 0), 0, 0, 0), E(SYS_quotactl, Q(0x800007, 0), 0, 0, 0), E(SYS_quotactl, Q(0x800007, 0), "none", 0, 0),
           E(SYS_quotactl, Q(0x800007, 1), "log", 0, 0), E(SYS_quotactl, Q(0x123456, 0), "log", 0, 0), E(SYS_quotactl, Q(0x800007, 2), 8, 0, 0));
    printf("quotactl_fd: %d, type %d, %d %d\n", E(443, -1, 0, 0, 0), E(443, fd, Q(0x800001, 3), 0, 0), E(443, fd, Q(0x800001, 0), 0, 0),
           E(443, fd, Q(0x800007, 0), 0, 0));
    close(fd);
}

static int init(void *arg)
{
    long command = (long)arg;
    if (E(SYS_reboot, 1, 672274793, command, 0) != EINVAL || E(SYS_reboot, 0xfee1dead, 1, command, 0) != EINVAL)
        return 77;
    int err = E(SYS_reboot, 0xfee1dead, 672274793, command, 0);
    return 100 + err;
}

static void ending(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    static const unsigned commands[] = {0x1234567, 0xcdef0123, 0x4321fedc, 0xa1b2c3d4, 0x89abcdef, 0, 0xd000fce2, 5};
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        fflush(stdout);
        pid_t pid = clone(init, stack + sizeof stack, CLONE_NEWPID | SIGCHLD, (void *)(long)commands[i]);
        int status = 0;
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            printf("clone %d\n", errno);
        printf("reboot %x: %x\n", commands[i], status);
    }
}

static const char *group(const char *path)
{
    static char line[1024], found[64];
    char real[256];
    FILE *f = fopen("/proc/self/mountinfo", "r");
    snprintf(real, sizeof real, " %s/%s ", getcwd(line, 200) ? strdup(line) : "", path);
    strcpy(found, "none");
    while (fgets(line, sizeof line, f))
        if (strstr(line, real))
            snprintf(found, sizeof found, "%s%s", strstr(line, "shared:") ? "shared " : "", strstr(line, "master:") ? "slave" : "");
    fclose(f);
    return found;
}

static int tree(const char *path, unsigned flags) { return syscall(SYS_open_tree, AT_FDCWD, path, flags); }
static int move(int from, const char *path, const char *to, unsigned flags)
{
    return E(SYS_move_mount, from, path, AT_FDCWD, to, flags);
}

static void mounting(void)
{
    mkdir("a", 0755), mkdir("b", 0755), mkdir("c", 0755);
    mount("one", "a", "tmpfs", 0, 0), mkdir("a/one", 0755), mkdir("a/sub", 0755);
    mount("two", "b", "tmpfs", 0, 0), mkdir("b/two", 0755);
    int t = tree("b", 1);
    printf("beneath: both %d, no mount %d, root %d", move(t, "", "a", 0x304), move(t, "", "c", 0x204), move(t, "", "/", 0x204));
    printf(", done %d", move(t, "", "a", 0x204));
    printf(" top one %d two %d", access("a/one", F_OK), access("a/two", F_OK));
    umount("a");
    printf(", then one %d two %d", access("a/one", F_OK), access("a/two", F_OK));
    umount("a");
    printf(", then %d\n", access("a/two", F_OK));
    close(t);
    mount("one", "a", "tmpfs", 0, 0), mkdir("a/one", 0755), mkdir("a/sub", 0755);
    printf("moved beneath %d, itself %d", move(AT_FDCWD, "b", "a", 0x200), move(AT_FDCWD, "a", "a", 0x200));
    printf(" one %d\n", access("a/one", F_OK));
    umount("a"), umount("a");
    mount("one", "a", "tmpfs", 0, 0), mkdir("a/sub", 0755);
    mount("a", "b", 0, MS_BIND, 0), mount("a/sub", "c", 0, MS_BIND, 0);
    printf("group of none %d", move(AT_FDCWD, "a", "b", 0x100));
    mount(0, "a", 0, MS_SHARED, 0);
    printf(", shared %d %s", move(AT_FDCWD, "a", "b", 0x100), group("b"));
    printf(", again %d, narrower %d %s", move(AT_FDCWD, "a", "b", 0x100), move(AT_FDCWD, "a", "c", 0x100), group("c"));
    mount(0, "c", 0, MS_PRIVATE, 0), mount(0, "b", 0, MS_PRIVATE, 0);
    printf(", wider %d, no mount %d, other %d\n", move(AT_FDCWD, "c", "b", 0x100), move(AT_FDCWD, "a/sub", "b", 0x100), move(AT_FDCWD, "/proc", "b", 0x100));
    umount("c"), umount("b");
    uint64_t attr[4] = {1, 0, 0, 0};
    printf("open_tree_attr: none %d, size without %d, small %d, bad %d", E(467, AT_FDCWD, "a", 1, 0, 0), E(467, AT_FDCWD, "a", 1, 0, 32),
           E(467, AT_FDCWD, "a", 1, attr, 8), E(467, AT_FDCWD, "a", 1, 8, 32));
    t = syscall(467, AT_FDCWD, "a", 1, attr, 32);
    printf(", read-only %d", move(t, "", "b", 4));
    printf(" write %d", mkdir("b/new", 0755) < 0 ? errno : 0);
    attr[0] = 1u << 30;
    printf(", unknown %d\n", E(467, AT_FDCWD, "a", 1, attr, 32));
    umount("b"), umount("a");
}

static void settings(void)
{
    for (int o = 67; o <= 68; o++)
        printf("prctl %d: %ld %ld %ld\n", o, (long)prctl(o, 1, 0, 0, 0), (long)prctl(o, 0, 0, 0, 0), (long)prctl(o, 0, 0, 0, 1));
    prctl(67, 1, 0, 0, 0);
    printf("merges %d\n", prctl(68, 0, 0, 0, 0));
    prctl(67, 0, 0, 0, 0);
    int p[2];
    struct iovec v = {"x", 1};
    pipe(p);
    close(p[0]);
    int before = E(SYS_pwritev2, p[1], &v, 1, -1L, -1L, 0x100);
    printf("no signal %d\n", before);
    close(p[1]);
}

int main(void)
{
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    char base[64];
    snprintf(base, sizeof base, "/tmp/administering-%d", getpid());
    mkdir(base, 0755);
    if (geteuid() != 0 || unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) {
        chdir(base);
        printf("acct %d, swapon %d %d, swapoff %d, reboot %d %d, quotactl %d\n", E(SYS_acct, 0), E(SYS_swapon, "none", 0), E(SYS_swapon, "x", -1),
               E(SYS_swapoff, "none"), E(SYS_reboot, 0, 0, 0, 0), E(SYS_reboot, 0xfee1dead, 672274793, 0, 0), E(SYS_quotactl, 0x80000100, 0, 0, 0));
        settings();
    } else {
        mount("none", base, "tmpfs", 0, 0);
        chdir(base);
        accounting();
        swapping();
        quotas();
        ending();
        mounting();
        settings();
        chdir("/");
        umount2(base, MNT_DETACH);
    }
    rmdir(base);
    return 0;
}
