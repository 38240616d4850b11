/* A shared folder as a guest's kernel, and as a hostile one, asks for it. */
#include "fs/fusefs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/unit/t.h"

enum { ROOT = 1, REPLY = 65536 };

struct world {
    char dir[64], outside[96];
    struct fusefs *f;
    uint8_t reply[REPLY];
    size_t len; /* of the reply behind its header */
};

static void host(struct world *w, const char *name, char *path, size_t n)
{
    snprintf(path, n, "%s/in/%s", w->dir, name);
}

static void start(struct world *w, bool read_only)
{
    char in[96];

    *w = (struct world){.dir = "/tmp/t_fusefs.XXXXXX"};
    assert_non_null(mkdtemp(w->dir));
    snprintf(in, sizeof(in), "%s/in", w->dir);
    assert_int_equal(mkdir(in, 0755), 0);
    snprintf(w->outside, sizeof(w->outside), "%s/secret", w->dir);
    int fd = open(w->outside, O_CREAT | O_WRONLY, 0644);
    assert_int_equal(write(fd, "secret", 6), 6);
    close(fd);
    assert_int_equal(fusefs_new(in, read_only, &w->f, NULL), 0);
}

static int setup(void **state)
{
    struct world *w = malloc(sizeof(*w));

    start(w, false);
    *state = w;
    return 0;
}

static void clear(int at, const char *name)
{
    if (unlinkat(at, name, 0) < 0)
        assert_int_equal(unlinkat(at, name, AT_REMOVEDIR), 0);
}

static int teardown(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"in/d/x", "in/d", "in/a", "in/b",  "in/l",
                                        "in/p",   "in/s", "in",   "secret"};

    fusefs_free(w->f);
    int at = open(w->dir, O_PATH | O_DIRECTORY);
    struct stat st;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (fstatat(at, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
            clear(at, names[i]);
    }
    close(at);
    assert_int_equal(rmdir(w->dir), 0); /* nothing else was made */
    free(w);
    return 0;
}

/* One request of an operation's fixed part and what follows it; 0 or -errno of the reply. */
static int ask(struct world *w, uint32_t op, uint64_t node, const void *fixed, size_t n_fixed,
               const void *tail, size_t n_tail)
{
    struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + n_fixed + n_tail),
                               .opcode = op,
                               .unique = 99,
                               .nodeid = node,
                               .uid = geteuid(),
                               .gid = getegid()};
    struct iovec in[3] = {
        {&h, sizeof(h)}, {(void *)(uintptr_t)fixed, n_fixed}, {(void *)(uintptr_t)tail, n_tail}};
    struct iovec out[2] = {{w->reply, 7}, {w->reply + 7, REPLY - 7}};
    struct fuse_out_header o;

    size_t n = fusefs_serve(w->f, in, 3, out, 2);
    if (n == 0)
        return 0;
    memcpy(&o, w->reply, sizeof(o));
    assert_int_equal(o.len, n);
    assert_int_equal(o.unique, 99);
    w->len = n - sizeof(o);
    if (o.error)
        assert_int_equal(w->len, 0);
    return o.error;
}

static void *body(struct world *w)
{
    return w->reply + sizeof(struct fuse_out_header);
}

static int named(struct world *w, uint32_t op, uint64_t node, const char *name)
{
    return ask(w, op, node, NULL, 0, name, strlen(name) + 1);
}

static uint64_t lookup(struct world *w, uint64_t node, const char *name)
{
    struct fuse_entry_out e;

    assert_int_equal(named(w, FUSE_LOOKUP, node, name), 0);
    memcpy(&e, body(w), sizeof(e));
    return e.nodeid;
}

static uint64_t make_dir(struct world *w, uint64_t node, const char *name)
{
    struct fuse_mkdir_in in = {.mode = 0755};

    assert_int_equal(ask(w, FUSE_MKDIR, node, &in, sizeof(in), name, strlen(name) + 1), 0);
    struct fuse_entry_out e;
    memcpy(&e, body(w), sizeof(e));
    return e.nodeid;
}

