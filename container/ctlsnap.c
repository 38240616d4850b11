/* `kiln snapshot create`: the files are made here and filled by the machine, which can open none.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/ctlask.h"
#include "vm/snapout.h"

static uint32_t own_disks(const json_t *info)
{
    uint32_t own = 0;
    size_t i;
    json_t *n;

    json_array_foreach(json_object_get(info, "own_disks"), i, n)
    {
        json_int_t k = json_integer_value(n);

        if (k >= 0 && k < VM_DISKS_MAX)
            own |= 1u << k;
    }
    return own;
}

static json_t *request(const struct snap_opts *o, const struct snap_files *f)
{
    json_t *req =
        json_pack("{s:s, s:b, s:b}", "op", "snapshot", "compress", o->compress, "stop", o->stop);

    if (f->parent) {
        json_object_set_new(req, "parent", json_string(f->parent));
        json_object_set_new(req, "parent_id", json_string(f->parent_id));
    }
    return req;
}

static int say(int fd, const char *op, json_t **answer, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", op);
    int r = ctlask_on(fd, req, NULL, answer, e);

    json_decref(req);
    return r;
}

static int fill(int fd, const struct snap_opts *o, struct snapout *out, json_t **answer,
                struct err *e)
{
    struct snap_files f = snapout_files(out);
    struct ctlwire_fds fds = {.fd = {f.state, f.memory}, .n = 2};
    json_t *req = request(o, &f), *stopped = NULL;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (f.disk[i] >= 0)
            fds.fd[fds.n++] = f.disk[i];
    int r = ctlask_on(fd, req, &fds, answer, e);
    json_decref(req);
    if (r == 0)
        r = snapout_finish(out, e);
    /* Only now: a machine whose snapshot has no name goes on. */
    if (r == 0 && o->stop)
        r = say(fd, "stop", &stopped, e);
    json_decref(stopped);
    return r;
}

int ctlsnap_ask(const char *machine, const json_t *req, json_t **answer, struct err *e)
{
    struct snap_opts o = {.dir = json_string_value(json_object_get(req, "dir")),
                          .parent = json_string_value(json_object_get(req, "parent")),
                          .compress = json_is_true(json_object_get(req, "compress")),
                          .stop = json_is_true(json_object_get(req, "stop"))};
    struct snapout *out = NULL;
    json_t *info = NULL;

    if (!o.dir || o.dir[0] != '/')
        return err_set(e, -EINVAL, "a snapshot needs the absolute path of its folder");
    CLEANUP(fd) int fd = ctlask_connect(machine, e);
    int r = fd < 0 ? fd : say(fd, "info", &info, e);
    if (r == 0)
        r = snapout_new(&o, own_disks(info), &out, e);
    if (r == 0) {
        r = fill(fd, &o, out, answer, e);
        if (r < 0)
            err_wrap(e, r, "snapshot '%s'", o.dir);
    }
    snapout_free(out);
    json_decref(info);
    return r;
}
