#include "container/volstore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/hexid.h"
#include "os/jsonfile.h"
#include "container/record.h"
#include "image/store_priv.h"

enum { INFO_MAX = 1024 * 1024, USERS_SHOWN = 4 };
#define INFO_NAME "volume.json"
#define TEMP_NAME ".new-XXXXXX"

void volstore_done(struct volstore *v)
{
    strv_done(&v->labels);
    *v = (struct volstore){.name = ""};
}

int volstore_check_name(const char *name, struct err *e)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(name);

    if (n < 2 || n > VOLSTORE_NAME_MAX || strspn(name, set) != n || strchr("_.-", name[0]))
        return err_set(e, -EINVAL,
                       "'%s' is not a volume's name: letters, digits, '_', '.', '-', two or more, "
                       "the first a letter or digit",
                       name);
    return 0;
}

/* ROOT/volumes, made if `make`. *path owned by the caller. */
static int open_volumes(const char *root, bool make, char **path, struct err *e)
{
    CLEANUP(mem) char *top = store_root_path(root);
    char *all = NULL;

    if (!top || asprintf(&all, "%s/volumes", top) < 0)
        return err_errno(e, -ENOMEM, "volumes");
    if (make && mkdir(all, 0711) < 0 && errno != EEXIST) {
        int r = err_errno(e, -errno, "%s", all);
        free(all);
        return r;
    }
    *path = all;
    return 0;
}

/* ---- what is written down */

