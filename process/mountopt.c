#include "process/mountopt.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"

static const struct {
    const char *word;
    bool clear; /* the flags go */
    unsigned long flags;
} flag_of[] = {
    {"async", true, MS_SYNCHRONOUS},
    {"atime", true, MS_NOATIME},
    {"bind", false, MS_BIND},
    {"defaults", false, 0},
    {"dev", true, MS_NODEV},
    {"diratime", true, MS_NODIRATIME},
    {"dirsync", false, MS_DIRSYNC},
    {"exec", true, MS_NOEXEC},
    {"noatime", false, MS_NOATIME},
    {"nodev", false, MS_NODEV},
    {"nodiratime", false, MS_NODIRATIME},
    {"noexec", false, MS_NOEXEC},
    {"norelatime", true, MS_RELATIME},
    {"nostrictatime", true, MS_STRICTATIME},
    {"nosuid", false, MS_NOSUID},
    {"nosymfollow", false, MS_NOSYMFOLLOW},
    {"rbind", false, MS_BIND | MS_REC},
    {"relatime", false, MS_RELATIME},
    {"ro", false, MS_RDONLY},
    {"rw", true, MS_RDONLY},
    {"strictatime", false, MS_STRICTATIME},
    {"suid", true, MS_NOSUID},
    {"symfollow", true, MS_NOSYMFOLLOW},
    {"sync", false, MS_SYNCHRONOUS},
};

static const struct {
    const char *word;
    unsigned long propagation;
} propagation_of[] = {
    {"private", MS_PRIVATE},
    {"rprivate", MS_PRIVATE | MS_REC},
    {"rshared", MS_SHARED | MS_REC},
    {"rslave", MS_SLAVE | MS_REC},
    {"runbindable", MS_UNBINDABLE | MS_REC},
    {"shared", MS_SHARED},
    {"slave", MS_SLAVE},
    {"unbindable", MS_UNBINDABLE},
};

static void apply(unsigned long *set, unsigned long *clear, unsigned long flags, bool away)
{
    if (away) {
        *set &= ~flags;
        *clear |= flags;
    } else {
        *set |= flags;
        *clear &= ~flags;
    }
}

static bool known(const char *word, struct mountopt *o)
{
    for (unsigned i = 0; i < ARRAY_LEN(flag_of); i++) {
        const unsigned long flags = flag_of[i].flags;

        if (strcmp(word, flag_of[i].word) == 0) {
            apply(&o->flags, &o->clear, flags, flag_of[i].clear);
            return true;
        }
        /* "rro", "rnosuid"...: of the whole tree. "rbind" is in the table before. */
        if (word[0] == 'r' && strcmp(word + 1, flag_of[i].word) == 0 && !(flags & MS_BIND)) {
            apply(&o->rec_flags, &o->rec_clear, flags, flag_of[i].clear);
            return true;
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(propagation_of); i++)
        if (strcmp(word, propagation_of[i].word) == 0) {
            o->propagation = propagation_of[i].propagation;
            return true;
        }
    return false;
}

int mountopt_word(const char *word, struct mountopt *o, struct err *e)
{
    size_t have = strlen(o->data);

    if (!word[0] || known(word, o))
        return 0;
    int n = snprintf(o->data + have, sizeof(o->data) - have, "%s%s", have ? "," : "", word);
    if (n < 0 || (size_t)n >= sizeof(o->data) - have) {
        o->data[have] = '\0';
        return err_set(e, -E2BIG, "mount options: more than %d bytes", MOUNTOPT_DATA_MAX);
    }
    return 0;
}

int mountopt_words(const char *text, struct mountopt *o, struct err *e)
{
    char word[MOUNTOPT_DATA_MAX];

    for (const char *p = text; *p;) {
        size_t n = strcspn(p, ",");

        if (n >= sizeof(word))
            return err_set(e, -E2BIG, "mount options: more than %d bytes", MOUNTOPT_DATA_MAX);
        memcpy(word, p, n);
        word[n] = '\0';
        int r = mountopt_word(word, o, e);
        if (r < 0)
            return r;
        p += n + (p[n] == ',');
    }
    return 0;
}
