/* A machine that has no record: a fork, or one that was restored. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/control.h"
#include "container/machine.h"
#include "container/record.h"

static int fill(const char *base, const char *id, const json_t *info, struct record *r,
                struct err *e)
{
    const char *name = json_string_value(json_object_get(info, "name"));
    const char *engine = json_string_value(json_object_get(info, "engine"));

    *r = (struct record){.dir = -1, .lock = -1};
    if ((size_t)snprintf(r->state.run, sizeof(r->state.run), "%s/%s", base, id) >=
        sizeof(r->state.run))
        return err_errno(e, -ENAMETOOLONG, "%s/%s", base, id);
    spec_init(&r->spec);
    snprintf(r->id, sizeof(r->id), "%s", id);
    snprintf(r->name, sizeof(r->name), "%s", name && name[0] ? name : id);
    snprintf(r->state.engine, sizeof(r->state.engine), "%s", engine ? engine : "");
    r->state.pid = (pid_t)json_integer_value(json_object_get(info, "pid"));
    r->state.status =
        json_is_true(json_object_get(info, "paused")) ? RECORD_PAUSED : RECORD_RUNNING;
    return 0;
}

int record_of_machine(const char *text, struct record *r, struct err *e)
{
    char base[RUNDIR_PATH_MAX], id[RUNDIR_ID_LEN + 1];
    json_t *ask = json_pack("{s:s}", "op", "info"), *info = NULL;
    int rc = rundir_base(base, sizeof(base), e);

    if (rc == 0)
        rc = rundir_find(base, text, id, e);
    if (rc == 0)
        rc = control_ask(id, ask, &info, e);
    const char *note = json_string_value(json_object_get(info, "note"));
    if (rc == 0 && (!note || strcmp(note, MACHINE_HAS_AGENT) != 0))
        rc = err_set(e, -ENOTSUP, "machine '%s' is not a container's: nobody inside takes commands",
                     text);
    if (rc == 0)
        rc = fill(base, id, info, r, e);
    json_decref(ask);
    json_decref(info);
    return rc;
}

int record_find_running(const char *root, const char *text, struct record *r, struct err *e)
{
    struct err none;
    int rc = record_find(root, text, RECORD_LOOK, r, e);

    if (rc != -ENOENT)
        return rc;
    rc = record_of_machine(text, r, &none);
    return rc == -ENOENT ? -ENOENT : rc < 0 ? err_set(e, rc, "%s", none.msg) : 0;
}
