#include "vm/snapout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vm/snapdir.h"
#include "vm/snapopen.h"

struct snapout {
    struct snapdir dir;
    struct snap_files f; /* descriptors owned */
    char *parent;        /* owned */
};

static int take_parent(struct snapout *s, const char *dir, struct err *e)
{
    struct snapshot *p;
    int r = snapshot_open(dir, &p, e);

    if (r < 0)
        return r;
    memcpy(s->f.parent_id, p->f.id, sizeof(s->f.parent_id));
    s->parent = strdup(p->path);
    s->f.parent = s->parent;
    snapshot_close(p);
    return s->parent ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int make_files(struct snapout *s, bool compress, uint32_t disks, struct err *e)
{
    char name[16];

    s->f.state = snapdir_create(&s->dir, "state", e);
    if (s->f.state < 0)
        return s->f.state;
    s->f.memory = snapdir_create(&s->dir, compress ? "memory.zst" : "memory", e);
    if (s->f.memory < 0)
        return s->f.memory;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (!(disks >> i & 1))
            continue;
        snprintf(name, sizeof(name), "disk%u", i);
        s->f.disk[i] = snapdir_create(&s->dir, name, e);
        if (s->f.disk[i] < 0)
            return s->f.disk[i];
    }
    return 0;
}

int snapout_new(const struct snap_opts *o, uint32_t disks, struct snapout **ret, struct err *e)
{
    struct snapout *s = calloc(1, sizeof(*s));

    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    s->dir = SNAPDIR_NONE;
    s->f = SNAP_FILES_NONE;
    int r = o->parent ? take_parent(s, o->parent, e) : 0;
    if (r == 0)
        r = snapdir_new(o->dir, &s->dir, e);
    if (r == 0)
        r = make_files(s, o->compress, disks, e);
    if (r < 0) {
        snapout_free(s);
        return err_wrap(e, r, "snapshot '%s'", o->dir);
    }
    *ret = s;
    return 0;
}

struct snap_files snapout_files(const struct snapout *s)
{
    return s->f;
}

int snapout_finish(struct snapout *s, struct err *e)
{
    return snapdir_finish(&s->dir, e);
}

void snapout_free(struct snapout *s)
{
    if (!s)
        return;
    snapdir_abandon(&s->dir);
    cleanup_fd(&s->f.state);
    cleanup_fd(&s->f.memory);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        cleanup_fd(&s->f.disk[i]);
    free(s->parent);
    free(s);
}
