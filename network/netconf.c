#include "network/netconf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "network/leases.h"
#include "network/minder.h"
#include "network/netlock.h"

enum { JSON_BYTES_MAX = 1 << 20 }; /* of config.json */

void netconf_done(struct netconf *c)
{
    strv_done(&c->labels);
    *c = (struct netconf){0};
}

int netconf_check_name(const char *name, struct err *e)
{
    static const char *const modes[] = {"none", "host", "user",      "bridge",     "default",
                                        "ns",   "tap",  "container", "vhost-user", NULL};
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(name);

    if (n == 0 || n > NETWORK_NAME_MAX || strspn(name, set) != n || strchr("_.-", name[0]))
        return err_set(e, -EINVAL,
                       "'%s' is not a network's name: letters, digits, '_', '.', '-', at most %d",
                       name, NETWORK_NAME_MAX);
    for (size_t i = 0; modes[i]; i++)
        if (strcmp(name, modes[i]) == 0)
            return err_set(e, -EPERM, "operation is not permitted on predefined %s network", name);
    return 0;
}

/* The network's folder; -ENOENT without a message: there is none. */
static int open_folder(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int load(int dir, const char *name, struct netconf *out, struct err *e)
{
    CLEANUP(fd) int fd = open_folder(dir, name);
    CLEANUP(mem) char *text = NULL;
    size_t len;
    json_error_t why;

    if (fd < 0)
        return err_set(e, fd, "network %s not found", name);
    int r = netlock_read(fd, "config.json", JSON_BYTES_MAX, &text, &len, e);
    if (r < 0)
        return err_wrap(e, r, "network %s", name);
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!j)
        return err_set(e, -EBADMSG, "network %s: config.json: line %d: %s", name, why.line,
                       why.text);
    r = netconf_from_json(j, out, e);
    json_decref(j);
    return r < 0 ? err_wrap(e, r, "network %s: config.json", name) : 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct netconf *)a)->name, ((const struct netconf *)b)->name);
}

static void list_done(struct netconf *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        netconf_done(&list[i]);
    free(list);
}

/* One that is damaged or half removed is left out. */
static int list_in(int dir, struct netconf **list, size_t *n, struct err *e)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    struct netconf *v = NULL;
    struct dirent *de;
    size_t count = 0;

    if (!d)
        return err_errno(e, -errno, "networks");
    while ((de = readdir(d)) && count < NETCONF_MAX) {
        struct netconf c;

        if (de->d_name[0] == '.' || load(dir, de->d_name, &c, NULL) < 0)
            continue;
        struct netconf *more = realloc(v, (count + 1) * sizeof(*v));
        if (!more) {
            netconf_done(&c);
            list_done(v, count);
            return err_errno(e, -ENOMEM, "networks");
        }
        v = more;
        v[count++] = c;
    }
    if (count)
        qsort(v, count, sizeof(*v), compare);
    *list = v;
    *n = count;
    return 0;
}

int netconf_list(const char *store, struct netconf **list, size_t *n, struct err *e)
{
    CLEANUP(fd) int dir = netlock_folder(store, e);

    return dir < 0 ? dir : list_in(dir, list, n, e);
}

static int find_in(int dir, const char *text, struct netconf *out, struct err *e)
{
    struct netconf *list, *found = NULL;
    size_t n;
    int r;

    if (text[0] && !strchr(text, '/') && text[0] != '.' && load(dir, text, out, NULL) == 0)
        return 0;
    r = list_in(dir, &list, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (!text[0] || strncmp(list[i].id, text, strlen(text)) != 0)
            continue;
        if (found)
            r = err_set(e, -EINVAL, "network %s is ambiguous (2 matches found on ID prefix)", text);
        found = &list[i];
    }
    if (r == 0 && !found)
        r = err_set(e, -ENOENT, "network %s not found", text);
    if (r == 0) {
        *out = *found;
        *found = (struct netconf){0};
    }
    list_done(list, n);
    return r;
}

int netconf_find(const char *store, const char *text, struct netconf *out, struct err *e)
{
    CLEANUP(fd) int dir = netlock_folder(store, e);

    return dir < 0 ? dir : find_in(dir, text, out, e);
}

