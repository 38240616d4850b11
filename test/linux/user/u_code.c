/* Code that is written while it is used: what just-in-time compilers, linkers and debuggers do. */
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "user.h"

typedef uint64_t function(uint64_t);

/* mov eax, value; lea rax, [rax + rdi]; ret */
static size_t write_function(uint8_t *at, uint32_t value)
{
    static const uint8_t code[] = {0xb8, 0, 0, 0, 0, 0x48, 0x8d, 0x04, 0x38, 0xc3};

    memcpy(at, code, sizeof(code));
    memcpy(at + 1, &value, 4);
    return sizeof(code);
}

static uint64_t run(const void *at, uint64_t x)
{
    function *f;

    memcpy(&f, &at, sizeof(f));
    return f(x);
}

enum { RW = PROT_READ | PROT_WRITE, RX = PROT_READ | PROT_EXEC, RWX = RW | PROT_EXEC };

static int protection_flips(void)
{
    uint8_t *p = user_pages(1, RW);

    for (uint32_t i = 0; i < 3000; i++) {
        mprotect(p, PAGE, RW);
        write_function(p + (i % 7) * 16, i);
        mprotect(p, PAGE, RX);
        WANT(run(p + (i % 7) * 16, 1) == i + 1);
        if (i >= 7)
            WANT(run(p + (i - 3) % 7 * 16, 1) == i - 3 + 1);
    }
    return 0;
}

static int the_next_instruction(void)
{
    /* mov dword [rip + 1], edi; mov eax, 0 (its immediate has just been written); ret */
    static const uint8_t code[] = {0x89, 0x3d, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    uint8_t *p = user_pages(2, RWX);

    for (unsigned at = 0; at < PAGE + 64; at += 13) {
        memcpy(p + at, code, sizeof(code));
        for (uint64_t i = 1; i < 20; i++)
            WANT(run(p + at, i * 0x01010101) == i * 0x01010101);
    }
    return 0;
}

static int data_beside_code(void)
{
    /* inc dword [rip + 25]; mov eax, [rip + 19]; ret ...: a counter in the code's own page and line
     */
    static const uint8_t code[] = {0xff, 0x05, 26, 0, 0, 0, 0x8b, 0x05, 20, 0, 0, 0, 0xc3};
    uint8_t *p = user_pages(1, RWX);

    memcpy(p, code, sizeof(code));
    for (uint32_t i = 1; i <= 20000; i++)
        WANT(run(p, 0) == i);
    return 0;
}

static int across_pages(void)
{
    uint8_t *p = user_pages(2, RWX);

    for (unsigned at = PAGE - 9; at < PAGE; at++) {
        for (uint32_t i = 0; i < 50; i++) {
            write_function(p + at, 0x01020304 * (i + 1));
            WANT(run(p + at, i) == (uint64_t)0x01020304 * (i + 1) + i);
            p[PAGE] ^= 0; /* written, not changed */
            WANT(run(p + at, i) == (uint64_t)0x01020304 * (i + 1) + i);
        }
    }
    return 0;
}

static int by_another_name(void)
{
    int fd = memfd_create("code", 0);

    WANT(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    uint8_t *w = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
    uint8_t *x = mmap(NULL, 2 * PAGE, RX, MAP_SHARED, fd, 0);
    WANT(w != MAP_FAILED && x != MAP_FAILED);
    for (uint32_t i = 0; i < 2000; i++) {
        unsigned at = i * 37 % (2 * PAGE - 16);
        uint32_t value = i * 77;

        write_function(w + at, value);
        WANT(run(x + at, 5) == (uint64_t)value + 5);
        pwrite(fd, &i, 4, at + 1); /* by the kernel */
        WANT(run(x + at, 5) == (uint64_t)i + 5);
    }
    close(fd);
    return 0;
}

static int by_the_kernel(void)
{
    uint8_t *p = user_pages(1, RWX), bytes[16];
    int fd[2];

    WANT(pipe(fd) == 0);
    for (uint32_t i = 0; i < 2000; i++) {
        size_t n = write_function(bytes, i);
        struct iovec from = {bytes, n}, to = {p + 100, n};

        WANT(write(fd[1], bytes, n) == (ssize_t)n && read(fd[0], p, n) == (ssize_t)n);
        WANT(run(p, 1) == i + 1);
        bytes[1] ^= 0x55;
        WANT(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == (ssize_t)n);
        WANT(run(p + 100, 0) == (i ^ 0x55));
    }
    return 0;
}

static int other_pages_at_the_same_place(void)
{
    uint8_t *at = user_pages(4, PROT_NONE);
    int fd = memfd_create("pages", 0);

    WANT(ftruncate(fd, 8 * PAGE) == 0);
    for (uint32_t k = 0; k < 8; k++) {
        uint8_t bytes[16];
        size_t n = write_function(bytes, k);

        pwrite(fd, bytes, n, k * PAGE + 32);
    }
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t k = i * 5 % 8;

        WANT(mmap(at, PAGE, RX, MAP_SHARED | MAP_FIXED, fd, k * PAGE) == at);
        WANT(run(at + 32, 3) == k + 3);
        if (i % 3 == 0) { /* and moved */
            uint8_t *there = mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * PAGE);
            WANT(there == at + 2 * PAGE && run(there + 32, 4) == k + 4);
        }
        if (i % 16 == 0)
            munmap(at, PAGE);
    }
    return 0;
}

