/* Saves a sandbox in the middle of a program, ends it, and restores it twice from the image.
 *
 *   cc -Iinclude examples/saving.c -Ltarget/release -ldrupe -o saving
 */
#include "drupe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, drupe_error_message());
    return 1;
}

/* Lets the program of a restored sandbox go on to its end, and prints what it leaves. */
static int finished(drupe_sandbox *sandbox, drupe_process *process, const char *word)
{
    uint8_t *data;
    size_t len;
    if (drupe_sandbox_write_file(sandbox, "/tmp/word", (const uint8_t *)word, strlen(word)) < 0)
        return failed("write");
    int status = drupe_process_wait(process);
    if (drupe_sandbox_read_file(sandbox, "/tmp/said", &data, &len) < 0)
        return failed("read");
    printf("status %d: %.*s", status, (int)len, (const char *)data);
    drupe_free(data);
    drupe_process_free(process);
    drupe_sandbox_free(sandbox);
    return 0;
}

static int print(void *arg, const char *name, uint64_t bytes)
{
    (void)arg;
    printf("template %s%s\n", name, bytes > 100000 ? "" : " (too small)");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) < 0 || setenv("XDG_DATA_HOME", argv[1], 1) < 0) {
        fprintf(stderr, "usage: saving DIRECTORY\n");
        return 2;
    }
    drupe_sandbox *sandbox = drupe_sandbox_new();
    if (drupe_sandbox_save(sandbox, "image", NULL) != -1)
        return 1; /* not started yet */
    drupe_sandbox_tmpfs(sandbox, "/tmp");
    if (drupe_sandbox_start(sandbox) < 0)
        return failed("start");
    const char *program[] = {"bash", "-c",
                             "n=$RANDOM; echo $n >/tmp/number; until [ -s /tmp/word ]; do sleep 0.02; done;"
                             "[ $n = $(cat /tmp/number) ] && echo \"the same, $(cat /tmp/word)\" >/tmp/said; exit 5",
                             NULL};
    drupe_spawn_options spawn;
    drupe_spawn_defaults(&spawn);
    spawn.cwd = "/"; /* this one's may be hidden below the new /tmp */
    drupe_process *process = drupe_sandbox_spawn(sandbox, program, &spawn);
    if (!process)
        return failed("spawn");
    usleep(300000);

    drupe_save_options options = {.compress = true};
    if (drupe_sandbox_save_fd(sandbox, 1) != -1)
        return 1; /* only what is paused goes to a stream */
    printf("%s\n", drupe_error_message());
    if (drupe_sandbox_save(sandbox, "image", &options) < 0)
        return failed("save");
    if (drupe_sandbox_save(sandbox, "no/image", NULL) != -1)
        return 1;
    if (drupe_template_create("prepared", sandbox) < 0)
        return failed("keep a template");
    drupe_template_list(print, NULL);

    drupe_process *first;
    drupe_sandbox *clone = drupe_sandbox_clone(sandbox, NULL, &first);
    if (!clone)
        return failed("clone");
    if (finished(clone, first, "clone") || finished(sandbox, process, "itself"))
        return 1;

    drupe_restore_options how;
    drupe_restore_defaults(&how);
    how.stdin_fd = DRUPE_STDIO_NULL;
    drupe_image *images[] = {drupe_image_open("image"), drupe_template_open("prepared")};
    const char *words[] = {"image", "template"};
    for (int i = 0; i < 2; i++) {
        if (!images[i])
            return failed("open");
        drupe_sandbox *restored = drupe_image_restore(images[i], &how, &first);
        drupe_image_free(images[i]);
        if (!restored)
            return failed("restore");
        if (drupe_sandbox_pause(restored) < 0 || drupe_sandbox_unpause(restored) < 0)
            return failed("pause");
        if (drupe_sandbox_save_error(restored))
            return 1;
        if (finished(restored, first, words[i]))
            return 1;
    }
    if (drupe_template_remove("prepared") < 0 || drupe_template_remove("prepared") != -1)
        return failed("remove");
    if (drupe_image_open("/dev/null") || drupe_image_restore(NULL, NULL, NULL))
        return 1;
    return 0;
}
