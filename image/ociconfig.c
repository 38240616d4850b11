#include "image/ociconfig.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void cleanup_json(json_t **j)
{
    json_decref(*j);
}
#define JSON __attribute__((cleanup(cleanup_json))) json_t

static int load(const void *p, size_t n, json_t **ret, struct err *e)
{
    json_error_t why;

    if (n > OCI_DOC_MAX)
        return err_set(e, -EBADMSG, "larger than %d MiB", OCI_DOC_MAX >> 20);
    *ret = json_loadb(p, n, JSON_REJECT_DUPLICATES, &why);
    if (!*ret)
        return err_set(e, -EBADMSG, "not JSON: line %d: %s", why.line, why.text);
    return 0;
}

/* A member that is a string, or NULL. */
static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int copy_digest(const char *s, const char *what, char out[DIGEST_MAX], struct err *e)
{
    if (!s || !digest_is_valid(s))
        return err_set(e, -EBADMSG, "%s has no sha256 digest", what);
    memcpy(out, s, DIGEST_MAX);
    return 0;
}

static void copy_name(const char *s, char out[OCI_NAME_MAX + 1])
{
    size_t n = s ? strlen(s) : 0;

    if (n > OCI_NAME_MAX)
        n = 0;
    if (n)
        memcpy(out, s, n);
    out[n] = '\0';
}

/* image-index.md, "platform": absent means the image says it itself. */
static bool platform_fits(const json_t *entry)
{
    const json_t *p = json_object_get(entry, "platform");
    const char *os = text(p, "os"), *arch = text(p, "architecture");

    if (!p)
        return true;
    return os && arch && strcmp(os, "linux") == 0 && strcmp(arch, "amd64") == 0;
}

static const char *entry_name(const json_t *entry)
{
    const json_t *notes = json_object_get(entry, "annotations");
    const char *full = text(notes, "io.containerd.image.name");

    return full ? full : text(notes, "org.opencontainers.image.ref.name");
}

static bool named(const json_t *entry, const char *tag)
{
    const json_t *notes = json_object_get(entry, "annotations");
    const char *ref = text(notes, "org.opencontainers.image.ref.name");
    const char *full = text(notes, "io.containerd.image.name");

    return !tag || (ref && strcmp(ref, tag) == 0) || (full && strcmp(full, tag) == 0);
}

int oci_parse_index(const void *p, size_t n, const char *tag, struct oci_choice *out, struct err *e)
{
    JSON *doc = NULL;
    json_t *entry;
    size_t i;
    int r = load(p, n, &doc, e);

    if (r < 0)
        return r;
    json_t *list = json_object_get(doc, "manifests");
    if (!json_is_array(list))
        return err_set(e, -EBADMSG, "the index has no list of manifests");
    json_array_foreach(list, i, entry)
    {
        const char *type = text(entry, "mediaType");

        if (!platform_fits(entry) || !named(entry, tag))
            continue;
        r = copy_digest(text(entry, "digest"), "an entry of the index", out->digest, e);
        if (r < 0)
            return r;
        out->is_index = type && (strstr(type, "image.index") || strstr(type, "manifest.list"));
        copy_name(entry_name(entry), out->name);
        return 0;
    }
    if (tag)
        return err_set(e, -ENOENT, "it holds no image '%s' for linux/amd64", tag);
    return err_set(e, -ENOENT, "it holds no image for linux/amd64");
}

void oci_manifest_done(struct oci_manifest *m)
{
    free(m->layers);
    *m = (struct oci_manifest){.layers = NULL};
}

/* manifest.md, "layers": tar archives, perhaps compressed. */
static bool is_tar(const char *type)
{
    return !type || strstr(type, ".tar") || strstr(type, "layer.v1.tar") ||
           strstr(type, "rootfs.diff");
}

