/* Threads and futexes: mutex, condition, barrier, join, thread-local data, exit while siblings wait. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter, turn;
static __thread long mine;

static void *add(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
		mine++;
	}
	pthread_barrier_wait(&barrier);
	return (void *)mine;
}

static void *ping(void *arg)
{
	long me = (long)arg;
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&lock);
		while (turn != me)
			pthread_cond_wait(&cond, &lock);
		turn = !me;
		pthread_cond_signal(&cond);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void *nothing(void *arg)
{
	return arg;
}

static void *forever(void *arg)
{
	for (;;)
		pause();
}

int main(void)
{
	pthread_t t[8];
	void *r;
	long sum = 0;
	setvbuf(stdout, NULL, _IONBF, 0);
	pthread_barrier_init(&barrier, NULL, 8);
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, add, NULL);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	printf("counter %ld, thread-local sum %ld\n", counter, sum);
	for (long i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, ping, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("ping-pong done, turn %ld\n", turn);
	for (int i = 0; i < 200; i++) {
		pthread_create(&t[0], NULL, nothing, NULL);
		pthread_join(t[0], NULL);
	}
	printf("200 created and joined\n");

	/* a mutex shared by processes */
	struct { pthread_mutex_t m; long n; } *s =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&s->m, &a);
	for (int p = 0; p < 4; p++)
		if (fork() == 0) {
			for (int i = 0; i < 5000; i++) {
				pthread_mutex_lock(&s->m);
				s->n++;
				pthread_mutex_unlock(&s->m);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	printf("shared %ld\n", s->n);

	/* exit of the process ends threads that wait */
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, forever, NULL);
		usleep(10000);
		exit(6);
	}
	waitpid(pid, &status, 0);
	printf("exit with threads: %d\n", WEXITSTATUS(status));
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, forever, NULL);
		execl("/bin/sh", "sh", "-c", "exit 8", NULL);
	}
	waitpid(pid, &status, 0);
	printf("exec with threads: %d\n", WEXITSTATUS(status));
	return 0;
}
