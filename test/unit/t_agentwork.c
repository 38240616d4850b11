/* What the agent does besides running commands: work on files, usage, cards, unknown requests. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"
#include "container/session.h"
#include "container/sessnet.h"
#include "container/wire.h"
#include "proto/filework.h"
#include "proto/proctable.h"
#include "test/unit/agentbox.h"
#include "test/unit/t_sh.h"

/* ---- work on files */

/* What the work says: an error, or its stream on *out, a memfd. */
static int work(struct guest *g, unsigned kind, unsigned flags, const char *path, const char *name,
                int in, int *out, struct err *e)
{
    struct result *r = calloc(1, sizeof(*r));
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;

    *out = memfd_create("out", 0);
    struct session_streams io = {in, *out, -1, -1};
    int rc = session_work(g->s, kind, flags, path, name, e);
    if (rc == 0)
        rc = session_pump(g->s, &io, 20000, &r->status, e);
    assert_int_equal(r->status, 0);
    lseek(*out, 0, SEEK_SET);
    pack_in_init(p, pack_fill_fd, out);
    while (rc == 0 && (rc = pack_next(p, &rec, e)) == 0 && rec.kind != PACK_END) {
    }
    lseek(*out, 0, SEEK_SET);
    free(r);
    free(p);
    return rc;
}

/* One shell command beside the main one, which has been started: its output. */
static void beside(struct guest *g, const char *cmd, struct result *r)
{
    const char *argv[] = {"sh", "-c", cmd, NULL};
    struct session_process p = {.argv = argv};
    struct guest other = *g;
    struct err e = {0};

    connect_again(&other);
    if (run_process(&other, &p, -1, r, &e) < 0)
        fail_msg("%s", e.msg);
    session_close(other.s);
}

static struct guest *up_sleeping(void)
{
    static const char *const argv[] = {"sleep", "1000", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    return g;
}

static void files_go_in_and_out(void **state)
{
    static struct result r;
    struct guest *g = up_sleeping(), other = *g;
    struct err e = {0};
    int tree, empty;

    beside(g, "mkdir /d && echo hello > /d/f && chmod 600 /d/f && ln -s /etc/passwd /l", &r);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_GET, 0, "/d", "", -1, &tree, &e), 0);
    session_close(other.s);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_PUT, FILEWORK_FOLDER, "/new", "d", tree, &empty, &e), 0);
    session_close(other.s);
    beside(g, "cat /new/f; stat -c %a /new/f", &r);
    assert_string_equal(r.out, "hello\n600\n");
    connect_again(&other);
    lseek(tree, 0, SEEK_SET);
    assert_int_equal(work(&other, FILEWORK_PUT, FILEWORK_FOLDER, "/no/new", "d", tree, &empty, &e),
                     -ENOENT);
    assert_string_equal(e.msg, "no such directory: '/no'");
    session_close(other.s);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_GET, 0, "/none", "", -1, &empty, &e), -ENOENT);
    session_close(other.s);
    down(g);
}

/* "A a", "C etc" ... of a difference, a line each, sorted by whoever compares. */
static void difference(struct guest *g, char *text, size_t len)
{
    struct guest other = *g;
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;
    struct err e = {0};
    size_t n = 0;
    int out;

    connect_again(&other);
    if (work(&other, FILEWORK_DIFF, 0, "", "", -1, &out, &e) < 0)
        fail_msg("%s", e.msg);
    session_close(other.s);
    pack_in_init(p, pack_fill_fd, &out);
    text[0] = '\0';
    while (pack_next(p, &rec, &e) == 0 && rec.kind == PACK_ENTRY) {
        char kind = rec.entry.type == PACK_ABSENT   ? 'D'
                    : rec.entry.flags & PACK_NEW    ? 'A'
                    : rec.entry.flags & PACK_OPAQUE ? 'O'
                                                    : 'C';

        if (strncmp(rec.entry.path, "dev", 3) != 0 && strncmp(rec.entry.path, "proc", 4) != 0 &&
            strncmp(rec.entry.path, "sys", 3) != 0)
            n += (size_t)snprintf(text + n, len - n, "%c %s\n", kind, rec.entry.path);
    }
    free(p);
}

