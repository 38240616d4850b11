#include "container/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec_priv.h"
#include "container/files.h"
#include "container/packtar.h"
#include "container/procconf.h"
#include "image/store_priv.h"

enum { ANSWER_MS = 120000 };

/* An OCI image layout (image-layout.md) in a folder of the store's tmp/. */
struct layout {
    struct store *s;
    struct work work;
    char path[PATH_MAX];
    char layer[DIGEST_MAX];
    uint64_t layer_size;
};

/* ---- its processes stand still */

struct still {
    struct session *s;
    struct process_state st;
    bool frozen;
};

static int hold(const struct record *r, struct still *h, struct err *e)
{
    static const struct session_watch none = {.machine_fd = -1, .signal_fd = -1};

    if (r->spec.isolation != SPEC_VM) {
        int rc = procconf_state(r, &h->st, e);
        if (rc == 0)
            rc = process_freeze(&h->st, true, e);
        h->frozen = rc == 0;
        return rc;
    }
    int rc = exec_vm_call(r, &none, &h->s, e);
    if (rc == 0)
        rc = session_hold(h->s, e);
    for (unsigned i = 0; rc == 0 && i < 2; i++) /* HELLO, and that */
        rc = session_await(h->s, ANSWER_MS, e);
    return rc;
}

static void let_go(struct still *h)
{
    session_close(h->s);
    if (h->frozen)
        (void)!process_freeze(&h->st, false, NULL);
}

/* ---- the layer */

static int read_root(struct files_at *at, int fd, struct err *e)
{
    CLEANUP(mem) struct pack_in *in = calloc(1, sizeof(*in));
    struct files f;

    if (!in)
        return err_errno(e, -ENOMEM, "commit");
    int r = files_begin(at, FILEWORK_GET, FILEWORK_ONE_FS, "/", "", &f, e);
    if (r < 0)
        return r;
    pack_in_init(in, pack_fill_fd, &f.out);
    r = packtar_write(in, NULL, "", true, fd, e);
    files_end(&f);
    return r;
}

static int make_layer(struct layout *l, const char *root, const struct record *r, bool pause,
                      struct err *e)
{
    struct files_at *at = NULL;
    struct still h = {.s = NULL};
    char blob[128];
    struct stat st;

    if (mkdirat(l->work.dir, "blobs", 0755) < 0 || mkdirat(l->work.dir, "blobs/sha256", 0755) < 0)
        return err_errno(e, -errno, "commit");
    CLEANUP(fd)
    int fd = openat(l->work.dir, "layer", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "commit");
    int rc = files_enter(root, r, &at, e);
    if (rc == 0 && pause && r->state.status == RECORD_RUNNING)
        rc = hold(r, &h, e);
    if (rc == 0)
        rc = read_root(at, fd, e);
    let_go(&h);
    files_leave(at);
    if (rc == 0 && digest_of_fd(fd, l->layer) < 0)
        rc = err_errno(e, -EIO, "commit");
    if (rc < 0)
        return rc;
    store_blob_name(l->layer, blob);
    if (fstat(fd, &st) < 0 || renameat(l->work.dir, "layer", l->work.dir, blob) < 0)
        return err_errno(e, -errno, "commit");
    l->layer_size = (uint64_t)st.st_size;
    return 0;
}

/* ---- the documents */

static int put_file(struct layout *l, const char *name, const char *text, struct err *e)
{
    CLEANUP(fd)
    int fd = openat(l->work.dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);

    return fd < 0 || write(fd, text, len) != (ssize_t)len ? err_errno(e, -errno, "commit") : 0;
}

/* *text is freed. */
static int put_blob(struct layout *l, char *text, char digest[DIGEST_MAX], struct err *e)
{
    char name[128];
    int r = text && digest_of(text, strlen(text), digest) == 0 ? 0 : -ENOMEM;

    if (r == 0) {
        store_blob_name(digest, name);
        r = put_file(l, name, text, e);
    } else {
        err_errno(e, r, "commit");
    }
    free(text);
    return r;
}

static json_t *string_list(char *const *v, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_stringn_nocheck(v[i], strlen(v[i])));
    return list;
}

/* The words behind the entrypoint are the command; one with another entrypoint has that. */
static void put_command(json_t *config, const struct spec *s)
{
    const json_t *entry = json_object_get(config, "Entrypoint");
    size_t n = json_array_size(entry);
    bool same = n <= s->argv.n;

    for (size_t i = 0; same && i < n; i++) {
        const char *word = json_string_value(json_array_get(entry, i));
        same = word && strcmp(word, s->argv.v[i]) == 0;
    }
    if (!same) {
        json_object_del(config, "Entrypoint");
        n = 0;
    }
    json_object_set_new(config, "Cmd", string_list(s->argv.v + n, s->argv.n - n));
}

