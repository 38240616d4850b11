/* Flags that say which folders, volumes and devices a container sees: -v, --mount, --tmpfs. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/csv.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/spec.h"

static void mount_done(struct spec_mount *m)
{
    free(m->source);
    free(m->target);
    free(m->options);
    free(m->propagation);
}

/* Takes *m over, also on failure. */
static int add_mount(struct spec *s, struct spec_mount *m, struct err *e)
{
    int r = 0;

    if (m->target)
        for (size_t n = strlen(m->target); n > 1 && m->target[n - 1] == '/'; n--)
            m->target[n - 1] = '\0';
    if (!m->target || m->target[0] != '/')
        r = err_set(e, -EINVAL, "'%s': the place inside must be an absolute path",
                    m->target ? m->target : "");
    else if (strcmp(m->target, "/") == 0 || strlen(m->target) >= PATH_MAX)
        r = err_set(e, -EINVAL, "'%s' cannot be a mount point", m->target);
    else if (s->n_mounts == SPEC_MOUNTS_MAX)
        r = err_set(e, -E2BIG, "more than %d of them", SPEC_MOUNTS_MAX);
    for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
        if (strcmp(s->mounts[i].target, m->target) == 0)
            r = err_set(e, -EINVAL, "duplicate mount point: %s", m->target);
    struct spec_mount *all = r == 0 ? reallocarray(s->mounts, s->n_mounts + 1, sizeof(*all)) : NULL;
    if (r == 0 && !all)
        r = err_errno(e, -ENOMEM, "%s", m->target);
    if (r < 0) {
        mount_done(m);
        return r;
    }
    s->mounts = all;
    s->mounts[s->n_mounts++] = *m;
    return 0;
}

/* docker's [a-zA-Z0-9][a-zA-Z0-9_.-]*. */
static bool is_volume_name(const char *s)
{
    size_t n = strlen(s);

    if (!isalnum((unsigned char)s[0]) || n > 255)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("_.-", s[i]))
            return false;
    return true;
}

/* A path of this host, absolute; links stay as they are. */
static char *absolute(const char *path)
{
    CLEANUP(mem) char *here = NULL;
    char *whole = NULL;

    if (path[0] == '/')
        return strdup(path);
    if (strncmp(path, "./", 2) == 0)
        path += 2;
    here = getcwd(NULL, 0);
    if (!here || asprintf(&whole, "%s%s%s", here, strcmp(path, ".") == 0 ? "" : "/",
                          strcmp(path, ".") == 0 ? "" : path) < 0)
        return NULL;
    return whole;
}

