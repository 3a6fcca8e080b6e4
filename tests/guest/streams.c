// One call that writes more than a stream has room for, by every call and to every kind of stream: it returns when all is
// taken, however slowly that is read. And one that does not wait takes all that there is room for.
#include "sockets.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

enum { SIZE = 2 << 20 };
static char out[SIZE], in[SIZE];

static void make(const char *kind, int fds[2])
{
	int listener;
	if (!strcmp(kind, "tcp")) {
		pair(&fds[1], &fds[0], &listener);
		close(listener);
	} else if (!strcmp(kind, "unix"))
		socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
	else {
		int ends[2];
		pipe(ends);
		fds[0] = ends[1];
		fds[1] = ends[0];
	}
}

static long put(const char *call, int fd, size_t n)
{
	struct iovec v[2] = {{out, n / 3}, {out + n / 3, n - n / 3}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	if (!strcmp(call, "write"))
		return write(fd, out, n);
	if (!strcmp(call, "writev"))
		return writev(fd, v, 2);
	if (!strcmp(call, "send"))
		return send(fd, out, n, MSG_NOSIGNAL);
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

struct job {
	const char *call;
	int fd;
	long result;
};

static void *writer(void *p)
{
	struct job *job = p;
	job->result = put(job->call, job->fd, SIZE);
	return 0;
}

static void slowly(const char *kind, const char *call, size_t piece)
{
	int fds[2];
	make(kind, fds);
	struct job job = {call, fds[0], 0};
	pthread_t t;
	memset(in, 0, SIZE);
	pthread_create(&t, 0, writer, &job);
	// It fills what there is of room first.
	usleep(20000);
	size_t done = 0;
	while (done < SIZE) {
		struct pollfd p = {fds[1], POLLIN, 0};
		if (poll(&p, 1, 5000) != 1)
			break;
		long n = read(fds[1], in + done, piece < SIZE - done ? piece : SIZE - done);
		if (n <= 0)
			break;
		done += n;
	}
	if (done < SIZE) {
		printf("%s %s by %zu: stuck at %s\n", kind, call, piece, done ? "some" : "none");
		exit(1);
	}
	pthread_join(t, 0);
	printf("%s %s by %zu: %ld, %s\n", kind, call, piece, job.result, memcmp(in, out, SIZE) ? "differs" : "same");
	close(fds[0]);
	close(fds[1]);
}

static void at_once(const char *kind, const char *call)
{
	int fds[2];
	make(kind, fds);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
	int ep = epoll_create1(0);
	epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &e);
	int first = epoll_wait(ep, &e, 1, 0);
	// Less than was asked for: there is no more room, and an edge will tell when there is.
	long total = 8 << 20, done = 0, n;
	char *much = calloc(1, total);
	struct iovec v[2] = {{much, 4 << 20}, {much + (4 << 20), 4 << 20}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	n = !strcmp(call, "write") ? write(fds[0], much, total)
	    : !strcmp(call, "writev") ? writev(fds[0], v, 2)
	    : !strcmp(call, "send") ? send(fds[0], much, total, 0)
				    : sendmsg(fds[0], &m, 0);
	int part = n > 0 && n < total;
	int now = epoll_wait(ep, &e, 1, 0);
	while (done < n) {
		long got = read(fds[1], in, SIZE);
		if (got <= 0)
			break;
		done += got;
	}
	int later = epoll_wait(ep, &e, 1, 1000);
	printf("%s %s at once: %s, events %d %d %d\n", kind, call, part ? "part" : strerror(errno), first, now, later);
	free(much);
	close(ep);
	close(fds[0]);
	close(fds[1]);
}

static void to_nobody(const char *call)
{
	int fds[2];
	make("tcp", fds);
	close(fds[1]);
	usleep(10000);
	long total = 64L << 20;
	char *much = calloc(1, total);
	struct iovec v[2] = {{much, total / 2}, {much + total / 2, total / 2}};
	long n = !strcmp(call, "write") ? write(fds[0], much, total) : writev(fds[0], v, 2);
	printf("tcp %s to a closed end: %s\n", call, n > 0 && n < total ? "part" : n < 0 ? strerror(errno) : "all");
	n = write(fds[0], "x", 1);
	printf("again: %ld %s\n", n, n < 0 ? strerror(errno) : "");
	n = write(fds[0], "x", 1);
	printf("and again: %ld %s\n", n, n < 0 ? strerror(errno) : "");
	free(much);
	close(fds[0]);
}

int main(void)
{
	static const char *calls[] = {"write", "writev", "send", "sendmsg"};
	setvbuf(stdout, 0, _IONBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < SIZE; i++)
		out[i] = i * 7 + i / 4096;
	for (int i = 0; i < 4; i++) {
		for (size_t piece = 3000; piece < SIZE; piece *= 19) {
			slowly("tcp", calls[i], piece);
			slowly("unix", calls[i], piece);
			if (i < 2)
				slowly("pipe", calls[i], piece);
		}
		at_once("tcp", calls[i]);
		at_once("unix", calls[i]);
		if (i < 2)
			at_once("pipe", calls[i]);
	}
	to_nobody("write");
	to_nobody("writev");
	return 0;
}