static uint64_t create(struct world *w, uint64_t node, const char *name, uint32_t mode,
                       uint64_t *fh)
{
    struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | mode};
    struct fuse_entry_out e;
    struct fuse_open_out o;

    assert_int_equal(ask(w, FUSE_CREATE, node, &in, sizeof(in), name, strlen(name) + 1), 0);
    assert_int_equal(w->len, sizeof(e) + sizeof(o));
    memcpy(&e, body(w), sizeof(e));
    memcpy(&o, (char *)body(w) + sizeof(e), sizeof(o));
    *fh = o.fh;
    return e.nodeid;
}

static int open_node(struct world *w, uint64_t node, uint32_t flags, uint64_t *fh)
{
    struct fuse_open_in in = {.flags = flags};
    struct fuse_open_out o;
    int r = ask(w, flags & O_DIRECTORY ? FUSE_OPENDIR : FUSE_OPEN, node, &in, sizeof(in), NULL, 0);

    if (r == 0) {
        memcpy(&o, body(w), sizeof(o));
        *fh = o.fh;
    }
    return r;
}

static int write_at(struct world *w, uint64_t fh, uint64_t off, const char *s)
{
    struct fuse_write_in in = {.fh = fh, .offset = off, .size = (uint32_t)strlen(s)};

    return ask(w, FUSE_WRITE, ROOT, &in, sizeof(in), s, strlen(s));
}

static int read_at(struct world *w, uint64_t fh, uint64_t off, uint32_t size)
{
    struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};

    return ask(w, FUSE_READ, ROOT, &in, sizeof(in), NULL, 0);
}

static int renamed(struct world *w, uint64_t from, uint64_t to, const char *names, size_t n,
                   uint32_t flags)
{
    struct fuse_rename2_in in = {.newdir = to, .flags = flags};

    return ask(w, FUSE_RENAME2, from, &in, sizeof(in), names, n);
}

static void a_session_is_agreed_on(void **state)
{
    struct world *w = *state;
    struct fuse_init_in in = {.major = 7, .minor = 36, .max_readahead = 131072, .flags = ~0u};
    struct fuse_init_out out;

    assert_int_equal(ask(w, FUSE_INIT, 0, &in, sizeof(in), NULL, 0), 0);
    memcpy(&out, body(w), sizeof(out));
    assert_int_equal(out.major, 7);
    assert_int_equal(out.max_write, FUSEFS_IO_MAX);
    in.minor = 27;
    assert_int_equal(ask(w, FUSE_INIT, 0, &in, sizeof(in), NULL, 0), -EPROTO);
    assert_int_equal(ask(w, FUSE_INIT, 0, &in, 8, NULL, 0), -EINVAL);
}

static void without_a_folder_there_is_nothing_to_mount(void **state)
{
    struct world w = {0};
    struct fuse_init_in in = {.major = 7, .minor = 36};

    assert_int_equal(fusefs_new(NULL, false, &w.f, NULL), 0);
    assert_int_equal(ask(&w, FUSE_INIT, 0, &in, sizeof(in), NULL, 0), -ENODEV);
    assert_int_equal(named(&w, FUSE_LOOKUP, ROOT, "x"), -ENODEV);
    fusefs_free(w.f);
}

static void files_are_made_written_and_read(void **state)
{
    struct world *w = *state;
    uint64_t fh = 0;
    char path[160], got[16] = {0};

    create(w, ROOT, "a", 04755, &fh);
    assert_int_equal(write_at(w, fh, 3, "hello"), 0);
    assert_int_equal(read_at(w, fh, 0, 100), 0);
    assert_int_equal(w->len, 8);
    assert_memory_equal(body(w), "\0\0\0hello", 8);
    host(w, "a", path, sizeof(path));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755); /* no set-user-ID */
    assert_int_equal(st.st_size, 8);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, got, 5, 3), 5);
    assert_string_equal(got, "hello");
    close(fd);
    assert_int_equal(ask(w, FUSE_RELEASE, ROOT, &(struct fuse_release_in){.fh = fh},
                         sizeof(struct fuse_release_in), NULL, 0),
                     0);
    assert_int_equal(read_at(w, fh, 0, 1), -EBADF);
}