static int write_info(int dir, const struct volstore *v, struct err *e)
{
    json_t *labels = json_array();

    for (size_t i = 0; i < v->labels.n; i++)
        json_array_append_new(labels, json_stringn_nocheck(v->labels.v[i], strlen(v->labels.v[i])));
    json_t *j = json_pack("{s:s, s:I, s:b, s:o}", "name", v->name, "created",
                          (json_int_t)v->created_s, "anonymous", v->anonymous, "labels", labels);
    CLEANUP(fd)
    int fd = openat(dir, INFO_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r = j && fd >= 0 && json_dumpfd(j, fd, JSON_COMPACT) == 0 ? 0 : -1;

    json_decref(j);
    return r < 0 ? err_errno(e, errno ? -errno : -ENOMEM, "volume %s", v->name) : 0;
}

/* What is damaged or absent is as if nothing was said. */
static void read_info(int dir, struct volstore *v)
{
    CLEANUP(fd) int fd = openat(dir, INFO_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    json_t *j = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= INFO_MAX
                    ? jsonfile_load(fd, 0, NULL)
                    : NULL;
    const json_t *labels = json_object_get(j, "labels");

    v->created_s = json_integer_value(json_object_get(j, "created"));
    v->anonymous = json_is_true(json_object_get(j, "anonymous"));
    for (size_t i = 0; i < json_array_size(labels); i++) {
        const char *text = json_string_value(json_array_get(labels, i));
        if (text && strv_add(&v->labels, text) < 0)
            break;
    }
    json_decref(j);
}

static int load(const char *volumes, const char *name, struct volstore *v, struct err *e)
{
    char path[PATH_MAX];

    *v = (struct volstore){.name = ""};
    snprintf(v->name, sizeof(v->name), "%s", name);
    int n = snprintf(path, sizeof(path), "%s/%s", volumes, name);
    if (n < 0 || (size_t)n >= sizeof(path) ||
        (size_t)snprintf(v->path, sizeof(v->path), "%s/_data", path) >= sizeof(v->path))
        return err_errno(e, -ENAMETOOLONG, "volume %s", name);
    CLEANUP(fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? err_set(e, -ENOENT, "no such volume: %s", name)
                               : err_errno(e, -errno, "volume %s", name);
    read_info(dir, v);
    return 0;
}

/* ---- making */

/* 1: somebody was first. */
static int make(const char *volumes, struct volstore *v, struct err *e)
{
    char temp[PATH_MAX], path[PATH_MAX];

    if ((size_t)snprintf(temp, sizeof(temp), "%s/" TEMP_NAME, volumes) >= sizeof(temp) ||
        (size_t)snprintf(path, sizeof(path), "%s/%s", volumes, v->name) >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "volume %s", v->name);
    if (!mkdtemp(temp))
        return err_errno(e, -errno, "volume %s", v->name);
    CLEANUP(fd) int dir = open(temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 || fchmod(dir, 0711) < 0 || mkdirat(dir, "_data", 0755) < 0
                ? err_errno(e, -errno, "volume %s", v->name)
                : write_info(dir, v, e);
    if (r == 0 && rename(temp, path) < 0)
        r = errno == ENOTEMPTY || errno == EEXIST ? 1 : err_errno(e, -errno, "volume %s", v->name);
    if (r != 0)
        (void)store_remove_tree(AT_FDCWD, temp);
    return r;
}

int volstore_create(const char *root, const char *name, const struct strv *labels, bool anonymous,
                    struct volstore *out, struct err *e)
{
    struct volstore v = {.created_s = time(NULL), .anonymous = anonymous};
    CLEANUP(mem) char *volumes = NULL;
    int r = name ? volstore_check_name(name, e) : hexid(v.name, HEXID_MAX, e);

    if (r == 0 && name)
        snprintf(v.name, sizeof(v.name), "%s", name);
    if (r == 0 && labels && strv_add_all(&v.labels, labels->v) < 0)
        r = err_errno(e, -ENOMEM, "volume %s", v.name);
    if (r == 0)
        r = open_volumes(root, true, &volumes, e);
    if (r == 0) {
        struct stat st;
        CLEANUP(mem) char *path = NULL;

        r = asprintf(&path, "%s/%s", volumes, v.name) < 0 ? err_errno(e, -ENOMEM, "volume")
            : stat(path, &st) == 0                        ? 1
                                                          : make(volumes, &v, e);
    }
    struct volstore got = {.name = ""};
    int loaded = r >= 0 ? load(volumes, v.name, &got, e) : 0;
    volstore_done(&v);
    if (loaded < 0)
        return loaded;
    if (out && r >= 0)
        *out = got;
    else
        volstore_done(&got);
    return r;
}

/* ---- finding */

int volstore_find(const char *root, const char *name, struct volstore *out, struct err *e)
{
    CLEANUP(mem) char *volumes = NULL;

    if (volstore_check_name(name, NULL) < 0)
        return err_set(e, -ENOENT, "no such volume: %s", name);
    int r = open_volumes(root, false, &volumes, e);
    return r < 0 ? r : load(volumes, name, out, e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct volstore *)a)->name, ((const struct volstore *)b)->name);
}

int volstore_list(const char *root, struct volstore **list, size_t *n, struct err *e)
{
    CLEANUP(mem) char *volumes = NULL;
    struct volstore *all = NULL;
    size_t count = 0;
    int r = open_volumes(root, false, &volumes, e);

    if (r < 0)
        return r;
    CLEANUP(dir) DIR *d = opendir(volumes);
    if (!d && errno != ENOENT)
        return err_errno(e, -errno, "%s", volumes);
    for (const struct dirent *de; d && r == 0 && (de = readdir(d));) {
        struct volstore v;

        if (volstore_check_name(de->d_name, NULL) < 0 || load(volumes, de->d_name, &v, NULL) < 0)
            continue;
        struct volstore *more = reallocarray(all, count + 1, sizeof(*all));
        if (!more) {
            volstore_done(&v);
            r = err_errno(e, -ENOMEM, "volumes");
            break;
        }
        all = more;
        all[count++] = v;
    }
    if (r < 0) {
        while (count > 0)
            volstore_done(&all[--count]);
        free(all);
        return r;
    }
    if (count > 0)
        qsort(all, count, sizeof(*all), by_name);
    *list = all;
    *n = count;
    return 0;
}

/* ---- who has it, and removing */

static bool has_volume(const struct spec *s, const char *name)
{
    for (size_t i = 0; i < s->n_mounts; i++)
        if (s->mounts[i].kind == SPEC_VOLUME && s->mounts[i].source &&
            strcmp(s->mounts[i].source, name) == 0)
            return true;
    return false;
}

int volstore_users(const char *root, const char *name, struct strv *ids, struct err *e)
{
    struct record *list;
    size_t n;
    int r = record_list(root, &list, &n, NULL, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (r == 0 && has_volume(&list[i].spec, name) && strv_add(ids, list[i].id) < 0)
            r = err_errno(e, -ENOMEM, "volume %s", name);
        record_done(&list[i]);
    }
    free(list);
    return r;
}

static int in_use(const char *name, const struct strv *ids, struct err *e)
{
    char text[USERS_SHOWN * (RECORD_ID_LEN + 2) + 8] = "";
    size_t len = 0;

    for (size_t i = 0; i < ids->n && i < USERS_SHOWN; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? ", " : "", ids->v[i]);
    return err_set(e, -EBUSY, "remove %s: volume is in use - [%s%s]", name, text,
                   ids->n > USERS_SHOWN ? ", ..." : "");
}

int volstore_remove(const char *root, const char *name, struct err *e)
{
    CLEANUP(mem) char *volumes = NULL;
    struct volstore v;
    struct strv ids = {0};
    int r = volstore_find(root, name, &v, e);

    if (r < 0)
        return r;
    volstore_done(&v);
    r = volstore_users(root, name, &ids, e);
    if (r == 0 && ids.n > 0)
        r = in_use(name, &ids, e);
    strv_done(&ids);
    if (r == 0)
        r = open_volumes(root, false, &volumes, e);
    if (r < 0)
        return r;
    /* Out of sight at once, so that a removal that is killed leaves no half of a volume. */
    char from[PATH_MAX], temp[PATH_MAX];
    if ((size_t)snprintf(from, sizeof(from), "%s/%s", volumes, name) >= sizeof(from) ||
        (size_t)snprintf(temp, sizeof(temp), "%s/" TEMP_NAME, volumes) >= sizeof(temp))
        return err_errno(e, -ENAMETOOLONG, "volume %s", name);
    if (!mkdtemp(temp) || rename(from, temp) < 0)
        return err_errno(e, -errno, "remove volume %s", name);
    (void)store_remove_tree(AT_FDCWD, temp);
    return access(temp, F_OK) == 0 ? err_set(e, -EBUSY, "remove volume %s: some of it stays", name)
                                   : 0;
}

static uint64_t tree_bytes(int at, const char *name, unsigned depth)
{
    CLEANUP(fd) int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CLEANUP(dir) DIR *d = copy < 0 ? NULL : fdopendir(copy);
    uint64_t sum = 0;
    struct stat st;

    for (const struct dirent *de; d && depth < 256 && (de = readdir(d));) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        sum += (uint64_t)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode))
            sum += tree_bytes(fd, de->d_name, depth + 1);
    }
    return sum;
}

uint64_t volstore_size(const struct volstore *v)
{
    return tree_bytes(AT_FDCWD, v->path, 0);
}
