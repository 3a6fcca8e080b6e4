/* Boots a sandbox, puts a file into it, runs a program on it, and reads what it left.
 *
 *   cc -Iinclude examples/hello.c -Ltarget/release -ldrupe -o hello
 */
#include "drupe.h"
#include <stdio.h>
#include <string.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, drupe_error_message());
    return 1;
}

int main(void)
{
    drupe_sandbox *sandbox = drupe_sandbox_new();
    drupe_sandbox_set_hostname(sandbox, "example");
    if (drupe_sandbox_pause(sandbox) != -1)
        return 1; /* not started yet: an error that says so */
    if (drupe_sandbox_start(sandbox) < 0)
        return failed("start");
    if (drupe_sandbox_start(sandbox) != -1)
        return 1; /* a sandbox starts once */

    const char *words = "pear\napple\nplum\n";
    if (drupe_sandbox_write_file(sandbox, "/tmp/words", (const uint8_t *)words, strlen(words)) < 0)
        return failed("write");
    const char *argv[] = {"/bin/sh", "-c", "sort /tmp/words > /tmp/sorted; exit 3", NULL};
    drupe_process *process = drupe_sandbox_spawn(sandbox, argv, NULL);
    if (!process)
        return failed("spawn");
    printf("status %d\n", drupe_process_wait(process));
    drupe_process_free(process);

    uint8_t *data;
    size_t len;
    if (drupe_sandbox_read_file(sandbox, "/tmp/sorted", &data, &len) < 0)
        return failed("read");
    printf("%.*s", (int)len, (const char *)data);
    drupe_free(data);

    const char *missing[] = {"no-such-program", NULL};
    if (drupe_sandbox_spawn(sandbox, missing, NULL))
        return 1;
    printf("error %d\n", drupe_error_number());
    drupe_sandbox_free(sandbox);
    return 0;
}
