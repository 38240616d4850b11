#include "os/loop.h"

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "test/unit/t.h"

struct world {
    struct loop *l;
    struct loop_fd a, b;
    unsigned a_seen, b_seen, posted, due;
    uint64_t deadline;
};

static void a_ready(void *ctx, uint32_t events)
{
    struct world *w = ctx;

    w->a_seen++;
    loop_del(w->l, &w->b); /* b is ready in the same round: it must not run */
    loop_del(w->l, &w->a);
}

static void b_ready(void *ctx, uint32_t events)
{
    struct world *w = ctx;

    w->b_seen++;
    loop_del(w->l, &w->a);
    loop_del(w->l, &w->b);
}

static void a_handler_may_delete_any_other(void **state)
{
    struct world w = {.l = loop_new(NULL, NULL)};
    int p[2], q[2];

    assert_int_equal(pipe(p) | pipe(q), 0);
    w.a = (struct loop_fd){.fd = p[0], .ready = a_ready, .ctx = &w};
    w.b = (struct loop_fd){.fd = q[0], .ready = b_ready, .ctx = &w};
    assert_int_equal(loop_add(w.l, &w.a, EPOLLIN, NULL), 0);
    assert_int_equal(loop_add(w.l, &w.b, EPOLLIN, NULL), 0);
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_int_equal(write(q[1], "x", 1), 1);
    loop_once(w.l, 1000);
    assert_int_equal(w.a_seen + w.b_seen, 1);
    loop_once(w.l, 0);
    assert_int_equal(w.a_seen + w.b_seen, 1);
    loop_free(w.l);
    for (int i = 0; i < 2; i++) {
        close(p[i]);
        close(q[i]);
    }
}

static void stop(void *ctx)
{
    struct world *w = ctx;

    if (++w->posted == 2)
        loop_stop(w->l);
}

static void *poster(void *ctx)
{
    struct world *w = ctx;

    assert_int_equal(loop_post(w->l, stop, w), 0);
    assert_int_equal(loop_post(w->l, stop, w), 0);
    return NULL;
}

static void posted_functions_run_on_the_loop(void **state)
{
    struct world w = {.l = loop_new(NULL, NULL)};
    pthread_t t;

    assert_int_equal(pthread_create(&t, NULL, poster, &w), 0);
    loop_run(w.l);
    pthread_join(t, NULL);
    assert_int_equal(w.posted, 2);
    loop_free(w.l);
}

static uint64_t next(void *ctx)
{
    return ((struct world *)ctx)->deadline;
}

static void due(void *ctx)
{
    struct world *w = ctx;
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    if ((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec >= w->deadline) {
        w->due++;
        w->deadline = UINT64_MAX;
        loop_stop(w->l);
    }
}

static void a_deadline_wakes_the_loop(void **state)
{
    struct world w = {.l = loop_new(NULL, NULL), .deadline = 1}; /* long past */

    loop_set_timeout(w.l, next, due, &w);
    loop_run(w.l);
    assert_int_equal(w.due, 1);
    loop_free(w.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handler_may_delete_any_other),
        cmocka_unit_test(posted_functions_run_on_the_loop),
        cmocka_unit_test(a_deadline_wakes_the_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
