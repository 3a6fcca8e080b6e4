/* fanotify: which groups and marks there can be, what they are told by descriptors and by handles of files, what they
 * are asked, and what stands in /proc. Prints the same wherever it runs, as root; others see its refusals. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sched.h>
#include <dirent.h>

struct meta { uint32_t len; uint8_t vers, reserved; uint16_t head; uint64_t mask; int32_t fd, pid; };
struct info { uint8_t type, pad; uint16_t len; };
struct response { int32_t fd; uint32_t response; };

enum {
    CLOEXEC = 1, NONBLOCK = 2, CONTENT = 4, PRE = 8, UNLIM_QUEUE = 0x10, UNLIM_MARKS = 0x20, AUDIT = 0x40, R_PIDFD = 0x80,
    R_TID = 0x100, R_FID = 0x200, R_DIR = 0x400, R_NAME = 0x800, R_TARGET = 0x1000, R_FDERR = 0x2000, R_MNT = 0x4000,
};
enum {
    M_ADD = 1, M_REMOVE = 2, M_NOFOLLOW = 4, M_ONLYDIR = 8, M_MOUNT = 0x10, M_IGNORED = 0x20, M_SURV = 0x40, M_FLUSH = 0x80,
    M_FS = 0x100, M_EVICT = 0x200, M_IGNORE = 0x400, M_MNTNS = 0x110,
};
#define ACCESS 1ull
#define MODIFY 2ull
#define ATTRIB 4ull
#define CLOSE_W 8ull
#define CLOSE_N 0x10ull
#define OPEN 0x20ull
#define FROM 0x40ull
#define TO 0x80ull
#define CREATE 0x100ull
#define DELETE 0x200ull
#define DELETE_SELF 0x400ull
#define MOVE_SELF 0x800ull
#define EXEC 0x1000ull
#define OVERFLOW 0x4000ull
#define FS_ERROR 0x8000ull
#define OPEN_PERM 0x10000ull
#define ACCESS_PERM 0x20000ull
#define EXEC_PERM 0x40000ull
#define PRE_ACCESS 0x100000ull
#define ATTACH 0x1000000ull
#define DETACH 0x2000000ull
#define ON_CHILD 0x8000000ull
#define RENAME 0x10000000ull
#define ONDIR 0x40000000ull

static int init(unsigned flags, unsigned event) { return syscall(SYS_fanotify_init, flags, event); }
static int mark(int fd, unsigned flags, uint64_t mask, int dir, const char *path)
{
    return syscall(SYS_fanotify_mark, fd, flags, mask, dir, path) < 0 ? errno : 0;
}

static char base[128], fsid[8];
static struct { char name[64]; uint64_t dev, ino; char handle[256]; unsigned len; } known[64];
static int knowns;

static void know(const char *path)
{
    struct { struct file_handle h; char room[128]; } h;
    int id;
    h.h.handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, path, &h.h, &id, 0) < 0)
        printf("no handle of %s %d\n", path, errno);
    snprintf(known[knowns].name, 64, "%s", path);
    known[knowns].len = 8 + h.h.handle_bytes;
    memcpy(known[knowns++].handle, &h, 8 + h.h.handle_bytes);
}

static const char *which(const char *handle)
{
    uint32_t bytes;
    memcpy(&bytes, handle, 4);
    for (int i = knowns; i-- > 0;)
        if (known[i].len == 8 + bytes && !memcmp(handle, known[i].handle, 8 + bytes))
            return known[i].name;
    return "?";
}

static void show_path(int fd)
{
    char link[64], to[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, to, sizeof to - 1);
    if (n < 0) {
        printf(" (no link %d)", errno);
        return;
    }
    to[n] = 0;
    printf(" %s flags %x", !strncmp(to, base, strlen(base)) ? to + strlen(base) : to, fcntl(fd, F_GETFL));
}

static int own_pid;

/* All that waits. */
static void drain(const char *what, int fd)
{
    static char buf[65536] __attribute__((aligned(8)));
    printf("%s:\n", what);
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, 0) == 0)
            return;
        ssize_t n = read(fd, buf, sizeof buf);
        if (n < 0) {
            printf("  read %d\n", errno);
            return;
        }
        for (char *at = buf; at < buf + n;) {
            struct meta m;
            memcpy(&m, at, sizeof m);
            printf("  %llx vers %d head %d pid %s", (unsigned long long)m.mask, m.vers, m.head,
                   m.pid == own_pid ? "own" : m.pid == 0 ? "0" : "other");
            if (m.fd >= 0) {
                show_path(m.fd);
                close(m.fd);
            } else
                printf(" fd %d", m.fd);
            for (char *i = at + m.head; i < at + m.len;) {
                struct info info;
                memcpy(&info, i, sizeof info);
                uint32_t bytes;
                memcpy(&bytes, i + 12, 4);
                switch (info.type) {
                case 1: case 3:
                    printf(" [%d %d %s%s]", info.type, info.pad, which(i + 12), memcmp(i + 4, fsid, 8) ? " fsid!" : "");
                    break;
                case 2: case 10: case 12:
                    printf(" [%d %s%s '%s']", info.type, which(i + 12), memcmp(i + 4, fsid, 8) ? " fsid!" : "", i + 20 + bytes);
                    break;
                case 4: {
                    int p;
                    memcpy(&p, i + 4, 4);
                    printf(" [pidfd %s len %d]", p >= 0 ? "yes" : p == -1 ? "no" : "failed", info.len);
                    if (p >= 0)
                        close(p);
                    break;
                }
                default:
                    printf(" [%d len %d]", info.type, info.len);
                }
                if (info.len == 0)
                    break;
                i += info.len;
            }
            printf("\n");
            at += m.len;
        }
    }
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        printf("put %s %d\n", path, errno);
    close(fd);
}