static int save(int dir, const struct netconf *c, struct err *e)
{
    if (mkdirat(dir, c->name, 0755) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "network %s", c->name);
    CLEANUP(fd) int fd = open_folder(dir, c->name);
    if (fd < 0)
        return err_errno(e, fd, "network %s", c->name);
    json_t *j = netconf_to_json(c);
    CLEANUP(mem) char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!text)
        return err_errno(e, -ENOMEM, "network %s", c->name);
    int r = netlock_write(fd, "config.json", text, strlen(text), e);
    if (r < 0)
        (void)unlinkat(dir, c->name, AT_REMOVEDIR);
    return r;
}

static int create_in(int dir, const char *name, const struct netconf_want *w, struct netconf *out,
                     struct err *e)
{
    struct netconf *list, c = {0};
    size_t n;
    int r = list_in(dir, &list, &n, e);

    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            r = err_set(e, -EEXIST, "network with name %s already exists", name);
    if (r == 0 && n == NETCONF_MAX)
        r = err_set(e, -ENOSPC, "there are %d networks", NETCONF_MAX);
    if (r == 0)
        r = netconf_plan(name, w, list, n, &c, e);
    list_done(list, n);
    if (r == 0)
        r = save(dir, &c, e);
    if (r < 0)
        netconf_done(&c);
    else
        *out = c;
    return r;
}

int netconf_create(const char *store, const char *name, const struct netconf_want *w,
                   struct netconf *out, struct err *e)
{
    CLEANUP(netlock) struct netlock l = NETLOCK_NONE;
    int r = netconf_check_name(name, e);

    if (r == 0)
        r = netlock_take(store, &l, e);
    return r < 0 ? r : create_in(l.dir, name, w, out, e);
}

static const struct netconf_want usual = {.ipv6 = true};

int netconf_move(const struct netlock *l, struct netconf *c, struct err *e)
{
    struct netconf new;
    CLEANUP(fd) int fd = open_folder(l->dir, c->name);

    if (fd >= 0 && faccessat(fd, "leases", F_OK, 0) == 0)
        return err_set(e, -EBUSY, "network %s has active endpoints", c->name);
    if (fd < 0 || unlinkat(fd, "config.json", 0) < 0)
        return err_errno(e, -errno, "network %s", c->name);
    int r = create_in(l->dir, c->name, &usual, &new, e);
    if (r == 0) {
        netconf_done(c);
        *c = new;
    }
    return r;
}

int netconf_use(const struct netlock *l, const char *name, struct netconf *out, struct err *e)
{
    struct err why;
    int r = find_in(l->dir, name, out, &why);

    if (r == -ENOENT && strcmp(name, NETCONF_DEFAULT) == 0)
        return create_in(l->dir, name, &usual, out, e);
    return r < 0 ? err_set(e, r, "%s", why.msg) : 0;
}

int netconf_leases(const char *store, const struct netconf *c, struct leases *out, struct err *e)
{
    CLEANUP(fd) int dir = netlock_folder(store, e);
    CLEANUP(fd) int fd = dir < 0 ? -1 : open_folder(dir, c->name);

    if (dir < 0)
        return dir;
    return fd < 0 ? err_errno(e, fd, "network %s", c->name) : leases_load(fd, out, e);
}

int netconf_remove(const char *store, const char *text, struct err *e)
{
    CLEANUP(netlock) struct netlock l = NETLOCK_NONE;
    struct leases on = {0};
    struct netconf c;
    int r = netlock_take(store, &l, e);

    if (r == 0)
        r = find_in(l.dir, text, &c, e);
    if (r < 0)
        return r;
    if (strcmp(c.name, NETCONF_DEFAULT) == 0)
        r = err_set(e, -EPERM, "%s is a pre-defined network and cannot be removed", c.name);
    CLEANUP(fd) int fd = open_folder(l.dir, c.name);
    if (r == 0)
        r = leases_load(fd, &on, e);
    if (r == 0 && on.n > 0)
        r = err_set(e, -EBUSY, "network %s has active endpoints: %s%s%s", c.name,
                    on.v[0].name[0] ? on.v[0].name : on.v[0].id, on.n > 1 ? ", " : "",
                    on.n > 1 ? on.v[1].name : "");
    leases_done(&on);
    /* Without its configuration it is no network; the rest may go as it likes. */
    if (r == 0 && unlinkat(fd, "config.json", 0) < 0)
        r = err_errno(e, -errno, "network %s", c.name);
    if (r == 0) {
        minder_stop(&c, fd);
        (void)unlinkat(l.dir, c.name, AT_REMOVEDIR);
    }
    netconf_done(&c);
    return r;
}
