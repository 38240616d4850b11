/* Which hierarchies there are and where the caller is in them: proc_pid_mountinfo(5) and
 * cgroups(7), "/proc files". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "jail/cgroup_priv.h"

enum {
    LINE_LEN_MAX = 8192,
    LINES_MAX = 100000, /* of mountinfo */
    HIERARCHIES_MAX = 32,
};

static const char *const name[CGROUP_CONTROLLERS] = {"memory", "cpu",   "cpuacct", "cpuset",
                                                     "pids",   "blkio", "freezer", "devices"};

const char *cgroup_controller_name(enum cgroup_controller c)
{
    return c < CGROUP_CONTROLLERS ? name[c] : "unified";
}

const char *cgroup_layout_name(enum cgroup_layout l)
{
    static const char *const layout[] = {"none", "v1", "v2", "hybrid"};

    return layout[l];
}

struct found {            /* a line of /proc/self/cgroup */
    unsigned controllers; /* bit n = controller n */
    bool v2;
    char path[CGROUP_PATH_MAX]; /* the caller's, from the root of the hierarchy */
};

struct finding {
    struct cgroup_host *out;
    const char *root;
    struct found v[HIERARCHIES_MAX];
    unsigned n;
};

static unsigned controllers_of(char *list)
{
    unsigned mask = 0;

    for (char *p = list, *word; (word = strsep(&p, ","));)
        for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
            if (strcmp(word, name[i]) == 0)
                mask |= 1U << i;
    return mask;
}

/* "4:memory:/a/b", "0::/a/b". */
static void cgroup_line(struct finding *f, char *line)
{
    char *p = line, *number = strsep(&p, ":"), *list = strsep(&p, ":");

    if (!list || !p || p[0] != '/' || f->n == HIERARCHIES_MAX || strlen(p) >= CGROUP_PATH_MAX)
        return;
    struct found *v = &f->v[f->n];
    *v = (struct found){.v2 = strcmp(number, "0") == 0 && !list[0]};
    v->controllers = controllers_of(list);
    snprintf(v->path, sizeof(v->path), "%s", p);
    if (v->v2 || v->controllers)
        f->n++;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* The folder of `path` of a hierarchy of which the part below `top` is mounted at `point`. False:
 * it is not in that part, or too long. */
static bool own_folder(const char *root, const char *point, const char *top, const char *path,
                       char out[CGROUP_PATH_MAX])
{
    size_t len = strcmp(top, "/") == 0 ? 0 : strlen(top);

    if (strncmp(path, top, len) != 0 || (path[len] != '/' && path[len] != '\0') ||
        strstr(path, "/.."))
        return false;
    const char *rest = strcmp(path + len, "/") == 0 ? "" : path + len;
    int n = snprintf(out, CGROUP_PATH_MAX, "%s%s%s", root, point, rest);
    return n > 0 && n < CGROUP_PATH_MAX;
}

static void took(struct finding *f, const struct found *v, const char *point, const char *top)
{
    struct cgroup_host *h = f->out;
    char own[CGROUP_PATH_MAX], mount[CGROUP_PATH_MAX];

    if (!own_folder(f->root, point, top, v->path, own) ||
        !own_folder(f->root, point, "/", "/", mount))
        return;
    for (unsigned i = 0; i <= CGROUP_UNIFIED; i++) {
        bool here = v->v2 ? i == CGROUP_UNIFIED : (v->controllers & (1U << i)) != 0;

        if (!here || h->own[i][0])
            continue;
        memcpy(h->own[i], own, sizeof(own));
        memcpy(h->top[i], mount, sizeof(mount));
    }
}

/* "31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory" */
static void mount_line(struct finding *f, char *line)
{
    char *field[6], *p = line;

    for (unsigned i = 0; i < ARRAY_LEN(field); i++)
        field[i] = strsep(&p, " ");
    char *dash = p ? strstr(p, "- cgroup") : NULL;
    if (!dash)
        return;
    p = dash + 2;
    char *type = strsep(&p, " ");
    (void)strsep(&p, " ");
    if (!p)
        return;
    bool v2 = strcmp(type, "cgroup2") == 0;
    unsigned mask = v2 ? 0 : controllers_of(p);

    unescape(field[3]);
    unescape(field[4]);
    for (unsigned i = 0; i < f->n; i++)
        if (v2 ? f->v[i].v2 : (mask && f->v[i].controllers == mask))
            took(f, &f->v[i], field[4], field[3]);
}

static int each_line(struct finding *f, const char *file, void (*fn)(struct finding *, char *),
                     struct err *e)
{
    char path[CGROUP_FILE_MAX];
    int n = snprintf(path, sizeof(path), "%s/proc/self/%s", f->root, file);

    if (n < 0 || (size_t)n >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "%s", f->root);
    CLEANUP(file) FILE *in = fopen(path, "re");
    if (!in)
        return err_errno(e, -errno, "%s", path);
    CLEANUP(mem) char *line = malloc(LINE_LEN_MAX);
    if (!line)
        return err_errno(e, -ENOMEM, "%s", path);
    for (unsigned i = 0; i < LINES_MAX && fgets(line, LINE_LEN_MAX, in); i++) {
        line[strcspn(line, "\n")] = '\0';
        fn(f, line);
    }
    return 0;
}

/* On a v2 or hybrid host: the controllers that v1 has not and v2 has. */
static void take_unified(struct cgroup_host *h)
{
    char text[512], *p = text;
    const char *own = h->own[CGROUP_UNIFIED];

    if (!own[0] || cgroup_file_get(own, "cgroup.controllers", text, sizeof(text)) < 0)
        return;
    for (char *word; (word = strsep(&p, " \n"));)
        for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++) {
            const char *v2_name = i == CGROUP_IO ? "io" : name[i];

            if (i != CGROUP_CPUACCT && i != CGROUP_FREEZER && i != CGROUP_DEVICES &&
                strcmp(word, v2_name) == 0 && !h->own[i][0]) {
                memcpy(h->own[i], own, CGROUP_PATH_MAX);
                memcpy(h->top[i], h->top[CGROUP_UNIFIED], CGROUP_PATH_MAX);
            }
        }
}

int cgroup_host_find(const char *root, struct cgroup_host *out, struct err *e)
{
    struct cgroup_host h = {.layout = CGROUP_NONE};
    struct finding f = {.out = &h, .root = root};
    bool v1 = false;

    int r = each_line(&f, "cgroup", cgroup_line, e);
    if (r == 0)
        r = each_line(&f, "mountinfo", mount_line, e);
    if (r < 0)
        return r == -ENOENT ? err_wrap(e, r, "control groups") : r;
    for (unsigned i = 0; i < CGROUP_CONTROLLERS; i++)
        v1 = v1 || h.own[i][0];
    take_unified(&h);
    if (v1)
        h.layout = h.own[CGROUP_UNIFIED][0] ? CGROUP_HYBRID : CGROUP_V1;
    else if (h.own[CGROUP_UNIFIED][0])
        h.layout = CGROUP_V2;
    *out = h;
    return 0;
}
