/* container/template.h - templates: snapshots of machines that have booted and whose agent waits,
 * from which `kiln run` starts in place of a boot. docs/snapshots.md, "Templates".
 *
 * They lie in the store, STORE/templates/KEY/. KEY is a hash of the note, a text that names
 * everything the booted machine depends on: this program (and the agent in it), kernel, modules,
 * command line, CPU, shape. A file is named by its path, identity, size and times, so a change of
 * any makes another key, and what has the old one is stale. KEY.code is code that machines from it
 * have translated. KEY.lock is held while one is made;
 * its time says when it was last started from. Thread: the caller's. */
#ifndef CONTAINER_TEMPLATE_H
#define CONTAINER_TEMPLATE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/guestconf.h"
#include "container/session.h"

enum { TEMPLATE_FAILED_S = 600 };
enum { TEMPLATE_NOTE_MAX = 16384, TEMPLATE_KEY_LEN = 16 };

struct template
{
    char key[TEMPLATE_KEY_LEN + 1]; /* hex */
    char dir[PATH_MAX];             /* of the snapshot */
    char code[PATH_MAX + 16];       /* file for code translated in machines grown from it */
    char note[TEMPLATE_NOTE_MAX];
};

/* Which template a run takes. 1 = it is there, 0 = it is not. Errors: what stat(2) says of the
 * files it depends on; -ENAMETOOLONG. */
int template_find(const struct guest_conf *c, struct template *t, struct err *e) MUST_CHECK;
/* Boot a machine and keep it as *t. What failed is not tried for TEMPLATE_FAILED_S, unless `again`:
 * else each run of a host without room would boot twice. Errors: -EBUSY that, or somebody else is
 * about it; -EEXIST it is there;
 * -EINTR, -ETIMEDOUT as the watch says; those of starting a machine and writing files. */
int template_make(const struct guest_conf *c, const struct template *t,
                  const struct session_watch *w, bool again, struct err *e) MUST_CHECK;
/* It was started from: not to be pruned for a while. */
void template_used(const struct template *t);
/* It turned out to be of no use. */
void template_discard(const struct template *t);

struct template_info {
    char key[TEMPLATE_KEY_LEN + 1];
    char kernel[PATH_MAX];
    unsigned cpus;
    uint64_t ram_bytes;
    bool shares;
    bool stale;     /* nothing will be started from it: program, kernel or CPU are others now */
    int64_t used;   /* s since 1970 */
    uint64_t bytes; /* on disk */
};

/* From a template's note; used and bytes are not in it. False: it is no such note. */
bool template_note_read(const char *note, struct template_info *t);
/* All of a store, in no order. What is there under a template's name and is none is stale. *list
 * owned by the caller: free(). */
int template_list(const char *store, struct template_info **list, size_t *n,
                  struct err *e) MUST_CHECK;
/* By key or a unique beginning of it. -ENOENT. */
int template_remove(const char *store, const char *key, struct err *e) MUST_CHECK;
/* Remove the stale ones, those not used for TEMPLATE_IDLE_S, and what killed calls left. */
enum { TEMPLATE_IDLE_S = 7 * 24 * 3600 };
int template_prune(const char *store, uint64_t *freed, struct err *e) MUST_CHECK;

#endif
