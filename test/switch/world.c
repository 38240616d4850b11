#include "test/switch/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/mem.h"

_Noreturn void die(const char *what, const struct err *e)
{
    printf("%s: %s\n", what, e->msg);
    exit(1);
}

struct mailbox world_peek(struct vm *vm)
{
    struct mailbox b = {0};
    int r = mem_read(vm_mem(vm), MAILBOX_GPA, &b, sizeof(b));

    (void)r; /* inside RAM by construction */
    return b;
}

static uint64_t expected(uint64_t rounds)
{
    CLEANUP(mem) uint64_t *w = calloc(2 * SUM_WORDS, sizeof(*w));
    struct sum s;

    if (!w)
        abort();
    sum_init(&s, w);
    while (rounds--)
        sum_round(&s, w);
    return sum_end(&s);
}

void world_let_run(struct vm *vm, unsigned us)
{
    uint64_t before = world_peek(vm).rounds;
    struct err e = {0};

    usleep(us);
    for (unsigned ms = 0; world_peek(vm).rounds == before && ms < WORLD_END_MS; ms++) {
        if (vm_wait(vm, 1, NULL, &e) != VM_RUNNING)
            die("the machine ended too soon", &e);
    }
}

struct vm *world_new(const char *guest, const char *engine)
{
    struct vm_conf c = {.cpus = 1,
                        .ram_bytes = 32 << 20,
                        .engine = engine,
                        .kernel = guest,
                        .initrd_fd = -1,
                        .cmdline = "",
                        .console_in = -1,
                        .console_out = -1};
    struct vm *vm;
    struct err e = {0};

    if (vm_new(&c, &vm, &e) < 0)
        die("make a machine", &e);
    return vm;
}

int world_verdict(struct vm *vm)
{
    uint64_t stop = 1;
    uint32_t value = 0;
    struct err e = {0};

    if (mem_write(vm_mem(vm), MAILBOX_GPA, &stop, sizeof(stop)) < 0)
        abort();
    enum vm_end end = vm_wait(vm, WORLD_END_MS, &value, &e);
    if (end != VM_EXIT_PORT)
        die(end == VM_RUNNING ? "the guest hangs" : "the machine failed", &e);
    struct mailbox b = world_peek(vm);
    uint64_t want = expected(b.rounds);

    vm_free(vm);
    printf("%llu rounds, %llu ticks\n", (unsigned long long)b.rounds, (unsigned long long)b.ticks);
    if (b.sum != want)
        printf("the sum is %#llx, not %#llx\n", (unsigned long long)b.sum,
               (unsigned long long)want);
    if (!b.ticks)
        printf("no timer interrupt came\n");
    if (b.backwards)
        printf("the TSC went backwards %llu times\n", (unsigned long long)b.backwards);
    return b.sum != want || !b.ticks || b.backwards;
}
