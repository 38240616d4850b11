/* Bytes from the other end of the session: frames, then the fields of each, as either side walks
 * them. */
#include <assert.h>
#include <stdlib.h>

#include "proto/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void fields(const struct proto_frame *f)
{
    struct proto_field_view v;
    size_t pos = 0;

    while (proto_field_next(f, &pos, &v) == 1) {
        uint64_t number;
        char *s = proto_field_str(&v);

        assert(v.p >= f->p && v.len <= f->len && v.p + v.len <= f->p + f->len);
        if (proto_field_u64(&v, &number) == 0)
            assert(v.len <= 8);
        free(s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct proto_frame f;
    int used;

    while ((used = proto_next(p, n, &f)) > 0) {
        assert((size_t)used <= n && f.len <= PROTO_FRAME_MAX);
        fields(&f);
        p += used;
        n -= (size_t)used;
    }
    return 0;
}
