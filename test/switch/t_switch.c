/* A running guest is moved from engine to engine at random moments and does not notice: its sum is
 * what it would have been. argv[1]: the guest; argv[2]: a seed to repeat a run. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "test/switch/world.h"

enum { SWITCHES = 60, RUN_US_MAX = 6000 };

static void change(struct vm *vm, const char *engine)
{
    struct err e = {0};

    if (vm_pause(vm, &e) < 0 || vm_switch_engine(vm, engine, &e) < 0 || vm_resume(vm, &e) < 0)
        die("switch", &e);
}

/* From `a` to `b` and back, at random moments. */
static int between(const char *guest, const char *a, const char *b, uint64_t seed)
{
    struct vm *vm = world_new(guest, a);
    unsigned short rnd[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                             (unsigned short)(seed >> 32)};
    struct err e = {0};

    if (vm_start(vm, &e) < 0)
        die("start", &e);
    printf("%s and %s, seed %llu: ", a, b, (unsigned long long)seed);
    fflush(stdout);
    for (unsigned i = 0; i < SWITCHES; i++) {
        world_let_run(vm, (unsigned)(erand48(rnd) * RUN_US_MAX));
        change(vm, i & 1 ? a : b);
    }
    world_let_run(vm, 0);
    return world_verdict(vm);
}

static bool works(const struct cpu_engine *eng)
{
    struct err e = {0};
    bool hw;

    if (eng->probe(&hw, &e) == 0)
        return true;
    printf("%s: skipped: %s\n", eng->name, e.msg);
    return false;
}

/* Every pair of engines; one with itself, since leaving and entering are the engine's too. */
int main(int argc, char **argv)
{
    int bad = 0;

    if (argc < 2)
        return 2;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    for (const struct cpu_engine *const *a = cpu_engines(); *a; a++) {
        if (!works(*a))
            continue;
        for (const struct cpu_engine *const *b = a; *b; b++) {
            if (works(*b))
                bad |= between(argv[1], (*a)->name, (*b)->name, seed);
        }
    }
    return bad;
}