/* git makes its objects so: mode 0444, open for writing. */
static void a_file_nobody_may_write_is_written_by_its_maker(void **state)
{
    struct world *w = *state;
    uint64_t fh = 0;

    create(w, ROOT, "a", 0444, &fh);
    assert_int_equal(write_at(w, fh, 0, "x"), 0);
}

static void names_that_climb_are_no_names(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"", ".", "..", "/", "../secret", "a/b", "/etc"};
    char longest[300];

    make_dir(w, ROOT, "d");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char two[64];
        int n = snprintf(two, sizeof(two), "d%c%s", 0, bad[i]);

        assert_int_equal(named(w, FUSE_LOOKUP, ROOT, bad[i]), -EINVAL);
        assert_int_equal(named(w, FUSE_UNLINK, ROOT, bad[i]), -EINVAL);
        assert_int_equal(named(w, FUSE_RMDIR, ROOT, bad[i]), -EINVAL);
        assert_int_equal(renamed(w, ROOT, ROOT, two, (size_t)n + 1, 0), -EINVAL);
    }
    memset(longest, 'x', sizeof(longest));
    longest[256] = '\0';
    assert_int_equal(named(w, FUSE_LOOKUP, ROOT, longest), -EINVAL);
    assert_int_equal(ask(w, FUSE_LOOKUP, ROOT, NULL, 0, "open end", 8), -EINVAL);
    assert_int_equal(ask(w, FUSE_LOOKUP, ROOT, NULL, 0, NULL, 0), -EINVAL);
}

static void symbolic_links_lead_nowhere(void **state)
{
    struct world *w = *state;
    char two[128], path[160];
    uint64_t fh = 0;
    int n = snprintf(two, sizeof(two), "l%c%s", 0, w->outside);

    assert_int_equal(ask(w, FUSE_SYMLINK, ROOT, NULL, 0, two, (size_t)n + 1), 0);
    uint64_t l = lookup(w, ROOT, "l");
    assert_int_equal(ask(w, FUSE_READLINK, l, NULL, 0, NULL, 0), 0);
    assert_int_equal(w->len, strlen(w->outside));
    assert_int_not_equal(open_node(w, l, O_RDONLY, &fh), 0);
    struct fuse_setattr_in size = {.valid = FATTR_SIZE};
    assert_int_not_equal(ask(w, FUSE_SETATTR, l, &size, sizeof(size), NULL, 0), 0);
    struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 0777};
    assert_int_not_equal(ask(w, FUSE_SETATTR, l, &mode, sizeof(mode), NULL, 0), 0);

    /* a folder the guest knows becomes a link behind its back */
    uint64_t d = make_dir(w, ROOT, "d");
    host(w, "d", path, sizeof(path));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink(w->dir, path), 0);
    assert_int_not_equal(named(w, FUSE_LOOKUP, d, "secret"), 0);
    assert_int_not_equal(named(w, FUSE_UNLINK, d, "secret"), 0);
    struct stat st;
    assert_int_equal(stat(w->outside, &st), 0);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(st.st_mode & 0777, 0644);
}