static int read_layers(const json_t *list, struct oci_manifest *m, struct err *e)
{
    json_t *layer;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > OCI_LAYERS_MAX)
        return err_set(e, -EBADMSG, "the manifest has no list of layers, or more than %d",
                       OCI_LAYERS_MAX);
    m->layers = calloc(json_array_size(list) + 1, DIGEST_MAX);
    if (!m->layers)
        return err_set(e, -ENOMEM, "out of memory");
    json_array_foreach(list, i, layer)
    {
        const char *type = text(layer, "mediaType");

        if (!is_tar(type))
            return err_set(e, -EBADMSG, "layer %zu is no file system layer but '%.100s'", i + 1,
                           type);
        int r = copy_digest(text(layer, "digest"), "a layer of the manifest", m->layers[i], e);
        if (r < 0)
            return r;
        m->n_layers++;
    }
    return 0;
}

int oci_parse_manifest(const void *p, size_t n, struct oci_manifest *out, struct err *e)
{
    JSON *doc = NULL;
    struct oci_manifest m = {.layers = NULL};
    int r = load(p, n, &doc, e);

    if (r == 0)
        r = copy_digest(text(json_object_get(doc, "config"), "digest"),
                        "the manifest's configuration", m.config, e);
    if (r == 0)
        r = read_layers(json_object_get(doc, "layers"), &m, e);
    if (r < 0) {
        oci_manifest_done(&m);
        return r;
    }
    *out = m;
    return 0;
}

void oci_docker_done(struct oci_docker *d)
{
    free(d->layers);
    *d = (struct oci_docker){.layers = NULL};
}

static int copy_path(const char *s, const char *what, char out[OCI_PATH_MAX + 1], struct err *e)
{
    if (!s || !*s || strlen(s) > OCI_PATH_MAX)
        return err_set(e, -EBADMSG, "manifest.json names no %s, or by too long a path", what);
    memcpy(out, s, strlen(s) + 1);
    return 0;
}

/* The entry of manifest.json that carries `tag`, with that tag or its first in *name. */
static json_t *docker_entry(const json_t *doc, const char *tag, const char **name)
{
    json_t *entry, *t;
    size_t i, k;

    json_array_foreach(doc, i, entry)
    {
        json_t *tags = json_object_get(entry, "RepoTags");

        *name = json_string_value(json_array_get(tags, 0));
        if (!tag)
            return entry;
        json_array_foreach(tags, k, t)
        {
            *name = json_string_value(t);
            if (*name && strcmp(*name, tag) == 0)
                return entry;
        }
    }
    return NULL;
}

int oci_parse_docker(const void *p, size_t n, const char *tag, struct oci_docker *out,
                     struct err *e)
{
    JSON *doc = NULL;
    json_t *item;
    const char *name = NULL;
    size_t i;
    int r = load(p, n, &doc, e);

    if (r < 0)
        return r;
    const json_t *entry = docker_entry(doc, tag, &name);
    if (!entry && tag)
        return err_set(e, -ENOENT, "it holds no image '%s'", tag);
    const json_t *layers = json_object_get(entry, "Layers");
    if (!json_is_array(layers) || json_array_size(layers) > OCI_LAYERS_MAX)
        return err_set(e, -EBADMSG, "manifest.json has no list of layers, or more than %d",
                       OCI_LAYERS_MAX);

