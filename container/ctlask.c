/* The client of a machine's control socket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/control.h"
#include "container/ctlwire.h"

enum { SEND_MS = 5000 };

static int connect_to(const char *machine, struct err *e)
{
    char base[RUNDIR_PATH_MAX], path[2 * RUNDIR_PATH_MAX], id[RUNDIR_ID_LEN + 1];
    struct sockaddr_un a;
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_find(base, machine, id, e);
    if (r == 0) {
        snprintf(path, sizeof(path), "%s/%s", base, id);
        r = ctlwire_address(path, "control", &a, e);
    }
    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        return err_errno(e, -errno, "machine '%s': %s", machine, a.sun_path);
    return take_fd(&fd);
}

int control_ask(const char *machine, const json_t *req, json_t **answer, struct err *e)
{
    CLEANUP(fd) int fd = connect_to(machine, e);
    int r = fd < 0 ? fd : ctlwire_write(fd, req, SEND_MS, e);

    if (r < 0)
        return r;
    CLEANUP(mem) char *line = ctlwire_read(fd, -1, -1, e);
    json_t *v = line ? json_loads(line, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(e, -ECONNRESET, "machine '%s' ended, or does not speak this protocol",
                       machine);
    }
    if (json_is_true(json_object_get(v, "ok"))) {
        *answer = v;
        return 0;
    }
    const char *why = json_string_value(json_object_get(v, "error"));
    json_int_t code = json_integer_value(json_object_get(v, "code"));
    r = err_set(e, code < 0 && code > -4096 ? (int)code : -EIO, "%s", why ? why : "refused");
    json_decref(v);
    return r;
}
