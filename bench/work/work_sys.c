/* What a program asks of its kernel: system calls, processes, memory, and switches between them. In
 * a guest it is the guest's kernel that runs here. */
#include "bench/work/work.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t getppid_calls(uint64_t n)
{
    long first = syscall(SYS_getppid);

    for (uint64_t i = 0; i < n; i++)
        work_expect(syscall(SYS_getppid) == first, "getppid");
    return n;
}

/* n reads of a page from /dev/zero: a system call that does some work. */
static uint64_t read_zero(uint64_t n)
{
    static unsigned char page[4096];
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    work_expect(fd >= 0, "/dev/zero");
    for (uint64_t i = 0; i < n; i++)
        work_expect(read(fd, page, sizeof(page)) == (ssize_t)sizeof(page), "read");
    close(fd);
    return n;
}

static void wait_for(pid_t pid)
{
    int status;

    work_expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status),
                "a child's exit status");
}

static uint64_t fork_exit(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        pid_t pid = fork();
        if (!pid)
            _exit(0);
        wait_for(pid);
    }
    return n;
}

static uint64_t fork_exec(uint64_t n)
{
    char *const argv[] = {(char *)"work", (char *)"--nothing", NULL};
    char *const envp[] = {NULL};

    for (uint64_t i = 0; i < n; i++) {
        pid_t pid = fork();
        if (!pid) {
            execve(work_self(), argv, envp);
            _exit(1);
        }
        wait_for(pid);
    }
    return n;
}

/* n pages touched for the first time, 16 MiB a mapping. */
static uint64_t page_faults(uint64_t n)
{
    enum { PAGES = 4096 };
    uint64_t sum = 0;

    for (uint64_t done = 0; done < n; done += PAGES) {
        unsigned char *p =
            mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        work_expect(p != MAP_FAILED, "mmap");
        madvise(p, PAGES * 4096, MADV_NOHUGEPAGE);
        for (unsigned i = 0; i < PAGES; i++) {
            sum += p[(size_t)i * 4096];
            p[(size_t)i * 4096 + 8] = 1;
        }
        munmap(p, PAGES * 4096);
    }
    work_expect(!sum, "new pages are zero");
    return n;
}

/* n round trips of a byte between two processes. */
static uint64_t ping_pong(uint64_t n)
{
    int there[2], back[2];
    unsigned char c = 0;

    work_expect(!pipe(there) && !pipe(back), "pipe");
    pid_t pid = fork();
    if (!pid) {
        close(there[1]);
        while (read(there[0], &c, 1) == 1) {
            c++;
            if (write(back[1], &c, 1) != 1)
                break;
        }
        _exit(0);
    }
    for (uint64_t i = 0; i < n; i++)
        work_expect(write(there[1], &c, 1) == 1 && read(back[0], &c, 1) == 1, "a pipe");
    close(there[1]);
    wait_for(pid);
    close(there[0]);
    close(back[0]);
    close(back[1]);
    return c;
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    signals++;
}

/* n signals to oneself: a frame is built and taken down each time. */
static uint64_t signal_self(uint64_t n)
{
    struct sigaction act = {.sa_handler = on_signal}, old;
    pid_t pid = getpid();

    signals = 0;
    sigaction(SIGUSR1, &act, &old);
    for (uint64_t i = 0; i < n; i++)
        kill(pid, SIGUSR1);
    sigaction(SIGUSR1, &old, NULL);
    work_expect((uint64_t)signals == n, "every signal arrives");
    return n;
}

const struct work work_sys[] = {
    {"getppid", getppid_calls, 600000, 1},  {"read-zero", read_zero, 300000, 1},
    {"fork-exit", fork_exit, 1000, 1},      {"fork-exec", fork_exec, 300, 1},
    {"page-faults", page_faults, 65536, 1}, {"ping-pong", ping_pong, 30000, 1},
    {"signals", signal_self, 60000, 1},     {0},
};
