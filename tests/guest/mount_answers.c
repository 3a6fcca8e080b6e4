/* listmount(2) and statmount(2). */
#include "check.h"
#include <sched.h>
#include <sys/mount.h>

static uint64_t r[8], ids[256];
static char b[8192];
#define LIST(n, f) syscall(458, r, ids, n, f)
#define STAT(n) syscall(457, r, b, n, 0)
static uint64_t at(int o) { return *(uint64_t *)(b + o); }
static unsigned word(int o) { return *(unsigned *)(b + o); }
static const char *text(int o) { return word(o) ? b + 512 + word(o) : "-"; }

static uint64_t id_of(const char *p)
{
	struct statx x;
	syscall(SYS_statx, AT_FDCWD, p, 0, 0x4000, &x);
	return *(uint64_t *)((char *)&x + 0x90);
}

static void show(const char *p)
{
	r[0] = 24; r[1] = id_of(p); r[2] = 0x7fff & ~0x40; memset(b, 0x55, sizeof b);
	if (T(STAT(sizeof b)))
		return;
	const char *point = text(108);
	const char *tail = strstr(point, "/w/");
	printf("%s: mask %lx magic %lx sb flags %x own id %d parent differs %d attr %lx propagation %lx group %d master %d type %s point %s options %s source %s (%u: %s)\n",
	       p, at(8), at(24), word(32), at(40) == id_of(p), at(40) != at(48), at(64), at(72), at(80) != 0, at(88) != 0, text(36),
	       tail ? tail : point, text(4), text(124), word(128) < 100 ? word(128) : 0, text(132));
}

int main(void)
{
	begin();
	unshare(CLONE_NEWNS); mount(0, "/", 0, MS_REC | MS_PRIVATE, 0); char *top = getcwd(0, 0); mount(top, top, 0, MS_BIND, 0); chdir(top);
	mkdir("a", 0755); mkdir("b", 0755);
	mount("one", "a", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=700"); mkdir("a/x", 0755); mount("two", "a/x", "tmpfs", MS_RDONLY | MS_NOEXEC | MS_NOATIME, 0);
	mount(0, "a", 0, MS_SHARED, 0); mount("a", "b", 0, MS_BIND, 0); mount(0, "b", 0, MS_SLAVE, 0);
	r[0] = 24; r[1] = ~0ull; S(LIST(256, 0)); S(LIST(256, 2)); S(syscall(458, r, BAD, 256, 0)); S(syscall(458, BAD, ids, 256, 0)); r[0] = 23; S(LIST(256, 0)); r[0] = 5000; S(LIST(256, 0));
	r[0] = 64; r[5] = 1; S(LIST(256, 0)); r[5] = 0; S(LIST(256, 0)); r[0] = 24; r[1] = 5; S(LIST(256, 0)); r[1] = 1ull << 40; S(LIST(256, 0)); r[1] = ~0ull; r[2] = 5; S(LIST(256, 0));
	r[2] = 1ull << 40; T(LIST(256, 0)); r[2] = 0; T(LIST(0, 0)); T(LIST(1, 0)); S(LIST(1000001, 0)); r[0] = 32; r[3] = 77; S(LIST(256, 0)); r[3] = 0; r[0] = 32 | 5ull << 32; S(LIST(256, 0)); r[0] = 32;
	r[1] = id_of("."); long n = T(LIST(256, 0)); printf("%d %d %d\n", ids[0] == id_of("a"), ids[1] == id_of("a/x"), ids[2] == id_of("b")); r[2] = ids[0]; T(LIST(256, 0)); T(LIST(256, 1)); r[2] = 0; T(LIST(256, 1));
	printf("%d\n", ids[0] == id_of("b")); r[1] = id_of("a/x"); T(LIST(256, 0)); show("a"); show("a/x"); show("b");
	r[0] = 24; r[1] = id_of("a"); r[2] = 0; T(STAT(4096)); printf("%u %lx\n", word(0), at(8)); S(syscall(457, r, b, 4096, 1)); S(syscall(457, r, BAD, 4096, 0)); r[2] = 0x20; T(STAT(512)); T(STAT(514)); T(STAT(520)); printf("%u %s\n", word(0), text(36));
	r[2] = 2; T(STAT(100)); printf("%u\n", word(0)); T(STAT(0)); r[1] = 1ull << 40; T(STAT(4096)); r[1] = 3; T(STAT(4096)); r[1] = ~0ull; T(STAT(4096)); r[1] = id_of("a"); r[2] = 1ull << 50; T(STAT(4096)); printf("%lx\n", at(8));
	AS(65534, r[1] = id_of("b"); r[2] = 2; T(STAT(4096)); r[1] = ~0ull; r[2] = 0; T(LIST(256, 0) > 0));
	AS(0, uint64_t above = id_of("."); chroot("b"); chdir("/"); r[1] = ~0ull; r[2] = 0; T(LIST(256, 0)); show("/"); syscall(SYS_setresuid, 65534, 65534, 65534); r[1] = above; r[2] = 2; T(STAT(4096)); r[2] = 0; T(LIST(256, 0)));
	return 0;
}
