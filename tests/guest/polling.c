/* poll, select, eventfd: readiness, timeouts, masks. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int hit;
static void handler(int sig) { hit++; }

static long ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(void)
{
	int fds[2], e;
	setvbuf(stdout, NULL, _IONBF, 0);
	pipe(fds);
	struct pollfd p[3] = { { fds[0], POLLIN }, { fds[1], POLLOUT }, { 99, POLLIN } };
	printf("poll %d:", poll(p, 3, 0));
	printf(" %x %x %x\n", p[0].revents, p[1].revents, p[2].revents);
	long t = ms();
	printf("timeout %d", poll(p, 1, 50));
	printf(", long enough %d\n", ms() - t >= 49);
	if (fork() == 0) {
		usleep(30000);
		write(fds[1], "x", 1);
		_exit(0);
	}
	printf("woken %d %x\n", poll(p, 1, 5000), p[0].revents);
	wait(NULL);
	fd_set r;
	FD_ZERO(&r);
	FD_SET(fds[0], &r);
	struct timeval tv = { 5, 0 };
	printf("select %d", select(fds[0] + 1, &r, NULL, NULL, &tv));
	printf(" %d\n", FD_ISSET(fds[0], &r));
	char c;
	read(fds[0], &c, 1);
	FD_ZERO(&r);
	FD_SET(fds[0], &r);
	tv = (struct timeval){ 0, 20000 };
	printf("select nothing %d", select(fds[0] + 1, &r, NULL, NULL, &tv));
	printf(" %d\n", FD_ISSET(fds[0], &r));
	FD_ZERO(&r);
	FD_SET(59, &r);
	printf("select of a closed one %d %s\n", select(60, &r, NULL, NULL, &tv), strerror(errno));
	/* A child's table is only as large as what is open in it: numbers past its end are not looked at. */
	if (fork() == 0) {
		for (int fd = 60; fd < 1024; fd++)
			close(fd);
		if (fork() == 0) {
			int beyond[] = { 63, 64, 127, 128, 200, 255, 256, 300 };
			for (int grown = 0; grown < 300; grown = grown ? grown * 2 : 70) {
				if (grown)
					close(dup2(0, grown));
				for (int i = 0; i < 8; i++) {
					FD_ZERO(&r);
					FD_SET(beyond[i], &r);
					tv = (struct timeval){ 0, 0 };
					e = select(beyond[i] + 1, &r, NULL, NULL, &tv);
					printf("%d/%d:%d%s ", grown, beyond[i], e, e ? "" : FD_ISSET(beyond[i], &r) ? " kept" : " cleared");
				}
				printf("\n");
			}
			_exit(0);
		}
		wait(NULL);
		_exit(0);
	}
	wait(NULL);

	struct sigaction sa = { .sa_handler = handler };
	sigaction(SIGUSR1, &sa, NULL);
	sigset_t block, none;
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	struct timespec ts = { 5, 0 };
	e = ppoll(p, 1, &ts, &none);
	printf("ppoll %d %s, handled %d\n", e, strerror(errno), hit);

	int ev = eventfd(3, EFD_NONBLOCK);
	uint64_t v = 0;
	printf("eventfd %zd %lu\n", read(ev, &v, 8), (unsigned long)v);
	printf("empty %zd %s\n", read(ev, &v, 8), strerror(errno));
	v = 7;
	write(ev, &v, 8);
	struct pollfd q = { ev, POLLIN | POLLOUT };
	printf("poll %d %x\n", poll(&q, 1, 0), q.revents);
	int sem = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
	read(sem, &v, 8);
	printf("semaphore %lu", (unsigned long)v);
	read(sem, &v, 8);
	printf(" %lu", (unsigned long)v);
	printf(" %zd\n", read(sem, &v, 8));
	return 0;
}