static int get(const char *path)
{
    char c;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return errno;
    int err = read(fd, &c, 1) < 0 ? errno : 0;
    close(fd);
    return err ? 1000 + err : 0;
}

static void groups(void)
{
    static const unsigned flags[] = {
        0, CLOEXEC, NONBLOCK, CONTENT, PRE, CONTENT | PRE, UNLIM_QUEUE, UNLIM_MARKS, R_PIDFD, R_TID, R_PIDFD | R_TID, R_FID,
        R_FID | CONTENT, R_FID | PRE, R_DIR, R_NAME, R_DIR | R_NAME, R_FID | R_NAME, R_FID | R_DIR | R_NAME, R_TARGET,
        R_TARGET | R_FID, R_TARGET | R_DIR | R_NAME, R_TARGET | R_FID | R_DIR | R_NAME, R_FDERR, R_FDERR | R_FID,
        R_MNT, R_MNT | R_FID, R_MNT | CONTENT, R_MNT | R_FDERR, 0x8000, 0x10000, 0x80000000, R_FID | 0x8000, R_FID | UNLIM_QUEUE,
        R_FID | R_TID, R_FID | R_PIDFD, R_FID | R_DIR | CLOEXEC | NONBLOCK,
    };
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        int fd = init(flags[i], 0);
        printf("init %x %d", flags[i], fd < 0 ? errno : 0);
        if (fd >= 0)
            printf(" fl %x fd %x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD)), close(fd);
        printf("\n");
    }
    static const unsigned events[] = {
        1, 2, 3, O_APPEND, O_NONBLOCK, O_SYNC, O_DSYNC, O_CLOEXEC, O_LARGEFILE, 0100000, O_NOATIME, O_TRUNC, O_CREAT, O_DIRECT,
        O_DIRECTORY, O_PATH, O_NOFOLLOW, O_EXCL, O_RDWR | O_CLOEXEC,
    };
    for (unsigned i = 0; i < sizeof events / sizeof *events; i++) {
        int fd = init(R_FID, events[i]);
        printf("init event %x %d\n", events[i], fd < 0 ? errno : 0);
        close(fd);
    }
}

