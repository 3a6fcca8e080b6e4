/* User namespaces: maps and who may write them, ids as they are seen, capabilities, what is locked. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "in_child.h"

#define E(x) ((x) < 0 ? errno : 0)

static char dir[64];

static int put(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, text, strlen(text));
    int e = n < 0 ? errno : n == (ssize_t)strlen(text) ? 0 : 1000;
    close(fd);
    return e;
}

static int put_of(pid_t p, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", p, file);
    return put(path, text);
}

static void show(const char *file)
{
    char text[4096];
    int fd = open(file, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    printf("%s:", strrchr(file, '/') + 1);
    if (n < 0)
        printf(" error %d", errno);
    else {
        text[n] = 0;
        for (char *w = strtok(text, " \n"); w; w = strtok(NULL, " \n"))
            printf(" %s", w);
    }
    printf("\n");
    close(fd);
}

static void ids(const char *what)
{
    uid_t r, e, s;
    gid_t a, b, c, g[64];
    getresuid(&r, &e, &s);
    getresgid(&a, &b, &c);
    int n = getgroups(64, g);
    printf("%s: %u %u %u, %u %u %u, %u %u %u %u, groups", what, r, e, s, a, b, c, getuid(), geteuid(), getgid(), getegid());
    for (int i = 0; i < n; i++)
        printf(" %u", g[i]);
    printf("\n");
}

static void caps(const char *what)
{
    char line[200];
    FILE *f = fopen("/proc/self/status", "r");
    printf("%s:", what);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Cap", 3) || !strncmp(line, "Uid", 3) || !strncmp(line, "Gid", 3)) {
            line[strcspn(line, "\n")] = 0;
            for (char *p = line; *p; p++)
                *p = *p == '\t' ? ' ' : *p;
            printf(" %s", line);
        }
    fclose(f);
    printf(" secure %x\n", prctl(PR_GET_SECUREBITS));
}

/* As the ordinary user 65534, with one more group. */
static int nobody(void)
{
    gid_t more[] = {65534, 12};
    if (setgroups(2, more) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        return -1;
    return prctl(PR_SET_DUMPABLE, 1);
}

static void errors(void)
{
    printf("with fs %d thread %d", E(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0)),
           E(syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0)));
    printf(" own %d\n", E(setns(open("/proc/self/ns/user", O_RDONLY), CLONE_NEWUSER)));
    show("/proc/self/uid_map");
    show("/proc/self/setgroups");
    printf("initial %d %d %d\n", put("/proc/self/uid_map", "0 0 1"), put("/proc/self/gid_map", "x"), put("/proc/self/setgroups", "deny"));
    if (chroot("/proc"))
        return;
    printf("changed root %d\n", E(unshare(CLONE_NEWUSER)));
}

static void *sleeper(void *a)
{
    pause();
    return a;
}
static void threads(void)
{
    pthread_t t;
    pthread_create(&t, NULL, sleeper, NULL);
    printf("several threads %d\n", E(unshare(CLONE_NEWUSER)));
}

