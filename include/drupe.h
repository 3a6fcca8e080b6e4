#ifndef DRUPE_H
#define DRUPE_H

/* Made from src/ffi by cbindgen; the test `header` in tests/ffi.rs says how to renew it. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A Linux kernel inside the address space of the programs it hosts: the C interface.
 *
 * Handles are opaque and belong to the caller until freed. A function that fails returns -1 (or NULL),
 * and drupe_error_message() says why, per thread. Strings are NUL-terminated; descriptors that are
 * passed in stay the caller's. Link with -ldrupe. */


/*
 `drupe_spawn_options.stdin_fd` and so on: the caller's own stream.
 */
#define DRUPE_STDIO_INHERIT -1

/*
 The null device.
 */
#define DRUPE_STDIO_NULL -2

/*
 Not open at all.
 */
#define DRUPE_STDIO_CLOSED -3

/*
 `drupe_sandbox_set_jail`: every layer that the host offers and that costs little (the default).
 */
#define DRUPE_JAIL_AUTO 0

/*
 `drupe_sandbox_set_jail`: nothing starts on a host without Landlock, and no rewritten code is shared.
 */
#define DRUPE_JAIL_STRICT 1

/*
 `drupe_sandbox_set_jail`: the system call filter alone.
 */
#define DRUPE_JAIL_OFF 2

/*
 `drupe_sandbox_set_jail`: as `DRUPE_JAIL_AUTO`, and in namespaces of its own.
 */
#define DRUPE_JAIL_NAMESPACES 3

/*
 The image of a sandbox, of which any number of sandboxes can be made.
 */
typedef struct drupe_image drupe_image;

/*
 A process in a sandbox.
 */
typedef struct drupe_process drupe_process;

/*
 A sandbox: its settings before `drupe_sandbox_start`, a running kernel after.
 */
typedef struct drupe_sandbox drupe_sandbox;

/*
 How a process is started. All zeros and nulls, with the three descriptors set, is a good start:
 see `drupe_spawn_defaults`.
 */
typedef struct {
  /*
   Null-terminated list of `KEY=VALUE` strings, or null for the caller's environment.
   */
  const char *const *env;
  /*
   Absolute path in the sandbox, or null for the default.
   */
  const char *cwd;
  /*
   A descriptor of the caller, `DRUPE_STDIO_INHERIT`, `DRUPE_STDIO_NULL` or `DRUPE_STDIO_CLOSED`.
   */
  int stdin_fd;
  /*
   As `stdin_fd`.
   */
  int stdout_fd;
  /*
   As `stdin_fd`.
   */
  int stderr_fd;
} drupe_spawn_options;

/*
 How an image is written: see `drupe_sandbox_save`. All zeros and nulls is a plain image.
 */
typedef struct {
  /*
   Compresses it (zstd). Such an image takes less room, and longer to restore: it is unpacked into memory then.
   */
  bool compress;
  /*
   An image of an earlier instant, or null: only what is not in that is written. It must stay where it is.
   */
  const char *parent;
  /*
   Programs that were started after the first one and have streams of the caller's find these at their ends in the
   restored sandbox (input is empty, output goes nowhere); without it they are in the way of a save.
   */
  bool detach;
} drupe_save_options;

/*
 How a sandbox is restored. See `drupe_restore_defaults`.
 */
typedef struct {
  /*
   The name by which others reach it, or null.
   */
  const char *name;
  /*
   Files that are only read may have been changed.
   */
  bool allow_changed;
  /*
   The first program's: a descriptor of the caller, `DRUPE_STDIO_INHERIT`, `DRUPE_STDIO_NULL` or `DRUPE_STDIO_CLOSED`.
   */
  int stdin_fd;
  /*
   As `stdin_fd`.
   */
  int stdout_fd;
  /*
   As `stdin_fd`.
   */
  int stderr_fd;
} drupe_restore_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Why the last call on this thread that failed did so; an empty string if none has. The text stays valid until 16
 more calls on this thread have failed, so that it may stand in one expression with other calls.
 */
const char *drupe_error_message(void);

/*
 The error number of the last call on this thread that failed; 0 if none has.
 */
int drupe_error_number(void);

/*
 A new sandbox with default settings: it sees the host's tree, and its writes stay in memory.
 */
drupe_sandbox *drupe_sandbox_new(void);

/*
 Boots its kernel. A sandbox starts once; one that failed to start can only be freed.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_start(drupe_sandbox *sandbox);

/*
 Suspends every process; nests.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_pause(const drupe_sandbox *sandbox);

/*
 Undoes one pause.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_unpause(const drupe_sandbox *sandbox);

/*
 Waits for the first process that was started. Its status as a shell tells it: the exit code, or
 128 and the number of the signal that killed it.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_wait(const drupe_sandbox *sandbox);

/*
 Ends the sandbox and every process in it, and frees the handle. Null is ignored.

 # Safety
 `sandbox` is null or a live handle, not used again.
 */
