/* test/linux/user/user.h - programs that are hard on a machine, run natively and inside a guest.
 *
 * A test is a function that returns 0, or the line at which something was not as it should be. Each
 * runs in a process of its own with a time limit. The same program is PID 1 of a guest and an
 * ordinary program on the host. */
#ifndef TEST_LINUX_USER_USER_H
#define TEST_LINUX_USER_USER_H

#include <stddef.h>
#include <stdint.h>

struct user_test {
    const char *name;
    int (*run)(void);
};

/* Ended by one without a name. */
extern const struct user_test user_faults[], user_retries[], user_code[], user_trace[],
    user_threads[], user_memory[];

#define WANT(condition)      \
    do {                     \
        if (!(condition))    \
            return __LINE__; \
    } while (0)

/* Pages of this machine. */
enum { PAGE = 4096 };

/* `n` pages of fresh memory with this protection; ends the process when there is none. */
void *user_pages(size_t n, int prot);

/* Wait for a child. What it returned, or 1000 + the signal that ended it. */
int user_wait(int pid);

#endif
