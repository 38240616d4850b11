#include "container/trace.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

static const struct {
    const char *name;
    enum trace_who who;
} phase[TRACE_MOMENTS] = {
    [TRACE_MAIN] = {"program loaded", TRACE_KILN},
    [TRACE_IMAGE] = {"kernel and image found", TRACE_KILN},
    [TRACE_READY] = {"start prepared", TRACE_KILN},
    [TRACE_FORKED] = {"process forked", TRACE_KILN},
    [TRACE_MADE] = {"machine made", TRACE_MACHINE},
    [TRACE_ENTERED] = {"CPUs started", TRACE_MACHINE},
    [TRACE_AGENT] = {"agent up", TRACE_GUEST},
    [TRACE_MOUNTED] = {"identity given, disks mounted", TRACE_GUEST},
    [TRACE_STARTED] = {"command started", TRACE_GUEST},
    [TRACE_EXITED] = {"command ran", TRACE_GUEST},
    [TRACE_GONE] = {"machine gone", TRACE_KILN},
};

static uint64_t now_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct trace *trace_new(struct err *e)
{
    struct trace *t =
        mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (t == MAP_FAILED) {
        err_errno(e, -ENOMEM, "trace");
        return NULL;
    }
    atomic_store(&t->at[TRACE_EXEC], now_ns(CLOCK_MONOTONIC) - now_ns(CLOCK_PROCESS_CPUTIME_ID));
    return t;
}

void trace_free(struct trace *t)
{
    if (t)
        munmap(t, sizeof(*t));
}

void trace_set(struct trace *t, enum trace_moment m)
{
    if (t)
        atomic_store(&t->at[m], now_ns(CLOCK_MONOTONIC));
}

unsigned trace_phases(const struct trace *t, struct trace_phase out[TRACE_MOMENTS])
{
    uint64_t start = atomic_load(&t->at[TRACE_EXEC]), from = start;
    unsigned n = 0;

    for (unsigned m = TRACE_EXEC + 1; m < TRACE_MOMENTS; m++) {
        uint64_t at = atomic_load(&t->at[m]);

        if (at == 0)
            continue;
        if (at < from) /* two processes may set neighbours at once */
            at = from;
        out[n++] = (struct trace_phase){phase[m].name, phase[m].who, from - start, at - start};
        from = at;
    }
    return n;
}