static void refusals(void)
{
    static const unsigned inits[] = {0, CONTENT, R_FID, R_DIR | R_NAME, R_FID | R_DIR | R_NAME | R_TARGET, R_MNT};
    static const struct { unsigned flags; uint64_t mask; const char *path; } m[] = {
        {0, OPEN, "f"}, {M_ADD, 0, "f"}, {M_ADD, OPEN, "f"}, {M_ADD | M_REMOVE, OPEN, "f"}, {M_ADD | M_FLUSH, OPEN, "f"},
        {M_FLUSH, 0, "f"}, {M_FLUSH, OPEN, "f"}, {M_FLUSH | M_ONLYDIR, 0, "f"}, {M_FLUSH | M_MOUNT, 0, 0}, {M_FLUSH | M_FS, 0, 0},
        {M_REMOVE, OPEN, "f"}, {M_REMOVE, OPEN, "f"}, {M_REMOVE, 0, "f"}, {M_ADD, 1ull << 32, "f"}, {M_ADD, OPEN | 0x2000, "f"},
        {M_ADD, OVERFLOW, "f"}, {M_ADD, OPEN | OVERFLOW, "f"}, {M_ADD | 0x800, OPEN, "f"}, {M_ADD | 1u << 31, OPEN, "f"},
        {M_ADD | M_ONLYDIR, OPEN, "f"}, {M_ADD | M_ONLYDIR, OPEN, "d"}, {M_ADD, OPEN, "none"}, {M_ADD, OPEN, ""}, {M_ADD, OPEN, "f/x"},
        {M_ADD | M_NOFOLLOW, OPEN, "l"}, {M_ADD, OPEN, "l"}, {M_ADD, OPEN, "loop"}, {M_ADD | M_NOFOLLOW, OPEN, "loop"},
        {M_ADD, OPEN_PERM, "f"}, {M_ADD, ACCESS_PERM, "f"}, {M_ADD, EXEC_PERM, "f"}, {M_ADD, PRE_ACCESS, "f"}, {M_ADD, EXEC, "f"},
        {M_ADD, ATTRIB, "f"}, {M_ADD, CREATE, "d"}, {M_ADD, DELETE_SELF, "f"}, {M_ADD, MOVE_SELF, "f"}, {M_ADD, RENAME, "d"},
        {M_ADD, RENAME, "f"}, {M_ADD, CREATE, "f"}, {M_ADD, OPEN | ONDIR, "f"}, {M_ADD, OPEN | ON_CHILD, "f"}, {M_ADD, ONDIR, "d"},
        {M_ADD, FS_ERROR, "d"}, {M_ADD | M_FS, FS_ERROR, "d"}, {M_ADD | M_MOUNT, FS_ERROR, "d"}, {M_ADD | M_MOUNT, OPEN, "d"},
        {M_ADD | M_MOUNT, ATTRIB, "d"}, {M_ADD | M_FS, OPEN, "d"}, {M_ADD | M_FS, CREATE | ATTRIB, "d"},
        {M_ADD | M_EVICT, OPEN, "e"}, {M_ADD | M_EVICT | M_MOUNT, OPEN, "d"}, {M_ADD | M_EVICT | M_FS, OPEN, "d"},
        {M_ADD, MODIFY, "e"}, {M_ADD | M_EVICT, OPEN, "e"}, {M_ADD | M_EVICT, OPEN, "f"},
        {M_ADD | M_IGNORED, OPEN, "f"}, {M_ADD | M_IGNORED | M_IGNORE, OPEN, "f"}, {M_ADD | M_IGNORE, OPEN, "d"},
        {M_ADD | M_IGNORE | M_MOUNT, OPEN, "d"}, {M_ADD | M_IGNORE | M_FS, OPEN, "d"}, {M_ADD | M_IGNORE | M_SURV, OPEN, "d"},
        {M_ADD | M_IGNORED, OPEN, "d"}, {M_ADD | M_IGNORE, OPEN, "e"}, {M_ADD | M_IGNORED | M_SURV, OPEN, "e"},
        {M_ADD | M_IGNORE | M_SURV, OPEN, "e"}, {M_ADD | M_IGNORE, OPEN, "e"}, {M_ADD | M_SURV, OPEN, "e"},
        {M_ADD | M_IGNORE, OPEN | ONDIR, "f"}, {M_ADD | M_IGNORE | M_SURV, OPEN | ONDIR | ON_CHILD, "f"},
        {M_ADD | M_IGNORE | M_SURV, CREATE, "f"}, {M_ADD, ATTACH, "d"}, {M_ADD | M_MNTNS, ATTACH, "d"},
        {M_ADD | M_MNTNS, ATTACH, "/proc/self/ns/mnt"}, {M_ADD | M_MNTNS, ATTACH | DETACH, "/proc/self/ns/mnt"},
        {M_ADD | M_MNTNS, ATTACH, "/proc/self/ns/uts"}, {M_ADD | M_MNTNS, OPEN, "/proc/self/ns/mnt"}, {M_ADD | M_MNTNS, OPEN, "d"},
        {M_REMOVE | M_MNTNS, ATTACH, "/proc/self/ns/mnt"}, {M_ADD, OPEN, "/proc/self/status"}, {M_ADD | M_FS, OPEN, "/proc"},
        {M_ADD, OPEN_PERM, "/proc/self/status"}, {M_ADD | M_MOUNT, OPEN, "/proc"}, {M_ADD, OPEN, "/proc/self/ns/uts"},
        {M_FLUSH | M_MNTNS, 0, 0}, {M_FLUSH | 0x200, 0, 0},
    };
    for (unsigned g = 0; g < sizeof inits / sizeof *inits; g++) {
        int fd = init(inits[g], O_RDONLY);
        if (fd < 0) {
            printf("group %x %d\n", inits[g], errno);
            continue;
        }
        for (unsigned i = 0; i < sizeof m / sizeof *m; i++)
            printf("%x: %x %llx %s %d\n", inits[g], m[i].flags, (unsigned long long)m[i].mask, m[i].path ? m[i].path : "-",
                   mark(fd, m[i].flags, m[i].mask, AT_FDCWD, m[i].path));
        close(fd);
    }
    int fd = init(R_FID, 0), other = open("f", O_RDONLY), path = open("d", O_PATH), pipes[2];
    pipe(pipes);
    printf("on -1 %d, on a file %d, bad pointer %d, no path %d", mark(-1, M_ADD, OPEN, AT_FDCWD, "f"),
           mark(other, M_ADD, OPEN, AT_FDCWD, "f"), mark(fd, M_ADD, OPEN, AT_FDCWD, (char *)1), mark(fd, M_ADD, OPEN, AT_FDCWD, 0));
    printf(", by fd %d %d %d %d, at %d %d, pipe %d %d\n", mark(fd, M_ADD, OPEN, other, 0), mark(fd, M_ADD, OPEN, path, 0),
           mark(fd, M_ADD, OPEN, 99, 0), mark(fd, M_ADD | M_ONLYDIR, OPEN, other, 0), mark(fd, M_ADD, OPEN, path, "in"),
           mark(fd, M_ADD, OPEN, other, "in"), mark(fd, M_ADD, OPEN, pipes[0], 0), mark(fd, M_ADD | M_FS, OPEN, pipes[0], 0));
    close(fd), close(other), close(path), close(pipes[0]), close(pipes[1]);
}

