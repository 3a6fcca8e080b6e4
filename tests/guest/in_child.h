/* What the test programs of namespaces share. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `f` in a child, and prints how that ended. */
static void in_child(const char *what, void (*f)(void))
{
    fflush(stdout);
    pid_t p = fork();
    if (!p) {
        f();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(p, &status, 0);
    printf("%s ended %x\n", what, status);
}