static void devices_and_pipes_are_not_opened(void **state)
{
    struct world *w = *state;
    uint64_t fh = 0;
    struct fuse_mknod_in in = {.mode = S_IFCHR | 0666, .rdev = 0x105};

    assert_int_equal(ask(w, FUSE_MKNOD, ROOT, &in, sizeof(in), "s", 2), -EPERM);
    in.mode = S_IFBLK | 0666;
    assert_int_equal(ask(w, FUSE_MKNOD, ROOT, &in, sizeof(in), "s", 2), -EPERM);
    in.mode = S_IFIFO | 0666;
    assert_int_equal(ask(w, FUSE_MKNOD, ROOT, &in, sizeof(in), "p", 2), 0);
    assert_int_equal(open_node(w, lookup(w, ROOT, "p"), O_RDONLY, &fh),
                     -ENXIO); /* nor waited for */
    struct fuse_create_in c = {.flags = O_RDWR, .mode = 0644};
    assert_int_equal(ask(w, FUSE_CREATE, ROOT, &c, sizeof(c), "p", 2), -ENXIO);
}

static void nodes_follow_their_names(void **state)
{
    struct world *w = *state;
    uint64_t fh, d = make_dir(w, ROOT, "d"), x = create(w, d, "x", 0644, &fh);

    assert_int_equal(renamed(w, ROOT, ROOT, "d\0b", 4, 0), 0);
    struct fuse_getattr_in g = {0};
    assert_int_equal(ask(w, FUSE_GETATTR, x, &g, sizeof(g), NULL, 0), 0); /* now b/x */
    assert_int_equal(lookup(w, lookup(w, ROOT, "b"), "x"), x);
    assert_int_equal(renamed(w, d, ROOT, "x\0a", 4, 0), 0);
    assert_int_equal(named(w, FUSE_RMDIR, ROOT, "b"), 0);
    assert_int_equal(ask(w, FUSE_GETATTR, d, &g, sizeof(g), NULL, 0), -ESTALE);
    assert_int_equal(ask(w, FUSE_GETATTR, x, &g, sizeof(g), NULL, 0), 0);
    assert_int_equal(named(w, FUSE_UNLINK, ROOT, "a"), 0);
    assert_int_equal(ask(w, FUSE_GETATTR, x, &g, sizeof(g), NULL, 0), 0); /* it is open */
    assert_int_equal(write_at(w, fh, 0, "still"), 0);
    struct fuse_release_in rel = {.fh = fh};
    assert_int_equal(ask(w, FUSE_RELEASE, x, &rel, sizeof(rel), NULL, 0), 0);
    assert_int_equal(ask(w, FUSE_GETATTR, x, &g, sizeof(g), NULL, 0), -ESTALE);
}

static void names_change_places(void **state)
{
    struct world *w = *state;
    uint64_t fh, a = create(w, ROOT, "a", 0644, &fh), d = make_dir(w, ROOT, "d");

    assert_int_equal(renamed(w, ROOT, ROOT, "a\0d", 4, 1), -EEXIST); /* NOREPLACE */
    assert_int_equal(renamed(w, ROOT, ROOT, "a\0d", 4, 4), -EINVAL); /* WHITEOUT */
    assert_int_equal(renamed(w, ROOT, ROOT, "a\0d", 4, 2), 0);
    assert_int_equal(lookup(w, ROOT, "d"), a);
    assert_int_equal(lookup(w, ROOT, "a"), d);
    assert_int_equal(renamed(w, ROOT, d, "a\0x", 4, 0), -EINVAL); /* into itself */
    assert_int_equal(renamed(w, ROOT, 12345, "a\0x", 4, 0), -ESTALE);
}

static void forgotten_nodes_are_gone(void **state)
{
    struct world *w = *state;
    uint64_t d = make_dir(w, ROOT, "d");
    struct fuse_getattr_in g = {0};
    struct fuse_forget_in f = {.nlookup = UINT64_MAX};

    assert_int_equal(ask(w, FUSE_FORGET, d, &f, sizeof(f), NULL, 0), 0);
    assert_int_equal(ask(w, FUSE_GETATTR, d, &g, sizeof(g), NULL, 0), -ESTALE);
    assert_int_equal(ask(w, FUSE_FORGET, ROOT, &f, sizeof(f), NULL, 0), 0); /* stays */
    assert_int_equal(ask(w, FUSE_GETATTR, ROOT, &g, sizeof(g), NULL, 0), 0);
    for (uint64_t id = 0; id < 1ull << 40; id = id * 3 + 2)
        assert_true(ask(w, FUSE_GETATTR, id, &g, sizeof(g), NULL, 0) == -ESTALE || id == ROOT);
}

