/* Ambient capabilities over exec with ids of all kinds, groups in status, and flags that descriptors tell. */
#include "check.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static void status(const char *what)
{
	char line[300];
	FILE *f = fopen("/proc/self/status", "r");
	printf("%s:", what);
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "CapAmb", 6) || !strncmp(line, "Groups", 6))
			line[strcspn(line, "\n")] = '|', printf(" %s", line);
	puts("");
	fclose(f);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		setvbuf(stdout, NULL, _IONBF, 0), status(argv[1]);
		return 0;
	}
	char self[300] = "", command[700];
	readlink("/proc/self/exe", self, sizeof self - 1);
	begin();
	unshare(CLONE_NEWNS), mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), mount("none", ".", "tmpfs", 0, "mode=755");
	if (chdir("../w"))
		return 1;
	sprintf(command, "cp %s me && cp me suid && chmod 4755 suid && cp me sgid && chown 0:7 sgid && chmod 2755 sgid", self);
	if (system(command))
		return 2;
	const char *programs[] = {"./me", "./suid", "./sgid"};
	for (int kind = 0; kind < 10; kind++)
		for (int i = 0; i < 3; i++) {
			pid_t p = fork();
			if (!p) {
				struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
				struct __user_cap_data_struct sets[2];
				gid_t five = 5;
				syscall(SYS_capget, &head, sets), sets[0].inheritable = 1 << 7, syscall(SYS_capset, &head, sets);
				prctl(PR_SET_KEEPCAPS, 1), syscall(SYS_setgroups, 0, NULL);
				switch (kind) {
				case 1: setresgid(0, 5, 0); break;
				case 2: setresgid(5, 0, 0); break;
				case 3: setresgid(0, 5, 0), setfsgid(7); break;
				case 4: setfsgid(7); break;
				case 5: setresuid(0, 5, 0); break;
				case 6: setresuid(5, 0, 0); break;
				case 7: setfsuid(9); break;
				case 8: setresgid(0, 5, 0), setfsgid(7), setgroups(1, &five); break;
				case 9: setresuid(5, 5, 5); break;
				}
				syscall(SYS_capget, &head, sets), sets[0].effective = sets[0].permitted, syscall(SYS_capset, &head, sets);
				int r = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 7, 0, 0);
				sprintf(command, "%d %s %d", kind, programs[i], r), execl(programs[i], programs[i], command, NULL), _exit(1);
			}
			waitpid(p, 0, 0);
		}
	int fd = open(".", O_TMPFILE | O_RDWR | O_APPEND, 0600);
	printf("%x\n", fcntl(fd, F_GETFL));
	struct { unsigned size; int type; unsigned char rest[128]; } handle = {128};
	int mount_id, here = open(".", O_DIRECTORY);
	S(syscall(SYS_name_to_handle_at, AT_FDCWD, "me", &handle, &mount_id, 0));
	printf("%x %x\n", fcntl(syscall(SYS_open_by_handle_at, here, &handle, O_RDONLY), F_GETFL), fcntl(syscall(SYS_open_by_handle_at, here, &handle, O_PATH), F_GETFL));
	return 0;
}
