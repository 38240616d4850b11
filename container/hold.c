#include "container/hold.h"

#include <errno.h>
#include <string.h>

#include "container/control.h"
#include "container/machine.h"
#include "container/session.h"

enum { AGENT_MS = 30000 }; /* for the agent to answer; the host may be busy */

/* *s stays NULL where there is nobody to ask. */
static int hold(const char *vsock, struct session **s, struct err *e)
{
    static const struct session_watch none = {.machine_fd = -1, .signal_fd = -1};
    int r = session_open(vsock, -1, &none, AGENT_MS, s, e);

    if (r == 0)
        r = session_hold(*s, e);
    return r == -ENOTSUP ? 0 : r;
}

int hold_ask(const char *machine, const json_t *req, json_t **answer, struct err *e)
{
    json_t *ask = json_pack("{s:s}", "op", "info"), *info = NULL;
    struct session *s = NULL;
    int r = control_ask(machine, ask, &info, e);

    json_decref(ask);
    const char *note = json_string_value(json_object_get(info, "note"));
    const char *vsock = json_string_value(json_object_get(info, "vsock"));
    bool paused = json_is_true(json_object_get(info, "paused"));
    if (r == 0 && note && strcmp(note, MACHINE_HAS_AGENT) == 0 && vsock && vsock[0] && !paused)
        r = hold(vsock, &s, e);
    if (r == 0)
        r = control_ask(machine, req, answer, e);
    session_close(s);
    json_decref(info);
    return r;
}
