/* Making, entering, finding and removing groups. */
#include "jail/cgroup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/cgroup_priv.h"

enum {
    POLL_MS = 2,
    DEPTH_MAX = 32, /* of groups below a group */
};

static bool good_id(const char *id)
{
    size_t n = strlen(id);

    if (n == 0 || n > CGROUP_ID_MAX || id[0] == '.')
        return false;
    for (; *id; id++)
        if (!isalnum((unsigned char)*id) && !strchr("-_.", *id))
            return false;
    return true;
}

/* OCI's cgroupsPath: no part of it may lead up. */
static bool good_path(const char *path)
{
    size_t n = strlen(path);

    return n > 0 && n < CGROUP_PATH_MAX && strcmp(path, "/") != 0 && !strstr(path, "..") &&
           !strchr(path, '\n');
}

/* ---- making */

struct making {
    const struct cgroup_host *host;
    const struct cgroup_limits *limits;
    const char *path; /* below the parent of each hierarchy, without a leading slash */
    unsigned wanted;  /* controllers, bit n = controller n */
    struct cgroup c;
};

static int join(char out[CGROUP_PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(out, CGROUP_PATH_MAX, "%s/%s", dir, name);

    return n < 0 || n >= CGROUP_PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool has_processes(const char *dir)
{
    char text[32];

    return cgroup_file_get(dir, "cgroup.procs", text, sizeof(text)) > 0;
}

/* The last component is ours and made anew; those before it may be there. Returns 1 when a folder
 * in a test's tree was there. */
static int make_folder(const char *dir)
{
    char part[CGROUP_PATH_MAX];
    size_t len = strlen(dir);

    if (mkdir(dir, 0755) == 0)
        return 0;
    if (errno == ENOENT) {
        for (size_t i = 1; i < len; i++) {
            if (dir[i] != '/')
                continue;
            memcpy(part, dir, i);
            part[i] = '\0';
            if (mkdir(part, 0755) < 0 && errno != EEXIST && errno != EROFS)
                return -errno;
        }
        return mkdir(dir, 0755) < 0 ? -errno : 0;
    }
    if (errno != EEXIST)
        return -errno;
    if (has_processes(dir) || (rmdir(dir) < 0 && errno == EBUSY))
        return -EEXIST;
    return mkdir(dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static bool on_v2(const struct cgroup_host *h, unsigned k)
{
    return h->own[k][0] && strcmp(h->own[k], h->own[CGROUP_UNIFIED]) == 0;
}

/* A v1 folder for controller k, unless one it shares is made already. */
static int make_v1(struct making *m, unsigned k)
{
    char dir[CGROUP_PATH_MAX];
    int r = join(dir, m->host->own[k], m->path);

    for (unsigned j = 0; r == 0 && j < CGROUP_CONTROLLERS; j++)
        if (strcmp(m->c.path[j], dir) == 0) {
            memcpy(m->c.path[k], dir, sizeof(dir));
            return 0;
        }
    if (r == 0)
        r = make_folder(dir);
    if (r == 0)
        memcpy(m->c.path[k], dir, sizeof(dir));
    return r;
}

/* A v1 group of cpuset begins without CPUs and memory, and nothing can enter it. */
static int fill_cpuset(const struct making *m)
{
    static const char *const file[] = {"cpuset.cpus", "cpuset.mems"};
    char text[512];
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(file); i++) {
        r = cgroup_file_get(m->host->own[CGROUP_CPUSET], file[i], text, sizeof(text));
        if (r >= 0)
            r = cgroup_file_put(m->c.path[CGROUP_CPUSET], file[i], text);
    }
    return r;
}

/* Give controllers to the children of `dir`. Returns those that they have then. A group with
 * processes of its own cannot (cgroup-v2.rst, "No Internal Process Constraint"), but for the root,
 * which has no cgroup.type. */
static unsigned give(const struct making *m, const char *dir)
{
    char text[512], want[32], *p = text;
    unsigned given = 0;

    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
        if (!(m->wanted & (1U << i)) || !on_v2(m->host, i))
            continue;
        snprintf(want, sizeof(want), "+%s", i == CGROUP_IO ? "io" : cgroup_controller_name(i));
        (void)!cgroup_file_put(dir, "cgroup.subtree_control", want);
    }
    if (cgroup_file_get(dir, "cgroup.subtree_control", text, sizeof(text)) < 0)
        return 0;
    for (char *word; (word = strsep(&p, " \n"));)
        for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
            const char *name = i == CGROUP_IO ? "io" : cgroup_controller_name(i);

            if (on_v2(m->host, i) && strcmp(word + (word[0] == '+'), name) == 0)
                given |= 1U << i;
        }
    return given;
}

static int take_v2(struct making *m, const char *parent, unsigned given)
{
    char dir[CGROUP_PATH_MAX];
    int r = join(dir, parent, m->path);

    if (r < 0)
        return r;
    /* Each group on the way has to hand the controllers on. */
    for (size_t i = strlen(parent) + 1; dir[i]; i++) {
        if (dir[i] != '/')
            continue;
        dir[i] = '\0';
        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
            return -errno;
        given &= give(m, dir);
        dir[i] = '/';
    }
    r = make_folder(dir);
    if (r < 0)
        return r;
    memcpy(m->c.path[CGROUP_UNIFIED], dir, sizeof(dir));
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        if (given & (1U << i))
            memcpy(m->c.path[i], dir, sizeof(dir));
    return 0;
}

/* Below the caller's group, else below the nearest ancestor that has what the limits need. */
static int make_v2(struct making *m)
{
    const struct cgroup_host *h = m->host;
    char parent[CGROUP_PATH_MAX];
    unsigned needs = 0;
    int first = -EACCES;

    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        if (on_v2(h, i))
            needs |= cgroup_needs(m->limits) & (1U << i);
    memcpy(parent, h->own[CGROUP_UNIFIED], sizeof(parent));
    for (;;) {
        unsigned given = give(m, parent);

        if ((needs & ~given) == 0) {
            int r = take_v2(m, parent, given);

            if (r == 0 || r == -EEXIST)
                return r;
            first = r;
        }
        char *slash = strrchr(parent, '/');
        if (strlen(parent) <= strlen(h->top[CGROUP_UNIFIED]) || !slash)
            return first;
        *slash = '\0';
    }
}

static int make_all(struct making *m, struct err *e)
{
    const struct cgroup_host *h = m->host;
    bool v2 = h->layout == CGROUP_V2;
    int r = 0;

    for (unsigned k = 0; k < CGROUP_CONTROLLERS; k++) {
        if (!(m->wanted & (1U << k)) || !h->own[k][0])
            continue;
        v2 = v2 || on_v2(h, k);
        if (on_v2(h, k))
            continue;
        r = make_v1(m, k);
        if (r == 0 && k == CGROUP_CPUSET)
            r = fill_cpuset(m);
        if (r < 0)
            return err_errno(e, r, "control group %s in %s", m->path, h->own[k]);
    }
    /* A hybrid host's v2 is for what v1 has not. */
    v2 = v2 || (h->layout == CGROUP_HYBRID && !h->own[CGROUP_FREEZER][0]);
    if (v2)
        r = make_v2(m);
    return r < 0 ? err_errno(e, r, "control group %s in %s", m->path, h->own[CGROUP_UNIFIED]) : 0;
}

static int make(struct making *m, struct cgroup *out, struct err *e)
{
    bool asked = cgroup_needs(m->limits) != 0;
    struct err why = {0};

    if (m->host->layout == CGROUP_NONE)
        return asked ? err_set(e, -EOPNOTSUPP,
                               "limits need control groups, and none are mounted on this host")
                     : 0;
    m->c = (struct cgroup){.layout = m->host->layout};
    /* cpuset costs every process in it, and on v1 a group of it needs care: only when asked for. */
    m->wanted = ((1U << CGROUP_CONTROLLERS) - 1) & ~(1U << CGROUP_CPUSET);
    if (!m->limits || !m->limits->devices)
        m->wanted &= ~(1U << CGROUP_DEVICES);
    m->wanted |= cgroup_needs(m->limits);
    int r = make_all(m, &why);
    if (r == 0 && m->limits)
        r = cgroup_apply(&m->c, m->limits, &why);
    if (r == 0) {
        *out = m->c;
        return 0;
    }
    (void)!cgroup_remove(&m->c, 0, NULL);
    if (r == -EEXIST)
        return err_set(e, r, "control group %s has processes in it", m->path);
    if (!asked && (r == -EACCES || r == -EPERM || r == -EROFS))
        return 0; /* without root, and nobody gave us a group: nothing was asked for either */
    if (r == -EACCES || r == -EPERM || r == -EROFS)
        return err_set(e, -EACCES,
                       "limits need a control group that this user may change, and there is none "
                       "(%s)",
                       why.msg);
    return err_set(e, r, "%s", why.msg);
}

int cgroup_make(const struct cgroup_host *h, const char *id, const struct cgroup_limits *l,
                struct cgroup *out, struct err *e)
{
    char name[CGROUP_ID_MAX + sizeof(CGROUP_PREFIX)];
    struct making m = {.host = h, .limits = l, .path = name};

    if (!good_id(id))
        return err_set(e, -EINVAL, "'%.80s' cannot name a control group", id);
    snprintf(name, sizeof(name), CGROUP_PREFIX "%s", id);
    *out = (struct cgroup){.layout = CGROUP_NONE};
    return make(&m, out, e);
}

int cgroup_make_at(const struct cgroup_host *h, const char *path, const struct cgroup_limits *l,
                   struct cgroup *out, struct err *e)
{
    struct cgroup_host top = *h;
    struct making m = {.host = h, .limits = l, .path = path};

    if (!good_path(path))
        return err_set(e, -EINVAL, "'%.80s' cannot be the path of a control group", path);
    if (path[0] == '/') {
        memcpy(top.own, top.top, sizeof(top.own));
        m.host = &top;
        m.path = path + 1;
    }
    *out = (struct cgroup){.layout = CGROUP_NONE};
    return make(&m, out, e);
}

int cgroup_update(const struct cgroup *c, const struct cgroup_limits *l, struct err *e)
{
    return cgroup_apply(c, l, e);
}

/* ---- entering */

struct opening {
    int *fd;
    unsigned n;
    struct err *e;
};

/* On v1 "tasks" takes the caller's one thread without the lock that all forks of the host wait
 * for; v2 has whole processes only. */
static int open_one(void *ctx, const char *dir, bool v2)
{
    struct opening *o = ctx;
    char path[CGROUP_FILE_MAX];

    snprintf(path, sizeof(path), "%s/%s", dir, v2 ? "cgroup.procs" : "tasks");
    o->fd[o->n] = open(path, O_WRONLY | O_CLOEXEC);
    if (o->fd[o->n] < 0)
        return err_errno(o->e, -errno, "%s", path);
    o->n++;
    return 0;
}

int cgroup_open_enter(const struct cgroup *c, int fd[CGROUP_CONTROLLERS + 1], unsigned *n,
                      struct err *e)
{
    struct opening o = {.fd = fd, .e = e};
    int r = cgroup_each_folder(c, open_one, &o);

    if (r < 0) {
        while (o.n > 0)
            close(fd[--o.n]);
        return r;
    }
    *n = o.n;
    return 0;
}

int cgroup_enter_fds(const int *fd, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (write(fd[i], "0", 1) != 1)
            return -errno;
    return 0;
}

struct entering {
    pid_t pid;
    struct err *e;
};

static int enter_one(void *ctx, const char *dir, bool v2)
{
    const struct entering *x = ctx;
    const char *file = v2 || x->pid ? "cgroup.procs" : "tasks";
    char text[24];

    snprintf(text, sizeof(text), "%d", (int)x->pid);
    int r = cgroup_file_put(dir, file, text);
    return r < 0 ? err_errno(x->e, r, "enter control group %s", dir) : 0;
}

int cgroup_enter(const struct cgroup *c, pid_t pid, struct err *e)
{
    struct entering x = {pid, e};

    return cgroup_each_folder(c, enter_one, &x);
}

/* ---- removing and finding */

/* Groups below `dir` (owned), deepest first. They were made by the container: as many as it liked,
 * so nothing is kept of them. */
static void remove_below(int dir, unsigned depth)
{
    CLEANUP(dir) DIR *d = fdopendir(dir);
    struct dirent *de;

    if (!d) {
        close(dir);
        return;
    }
    while (depth < DEPTH_MAX && (de = readdir(d))) {
        if (de->d_type != DT_DIR || de->d_name[0] == '.')
            continue;
        int sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (sub >= 0)
            remove_below(sub, depth + 1);
        (void)unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR);
    }
}

