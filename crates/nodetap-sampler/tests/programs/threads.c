/* Starts a thread, waits for it to use 100 ms of CPU time, starts the next;
 * as many as the argument says, after a line came in. Each prints its thread
 * id and the nanoseconds of CPU time that it used. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static long long cpu_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

volatile unsigned long sum;

NOINLINE void spin(unsigned long turns)
{
    while (turns--)
        sum = sum * 31 + 7;
}

NOINLINE int work(void)
{
    while (cpu_time() < 100000000)
        spin(1000000);
    return ++sum;
}

static void *run(void *argument)
{
    work();
    printf("%d %lld\n", gettid(), cpu_time());
    return argument;
}

int main(int count, char **arguments)
{
    puts("ready");
    fflush(stdout);
    getchar();
    for (int left = count > 1 ? atoi(arguments[1]) : 1; left > 0; left--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, NULL) || pthread_join(thread, NULL))
            return 1;
    }
    return 0;
}