static void folders_are_listed_in_pieces(void **state)
{
    struct world *w = *state;
    uint64_t fh, dh = 0;
    struct fuse_read_in in = {.size = 80}; /* two short names */
    char seen[64] = "";

    create(w, ROOT, "a", 0644, &fh);
    create(w, ROOT, "b", 0644, &fh);
    make_dir(w, ROOT, "d");
    assert_int_equal(open_node(w, ROOT, O_DIRECTORY, &dh), 0);
    in.fh = dh;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(w, FUSE_READDIR, ROOT, &in, sizeof(in), NULL, 0), 0);
        if (w->len == 0)
            break;
        assert_true(w->len <= 80);
        for (size_t at = 0; at < w->len;) {
            struct fuse_dirent e;

            memcpy(&e, (char *)body(w) + at, FUSE_NAME_OFFSET);
            strncat(seen, (char *)body(w) + at + FUSE_NAME_OFFSET, e.namelen);
            at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + e.namelen);
            in.offset = e.off;
        }
    }
    assert_int_equal(strlen(seen), 6); /* a b d . .. in any order */
    assert_non_null(strchr(seen, 'a'));
    assert_non_null(strchr(seen, 'd'));
    in.offset = 0;
    in.size = 4096;
    assert_int_equal(ask(w, FUSE_READDIRPLUS, ROOT, &in, sizeof(in), NULL, 0), 0);
    assert_true(w->len >= 5 * FUSE_NAME_OFFSET_DIRENTPLUS);
    in.offset = UINT64_MAX / 3; /* from nowhere: an answer, or an error */
    (void)ask(w, FUSE_READDIR, ROOT, &in, sizeof(in), NULL, 0);
}

static void attributes_are_set(void **state)
{
    struct world *w = *state;
    uint64_t fh, a = create(w, ROOT, "a", 0600, &fh);
    struct fuse_setattr_in in = {.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME,
                                 .mode = 06640,
                                 .size = 12345,
                                 .mtime = 1000000000};
    struct fuse_attr_out out;

    assert_int_equal(ask(w, FUSE_SETATTR, a, &in, sizeof(in), NULL, 0), 0);
    memcpy(&out, body(w), sizeof(out));
    assert_int_equal(out.attr.mode & 07777, 0640);
    assert_int_equal(out.attr.size, 12345);
    assert_int_equal(out.attr.mtime, 1000000000);
}

static void a_hard_link_is_the_same_file(void **state)
{
    struct world *w = *state;
    uint64_t fh, a = create(w, ROOT, "a", 0644, &fh);
    struct fuse_link_in in = {.oldnodeid = a};
    struct fuse_entry_out e;

    assert_int_equal(ask(w, FUSE_LINK, ROOT, &in, sizeof(in), "b", 2), 0);
    memcpy(&e, body(w), sizeof(e));
    assert_int_equal(e.attr.nlink, 2);
}

static void a_read_only_folder_is_not_changed(void **state)
{
    struct world *w = malloc(sizeof(*w));
    uint64_t fh = 0;
    char path[160];

    start(w, true);
    host(w, "a", path, sizeof(path));
    close(open(path, O_CREAT | O_WRONLY, 0644));
    uint64_t a = lookup(w, ROOT, "a");
    assert_int_equal(open_node(w, a, O_WRONLY, &fh), -EROFS);
    assert_int_equal(open_node(w, a, O_RDONLY | O_TRUNC, &fh), -EROFS);
    assert_int_equal(open_node(w, a, O_RDONLY, &fh), 0);
    assert_int_equal(write_at(w, fh, 0, "x"), -EROFS);
    assert_int_equal(named(w, FUSE_UNLINK, ROOT, "a"), -EROFS);
    struct fuse_setattr_in in = {.valid = FATTR_MODE};
    assert_int_equal(ask(w, FUSE_SETATTR, a, &in, sizeof(in), NULL, 0), -EROFS);
    void *p = w;
    teardown(&p);
}

