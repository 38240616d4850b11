/* Signals at any moment, threads, futexes, atomics. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

/* --- signals in mid-computation ------------------------------------------------- */

static volatile sig_atomic_t ticks;

/* Destroys what a handler may: vector registers, x87, flags. */
static void on_tick(int sig)
{
    (void)sig;
    ticks++;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; pcmpeqd %%xmm7, %%xmm7; pcmpeqd %%xmm15, %%xmm15\n"
                     "fninit; fldpi; fldpi; fldpi; stc"
                     :
                     :
                     : "xmm0", "xmm7", "xmm15", "cc");
}

/* Integer, SSE and x87 state carried through a long loop. */
static uint64_t mixture(unsigned rounds)
{
    uint64_t h = 0x9e3779b97f4a7c15, carry = 0;
    double x = 0.5;
    long double y = 0.25L;
    float v[4] = {1, 2, 3, 4};

    for (unsigned i = 0; i < rounds; i++) {
        h = (h << 7 | h >> 57) * 0xff51afd7ed558ccd + i;
        carry += __builtin_add_overflow(h, h >> 1, &h);
        x = x * 3.75 * (1 - x);
        y = y * 3.5L * (1 - y);
        for (int k = 0; k < 4; k++)
            v[k] = v[k] * 0.99f + (float)(i & 15);
    }
    uint64_t bits[2] = {0, 0};
    memcpy(bits, &y, 10);
    return h ^ carry ^ bits[0] ^ (uint64_t)(x * 1e15) ^ (uint64_t)(v[0] * 1000 + v[3]);
}

static int signals_in_computation(void)
{
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    const unsigned rounds = 20000;
    uint64_t want = mixture(rounds);

    sigaction(SIGALRM, &sa, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned i = 0; i < 40 || (ticks < 50 && i < 100000); i++)
        WANT(mixture(rounds) == want);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    WANT(ticks >= 50);
    return 0;
}

static atomic_bool over;
static atomic_uint wrongs;

static void *computes(void *p)
{
    uint64_t want = *(uint64_t *)p;

    for (int i = 0; i < 60 || !atomic_load(&over); i++)
        if (mixture(5000) != want)
            atomic_fetch_add(&wrongs, 1);
    return NULL;
}

static int signals_to_threads(void)
{
    struct sigaction sa = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    uint64_t want = mixture(5000);
    pthread_t t[4];

    sigaction(SIGUSR1, &sa, NULL);
    for (int i = 0; i < 4; i++)
        WANT(pthread_create(&t[i], NULL, computes, &want) == 0);
    for (int i = 0; i < 2000; i++) {
        WANT(pthread_kill(t[i & 3], SIGUSR1) == 0);
        if (i % 16 == 0)
            sched_yield();
    }
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    WANT(atomic_load(&wrongs) == 0 && ticks > 0);
    return 0;
}

/* --- locks ------------------------------------------------------------------------- */

enum { THREADS = 6, ROUNDS = 20000 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static uint64_t plain, turn;
static atomic_ulong counted;
static _Atomic uint32_t bits;
static unsigned __int128 pair __attribute__((aligned(16)));
static __thread uint64_t own;

static bool cas_16(unsigned __int128 *at, unsigned __int128 *was, unsigned __int128 now)
{
    uint64_t lo = (uint64_t)*was, hi = (uint64_t)(*was >> 64);
    bool ok;

    __asm__ volatile("lock cmpxchg16b %1; setz %0"
                     : "=q"(ok), "+m"(*at), "+a"(lo), "+d"(hi)
                     : "b"((uint64_t)now), "c"((uint64_t)(now >> 64))
                     : "memory", "cc");
    *was = (unsigned __int128)hi << 64 | lo;
    return ok;
}

static void *locker(void *p)
{
    uint32_t mine = 1u << (uintptr_t)p;

    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        plain++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&counted, 3);
        if (atomic_fetch_xor(&bits, mine) & mine)
            own++;
        unsigned __int128 was = 0;
        while (!cas_16(&pair, &was, was + ((unsigned __int128)1 << 64) + 2))
            ;
    }
    return (void *)(uintptr_t)own;
}

static int locks_and_atomics(void)
{
    pthread_t t[THREADS];
    uintptr_t sum = 0;
    void *r;

    for (uintptr_t i = 0; i < THREADS; i++)
        WANT(pthread_create(&t[i], NULL, locker, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], &r);
        sum += (uintptr_t)r;
    }
    WANT(plain == THREADS * ROUNDS && atomic_load(&counted) == 3ul * THREADS * ROUNDS);
    WANT(sum == THREADS * ROUNDS / 2 && atomic_load(&bits) == 0);
    WANT((uint64_t)(pair >> 64) == THREADS * ROUNDS && (uint64_t)pair == 2ul * THREADS * ROUNDS);
    return 0;
}

static void *ring(void *p)
{
    uint64_t me = (uintptr_t)p;

    for (unsigned i = 0; i < 500; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != me)
            pthread_cond_wait(&turned, &lock);
        turn++;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static int turns_in_a_ring(void)
{
    pthread_t t[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        WANT(pthread_create(&t[i], NULL, ring, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    WANT(turn == THREADS * 500);
    return 0;
}

static void *short_life(void *p)
{
    own = (uintptr_t)p;
    sched_yield();
    return (void *)(uintptr_t)(own + 1);
}

static int short_lived_threads(void)
{
    for (uintptr_t i = 0; i < 400; i++) {
        pthread_t t[4];
        void *r;

        for (uintptr_t k = 0; k < 4; k++)
            WANT(pthread_create(&t[k], NULL, short_life, (void *)(i * 4 + k)) == 0);
        for (uintptr_t k = 0; k < 4; k++) {
            pthread_join(t[k], &r);
            WANT((uintptr_t)r == i * 4 + k + 1);
        }
    }
    return 0;
}

/* Stores are seen in their order, and a store before a load of another place may not be (that is
 * TSO): only the first is looked for. */
static _Atomic uint64_t first, second;

static void *writer(void *p)
{
    for (uint64_t i = 1; i <= 300000; i++) {
        atomic_store_explicit(&first, i, memory_order_relaxed);
        atomic_store_explicit(&second, i, memory_order_release);
    }
    return p;
}

static int stores_in_order(void)
{
    pthread_t t;

    WANT(pthread_create(&t, NULL, writer, NULL) == 0);
    for (uint64_t b = 0; b < 300000;) {
        b = atomic_load_explicit(&second, memory_order_acquire);
        uint64_t a = atomic_load_explicit(&first, memory_order_relaxed);
        WANT(a >= b);
    }
    pthread_join(t, NULL);
    return 0;
}

const struct user_test user_threads[] = {
    {"signals_in_mid_computation", signals_in_computation},
    {"signals_to_threads", signals_to_threads},
    {"locks_and_atomics", locks_and_atomics},
    {"turns_in_a_ring", turns_in_a_ring},
    {"short_lived_threads", short_lived_threads},
    {"stores_are_seen_in_order", stores_in_order},
    {NULL, NULL},
};