static void unprivileged(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
            _exit(1);
        printf("as nobody\n");
        groups();
        own_pid = getpid();
        int fd = init(R_FID | R_DIR | R_NAME, O_RDONLY);
        printf("marks %d %d %d %d\n", mark(fd, M_ADD, OPEN | ON_CHILD, AT_FDCWD, "d"), mark(fd, M_ADD, OPEN, AT_FDCWD, "secret"),
               mark(fd, M_ADD | M_MOUNT, OPEN, AT_FDCWD, "d"), mark(fd, M_ADD | M_FS, OPEN, AT_FDCWD, "d"));
        get("d/in");
        drain("nobody's", fd);
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, 0, 0);
}

static void by_descriptor(void)
{
    int fd = init(NONBLOCK, O_RDONLY), n = -1;
    uint64_t all = ACCESS | MODIFY | CLOSE_W | CLOSE_N | OPEN | EXEC;
    printf("empty %d", read(fd, &n, 4) < 0 ? errno : 0);
    printf(" mark %d", mark(fd, M_ADD, all | ON_CHILD, AT_FDCWD, "d"));
    ioctl(fd, FIONREAD, &n);
    printf(" pending %d\n", n);
    get("d/in");
    ioctl(fd, FIONREAD, &n);
    printf("pending %d", n);
    char small[24];
    printf(" small %d", read(fd, small, 20) < 0 ? errno : 0);
    printf(" write %d", write(fd, small, 4) < 0 ? errno : 0);
    printf(" %d\n", write(fd, (struct response[]){{5, 1}}, 8) < 0 ? errno : 0);
    drain("read", fd);
    put("d/in", "xyz");
    drain("written", fd);
    put("d/new", "xyz");
    int t = open("d/in", O_RDWR | O_TRUNC);
    ftruncate(t, 100);
    fallocate(t, 0, 0, 200);
    close(t);
    truncate("d/in", 10);
    drain("truncated", fd);
    t = open("d/in", O_RDONLY);
    unlink("d/in");
    close(t);
    drain("unlinked while open", fd);
    DIR *dir = opendir("d");
    while (readdir(dir))
        ;
    closedir(dir);
    drain("directory without ONDIR", fd);
    mark(fd, M_ADD, ONDIR, AT_FDCWD, "d");
    dir = opendir("d");
    while (readdir(dir))
        ;
    closedir(dir);
    mkdir("d/sub", 0755);
    dir = opendir("d/sub");
    closedir(dir);
    rmdir("d/sub");
    drain("directory with ONDIR", fd);
    put("d/in", "abc");
    drain("made", fd);
    mark(fd, M_REMOVE, OPEN, AT_FDCWD, "d");
    get("d/in");
    drain("without OPEN", fd);
    printf("ignore %d\n", mark(fd, M_ADD | M_IGNORED, CLOSE_N, AT_FDCWD, "d/in"));
    get("d/in");
    drain("without CLOSE_NOWRITE", fd);
    put("d/in", "q");
    get("d/in");
    drain("modified", fd);
    mark(fd, M_ADD | M_IGNORED | M_SURV, CLOSE_N | CLOSE_W, AT_FDCWD, "d/in");
    put("d/in", "q");
    get("d/in");
    drain("surviving", fd);
    printf("flush %d\n", mark(fd, M_FLUSH, 0, AT_FDCWD, 0));
    get("d/in");
    drain("nothing", fd);
    /* What O_RDWR cannot open, and no numbers left. */
    close(fd);
    fd = init(NONBLOCK, O_WRONLY);
    mark(fd, M_ADD, OPEN | ONDIR, AT_FDCWD, "d");
    mark(fd, M_ADD, OPEN, AT_FDCWD, "d/in");
    closedir(opendir("d"));
    get("d/in");
    drain("a directory for writing", fd);
    drain("then", fd);
    close(fd);
    fd = init(NONBLOCK | R_FDERR, O_WRONLY);
    mark(fd, M_ADD, OPEN | ONDIR, AT_FDCWD, "d");
    closedir(opendir("d"));
    drain("with its error", fd);
    close(fd);
    /* One mark of a mount. */
    fd = init(NONBLOCK | R_TID | CLOEXEC, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_LARGEFILE);
    printf("mount %d\n", mark(fd, M_ADD | M_MOUNT, all, AT_FDCWD, "d"));
    put("d/in", "mm");
    symlink("in", "d/link");
    get("d/link");
    drain("by the mount", fd);
    mkdir("d/bound", 0755);
    if (mount("d", "d/bound", 0, MS_BIND, 0))
        printf("bind %d\n", errno);
    drain("after binding", fd);
    get("d/bound/in");
    drain("by another mount", fd);
    printf("fs %d\n", mark(fd, M_ADD | M_FS, OPEN, AT_FDCWD, "d"));
    get("d/bound/in");
    drain("by the file system", fd);
    printf("busy %d\n", umount("d/bound") ? errno : 0);
    close(fd);
    rmdir("d/bound");
    unlink("d/link");
}