static void requests_cut_short_are_refused(void **state)
{
    struct world *w = *state;

    for (uint32_t op = 0; op < 60; op++) {
        for (size_t n = 0; n < 40; n++) {
            uint8_t zero[40] = {0};

            if (op != FUSE_DESTROY)
                (void)ask(w, op, ROOT, zero, n, NULL, 0);
        }
    }
    struct iovec tiny = {w->reply, 15}, half = {w->reply, 39};
    assert_int_equal(fusefs_serve(w->f, &half, 1, &tiny, 1), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* A share of in/a alone, beside in/b. */
static void a_single_file_is_all_there_is(void **state)
{
    struct world *w = *state;
    struct fuse_open_in open_in = {.flags = O_RDWR};
    struct fuse_mkdir_in mk = {.mode = 0755};
    struct fuse_create_in cr = {.flags = O_CREAT | O_RDWR, .mode = 0644};
    struct fuse_rename_in mv = {.newdir = ROOT};
    struct fuse_link_in ln = {0};
    struct fuse_getattr_in ga = {0};
    char path[128];

    for (const char *name = "ab"; *name; name++) {
        host(w, (char[]){*name, 0}, path, sizeof(path));
        close(open(path, O_CREAT | O_WRONLY, 0644));
    }
    fusefs_free(w->f);
    host(w, "a", path, sizeof(path));
    assert_int_equal(fusefs_new(path, false, &w->f, NULL), 0);
    uint64_t a = lookup(w, ROOT, "a");
    assert_int_equal(ask(w, FUSE_OPEN, a, &open_in, sizeof(open_in), NULL, 0), 0);
    assert_int_equal(ask(w, FUSE_GETATTR, ROOT, &ga, sizeof(ga), NULL, 0), 0);
    assert_int_equal(named(w, FUSE_LOOKUP, ROOT, "b"), -ENOENT);
    assert_int_equal(named(w, FUSE_UNLINK, ROOT, "a"), -EACCES);
    assert_int_equal(named(w, FUSE_UNLINK, ROOT, "b"), -EACCES);
    assert_int_equal(ask(w, FUSE_OPENDIR, ROOT, &open_in, sizeof(open_in), NULL, 0), -EACCES);
    assert_int_equal(ask(w, FUSE_MKDIR, ROOT, &mk, sizeof(mk), "d", 2), -EACCES);
    assert_int_equal(ask(w, FUSE_CREATE, ROOT, &cr, sizeof(cr), "b", 2), -EACCES);
    assert_int_equal(ask(w, FUSE_RENAME, ROOT, &mv, sizeof(mv), "a\0b", 4), -EACCES);
    ln.oldnodeid = a;
    assert_int_equal(ask(w, FUSE_LINK, ROOT, &ln, sizeof(ln), "c", 2), -EACCES);
    assert_int_equal(named(w, FUSE_LOOKUP, a, "b"), -ENOTDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_session_is_agreed_on),
        cmocka_unit_test(without_a_folder_there_is_nothing_to_mount),
        T(files_are_made_written_and_read),
        T(a_file_nobody_may_write_is_written_by_its_maker),
        T(names_that_climb_are_no_names),
        T(symbolic_links_lead_nowhere),
        T(devices_and_pipes_are_not_opened),
        T(nodes_follow_their_names),
        T(names_change_places),
        T(forgotten_nodes_are_gone),
        T(folders_are_listed_in_pieces),
        T(attributes_are_set),
        T(a_hard_link_is_the_same_file),
        cmocka_unit_test(a_read_only_folder_is_not_changed),
        T(requests_cut_short_are_refused),
        T(a_single_file_is_all_there_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