    struct oci_docker d = {.layers = calloc(json_array_size(layers) + 1, OCI_PATH_MAX + 1)};
    if (!d.layers)
        return err_set(e, -ENOMEM, "out of memory");
    copy_name(name, d.name);
    r = copy_path(text(entry, "Config"), "configuration", d.config, e);
    json_array_foreach(layers, i, item)
    {
        if (r == 0)
            r = copy_path(json_string_value(item), "layer", d.layers[d.n_layers++], e);
    }
    if (r < 0) {
        oci_docker_done(&d);
        return r;
    }
    *out = d;
    return 0;
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void image_config_done(struct image_config *c)
{
    free_list(c->entrypoint);
    free_list(c->cmd);
    free_list(c->env);
    free(c->workdir);
    free(c->user);
    free(c->stop_signal);
    strv_done(&c->labels);
    strv_done(&c->exposed);
    strv_done(&c->volumes);
    strv_done(&c->health);
    *c = (struct image_config){.entrypoint = NULL};
}

void oci_config_done(struct oci_config *c)
{
    image_config_done(&c->run);
    free(c->diff_ids);
    *c = (struct oci_config){.diff_ids = NULL};
}

/* A list of strings; absent, null and empty are all NULL. */
static int read_strings(const json_t *o, const char *key, char ***ret, struct err *e)
{
    const json_t *list = json_object_get(o, key);
    json_t *item;
    size_t i;

    if (!list || json_is_null(list) || (json_is_array(list) && json_array_size(list) == 0))
        return 0;
    if (!json_is_array(list) || json_array_size(list) > OCI_STRINGS_MAX)
        return err_set(e, -EBADMSG, "'%s' of the configuration is no list of at most %d strings",
                       key, OCI_STRINGS_MAX);
    *ret = calloc(json_array_size(list) + 1, sizeof(char *));
    if (!*ret)
        return err_set(e, -ENOMEM, "out of memory");
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return err_set(e, -EBADMSG,
                           "'%s' of the configuration holds something else than strings", key);
        (*ret)[i] = strdup(json_string_value(item));
        if (!(*ret)[i])
            return err_set(e, -ENOMEM, "out of memory");
    }
    return 0;
}

static int read_string(const json_t *o, const char *key, char **ret, struct err *e)
{
    const char *s = text(o, key);

    if (!s || !*s)
        return 0;
    *ret = strdup(s);
    return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* An object whose keys are what counts; what has no meaning is left out, as docker does. */
static const json_t *object_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_object(v) && json_object_size(v) <= OCI_STRINGS_MAX ? v : NULL;
}

static int read_labels(const json_t *run, struct strv *labels, struct err *e)
{
    json_t *from = (json_t *)object_of(run, "Labels"), *value;
    const char *key;
    int r = 0;

    json_object_foreach(from, key, value)
    {
        if (r == 0 && key[0] && !strchr(key, '=') && json_is_string(value))
            r = strv_addf(labels, "%s=%s", key, json_string_value(value));
    }
    return r < 0 ? err_set(e, r, "out of memory") : 0;
}

/* "80", "80/tcp", "53/udp", and ranges are not written by anybody. */
static int read_exposed(const json_t *run, struct strv *exposed, struct err *e)
{
    json_t *from = (json_t *)object_of(run, "ExposedPorts"), *value;
    const char *key;
    int r = 0;

    json_object_foreach(from, key, value)
    {
        size_t digits = strspn(key, "0123456789");
        const char *protocol = key + digits;
        long port = strtol(key, NULL, 10);

        (void)value;
        if (r == 0 && digits && digits <= 5 && port > 0 && port <= 65535 &&
            (!*protocol || strcmp(protocol, "/tcp") == 0 || strcmp(protocol, "/udp") == 0))
            r = strv_addf(exposed, "%ld%s", port, *protocol ? protocol : "/tcp");
    }
    return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int read_volumes(const json_t *run, struct strv *volumes, struct err *e)
{
    json_t *from = (json_t *)object_of(run, "Volumes"), *value;
    const char *key;
    int r = 0;

    json_object_foreach(from, key, value)
    {
        (void)value;
        if (r == 0 && key[0] == '/' && key[1] && strlen(key) <= OCI_PATH_MAX)
            r = strv_add(volumes, key);
    }
    return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int64_t positive(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));

    return v > 0 ? v : 0;
}

/* docker's extension of the image format; podman's images have it too. */
static int read_health(const json_t *run, struct image_config *c, struct err *e)
{
    const json_t *health = object_of(run, "Healthcheck");
    char **words = NULL;
    int r = health ? read_strings(health, "Test", &words, e) : 0;

    if (r == 0 && words && strv_add_all(&c->health, words) < 0)
        r = err_set(e, -ENOMEM, "out of memory");
    free_list(words);
    c->health_interval_ns = positive(health, "Interval");
    c->health_timeout_ns = positive(health, "Timeout");
    c->health_start_period_ns = positive(health, "StartPeriod");
    c->health_retries = positive(health, "Retries");
    return r;
}