static void *reads(void *path)
{
    get(path);
    return 0;
}

static void merging(void)
{
    int fd = init(NONBLOCK, O_RDONLY);
    mark(fd, M_ADD, OPEN | CLOSE_N | ACCESS, AT_FDCWD, "f");
    for (int i = 0; i < 5; i++)
        get("f");
    drain("five times", fd);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        get("f"), _exit(0);
    waitpid(pid, 0, 0);
    get("f");
    drain("two processes", fd);
    pthread_t t;
    pthread_create(&t, 0, reads, "f");
    pthread_join(t, 0);
    drain("a thread", fd);
    close(fd);
    fd = init(NONBLOCK | R_TID, O_RDONLY);
    mark(fd, M_ADD, OPEN | CLOSE_N | ACCESS, AT_FDCWD, "f");
    pthread_create(&t, 0, reads, "f");
    pthread_join(t, 0);
    get("f");
    drain("by threads", fd);
    close(fd);
    fd = init(NONBLOCK | R_PIDFD, O_RDONLY);
    mark(fd, M_ADD, OPEN, AT_FDCWD, "f");
    get("f");
    drain("pidfd", fd);
    pid = fork();
    if (pid == 0)
        get("f"), _exit(0);
    waitpid(pid, 0, 0);
    drain("pidfd of one that is gone", fd);
    close(fd);
}

