/* What a container of the process class changed: its upper folder is on this host, the image is a
 * file of which squashfs-tools list the names. */
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/files_priv.h"
#include "image/helper.h"
#include "proto/packdiff.h"

enum { NAMES_MAX = 4000000 };
#define TOP "squashfs-root" /* what the lister puts in front */

struct names {
    char **list;
    size_t n, cap;
    bool failed;
};

static void add_line(void *ctx, const char *line)
{
    struct names *v = ctx;
    size_t top = strlen(TOP);

    if (v->failed || strncmp(line, TOP "/", top + 1) != 0)
        return;
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 4096;
        char **more = cap <= NAMES_MAX ? reallocarray(v->list, cap, sizeof(*more)) : NULL;

        if (!more) {
            v->failed = true;
            return;
        }
        v->list = more;
        v->cap = cap;
    }
    v->list[v->n] = strdup(line + top + 1);
    v->failed = !v->list[v->n];
    v->n += !v->failed;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_names(const char *rootfs, struct names *v, struct err *e)
{
    const char *argv[] = {"unsquashfs", "-l", "-d", TOP, rootfs, NULL};
    struct helper h;
    int r = helper_start(&h, argv, NULL, "squashfs-tools", false, true, e);

    if (r < 0)
        return r;
    helper_drain(&h, add_line, v);
    r = helper_end(&h, e);
    if (r == 0 && v->failed)
        r = err_errno(e, -ENOMEM, "the image's names");
    if (v->n > 0)
        qsort(v->list, v->n, sizeof(*v->list), compare);
    return r;
}

static bool in_image(void *ctx, const char *path)
{
    const struct names *v = ctx;

    return v->n > 0 && bsearch(&path, v->list, v->n, sizeof(*v->list), compare);
}

int fileslayer_write(const struct files_at *at, int out)
{
    struct pack_out *o = malloc(sizeof(*o));
    struct names names = {0};
    struct err e = {0};
    CLEANUP(fd) int upper = openat(at->r->dir, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (!o)
        return -ENOMEM;
    pack_out_init(o, out);
    struct packdiff_conf c = {.upper = upper, .merged = -1, .in_image = in_image, .ctx = &names};
    int r = upper >= 0 || errno == ENOENT ? 0 : err_errno(&e, -errno, "the writable layer");
    if (r == 0 && at->r->spec.storage_memory)
        r = err_set(&e, -ENOTSUP, "the writable layer is in memory");
    if (r == 0)
        r = list_names(at->rootfs, &names, &e);
    if (r == 0 && upper >= 0)
        r = packdiff(&c, o, &e);
    r = r < 0 ? pack_put_fail(o, r, e.msg) : pack_put_end(o);
    for (size_t i = 0; i < names.n; i++)
        free(names.list[i]);
    free(names.list);
    free(o);
    return r;
}
