/* Candidates by kind: what the store, this host and the environment have. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/complete.h"
#include "cmd/flags.h"
#include "cmd/snapname.h"
#include "container/record.h"
#include "container/rundir.h"
#include "container/template.h"
#include "container/volstore.h"
#include "image/store.h"
#include "network/netconf.h"

/* What cannot be read has no candidates: a shell that completes is no place for messages. */

static void images(struct complete *c)
{
    struct store *s = NULL;
    struct image *list = NULL;
    size_t n = 0;

    if (store_open(NULL, &s, NULL) < 0)
        return;
    if (store_list(s, &list, &n, NULL) < 0)
        n = 0;
    store_close(s);
    for (size_t i = 0; i < n; i++) {
        if (list[i].name)
            complete_word(c, list[i].name, "image");
        image_done(&list[i]);
    }
    free(list);
}

struct known { /* containers, which rundir_each() names once more */
    struct complete *c;
    const struct record *list;
    size_t n;
};

static void machine(void *ctx, const char *id, const char *name)
{
    const struct known *k = ctx;

    for (size_t i = 0; i < k->n; i++)
        if (strncmp(k->list[i].id, id, RECORD_SHORT) == 0)
            return;
    complete_word(k->c, name[0] ? name : id, "machine");
}

/* A name; the id too once somebody begins to type one. */
static void container(struct complete *c, const struct record *r, const char *behind)
{
    const char *image = r->spec.image ? r->spec.image : "container";
    char word[RECORD_NAME_MAX + 8];

    snprintf(word, sizeof(word), "%s%s", r->name, behind);
    complete_word(c, word, image);
    snprintf(word, sizeof(word), "%.*s%s", RECORD_SHORT, r->id, behind);
    if (c->prefix[0])
        complete_word(c, word, image);
}

static void containers(struct complete *c, bool running, const char *behind)
{
    struct known k = {.c = c};
    struct record *list = NULL;
    char base[RUNDIR_PATH_MAX];

    if (record_list(NULL, &list, &k.n, NULL, NULL) < 0)
        k.n = 0;
    k.list = list;
    for (size_t i = 0; i < k.n; i++) {
        enum record_status s = list[i].state.status;

        if (!running || s == RECORD_RUNNING || s == RECORD_PAUSED || s == RECORD_RESTARTING)
            container(c, &list[i], behind);
    }
    if (!behind[0] && rundir_base(base, sizeof(base), NULL) == 0)
        (void)!rundir_each(base, machine, &k, NULL);
    for (size_t i = 0; i < k.n; i++)
        record_done(&list[i]);
    free(list);
}

static void volumes(struct complete *c, const char *behind)
{
    struct volstore *list = NULL;
    size_t n = 0;

    if (volstore_list(NULL, &list, &n, NULL) < 0)
        n = 0;
    for (size_t i = 0; i < n; i++) {
        char word[VOLSTORE_NAME_MAX + 8];

        snprintf(word, sizeof(word), "%s%s", list[i].name, behind);
        if (!list[i].anonymous)
            complete_word(c, word, "volume");
        volstore_done(&list[i]);
    }
    free(list);
}

static void networks(struct complete *c)
{
    struct netconf *list = NULL;
    struct store *s = NULL;
    size_t n = 0;

    if (store_open(NULL, &s, NULL) < 0)
        return;
    if (netconf_list(store_root(s), &list, &n, NULL) < 0)
        n = 0;
    store_close(s);
    for (size_t i = 0; i < n; i++) {
        complete_word(c, list[i].name, "network");
        netconf_done(&list[i]);
    }
    free(list);
}