static void user(void)
{
    int root = open("/proc/self/ns/user", O_RDONLY), uts = open("/proc/self/ns/uts", O_RDONLY);
    char file[100];
    struct stat s;
    nobody();
    ids("outside");
    printf("unshare %d\n", E(unshare(CLONE_NEWUSER)));
    ids("unmapped");
    caps("inside");
    show("/proc/self/uid_map");
    show("/proc/self/gid_map");
    show("/proc/self/setgroups");
    printf("unmapped: setuid %d setgid %d setgroups %d setresuid %d fsuid %d\n", E(setuid(0)), E(setgid(0)), E(setgroups(0, NULL)), E(setresuid(-1, 0, -1)), setfsuid(0));
    printf("gid before setgroups %d", put("/proc/self/gid_map", "0 65534 1"));
    printf(" bad words %d %d", put("/proc/self/setgroups", "no"), put("/proc/self/setgroups", "deny x"));
    printf(" deny %d again %d allow %d\n", put("/proc/self/setgroups", "deny"), put("/proc/self/setgroups", "deny\n"), put("/proc/self/setgroups", "allow"));
    printf("another %d two %d empty %d", put("/proc/self/uid_map", "0 1000 1"), put("/proc/self/uid_map", "0 65534 2"), put("/proc/self/uid_map", "\n"));
    printf(" words %d %d %d", put("/proc/self/uid_map", "0 65534"), put("/proc/self/uid_map", "0 65534 1 7"), put("/proc/self/uid_map", "0 65534 1\n\n"));
    printf(" root %d", put("/proc/self/uid_map", "0 0 1"));
    printf(" uid %d gid %d", put("/proc/self/uid_map", "0 65534 1\n"), put("/proc/self/gid_map", "0 65534 1"));
    printf(" once %d %d deny %d project %d\n", put("/proc/self/uid_map", "0 65534 1"), put("/proc/self/gid_map", "0 65534 1"), put("/proc/self/setgroups", "deny"), put("/proc/self/projid_map", "0 5 6"));
    show("/proc/self/uid_map");
    show("/proc/self/gid_map");
    show("/proc/self/projid_map");
    show("/proc/self/setgroups");
    ids("mapped");
    caps("mapped");
    printf("setgroups %d setuid %d other %d", E(setgroups(0, NULL)), E(setuid(0)), E(setuid(1)));
    printf(" fsuid %u %u", setfsuid(1), setfsuid(-1));
    printf(" chown self %d\n", E(chown("/proc/self/exe", 0, 0)));
    snprintf(file, sizeof file, "%s/mine", dir);
    int fd = open(file, O_CREAT | O_RDWR, 0600);
    fstat(fd, &s);
    printf("file %u %u chown %d %d %d chmod %d\n", s.st_uid, s.st_gid, E(fchown(fd, 0, 0)), E(fchown(fd, 1, -1)), E(fchown(fd, -1, 5)), E(fchmod(fd, 0644)));
    snprintf(file, sizeof file, "%s/root", dir);
    printf("root's: stat %d", E(stat(file, &s)));
    printf(" %u %u open %d chmod %d chown %d\n", s.st_uid, s.st_gid, E(open(file, O_RDONLY)), E(chmod(file, 0644)), E(chown(file, 0, 0)));
    struct utsname u;
    printf("host name %d domain %d time %d", E(sethostname("x", 1)), E(setdomainname("x", 1)), E(syscall(SYS_settimeofday, NULL, &(struct {int a, b;}){0, 0})));
    printf(" mount %d chroot %d", E(mount("t", dir, "tmpfs", 0, NULL)), E(chroot("/")));
    printf(" uts %d", E(unshare(CLONE_NEWUTS)));
    printf(" %d", E(sethostname("inner", 5)));
    uname(&u);
    printf(" %s back %d up %d\n", u.nodename, E(setns(uts, 0)), E(setns(root, 0)));
    printf("limit %d", E(setpriority(PRIO_PROCESS, 0, -5)));
    struct limit { unsigned long a, b; } l;
    syscall(SYS_getrlimit, 7, &l);
    l.b += 1;
    printf(" %d mknod %d %d\n", E(syscall(SYS_setrlimit, 7, &l)), E(mknod("/tmp/x-user-spaces", S_IFCHR | 0600, 259)), E(kill(1, 0)));
}