struct removing {
    int left_ms;
    struct err *e;
};

static int remove_one(void *ctx, const char *dir, bool v2)
{
    struct removing *x = ctx;

    /* A process that was just reaped may still be on its way out of its groups. */
    while (rmdir(dir) < 0) {
        int r = -errno;

        if (r == -ENOENT)
            return 0;
        if (r != -EBUSY && r != -ENOTEMPTY)
            return err_errno(x->e, r, "remove control group %s", dir);
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            remove_below(fd, 0);
        if (rmdir(dir) == 0)
            return 0;
        if (x->left_ms <= 0)
            return err_errno(x->e, -EBUSY, "remove control group %s", dir);
        poll(NULL, 0, POLL_MS);
        x->left_ms -= POLL_MS;
    }
    return 0;
}

int cgroup_remove(const struct cgroup *c, int timeout_ms, struct err *e)
{
    struct removing x = {timeout_ms, e};

    return cgroup_each_folder(c, remove_one, &x);
}

/* Folders in which groups of cgroup_make() are: the caller's own, on v2 its ancestors too. Calls
 * fn(ctx, parent, controller) until it does not return 0. */
static int each_parent(const struct cgroup_host *h,
                       int (*fn)(void *ctx, const char *parent, unsigned controller), void *ctx)
{
    char dir[CGROUP_PATH_MAX];
    int r = 0;

    for (unsigned i = 0; r == 0 && i < CGROUP_CONTROLLERS; i++)
        if (h->own[i][0] && !on_v2(h, i))
            r = fn(ctx, h->own[i], i);
    if (r != 0 || !h->own[CGROUP_UNIFIED][0])
        return r;
    memcpy(dir, h->own[CGROUP_UNIFIED], sizeof(dir));
    for (;;) {
        r = fn(ctx, dir, CGROUP_UNIFIED);
        char *slash = strrchr(dir, '/');
        if (r != 0 || strlen(dir) <= strlen(h->top[CGROUP_UNIFIED]) || !slash)
            return r;
        *slash = '\0';
    }
}

