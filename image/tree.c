#include "image/tree.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    ARENA_BLOCK = 1 << 20,     /* bytes */
    BUCKETS_FIRST = 1 << 12,   /* a power of two */
    DIR_MODE = S_IFDIR | 0755, /* of folders that no header describes */
};

struct block {
    struct block *next;
    size_t used, size; /* bytes of data[] */
    _Alignas(16) uint8_t data[];
};

struct tree {
    struct block *blocks;      /* owned; the first one is being filled */
    size_t bytes;              /* in all blocks */
    struct tree_node **bucket; /* owned */
    size_t n_buckets, n_nodes;
    uint64_t seed;
    uint32_t layer;
    struct tree_node *root;
};

/* One component of a path. */
struct part {
    const char *s;
    size_t len;
};

static void *arena(struct tree *t, size_t n)
{
    struct block *b = t->blocks;

    n = (n + 15) & ~(size_t)15;
    if (!b || b->size - b->used < n) {
        size_t size = n > ARENA_BLOCK ? n : ARENA_BLOCK;

        if (size > TREE_BYTES_MAX - t->bytes)
            return NULL;
        b = malloc(sizeof(*b) + size);
        if (!b)
            return NULL;
        *b = (struct block){.next = t->blocks, .size = size};
        t->blocks = b;
        t->bytes += size;
    }
    void *p = b->data + b->used;
    b->used += n;
    memset(p, 0, n);
    return p;
}

void *tree_copy(struct tree *t, const void *p, size_t n)
{
    if (n > TREE_BYTES_MAX)
        return NULL;
    void *copy = arena(t, n);

    if (copy)
        memcpy(copy, p, n);
    return copy;
}

struct tree_inode *tree_inode(struct tree *t)
{
    return arena(t, sizeof(struct tree_inode));
}

