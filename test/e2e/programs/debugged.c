/* What gdb is run on inside a machine; debug.gdb names its functions and lines. */
#include <stdio.h>

volatile long watched;
int arr[4];

static __attribute__((noinline)) long work(long n)
{
    long s = 0;
    for (long i = 0; i < n; i++) {
        s += i * i;
        if (i == 5)
            watched = s;
    }
    return s;
}

static __attribute__((noinline)) long rec(int n)
{
    return n ? rec(n - 1) + work(n) : 1;
}

static __attribute__((noinline)) double fp(double x)
{
    return x * 2.5 + 1;
}

int main(int argc, char **argv)
{
    printf("%ld\n", rec(8));
    printf("%g\n", fp(3));
    watched = 7;
    arr[2] = 9;
    char *p = NULL;
    if (argc > 1)
        *p = 1;
    return 3;
}
