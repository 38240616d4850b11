/* Address spaces that change all the time: processes, mappings, rights. */
#include <sched.h>
#include <signal.h>
#include <setjmp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "user.h"

enum { RW = PROT_READ | PROT_WRITE };

static uint64_t next(uint64_t *s)
{
    *s = *s * 6364136223846793005 + 1442695040888963407;
    return *s >> 33;
}

/* Maps, unmaps, moves, drops and protects pages; every page knows what must be in it. */
static int churn(uint64_t seed, unsigned rounds)
{
    enum { SLOTS = 48 };
    uint8_t *base = user_pages(SLOTS, PROT_NONE);
    uint64_t want[SLOTS] = {0};
    bool there[SLOTS] = {false};

    for (unsigned i = 0; i < rounds; i++) {
        unsigned k = next(&seed) % SLOTS, other = next(&seed) % SLOTS;
        uint8_t *p = base + k * PAGE, *q = base + other * PAGE;

        switch (next(&seed) % 7) {
        case 0:
            WANT(mmap(p, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
            there[k] = true;
            want[k] = 0;
            break;
        case 1:
            if (there[k])
                memcpy(p + 8 * (i % 512), &(uint64_t){want[k] = 0}, 8),
                    *(uint64_t *)p = want[k] = i;
            break;
        case 2:
            if (there[k] && k != other) {
                WANT(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == q);
                there[other] = true;
                want[other] = want[k];
                WANT(mmap(p, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
                there[k] = false;
            }
            break;
        case 3:
            if (there[k]) {
                madvise(p, PAGE, MADV_DONTNEED);
                want[k] = 0;
            }
            break;
        case 4:
            if (there[k]) {
                mprotect(p, PAGE, PROT_READ);
                WANT(*(volatile uint64_t *)p == want[k]);
                mprotect(p, PAGE, RW);
            }
            break;
        default:
            if (there[k])
                WANT(*(volatile uint64_t *)p == want[k]);
        }
    }
    munmap(base, SLOTS * PAGE);
    return 0;
}

static int mappings(void)
{
    return churn(1, 8000);
}

static void *churner(void *p)
{
    return (void *)(intptr_t)churn((uintptr_t)p, 3000);
}

static int mappings_by_threads(void)
{
    pthread_t t[4];
    void *r, *bad = NULL;

    for (uintptr_t i = 0; i < 4; i++)
        WANT(pthread_create(&t[i], NULL, churner, (void *)(i + 10)) == 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &r);
        bad = r ? r : bad;
    }
    return (int)(intptr_t)bad;
}

/* One thread reads a page whose rights another takes and gives: it faults or it sees the value,
 * nothing else. */
static sigjmp_buf back;
static atomic_bool stop;
static volatile uint64_t *page;
static atomic_ulong faults;

static void on_fault(int sig)
{
    (void)sig;
    atomic_fetch_add(&faults, 1);
    siglongjmp(back, 1);
}

static void *taker(void *p)
{
    for (int i = 0; i < 300; i++) {
        mprotect(p, PAGE, PROT_NONE);
        sched_yield();
        mprotect(p, PAGE, RW);
        sched_yield();
    }
    atomic_store(&stop, true);
    return NULL;
}

static int rights_taken_away(void)
{
    struct sigaction sa = {.sa_handler = on_fault};
    volatile uint64_t i = 0;
    pthread_t t;

    page = user_pages(1, RW);
    sigaction(SIGSEGV, &sa, NULL);
    WANT(pthread_create(&t, NULL, taker, (void *)page) == 0);
    while (!atomic_load(&stop)) {
        if (sigsetjmp(back, 1))
            continue;
        page[3] = i;
        WANT(page[3] == i);
        i++;
    }
    pthread_join(t, NULL);
    /* After the last change of rights has returned, they hold on every CPU. */
    mprotect((void *)page, PAGE, PROT_READ);
    unsigned long before = atomic_load(&faults);
    if (!sigsetjmp(back, 1))
        page[0] = 1;
    WANT(atomic_load(&faults) == before + 1);
    return 0;
}

static int fork_storm(void)
{
    enum { AT_ONCE = 40 };
    uint64_t *shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *mine = user_pages(8, RW);

    for (int round = 0; round < 12; round++) {
        int pid[AT_ONCE];

        memset(mine, round, 8 * PAGE);
        for (int i = 0; i < AT_ONCE; i++) {
            pid[i] = fork();
            if (pid[i] == 0) {
                memset(mine + (i & 7) * PAGE, i + 1, PAGE);
                sched_yield();
                for (int k = 0; k < 8; k++)
                    if (mine[k * PAGE + 5] != (k == (i & 7) ? i + 1 : round))
                        _exit(1);
                __atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
                _exit(i);
            }
        }
        for (int i = 0; i < AT_ONCE; i++)
            WANT(pid[i] > 0 && user_wait(pid[i]) == i);
        WANT(mine[0] == round && mine[7 * PAGE] == round);
    }
    WANT(*shared == 12 * AT_ONCE);
    return 0;
}

static int processes_in_a_line(void)
{
    int in[2], out[2], pid = 0;
    unsigned char token = 0;

    WANT(pipe(in) == 0);
    int head = in[1], from = in[0];
    for (int i = 0; i < 30; i++) {
        WANT(pipe(out) == 0);
        pid = fork();
        if (pid == 0) {
            close(head);
            while (read(from, &token, 1) == 1) {
                token++;
                if (write(out[1], &token, 1) != 1)
                    break;
            }
            _exit(0);
        }
        close(from);
        close(out[1]);
        from = out[0];
    }
    for (int i = 0; i < 50; i++) {
        token = (unsigned char)i;
        WANT(write(head, &token, 1) == 1 && read(from, &token, 1) == 1);
        WANT(token == (unsigned char)(i + 30));
    }
    close(head);
    while (wait(NULL) > 0)
        ;
    return 0;
}

static int a_file_beyond_its_end(void)
{
    struct sigaction sa = {.sa_handler = on_fault};
    int fd = memfd_create("short", 0);

    WANT(ftruncate(fd, PAGE) == 0);
    volatile uint8_t *p = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
    sigaction(SIGBUS, &sa, NULL);
    p[10] = 1;
    if (!sigsetjmp(back, 1))
        p[PAGE] = 1;
    WANT(atomic_load(&faults) == 1 && ftruncate(fd, 0) == 0);
    if (!sigsetjmp(back, 1))
        p[10] = 1;
    WANT(atomic_load(&faults) == 2);
    return 0;
}

const struct user_test user_memory[] = {
    {"mappings_come_and_go", mappings},
    {"mappings_come_and_go_in_threads", mappings_by_threads},
    {"rights_taken_away", rights_taken_away},
    {"a_storm_of_forks", fork_storm},
    {"processes_in_a_line", processes_in_a_line},
    {"a_file_beyond_its_end", a_file_beyond_its_end},
    {NULL, NULL},
};
