/* container/volstore.h - named volumes: folders of kiln's own that outlive containers.
 *
 * ROOT/volumes/NAME/ has volume.json (labels, when it was made) and _data/, which containers get.
 * One is made in ROOT/volumes/.new-*, and renamed when it is whole. root as in image/store.h.
 * Thread: the caller's; calls of several processes do not meet halfway. */
#ifndef CONTAINER_VOLSTORE_H
#define CONTAINER_VOLSTORE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strv.h"

enum { VOLSTORE_NAME_MAX = 255 };

struct volstore { /* one volume; owned: volstore_done() */
    char name[VOLSTORE_NAME_MAX + 1];
    char path[PATH_MAX]; /* of _data */
    int64_t created_s;   /* since 1970 */
    struct strv labels;  /* "K=V" */
    bool anonymous;      /* made for one container, without a name of the user's */
};
void volstore_done(struct volstore *v);

/* Letters, digits, '_', '.', '-', two at least, the first a letter or digit. -EINVAL. */
int volstore_check_name(const char *name, struct err *e) MUST_CHECK;
/* `name` NULL: 64 hexadecimal digits. labels may be NULL. One that is there is taken as it is:
 * returns 1, and 0 when it was made. *out may be NULL. */
int volstore_create(const char *root, const char *name, const struct strv *labels, bool anonymous,
                    struct volstore *out, struct err *e) MUST_CHECK;
/* -ENOENT "no such volume: X". */
int volstore_find(const char *root, const char *name, struct volstore *out,
                  struct err *e) MUST_CHECK;
/* All, by name. *list owned by the caller: volstore_done() each, free(). */
int volstore_list(const char *root, struct volstore **list, size_t *n, struct err *e) MUST_CHECK;
/* Ids of the containers that have it. */
int volstore_users(const char *root, const char *name, struct strv *ids, struct err *e) MUST_CHECK;
/* -ENOENT; -EBUSY "volume is in use - [ID, ...]". */
int volstore_remove(const char *root, const char *name, struct err *e) MUST_CHECK;
/* Bytes its files take on the disk. */
uint64_t volstore_size(const struct volstore *v);

#endif
