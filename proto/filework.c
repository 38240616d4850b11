#include "proto/filework.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/packdiff.h"
#include "proto/packread.h"
#include "proto/packwrite.h"
#include "proto/proctable.h"

static int get(const struct filework *w, struct pack_out *o, struct err *e)
{
    const struct packwrite_conf c = {
        .root = w->root,
        .path = w->path,
        .follow = (w->flags & FILEWORK_FOLLOW) != 0,
        .one_fs = (w->flags & FILEWORK_ONE_FS) != 0,
        .xattrs = true,
    };

    return packwrite(&c, o, e);
}

/* The tree's place, from what docker says about it. */
static int find_place(const struct filework *w, struct packread_dest *d, struct err *e)
{
    bool folder = (w->flags & FILEWORK_FOLDER) != 0;
    bool contents = (w->flags & (FILEWORK_CONTENTS | FILEWORK_INTO)) != 0;
    int r = packread_find_dest(w->root, true, w->path, folder, w->name, contents, d, e);

    if (r == 0 && (w->flags & FILEWORK_INTO) && d->name[0])
        r = err_set(e, -ENOENT, "no such directory: '%s'", w->path);
    return r;
}

static int put(const struct filework *w, struct err *e)
{
    struct packread_dest d = {.name = ""};
    struct pack_in *in = malloc(sizeof(*in));
    int fd = w->in, r = in ? find_place(w, &d, e) : err_errno(e, -ENOMEM, "%s", w->path);
    const struct packread_conf c = {
        .root = w->root,
        .base = d.base,
        .name = d.name[0] ? d.name : NULL,
        .follow = true,
        .keep = (w->flags & FILEWORK_KEEP) != 0,
        .devices = true,
    };

    if (r == 0) {
        pack_in_init(in, pack_fill_fd, &fd);
        r = packread(in, &c, e);
        if (w->flags & FILEWORK_SYNC)
            sync();
    }
    free(in);
    return r;
}

static bool in_image(void *ctx, const char *path)
{
    const struct filework *w = ctx;
    CLEANUP(fd) int fd = packwrite_open(w->image, path, O_PATH | O_NOFOLLOW);

    return fd >= 0;
}

static int diff(const struct filework *w, struct pack_out *o, struct err *e)
{
    const struct packdiff_conf c = {
        .upper = w->upper,
        .merged = w->root,
        .in_image = in_image,
        .ctx = (void *)w,
    };

    if (w->upper < 0 || w->image < 0)
        return err_set(e, -ENOTSUP, "the container's writable layer is not at hand");
    return packdiff(&c, o, e);
}

/* Whoever sends the tree is not to meet a closed pipe before it could read why. */
static void drain(int fd)
{
    char sink[4096];

    while (read(fd, sink, sizeof(sink)) > 0) {
    }
}

int filework_run(const struct filework *w)
{
    struct pack_out *o = malloc(sizeof(*o));
    struct err e = {0};
    int r;

    if (!o)
        return -ENOMEM;
    pack_out_init(o, w->out);
    if (w->kind == FILEWORK_GET)
        r = get(w, o, &e);
    else if (w->kind == FILEWORK_PUT)
        r = put(w, &e);
    else if (w->kind == FILEWORK_TOP)
        r = proctable_write(w->root, o, &e);
    else
        r = diff(w, o, &e);
    if (w->kind == FILEWORK_PUT)
        drain(w->in);
    r = r < 0 ? pack_put_fail(o, r, e.msg) : pack_put_end(o);
    free(o);
    return r;
}
