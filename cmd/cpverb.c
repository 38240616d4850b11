/* kiln cp: files into a container and out of it, by docker's rules. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/ctrfiles.h"
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/files.h"
#include "container/packtar.h"
#include "proto/packread.h"
#include "proto/packwrite.h"

struct cp_args {
    bool archive, follow, quiet;
};

#define A struct cp_args
static const struct flag flags[] = {
    {"archive", 'a', NULL, "with owners, set-id bits and attributes", FLAG_BOOL(A, archive)},
    {"follow-link", 'L', NULL, "a link as SOURCE means what it leads to", FLAG_BOOL(A, follow)},
    {"quiet", 'q', NULL, "accepted: nothing is said", FLAG_BOOL(A, quiet)},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_cp = {
    .name = "cp",
    .operands = "CONTAINER:SOURCE DEST|- or SOURCE|- CONTAINER:DEST",
    .summary = "copy files between a container and this host",
    .about =
        "Copies a file or a folder with all that is in it. With '-' a tar is read from standard\n"
        "input into a folder of the container, or one of SOURCE is written to standard output.\n"
        "A folder is copied under its name into DEST if that is a folder, and as DEST if there\n"
        "is none; SOURCE/. means what is in it. The container may run or not.",
    .groups = {{&group}},
    .min_operands = 2,
    .max_operands = 2,
    .values = "@container: @file",
    .run = run,
};

struct place {
    char *container; /* owned; NULL = this host */
    const char *path;
};

/* As docker: what begins with a slash or a dot is a path, what has a colon a container's. */
static int parse_place(const char *text, struct place *p, struct err *e)
{
    const char *colon = strchr(text, ':');

    *p = (struct place){.path = text};
    if (text[0] == '/' || text[0] == '.' || !colon)
        return 0;
    if (colon == text || !colon[1])
        return err_set(e, -EINVAL, "'%s': write CONTAINER:PATH", text);
    p->container = strndup(text, (size_t)(colon - text));
    p->path = colon + 1;
    return p->container ? 0 : err_errno(e, -ENOMEM, "%s", text);
}

static bool wants_contents(const char *path)
{
    size_t n = strlen(path);

    return strcmp(path, ".") == 0 || strcmp(path, "/") == 0 ||
           (n >= 2 && strcmp(path + n - 2, "/.") == 0);
}

