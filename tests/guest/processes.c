/* fork, vfork, exec, wait: statuses, orphans, close-on-exec, posix_spawn's report of a failure. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void show(const char *what, int status)
{
	if (WIFEXITED(status))
		printf("%s: exited %d\n", what, WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		printf("%s: killed by %d\n", what, WTERMSIG(status));
	else if (WIFSTOPPED(status))
		printf("%s: stopped by %d\n", what, WSTOPSIG(status));
	else if (WIFCONTINUED(status))
		printf("%s: continued\n", what);
	fflush(stdout);
}

int main(void)
{
	int status, i, fds[2];
	setvbuf(stdout, NULL, _IONBF, 0);
	for (i = 0; i < 20; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(i);
		if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != i)
			printf("wrong status of child %d\n", i);
	}
	pid_t pid = fork();
	if (pid == 0) {
		raise(SIGTERM);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	show("SIGTERM", status);

	pid = fork();
	if (pid == 0) {
		raise(SIGSTOP);
		pause();
	}
	waitpid(pid, &status, WUNTRACED);
	show("stop", status);
	kill(pid, SIGCONT);
	waitpid(pid, &status, WCONTINUED);
	show("continue", status);
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	show("end", status);

	volatile int shared = 0;
	pid = vfork();
	if (pid == 0) {
		shared = 42;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	printf("vfork shares memory: %d\n", shared);

	pid = vfork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exit 5", NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	show("vfork and exec", status);

	char *args[] = { "nothing", NULL };
	int e = posix_spawn(&pid, "/does/not/exist", NULL, NULL, args, environ);
	printf("posix_spawn: %s\n", strerror(e));

	pipe2(fds, O_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		char cmd[64];
		snprintf(cmd, sizeof cmd, "test -e /proc/self/fd/%d && echo leaked || echo closed", fds[1]);
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	show("close-on-exec", status);

	e = waitpid(-1, &status, 0);
	printf("no children: %d %s\n", e, strerror(errno));
	siginfo_t info;
	pid = fork();
	if (pid == 0)
		_exit(9);
	memset(&info, 0, sizeof info);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	printf("waitid keeps: code %d status %d pid %d\n", info.si_code, info.si_status, info.si_pid == pid);
	waitid(P_ALL, 0, &info, WEXITED);
	printf("waitid takes: code %d status %d\n", info.si_code, info.si_status);
	errno = 0;
	execl("/etc/passwd", "passwd", NULL);
	printf("exec of a text: %s\n", strerror(errno));
	execl("/etc", "etc", NULL);
	printf("exec of a directory: %s\n", strerror(errno));
	return 0;
}