static bool is_propagation(const char *word)
{
    static const char *const words[] = {"shared",  "slave",  "private",
                                        "rshared", "rslave", "rprivate"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* What stands behind the second colon of -v. */
static int volume_options(struct spec_mount *m, char *words, struct err *e)
{
    static const char *const without_effect[] = {"z",      "Z",         "nocopy",
                                                 "cached", "delegated", "consistent"};
    char *word, *rest = words;

    while ((word = strsep(&rest, ","))) {
        bool known = strcmp(word, "ro") == 0 || strcmp(word, "rw") == 0;

        if (known)
            m->read_only = strcmp(word, "ro") == 0;
        if (is_propagation(word)) {
            int r = flags_copy(&m->propagation, word, e);
            if (r < 0)
                return r;
            known = true;
        }
        for (size_t i = 0; i < ARRAY_LEN(without_effect); i++)
            known |= strcmp(word, without_effect[i]) == 0;
        if (!known)
            return err_set(e, -EINVAL, "there is no mount option '%s'", word);
    }
    return 0;
}

/* [SOURCE:]TARGET[:OPTIONS]; a source with a slash or a dot in front is a path of the host. */
static int split_volume(char *text, struct spec_mount *m, struct err *e)
{
    char *part[3] = {text, NULL, NULL};
    unsigned n = 1;

    for (char *s = text; *s; s++) {
        if (*s != ':')
            continue;
        if (n == 3)
            return err_set(e, -EINVAL, "more than two colons: write [SOURCE:]TARGET[:OPTIONS]");
        *s = '\0';
        part[n++] = s + 1;
    }
    m->kind = SPEC_VOLUME;
    if (n > 1 && (part[0][0] == '/' || part[0][0] == '.')) {
        m->kind = SPEC_BIND;
        m->create = true; /* as docker's -v does */
        m->source = absolute(part[0]);
    } else if (n > 1 && !is_volume_name(part[0])) {
        return err_set(e, -EINVAL,
                       "'%s' is neither a path (it would begin with / or .) nor a volume's name",
                       part[0]);
    } else if (n > 1) {
        m->source = strdup(part[0]);
    }
    m->target = strdup(n > 1 ? part[1] : part[0]);
    if ((n > 1 && !m->source) || !m->target)
        return err_errno(e, -errno, "%s", part[0]);
    return n == 3 ? volume_options(m, part[2], e) : 0;
}

int flags_volume(void *spec, const char *value, struct err *e)
{
    CLEANUP(mem) char *text = strdup(value);
    struct spec_mount m = {0};
    int r = text ? split_volume(text, &m, e) : err_errno(e, -ENOMEM, "'%s'", value);

    if (r == 0)
        return add_mount(spec, &m, e);
    mount_done(&m);
    return r;
}

static int add_tmpfs(void *spec, const char *value, struct err *e)
{
    size_t n = strcspn(value, ":");
    struct spec_mount m = {.kind = SPEC_TMPFS, .target = strndup(value, n)};

    if (value[n])
        m.options = strdup(value + n + 1);
    if (!m.target || (value[n] && !m.options)) {
        mount_done(&m);
        return err_errno(e, -ENOMEM, "'%s'", value);
    }
    return add_mount(spec, &m, e);
}

struct mount_text { /* --mount while it is read */
    struct spec_mount m;
    const char *source, *size, *mode;
    bool typed;
};

static int mount_type(struct mount_text *t, const char *value, struct err *e)
{
    static const char *const kinds[] = {"bind", "volume", "tmpfs"};

    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(value, kinds[i]) == 0) {
            t->m.kind = (enum spec_mount_kind)i;
            t->typed = true;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "type=%s is none of bind, volume, tmpfs", value);
}

static bool is_one_of(const char *key, const char *words)
{
    size_t n = strlen(key);

    for (const char *w = words; *w; w += strcspn(w, " "), w += strspn(w, " "))
        if (strcspn(w, " ") == n && strncmp(w, key, n) == 0)
            return true;
    return false;
}

/* One key=value; the names are docker's and their older spellings. */
static int mount_field(struct mount_text *t, char *field, struct err *e)
{
    char *value = strchr(field, '=');

    if (value)
        *value++ = '\0';
    if (is_one_of(field, "readonly ro")) {
        if (value && !is_one_of(value, "true false 1 0"))
            return err_set(e, -EINVAL, "%s=%s is neither true nor false", field, value);
        t->m.read_only = !value || is_one_of(value, "true 1");
        return 0;
    }
    if (is_one_of(field, "volume-nocopy bind-nonrecursive"))
        return 0;
    if (!value || !value[0])
        return err_set(e, -EINVAL, "'%s' needs a value", field);
    if (strcmp(field, "type") == 0)
        return mount_type(t, value, e);
    if (is_one_of(field, "source src"))
        t->source = value;
    else if (is_one_of(field, "target dst destination"))
        return flags_copy(&t->m.target, value, e);
    else if (strcmp(field, "bind-propagation") == 0 && is_propagation(value))
        return flags_copy(&t->m.propagation, value, e);
    else if (strcmp(field, "tmpfs-size") == 0)
        t->size = value;
    else if (strcmp(field, "tmpfs-mode") == 0)
        t->mode = value;
    else if (!(strcmp(field, "consistency") == 0 ||
               (strcmp(field, "volume-driver") == 0 && strcmp(value, "local") == 0)))
        return err_set(e, -EINVAL, "there is no '%s=%s' for a mount", field, value);
    return 0;
}

static int tmpfs_options(struct mount_text *t, struct err *e)
{
    uint64_t size = 0;
    int r = t->size ? parse_size(t->size, &size, e) : 0;

    if (r < 0)
        return r;
    if (t->mode && (strspn(t->mode, "01234567") != strlen(t->mode) || strlen(t->mode) > 5))
        return err_set(e, -EINVAL, "tmpfs-mode=%s is not an octal number", t->mode);
    if (!t->size && !t->mode)
        return 0;
    char sized[32] = "";
    if (t->size)
        snprintf(sized, sizeof(sized), "size=%llu", (unsigned long long)size);
    if (asprintf(&t->m.options, "%s%s%s%s", sized, t->size && t->mode ? "," : "",
                 t->mode ? "mode=" : "", t->mode ? t->mode : "") < 0) {
        t->m.options = NULL;
        return err_errno(e, -ENOMEM, "tmpfs");
    }
    return 0;
}

/* What its kind makes of the fields. */
static int mount_finish(struct mount_text *t, struct err *e)
{
    struct spec_mount *m = &t->m;

    if (!t->typed)
        m->kind = SPEC_VOLUME;
    if (!m->target)
        return err_set(e, -EINVAL, "target=PATH is missing");
    if ((t->size || t->mode) && m->kind != SPEC_TMPFS)
        return err_set(e, -EINVAL, "tmpfs-size and tmpfs-mode go with type=tmpfs");
    if (m->propagation && m->kind != SPEC_BIND)
        return err_set(e, -EINVAL, "bind-propagation goes with type=bind");
    if (m->kind == SPEC_TMPFS) {
        if (t->source)
            return err_set(e, -EINVAL, "a tmpfs has no source");
        return tmpfs_options(t, e);
    }
    if (m->kind == SPEC_BIND && !t->source)
        return err_set(e, -EINVAL, "type=bind needs source=PATH");
    if (m->kind == SPEC_VOLUME && t->source && !is_volume_name(t->source))
        return err_set(e, -EINVAL, "'%s' is not a volume's name", t->source);
    if (!t->source)
        return 0;
    m->source = m->kind == SPEC_BIND ? absolute(t->source) : strdup(t->source);
    return m->source ? 0 : err_errno(e, -errno, "%s", t->source);
}

static int add_mount_text(void *spec, const char *value, struct err *e)
{
    CLEANUP(mem) char *text = strdup(value);
    struct mount_text t = {0};
    struct err quote = {0};
    char *rest = text, *field;
    int r = text ? 0 : err_errno(e, -ENOMEM, "'%s'", value);

    while (r == 0 && (field = csv_next(&rest, &quote)))
        r = mount_field(&t, field, e);
    if (r == 0 && quote.code)
        r = err_set(e, quote.code, "'%s': %s", value, quote.msg);
    if (r == 0)
        r = mount_finish(&t, e);
    if (r == 0)
        return add_mount(spec, &t.m, e);
    mount_done(&t.m);
    return r;
}

static bool is_access(const char *s)
{
    return s[0] && strlen(s) <= 3 && strspn(s, "rwm") == strlen(s);
}

/* HOST[:GUEST][:ACCESS] */
static int add_device(void *spec, const char *value, struct err *e)
{
    CLEANUP(mem) char *text = strdup(value);
    struct spec *s = spec;
    char *rest = text, *part[3] = {NULL, NULL, NULL};

    for (unsigned n = 0; n < 3 && rest; n++)
        part[n] = strsep(&rest, ":");
    if (part[1] && !part[2] && is_access(part[1])) {
        part[2] = part[1];
        part[1] = NULL;
    }
    if (!part[0] || !part[0][0] || rest || (part[1] && part[1][0] != '/') ||
        (part[2] && !is_access(part[2])))
        return err_set(e, -EINVAL, "'%s': write HOST[:GUEST][:ACCESS], ACCESS of r, w and m",
                       value);
    if (s->n_devices == SPEC_DEVICES_MAX)
        return err_set(e, -E2BIG, "more than %d of them", SPEC_DEVICES_MAX);
    struct spec_device *all = reallocarray(s->devices, s->n_devices + 1, sizeof(*all));
    if (!all)
        return err_errno(e, -ENOMEM, "'%s'", value);
    s->devices = all;
    struct spec_device *d = &all[s->n_devices];
    *d = (struct spec_device){.host = absolute(part[0]),
                              .guest = part[1] ? strdup(part[1]) : NULL,
                              .access = part[2] ? strdup(part[2]) : NULL};
    s->n_devices++;
    if (!d->host || (part[1] && !d->guest) || (part[2] && !d->access))
        return err_errno(e, -ENOMEM, "'%s'", value);
    return 0;
}

#define S struct spec
static const struct flag storage_flags[] = {
    {"volume", 'v', "[SOURCE:]DIR[:ro]", "a folder of this host, or a volume by name, in it",
     FLAG_SET(flags_volume), .values = "@volume:"},
    {"mount", 0, "type=...,source=...,target=...", "the same in words: bind, volume, tmpfs",
     FLAG_SET(add_mount_text),
     .values = "type=bind,source= type=volume,source= type=tmpfs,target="},
    {"tmpfs", 0, "DIR[:OPTIONS]", "a folder in memory, such as /run:size=64m", FLAG_SET(add_tmpfs)},
    {"device", 0, "HOST[:GUEST[:rwm]]", "a device, a disk or a disk's file, raw or qcow2",
     FLAG_SET(add_device), .values = "@file"},
    {"read-only", 0, NULL, "refuse writes to the root file system", FLAG_BOOL(S, read_only)},
    {"storage-size", 0, "SIZE", "what may be written to the root file system",
     FLAG_AT(S, storage_size, flags_size)},
    {"storage-memory", 0, NULL, "keep what is written in memory, until it stops",
     FLAG_BOOL(S, storage_memory)},
    {0},
};
const struct flag_group flags_storage = {"Storage", storage_flags};
