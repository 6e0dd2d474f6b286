/* Spins at the end of a known chain of calls, as deep as the argument says:
 * main, outer, descend (that many times), spin. Prints "ready" first. */
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

volatile unsigned long sum;

NOINLINE void spin(void)
{
    for (;;)
        sum = sum * 31 + 7;
}

NOINLINE int descend(int left)
{
    if (left == 0)
        spin();
    else
        descend(left - 1);
    return ++sum;
}

NOINLINE int outer(int depth)
{
    descend(depth - 1);
    return ++sum;
}

int main(int count, char **arguments)
{
    puts("ready");
    fflush(stdout);
    outer(count > 1 ? atoi(arguments[1]) : 1);
    return ++sum;
}
