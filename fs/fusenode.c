#include "fs/fusenode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t *bucket(struct fnodes *t, uint32_t parent, const char *name)
{
    uint32_t h = 2166136261u ^ parent; /* FNV-1a */

    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return &t->bucket[h % FNODE_BUCKETS];
}

struct fnode *fnode_get(const struct fnodes *t, uint64_t id)
{
    return id < t->cap ? t->at[id] : NULL;
}

static struct fnode *find(struct fnodes *t, uint32_t parent, const char *name)
{
    uint32_t id = *bucket(t, parent, name);

    while (id) {
        struct fnode *n = t->at[id];

        if (n->parent == parent && strcmp(n->name, name) == 0)
            return n;
        id = n->next;
    }
    return NULL;
}

static void link_node(struct fnodes *t, struct fnode *n, struct fnode *parent)
{
    uint32_t *b = bucket(t, parent->id, n->name);

    n->parent = parent->id;
    n->next = *b;
    *b = n->id;
    parent->children++;
}

static void reap(struct fnodes *t, struct fnode *n);

static void unlink_node(struct fnodes *t, struct fnode *n)
{
    struct fnode *parent = t->at[n->parent];
    uint32_t *p = bucket(t, n->parent, n->name);

    while (*p != n->id)
        p = &t->at[*p]->next;
    *p = n->next;
    n->parent = 0;
    parent->children--;
    reap(t, parent);
}

/* Free a node that neither the guest nor a child needs; then perhaps its parent. */
static void reap(struct fnodes *t, struct fnode *n)
{
    if (n->id == FNODE_ROOT || n->lookups > 0 || n->children > 0)
        return;
    if (n->parent)
        unlink_node(t, n);
    t->at[n->id] = NULL;
    if (n->id < t->hint)
        t->hint = n->id;
    t->n--;
    free(n->name);
    free(n);
}

static int grow(struct fnodes *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : 256;

    if (cap > FNODES_MAX)
        return -ENFILE;
    struct fnode **at = realloc(t->at, cap * sizeof(*at));
    if (!at)
        return -ENOMEM;
    memset(at + t->cap, 0, (cap - t->cap) * sizeof(*at));
    t->at = at;
    t->cap = cap;
    return 0;
}

static struct fnode *make(struct fnodes *t, const char *name)
{
    uint32_t id = t->hint;

    while (id < t->cap && t->at[id])
        id++;
    if (id >= t->cap && grow(t) < 0)
        return NULL;
    struct fnode *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->name = name ? strdup(name) : NULL;
    if (name && !n->name) {
        free(n);
        return NULL;
    }
    n->id = id;
    n->generation = ++t->generation;
    t->at[id] = n;
    t->hint = id + 1;
    t->n++;
    return n;
}

int fnodes_init(struct fnodes *t)
{
    *t = (struct fnodes){.hint = FNODE_ROOT};
    return make(t, NULL) ? 0 : -ENOMEM;
}

void fnodes_done(struct fnodes *t)
{
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->at[i])
            free(t->at[i]->name);
        free(t->at[i]);
    }
    free(t->at);
    *t = (struct fnodes){0};
}

struct fnode *fnode_lookup(struct fnodes *t, struct fnode *parent, const char *name)
{
    struct fnode *n = find(t, parent->id, name);

    if (!n) {
        n = make(t, name);
        if (!n)
            return NULL;
        link_node(t, n, parent);
    }
    n->lookups++;
    return n;
}

void fnode_forget(struct fnodes *t, uint64_t id, uint64_t lookups)
{
    struct fnode *n = fnode_get(t, id);

    if (!n)
        return;
    n->lookups -= lookups < n->lookups ? lookups : n->lookups;
    reap(t, n);
}

static void detach(struct fnodes *t, struct fnode *n)
{
    unlink_node(t, n);
    reap(t, n);
}

void fnode_detach(struct fnodes *t, struct fnode *parent, const char *name)
{
    struct fnode *n = find(t, parent->id, name);

    if (n)
        detach(t, n);
}

/* Gives n another name; out of memory it loses its name instead. */
static void rename_node(struct fnodes *t, struct fnode *n, struct fnode *to, const char *name)
{
    char *copy = strdup(name);

    to->children++; /* holds `to` while n leaves what may be below it */
    unlink_node(t, n);
    to->children--;
    if (!copy) {
        reap(t, n);
        return;
    }
    free(n->name);
    n->name = copy;
    link_node(t, n, to);
}

void fnode_move(struct fnodes *t, struct fnode *from, const char *old, struct fnode *to,
                const char *new, bool exchange)
{
    struct fnode *a = find(t, from->id, old), *b = find(t, to->id, new);

    if (a == b)
        return;       /* one and the same, or neither known */
    from->children++; /* neither folder goes while we work */
    to->children++;
    if (b && exchange)
        rename_node(t, b, from, old);
    else if (b)
        detach(t, b);
    if (a)
        rename_node(t, a, to, new);
    from->children--;
    to->children--;
}

int fnode_path(const struct fnodes *t, const struct fnode *n, char path[FNODE_PATH_MAX])
{
    size_t at = FNODE_PATH_MAX - 1;

    path[at] = '\0';
    while (n->id != FNODE_ROOT) {
        if (n->parent == 0)
            return -ESTALE;
        size_t len = strlen(n->name);
        if (len + 1 > at)
            return -ENAMETOOLONG;
        at -= len;
        memcpy(path + at, n->name, len);
        path[--at] = '/';
        n = t->at[n->parent];
    }
    if (path[at] == '\0')
        memcpy(path, ".", 2);
    else
        memmove(path, path + at + 1, FNODE_PATH_MAX - at - 1);
    return 0;
}
