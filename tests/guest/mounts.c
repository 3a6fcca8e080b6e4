// Mounts: binding, moving, propagation, flags and what they forbid, unmounting, the root of the tree.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(e) do { long r_ = (e); printf("%s: %s\n", #e, r_ < 0 ? strerror(errno) : "ok"); fflush(stdout); } while (0)

static char dir[] = "/tmp/mountsXXXXXX";

static void put(const char *name) {
    close(open(name, O_WRONLY | O_CREAT, 0644));
}

static void there(const char *name) {
    printf("%s %s\n", name, access(name, F_OK) ? "absent" : "there");
}

struct line { char point[512], text[1024], rest[512]; int at; } lines[64];

static int by_point(const void *a, const void *b) {
    const struct line *x = a, *y = b;
    int order = strcmp(x->point, y->point);
    return order ? order : x->at - y->at;
}

// The mounts below the directory by mount point, with groups numbered in the order in which they appear.
static void show(void) {
    FILE *f = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    int groups[64], known = 0, count = 0;
    while (fgets(line, sizeof line, f) && count < 64) {
        char part[512], options[256];
        struct line *l = &lines[count];
        sscanf(line, "%*d %*d %*u:%*u %511s %511s %255s %511[^\n]", part, l->point, options, l->rest);
        if (strncmp(l->point, dir, strlen(dir))) continue;
        char *below = strstr(part, dir);
        snprintf(l->text, sizeof l->text, "%s %s %s", below ? below + strlen(dir) : part, l->point + strlen(dir), options);
        l->at = count++;
    }
    fclose(f);
    qsort(lines, count, sizeof *lines, by_point);
    for (int i = 0; i < count; i++) {
        printf("  %s", lines[i].text);
        for (char *word = strtok(lines[i].rest, " "); word && strcmp(word, "-"); word = strtok(0, " ")) {
            char *colon = strchr(word, ':');
            if (!colon) { printf(" %s", word); continue; }
            int group = atoi(colon + 1), n;
            for (n = 0; n < known && groups[n] != group; n++);
            if (n == known) groups[known++] = group;
            printf(" %.*s:%d", (int)(colon - word), word, n);
        }
        printf(" %s\n", strtok(0, " "));
    }
    fflush(stdout);
}

// Opens and closes.
static int try(const char *name, int how) {
    int f = open(name, how, 0600);
    if (f >= 0) close(f);
    return f;
}

static void arguments(void) {
    SAY(mount("none", "nowhere", "tmpfs", 0, 0));
    SAY(mount("none", "a", "nosuchfs", 0, 0));
    SAY(mount("none", "a", 0, 0, 0));
    SAY(mount("none", "f", "tmpfs", 0, 0));
    SAY(mount("none", "a", "tmpfs", 0, "mode=9"));
    SAY(mount("none", "a", "tmpfs", 0, "bogus"));
    SAY(mount("", "a", 0, MS_BIND, 0));
    SAY(mount(0, "a", 0, MS_BIND, 0));
    SAY(mount("nowhere", "a", 0, MS_BIND, 0));
    SAY(mount("f", "a", 0, MS_BIND, 0));
    SAY(mount("a", "f", 0, MS_BIND, 0));
    SAY(mount("a", "b", 0, MS_MOVE, 0));
    SAY(mount(0, "a", 0, MS_REMOUNT, 0));
    SAY(mount(0, "a", 0, MS_PRIVATE, 0));
    SAY(mount(0, "a", 0, MS_PRIVATE | MS_SHARED, 0));
    SAY(umount2("a", 0));
    SAY(umount2("nowhere", 0));
    SAY(umount2("a", 64));
    SAY(umount2("a", MNT_EXPIRE));
    SAY(umount2("/", MNT_EXPIRE));
}