static int read_diff_ids(const json_t *doc, struct oci_config *c, struct err *e)
{
    const json_t *list = json_object_get(json_object_get(doc, "rootfs"), "diff_ids");
    json_t *item;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > OCI_LAYERS_MAX)
        return err_set(e, -EBADMSG, "the configuration has no list of layers, or more than %d",
                       OCI_LAYERS_MAX);
    c->diff_ids = calloc(json_array_size(list) + 1, DIGEST_MAX);
    if (!c->diff_ids)
        return err_set(e, -ENOMEM, "out of memory");
    json_array_foreach(list, i, item)
    {
        int r =
            copy_digest(json_string_value(item), "a layer of the configuration", c->diff_ids[i], e);

        if (r < 0)
            return r;
        c->n_diff_ids++;
    }
    return 0;
}

static int check_platform(const json_t *doc, struct err *e)
{
    const char *os = text(doc, "os"), *arch = text(doc, "architecture");

    /* 32-bit x86 programs run on the same kernel. */
    if ((os && strcmp(os, "linux") != 0) ||
        (arch && strcmp(arch, "amd64") != 0 && strcmp(arch, "386") != 0))
        return err_set(e, -ENOEXEC, "the image is for %.40s/%.40s; kiln runs linux/amd64",
                       os ? os : "linux", arch ? arch : "amd64");
    return 0;
}

int oci_parse_config(const void *p, size_t n, struct oci_config *out, struct err *e)
{
    JSON *doc = NULL;
    struct oci_config c = {.diff_ids = NULL};
    int r = load(p, n, &doc, e);

    if (r < 0)
        return r;
    const json_t *run = json_object_get(doc, "config");
    r = check_platform(doc, e);
    if (r == 0)
        r = read_diff_ids(doc, &c, e);
    if (r == 0)
        r = read_strings(run, "Entrypoint", &c.run.entrypoint, e);
    if (r == 0)
        r = read_strings(run, "Cmd", &c.run.cmd, e);
    if (r == 0)
        r = read_strings(run, "Env", &c.run.env, e);
    if (r == 0)
        r = read_string(run, "WorkingDir", &c.run.workdir, e);
    if (r == 0)
        r = read_string(run, "User", &c.run.user, e);
    if (r == 0)
        r = read_string(run, "StopSignal", &c.run.stop_signal, e);
    if (r == 0)
        r = read_labels(run, &c.run.labels, e);
    if (r == 0)
        r = read_exposed(run, &c.run.exposed, e);
    if (r == 0)
        r = read_volumes(run, &c.run.volumes, e);
    if (r == 0)
        r = read_health(run, &c.run, e);
    if (r < 0) {
        oci_config_done(&c);
        return r;
    }
    *out = c;
    return 0;
}

static json_t *descriptor(const char *type, const char *digest, uint64_t size)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size",
                     (json_int_t)size);
}

char *oci_write_manifest(const char *config_digest, size_t config_size,
                         const char (*diff_ids)[DIGEST_MAX], const uint64_t *sizes, size_t n)
{
    JSON *list = json_array();
    JSON *doc = NULL;

    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(list, descriptor("application/vnd.oci.image.layer.v1.tar",
                                                   diff_ids[i], sizes[i])) < 0)
            return NULL;
    doc = json_pack(
        "{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType",
        "application/vnd.oci.image.manifest.v1+json", "config",
        descriptor("application/vnd.oci.image.config.v1+json", config_digest, config_size),
        "layers", list);
    return doc ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

char *oci_write_config(const char *diff_id)
{
    JSON *doc = json_pack("{s:s, s:s, s:{s:[s], s:[s]}, s:{s:s, s:[s]}}", "architecture", "amd64",
                          "os", "linux", "config", "Cmd", "/bin/sh", "Env",
                          "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                          "rootfs", "type", "layers", "diff_ids", diff_id);

    return doc ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}
