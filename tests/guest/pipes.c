/* Pipes: data, ends, EAGAIN, SIGPIPE, atomicity of small writes, FIFOs, splitting across processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int fds[2], n, status;
	char buf[8192];
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGPIPE, SIG_IGN);
	pipe(fds);
	printf("write %zd\n", write(fds[1], "hello", 5));
	ioctl(fds[0], FIONREAD, &n);
	printf("FIONREAD %d\n", n);
	printf("read %zd\n", read(fds[0], buf, sizeof buf));
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	printf("empty: %zd %s\n", read(fds[0], buf, 1), strerror(errno));
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	long total = 0;
	memset(buf, 'x', sizeof buf);
	ssize_t k;
	while ((k = write(fds[1], buf, 4096)) > 0)
		total += k;
	printf("full at %ld: %s\n", total, strerror(errno));
	struct pollfd p = { fds[1], POLLOUT, 0 };
	printf("poll full %d\n", poll(&p, 1, 0));
	read(fds[0], buf, 4096);
	printf("poll after one page %d\n", poll(&p, 1, 0));
	close(fds[0]);
	printf("no reader: %zd %s\n", write(fds[1], "x", 1), strerror(errno));
	p.revents = 0;
	poll(&p, 1, 0);
	printf("revents has POLLERR: %d\n", !!(p.revents & POLLERR));
	close(fds[1]);

	/* a megabyte through a pipe, checked */
	pipe(fds);
	if (fork() == 0) {
		close(fds[0]);
		unsigned char out[1000];
		for (int i = 0; i < 1000; i++) {
			for (int j = 0; j < 1000; j++)
				out[j] = i * 7 + j;
			if (write(fds[1], out, 1000) != 1000)
				_exit(1);
		}
		_exit(0);
	}
	close(fds[1]);
	long got = 0, bad = 0;
	while ((k = read(fds[0], buf, sizeof buf)) > 0)
		for (int i = 0; i < k; i++, got++)
			bad += (unsigned char)buf[i] != (unsigned char)(got / 1000 * 7 + got % 1000);
	wait(&status);
	printf("got %ld, bad %ld, status %d\n", got, bad, status);
	close(fds[0]);

	/* writers of PIPE_BUF bytes do not mix */
	pipe(fds);
	for (int w = 0; w < 4; w++)
		if (fork() == 0) {
			memset(buf, 'a' + w, 512);
			for (int i = 0; i < 200; i++)
				write(fds[1], buf, 512);
			_exit(0);
		}
	close(fds[1]);
	long mixed = 0;
	FILE *f = fdopen(fds[0], "r");
	while (fread(buf, 512, 1, f) == 1)
		for (int i = 1; i < 512; i++)
			mixed += buf[i] != buf[0];
	fclose(f);
	while (wait(NULL) > 0)
		;
	printf("mixed %ld\n", mixed);

	char name[] = "/tmp/drupe-fifo-XXXXXX";
	mktemp(name);
	mkfifo(name, 0600);
	printf("FIFO without reader: %d %s\n", open(name, O_WRONLY | O_NONBLOCK), strerror(errno));
	if (fork() == 0) {
		int w = open(name, O_WRONLY);
		write(w, "through a name", 14);
		_exit(0);
	}
	int r = open(name, O_RDONLY);
	n = 0;
	while ((k = read(r, buf + n, sizeof buf - n)) > 0)
		n += k;
	buf[n] = 0;
	printf("%s\n", buf);
	wait(NULL);
	close(r);

	/* who waits for the other end meets it, however short it stays */
	pipe(fds);
	if (fork() == 0) {
		for (int i = 0; i < 2000; i++) {
			int w = open(name, O_WRONLY);
			write(w, "x", 1);
			close(w);
			read(fds[0], buf, 1);
		}
		_exit(0);
	}
	n = 0;
	for (int i = 0; i < 2000; i++) {
		r = open(name, O_RDONLY);
		while (read(r, buf, sizeof buf) > 0)
			n++;
		close(r);
		write(fds[1], "g", 1);
	}
	printf("met %d times\n", n);
	wait(NULL);
	unlink(name);
	return 0;
}
