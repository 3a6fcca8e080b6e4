/* Handles of files: name_to_handle_at, open_by_handle_at. */
#include "check.h"

static struct { struct file_handle h; unsigned char room[128]; } a, b;

static long name(const char *path, int flags) { int id; a.h.handle_bytes = 128; return name_to_handle_at(AT_FDCWD, path, &a.h, &id, flags); }

static void show(int fd)
{
	char text[20];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	printf("read %.*s\n", (int)(n < 0 ? 0 : n), text);
}

int main(void)
{
	begin();
	int fd = open("f", O_CREAT | O_RDWR, 0644), id = -1, id2 = -2, here = open(".", O_RDONLY);
	write(fd, "contents", 8);
	mkdir("d", 0755), symlink("f", "l"), link("f", "g");
	S(name("f", 0)), S(name("d", 0)), S(name("l", 0)), S(name("nosuch", 0)), S(name("", 0)), S(name(NULL, 0));
	S(name("f", 0x8000)), S(name("f", AT_SYMLINK_FOLLOW)), S(name("", AT_EMPTY_PATH)), S(name(BAD, 0));
	S(name_to_handle_at(AT_FDCWD, "f", BAD, &id, 0)), S(name_to_handle_at(AT_FDCWD, "f", &a.h, BAD, 0));
	S(name_to_handle_at(-1, "f", &a.h, &id, 0)), S(name_to_handle_at(fd, "", &a.h, &id, AT_EMPTY_PATH));
	a.h.handle_bytes = 0;
	S(name_to_handle_at(AT_FDCWD, "f", &a.h, &id, 0));
	printf("needs some: %d\n", a.h.handle_bytes > 0);
	a.h.handle_bytes = 129;
	S(name_to_handle_at(AT_FDCWD, "f", &a.h, &id, 0));
	a.h.handle_bytes = b.h.handle_bytes = 128;
	S(name_to_handle_at(AT_FDCWD, "f", &a.h, &id, 0)), S(name_to_handle_at(AT_FDCWD, "g", &b.h, &id2, 0));
	printf("same %d, mount %d\n", a.h.handle_bytes == b.h.handle_bytes && !memcmp(a.h.f_handle, b.h.f_handle, a.h.handle_bytes), id == id2);
	b.h.handle_bytes = 128;
	name_to_handle_at(AT_FDCWD, "l", &b.h, &id2, 0);
	printf("link %d\n", a.h.handle_bytes == b.h.handle_bytes && !memcmp(a.h.f_handle, b.h.f_handle, a.h.handle_bytes));
	S(open_by_handle_at(here, &b.h, O_RDONLY)), S(open_by_handle_at(here, &b.h, O_PATH));
	b.h.handle_bytes = 128;
	name_to_handle_at(AT_FDCWD, "l", &b.h, &id2, AT_SYMLINK_FOLLOW);
	printf("followed %d\n", a.h.handle_bytes == b.h.handle_bytes && !memcmp(a.h.f_handle, b.h.f_handle, a.h.handle_bytes));
	show(S(open_by_handle_at(here, &a.h, O_RDONLY)));
	show(S(open_by_handle_at(AT_FDCWD, &a.h, O_RDONLY)));
	show(S(open_by_handle_at(fd, &a.h, O_RDONLY)));
	S(open_by_handle_at(-1, &a.h, O_RDONLY)), S(open_by_handle_at(here, BAD, O_RDONLY)), S(open_by_handle_at(here, NULL, O_RDONLY));
	AS(65534, S(open_by_handle_at(here, &a.h, O_RDONLY)); S(open_by_handle_at(-1, &a.h, O_RDONLY)); S(name("f", 0)));
	rename("f", "d/moved");
	show(S(open_by_handle_at(here, &a.h, O_RDONLY)));
	chmod("d/moved", 0);
	S(open_by_handle_at(here, &a.h, O_RDWR));
	unlink("g"), unlink("d/moved"), close(fd);
	a.h.handle_bytes = 0;
	S(open_by_handle_at(here, &a.h, O_RDONLY));
	a.h.handle_bytes = 129;
	S(open_by_handle_at(here, &a.h, O_RDONLY));
	S(name("d", 0)), S(open_by_handle_at(here, &a.h, O_RDONLY | O_DIRECTORY)), S(open_by_handle_at(here, &a.h, O_RDWR));
	return 0;
}