struct listing {
    const struct cgroup_host *host;
    void (*each)(void *ctx, const char *id);
    void *ctx;
    const char *id; /* is it known from a parent before `parent`? */
    const char *parent;
    struct err *e;
};

static int known_before(void *ctx, const char *parent, unsigned controller)
{
    const struct listing *l = ctx;
    char path[CGROUP_FILE_MAX];

    if (strcmp(parent, l->parent) == 0)
        return 2;
    snprintf(path, sizeof(path), "%s/" CGROUP_PREFIX "%.*s", parent, CGROUP_ID_MAX, l->id);
    return access(path, F_OK) == 0;
}

static int list_parent(void *ctx, const char *parent, unsigned controller)
{
    struct listing *l = ctx;
    struct dirent *de;
    const size_t skip = sizeof(CGROUP_PREFIX) - 1;

    CLEANUP(dir) DIR *d = opendir(parent);
    if (!d)
        return err_errno(l->e, -errno, "%s", parent);
    while ((de = readdir(d))) {
        if (strncmp(de->d_name, CGROUP_PREFIX, skip) != 0 || !good_id(de->d_name + skip))
            continue;
        l->id = de->d_name + skip;
        l->parent = parent;
        if (each_parent(l->host, known_before, l) == 2)
            l->each(l->ctx, l->id);
    }
    return 0;
}