static void a_difference_names_what_changed(void **state)
{
    static struct result r;
    char text[4096];
    struct guest *g = up_sleeping();

    beside(g,
           "echo x > /plain/new; chmod 700 /etc/passwd; rm /etc/group; mkdir -p /a/b;"
           "rm -r /plain; mkdir /plain; mv /bin /usr-bin 2>/dev/null; true",
           &r);
    difference(g, text, sizeof(text));
    assert_non_null(strstr(text, "C etc/passwd\n"));
    assert_non_null(strstr(text, "D etc/group\n"));
    assert_non_null(strstr(text, "A a\nA a/b\n"));
    assert_non_null(strstr(text, "O plain\n"));
    assert_null(strstr(text, "plain/new"));
    /* A folder that was renamed, with all that is in it. */
    assert_non_null(strstr(text, "A usr-bin/busybox\n"));
    assert_non_null(strstr(text, "D bin\n"));
    down(g);
}

static void a_table_of_processes_shows_the_containers_own(void **state)
{
    static char text[8192];
    struct guest *g = up_sleeping(), other = *g;
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;
    struct proctable_row row;
    struct err e = {0};
    unsigned n = 0;
    int out;

    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_TOP, 0, "", "", -1, &out, &e), 0);
    session_close(other.s);
    pack_in_init(p, pack_fill_fd, &out);
    assert_int_equal(pack_next(p, &rec, &e), 0);
    assert_int_equal(pack_next(p, &rec, &e), 0);
    assert_int_equal(rec.kind, PACK_DATA);
    snprintf(text, sizeof(text), "%.*s", (int)rec.len, (const char *)rec.data);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line; n++) {
        assert_true(proctable_parse(line, &row));
        assert_string_equal(row.command, "sleep 1000");
        assert_string_equal(row.user, "root");
        assert_int_equal(row.ppid, 0);
        /* The kernel counts a small process's pages roughly: proc_pid_stat(5). */
        assert_true(row.vsize > 0 && row.rss < row.vsize);
    }
    assert_int_equal(n, 1);
    free(p);
    down(g);
}

static void usage_is_told(void **state)
{
    struct guest *g = up_sleeping(), other = *g;
    struct session_usage u;
    struct err e = {0};

    connect_again(&other);
    assert_int_equal(session_usage(other.s, 5000, &u, &e), 0);
    assert_true(u.memory > 0 && u.memory < u.memory_total);
    if (box_group >= 0)
        assert_true(u.pids >= 1); /* those of a test before may be on their way out */
    session_close(other.s);
    down(g);
}

static void an_unknown_request_gets_an_error(void **state)
{
    struct guest *g = up();
    struct proto_frame f;
    struct err e = {0};

    proto_begin(&g->s->out, 999, 0);
    assert_int_equal(proto_end(&g->s->out), 0);
    assert_int_equal(wire_send(g->s, UINT64_MAX, &e), 0);
    assert_int_equal(wire_next(g->s, UINT64_MAX, &f, &e), 0);
    assert_int_equal(f.type, PROTO_ERROR);
    wire_drop(g->s, &f);
    down(g);
}

static void a_detached_process_outlives_its_session(void **state)
{
    static struct result r;
    static const char *const argv[] = {"sh", "-c", "sleep 0.2; echo here > /detached; sleep 1000",
                                       NULL};
    struct session_process p = {.argv = argv, .detach = true};
    struct guest *g = up_sleeping(), other = *g;
    struct err e = {0};

    connect_again(&other);
    assert_int_equal(session_start(other.s, &p, &e), 0);
    session_close(other.s);
    beside(g, "while ! test -s /detached; do sleep 0.05; done; cat /detached", &r);
    assert_string_equal(r.out, "here\n");
    down(g);
}