static void sees(void)
{
    int to[2], back[2];
    char c = 0, path[64];
    if (pipe(to) || pipe(back))
        return;
    pid_t p = fork();
    if (!p) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        printf("child %d\n", E(unshare(CLONE_NEWUSER)));
        fflush(stdout);
        c = write(back[1], &c, 1) + read(to[0], &c, 1);
        ids("child");
        show("/proc/self/uid_map");
        printf("setresuid %d", E(setresuid(1000, 1001, 1002)));
        gid_t g[] = {5, 6};
        printf(" setgroups %d", E(setgroups(2, g)));
        printf(" setresgid %d\n", E(setresgid(7, 8, 9)));
        ids("child");
        fflush(stdout);
        c = write(back[1], &c, 1) + read(to[0], &c, 1);
        _exit(0);
    }
    c = read(back[0], &c, 1);
    printf("from outside %d %d", put_of(p, "uid_map", "0 100000 65536"), put_of(p, "gid_map", "0 200000 10\n10 300000 5\n\n"));
    printf(" %d", put_of(p, "gid_map", "0 200000 10\n5 300000 5"));
    printf(" %d", put_of(p, "gid_map", "0 200000 10\n10 200005 5"));
    printf(" %d\n", put_of(p, "gid_map", "0 200000 10\n10 300000 5\n"));
    snprintf(path, sizeof path, "/proc/%d/gid_map", p);
    show(path);
    c = write(to[1], &c, 1);
    c = read(back[0], &c, 1);
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d", p);
    stat(path, &s);
    printf("owner %u %u\n", s.st_uid, s.st_gid);
    c = write(to[1], &c, 1);
    siginfo_t i;
    waitid(P_PID, p, &i, WEXITED);
    printf("waited %u\n", i.si_uid);
}

static void nest(void)
{
    nobody();
    int depth = 0;
    for (;;) {
        char map[40];
        snprintf(map, sizeof map, "%u %u 1", depth, depth ? depth - 1 : 65534);
        if (unshare(CLONE_NEWUSER))
            break;
        int e = put("/proc/self/setgroups", "deny");
        e = e ? e : put("/proc/self/uid_map", map);
        e = e ? e : put("/proc/self/gid_map", map);
        if (e) {
            printf("at %d: %d\n", depth, e);
            return;
        }
        depth++;
    }
    printf("deep %d error %d uid %u\n", depth, errno, getuid());
    show("/proc/self/uid_map");
}

static void ioctls(void)
{
    int first = open("/proc/self/ns/user", O_RDONLY);
    struct stat a, b;
    uid_t owner = -1;
    nobody();
    unshare(CLONE_NEWUSER);
    put("/proc/self/uid_map", "7 65534 1");
    int mine = open("/proc/self/ns/user", O_RDONLY);
    printf("parent %d owner of mine %d", E(ioctl(mine, 0xb702)), E(ioctl(mine, 0xb701)));
    printf(" uid %d", E(ioctl(mine, 0xb704, &owner)));
    printf(" %u type %x first %d\n", owner, ioctl(mine, 0xb703), E(ioctl(first, 0xb702)));
    unshare(CLONE_NEWUSER);
    int below = open("/proc/self/ns/user", O_RDONLY);
    printf("parent %d", E(ioctl(below, 0xb702)));
    owner = -1;
    printf(" uid %d %u", E(ioctl(below, 0xb704, &owner)), owner);
    printf(" enter above %d own %d\n", E(setns(mine, 0)), E(setns(below, 0)));
    unshare(CLONE_NEWUTS);
    int uts = open("/proc/self/ns/uts", O_RDONLY), of = ioctl(uts, 0xb701);
    printf("owner of uts %d\n", E(of) || fstat(of, &a) || fstat(below, &b) || a.st_ino != b.st_ino);
}

static void enter(void)
{
    int to[2], back[2];
    char c = 0, path[64];
    if (pipe(to) || pipe(back))
        return;
    nobody();
    pid_t p = fork();
    if (!p) {
        unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC);
        put("/proc/self/setgroups", "deny");
        put("/proc/self/uid_map", "0 65534 1");
        put("/proc/self/gid_map", "0 65534 1");
        sethostname("within", 6);
        c = write(back[1], &c, 1) + read(to[0], &c, 1);
        _exit(0);
    }
    c = read(back[0], &c, 1);
    int fd = syscall(SYS_pidfd_open, p, 0);
    snprintf(path, sizeof path, "/proc/%d/ns/uts", p);
    printf("without %d", E(setns(open(path, O_RDONLY), 0)));
    printf(" all %d", E(setns(fd, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC)));
    gethostname(path, sizeof path);
    printf(" %s\n", path);
    ids("entered");
    caps("entered");
    c = write(to[1], &c, 1);
    waitpid(p, NULL, 0);
}

