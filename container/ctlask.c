/* The client of a machine's control socket. */
#include "container/ctlask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/control.h"

enum { SEND_MS = 5000 };

int ctlask_connect(const char *machine, struct err *e)
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

pid_t ctlask_peer(int fd)
{
    struct ucred u;
    socklen_t len = sizeof(u);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 ? u.pid : -1;
}

int ctlask_read(const char *line, json_t **answer, struct err *e)
{
    json_t *v = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(e, -ECONNRESET, "it does not speak this protocol");
    }
    if (json_is_true(json_object_get(v, "ok")) || json_is_true(json_object_get(v, "ready"))) {
        *answer = v;
        return 0;
    }
    const char *why = json_string_value(json_object_get(v, "error"));
    json_int_t code = json_integer_value(json_object_get(v, "code"));
    int r = err_set(e, code < 0 && code > -4096 ? (int)code : -EIO, "%s", why ? why : "refused");
    json_decref(v);
    return r;
}

int ctlask_on(int fd, const json_t *req, const struct ctlwire_fds *fds, json_t **answer,
              struct err *e)
{
    int r = ctlwire_write_fds(fd, req, fds, SEND_MS, e);

    if (r < 0)
        return r;
    CLEANUP(mem) char *line = ctlwire_read_fds(fd, -1, -1, NULL, e);
    if (!line)
        return err_set(e, -ECONNRESET, "the machine ended, or does not speak this protocol");
    return ctlask_read(line, answer, e);
}

int control_ask(const char *machine, const json_t *req, json_t **answer, struct err *e)
{
    const char *op = json_string_value(json_object_get(req, "op"));

    if (op && strcmp(op, "snapshot") == 0)
        return ctlsnap_ask(machine, req, answer, e);
    if (op && strcmp(op, "fork") == 0)
        return ctlfork_ask(machine, req, answer, e);
    CLEANUP(fd) int fd = ctlask_connect(machine, e);
    int r = fd < 0 ? fd : ctlask_on(fd, req, NULL, answer, e);
    if (r == 0 && op && strcmp(op, "info") == 0)
        json_object_set_new(*answer, "pid", json_integer(ctlask_peer(fd)));
    return r;
}
