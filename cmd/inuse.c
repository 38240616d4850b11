#include "cmd/inuse.h"

#include <stdlib.h>

#include "container/record.h"
#include "image/store.h"

static int keep(struct store *s, const char *digest, struct err *e)
{
    return digest ? store_keep(s, digest, e) : 0;
}

int inuse_keep(struct store *s, struct err *e)
{
    struct record *list = NULL;
    size_t n = 0;
    int r = record_list(store_root(s), &list, &n, NULL, e);

    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = keep(s, list[i].spec.image_id, e);
        if (r == 0)
            r = keep(s, list[i].spec.image_digest, e);
        record_done(&list[i]);
    }
    free(list);
    return r;
}
