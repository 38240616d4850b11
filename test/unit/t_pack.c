#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/packread.h"
#include "proto/packwrite.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char top[64];

static void sh(const char *cmd, char *out, size_t len)
{
    char all[1024];

    snprintf(all, sizeof(all), "cd %s && %s", top, cmd);
    if (t_sh(all, out, len) != 0)
        fail_msg("%s", all);
}

static int up(void **state)
{
    snprintf(top, sizeof(top), "/tmp/kiln-t-pack-XXXXXX");
    if (!mkdtemp(top))
        return -1;
    sh("mkdir from to out", NULL, 0);
    return 0;
}

static int down(void **state)
{
    char cmd[128];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
    return t_sh(cmd, NULL, 0);
}

static int folder(const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", top, name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int from_fd(int fd, const struct packread_conf *c, struct err *e)
{
    struct pack_in *in = malloc(sizeof(*in));

    lseek(fd, 0, SEEK_SET);
    pack_in_init(in, pack_fill_fd, &fd);
    int r = packread(in, c, e);
    free(in);
    return r;
}

/* from/PATH to to/, as `name`. */
static int copy(const char *path, const char *name, bool keep, struct err *e)
{
    CLEANUP(fd) int from = folder("from");
    CLEANUP(fd) int to = folder("to");
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    struct pack_out *o = malloc(sizeof(*o));
    const struct packwrite_conf w = {.root = from, .path = path, .xattrs = true};
    const struct packread_conf c = {
        .root = to, .base = "", .name = name, .keep = keep, .uid = (uid_t)-1, .gid = (gid_t)-1};

    pack_out_init(o, file);
    int r = packwrite(&w, o, e);
    if (r == 0)
        r = pack_put_end(o);
    free(o);
    return r == 0 ? from_fd(file, &c, e) : r;
}

static void a_tree_arrives_as_it_was(void **state)
{
    struct err e = {0};
    char out[4096];

    sh("cd from && mkdir -p d/e/f && echo hello > d/a && ln d/a d/e/b && ln -s ../a d/e/l &&"
       " mkfifo d/p && : > d/empty && head -c 300000 /dev/urandom > d/big && chmod 4751 d/big &&"
       " truncate -s 5M d/sparse && echo end >> d/sparse && truncate -s 9M d/sparse &&"
       " touch -d '2001-02-03 04:05:06.789' d/a d/e && chmod 555 d/e",
       NULL, 0);
    assert_int_equal(copy("d", "x", true, &e), 0);
    sh("diff -r --no-dereference from/d to/x 2>&1 | grep -v fifo; cd to/x;"
       "stat -c '%a %h %y' a e/b | cut -c 1-29; stat -c %a big e; readlink e/l;"
       "stat -c '%F %Y' p | cut -c 1-4; stat -c %y e | cut -c 1-23;"
       "test $(stat -c %b sparse) -lt 100 && echo sparse",
       out, sizeof(out));
    assert_string_equal(out, "644 2 2001-02-03 04:05:06.789\n644 2 2001-02-03 04:05:06.789\n"
                             "4751\n555\n../a\nfifo\n2001-02-03 04:05:06.789\nsparse\n");
}

static void without_keep_owners_and_setid_bits_do_not_travel(void **state)
{
    struct err e = {0};
    char out[256];

    if (geteuid() != 0)
        skip();
    sh("echo x > from/f && chown 1234:4321 from/f && chmod 6755 from/f", NULL, 0);
    assert_int_equal(copy("f", "g", false, &e), 0);
    assert_int_equal(copy("f", "h", true, &e), 0);
    sh("cd to && stat -c '%u:%g %a' g h", out, sizeof(out));
    assert_string_equal(out, "0:0 755\n1234:4321 6755\n");
}

static void extended_attributes_come_along(void **state)
{
    struct err e = {0};
    char path[128], value[16] = "";

    snprintf(path, sizeof(path), "%s/from/f", top);
    sh("echo x > from/f", NULL, 0);
    if (setxattr(path, "user.color", "green", 5, 0) < 0)
        skip();
    assert_int_equal(copy("f", "f", true, &e), 0);
    snprintf(path, sizeof(path), "%s/to/f", top);
    assert_int_equal(getxattr(path, "user.color", value, sizeof(value)), 5);
    assert_string_equal(value, "green");
}

static void a_root_of_its_own_is_filled(void **state)
{
    struct err e = {0};
    char out[256];

    sh("mkdir -p from/d/s && echo new > from/d/f && echo old > to/f && echo stays > to/g &&"
       " mkdir to/s && echo in > to/s/t",
       NULL, 0);
    assert_int_equal(copy("d", NULL, false, &e), 0);
    sh("cd to && cat f g s/t", out, sizeof(out));
    assert_string_equal(out, "new\nstays\nin\n");
}

static void kinds_do_not_replace_each_other(void **state)
{
    struct err e = {0};

    sh("mkdir from/d to/f && echo x > from/f && echo x > to/d", NULL, 0);
    assert_int_equal(copy("f", "f", false, &e), -EISDIR);
    assert_int_equal(copy("d", "d", false, &e), -ENOTDIR);
    assert_int_equal(copy("no", "d", false, &e), -ENOENT);
}

static void a_path_of_the_tree_cannot_lead_out_of_its_root(void **state)
{
    struct err e = {0};
    char out[64];

    sh("ln -s /../../../etc from/e && mkdir from/etc && echo mine > from/etc/passwd", NULL, 0);
    assert_int_equal(copy("e/passwd", "p", false, &e), 0);
    sh("cat to/p", out, sizeof(out));
    assert_string_equal(out, "mine\n");
}

/* ---- what a hostile writer sends */

static int give(const struct pack_entry *en, unsigned n, const char *data, struct err *e)
{
    CLEANUP(fd) int to = folder("to");
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    struct pack_out *o = malloc(sizeof(*o));
    const struct packread_conf c = {
        .root = to, .base = "", .name = NULL, .keep = true, .devices = false};

    pack_out_init(o, file);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(pack_put_entry(o, &en[i]), 0);
        if (en[i].type == PACK_FILE)
            assert_int_equal(pack_put_data(o, data, strlen(data)), 0);
    }
    assert_int_equal(pack_put_end(o), 0);
    free(o);
    return from_fd(file, &c, e);
}

