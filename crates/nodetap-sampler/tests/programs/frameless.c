/* Compiled without frame pointers: calls from stacks of many kinds, of which the first
 * argument names one, a function that spins. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile long sink;
static volatile int always = 1;

/* Has a prologue and an epilogue to be hit. */
NOINLINE long step(long a, long b)
{
    long words[6];
    for (int i = 0; i < 6; i++)
        words[i] = a * i + b;
    sink = words[a & 3];
    asm volatile("" ::"r"(words) : "memory", "rbx", "r12", "r13");
    return words[b & 3];
}

/* rbp is no frame pointer here, nor anything that is on the stack. */
NOINLINE void spin(void)
{
    long value = 0;
    while (always) {
        asm volatile("mov $0x1234567, %%ebp" ::: "rbp");
        value += step(value, value >> 3);
        void *memory = malloc(100 + (value & 1023));
        memset(memory, 0, 100);
        free(memory);
    }
    sink = value;
}

NOINLINE void deep(int depth)
{
    if (depth)
        deep(depth - 1);
    else
        spin();
    sink++;
}

NOINLINE void aligned(void)
{
    char block[256] __attribute__((aligned(64)));
    asm volatile("" ::"r"(block) : "memory");
    spin();
    asm volatile("" ::"r"(block) : "memory");
}

NOINLINE void variable(int size)
{
    char block[size];
    asm volatile("" ::"r"(block) : "memory");
    spin();
    asm volatile("" ::"r"(block) : "memory");
}

NOINLINE void large(void)
{
    char block[40000];
    asm volatile("" ::"r"(block) : "memory");
    spin();
    asm volatile("" ::"r"(block) : "memory");
}

NOINLINE int compare(const void *a, const void *b)
{
    spin();
    return *(const int *)a - *(const int *)b;
}

NOINLINE void sorted(void)
{
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof(int), compare);
    sink = numbers[0];
}

NOINLINE void handler(int signal)
{
    (void)signal;
    spin();
    sink++;
}

NOINLINE void signalled(void)
{
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    sink++;
}

/* Interrupted where it is, not in a call. */
NOINLINE void interrupted(void)
{
    signal(SIGSEGV, handler);
    asm volatile("mov 0x10, %%rax" ::: "rax", "memory");
    sink++;
}

int main(int argc, char **argv)
{
    puts("ready");
    fflush(stdout);
    const char *kind = argc > 1 ? argv[1] : "";
    if (!strcmp(kind, "deep"))
        deep(200);
    else if (!strcmp(kind, "aligned"))
        aligned();
    else if (!strcmp(kind, "variable"))
        variable(argc * 1000);
    else if (!strcmp(kind, "large"))
        large();
    else if (!strcmp(kind, "sorted"))
        sorted();
    else if (!strcmp(kind, "signalled"))
        signalled();
    else if (!strcmp(kind, "interrupted"))
        interrupted();
    else
        spin();
    return 0;
}
