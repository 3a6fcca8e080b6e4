/* Echoes that a signal's character drops, wakes of a terminal that are no signals, the peer of a master that was hung up. */
#include "check.h"
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

static volatile int told;
static int master, slave;

static void on_io(int s)
{
	told++;
}

static void shown(const char *what)
{
	char b[600];
	usleep(20000);
	long n = read(master, b, sizeof b);
	printf("%s:", what);
	for (long i = 0; i < n; i++)
		printf(b[i] >= ' ' && b[i] < 127 ? "%c" : "\\%02x", (unsigned char)b[i]);
	printf(", owner told %d\n", told), told = 0;
}

static void type(const char *text)
{
	char what[100];
	write(master, text, strlen(text));
	snprintf(what, sizeof what, "%ld typed", (long)strlen(text)), shown(what);
}

int main(void)
{
	begin();
	master = posix_openpt(O_RDWR | O_NOCTTY), grantpt(master), unlockpt(master);
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	fcntl(master, F_SETFL, O_NONBLOCK);
	type("ab"), type("cd\x1a" "ef"), type("g\ngh\x03"), type("x\x12y\x1c"), type("a\x7f" "b\x03");
	struct termios t;
	tcgetattr(slave, &t), t.c_lflag |= NOFLSH, tcsetattr(slave, TCSANOW, &t);
	type("cd\x1a" "ef"), type("x\x12\x03"), t.c_lflag &= ~NOFLSH, tcsetattr(slave, TCSANOW, &t), type("\x13" "ab\x03z"), type("\x11");
	/* Changed settings wake who sleeps, and tell no owner. */
	signal(SIGIO, on_io), fcntl(slave, F_SETOWN, getpid()), fcntl(slave, F_SETFL, O_ASYNC);
	t.c_lflag &= ~ICANON, tcsetattr(slave, TCSANOW, &t), shown("raw"), t.c_lflag |= ICANON, tcsetattr(slave, TCSANOW, &t), shown("lines"), type("line\n");
	fcntl(slave, F_SETFL, 0), fcntl(master, F_SETOWN, getpid()), fcntl(master, F_SETFL, O_ASYNC | O_NONBLOCK);
	int on = 1;
	ioctl(master, TIOCPKT, &on), tcflow(slave, TCOOFF), shown("stopped"), tcflow(slave, TCOON), shown("goes on"), tcflush(slave, TCIFLUSH), shown("flushed");
	on = 0, ioctl(master, TIOCPKT, &on), fcntl(master, F_SETFL, O_NONBLOCK);
	int again = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	printf("%d\n", again >= 0), close(again);
	S(ioctl(master, TIOCVHANGUP)), S(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY)), S(tcgetattr(master, &t)), S(ioctl(master, TIOCSPGRP, &on));
	return 0;
}
