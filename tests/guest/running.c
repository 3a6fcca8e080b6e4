// A program that runs cannot be written, one that is written cannot be run; programs run by descriptor.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(e) do { long r_ = (e); printf("%s: %s\n", #e, r_ < 0 ? strerror(errno) : "ok"); fflush(stdout); } while (0)

static void copy(const char *to) {
    int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    struct stat s;
    fstat(in, &s);
    while (sendfile(out, in, 0, s.st_size) > 0);
    close(in);
    close(out);
}

static void script(const char *name, const char *text) {
    int f = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    write(f, text, strlen(text));
    fchmod(f, 0755);
    close(f);
}

static char *args[] = {"prog", "say", 0};

static void at(const char *what, int fd, const char *path, int flags) {
    printf("%s: ", what);
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        syscall(SYS_execveat, fd, path, args, environ, flags);
        printf("%s\n", strerror(errno));
        fflush(stdout);
        _exit(1);
    }
    waitpid(p, 0, 0);
}

static int child(int *go) {
    int ready[2];
    pipe(ready);
    fflush(stdout);
    int hold[2];
    pipe(hold);
    pid_t p = fork();
    if (!p) {
        dup2(hold[0], 0);
        dup2(ready[1], 1);
        close(hold[1]);
        execl("./prog", "prog", "wait", (char *)0);
        _exit(1);
    }
    close(hold[0]);
    char b;
    read(ready[0], &b, 1);
    close(ready[0]);
    close(ready[1]);
    *go = hold[1];
    return p;
}

static void busy(void) {
    int go, pid = child(&go);
    SAY(open("prog", O_WRONLY));
    SAY(open("prog", O_RDWR));
    SAY(open("prog", O_RDONLY | O_TRUNC));
    SAY(open("prog", O_WRONLY | O_CREAT, 0600));
    SAY(close(open("prog", O_RDONLY)));
    SAY(truncate("prog", 5));
    SAY(chmod("prog", 0755));
    SAY(rename("prog", "prog2"));
    SAY(open("prog2", O_WRONLY));
    SAY(rename("prog2", "prog"));
    close(go);
    waitpid(pid, 0, 0);
    int w = open("prog", O_WRONLY);
    SAY(w);
    at("while written", AT_FDCWD, "prog", 0);
    close(w);
    at("afterwards", AT_FDCWD, "prog", 0);
    w = open("script", O_RDWR);
    at("script while written", AT_FDCWD, "script", 0);
    close(w);
    w = open("/proc/self/exe", O_WRONLY);
    printf("itself: %s\n", w < 0 ? strerror(errno) : "ok");
}

static void by_descriptor(void) {
    int path = open("prog", O_PATH), plain = open("prog", O_RDONLY), closed = open("prog", O_PATH | O_CLOEXEC);
    int dir = open(".", O_PATH | O_DIRECTORY), run = open("script", O_RDONLY), hidden = open("script", O_RDONLY | O_CLOEXEC);
    at("place", path, "", AT_EMPTY_PATH);
    at("file", plain, "", AT_EMPTY_PATH);
    at("place, closed by exec", closed, "", AT_EMPTY_PATH);
    at("no path", path, "", 0);
    at("directory", dir, "", AT_EMPTY_PATH);
    at("in a directory", dir, "prog", 0);
    at("link", dir, "link", 0);
    at("link itself", dir, "link", AT_SYMLINK_NOFOLLOW);
    at("flags", dir, "prog", 1);
    at("script", run, "", AT_EMPTY_PATH);
    at("script, closed by exec", hidden, "", AT_EMPTY_PATH);
    at("script in a directory", dir, "script", 0);
    at("below a file", plain, "prog", 0);
    at("bad descriptor", 99, "prog", 0);
    at("bad descriptor, empty", 99, "", AT_EMPTY_PATH);
    at("absolute", 99, "/nowhere", 0);
    at("not executable", AT_FDCWD, "text", 0);
    at("working directory", AT_FDCWD, "", AT_EMPTY_PATH);
    int m = memfd_create("m", 0);
    int in = open("prog", O_RDONLY);
    struct stat s;
    fstat(in, &s);
    while (sendfile(m, in, 0, s.st_size) > 0);
    at("memory", m, "", AT_EMPTY_PATH);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "wait")) {
        char b;
        write(1, "r", 1);
        read(0, &b, 1);
        return 0;
    }
    if (argc > 1) {
        char name[17] = {0};
        int f = open("/proc/self/comm", O_RDONLY);
        read(f, name, 16);
        printf("%s ran as %s", argv[0], name);
        return 0;
    }
    char dir[] = "/tmp/runXXXXXX";
    if (!mkdtemp(dir) || chdir(dir)) return 1;
    copy("prog");
    script("script", "#!/bin/echo out\n");
    script("text", "just text");
    chmod("text", 0644);
    symlink("prog", "link");
    busy();
    by_descriptor();
    unlink("prog"); unlink("prog2"); unlink("script"); unlink("text"); unlink("link");
    chdir("/");
    rmdir(dir);
    return 0;
}