void drupe_sandbox_free(drupe_sandbox *sandbox);

/*
 Reads a whole file of the sandbox. `*data` is to be freed with `drupe_free`.

 # Safety
 `sandbox` is a live handle, `path` a string, `data` and `len` point to writable memory.
 */
int drupe_sandbox_read_file(const drupe_sandbox *sandbox, const char *path, uint8_t **data, size_t *len);

/*
 Creates or replaces a file of the sandbox.

 # Safety
 `sandbox` is a live handle, `path` a string, `data` points to `len` bytes.
 */
int drupe_sandbox_write_file(const drupe_sandbox *sandbox, const char *path, const uint8_t *data, size_t len);

/*
 Frees what `drupe_sandbox_read_file` gave.

 # Safety
 `data` is null or came from there, and is not used again.
 */
void drupe_free(uint8_t *data);

/*
 Fills in the defaults: the caller's environment and streams.

 # Safety
 `options` points to writable memory of that type.
 */
void drupe_spawn_defaults(drupe_spawn_options *options);

/*
 Starts a program. `argv` is a null-terminated list, the program first; a name without a slash is
 looked up along `PATH` in the sandbox. `options` may be null.

 # Safety
 `sandbox` is a live handle; `argv` and `options` are as said.
 */
drupe_process *drupe_sandbox_spawn(const drupe_sandbox *sandbox,
                                   const char *const *argv,
                                   const drupe_spawn_options *options);

/*
 The process's id in the sandbox.

 # Safety
 `process` is a live handle.
 */
int drupe_process_id(drupe_process *process);

/*
 Waits for its end; the result is as of `drupe_sandbox_wait`.

 # Safety
 `process` is a live handle.
 */
int drupe_process_wait(drupe_process *process);

/*
 1 and its status in `*status` if it has ended, 0 if not.

 # Safety
 `process` is a live handle, `status` null or writable.
 */
int drupe_process_try_wait(drupe_process *process, int *status);

/*
 As `drupe_process_try_wait`, after waiting for its end for up to `milliseconds`.

 # Safety
 `process` is a live handle, `status` null or writable.
 */
int drupe_process_wait_timeout(drupe_process *process, uint64_t milliseconds, int *status);

/*
 Sends it a signal. That a process has ended already is no error for SIGKILL.

 # Safety
 `process` is a live handle.
 */
int drupe_process_kill(drupe_process *process, int signal);

/*
 Frees the handle; the process goes on. Null is ignored.

 # Safety
 `process` is null or a live handle, not used again.
 */
void drupe_process_free(drupe_process *process);

/*
 Writes an image of a running sandbox to the file `path`, which is there once it is whole. The sandbox stands still for a part
 of that time only. `options` may be null. How many bytes the image has.

 # Safety
 `sandbox` is a live handle; `path` is a string; `options` is null or valid.
 */
int64_t drupe_sandbox_save(const drupe_sandbox *sandbox,
                           const char *path,
                           const drupe_save_options *options);

/*
 Writes an image of a paused sandbox to a descriptor, from start to end: it may be a pipe. The sandbox is paused afterwards, too.
 What is written is no image if this fails. How many bytes it has.

 # Safety
 `sandbox` is a live handle.
 */
int64_t drupe_sandbox_save_fd(const drupe_sandbox *sandbox,
                              int fd);

/*
 Why the sandbox ended while it was saved; null where it did not. The text is valid until the handle is freed.

 # Safety
 `sandbox` is a live handle.
 */
const char *drupe_sandbox_save_error(const drupe_sandbox *sandbox);

/*
 Opens an image; null if there is none that fits. The file may be removed afterwards, but must not be written to while sandboxes
 of it run.

 # Safety
 `path` is a string.
 */
drupe_image *drupe_image_open(const char *path);

/*
 Reads an image from a descriptor, which may be a pipe.
 */
drupe_image *drupe_image_read(int fd);

/*
 An image of a running sandbox, in memory. The sandbox goes on.

 # Safety
 `sandbox` is a live handle.
 */
drupe_image *drupe_sandbox_image(const drupe_sandbox *sandbox);

/*
 Fills in the defaults: the caller's streams, no name.

 # Safety
 `options` is null or points to writable memory of that type.
 */
void drupe_restore_defaults(drupe_restore_options *options);

/*
 Makes the sandbox of an image, which goes on where it was saved; null if that is not possible. `options` may be null. `first` is
 null or gets a handle of its first program.

 # Safety
 `image` is a live handle; `options` and `first` are null or valid.
 */