static void flags(void) {
    struct statfs s;
    SAY(mount("source", "a", "tmpfs", MS_NOSUID | MS_NODEV, "mode=700"));
    put("a/f");
    chmod("a/f", 0755);
    SAY(mknod("a/null", S_IFCHR | 0666, 0x103));
    SAY(try("a/null", O_RDONLY));
    statfs("a", &s);
    printf("flags %lx\n", (long)s.f_flags);
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOATIME, 0));
    statfs("a", &s);
    printf("flags %lx\n", (long)s.f_flags);
    SAY(try("a/f", O_WRONLY));
    SAY(try("a/f", O_RDONLY | O_TRUNC));
    SAY(try("a/new", O_RDONLY | O_CREAT));
    SAY(try("a/f", O_RDONLY | O_CREAT));
    SAY(mkdir("a/d", 0700));
    SAY(mkdir("a/f", 0700));
    SAY(unlink("a/f"));
    SAY(unlink("a/nowhere"));
    SAY(rename("a/f", "a/g"));
    SAY(link("a/f", "a/g"));
    SAY(symlink("f", "a/g"));
    SAY(chmod("a/f", 0700));
    SAY(chown("a/f", 1, 1));
    SAY(truncate("a/f", 0));
    SAY(access("a/f", W_OK));
    SAY(mknod("a/fifo", S_IFIFO | 0600, 0));
    SAY(setxattr("a/f", "user.x", "1", 1, 0));
    show();
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_NOEXEC, 0));
    show();
    SAY(access("a/f", X_OK));
    SAY(execl("a/f", "f", (char *)0));
    SAY(try("a/null", O_RDONLY));
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_NOSYMFOLLOW, 0));
    SAY(symlink("f", "a/l"));
    SAY(try("a/l", O_RDONLY));
    SAY(readlink("a/l", (char[9]){0}, 9));
    SAY(mount("a", "b", 0, MS_BIND | MS_RDONLY, 0));
    SAY(try("b/f", O_WRONLY));
    int writing = open("b/f", O_WRONLY);
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_RDONLY, 0));
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
    SAY(mount(0, "b", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
    close(writing);
    SAY(mount(0, "a", 0, MS_REMOUNT | MS_RDONLY, 0));
    SAY(try("b/f", O_WRONLY));
    show();
    SAY(umount("b"));
    SAY(umount("a"));
}

static void bind(void) {
    SAY(mount("t", "a", "tmpfs", 0, 0));
    mkdir("a/in", 0755);
    mkdir("a/in/deep", 0755);
    mkdir("a/other", 0755);
    put("a/in/f");
    SAY(mount("u", "a/in/deep", "tmpfs", 0, 0));
    put("a/in/deep/g");
    SAY(mount("a/in", "b", 0, MS_BIND, 0));
    there("b/f");
    there("b/deep/g");
    SAY(umount("b"));
    SAY(mount("a/in", "b", 0, MS_BIND | MS_REC, 0));
    there("b/deep/g");
    show();
    SAY(rmdir("a/in/deep"));
    SAY(rename("a/in", "a/out"));
    SAY(rename("a/out", "a/in"));
    SAY(rename("a/in/deep", "a/in/deeper"));
    SAY(rename("b/f", "a/f"));
    SAY(link("b/f", "a/f"));
    SAY(umount("b"));
    SAY(umount("a/in"));
    SAY(umount2("b", MNT_DETACH));
    there("b/f");
    SAY(mount("a/in/f", "f", 0, MS_BIND, 0));
    SAY(unlink("f"));
    SAY(umount("f"));
    SAY(mount("a/in/deep", "a/other", 0, MS_MOVE, 0));
    there("a/other/g");
    there("a/in/deep/g");
    SAY(mount("a", "a/other", 0, MS_MOVE, 0));
    SAY(mount("a/in", "b", 0, MS_MOVE, 0));
    SAY(mount("v", "a", "tmpfs", 0, 0));
    there("a/in");
    SAY(umount("a"));
    there("a/in");
    int held = open("a/other/g", O_RDONLY);
    SAY(umount("a/other"));
    SAY(umount2("a/other", MNT_EXPIRE));
    close(held);
    SAY(umount2("a/other", MNT_EXPIRE));
    there("a/other/g");
    SAY(umount2("a/other", MNT_EXPIRE));
    SAY(umount2("a/other", MNT_EXPIRE));
    there("a/other/g");
    SAY(chdir("a/in"));
    SAY(umount2("../../a", 0));
    SAY(umount2("../../a", MNT_DETACH));
    there("f");
    there("../../a");
    char cwd[PATH_MAX];
    long n = syscall(SYS_getcwd, cwd, sizeof cwd);
    char *at = n > 0 ? strstr(cwd, dir) : NULL;
    printf("cwd %s\n", n < 0 ? strerror(errno) : at ? at + strlen(dir) : cwd);
    SAY(chdir(dir));
    symlink("a", "link");
    SAY(mount("w", "link", "tmpfs", 0, 0));
    SAY(umount2("link", UMOUNT_NOFOLLOW));
    SAY(umount2("link", 0));
    show();
}

static void propagation(void) {
    SAY(mount("s", "a", "tmpfs", 0, 0));
    mkdir("a/x", 0755);
    mkdir("a/y", 0755);
    SAY(mount(0, "a", 0, MS_SHARED, 0));
    SAY(mount("a", "b", 0, MS_BIND, 0));
    SAY(mount("a", "c", 0, MS_BIND, 0));
    SAY(mount(0, "c", 0, MS_SLAVE, 0));
    SAY(mount("a/x", "d", 0, MS_BIND, 0));
    show();
    SAY(mount("n", "a/x", "tmpfs", 0, 0));
    put("a/x/f");
    there("b/x/f");
    there("c/x/f");
    there("d/f");
    show();
    SAY(mount("m", "c/y", "tmpfs", 0, 0));
    put("c/y/g");
    there("a/y/g");
    SAY(umount("b/x"));
    there("a/x/f");
    there("c/x/f");
    SAY(mount(0, "c", 0, MS_SHARED, 0));
    SAY(mount("c", "e", 0, MS_BIND | MS_REC, 0));
    show();
    SAY(mount("o", "b/x", "tmpfs", 0, 0));
    put("b/x/h");
    there("a/x/h");
    there("e/x/h");
    SAY(mount("a/x", "a/y", 0, MS_MOVE, 0));
    SAY(umount2("a/x", MNT_DETACH));
    there("e/x/h");
    SAY(mount(0, "b", 0, MS_UNBINDABLE, 0));
    SAY(mount("b", "d", 0, MS_BIND, 0));
    SAY(mount(0, "a", 0, MS_PRIVATE | MS_REC, 0));
    show();
    SAY(umount2("e", MNT_DETACH));
    SAY(umount2("d", MNT_DETACH));
    SAY(umount2("c", MNT_DETACH));
    SAY(umount2("b", MNT_DETACH));
    SAY(umount2("a", MNT_DETACH));
    show();
}

static void roots(void) {
    SAY(mount("r", "a", "tmpfs", 0, 0));
    mkdir("a/old", 0755);
    mkdir("a/sub", 0755);
    SAY(syscall(SYS_pivot_root, "nowhere", "a/old"));
    SAY(syscall(SYS_pivot_root, "a", "f"));
    SAY(syscall(SYS_pivot_root, "a/sub", "a/old"));
    SAY(syscall(SYS_pivot_root, "a", "b"));
    SAY(syscall(SYS_pivot_root, ".", "a/old"));
    fflush(stdout);
    if (!fork()) {
        SAY(chroot("a/nowhere"));
        SAY(chroot("f"));
        SAY(chroot("a"));
        SAY(access("old", F_OK));
        SAY(access("/old", F_OK));
        SAY(access("/../old", F_OK));
        char cwd[PATH_MAX];
        syscall(SYS_getcwd, cwd, sizeof cwd);
        printf("cwd unreachable %d\n", !strncmp(cwd, "(unreachable)", 13));
        SAY(syscall(SYS_pivot_root, "/sub", "/old"));
        SAY(setgid(65534));
        SAY(setuid(65534));
        SAY(chroot("/sub"));
        SAY(mount("r", "/sub", "tmpfs", 0, 0));
        SAY(umount("/sub"));
        SAY(syscall(SYS_pivot_root, "/", "/old"));
        _exit(0);
    }
    wait(0);
    SAY(umount("a"));
}

int main(void) {
    unshare(CLONE_NEWNS);
    mount(0, "/", 0, MS_PRIVATE | MS_REC, 0);
    if (!mkdtemp(dir) || chmod(dir, 0755) || chdir(dir)) return 1;
    for (const char *p = "abcde"; *p; p++) mkdir((char[2]){*p}, 0755);
    put("f");
    arguments();
    flags();
    bind();
    propagation();
    roots();
    unlink("f");
    unlink("link");
    for (const char *p = "abcde"; *p; p++) if (rmdir((char[2]){*p})) printf("%c stays: %s\n", *p, strerror(errno));
    chdir("/");
    SAY(rmdir(dir));
    return 0;
}
