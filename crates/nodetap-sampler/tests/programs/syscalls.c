/* Spends nearly all of its time in the kernel, called from a known chain:
 * main, outer, call_kernel. */
#include <fcntl.h>
#include <stdio.h>

#define NOINLINE __attribute__((noinline))

static char buffer[1 << 20];
volatile unsigned long sum;

/* read(2), called from this function itself rather than from the C library. */
NOINLINE long call_kernel(int file)
{
    long result = 0;
    asm volatile("syscall"
                 : "+a"(result)
                 : "D"((long)file), "S"(buffer), "d"(sizeof(buffer))
                 : "rcx", "r11", "memory");
    return result;
}

NOINLINE int outer(int file)
{
    for (;;)
        sum += call_kernel(file);
}

int main(void)
{
    int file = open("/dev/zero", O_RDONLY);
    if (file < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    outer(file);
    return ++sum;
}