static void by_handle(void)
{
    static const unsigned modes[] = {R_FID, R_DIR, R_FID | R_DIR, R_DIR | R_NAME, R_FID | R_DIR | R_NAME,
                                     R_FID | R_DIR | R_NAME | R_TARGET};
    uint64_t all = ACCESS | MODIFY | ATTRIB | CLOSE_W | CLOSE_N | OPEN | FROM | TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF;
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        for (int fs = 0; fs < 3; fs++) {
            int fd = init(NONBLOCK | modes[i], O_RDONLY);
            printf("mode %x by %s %d\n", modes[i], fs == 2 ? "file" : fs ? "file system" : "directory",
                   fs == 2 ? mark(fd, M_ADD, all & ~(FROM | TO | CREATE | DELETE), AT_FDCWD, "t/a")
                           : mark(fd, M_ADD | (fs ? M_FS : 0), (all | ONDIR | ON_CHILD) | (modes[i] & R_NAME ? RENAME : 0), AT_FDCWD, "t"));
            int f = open("t/made", O_CREAT | O_RDWR, 0644);
            know("t/made");
            write(f, "x", 1);
            close(f);
            drain("made", fd);
            mkdir("t/dir", 0755);
            know("t/dir");
            drain("mkdir", fd);
            chmod("t/a", 0600 + i);
            chmod("t/dir", 0700);
            chmod("t", 0755);
            drain("chmod", fd);
            rename("t/made", "t/dir/moved");
            drain("rename", fd);
            rename("t/dir", "t/ren");
            drain("rename of a directory", fd);
            get("t/ren/moved");
            get("t/a");
            closedir(opendir("t/ren"));
            closedir(opendir("t"));
            drain("open", fd);
            link("t/a", "t/b");
            drain("link", fd);
            rename("t/ren/moved", "t/b");
            drain("rename over", fd);
            unlink("t/b");
            drain("unlink", fd);
            rmdir("t/ren");
            drain("rmdir", fd);
            f = open("t/x", O_CREAT | O_RDWR, 0644);
            know("t/x");
            unlink("t/x");
            drain("unlinked", fd);
            write(f, "x", 1);
            close(f);
            drain("closed", fd);
            symlink("nowhere", "t/s");
            unlink("t/s");
            drain("symlink", fd);
            truncate("t/a", 3);
            drain("truncate", fd);
            knowns = 2;
            close(fd);
        }
}

static void overflow(void)
{
    int fd = init(NONBLOCK | R_FID | R_DIR | R_NAME, O_RDONLY), events = 0, last = 0, n;
    mark(fd, M_ADD, CREATE, AT_FDCWD, "t");
    char name[64];
    FILE *f = fopen("/proc/sys/fs/fanotify/max_queued_events", "r");
    int most = 0;
    fscanf(f, "%d", &most);
    fclose(f);
    printf("most %d", most);
    for (int i = 0; i < most + 10; i++) {
        snprintf(name, sizeof name, "t/%d", i);
        close(open(name, O_CREAT | O_WRONLY, 0600));
        unlink(name);
    }
    static char buf[65536];
    while ((n = read(fd, buf, sizeof buf)) > 0)
        for (char *at = buf; at < buf + n; at += ((struct meta *)at)->len, events++) {
            last = ((struct meta *)at)->mask;
            if (last & OVERFLOW)
                printf(" len %d fd %d pid %d", ((struct meta *)at)->len, ((struct meta *)at)->fd, ((struct meta *)at)->pid);
        }
    printf(" events %d last %x\n", events, last);
    close(fd);
}

struct asker { int fd, answers[8], n, seen; };

static void *answer(void *arg)
{
    struct asker *a = arg;
    for (int i = 0; i < a->n; i++) {
        char buf[256];
        if (read(a->fd, buf, sizeof buf) < 24)
            break;
        struct meta m;
        memcpy(&m, buf, sizeof m);
        a->seen = a->seen << 4 | (m.mask >> 16 & 15);
        struct response r = {m.fd, a->answers[i]};
        if (write(a->fd, &r, 8) != 8)
            a->seen = -errno;
        close(m.fd);
    }
    return 0;
}