drupe_sandbox *drupe_image_restore(const drupe_image *image,
                                   const drupe_restore_options *options,
                                   drupe_process **first);

/*
 Makes a second sandbox of a running one; both go on from the same instant. Otherwise as `drupe_image_restore`.

 # Safety
 `sandbox` is a live handle; `options` and `first` are null or valid.
 */
drupe_sandbox *drupe_sandbox_clone(const drupe_sandbox *sandbox,
                                   const drupe_restore_options *options,
                                   drupe_process **first);

/*
 Frees the handle; sandboxes of the image go on. Null is ignored.

 # Safety
 `image` is null or a live handle, not used again.
 */
void drupe_image_free(drupe_image *image);

/*
 Keeps an image of a running sandbox, which goes on, under a name (as `drupe template create`).

 # Safety
 `sandbox` is a live handle; `name` is a string.
 */
int drupe_template_create(const char *name, const drupe_sandbox *sandbox);

/*
 The image of a template.

 # Safety
 `name` is a string.
 */
drupe_image *drupe_template_open(const char *name);

/*
 Calls `each` with the name of every template and the length of its image, until it returns other than 0 or all were told.
 What it returned last, 0 without templates.

 # Safety
 `each` may be called with `arg`.
 */
int drupe_template_list(int (*each)(void *arg, const char *name, uint64_t bytes),
                        void *arg);

/*
 Removes a template. Sandboxes that were made of it go on.

 # Safety
 `name` is a string.
 */
int drupe_template_remove(const char *name);

/*
 The host directory that it sees as `/`, and whether writes reach it.

 # Safety
 `sandbox` is a live handle; `dir` is a string.
 */
int drupe_sandbox_set_root(drupe_sandbox *sandbox, const char *dir, bool writable);

/*
 Makes the host's `source` appear at `target`.

 # Safety
 `sandbox` is a live handle; `source` and `target` are strings.
 */
int drupe_sandbox_bind(drupe_sandbox *sandbox, const char *source, const char *target, bool read_only);

/*
 Mounts an empty file system that lives in memory at `target`.

 # Safety
 `sandbox` is a live handle; `target` is a string.
 */
int drupe_sandbox_tmpfs(drupe_sandbox *sandbox, const char *target);

/*
 Gives it the host's network in place of one of its own.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_host_network(drupe_sandbox *sandbox);

/*
 Publishes a TCP port of its loopback on the host: `[ADDR:]HOST:GUEST`.

 # Safety
 `sandbox` is a live handle; `port` is a string.
 */
int drupe_sandbox_publish(drupe_sandbox *sandbox, const char *port);

/*
 Lets it connect to a place beyond its own network: `HOST[:PORT]`. Of a sandbox that runs, only where it was started with
 such a place.

 # Safety
 `sandbox` is a live handle; `place` is a string.
 */
int drupe_sandbox_allow(drupe_sandbox *sandbox,
                        const char *place);

/*
 Its host name.

 # Safety
 `sandbox` is a live handle; `name` is a string.
 */
int drupe_sandbox_set_hostname(drupe_sandbox *sandbox, const char *name);

/*
 The name by which others reach it while it runs (`drupe ps`, `drupe exec`).

 # Safety
 `sandbox` is a live handle; `name` is a string.
 */
int drupe_sandbox_set_name(drupe_sandbox *sandbox, const char *name);

/*
 Memory that files in memory, its kernel and its processes may take together, in bytes; who takes too much is ended.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_memory(drupe_sandbox *sandbox,
                             uint64_t bytes);

/*
 How many processes and threads it may have at once; 4,096 unless set.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_pids(drupe_sandbox *sandbox, uint32_t most);

/*
 How many descriptors each of its processes may have open.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_open_files(drupe_sandbox *sandbox, uint64_t most);

/*
 The largest file that its processes may make, in bytes.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_file_size(drupe_sandbox *sandbox, uint64_t bytes);

/*
 Ends it after so many milliseconds; calls that wait for something in it then fail with `ETIMEDOUT`.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_timeout(drupe_sandbox *sandbox, uint64_t milliseconds);

/*
 Whether it has a loopback network of its own.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_loopback(drupe_sandbox *sandbox, bool on);

/*
 Whether hot system call sites may be rewritten.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_rewrite(drupe_sandbox *sandbox, bool on);

/*
 User and group of its processes.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_user(drupe_sandbox *sandbox, uint32_t uid, uint32_t gid);

/*
 What holds its processes beyond the system call filter: one of `DRUPE_JAIL_…`.

 # Safety
 `sandbox` is a live handle.
 */
int drupe_sandbox_set_jail(drupe_sandbox *sandbox, int jail);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DRUPE_H */