static void a_link_is_no_way_out(void **state)
{
    char target[128], out[64];
    struct err e = {0};

    snprintf(target, sizeof(target), "%s/out", top);
    const struct pack_entry en[] = {
        {.type = PACK_SYMLINK, .path = "l", .link = target},
        {.type = PACK_FILE, .path = "l/evil", .link = "", .mode = 0644},
    };
    assert_true(give(en, 2, "x", &e) < 0);
    const struct pack_entry dir[] = {
        {.type = PACK_SYMLINK, .path = "m", .link = target},
        {.type = PACK_DIR, .path = "m", .link = "", .mode = 0755},
        {.type = PACK_FILE, .path = "m/evil", .link = "", .mode = 0644},
    };
    assert_true(give(dir, 3, "x", &e) < 0);
    const struct pack_entry hard[] = {
        {.type = PACK_SYMLINK, .path = "n", .link = target},
        {.type = PACK_HARDLINK, .path = "h", .link = "n/../secret"},
    };
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    assert_true(file >= 0);
    assert_false(pack_path_ok(hard[1].link));
    /* Over a link: it is replaced, not followed. */
    const struct pack_entry over[] = {
        {.type = PACK_SYMLINK, .path = "o", .link = target},
        {.type = PACK_FILE, .path = "o", .link = "", .mode = 0644},
    };
    assert_int_equal(give(over, 2, "x", &e), 0);
    sh("ls out | wc -l; cat to/o; stat -c %F to/o", out, sizeof(out));
    assert_string_equal(out, "0\nxregular file\n");
}