static void put_settings(json_t *config, const struct spec *s)
{
    put_command(config, s);
    json_object_set_new(config, "Env", string_list(s->env.v, s->env.n));
    if (s->cwd)
        json_object_set_new(config, "WorkingDir", json_string(s->cwd));
    if (s->user)
        json_object_set_new(config, "User", json_string(s->user));
    if (s->stop_signal)
        json_object_set_new(config, "StopSignal", json_string(s->stop_signal));
    for (size_t i = 0; i < s->labels.n; i++) {
        CLEANUP(mem) char *text = NULL;

        if (asprintf(&text, "LABEL %s", s->labels.v[i]) > 0)
            (void)!commit_change(config, text, NULL);
    }
}

static int make_config(const struct layout *l, const struct record *r, const struct commit_conf *c,
                       char **text, struct err *e)
{
    CLEANUP(mem) void *base = NULL;
    size_t len;
    char now[32];
    time_t t = time(NULL);
    struct tm tm;
    int rc = store_blob_read(l->s, r->spec.image_id, &base, &len, e);

    if (rc < 0)
        return rc;
    json_t *doc = json_loadb(base, len, 0, NULL), *config = json_object_get(doc, "config");
    if (!json_is_object(config)) {
        config = json_object();
        json_object_set_new(doc, "config", config);
    }
    put_settings(config, &r->spec);
    for (size_t i = 0; rc == 0 && c->changes && i < c->changes->n; i++)
        rc = commit_change(config, c->changes->v[i], e);
    gmtime_r(&t, &tm);
    strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_object_set_new(doc, "created", json_string(now));
    if (c->author)
        json_object_set_new(doc, "author", json_string(c->author));
    json_object_set_new(doc, "rootfs",
                        json_pack("{s:s, s:[s]}", "type", "layers", "diff_ids", l->layer));
    json_object_set_new(doc, "history",
                        json_pack("[{s:s, s:s, s:s*}]", "created", now, "created_by", "kiln commit",
                                  "comment", c->message));
    *text = rc == 0 ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(doc);
    return rc < 0 ? rc : *text ? 0 : err_errno(e, -ENOMEM, "commit");
}

static int make_documents(struct layout *l, const struct record *r, const struct commit_conf *c,
                          struct err *e)
{
    char config[DIGEST_MAX], manifest[DIGEST_MAX], ids[1][DIGEST_MAX];
    char *text = NULL;
    int rc = make_config(l, r, c, &text, e);

    if (rc < 0)
        return rc;
    size_t len = strlen(text);
    rc = put_blob(l, text, config, e);
    if (rc < 0)
        return rc;
    memcpy(ids[0], l->layer, sizeof(ids[0]));
    text = oci_write_manifest(config, len, (const char(*)[DIGEST_MAX])ids, &l->layer_size, 1);
    len = text ? strlen(text) : 0;
    rc = put_blob(l, text, manifest, e);
    if (rc < 0)
        return rc;
    json_t *index = json_pack("{s:i, s:s, s:[{s:s, s:s, s:I}]}", "schemaVersion", 2, "mediaType",
                              "application/vnd.oci.image.index.v1+json", "manifests", "mediaType",
                              "application/vnd.oci.image.manifest.v1+json", "digest", manifest,
                              "size", (json_int_t)len);
    CLEANUP(mem) char *doc = json_dumps(index, JSON_COMPACT);
    json_decref(index);
    if (!doc)
        return err_errno(e, -ENOMEM, "commit");
    rc = put_file(l, "index.json", doc, e);
    return rc == 0 ? put_file(l, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", e) : rc;
}

int commit(const char *root, const struct record *r, const struct commit_conf *c, struct image *out,
           struct err *e)
{
    struct layout l = {.s = NULL};
    json_t *scratch = json_object();
    int rc = 0;

    /* Said before the work, not after it. */
    for (size_t i = 0; rc == 0 && c->changes && i < c->changes->n; i++)
        rc = commit_change(scratch, c->changes->v[i], e);
    json_decref(scratch);
    if (rc == 0)
        rc = store_open(root, &l.s, e);
    if (rc < 0)
        return rc;
    rc = store_work_begin(l.s, &l.work, e);
    if (rc == 0) {
        snprintf(l.path, sizeof(l.path), "%s/tmp/%s", store_root(l.s), l.work.name);
        rc = make_layer(&l, root, r, c->pause, e);
        if (rc == 0)
            rc = make_documents(&l, r, c, e);
        if (rc == 0)
            rc = store_import(l.s, l.path, c->name, NULL, NULL, out, e);
        store_work_end(l.s, &l.work);
    }
    store_close(l.s);
    return rc;
}
