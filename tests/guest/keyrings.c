/* Keys and keyrings (keyrings(7)). */
#include "check.h"
#include <pthread.h>

enum { GET, JOIN, UPDATE, REVOKE, CHOWN, PERM, DESCRIBE, CLEAR, LINK, UNLINK, SEARCH, READ, DEST = 14, TIMEOUT, SECURITY = 17, INVALIDATE = 21, MOVE = 30 };
#define add(t, d, p, n, r) ((int)syscall(248, t, d, p, (size_t)(n), r))
#define request(t, d, c, r) ((int)syscall(249, t, d, c, r))
#define ctl(...) syscall(250, __VA_ARGS__)
static char b[70000];

static void look(int key)
{
	memset(b, 0, 200);
	long n = ctl(DESCRIBE, key, b, sizeof b);
	printf("  %s", n < 0 ? strerror(errno) : b);
	int text = n < 0 || b[0] == 'u';
	n = ctl(READ, key, b, sizeof b);
	if (n < 0)
		printf(" [%s]\n", strerror(errno));
	else if (text && n > 0 && n < 100 && b[0] >= ' ' && b[0] < 127)
		printf(" [%.*s]\n", (int)n, b);
	else
		printf(" %ld bytes\n", n);
}
static int holds(int ring, int key)
{
	long n = ctl(READ, ring, b, sizeof b);
	for (int i = 0; i < n / 4; i++)
		if (((int *)b)[i] == key)
			return 1;
	return 0;
}
/* What /proc/keys says of a key, but for its number and holders. */
static void listed(int key)
{
	FILE *f = fopen("/proc/keys", "r");
	char line[512];
	int any = 0;
	while (fgets(line, sizeof line, f))
		if (strtoul(line, 0, 16) == (unsigned)key)
			printf("  %.7s %s", line + 9, line + 23), any = 1;
	fclose(f);
	if (!any)
		puts("  not listed");
}
static void *in_thread(void *x)
{
	S(ctl(GET, -1, 0)); S(ctl(GET, -1, 1)); T(ctl(GET, -2, 0) == *(int *)x); look(-1);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		setvbuf(stdout, NULL, _IONBF, 0);
		T(ctl(GET, -3, 0) == atoi(argv[1])); S(ctl(GET, -2, 0)); S(ctl(GET, -1, 0)); T(request("user", "kept", 0, 0) == atoi(argv[2]));
		return 0;
	}
	begin();
	S(ctl(JOIN, 0)); look(-3); S(ctl(GET, -3, 0)); S(ctl(GET, -1, 0)); S(ctl(GET, -2, 0)); S(ctl(GET, -6, 0)); S(ctl(GET, -7, 0)); S(ctl(GET, -8, 0)); S(ctl(GET, -9, 0)); S(ctl(GET, 0, 0)); S(ctl(GET, 2, 0));
	look(-4); S(ctl(99)); S(ctl(GET, -4, 0)); S(ctl(GET, -5, 0));
	/* adding */
	int a = add("user", "one", "data", 4, -3); printf("%d\n", a > 0); look(a); listed(a); T(add("user", "one", "other", 5, -3) == a); look(a); S(add("user", "one", "", 0, -3)); S(add("user", "", "x", 1, -3)); S(add("user", 0, "x", 1, -3));
	S(add("nosuch", "one", "x", 1, -3)); S(add("", "one", "x", 1, -3)); S(add(".x", "one", "x", 1, -3)); S(add("user", ".dot", "x", 1, -3)); S(add("keyring", ".dot", 0, 0, -3)); S(add("keyring", "r", "x", 1, -3)); S(add(BAD, "one", "x", 1, -3));
	S(add("user", BAD, "x", 1, -3)); S(add("user", "one", BAD, 1, -3)); S(add("user", "one", 0, 1, -3)); S(add("user", "x", b, 32767, -3)); S(add("user", "x", b, 32768, -3)); S(add("user", "x", b, 1 << 20, -3)); S(add("user", "one", "x", 1, a));
	S(add("user", "one", "x", 1, 0)); S(add("user", "one", "x", 1, 12345)); S(add("a very long type name that is none", "one", "x", 1, -3)); S(add("logon", "plain", "x", 1, -3)); S(add("logon", ":x", "x", 1, -3));
	int l = add("logon", "svc:x", "secret", 6, -3); look(l); S(ctl(UPDATE, l, "new", 3)); int r = add("keyring", "ring", 0, 0, -3); look(r); listed(r); int r2 = add("keyring", "ring", 0, 0, -3); T(r2 != r); T(holds(-3, r2));
	/* linking, searching */
	r = r2; int k = add("user", "two", "2", 1, r); T(holds(r, k)); S(ctl(LINK, a, r)); T(holds(r, a)); S(ctl(LINK, a, r)); S(ctl(LINK, r, r)); int in = add("keyring", "inner", 0, 0, r); S(ctl(LINK, r, in)); S(ctl(LINK, a, k)); S(ctl(LINK, 12345, r));
	T(ctl(SEARCH, -3, "user", "two", 0) == k); S(ctl(SEARCH, -3, "user", "three", 0)); S(ctl(SEARCH, -3, "nosuch", "two", 0)); S(ctl(SEARCH, a, "user", "two", 0)); T(ctl(SEARCH, -3, "user", "two", in) == k); T(holds(in, k)); S(ctl(SEARCH, -3, BAD, "two", 0)); S(ctl(SEARCH, -3, "user", BAD, 0));
	S(ctl(UNLINK, k, in)); S(ctl(UNLINK, k, in)); S(ctl(UNLINK, k, a)); S(ctl(UNLINK, 12345, in)); T(request("user", "two", 0, 0) == k); S(request("user", "absent", 0, 0)); S(request("nosuch", "two", 0, 0)); S(request("user", 0, 0, 0)); T(request("user", "two", 0, -2) == k); T(holds(-2, k)); listed((int)ctl(GET, -2, 0));
	S(ctl(MOVE, k, r, in, 0)); T(holds(in, k)); T(holds(r, k)); S(ctl(MOVE, k, r, in, 0)); S(ctl(MOVE, k, in, r, 2)); add("user", "two", "3", 1, r); S(ctl(MOVE, k, in, r, 1)); S(ctl(MOVE, k, in, r, 0)); S(ctl(MOVE, k, r, r, 0)); S(ctl(MOVE, k, a, r, 0)); S(ctl(CLEAR, in)); S(ctl(CLEAR, a));
	/* reading */
	T(ctl(READ, a, 0, 0)); T(ctl(READ, a, b, 3)); memset(b, 'z', 10); T(ctl(READ, a, b, 3)); printf("%.6s\n", b); T(ctl(READ, a, b, 100)); T(ctl(READ, a, BAD, 100)); T(ctl(READ, 0, b, 1)); T(ctl(DESCRIBE, a, 0, 0)); T(ctl(DESCRIBE, a, b, 3)); T(ctl(DESCRIBE, a, BAD, 100)); T(ctl(SECURITY, a, b, 100));
	/* permissions */
	S(ctl(PERM, a, 0x3f000000)); look(a); S(ctl(PERM, a, 0x80)); S(ctl(PERM, a, 0x01000000)); look(a); S(ctl(UPDATE, a, "x", 1)); S(ctl(PERM, a, 0x3f3f0000)); S(ctl(LINK, a, -2)); k = add("user", "bare", "x", 1, -3); S(ctl(PERM, k, 0x3f010101)); look(k); AS(65534, look(k); S(ctl(UPDATE, k, "y", 1)));
	AS(65534, S(ctl(JOIN, 0)); look(k); S(ctl(READ, k, b, 10)); S(ctl(PERM, k, 0x3f3f3f3f)); S(ctl(CHOWN, k, 65534, -1)); S(ctl(REVOKE, k)); S(ctl(TIMEOUT, k, 5)); S(ctl(LINK, k, -3)); look(-4); look(-5); int n = 0; char d[16]; while (sprintf(d, "k%d", n), add("user", d, "1", 1, -3) > 0) n++; printf("%d %s\n", n > 150 && n < 200, strerror(errno)); S(add("user", "big", b, 20000, -3)));
	S(ctl(CHOWN, k, 1234, 1235)); look(k); S(ctl(CHOWN, k, 0, 0)); AS(1236, S(ctl(CHOWN, k, 1236, -1))); S(ctl(CHOWN, k, -1, -1)); S(ctl(CHOWN, k, 0, 0)); S(ctl(CHOWN, 12345, 0, 0)); S(ctl(DEST, -1)); T(ctl(DEST, 3)); T(ctl(DEST, -1)); T(ctl(DEST, 6)); T(ctl(DEST, 7)); T(ctl(DEST, 9)); T(ctl(DEST, 0));
	/* ends */
	S(ctl(TIMEOUT, k, 100)); listed(k); S(ctl(TIMEOUT, k, 1)); usleep(2100000); look(k); S(ctl(UPDATE, k, "x", 1)); S(request("user", "bare", 0, 0)); S(ctl(LINK, k, -3)); S(ctl(TIMEOUT, k, 0)); S(ctl(UNLINK, k, -3)); k = add("user", "gone", "x", 1, -3); S(ctl(REVOKE, k)); look(k); S(ctl(REVOKE, k)); S(ctl(READ, k, b, 1)); S(request("user", "gone", 0, 0)); S(ctl(TIMEOUT, k, 1));
	T(add("user", "gone", "y", 1, -3) != k); T(add("user", "inv", "y", 1, -3) > 0); k = request("user", "inv", 0, 0); S(ctl(INVALIDATE, k)); S(ctl(DESCRIBE, k, b, 100)); S(request("user", "inv", 0, 0)); S(ctl(REVOKE, r)); S(add("user", "one", "x", 1, r)); look(r);
	/* who has which */
	k = add("user", "kept", "x", 1, -3); int s = ctl(GET, -3, 0), p = ctl(GET, -2, 1); S(ctl(GET, -1, 1)); pthread_t t; pthread_create(&t, 0, in_thread, &p); pthread_join(t, 0);
	AS(0, T(ctl(GET, -3, 0) == s); S(ctl(GET, -2, 0)); S(ctl(GET, -1, 0)); T(request("user", "kept", 0, 0) == k); S(ctl(JOIN, 0)); T(ctl(GET, -3, 0) != s); S(request("user", "kept", 0, 0)); S(ctl(READ, k, b, 1)); look(k));
	AS(65534, T(ctl(GET, -3, 0) == s); T(request("user", "kept", 0, 0) == k)); AS(0, char x[20], y[20]; sprintf(x, "%d", s); sprintf(y, "%d", k); execl("/proc/self/exe", "k", x, y, (char *)0));
	T(ctl(JOIN, "named") > 0); look(-3); int nm = ctl(GET, -3, 0); S(ctl(JOIN, 0)); T(ctl(JOIN, "named") == nm); S(ctl(JOIN, ".x")); S(ctl(JOIN, BAD)); T(ctl(GET, -3, 1) == nm);
	T(syscall(322, AT_FDCWD, "/bin/ls", 0, 0, 0x10000)); T(syscall(322, AT_FDCWD, "/etc/passwd", 0, 0, 0x10000)); T(syscall(322, AT_FDCWD, "/nosuch", 0, 0, 0x10000)); close(open("empty", O_CREAT, 0755)); T(syscall(322, AT_FDCWD, "empty", 0, 0, 0x10000)); T(syscall(322, AT_FDCWD, ".", 0, 0, 0x10000)); T(syscall(322, AT_FDCWD, "/bin/ls", 0, 0, 0x20000));
	return 0;
}