static void links_are_followed_within_a_containers_root(void **state)
{
    CLEANUP(fd) int to = folder("to");
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    struct pack_out *o = malloc(sizeof(*o));
    const struct packread_conf c = {.root = to, .base = "/", .name = NULL, .follow = true};
    const struct pack_entry en[] = {
        {.type = PACK_DIR, .path = "", .link = "", .mode = 0755},
        {.type = PACK_DIR, .path = "lib", .link = "", .mode = 0755},
        {.type = PACK_FILE, .path = "lib/so", .link = "", .mode = 0644},
        {.type = PACK_FILE, .path = "away/file", .link = "", .mode = 0644},
    };
    struct err e = {0};
    char out[128];

    sh("mkdir -p to/usr/lib to/etc && ln -s usr/lib to/lib && ln -s /../../etc to/away", NULL, 0);
    pack_out_init(o, file);
    for (unsigned i = 0; i < ARRAY_LEN(en); i++)
        assert_int_equal(pack_put_entry(o, &en[i]), 0);
    assert_int_equal(pack_put_end(o), 0);
    free(o);
    if (from_fd(file, &c, &e) < 0)
        fail_msg("%s", e.msg);
    sh("cd to && ls usr/lib etc", out, sizeof(out));
    assert_string_equal(out, "etc:\nfile\n\nusr/lib:\nso\n");
}

static void a_device_is_made_only_where_it_is_wanted(void **state)
{
    const struct pack_entry en = {
        .type = PACK_CHAR, .path = "null", .link = "", .mode = 0666, .major = 1, .minor = 3};
    struct err e = {0};

    assert_int_equal(give(&en, 1, "", &e), -EPERM);
}

static void names_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/."};

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(pack_path_ok(bad[i]));
    assert_true(pack_path_ok(""));
    assert_true(pack_path_ok("a/..b/c..d/...e"));
}

struct bytes {
    const uint8_t *p;
    size_t len;
};

static ssize_t fill_bytes(void *ctx, void *buf, size_t len)
{
    struct bytes *b = ctx;
    size_t n = b->len < len ? b->len : len;

    n = n > 7 ? 7 : n; /* in small pieces */
    memcpy(buf, b->p, n);
    b->p += n;
    b->len -= n;
    return (ssize_t)n;
}

static void a_stream_that_is_cut_is_an_error_wherever(void **state)
{
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    struct pack_out *o = malloc(sizeof(*o));
    struct pack_in *in = malloc(sizeof(*in));
    static uint8_t all[65536];
    const struct pack_entry en = {.type = PACK_FILE,
                                  .path = "a/b",
                                  .link = "",
                                  .xattr = {{"user.x", "yz", 2}},
                                  .n_xattrs = 1};
    struct pack_record rec;
    struct err e = {0};

    pack_out_init(o, file);
    assert_int_equal(pack_put_entry(o, &en), 0);
    assert_int_equal(pack_put_data(o, "hello", 5), 0);
    assert_int_equal(pack_put_hole(o, 77), 0);
    assert_int_equal(pack_put_end(o), 0);
    ssize_t total = pread(file, all, sizeof(all), 0);
    for (ssize_t n = 0; n < total; n++) {
        struct bytes b = {all, (size_t)n};
        int r;

        pack_in_init(in, fill_bytes, &b);
        while ((r = pack_next(in, &rec, &e)) == 0)
            assert_int_not_equal(rec.kind, PACK_END);
        assert_int_equal(r, -EBADMSG);
    }
    struct bytes b = {all, (size_t)total};
    pack_in_init(in, fill_bytes, &b);
    assert_int_equal(pack_next(in, &rec, &e), 0);
    assert_string_equal(rec.entry.path, "a/b");
    assert_int_equal(rec.entry.n_xattrs, 1);
    assert_string_equal(rec.entry.xattr[0].name, "user.x");
    assert_int_equal(pack_next(in, &rec, &e), 0);
    assert_memory_equal(rec.data, "hello", 5);
    assert_int_equal(pack_next(in, &rec, &e), 0);
    assert_int_equal(rec.len, 77);
    assert_int_equal(pack_next(in, &rec, &e), 0);
    assert_int_equal(rec.kind, PACK_END);
    free(o);
    free(in);
}

