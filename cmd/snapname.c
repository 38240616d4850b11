#include "cmd/snapname.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/store.h"
#include "vm/snapshot.h"

static int store_folder(char **dir, struct err *e)
{
    struct store *s;
    int r = store_open(NULL, &s, e);

    if (r < 0)
        return r;
    if (asprintf(dir, "%s/snapshots", store_root(s)) < 0)
        r = err_set(e, -ENOMEM, "out of memory");
    store_close(s);
    return r;
}

static int check_name(const char *word, struct err *e)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(word);

    if (n == 0 || n > 128 || strspn(word, set) != n || strchr("_.-", word[0]))
        return err_set(e, -EINVAL,
                       "'%s' is not a snapshot's name: letters, digits, '_', '.', '-'; a folder "
                       "has a slash",
                       word);
    return 0;
}

/* The folder above must be there; the last name need not. */
static int absolute(const char *word, char **dir, struct err *e)
{
    CLEANUP(mem) char *copy = strdup(word);
    size_t len = copy ? strlen(copy) : 0;

    if (!copy)
        return err_set(e, -ENOMEM, "out of memory");
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *base = slash + 1;
    if (!slash || !base[0])
        return err_set(e, -EINVAL, "'%s' cannot be the folder of a snapshot", word);
    *slash = '\0';
    CLEANUP(mem) char *above = realpath(slash == copy ? "/" : copy, NULL);
    if (!above)
        return err_errno(e, -errno, "%s", copy);
    return asprintf(dir, "%s/%s", strcmp(above, "/") == 0 ? "" : above, base) < 0
               ? err_set(e, -ENOMEM, "out of memory")
               : 0;
}

int snapname_new(const char *word, char **dir, struct err *e)
{
    CLEANUP(mem) char *folder = NULL;

    if (strchr(word, '/'))
        return absolute(word, dir, e);
    int r = check_name(word, e);
    if (r == 0)
        r = store_folder(&folder, e);
    if (r < 0)
        return r;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", folder);
    snapshot_sweep(folder);
    return asprintf(dir, "%s/%s", folder, word) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int snapname_find(const char *word, char **dir, struct err *e)
{
    CLEANUP(mem) char *folder = NULL;
    CLEANUP(mem) char *path = NULL;
    bool named = !strchr(word, '/');
    int r = named ? check_name(word, e) : 0;

    if (r == 0 && named)
        r = store_folder(&folder, e);
    if (r < 0)
        return r;
    if (asprintf(&path, "%s%s%s", named ? folder : "", named ? "/" : "", word) < 0)
        return err_set(e, -ENOMEM, "out of memory");
    *dir = realpath(path, NULL);
    if (!*dir)
        return err_set(e, -errno, "no snapshot '%s': %s", word, strerror(errno));
    return 0;
}

int snapname_each(void (*each)(void *ctx, const char *name, const char *dir), void *ctx,
                  struct err *e)
{
    CLEANUP(mem) char *folder = NULL;
    int r = store_folder(&folder, e);

    if (r < 0)
        return r;
    CLEANUP(dir) DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "%s", folder);
    for (struct dirent *de; (de = readdir(d));) {
        char path[PATH_MAX];

        if (de->d_name[0] != '.' &&
            (size_t)snprintf(path, sizeof(path), "%s/%s", folder, de->d_name) < sizeof(path))
            each(ctx, de->d_name, path);
    }
    return 0;
}
