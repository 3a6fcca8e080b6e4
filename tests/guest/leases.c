/* Leases (F_SETLEASE in fcntl(2)). */
#include "check.h"
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/time.h>

static volatile int got, code, fd_of; static volatile long band;
static void on(int s, siginfo_t *i, void *u) { got = s; code = i->si_code; band = i->si_band; fd_of = i->si_fd; }
static int the;
static void told(void) { printf("signal %d", got); if (got != SIGIO) printf(" code %d band %lx fd %s", code, band, fd_of == the ? "ours" : "other"); puts(""); got = 0; }
#define SETL(f, k) S(fcntl(f, F_SETLEASE, k))
#define GETL(f) T(fcntl(f, F_GETLEASE))
/* A child does it and says how that went; the parent does the rest meanwhile. */
#define MEANWHILE(what, ...) do { int p_[2]; pipe(p_); pid_t c_ = fork(); if (!c_) { dup2(p_[1], 1); close(p_[0]); close(p_[1]); alarm(20); what; _exit(0); } \
	close(p_[1]); __VA_ARGS__; waitpid(c_, 0, 0); char b_[4096]; ssize_t n_; while ((n_ = read(p_[0], b_, sizeof b_)) > 0) write(1, b_, n_); close(p_[0]); } while (0)
static void pause_for(void) { for (int i = 0; i < 200 && !got; i++) usleep(10000); }

static void with(const char *where)
{
	printf("== %s\n", where);
	int r = open("f", O_CREAT | O_RDONLY, 0644), w;
	GETL(r); if (SETL(r, F_RDLCK)) return;
	GETL(r); SETL(r, F_RDLCK); SETL(r, F_WRLCK); GETL(r); SETL(r, F_UNLCK); SETL(r, F_UNLCK); GETL(r); SETL(r, 7); SETL(r, -1);
	int r2 = open("f", O_RDONLY); SETL(r, F_WRLCK); SETL(r, F_RDLCK); SETL(r2, F_RDLCK); GETL(r2); SETL(r2, F_WRLCK); int r3 = dup(r); GETL(r3); close(r3); GETL(r); close(r2);
	SETL(r, F_WRLCK); GETL(r); SETL(r, F_UNLCK); w = open("f", O_RDWR); SETL(r, F_RDLCK); SETL(w, F_RDLCK); SETL(w, F_WRLCK); close(r); SETL(w, F_WRLCK); GETL(w); SETL(w, F_RDLCK); SETL(w, F_UNLCK); close(w);
	int d = open(".", O_RDONLY); SETL(d, F_RDLCK); GETL(d); close(d); int p[2]; pipe(p); SETL(p[0], F_RDLCK); GETL(p[0]); d = open("f", O_PATH); SETL(d, F_RDLCK); GETL(d); close(d); SETL(-1, F_RDLCK); close(p[0]); close(p[1]);
	AS(65534, int q = open("f", O_RDONLY); SETL(q, F_RDLCK); SETL(q, F_UNLCK); SETL(q, 9); GETL(q));
	/* breaking */
	the = r = open("f", O_RDONLY); SETL(r, F_RDLCK); T(fcntl(r, F_GETOWN) == getpid()); MEANWHILE(S(open("f", O_WRONLY | O_NONBLOCK)); S(open("f", O_RDONLY)), ); told(); GETL(r); SETL(r, F_UNLCK); GETL(r);
	SETL(r, F_RDLCK); S(fcntl(r, F_SETSIG, SIGUSR1)); MEANWHILE(S(open("f", O_WRONLY)), pause_for(); told(); GETL(r); SETL(r, F_UNLCK)); T(fcntl(r, F_GETSIG)); T(fcntl(r, F_GETOWN));
	S(fcntl(r, F_SETSIG, SIGUSR1)); SETL(r, F_RDLCK); MEANWHILE(S(truncate("f", 1)), pause_for(); told(); GETL(r); SETL(r, F_UNLCK)); S(fcntl(r, F_SETSIG, SIGUSR1)); SETL(r, F_RDLCK);
	MEANWHILE(S(open("f", O_RDWR | O_TRUNC)), pause_for(); told(); SETL(r, F_UNLCK)); close(r); the = w = open("f", O_RDWR); S(fcntl(w, F_SETSIG, SIGUSR2)); SETL(w, F_WRLCK);
	MEANWHILE(S(open("f", O_RDONLY)), pause_for(); told(); GETL(w); SETL(w, F_RDLCK); SETL(w, F_UNLCK)); close(w); the = w = open("f", O_RDONLY); S(fcntl(w, F_SETSIG, SIGUSR2)); SETL(w, F_WRLCK);
	MEANWHILE(S(open("f", O_RDONLY)), pause_for(); told(); GETL(w); SETL(w, F_RDLCK)); GETL(w); MEANWHILE(S(open("f", O_RDONLY)), ); told(); MEANWHILE(S(open("f", O_WRONLY)); S(stat("f", &(struct stat){ 0 })), pause_for(); told(); GETL(w); SETL(w, F_RDLCK); GETL(w); SETL(w, F_UNLCK)); close(w);
	/* the time limit, what does not break, own opening, interruption */
	FILE *t = fopen("/proc/sys/fs/lease-break-time", "r"); int was; fscanf(t, "%d", &was); fclose(t); printf("%d\n", was);
	t = fopen("/proc/sys/fs/lease-break-time", "w"); fprintf(t, "1\n"); fclose(t); r = open("f", O_RDONLY); SETL(r, F_RDLCK); struct timeval a, b; gettimeofday(&a, 0); S(close(open("f", O_WRONLY))); gettimeofday(&b, 0); long ms = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_usec - a.tv_usec) / 1000;
	printf("after its time %d\n", ms >= 900 && ms < 3000); told(); GETL(r); SETL(r, F_WRLCK); MEANWHILE(S(open("f", O_RDONLY)), pause_for(); GETL(r)); GETL(r); told(); SETL(r, F_UNLCK); SETL(r, F_RDLCK); S(unlink("f")); S(chmod("/proc/self/fd", 0)); got = 0;
	GETL(r); told(); close(r); r = open("f", O_CREAT | O_RDONLY, 0644); SETL(r, F_RDLCK); S(rename("f", "g")); S(chmod("g", 0600)); S(link("g", "f")); GETL(r); told(); t = fopen("/proc/sys/fs/lease-break-time", "w"); fprintf(t, "%d\n", was); fclose(t);
	struct sigaction s = { 0 }; s.sa_sigaction = on; s.sa_flags = SA_SIGINFO; sigaction(SIGALRM, &s, 0); struct itimerval it = { { 0, 50000 }, { 0, 50000 } }; MEANWHILE(sigaction(SIGALRM, &s, 0); setitimer(ITIMER_REAL, &it, 0); S(open("f", O_WRONLY)); setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, 0), ); pause_for(); got = 0; GETL(r); close(r);
	signal(SIGALRM, SIG_DFL); unlink("f"); unlink("g");
}

int main(void)
{
	begin();
	struct sigaction s = { 0 }; s.sa_sigaction = on; s.sa_flags = SA_SIGINFO | SA_RESTART; sigaction(SIGIO, &s, 0); sigaction(SIGUSR1, &s, 0); sigaction(SIGUSR2, &s, 0);
	unshare(CLONE_NEWNS); mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
	mkdir("m", 0755); mount("t", "m", "tmpfs", 0, "mode=777"); chdir("m"); with("tmpfs");
	return 0;
}
