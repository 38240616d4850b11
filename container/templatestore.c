/* The templates of a store, seen from outside: listed, removed, pruned. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/template.h"
#include "vm/snapshot.h"

static int folder_of(const char *store, char path[PATH_MAX], struct err *e)
{
    if (snprintf(path, PATH_MAX, "%s/templates", store) >= PATH_MAX)
        return err_errno(e, -ENAMETOOLONG, "%s", store);
    return 0;
}

static bool is_key(const char *name)
{
    return strlen(name) == TEMPLATE_KEY_LEN && strspn(name, "0123456789abcdef") == TEMPLATE_KEY_LEN;
}

static uint64_t bytes_of(const char *dir)
{
    static const char *const part[] = {"/state", "/memory", ".code", ".code-counting"};
    char path[PATH_MAX + TEMPLATE_KEY_LEN + 32];
    uint64_t n = 0;
    struct stat st;

    for (unsigned i = 0; i < ARRAY_LEN(part); i++) {
        snprintf(path, sizeof(path), "%s%s", dir, part[i]);
        if (stat(path, &st) == 0)
            n += (uint64_t)st.st_blocks * 512;
    }
    return n;
}

static void look_at(const char *folder, const char *key, struct template_info *t)
{
    char path[PATH_MAX + TEMPLATE_KEY_LEN + 16];
    struct snapshot *s;
    struct stat st;

    *t = (struct template_info){.stale = true};
    snprintf(t->key, sizeof(t->key), "%s", key);
    snprintf(path, sizeof(path), "%s/%s.lock", folder, key);
    if (stat(path, &st) == 0)
        t->used = st.st_mtime;
    snprintf(path, sizeof(path), "%s/%s", folder, key);
    t->bytes = bytes_of(path);
    if (snapshot_open(path, &s, NULL) < 0)
        return;
    if (!template_note_read(snapshot_info(s).note, t))
        t->stale = true;
    snapshot_close(s);
}

int template_list(const char *store, struct template_info **list, size_t *n, struct err *e)
{
    CLEANUP(mem) struct template_info *v = NULL;
    char folder[PATH_MAX];
    size_t count = 0;
    struct dirent *de;
    int r = folder_of(store, folder, e);

    if (r < 0)
        return r;
    CLEANUP(dir) DIR *d = opendir(folder);
    if (!d && errno != ENOENT)
        return err_errno(e, -errno, "%s", folder);
    while (d && (de = readdir(d))) {
        if (!is_key(de->d_name))
            continue;
        struct template_info *more = reallocarray(v, count + 1, sizeof(*v));
        if (!more)
            return err_errno(e, -ENOMEM, "%s", folder);
        v = more;
        look_at(folder, de->d_name, &v[count++]);
    }
    *list = take_ptr(&v);
    *n = count;
    return 0;
}

/* KEY.code, KEY.code-counting, and what killed writers left of them. */
static void drop_code(const char *folder, const char *key)
{
    CLEANUP(dir) DIR *d = opendir(folder);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (strncmp(de->d_name, key, TEMPLATE_KEY_LEN) == 0 &&
            strncmp(de->d_name + TEMPLATE_KEY_LEN, ".code", 5) == 0)
            (void)unlinkat(dirfd(d), de->d_name, 0);
}

/* A template and its lock, unless somebody is making it anew. Machines that were started from it
 * have its files open and go on. */
static int drop(const char *folder, const char *key, struct err *e)
{
    char path[PATH_MAX + TEMPLATE_KEY_LEN + 16];

    snprintf(path, sizeof(path), "%s/%s.lock", folder, key);
    CLEANUP(fd) int lock = open(path, O_RDWR | O_CLOEXEC);
    if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, -EBUSY, "template %s is being made", key);
    if (lock >= 0)
        (void)unlink(path);
    drop_code(folder, key);
    snprintf(path, sizeof(path), "%s/%s", folder, key);
    return snapshot_remove(path, e);
}

int template_remove(const char *store, const char *key, struct err *e)
{
    CLEANUP(mem) struct template_info *v = NULL;
    const char *found = NULL;
    char folder[PATH_MAX];
    size_t n = 0;
    int r = template_list(store, &v, &n, e);

    if (r == 0)
        r = folder_of(store, folder, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(v[i].key, key, strlen(key)) != 0)
            continue;
        if (found)
            return err_set(e, -EINVAL, "'%s' is the beginning of several templates", key);
        found = v[i].key;
    }
    if (!found || !key[0])
        return err_set(e, -ENOENT, "no template '%s'", key);
    return drop(folder, found, e);
}

int template_prune(const char *store, uint64_t *freed, struct err *e)
{
    CLEANUP(mem) struct template_info *v = NULL;
    char folder[PATH_MAX];
    size_t n = 0;
    int r = template_list(store, &v, &n, e);

    if (r == 0)
        r = folder_of(store, folder, e);
    if (r < 0)
        return r;
    snapshot_sweep(folder);
    for (size_t i = 0; i < n; i++) {
        bool idle = v[i].used + TEMPLATE_IDLE_S < time(NULL);

        if ((v[i].stale || idle) && drop(folder, v[i].key, NULL) == 0)
            *freed += v[i].bytes;
    }
    return 0;
}