/* What a copy of this path is called. */
static void name_of(const char *path, char name[256])
{
    CLEANUP(mem) char *whole = realpath(path, NULL);
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t cut = n;
    while (cut > 0 && path[cut - 1] != '/')
        cut--;
    snprintf(name, 256, "%.*s", (int)(n - cut), path + cut);
    if (!name[0] || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        snprintf(name, 256, "%s", whole && strrchr(whole, '/') ? strrchr(whole, '/') + 1 : "root");
}

/* ---- out of it */

/* A tree whose root has been read, onto this host. */
static int unpack_here(struct pack_in *in, const struct pack_record *first, const char *from,
                       const char *dest, const struct cp_args *a, struct err *e)
{
    bool folder = first->entry.type == PACK_DIR;
    struct packread_dest d;
    char name[256];

    name_of(from, name);
    int r = packread_find_dest(AT_FDCWD, false, dest, folder, name, wants_contents(from), &d, e);
    if (r < 0)
        return r;
    CLEANUP(fd) int dir = open(d.base[0] ? d.base : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(e, -errno, "%s", d.base);
    const struct packread_conf c = {
        .root = dir,
        .base = "",
        .name = d.name[0] ? d.name : NULL,
        .keep = a->archive,
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
        .first = first,
    };
    return packread(in, &c, e);
}

static int take_out(struct files_at *at, const char *path, const char *dest,
                    const struct cp_args *a, struct err *e)
{
    CLEANUP(mem) struct pack_in *in = calloc(1, sizeof(*in));
    CLEANUP(mem) struct pack_record *first = calloc(1, sizeof(*first));
    struct files f;
    char name[256];

    if (!in || !first)
        return err_errno(e, -ENOMEM, "cp");
    int r = files_begin(at, FILEWORK_GET, a->follow ? FILEWORK_FOLLOW : 0, path, "", &f, e);
    if (r < 0)
        return r;
    pack_in_init(in, pack_fill_fd, &f.out);
    r = pack_next(in, first, e);
    if (r == -ENOENT)
        err_set(e, r, "could not find the file %s in the container", path);
    if (r == 0 && first->kind != PACK_ENTRY)
        r = err_set(e, -EBADMSG, "a stream of files is damaged");
    name_of(path, name);
    if (r == 0 && strcmp(dest, "-") == 0)
        r = packtar_write(in, first, wants_contents(path) ? "." : name, false, 1, e);
    else if (r == 0)
        r = unpack_here(in, first, path, dest, a, e);
    files_end(&f);
    return r;
}

/* ---- into it */

/* What became of it; `sent` is what sending said. */
static int hear(struct files *f, int sent, struct err *e)
{
    CLEANUP(mem) struct pack_in *in = calloc(1, sizeof(*in));
    CLEANUP(mem) struct pack_record *rec = calloc(1, sizeof(*rec));
    struct err theirs = {0};

    if (!in || !rec)
        return err_errno(e, -ENOMEM, "cp");
    pack_in_init(in, pack_fill_fd, &f->out);
    int r = pack_next(in, rec, &theirs);
    if (r == 0 || (sent < 0 && sent != -EPIPE))
        return sent;
    return err_set(e, r, "%s", theirs.msg);
}

static int pack_here(const char *path, const struct cp_args *a, struct pack_out *o, struct err *e)
{
    CLEANUP(fd) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(mem) char *whole = NULL;
    char here[PATH_MAX];

    if (path[0] != '/' &&
        (!getcwd(here, sizeof(here)) || asprintf(&whole, "%s/%s", here, path) < 0))
        return err_errno(e, -errno, "%s", path);
    const struct packwrite_conf c = {
        .root = root, .path = whole ? whole : path, .follow = a->follow, .xattrs = a->archive};
    return packwrite(&c, o, e);
}

static int put_in(struct files_at *at, const char *from, const char *dest, const struct cp_args *a,
                  struct err *e)
{
    CLEANUP(mem) struct pack_out *o = calloc(1, sizeof(*o));
    bool tar = strcmp(from, "-") == 0;
    unsigned work = a->archive ? FILEWORK_KEEP : 0;
    struct stat st = {0};
    struct files f;
    char name[256] = "";

    if (!o)
        return err_errno(e, -ENOMEM, "cp");
    if (!tar && (a->follow ? stat(from, &st) : lstat(from, &st)) < 0)
        return err_errno(e, -errno, "%s", from);
    if (tar)
        work |= FILEWORK_INTO | FILEWORK_FOLDER | FILEWORK_KEEP;
    else
        name_of(from, name);
    if (S_ISDIR(st.st_mode))
        work |= FILEWORK_FOLDER | (wants_contents(from) ? FILEWORK_CONTENTS : 0);
    int r = files_begin(at, FILEWORK_PUT, work, dest, name, &f, e);
    if (r < 0)
        return r;
    pack_out_init(o, f.in);
    r = tar ? packtar_read(0, o, e) : pack_here(from, a, o, e);
    if (r == 0) {
        r = pack_put_end(o);
        if (r < 0)
            err_errno(e, r, "write");
    } else {
        (void)!pack_put_fail(o, r, e->msg);
    }
    close(f.in);
    f.in = -1;
    r = hear(&f, o->failed == -EPIPE ? -EPIPE : r, e);
    files_end(&f);
    return r;
}

/* ---- */

static int copy(const struct place *from, const struct place *to, const struct cp_args *a,
                struct err *e)
{
    struct files_at *at = NULL;
    struct record r;

    if (from->container && to->container)
        return err_set(e, -EINVAL, "copying between containers is not supported");
    if (!from->container && !to->container)
        return err_set(e, -EINVAL, "must specify at least one container source");
    int rc = ctrfiles_find(from->container ? from->container : to->container, &r, e);
    if (rc < 0)
        return rc;
    rc = files_enter(NULL, &r, &at, e);
    if (rc == 0)
        rc = from->container ? take_out(at, from->path, to->path, a, e)
                             : put_in(at, from->path, to->path, a, e);
    files_leave(at);
    record_done(&r);
    return rc;
}

static int run(int argc, char **argv)
{
    struct cp_args a = {0};
    struct place from = {0}, to = {0};
    struct err e = {0};
    int at = flag_parse(&command_cp, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_cp, at, &e);
    int r = parse_place(argv[at], &from, &e);
    if (r == 0)
        r = parse_place(argv[at + 1], &to, &e);
    if (r == 0)
        r = copy(&from, &to, &a, &e);
    free(from.container);
    free(to.container);
    return r < 0 ? say_err(&e, 1) : 0;
}