static int dropped_and_copied_on_write(void)
{
    int fd = memfd_create("cow", 0);
    uint8_t bytes[16];
    size_t n = write_function(bytes, 1000);

    WANT(ftruncate(fd, PAGE) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    uint8_t *p = mmap(NULL, PAGE, RWX, MAP_PRIVATE, fd, 0);
    WANT(p != MAP_FAILED);
    for (uint32_t i = 0; i < 200; i++) {
        WANT(run(p, 0) == 1000);
        write_function(p, i);
        WANT(run(p, 0) == i);
        if (i % 10 == 0) { /* a child's change is its own */
            int pid = fork();
            if (pid == 0) {
                write_function(p, 7777);
                _exit(run(p, 0) == 7777 ? 0 : 1);
            }
            WANT(user_wait(pid) == 0 && run(p, 0) == i);
        }
        WANT(madvise(p, PAGE, MADV_DONTNEED) == 0);
    }
    return 0;
}

/* --- threads ----------------------------------------------------------------------- */

static _Atomic(uint8_t *) published;
static atomic_uint asked, answered;
static atomic_ulong answer;

static void *runner(void *p)
{
    (void)p;
    for (unsigned turn = 1;; turn++) {
        while (atomic_load(&asked) < turn)
            sched_yield();
        uint8_t *at = atomic_load(&published);
        if (!at)
            return NULL;
        atomic_store(&answer, run(at, 9));
        atomic_store(&answered, turn);
    }
}

static int made_here_run_there(void)
{
    uint8_t *p = user_pages(2, RWX);
    pthread_t t;
    unsigned turn = 0;

    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    WANT(pthread_create(&t, NULL, runner, NULL) == 0);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t *at = p + i * 48 % (PAGE + 64);

        write_function(at, i);
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
        atomic_store(&published, at);
        atomic_store(&asked, ++turn);
        if (i % 3 == 0) /* beside it in the same page, while the other one runs */
            write_function(p + 2 * PAGE - 64, i), run(p + 2 * PAGE - 64, 0);
        while (atomic_load(&answered) < turn)
            sched_yield();
        WANT(atomic_load(&answer) == i + 9);
    }
    atomic_store(&published, NULL);
    atomic_store(&asked, ++turn);
    pthread_join(t, NULL);
    return 0;
}

static _Atomic uint32_t least; /* what the patched function must return at least */
static atomic_bool stop, wrong;

static void *watcher(void *p)
{
    while (!atomic_load(&stop)) {
        uint32_t must = atomic_load(&least);
        /* A locked instruction is not a serializing one; the kernel's membarrier made us serialize.
         */
        uint64_t got = run(p, 0);

        if (got < must)
            atomic_store(&wrong, true);
    }
    return NULL;
}

/* The immediate of an instruction is replaced by one aligned store while two threads run it. */
static int patched_under_way(void)
{
    uint8_t *p = user_pages(1, RWX);
    pthread_t t[2];

    write_function(p + 3, 0); /* the immediate at p + 4 */
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
    for (int i = 0; i < 2; i++)
        WANT(pthread_create(&t[i], NULL, watcher, p + 3) == 0);
    for (uint32_t i = 1; i < 200 && !atomic_load(&wrong); i++) {
        __atomic_store_n((uint32_t *)(void *)(p + 4), i, __ATOMIC_SEQ_CST);
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
        atomic_store(&least, i);
        if (run(p + 3, 0) != i)
            atomic_store(&wrong, true);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    WANT(!atomic_load(&wrong));
    return 0;
}

static void *compiler(void *p)
{
    for (uint32_t i = 0; i < 3000; i++) {
        uint8_t *at = (uint8_t *)p + i * 16 % PAGE;

        write_function(at, i);
        if (run(at, 2) != i + 2)
            return p;
        if (i % 64 == 0) {
            mprotect(p, PAGE, RX);
            mprotect(p, PAGE, RWX);
        }
    }
    return NULL;
}

static int four_compilers(void)
{
    uint8_t *p = user_pages(4, RWX);
    pthread_t t[4];
    void *bad = NULL, *r;

    for (int i = 0; i < 4; i++)
        WANT(pthread_create(&t[i], NULL, compiler, p + i * PAGE) == 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &r);
        bad = r ? r : bad;
    }
    WANT(!bad);
    return 0;
}

const struct user_test user_code[] = {
    {"protection_flips", protection_flips},
    {"the_next_instruction_is_written", the_next_instruction},
    {"data_beside_code", data_beside_code},
    {"code_across_pages", across_pages},
    {"code_written_by_another_name", by_another_name},
    {"code_written_by_the_kernel", by_the_kernel},
    {"other_pages_at_the_same_place", other_pages_at_the_same_place},
    {"code_dropped_and_copied_on_write", dropped_and_copied_on_write},
    {"code_made_here_and_run_there", made_here_run_there},
    {"code_patched_under_way", patched_under_way},
    {"four_threads_that_compile", four_compilers},
    {NULL, NULL},
};
