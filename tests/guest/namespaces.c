/* `/proc/PID/ns`: what the links say, what they lead to, and who shares what. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_GET_NSTYPE _IO(0xb7, 3)
#define NS_GET_OWNER_UID _IO(0xb7, 4)

static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"};

static void one(const char *name) {
    char path[64], text[64] = "", again[64] = "";
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    int n = readlink(path, text, sizeof text - 1);
    char kind[32] = "";
    unsigned long ino = 0;
    char end = 0;
    int parts = sscanf(text, "%31[a-z]:[%lu%c", kind, &ino, &end);
    struct stat at, link;
    struct statfs fs = {0};
    printf("%s: %d %s%c", name, parts, kind, end);
    int r = stat(path, &at);
    printf(", stat %d %d %o", r, at.st_ino == ino, at.st_mode);
    r = lstat(path, &link);
    printf(", lstat %d %o %ld", r, link.st_mode, (long)link.st_size);
    r = statfs(path, &fs);
    printf(", statfs %d %lx\n", r, (long)fs.f_type);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char c;
    struct stat open_at;
    printf("  open %d, fstat %d", fd >= 0, fstat(fd, &open_at) == 0 && open_at.st_ino == ino);
    r = read(fd, &c, 1);
    int e = errno;
    printf(", read %d %s", r, r < 0 ? strerror(e) : "");
    printf(", type %#x", ioctl(fd, NS_GET_NSTYPE));
    unsigned uid = 77;
    r = ioctl(fd, NS_GET_OWNER_UID, &uid);
    printf(", owner %d %s", r, r < 0 ? strerror(errno) : "");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    readlink(path, again, sizeof again - 1);
    printf(", named %d", strcmp(text, again) == 0);
    close(fd);
    snprintf(path, sizeof path, "/proc/%d/ns/%s", getppid(), name);
    if (n > 0 && readlink(path, again, sizeof again - 1) == n)
        printf(", shared with the parent %d", strcmp(text, again) == 0);
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    printf(", for writing %s", open(path, O_RDWR) < 0 ? strerror(errno) : "yes");
    printf(", unlink %s\n", unlink(path) < 0 ? strerror(errno) : "yes");
}

static int dots(const struct dirent *d) { return d->d_name[0] != '.'; }

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    if (fork() == 0) {
        for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
            one(names[i]);
        struct dirent **list;
        int n = scandir("/proc/thread-self/ns", &list, dots, alphasort);
        printf("listing %d:", n);
        for (int i = 0; i < n; i++)
            printf(" %s %d", list[i]->d_name, list[i]->d_type);
        struct stat s;
        int r = stat("/proc/self/ns", &s);
        printf("\ndirectory %d %o\n", r, s.st_mode);
        r = open("/proc/self/ns/other", O_RDONLY);
        printf("unknown %d %s\n", r, strerror(errno));
        _exit(0);
    }
    wait(0);
    return 0;
}
