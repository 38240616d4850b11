/* Atomics and threads. threads-1 is one busy thread, threads-2 two of them with the same work each:
 * on two CPUs both take the same time. */
#include "bench/work/work.h"

#include <pthread.h>

static uint64_t shared_word;
static uint64_t lock_word;
static uint64_t under_lock;

/* n of each: locked add, compare-and-swap, exchange. */
static void atomics(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        __atomic_fetch_add(&shared_word, 1, __ATOMIC_SEQ_CST);
        uint64_t old = __atomic_load_n(&shared_word, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&shared_word, &old, old + 2, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED))
            ;
        while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))
            __builtin_ia32_pause();
        under_lock++;
        __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
    }
}

/* Two kinds of work in turn, so that neither memory nor arithmetic alone decides. */
static uint64_t busy(uint64_t n)
{
    enum { WORDS = 4096 };
    uint64_t v[WORDS], seed = WORK_SEED, h = 0;

    for (unsigned i = 0; i < WORDS; i++)
        v[i] = work_random(&seed);
    for (uint64_t r = 0; r < n; r++)
        for (unsigned i = 0; i < WORDS; i++) {
            v[i] += v[(v[i] >> 20) % WORDS] ^ h;
            h = h * 33 + (v[i] >> 7);
        }
    return h;
}

struct job {
    pthread_t thread;
    uint64_t n, result;
};

static void *atomics_thread(void *arg)
{
    struct job *j = arg;

    atomics(j->n);
    return NULL;
}

static void *busy_thread(void *arg)
{
    struct job *j = arg;

    j->result = busy(j->n);
    return NULL;
}

static void run_threads(void *(*fn)(void *), struct job *jobs, unsigned count, uint64_t n)
{
    for (unsigned i = 0; i < count; i++) {
        jobs[i].n = n;
        work_expect(!pthread_create(&jobs[i].thread, NULL, fn, &jobs[i]), "pthread_create");
    }
    for (unsigned i = 0; i < count; i++)
        work_expect(!pthread_join(jobs[i].thread, NULL), "pthread_join");
}

static uint64_t atomics_by(unsigned threads, uint64_t n)
{
    struct job jobs[2] = {0};

    shared_word = lock_word = under_lock = 0;
    run_threads(atomics_thread, jobs, threads, n);
    work_expect(shared_word == 3 * n * threads && under_lock == n * threads,
                "no lost update of an atomic");
    return shared_word;
}

static uint64_t atomics_1(uint64_t n)
{
    return atomics_by(1, n);
}

static uint64_t atomics_2(uint64_t n)
{
    return atomics_by(2, n);
}

static uint64_t busy_by(unsigned threads, uint64_t n)
{
    struct job jobs[2] = {0};

    run_threads(busy_thread, jobs, threads, n);
    work_expect(threads == 1 || jobs[0].result == jobs[1].result, "both threads agree");
    return jobs[0].result;
}

static uint64_t threads_1(uint64_t n)
{
    return busy_by(1, n);
}

static uint64_t threads_2(uint64_t n)
{
    return busy_by(2, n);
}

/* n hand-overs between two threads by mutex and condition: futexes, and wake-ups of a CPU. */
struct relay {
    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t n, turn;
};

static void relay_run(struct relay *r, uint64_t mine)
{
    pthread_mutex_lock(&r->lock);
    while (r->turn < r->n) {
        if ((r->turn & 1) == mine) {
            r->turn++;
            pthread_cond_signal(&r->turned);
        } else {
            pthread_cond_wait(&r->turned, &r->lock);
        }
    }
    pthread_cond_signal(&r->turned);
    pthread_mutex_unlock(&r->lock);
}

static void *relay_thread(void *arg)
{
    relay_run(arg, 1);
    return NULL;
}

static uint64_t futex(uint64_t n)
{
    struct relay r = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, n, 0};
    pthread_t other;

    work_expect(!pthread_create(&other, NULL, relay_thread, &r), "pthread_create");
    relay_run(&r, 0);
    work_expect(!pthread_join(other, NULL), "pthread_join");
    return r.turn;
}

const struct work work_thread[] = {
    {"atomics-1", atomics_1, 5000000, 1},
    {"futex", futex, 30000, 1},
    {"atomics-2", atomics_2, 1000000, 2},
    {"threads-1", threads_1, 30000, 2},
    {"threads-2", threads_2, 30000, 2},
    {"futex-2", futex, 20000, 2},
    {0},
};