static void asking(void)
{
    int fd = init(CONTENT, O_RDONLY);
    pthread_t t;
    printf("asked %d\n", mark(fd, M_ADD, OPEN_PERM | ACCESS_PERM, AT_FDCWD, "f"));
    struct asker a = {fd, {1, 1}, 2};
    pthread_create(&t, 0, answer, &a);
    int err = get("f");
    pthread_join(t, 0);
    printf("both allowed %d seen %x\n", err, a.seen);
    a = (struct asker){fd, {2}, 1};
    pthread_create(&t, 0, answer, &a);
    err = get("f");
    pthread_join(t, 0);
    printf("open denied %d seen %x\n", err, a.seen);
    a = (struct asker){fd, {1, 2}, 2};
    pthread_create(&t, 0, answer, &a);
    err = get("f");
    pthread_join(t, 0);
    printf("read denied %d seen %x\n", err, a.seen);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        close(fd), _exit(get("f"));
    struct pollfd p = {fd, POLLIN, 0};
    poll(&p, 1, 10000);
    char buf[256];
    int n = read(fd, buf, sizeof buf);
    struct meta m;
    memcpy(&m, buf, sizeof m);
    printf("event %d mask %llx child %d", n, (unsigned long long)m.mask, m.pid == pid);
    static const uint32_t wrong[] = {0, 3, 4, 0x11, 2 | 5 << 24, 1 | 1 << 24, 0x21, 0x80};
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        printf(" %zd", write(fd, (struct response[]){{m.fd, wrong[i]}}, 8) < 0 ? (ssize_t)-errno : 0);
    printf(" fd %zd", write(fd, (struct response[]){{-1, 1}}, 8) < 0 ? (ssize_t)-errno : 0);
    printf(" %zd", write(fd, (struct response[]){{77, 1}}, 8) < 0 ? (ssize_t)-errno : 0);
    printf(" short %zd", write(fd, (struct response[]){{m.fd, 1}}, 7) < 0 ? (ssize_t)-errno : 0);
    printf(" bad %zd", write(fd, (void *)8, 8) < 0 ? (ssize_t)-errno : 0);
    printf(" long %zd", write(fd, (struct response[3]){{m.fd, 1}}, 24));
    printf(" again %zd\n", write(fd, (struct response[]){{m.fd, 1}}, 8) < 0 ? (ssize_t)-errno : 0);
    close(m.fd);
    /* The end of the group lets everybody go on. */
    poll(&p, 1, 10000);
    close(fd);
    int status;
    waitpid(pid, &status, 0);
    printf("let go %d\n", WEXITSTATUS(status));
    fd = init(PRE, O_RDONLY);
    mark(fd, M_ADD, OPEN_PERM, AT_FDCWD, "f");
    static const int errors[] = {EPERM, EIO, EBUSY, ETXTBSY, EAGAIN, ENOSPC, EDQUOT};
    for (unsigned i = 0; i < 7; i++) {
        a = (struct asker){fd, {2 | errors[i] << 24}, 1};
        pthread_create(&t, 0, answer, &a);
        err = get("f");
        pthread_join(t, 0);
        printf("denied by %d: %d\n", errors[i], err);
    }
    /* Whoever is killed waits no more. */
    pid = fork();
    if (pid == 0)
        close(fd), _exit(get("f"));
    p.fd = fd;
    poll(&p, 1, 10000);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    printf("killed %d", WTERMSIG(status));
    printf(" left %d\n", poll(&p, 1, 0));
    close(fd);
    /* Programs. */
    fd = init(CONTENT | NONBLOCK, O_RDONLY);
    mark(fd, M_ADD, OPEN | EXEC, AT_FDCWD, "prog");
    pid = fork();
    if (pid == 0) {
        execl("prog", "prog", (char *)0);
        _exit(errno);
    }
    waitpid(pid, &status, 0);
    drain("run", fd);
    close(fd);
    fd = init(CONTENT, O_RDONLY);
    mark(fd, M_ADD, EXEC_PERM, AT_FDCWD, "prog");
    printf("opened %d\n", get("prog"));
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        execl("prog", "prog", (char *)0);
        _exit(errno);
    }
    a = (struct asker){fd, {2}, 1};
    answer(&a);
    waitpid(pid, &status, 0);
    printf("not run %d seen %x\n", WEXITSTATUS(status), a.seen);
    close(fd);
}