static uint64_t hash_name(const struct tree *t, const struct tree_node *parent,
                          const struct part *c)
{
    uint64_t h = t->seed ^ (uint64_t)(uintptr_t)parent;

    for (size_t i = 0; i < c->len; i++) {
        h = (h ^ (uint8_t)c->s[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

static struct tree_node *child(const struct tree *t, const struct tree_node *dir,
                               const struct part *c)
{
    uint64_t h = hash_name(t, dir, c);

    for (struct tree_node *n = t->bucket[h & (t->n_buckets - 1)]; n; n = n->bucket)
        if (n->hash == h && n->parent == dir && strlen(n->name) == c->len &&
            memcmp(n->name, c->s, c->len) == 0)
            return n;
    return NULL;
}

/* Twice the buckets. Without memory for them the chains grow instead. */
static void rehash(struct tree *t)
{
    size_t n = t->n_buckets * 2;
    struct tree_node **wider = calloc(n, sizeof(struct tree_node *));

    if (!wider)
        return;
    for (size_t i = 0; i < t->n_buckets; i++) {
        struct tree_node *next;

        for (struct tree_node *p = t->bucket[i]; p; p = next) {
            next = p->bucket;
            p->bucket = wider[p->hash & (n - 1)];
            wider[p->hash & (n - 1)] = p;
        }
    }
    free(t->bucket);
    t->bucket = wider;
    t->n_buckets = n;
}

static void set_inode(struct tree_node *n, struct tree_inode *ino)
{
    if (n->inode) {
        if (n->alias_prev)
            n->alias_prev->alias = n->alias;
        else
            n->inode->names = n->alias;
        if (n->alias)
            n->alias->alias_prev = n->alias_prev;
    }
    n->inode = ino;
    n->alias = n->alias_prev = NULL;
    if (ino) {
        n->alias = ino->names;
        if (n->alias)
            n->alias->alias_prev = n;
        ino->names = n;
    }
}

static struct tree_node *add_child(struct tree *t, struct tree_node *dir, const struct part *c)
{
    struct tree_node *n = arena(t, sizeof(*n));
    char *name = arena(t, c->len + 1);

    if (!n || !name)
        return NULL;
    if (t->n_nodes >= t->n_buckets)
        rehash(t);
    memcpy(name, c->s, c->len);
    n->name = name;
    n->parent = dir;
    n->layer = t->layer;
    n->hash = hash_name(t, dir, c);
    n->bucket = t->bucket[n->hash & (t->n_buckets - 1)];
    t->bucket[n->hash & (t->n_buckets - 1)] = n;
    n->next = dir->child;
    if (n->next)
        n->next->prev = n;
    dir->child = n;
    t->n_nodes++;
    return n;
}

static void unlink_node(struct tree *t, struct tree_node *n)
{
    struct tree_node **p = &t->bucket[n->hash & (t->n_buckets - 1)];

    while (*p != n)
        p = &(*p)->bucket;
    *p = n->bucket;
    if (n->prev)
        n->prev->next = n->next;
    else
        n->parent->child = n->next;
    if (n->next)
        n->next->prev = n->prev;
    set_inode(n, NULL);
    t->n_nodes--;
}

/* Remove what lower layers put below `top`, or everything when `all`; `top` itself stays. A folder
 * of a lower layer in which this layer has made something stays too. Children before parents,
 * without recursion. */
static void empty(struct tree *t, struct tree_node *top, bool all)
{
    struct tree_node *n = top->child;

    while (n) {
        while (n->child)
            n = n->child;
        for (;;) {
            struct tree_node *next = n->next, *up = n->parent;

            if (all || (n->layer < t->layer && !n->child))
                unlink_node(t, n);
            if (next) {
                n = next;
                break;
            }
            if (up == top)
                return;
            n = up;
        }
    }
}

struct tree_node *tree_root(struct tree *t)
{
    return t->root;
}

void tree_next_layer(struct tree *t)
{
    t->layer++;
}

struct tree *tree_new(uint64_t seed)
{
    struct tree *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->seed = seed;
    t->n_buckets = BUCKETS_FIRST;
    t->bucket = calloc(t->n_buckets, sizeof(struct tree_node *));
    t->root = t->bucket ? arena(t, sizeof(*t->root)) : NULL;
    struct tree_inode *ino = t->root ? tree_inode(t) : NULL;
    if (!ino) {
        tree_free(t);
        return NULL;
    }
    ino->mode = DIR_MODE;
    t->root->name = "";
    set_inode(t->root, ino);
    return t;
}

void tree_free(struct tree *t)
{
    if (!t)
        return;
    while (t->blocks) {
        struct block *b = t->blocks;

        t->blocks = b->next;
        free(b);
    }
    free(t->bucket);
    free(t);
}

static int too_many(struct err *e)
{
    return err_set(e, -E2BIG, "the image has more files than fit the limit of %zu MiB of names",
                   TREE_BYTES_MAX >> 20);
}

/* The next component at *s; false at the end. "." and empty ones are skipped. */
static bool next_part(const char **s, struct part *c)
{
    for (;;) {
        while (**s == '/')
            (*s)++;
        c->s = *s;
        c->len = strcspn(*s, "/");
        *s += c->len;
        if (c->len == 0)
            return false;
        if (c->len != 1 || c->s[0] != '.')
            return true;
    }
}

static bool is_dotdot(const struct part *c)
{
    return c->len == 2 && c->s[0] == '.' && c->s[1] == '.';
}

static int check_path(const char *path, struct err *e)
{
    const char *s = path;
    struct part c;
    unsigned depth = 0;

    if (strlen(path) > TREE_PATH_MAX)
        return err_set(e, -ENAMETOOLONG, "the path '%.60s...' is longer than %d bytes", path,
                       TREE_PATH_MAX);
    while (next_part(&s, &c)) {
        if (is_dotdot(&c))
            return err_set(e, -EBADMSG, "the path '%.200s' climbs with '..'", path);
        if (c.len > TREE_NAME_MAX)
            return err_set(e, -ENAMETOOLONG, "the path '%.60s...' has a name longer than %d bytes",
                           path, TREE_NAME_MAX);
        if (++depth > TREE_DEPTH_MAX)
            return err_set(e, -ENAMETOOLONG, "the path '%.60s...' is deeper than %d folders", path,
                           TREE_DEPTH_MAX);
    }
    return 0;
}

/* The folder a symbolic link leads to, inside the image. `links` counts down. */
static int follow(struct tree *t, struct tree_node *link, unsigned *links, struct tree_node **ret)
{
    const char *s = link->inode->target;
    struct tree_node *at = s[0] == '/' ? t->root : link->parent;
    struct part c;

    if ((*links)-- == 0)
        return -ELOOP;
    while (next_part(&s, &c)) {
        if (is_dotdot(&c)) {
            if (at == t->root)
                return -EBADMSG;
            at = at->parent;
            continue;
        }
        at = child(t, at, &c);
        if (at && S_ISLNK(at->inode->mode)) {
            int r = follow(t, at, links, &at);

            if (r < 0)
                return r;
        }
        if (!at || !S_ISDIR(at->inode->mode))
            return -EBADMSG;
    }
    *ret = at;
    return 0;
}

/* Folder `c` in `dir`, made when `make` and there is none; *ret NULL when there is none and not
 * `make`. */
static int enter(struct tree *t, struct tree_node *dir, const struct part *c, const char *path,
                 bool make, struct tree_node **ret, struct err *e)
{
    unsigned links = TREE_LINKS_MAX;
    struct tree_node *n = child(t, dir, c);

    if (n && S_ISLNK(n->inode->mode)) {
        int r = follow(t, n, &links, ret);

        if (r == -ELOOP)
            return err_set(e, r, "the path '%.200s' goes through a loop of symbolic links", path);
        if (r < 0)
            return err_set(e, r,
                           "the path '%.160s' goes through the symbolic link '%.*s' -> '%.160s', "
                           "which leads out of the image or nowhere",
                           path, (int)c->len, c->s, n->inode->target);
        return 0;
    }
    if (n && !S_ISDIR(n->inode->mode))
        return err_set(e, -EBADMSG, "the path '%.200s' goes through '%.*s', which is not a folder",
                       path, (int)c->len, c->s);
    if (!n && make) {
        struct tree_inode *ino = tree_inode(t);

        n = ino ? add_child(t, dir, c) : NULL;
        if (!n)
            return too_many(e);
        ino->mode = DIR_MODE;
        set_inode(n, ino);
    }
    *ret = n;
    return 0;
}

/* The folder `path` is in, and the last component. c->len 0: the path is the root. */
static int parent_of(struct tree *t, const char *path, bool make, struct tree_node **dir,
                     struct part *c, struct err *e)
{
    const char *s = path;
    struct part after;
    int r = check_path(path, e);

    if (r < 0)
        return r;
    *dir = t->root;
    if (!next_part(&s, c)) {
        c->len = 0;
        return 0;
    }
    while (*dir && next_part(&s, &after)) {
        r = enter(t, *dir, c, path, make, dir, e);
        if (r < 0)
            return r;
        *c = after;
    }
    return 0;
}

/* layer.md, "Whiteouts": says whether `c` is one, and does its work. */
static bool whiteout(struct tree *t, struct tree_node *dir, const struct part *c)
{
    static const char prefix[] = ".wh.", opaque[] = ".wh..wh..opq";
    const size_t plen = sizeof(prefix) - 1;

    if (c->len < plen || memcmp(c->s, prefix, plen) != 0)
        return false;
    if (c->len == sizeof(opaque) - 1 && memcmp(c->s, opaque, c->len) == 0) {
        empty(t, dir, false);
        return true;
    }
    /* Other names that start with .wh..wh. are notes of aufs to itself. */
    if (c->len >= 2 * plen && memcmp(c->s + plen, prefix, plen) == 0)
        return true;

    struct part hidden = {c->s + plen, c->len - plen};
    struct tree_node *n = hidden.len ? child(t, dir, &hidden) : NULL;
    if (n) {
        empty(t, n, false);
        if (n->layer < t->layer && !n->child)
            unlink_node(t, n);
    }
    return true;
}

static int place(struct tree *t, const char *path, struct tree_inode *ino, struct err *e)
{
    struct tree_node *dir, *n;
    struct part c;
    int r = parent_of(t, path, true, &dir, &c, e);

    if (r < 0)
        return r;
    if (c.len == 0) {
        if (!S_ISDIR(ino->mode))
            return err_set(e, -EBADMSG, "the root of the archive is not a folder");
        set_inode(t->root, ino);
        return 0;
    }
    if (whiteout(t, dir, &c))
        return 0;
    n = child(t, dir, &c);
    if (n && !S_ISDIR(ino->mode))
        empty(t, n, true);
    if (!n)
        n = add_child(t, dir, &c);
    if (!n)
        return too_many(e);
    n->layer = t->layer;
    set_inode(n, ino);
    return 0;
}

int tree_add(struct tree *t, const char *path, struct tree_inode *ino, struct err *e)
{
    return place(t, path, ino, e);
}

int tree_link(struct tree *t, const char *path, const char *target, struct err *e)
{
    struct tree_node *dir, *n;
    struct part c;
    int r = parent_of(t, target, false, &dir, &c, e);

    if (r < 0)
        return err_wrap(e, r, "the hard link '%.200s'", path);
    n = dir && c.len ? child(t, dir, &c) : NULL;
    if (!n || S_ISDIR(n->inode->mode))
        return err_set(e, -EBADMSG, "the hard link '%.200s' names '%.200s', %s", path, target,
                       n ? "which is a folder" : "which is not in the image");
    return place(t, path, n->inode, e);
}

struct tree_node *tree_find(struct tree *t, const char *path)
{
    struct tree_node *n = t->root;
    struct part c;

    while (n && next_part(&path, &c))
        n = child(t, n, &c);
    return n;
}

int tree_path(const struct tree_node *n, char *out)
{
    size_t len = 0;

    if (!n->parent) {
        memcpy(out, ".", 2);
        return 1;
    }
    for (const struct tree_node *p = n; p->parent; p = p->parent)
        len += strlen(p->name) + (p == n ? 0 : 1);
    if (len > TREE_PATH_MAX)
        return -ENAMETOOLONG;

    size_t at = len;
    out[len] = '\0';
    for (const struct tree_node *p = n; p->parent; p = p->parent) {
        size_t k = strlen(p->name);

        at -= k;
        memcpy(out + at, p->name, k);
        if (at)
            out[--at] = '/';
    }
    return (int)len;
}

struct tree_node *tree_walk(struct tree *t, struct tree_node *n)
{
    if (n->child)
        return n->child;
    while (n && !n->next)
        n = n->parent;
    return n ? n->next : NULL;
}
