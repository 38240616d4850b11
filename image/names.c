#include "image/names.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "os/jsonfile.h"

static const char file_name[] = "names.json", file_new[] = "names.json.new";

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

int names_normalise(const char *ref, char out[OCI_NAME_MAX + 1], struct err *e)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@";
    const char *s = ref;

    if (starts(s, "docker://"))
        s += strlen("docker://");
    if (starts(s, "docker.io/"))
        s += strlen("docker.io/");
    if (starts(s, "library/"))
        s += strlen("library/");
    size_t n = strlen(s);
    if (n == 0 || n + strlen(":latest") > OCI_NAME_MAX || strspn(s, letters) != n ||
        !isalnum((unsigned char)s[0]) || strstr(s, "//") || strstr(s, ".."))
        return err_set(e, -EINVAL, "'%.100s' is not the name of an image", ref);

    const char *base = strrchr(s, '/');
    bool tagged = strchr(base ? base : s, ':') || strchr(s, '@');
    memcpy(out, s, n + 1);
    if (!tagged)
        memcpy(out + n, ":latest", strlen(":latest") + 1);
    return 0;
}

void names_from_path(const char *path, char out[OCI_NAME_MAX + 1])
{
    static const char *const tails[] = {".gz",  ".xz",  ".zst", ".bz2",
                                        ".lz4", ".tgz", ".tar", ".oci"};
    size_t len = strlen(path), n = 0;

    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/')
        start--;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
            size_t k = strlen(tails[i]);

            if (len - start > k && memcmp(path + len - k, tails[i], k) == 0)
                len -= k;
        }
    }
    for (size_t i = start; i < len && n < 128; i++) {
        unsigned char c = (unsigned char)path[i];

        if (isalnum(c))
            out[n++] = (char)tolower(c);
        else if (n > 0 && isalnum((unsigned char)out[n - 1]))
            out[n++] = c == '.' || c == '_' ? (char)c : '-';
    }
    while (n > 0 && !isalnum((unsigned char)out[n - 1]))
        n--;
    if (n == 0) {
        memcpy(out, "image", 5);
        n = 5;
    }
    memcpy(out + n, ":latest", strlen(":latest") + 1);
}

void names_done(struct names *n)
{
    for (size_t i = 0; i < n->n; i++)
        free(n->list[i].name);
    free(n->list);
    *n = (struct names){.list = NULL};
}

static struct name *find(const struct names *n, const char *name)
{
    for (size_t i = 0; i < n->n; i++)
        if (strcmp(n->list[i].name, name) == 0)
            return &n->list[i];
    return NULL;
}

const char *names_get(const struct names *n, const char *name)
{
    const struct name *x = find(n, name);

    return x ? x->digest : NULL;
}

void names_forget(struct names *n, const char *name)
{
    struct name *x = find(n, name);

    if (!x)
        return;
    free(x->name);
    memmove(x, x + 1, (size_t)(n->list + n->n - (x + 1)) * sizeof(*x));
    n->n--;
}

int names_set(struct names *n, const char *name, const char *digest)
{
    struct name *x = find(n, name);

    if (!x) {
        CLEANUP(mem) char *copy = strdup(name);
        struct name *wider = copy ? reallocarray(n->list, n->n + 1, sizeof(*wider)) : NULL;

        if (!wider)
            return -ENOMEM;
        n->list = wider;
        x = &n->list[n->n++];
        x->name = take_ptr(&copy);
    }
    memcpy(x->digest, digest, DIGEST_MAX);
    return 0;
}

int names_load(int dir, struct names *ret, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, file_name, O_RDONLY | O_CLOEXEC);
    struct names n = {.list = NULL};
    json_error_t why;
    const char *name;
    json_t *value;
    int r = 0;

    if (fd < 0 && errno == ENOENT) {
        *ret = n;
        return 0;
    }
    if (fd < 0)
        return err_errno(e, -errno, "names.json");
    json_t *doc = jsonfile_load(fd, 0, &why);
    if (!json_is_object(doc)) {
        json_decref(doc);
        return err_set(e, -EBADMSG,
                       "names.json of the store is damaged; remove it and import the images again");
    }
    json_object_foreach(doc, name, value)
    {
        const char *digest = json_string_value(value);

        if (r == 0 && digest && digest_is_valid(digest))
            r = names_set(&n, name, digest);
    }
    json_decref(doc);
    if (r < 0) {
        names_done(&n);
        return err_set(e, r, "out of memory");
    }
    *ret = n;
    return 0;
}

int names_save(int dir, const struct names *n, struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, file_new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    json_t *doc = json_object();
    int r = 0;

    if (fd < 0)
        r = -errno;
    for (size_t i = 0; i < n->n && r == 0; i++)
        if (json_object_set_new(doc, n->list[i].name, json_string(n->list[i].digest)) < 0)
            r = -ENOMEM;
    if (r == 0 && (json_dumpfd(doc, fd, JSON_INDENT(1) | JSON_SORT_KEYS) < 0 || fsync(fd) < 0))
        r = errno ? -errno : -EIO;
    json_decref(doc);
    if (r == 0 && renameat(dir, file_new, dir, file_name) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(dir, file_new, 0);
        return err_errno(e, r, "names.json");
    }
    return 0;
}