/* What the host says of a card is what the agent reads. */
static void cards_are_described_and_read(void **state)
{
    static const struct session_route more = {"10.8.0.0", "", 16};
    const struct session_net net[2] = {{.mac = {2, 0, 0, 0, 0, 7},
                                        .mtu = 1400,
                                        .ip = "192.0.2.9",
                                        .prefix = 24,
                                        .gateway = "192.0.2.1",
                                        .ip6 = "fd00::9",
                                        .prefix6 = 64,
                                        .gateway6 = "fe80::1",
                                        .route = &more,
                                        .n_routes = 1},
                                       {.ip = "", .ip6 = NULL}};
    struct session_setup su = {.net = net, .n_nets = 2};
    struct proto_buf *b = calloc(1, sizeof(*b));
    struct setup_req r = {0};
    struct proto_frame f;
    struct err e = {0};

    proto_begin(b, PROTO_IDENTITY, 0);
    assert_int_equal(sessnet_put(b, &su, &e), 0);
    proto_put(b, PF_ENTROPY, "entropy", 7); /* in any order */
    assert_int_equal(proto_end(b), 0);
    assert_true(proto_next(b->b, b->len, &f) > 0);
    assert_int_equal(setup_parse(&f, &r, &e), 0);
    assert_int_equal(r.n_nets, 2);
    const struct setup_net *n = &r.net[0];
    assert_true(n->has_mac && n->mac[5] == 7 && n->mtu == 1400);
    assert_int_equal(n->n_addrs, 2);
    assert_int_equal(n->n_routes, 3);
    assert_memory_equal(n->addr[0].to, "\300\0\2\11", 4);
    assert_int_equal(n->addr[0].prefix, 24);
    assert_int_equal(n->addr[1].family, AF_INET6);
    assert_int_equal(n->addr[1].to[15], 9);
    assert_memory_equal(n->route[0].via, "\300\0\2\1", 4);
    assert_true(n->route[0].prefix == 0 && !n->route[0].linked);
    assert_int_equal(n->route[1].via[0], 0xfe);
    assert_true(n->route[2].linked && n->route[2].prefix == 16);
    assert_true(!r.net[1].has_mac && r.net[1].n_addrs == 0 && r.net[1].mtu == 0);
    setup_done(&r);
    free(b);
}

static void cards_that_cannot_be_are_refused(void **state)
{
    static const struct {
        struct session_net net;
    } wrong[] = {{{.ip = "192.0.2", .prefix = 24}},
                 {{.ip = "192.0.2.1", .prefix = 33}},
                 {{.ip6 = "fd00::x", .prefix6 = 64}},
                 {{.gateway = "fd00::1"}}};
    static const struct {
        const char *bytes;
        size_t len;
    } fields[] = {
        {"\1\0\5\0\0\0abcde", 11},         /* a MAC of five bytes */
        {"\3\0\5\0\0\0\41\1\2\3\4", 11},   /* 33 bits */
        {"\3\0\0\0\0\0", 6},               /* no address */
        {"\3\0\4\0\0\0\10\1\2\3", 10},     /* three bytes of one */
        {"\4\0\6\0\0\0\10\1\2\3\4\5", 12}, /* half a route */
        {"\3\0\377\0\0\0", 6},             /* longer than it is */
    };
    struct proto_buf *b = calloc(1, sizeof(*b));
    struct err e = {0};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct session_setup su = {.net = &wrong[i].net, .n_nets = 1};

        proto_begin(b, PROTO_IDENTITY, 0);
        assert_int_equal(sessnet_put(b, &su, &e), -EINVAL);
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct setup_req r = {0};
        struct proto_frame f;

        proto_begin(b, PROTO_IDENTITY, 0);
        proto_put(b, PF_NET, fields[i].bytes, fields[i].len);
        assert_int_equal(proto_end(b), 0);
        assert_true(proto_next(b->b, b->len, &f) > 0);
        assert_int_equal(setup_parse(&f, &r, &e), -EBADMSG);
        setup_done(&r);
    }
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_go_in_and_out),
        cmocka_unit_test(a_difference_names_what_changed),
        cmocka_unit_test(a_table_of_processes_shows_the_containers_own),
        cmocka_unit_test(usage_is_told),
        cmocka_unit_test(cards_that_cannot_be_are_refused),
        cmocka_unit_test(cards_are_described_and_read),
        cmocka_unit_test(an_unknown_request_gets_an_error),
        cmocka_unit_test(a_detached_process_outlives_its_session),
    };

    return cmocka_run_group_tests(tests, group_up, group_down);
}