static void a_failure_of_the_writer_is_told(void **state)
{
    CLEANUP(fd) int file = memfd_create("pack", MFD_CLOEXEC);
    struct pack_out *o = malloc(sizeof(*o));
    struct err e = {0};
    CLEANUP(fd) int to = folder("to");
    const struct packread_conf c = {.root = to, .base = ""};

    pack_out_init(o, file);
    assert_int_equal(pack_put_fail(o, -ENOENT, "no such\x1b[31mfile"), 0);
    free(o);
    assert_int_equal(from_fd(file, &c, &e), -ENOENT);
    assert_string_equal(e.msg, "no such?[31mfile");
}

static void a_copy_goes_where_docker_would_put_it(void **state)
{
    static const struct {
        const char *dest;
        bool folder, contents;
        int want;
        const char *base, *name;
    } t[] = {
        {"/d", false, false, 0, "/d", "src"},
        {"/d", true, false, 0, "/d", "src"},
        {"/d", true, true, 0, "/d", ""},
        {"/d/", false, false, 0, "/d/", "src"},
        {"/d/.", true, false, 0, "/d/.", "src"},
        {"/d/new", false, false, 0, "/d", "new"},
        {"/d/new", true, true, 0, "/d", "new"},
        {"/d/new/", true, false, 0, "/d", "new"},
        {"/d/new/", false, false, -ENOENT, "", ""},
        {"/no/new", false, false, -ENOENT, "", ""},
        {"/f", false, false, 0, "/", "f"},
        {"/f", true, false, -ENOTDIR, "", ""},
        {"/f/", false, false, -ENOTDIR, "", ""},
        {"/f/x", false, false, -ENOTDIR, "", ""},
        {"/l", false, false, 0, "/l", "src"},
        {"d/x", false, false, 0, "d", "x"},
        {"x", false, false, 0, "", "x"},
        {"", false, false, -ENOENT, "", ""},
        {"/", true, false, 0, "/", "src"},
        {"/..", false, false, 0, "/..", "src"},
    };
    CLEANUP(fd) int to = folder("to");
    struct packread_dest d;
    struct err e = {0};

    sh("mkdir to/d && echo > to/f && ln -s /d to/l", NULL, 0);
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        int r = packread_find_dest(to, true, t[i].dest, t[i].folder, "src", t[i].contents, &d, &e);

        if (r != t[i].want)
            fail_msg("%s: %d, %s", t[i].dest, r, e.msg);
        if (r == 0 && (strcmp(d.base, t[i].base) != 0 || strcmp(d.name, t[i].name) != 0))
            fail_msg("%s: '%s' '%s'", t[i].dest, d.base, d.name);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_tree_arrives_as_it_was),
        T(without_keep_owners_and_setid_bits_do_not_travel),
        T(extended_attributes_come_along),
        T(a_root_of_its_own_is_filled),
        T(kinds_do_not_replace_each_other),
        T(a_path_of_the_tree_cannot_lead_out_of_its_root),
        T(a_link_is_no_way_out),
        T(links_are_followed_within_a_containers_root),
        T(a_device_is_made_only_where_it_is_wanted),
        T(names_that_are_none_are_refused),
        T(a_stream_that_is_cut_is_an_error_wherever),
        T(a_failure_of_the_writer_is_told),
        T(a_copy_goes_where_docker_would_put_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
