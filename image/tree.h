/* image/tree.h - the names of a root file system while layers are laid on each other.
 *
 * Charter: decides which file of which layer every name means, from headers alone; file contents
 * stay in the layers. Source: OCI image-spec 1.1, layer.md ("Applying Changesets", "Whiteouts").
 * Names come from hostile archives: nothing here touches the host's file system. Memory: one arena
 * of at most TREE_BYTES_MAX, freed as a whole. Threads: one. */
#ifndef IMAGE_TREE_H
#define IMAGE_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    TREE_NAME_MAX = 255,   /* bytes of one component */
    TREE_PATH_MAX = 4095,  /* bytes of a whole path or link target */
    TREE_DEPTH_MAX = 512,  /* components */
    TREE_LINKS_MAX = 40,   /* symbolic links followed for one path, as Linux does */
    TREE_XATTRS_MAX = 256, /* of one file */
};
#define TREE_BYTES_MAX ((size_t)768 << 20) /* all names and facts: over two million files */
#define TREE_XATTR_SIZE_MAX ((size_t)65536)

struct tree_xattr { /* arena */
    struct tree_xattr *next;
    const char *name;
    const void *value;
    size_t len;
};

/* What a name stands for; several names may share one (hard links). */
struct tree_inode { /* arena */
    uint32_t mode;  /* S_IFMT and permissions */
    uint32_t uid, gid;
    uint32_t major, minor; /* of a device */
    int64_t mtime;         /* s since 1970 */
    uint64_t size;         /* bytes, of a regular file */
    const char *target;    /* of a symbolic link */
    struct tree_xattr *xattrs;
    uint32_t layer, entry;   /* where the contents are: layer, and which header in it */
    struct tree_node *names; /* those that stand for it now */
};

struct tree_node {                                  /* arena */
    struct tree_node *parent, *child, *next, *prev; /* the folder, its entries */
    struct tree_node *bucket;                       /* hash chain */
    struct tree_node *alias, *alias_prev;           /* other names of the same inode */
    struct tree_inode *inode;
    uint32_t layer; /* that made this name last */
    uint64_t hash;
    const char *name;
};

struct tree;

/* `seed` hides the hash function from whoever made the archive. NULL = out of memory. */
struct tree *tree_new(uint64_t seed);
void tree_free(struct tree *t);
struct tree_node *tree_root(struct tree *t);

/* Layers come in order, from the lowest. */
void tree_next_layer(struct tree *t);

/* A new inode, all zero, in the arena; NULL = TREE_BYTES_MAX reached or no memory. */
struct tree_inode *tree_inode(struct tree *t);
/* Copy into the arena. NULL as above. */
void *tree_copy(struct tree *t, const void *p, size_t n);

/* Give `path` of the current layer to `ino`. A whiteout name removes what lower layers put there
 * instead. Errors, all the archive's fault: -EBADMSG ('..' in the path, a path through a link that
 * leads out or nowhere, a file used as a folder), -ENAMETOOLONG, -ELOOP, -E2BIG = more files than
 * fit TREE_BYTES_MAX. */
int tree_add(struct tree *t, const char *path, struct tree_inode *ino, struct err *e) MUST_CHECK;
/* Give `path` to what `target` means. Errors: as above; -EBADMSG when there is no such file. */
int tree_link(struct tree *t, const char *path, const char *target, struct err *e) MUST_CHECK;

/* The node of a path, links not followed, or NULL. For tests. */
struct tree_node *tree_find(struct tree *t, const char *path);

/* The path of a node without a leading slash into `out` (TREE_PATH_MAX + 1 bytes). Returns its
 * length, or -ENAMETOOLONG. The root is ".". */
int tree_path(const struct tree_node *n, char *out) MUST_CHECK;

/* Every folder before what is in it; NULL after the last. */
struct tree_node *tree_walk(struct tree *t, struct tree_node *n);

#endif
