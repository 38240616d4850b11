/* fs/fusenode.h - what the guest calls a node: a name below another node.
 *
 * Nodes hold no descriptors (a tree may have more files than a process may open): a node's path is
 * made from the names up to the root when it is needed. A node whose name was removed or replaced
 * is detached: it has no path any more, but lives until the guest forgets it. Ids come from the
 * guest and are hostile: fnode_get() checks them. Thread: one. */
#ifndef FS_FUSENODE_H
#define FS_FUSENODE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FNODES_MAX = 1 << 18, /* nodes the guest may hold */
    FNODE_BUCKETS = 1 << 12,
    FNODE_PATH_MAX = 4096,
    FNODE_NAME_MAX = 255,
    FNODE_ROOT = 1, /* FUSE_ROOT_ID */
};

struct fnode {
    uint32_t id, parent; /* parent 0: the root, or detached */
    uint32_t children;
    uint32_t next; /* in its bucket, by id */
    uint64_t lookups;
    uint64_t generation;
    char *name; /* owned; NULL as parent 0 */
};

struct fnodes {
    struct fnode **at; /* by id; NULL = free */
    uint32_t cap, n, hint;
    uint64_t generation;
    uint32_t bucket[FNODE_BUCKETS];
};

int fnodes_init(struct fnodes *t); /* 0, or -ENOMEM */
void fnodes_done(struct fnodes *t);
struct fnode *fnode_get(const struct fnodes *t, uint64_t id); /* NULL = no such node */
/* The node of `name` below `parent`, made if need be, with one more lookup. NULL: out of nodes. */
struct fnode *fnode_lookup(struct fnodes *t, struct fnode *parent, const char *name);
void fnode_forget(struct fnodes *t, uint64_t id, uint64_t lookups);
/* The name is gone, moved (what had the new name is detached), or two names changed places. */
void fnode_detach(struct fnodes *t, struct fnode *parent, const char *name);
void fnode_move(struct fnodes *t, struct fnode *from, const char *old, struct fnode *to,
                const char *new, bool exchange);
/* Path from the root, "." for the root. 0, -ESTALE (detached), -ENAMETOOLONG. */
int fnode_path(const struct fnodes *t, const struct fnode *n, char path[FNODE_PATH_MAX]);

#endif