static void locked(void)
{
    char a[100], b[100];
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(b, sizeof b, "%s/b", dir);
    mkdir(a, 0755);
    mkdir(b, 0755);
    unshare(CLONE_NEWNS);
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    printf("tmpfs %d", E(mount("t", a, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, NULL)));
    printf(" user %d\n", E(unshare(CLONE_NEWUSER | CLONE_NEWNS)));
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/gid_map", "0 0 1");
    printf("umount %d", E(umount2(a, MNT_DETACH)));
    printf(" move %d", E(mount(a, b, NULL, MS_MOVE, NULL)));
    printf(" rw %d", E(mount(NULL, a, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL)));
    printf(" suid %d", E(mount(NULL, a, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV, NULL)));
    printf(" same %d", E(mount(NULL, a, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL)));
    printf(" atime %d", E(mount(NULL, a, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOATIME, NULL)));
    printf(" whole %d\n", E(mount(NULL, a, NULL, MS_REMOUNT | MS_RDONLY | MS_NODEV | MS_NOSUID, NULL)));
    printf("bind %d", E(mount(a, b, NULL, MS_BIND, NULL)));
    printf(" umount %d", E(umount(b)));
    printf(" parent alone %d", E(mount(dir, b, NULL, MS_BIND, NULL)));
    printf(" with all %d", E(mount(dir, b, NULL, MS_BIND | MS_REC, NULL)));
    printf(" umount %d\n", E(umount2(b, MNT_DETACH)));
    printf("own tmpfs %d", E(mount("t", b, "tmpfs", 0, NULL)));
    printf(" umount %d", E(umount(b)));
    printf(" proc %d", E(mount("p", b, "proc", 0, NULL)));
    printf(" nothing %d", E(mount("p", b, "nosuchfs", 0, NULL)));
    printf(" ext4 %d\n", E(mount("/dev/null", b, "ext4", 0, NULL)) != 0);
}

static void shown(void)
{
    int s[2], on = 1;
    struct ucred c;
    socklen_t len = sizeof c;
    nobody();
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    unshare(CLONE_NEWUSER);
    put("/proc/self/uid_map", "3 65534 1");
    getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &c, &len);
    printf("peer %u %u\n", c.uid, c.gid);
    gid_t g[8];
    len = sizeof g;
    printf("groups %d", E(getsockopt(s[0], SOL_SOCKET, 59, g, &len)));
    for (unsigned i = 0; i < len / 4; i++)
        printf(" %u", g[i]);
    setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    union { char b[CMSG_SPACE(sizeof c)]; struct cmsghdr h; } u = {{0}};
    char x = 0;
    struct iovec v = {&x, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b};
    u.h = (struct cmsghdr){CMSG_LEN(sizeof c), SOL_SOCKET, SCM_CREDENTIALS};
    c = (struct ucred){getpid(), 65534, 65534};
    memcpy(CMSG_DATA(&u.h), &c, sizeof c);
    printf("\nsend unmapped %d", E(sendmsg(s[0], &m, 0)));
    c = (struct ucred){getpid(), 3, 65534};
    memcpy(CMSG_DATA(&u.h), &c, sizeof c);
    printf(" %d", E(sendmsg(s[0], &m, 0)));
    put("/proc/self/setgroups", "deny");
    put("/proc/self/gid_map", "4 65534 1");
    c.gid = 4;
    memcpy(CMSG_DATA(&u.h), &c, sizeof c);
    printf(" mapped %d", E(sendmsg(s[0], &m, 0)));
    memset(u.b, 0, sizeof u.b);
    m.msg_controllen = sizeof u.b;
    printf(" got %zd", recvmsg(s[1], &m, 0));
    memcpy(&c, CMSG_DATA(&u.h), sizeof c);
    printf(" %d %u %u\n", c.pid == getpid(), c.uid, c.gid);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    siginfo_t i;
    kill(getpid(), SIGUSR1);
    sigwaitinfo(&set, &i);
    printf("signal %d %u\n", i.si_signo == SIGUSR1, i.si_uid);
    if (!fork())
        _exit(0);
    sigwaitinfo(&set, &i);
    printf("child %d %u\n", i.si_signo == SIGCHLD, i.si_uid);
}

