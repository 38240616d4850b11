/* A drive without a medium: what a template's machine has where an image will be. */
#include <errno.h>
#include <stdlib.h>

#include "block/block.h"

/* Never called: no request fits on a disk of 0 bytes, and one of that size is not flushed. */
static void empty_submit(struct block *b, struct block_req *r)
{
    BUG("a request to a drive without a medium");
}

static void empty_drain(struct block *b)
{
}

static void empty_close(struct block *b)
{
    free(b);
}

static const struct block_ops empty_ops = {
    .submit = empty_submit, .drain = empty_drain, .close = empty_close};

int empty_open(enum empty_kind kind, struct block **ret, struct err *e)
{
    struct block *b = calloc(1, sizeof(*b));

    if (!b)
        return err_set(e, -ENOMEM, "out of memory");
    *b = (struct block){.ops = &empty_ops,
                        .info = {.read_only = kind == EMPTY_READ_ONLY,
                                 .can_discard = kind == EMPTY_WRITABLE,
                                 .can_write_zeroes = kind == EMPTY_WRITABLE,
                                 .block_size = BLOCK_SECTOR}};
    *ret = b;
    return 0;
}
