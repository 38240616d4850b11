/* A running guest is moved from engine to engine at random moments and does not notice: its sum is
 * what it would have been. argv[1]: the guest; argv[2]: a seed to repeat a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "test/switch/sum.h"
#include "vm/vm.h"

enum { SWITCHES = 60, RUN_US_MAX = 6000, SKIP = 77, END_MS = 60000 };

static _Noreturn void die(const char *what, const struct err *e)
{
    printf("%s: %s\n", what, e->msg);
    exit(1);
}

static struct mailbox peek(struct vm *vm)
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

/* Wait until the guest got on under this engine, so that each really ran some of it. */
static void let_run(struct vm *vm, unsigned us)
{
    uint64_t before = peek(vm).rounds;
    struct err e = {0};

    usleep(us);
    for (unsigned ms = 0; peek(vm).rounds == before && ms < END_MS; ms++) {
        if (vm_wait(vm, 1, NULL, &e) != VM_RUNNING)
            die("the machine ended too soon", &e);
    }
}

static void change(struct vm *vm, const char *engine)
{
    struct err e = {0};

    if (vm_pause(vm, &e) < 0 || vm_switch_engine(vm, engine, &e) < 0 || vm_resume(vm, &e) < 0)
        die("switch", &e);
}

static struct vm *start(const char *guest, const char *engine)
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

    if (vm_new(&c, &vm, &e) < 0 || vm_start(vm, &e) < 0)
        die("start", &e);
    return vm;
}

static int verdict(struct vm *vm, uint64_t seed)
{
    struct mailbox b = peek(vm);
    uint64_t want = expected(b.rounds);

    printf("%llu rounds, %llu ticks, %d switches, seed %llu\n", (unsigned long long)b.rounds,
           (unsigned long long)b.ticks, SWITCHES, (unsigned long long)seed);
    if (b.sum != want)
        printf("the sum is %#llx, not %#llx\n", (unsigned long long)b.sum,
               (unsigned long long)want);
    if (!b.ticks)
        printf("no timer interrupt came\n");
    if (b.backwards)
        printf("the TSC went backwards %llu times\n", (unsigned long long)b.backwards);
    return b.sum != want || !b.ticks || b.backwards;
}

/* From `a` to `b` and back, at random moments. */
static int between(const char *guest, const char *a, const char *b, uint64_t seed)
{
    struct vm *vm = start(guest, a);
    unsigned short rnd[3] = {(unsigned short)seed, (unsigned short)(seed >> 16),
                             (unsigned short)(seed >> 32)};
    uint64_t stop = 1;
    uint32_t value = 0;
    struct err e = {0};

    printf("%s and %s: ", a, b);
    fflush(stdout);
    for (unsigned i = 0; i < SWITCHES; i++) {
        let_run(vm, (unsigned)(erand48(rnd) * RUN_US_MAX));
        change(vm, i & 1 ? a : b);
    }
    let_run(vm, 0);
    if (mem_write(vm_mem(vm), MAILBOX_GPA, &stop, sizeof(stop)) < 0)
        abort();
    enum vm_end end = vm_wait(vm, END_MS, &value, &e);
    if (end != VM_EXIT_PORT)
        die(end == VM_RUNNING ? "the guest hangs" : "the machine failed", &e);
    int bad = verdict(vm, seed);
    vm_free(vm);
    return bad;
}

int main(int argc, char **argv)
{
    bool hw;
    struct err e = {0};

    if (argc < 2)
        return 2;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL);
    int bad = between(argv[1], "interp", "interp", seed);
    if (cpu_kvm.probe(&hw, &e) < 0) {
        printf("kvm and interp: skipped: %s\n", e.msg);
        return bad ? bad : SKIP;
    }
    return bad | between(argv[1], "kvm", "interp", seed);
}