static void limits(void)
{
    unshare(CLONE_NEWUSER);
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/gid_map", "0 0 1");
    show("/proc/sys/user/max_uts_namespaces");
    printf("set %d %d", put("/proc/sys/user/max_uts_namespaces", "1"), put("/proc/sys/user/max_user_namespaces", "1\n"));
    printf(" uts %d %d", E(unshare(CLONE_NEWUTS)), E(unshare(CLONE_NEWUTS)));
    printf(" user %d", E(unshare(CLONE_NEWUSER)));
    put("/proc/self/uid_map", "0 0 1");
    put("/proc/self/gid_map", "0 0 1");
    printf(" below %d uts %d\n", E(unshare(CLONE_NEWUSER)), E(unshare(CLONE_NEWUTS)));
}

static int run_caps(const char *path)
{
    pid_t p = fork();
    if (!p) {
        execl(path, path, "caps", NULL);
        printf("exec %d\n", errno);
        fflush(stdout);
        _exit(1);
    }
    int status;
    waitpid(p, &status, 0);
    return status;
}

static void programs(void)
{
    char self[200], suid[100], caps_of[100], buf[100];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(suid, sizeof suid, "%s/suid", dir);
    snprintf(caps_of, sizeof caps_of, "%s/caps", dir);
    char command[1000];
    snprintf(command, sizeof command, "cp %s %s && cp %s %s && chown 65534:65534 %s && chmod 6755 %s", self, suid, self, caps_of, suid, suid);
    if (system(command))
        return;
    fflush(stdout);
    unsigned v2[5] = {0x02000001, 1 << 13, 0, 0, 0};
    printf("set caps %d\n", E(setxattr(caps_of, "security.capability", v2, sizeof v2, 0)));
    fflush(stdout);
    nobody();
    unshare(CLONE_NEWUSER);
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", "1000 65534 1");
    put("/proc/self/gid_map", "1000 65534 1");
    printf("get %zd", getxattr(caps_of, "security.capability", buf, sizeof buf));
    printf(" %08x\n", *(unsigned *)buf);
    printf("set on root's %d on mine %d", E(setxattr(caps_of, "security.capability", v2, sizeof v2, 0)), E(setxattr(suid, "security.capability", v2, sizeof v2, 0)));
    printf(" user %d\n", E(setxattr(suid, "user.x", "y", 1, 0)));
    fflush(stdout);
    run_caps(suid);
    run_caps(caps_of);
    printf("unmapped set-user-id:\n");
    fflush(stdout);
    snprintf(suid, sizeof suid, "%s/rootsuid", dir);
    run_caps(suid);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOFBF, 65536);
    if (argc > 1) {
        caps(argv[1]);
        ids(argv[1]);
        return 0;
    }
    strcpy(dir, "/tmp/user-spacesXXXXXX");
    if (getuid() || !mkdtemp(dir))
        return 1;
    chmod(dir, 0777);
    char file[400], self[200];
    snprintf(file, sizeof file, "%s/root", dir);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(file, sizeof file, "cp %s %s/rootsuid && chmod 4755 %s/rootsuid", self, dir, dir);
    if (system(file))
        return 1;
    in_child("errors", errors);
    in_child("threads", threads);
    in_child("user", user);
    in_child("sees", sees);
    in_child("nest", nest);
    in_child("ioctls", ioctls);
    in_child("enter", enter);
    in_child("locked", locked);
    in_child("shown", shown);
    in_child("limits", limits);
    in_child("programs", programs);
    snprintf(file, sizeof file, "rm -rf %s", dir);
    return system(file) != 0;
}