int cgroup_each(const struct cgroup_host *h, void (*each)(void *ctx, const char *id), void *ctx,
                struct err *e)
{
    struct listing l = {.host = h, .each = each, .ctx = ctx, .e = e};

    return each_parent(h, list_parent, &l);
}

struct search {
    const struct cgroup_host *host;
    const char *name;
    struct cgroup *out;
    bool any;
};

static int look(void *ctx, const char *parent, unsigned controller)
{
    struct search *s = ctx;
    char dir[CGROUP_PATH_MAX], text[512], *p = text;

    if (join(dir, parent, s->name) < 0 || access(dir, F_OK) < 0)
        return 0;
    s->any = true;
    memcpy(s->out->path[controller], dir, sizeof(dir));
    if (controller != CGROUP_UNIFIED ||
        cgroup_file_get(dir, "cgroup.controllers", text, sizeof(text)) < 0)
        return 0;
    for (char *word; (word = strsep(&p, " \n"));)
        for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
            if (on_v2(s->host, i) &&
                strcmp(word, i == CGROUP_IO ? "io" : cgroup_controller_name(i)) == 0)
                memcpy(s->out->path[i], dir, sizeof(dir));
    return 1;
}

static int find(const struct cgroup_host *h, const char *name, struct cgroup *out, struct err *e)
{
    struct cgroup c = {.layout = h->layout};
    struct search s = {.host = h, .name = name, .out = &c};

    (void)each_parent(h, look, &s);
    if (!s.any)
        return err_set(e, -ENOENT, "no control group %s", name);
    *out = c;
    return 0;
}

int cgroup_find(const struct cgroup_host *h, const char *id, struct cgroup *out, struct err *e)
{
    char name[CGROUP_ID_MAX + sizeof(CGROUP_PREFIX)];

    if (!good_id(id))
        return err_set(e, -EINVAL, "'%.80s' cannot name a control group", id);
    snprintf(name, sizeof(name), CGROUP_PREFIX "%s", id);
    return find(h, name, out, e);
}

int cgroup_find_at(const struct cgroup_host *h, const char *path, struct cgroup *out, struct err *e)
{
    struct cgroup_host top = *h;

    if (!good_path(path))
        return err_set(e, -EINVAL, "'%.80s' cannot be the path of a control group", path);
    memcpy(top.own, top.top, sizeof(top.own));
    return path[0] == '/' ? find(&top, path + 1, out, e) : find(h, path, out, e);
}