static void info(void)
{
    int fd = init(CONTENT | R_TID | CLOEXEC, O_RDWR | O_CLOEXEC);
    mark(fd, M_ADD, OPEN | ONDIR | ON_CHILD, AT_FDCWD, "d");
    mark(fd, M_ADD | M_IGNORE | M_SURV, CLOSE_N, AT_FDCWD, "f");
    mark(fd, M_ADD | M_IGNORED, CLOSE_W, AT_FDCWD, "e");
    mark(fd, M_ADD | M_MOUNT, OPEN_PERM, AT_FDCWD, "d");
    mark(fd, M_REMOVE | M_MOUNT, OPEN_PERM, AT_FDCWD, "d");
    mark(fd, M_ADD | M_MOUNT, CLOSE_W, AT_FDCWD, "d");
    mark(fd, M_ADD | M_FS, MODIFY, AT_FDCWD, "d");
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *f = fopen(path, "r");
    struct stat st;
    while (fgets(line, sizeof line, f)) {
        unsigned long ino = 0;
        unsigned dev = 0, mount = 0;
        char *rest = strstr(line, "mflags");
        if (!strncmp(line, "fanotify", 8) && rest) {
            *strstr(rest, "ignored_mask") = 0;
            if (sscanf(line, "fanotify ino:%lx sdev:%x", &ino, &dev) == 2) {
                for (int i = 0; i < 3; i++) {
                    static const char *const names[] = {"d", "e", "f"};
                    stat(names[i], &st);
                    if (st.st_ino == ino)
                        printf("inode %s %s\n", names[i], rest);
                }
            } else if (sscanf(line, "fanotify mnt_id:%x", &mount) == 1)
                printf("mount %s\n", rest);
            else
                printf("fs %s\n", rest);
        } else if (!strncmp(line, "fanotify", 8))
            printf("%s", line);
    }
    fclose(f);
    close(fd);
    static const char *const settings[] = {"max_queued_events", "max_user_groups"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/sys/fs/fanotify/%s", settings[i]);
        f = fopen(path, "r");
        fgets(line, sizeof line, f);
        printf("%s %s", settings[i], line);
        fclose(f);
    }
    int n = 0, fds[200];
    while (n < 200 && (fds[n] = init(0, 0)) >= 0)
        n++;
    printf("groups %d %d\n", n, errno);
    while (n-- > 0)
        close(fds[n]);
}

static void mounts(void)
{
    int fd = init(R_MNT | NONBLOCK, 0), ns = open("/proc/self/ns/mnt", O_RDONLY);
    printf("mounts %d\n", mark(fd, M_ADD | M_MNTNS, ATTACH | DETACH, ns, 0));
    mkdir("m", 0755);
    mount("none", "m", "tmpfs", 0, 0);
    drain("mounted", fd);
    umount("m");
    drain("unmounted", fd);
    mount("d", "m", 0, MS_BIND, 0);
    mkdir("m2", 0755);
    drain("bound", fd);
    mount("m", "m2", 0, MS_MOVE, 0);
    drain("moved", fd);
    umount2("m2", MNT_DETACH);
    drain("detached", fd);
    close(fd);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    own_pid = getpid();
    if (geteuid() != 0 || unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) {
        printf("no root\n");
        groups();
        return 0;
    }
    snprintf(base, sizeof base, "/tmp/fanotify-%d", own_pid);
    mkdir(base, 0755);
    if (mount("none", base, "tmpfs", 0, 0) || chdir(base))
        return 1;
    chmod(base, 0755);
    struct statfs sf;
    statfs(base, &sf);
    memcpy(fsid, &sf.f_fsid, 8);
    mkdir("d", 0755), mkdir("t", 0755);
    put("f", "text"), put("e", "text"), put("d/in", "text"), put("t/a", "text"), put("secret", "text");
    put("prog", "#!/bin/true\n");
    chmod("secret", 0600), chmod("prog", 0755);
    symlink("f", "l"), symlink("loop", "loop");
    know("t"), know("t/a");
    printf("root\n");
    groups();
    refusals();
    unprivileged();
    by_descriptor();
    merging();
    by_handle();
    overflow();
    asking();
    info();
    mounts();
    chdir("/");
    umount2(base, MNT_DETACH);
    rmdir(base);
    return 0;
}
