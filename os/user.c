/* The image's passwd(5) and group(5). Read line by line with a fixed buffer: the files are the
 * image's, and anything may stand in them. Lines that are too long or malformed are skipped, as the
 * C library does. */
#include "os/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

enum {
    LINE_LEN_MAX = 32 * 1024,
    FILE_LEN_MAX = 4 << 20, /* what is read of a file; the rest is ignored */
    FIELDS_MAX = 7,
};

/* A number of uid_t's range; the all-ones value means "none" to the kernel. */
static bool number(const char *s, uint32_t *out)
{
    char *end;

    if (s[0] < '0' || s[0] > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno || *end || v >= UINT32_MAX)
        return false;
    *out = (uint32_t)v;
    return true;
}

static unsigned split(char *line, char **field, unsigned max)
{
    unsigned n = 0;

    for (char *p = line; p && n < max; n++)
        field[n] = strsep(&p, ":");
    return n;
}

/* Call `fn` for each line's fields until it returns true. A file that is absent or no file has no
 * lines. */
static void each_line(const char *path, unsigned n_fields, bool (*fn)(void *ctx, char **field),
                      void *ctx)
{
    /* O_NONBLOCK: it may be a FIFO that nobody writes to. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return;
    }
    CLEANUP(file) FILE *f = fdopen(fd, "r");
    if (!f) {
        close(fd);
        return;
    }
    CLEANUP(mem) char *line = malloc(LINE_LEN_MAX);
    size_t total = 0;
    bool whole = true; /* the line before ended inside the buffer */
    while (line && total < FILE_LEN_MAX && fgets(line, LINE_LEN_MAX, f)) {
        size_t len = strlen(line);
        bool use = whole;
        char *field[FIELDS_MAX];

        total += len;
        whole = len > 0 && line[len - 1] == '\n';
        if (!use || (!whole && !feof(f)))
            continue;
        line[strcspn(line, "\n")] = '\0';
        if (split(line, field, n_fields) >= n_fields && fn(ctx, field))
            return;
    }
}

struct passwd_query {
    const char *name; /* NULL = by uid */
    struct user *u;
    char login[256];
    bool found;
};

static bool passwd_line(void *ctx, char **f)
{
    struct passwd_query *q = ctx;
    uint32_t uid, gid;

    if (!number(f[2], &uid) || !number(f[3], &gid))
        return false;
    if (q->name ? strcmp(f[0], q->name) != 0 : uid != q->u->uid)
        return false;
    q->u->uid = uid;
    q->u->gid = gid;
    snprintf(q->u->home, sizeof(q->u->home), "%s", f[5]);
    snprintf(q->login, sizeof(q->login), "%s", f[0]);
    q->found = true;
    return true;
}

struct group_query {
    const char *name;
    gid_t gid;
    bool found;
};

static bool group_line(void *ctx, char **f)
{
    struct group_query *q = ctx;

    if (strcmp(f[0], q->name) != 0 || !number(f[2], &q->gid))
        return false;
    q->found = true;
    return true;
}

struct member_query {
    const char *login;
    struct user *u;
};

static bool member_line(void *ctx, char **f)
{
    struct member_query *q = ctx;
    uint32_t gid;

    if (!number(f[2], &gid) || gid == q->u->gid)
        return false;
    for (char *p = f[3], *name; (name = strsep(&p, ","));) {
        if (strcmp(name, q->login) != 0)
            continue;
        q->u->groups[q->u->n_groups++] = gid;
        break;
    }
    return q->u->n_groups == USER_GROUPS_MAX;
}

int user_find_group(const char *name, const char *path, gid_t *gid, struct err *e)
{
    struct group_query q = {.name = name};

    each_line(path, 4, group_line, &q);
    if (q.found) {
        *gid = q.gid;
        return 0;
    }
    if (number(name, gid))
        return 0;
    return err_set(e, -EINVAL, "unable to find group %s: no matching entries in group file", name);
}

int user_find(const char *spec, const char *passwd_path, const char *group_path, struct user *u,
              struct err *e)
{
    char name[256];
    const char *colon = strchr(spec, ':');
    size_t n = colon ? (size_t)(colon - spec) : strlen(spec);

    if (n >= sizeof(name))
        return err_set(e, -EINVAL, "the user's name is too long");
    memcpy(name, spec, n);
    name[n] = '\0';

    *u = (struct user){.home = "/"};
    struct passwd_query q = {.name = name, .u = u};
    if (n == 0) {
        q.name = NULL; /* root, or ":group" */
        each_line(passwd_path, 7, passwd_line, &q);
    } else {
        /* A name may consist of digits: names first, as runc does. */
        each_line(passwd_path, 7, passwd_line, &q);
        if (!q.found) {
            if (!number(name, &u->uid))
                return err_set(e, -EINVAL,
                               "unable to find user %s: no matching entries in passwd file", name);
            q.name = NULL;
            each_line(passwd_path, 7, passwd_line, &q);
        }
    }
    if (colon && colon[1]) { /* replaces all of the user's groups */
        int r = user_find_group(colon + 1, group_path, &u->gid, e);

        if (r < 0)
            return r;
        q.found = false;
    }
    /* The primary group is among the supplementary ones: else giving it up (setgid programs) would
     * open files that deny it. */
    u->groups[u->n_groups++] = u->gid;
    if (q.found) {
        struct member_query m = {.login = q.login, .u = u};

        each_line(group_path, 4, member_line, &m);
    }
    return 0;
}