static void modes(struct complete *c)
{
    static const char *const words[] = {"none",       "user", "bridge", "host",
                                        "container:", "tap:", "ns:",    "vhost-user:"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        complete_word(c, words[i], "network");
    networks(c);
}

static void snapshot(void *ctx, const char *name, const char *dir)
{
    (void)dir;
    complete_word(ctx, name, "snapshot");
}

static void snapshots(struct complete *c)
{
    (void)!snapname_each(snapshot, c, NULL);
    c->dirs = strchr(c->prefix, '/') != NULL;
}

static void templates(struct complete *c)
{
    CLEANUP(mem) struct template_info *list = NULL;
    struct store *s = NULL;
    size_t n = 0;

    if (store_open(NULL, &s, NULL) < 0)
        return;
    if (template_list(store_root(s), &list, &n, NULL) < 0)
        n = 0;
    for (size_t i = 0; i < n; i++)
        complete_word(c, list[i].key, list[i].stale ? "stale template" : "template");
    store_close(s);
}

static void signals(struct complete *c)
{
    for (int sig = 1; sig < NSIG; sig++) {
        const char *name = sigabbrev_np(sig);
        char word[32];

        snprintf(word, sizeof(word), "SIG%s", name ? name : "");
        if (name)
            complete_word(c, word, sigdescr_np(sig));
        if (name && strncmp(c->prefix, "SIG", 3) != 0 && c->prefix[0])
            complete_word(c, name, sigdescr_np(sig));
    }
}

static void environment(struct complete *c)
{
    for (char **v = environ; *v; v++) {
        CLEANUP(mem) char *name = strndup(*v, strcspn(*v, "="));

        if (name && name[0])
            complete_word(c, name, "variable");
    }
}

static void capabilities(struct complete *c)
{
    complete_word(c, "ALL", "every capability");
    for (const char *const *name = flags_capabilities; *name; name++)
        complete_word(c, *name, "capability");
}

/* -f of kiln ps. */
static void psfilter(struct complete *c)
{
    static const char status[] = "status=created status=running status=paused status=restarting "
                                 "status=exited status=dead health=healthy health=unhealthy "
                                 "health=starting isolation=vm isolation=process";
    static const char keys[] = "id= name= label= exited= ancestor= before= since= volume= network= "
                               "publish= expose=";

    complete_kind(c, status, sizeof(status) - 1);
    complete_kind(c, keys, sizeof(keys) - 1);
}

static void running(struct complete *c)
{
    containers(c, true, "");
}

static void all_containers(struct complete *c)
{
    containers(c, false, "");
}

static void all_volumes(struct complete *c)
{
    volumes(c, "");
}

/* The source of -v. */
static void sources(struct complete *c)
{
    volumes(c, ":");
    c->dirs = true;
    c->nospace = true;
}

/* Of kiln cp: a place in a container, or here. */
static void places(struct complete *c)
{
    containers(c, false, ":");
    c->files = true;
}

/* Of kiln inspect. */
static void objects(struct complete *c)
{
    containers(c, false, "");
    images(c);
    volumes(c, "");
    networks(c);
}

static void files(struct complete *c)
{
    c->files = true;
}

static void dirs(struct complete *c)
{
    c->dirs = true;
}

static const struct {
    const char *name;
    void (*fill)(struct complete *c);
} kinds[] = {
    {"@capability", capabilities},
    {"@command", files},
    {"@container", all_containers},
    {"@dir", dirs},
    {"@env", environment},
    {"@file", files},
    {"@image", images},
    {"@container:", places},
    {"@object", objects},
    {"@network", modes},
    {"@networks", networks},
    {"@psfilter", psfilter},
    {"@running", running},
    {"@signal", signals},
    {"@snapshot", snapshots},
    {"@template", templates},
    {"@volume", all_volumes},
    {"@volume:", sources},
};

void complete_kind(struct complete *c, const char *kind, size_t len)
{
    if (kind[0] == '@') {
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            if (strlen(kinds[i].name) == len && strncmp(kinds[i].name, kind, len) == 0)
                kinds[i].fill(c);
        return;
    }
    for (const char *end = kind + len; kind < end;) {
        size_t n = strcspn(kind, " ");
        CLEANUP(mem) char *word = strndup(kind, kind + n < end ? n : (size_t)(end - kind));

        if (word)
            complete_word(c, word, "");
        kind += n + 1;
    }
}
