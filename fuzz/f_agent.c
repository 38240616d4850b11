/* What the agent reads: requests of the host, and the image's passwd and group. The first byte
 * chooses. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/pid1.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void requests(const uint8_t *p, size_t n)
{
    struct setup_req su = {0};
    struct start_req st = {0};
    struct proto_frame f;
    struct err e;
    int used;

    while ((used = proto_next(p, n, &f)) > 0) {
        if (f.type == PROTO_SETUP) {
            if (setup_parse(&f, &su, &e) == 0)
                assert(su.root_dev && su.n_mounts <= AGENT_MOUNTS_MAX);
            for (unsigned i = 0; i + 1 < su.n_mounts; i++)
                assert(su.mount[i].options);
            setup_done(&su);
        } else {
            if (start_parse(&f, &st, &e) == 0 && f.type == PROTO_START)
                assert(st.argv.n > 0 && !st.argv.v[st.argv.n]);
        }
        p += used;
        n -= (size_t)used;
    }
    start_done(&st);
}

static void users(const uint8_t *p, size_t n)
{
    static const char *const spec[] = {"", "root", "0", "a:b", "7:8", "x:", ":y"};
    static struct user u;
    char path[64];
    struct err e;
    int fd = memfd_create("passwd", 0);

    if (fd < 0 || write(fd, p, n) != (ssize_t)n) {
        close(fd);
        return;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (unsigned i = 0; i < sizeof(spec) / sizeof(spec[0]); i++)
        if (user_find(spec[i], path, path, &u, &e) == 0)
            assert(u.n_groups >= 1 && u.n_groups <= USER_GROUPS_MAX &&
                   memchr(u.home, 0, sizeof(u.home)));
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    if (p[0] & 1)
        users(p + 1, n - 1);
    else
        requests(p + 1, n - 1);
    return 0;
}
