// Takes, or gives, a descriptor by SCM_RIGHTS over standard input, by the kernel's own gate.
// passing take ENTRY_OFFSET GATE_DISTANCE INODE: tries every way to receive, then looks for a host descriptor of that inode
// passing give ENTRY_OFFSET GATE_DISTANCE: sends every host descriptor
// passing natively INODE: takes as any program does
// Each call is made by a child of its own.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void *at;

static long gate(long nr, long a, long b, long c, long d)
{
	long result;
	register long r9 __asm__("r9") = 0;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("push %[nr]\n\tcall *%[at]\n\tadd $8, %%rsp"
			 : "=a"(result)
			 : [nr] "r"(nr), [at] "r"(at), "D"(a), "S"(b), "d"(c), "c"(d), "r"(r8), "r"(r9)
			 : "r10", "r11", "memory");
	return result;
}

static char byte, control[CMSG_SPACE(16 * sizeof(int))];
static struct iovec vec = {&byte, 1};
static struct mmsghdr message;

static void prepare(int fd)
{
	struct msghdr *m = &message.msg_hdr;
	memset(m, 0, sizeof *m);
	m->msg_iov = &vec;
	m->msg_iovlen = 1;
	m->msg_control = control;
	m->msg_controllen = fd < 0 ? sizeof control : CMSG_SPACE(sizeof fd);
	if (fd >= 0) {
		struct cmsghdr *c = CMSG_FIRSTHDR(m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
}

static void try(const char *what, int fd, long nr, long b, long c)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		prepare(fd);
		long r = gate(nr, 0, b, c, MSG_DONTWAIT);
		printf("%s %ld\n", what, r);
		fflush(stdout);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
}

static void look(unsigned long inode, int raw)
{
	for (int fd = 3; fd < 128; fd++) {
		struct stat st;
		memset(&st, 0, sizeof st);
		if ((raw ? gate(SYS_fstat, fd, (long)&st, 0, 0) : fstat(fd, &st)) == 0 && st.st_ino == inode)
			puts("reached");
	}
}

int main(int argc, char **argv)
{
	int gives = !strcmp(argv[1], "give");
	if (!strcmp(argv[1], "natively")) {
		prepare(-1);
		recvmsg(0, &message.msg_hdr, 0);
		look(strtoul(argv[2], 0, 10), 0);
		return 0;
	}
	char *slot;
	__asm__ volatile("rdgsbase %0" : "=r"(slot));
	at = *(char **)(slot + atol(argv[2])) + atol(argv[3]);
	long m = (long)&message.msg_hdr;
	if (gives) {
		for (int fd = 0; fd < 64; fd++) {
			try("sendmsg", fd, SYS_sendmsg, m, 0);
			try("sendmmsg", fd, SYS_sendmmsg, m, 1);
		}
	} else {
		try("recvmsg", -1, SYS_recvmsg, m, 0);
		try("recvmmsg", -1, SYS_recvmmsg, m, 1);
		try("recvfrom", -1, SYS_recvfrom, (long)&byte, 1);
		try("readv", -1, SYS_readv, (long)&vec, 1);
		try("read", -1, SYS_read, (long)&byte, 1);
		// As any program does: the kernel's own way.
		prepare(-1);
		recvmsg(0, &message.msg_hdr, MSG_DONTWAIT);
		look(strtoul(argv[4], 0, 10), 1);
	}
	puts("done");
	return 0;
}
