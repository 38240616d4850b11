/* A machine is saved whole while it computes, loaded into a new one and goes on there; and a state
 * cut short or damaged is refused or harmless. argv[1]: the guest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "test/switch/world.h"

enum { GENERATIONS = 8, RUN_US = 3000, DAMAGED = 400, SKIP = 77 };

static void copy_ram(struct vm *to, struct vm *from)
{
    struct mem_region r[MEM_REGIONS_MAX];
    unsigned n = mem_regions(vm_mem(from), r);

    for (unsigned i = 0; i < n; i++) {
        if (mem_write(vm_mem(to), r[i].gpa, r[i].hva, r[i].size) < 0)
            abort();
    }
}

/* The machine `vm`, paused, saved, thrown away and alive again on `engine`. */
static struct vm *reborn(struct vm *vm, const char *engine)
{
    CLEANUP(mem) uint8_t *state = NULL;
    size_t len;
    struct err e = {0};

    if (vm_pause(vm, &e) < 0 || vm_save(vm, &state, &len, &e) < 0)
        die("save", &e);
    struct vm *next = world_new(NULL, engine);
    copy_ram(next, vm);
    vm_free(vm);
    if (vm_load(next, state, len, &e) < 0 || vm_start(next, &e) < 0)
        die("load", &e);
    return next;
}

static int generations(const char *guest, const char *a, const char *b)
{
    struct vm *vm = world_new(guest, a);
    struct err e = {0};

    if (vm_start(vm, &e) < 0)
        die("start", &e);
    printf("%s and %s, %d generations: ", a, b, GENERATIONS);
    fflush(stdout);
    for (unsigned i = 0; i < GENERATIONS; i++) {
        world_let_run(vm, RUN_US);
        vm = reborn(vm, i & 1 ? a : b);
    }
    world_let_run(vm, 0);
    return world_verdict(vm);
}

/* Loading what a hostile file could hold ends in a sentence or in a machine, never in a crash. */
static int hostile(const char *guest)
{
    CLEANUP(mem) uint8_t *state = NULL;
    size_t len;
    struct err e = {0};
    struct vm *vm = world_new(guest, "interp"), *next = world_new(NULL, "interp");
    int bad = 0;

    if (vm_save(vm, &state, &len, &e) < 0)
        die("save", &e);
    for (size_t n = 0; n < len && !bad; n += 1 + n / 64) {
        CLEANUP(mem) uint8_t *cut = malloc(n ? n : 1); /* exact, for ASan */

        memcpy(cut, state, n);
        bad = vm_load(next, cut, n, &e) == 0;
        if (bad)
            printf("a state cut to %zu of %zu bytes was taken\n", n, len);
    }
    srand(1);
    for (unsigned i = 0; i < DAMAGED; i++) {
        size_t at = (size_t)rand() % len;
        uint8_t was = state[at];

        state[at] ^= (uint8_t)(1 + rand() % 255);
        (void)!vm_load(next, state, len, &e);
        state[at] = was;
    }
    if (vm_load(next, state, len, &e) < 0)
        die("load after damaged ones", &e);
    printf("%zu bytes of state: cut and damaged ones survived\n", len);
    vm_free(vm);
    vm_free(next);
    return bad;
}

int main(int argc, char **argv)
{
    bool hw;
    struct err e = {0};

    if (argc < 2)
        return 2;
    int bad = generations(argv[1], "interp", "interp") | hostile(argv[1]);
    if (cpu_kvm.probe(&hw, &e) < 0) {
        printf("kvm and interp: skipped: %s\n", e.msg);
        return bad ? bad : SKIP;
    }
    return bad | generations(argv[1], "kvm", "interp");
}
