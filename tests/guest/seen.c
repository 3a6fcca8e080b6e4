/* inotify: masks, cookies, order, limits of what is kept, files that are gone, errors. Prints the same
 * wherever it runs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static long try(long r) { return r < 0 ? -errno : r; }

static int in;
static unsigned last_cookie;

static void show(const char *what)
{
    static char buf[1 << 16];
    int n = 0, had = poll(&(struct pollfd){in, POLLIN, 0}, 1, 0);
    ioctl(in, FIONREAD, &n);
    long got = had ? try(read(in, buf, sizeof buf)) : 0;
    printf("%s: %d", what, got == n);
    for (char *p = buf; p < buf + got;) {
        struct inotify_event *e = (void *)p;
        printf(" %d:%x", e->wd, e->mask);
        if (e->cookie)
            printf("/%d", e->cookie == last_cookie);
        last_cookie = e->cookie;
        if (e->len)
            printf(":%s+%d", e->name, (int)e->len);
        p += sizeof *e + e->len;
    }
    printf("\n");
}

static void put(const char *name)
{
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    write(fd, "x", 1);
    close(fd);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    char dir[] = "/tmp/seenXXXXXX";
    mkdtemp(dir);
    chdir(dir);
    in = inotify_init1(IN_NONBLOCK);
    mkdir("a", 0700);
    mkdir("b", 0700);
    put("a/f");
    int wa = inotify_add_watch(in, "a", IN_ALL_EVENTS), wb = inotify_add_watch(in, "b", IN_MOVE), wf = inotify_add_watch(in, "a/f", IN_ALL_EVENTS);
    printf("watches %d %d %d, the same %d\n", wa, wb, wf, inotify_add_watch(in, "a", IN_ALL_EVENTS));
    put("a/g");
    show("made");
    chmod("a/f", 0644);
    show("attributes");
    rename("a/g", "b/g");
    show("moved");
    rename("b/g", "b/h");
    show("renamed");
    rename("a", "c");
    show("the directory itself");
    rename("c", "a");
    show("and back");
    closedir(opendir("a"));
    show("opened");
    link("a/f", "a/l");
    show("linked");
    int fd = open("a/f", O_RDWR);
    inotify_rm_watch(in, wf);
    unlink("a/l");
    unlink("a/f");
    show("unlinked");
    write(fd, "y", 1);
    show("written when unlinked");
    close(fd);
    show("closed");
    put("a/f");
    wf = inotify_add_watch(in, "a", IN_CREATE | IN_MODIFY | IN_EXCL_UNLINK);
    fd = open("a/f", O_RDWR);
    write(fd, "z", 1);
    show("exclusive");
    unlink("a/f");
    write(fd, "z", 1);
    close(fd);
    show("not when unlinked");
    printf("mask: create %ld", try(inotify_add_watch(in, "a", IN_CREATE | IN_MASK_CREATE)));
    printf(", add %ld", try(inotify_add_watch(in, "a", IN_DELETE | IN_MASK_ADD)));
    printf(", both %ld\n", try(inotify_add_watch(in, "a", IN_DELETE | IN_MASK_ADD | IN_MASK_CREATE)));
    put("a/q");
    unlink("a/q");
    show("added to");
    inotify_add_watch(in, "a", IN_DELETE | IN_ONESHOT);
    put("a/q");
    unlink("a/q");
    show("once");
    wf = inotify_add_watch(in, "b", IN_ALL_EVENTS);
    printf("removed %ld, again %ld, none %ld\n", try(inotify_rm_watch(in, wf)), try(inotify_rm_watch(in, wf)), try(inotify_rm_watch(in, 99)));
    show("ignored");
    mkdir("d", 0700);
    wf = inotify_add_watch(in, "d", IN_ALL_EVENTS);
    rmdir("d");
    show("directory gone");
    printf("errors %ld %ld %ld %ld", try(inotify_add_watch(in, "a", 0)), try(inotify_add_watch(-1, "a", 0)), try(inotify_add_watch(-1, "a", 1)), try(inotify_add_watch(0, "a", 1)));
    printf(" %ld %ld %ld %ld", try(inotify_add_watch(in, "none", 1)), try(inotify_add_watch(in, "b/h", 1 | IN_ONLYDIR)), try(inotify_add_watch(in, (void *)8, 1)), try(inotify_add_watch(in, "a", 0x10000)));
    printf(" %ld %ld\n", try(inotify_init1(1)), try(inotify_rm_watch(0, 1)));
    wa = inotify_add_watch(in, "a", IN_CREATE);
    put("a/name");
    char small[16];
    printf("too small %ld\n", try(read(in, small, 16)));
    show("still there");
    unlink("a/name");
    unlink("b/h");
    rmdir("a");
    rmdir("b");
    show("the rest");
    printf("empty %ld, written %ld\n", try(read(in, small, 16)), try(write(in, small, 16)));
    chdir("/");
    rmdir(dir);
    return 0;
}
