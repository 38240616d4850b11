#include "vm/snapfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "mem/mem.h"
#include "state/state.h"

static const char magic[8] = "KILNSNAP";

enum { HEADER = 24, TRAILER = 4, VERSION_AT = 8, LENGTH_AT = 16 };
enum { EXTENT_BYTES = 24, ZERO_BYTES = 8, TEXT_MAX = 256 };

static uint64_t get_le(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

static void put_le(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* --- fields ------------------------------------------------------------------ */

/* Text without a NUL inside; loading allocates it. */
static void text_visit(struct state_io *io, uint16_t id, char **text, size_t max)
{
    uint8_t *p = (uint8_t *)*text;
    size_t len = *text ? strlen(*text) : 0;

    state_blob(io, id, &p, &len, max);
    if (!state_loading(io))
        return;
    if (memchr(p, 0, len))
        state_fail(io, "a text with a NUL inside");
    else if (!(*text = strndup((char *)p, len)))
        state_fail(io, "out of memory");
    free(p);
}

/* All zeroes = none, as "". */
static void id_visit(struct state_io *io, uint16_t id, char text[SNAP_ID_LEN + 1])
{
    char none[SNAP_ID_LEN] = {0};

    state_bytes(io, id, text, SNAP_ID_LEN);
    text[SNAP_ID_LEN] = '\0';
    if (state_loading(io) && memcmp(text, none, SNAP_ID_LEN) != 0 &&
        strspn(text, "0123456789abcdef") != SNAP_ID_LEN)
        state_fail(io, "an identity that is not %d hexadecimal digits", SNAP_ID_LEN);
}

static uint8_t *pack_extents(const struct snapfile *f)
{
    uint8_t *b = malloc(f->n_extents * EXTENT_BYTES + 1), *p = b;

    for (size_t i = 0; b && i < f->n_extents; i++, p += EXTENT_BYTES) {
        put_le(p, f->extent[i].first, 4);
        put_le(p + 4, f->extent[i].pages, 4);
        put_le(p + 8, f->extent[i].crc, 4);
        put_le(p + 12, f->extent[i].packed, 4);
        put_le(p + 16, f->extent[i].at, 8);
    }
    return b;
}

static uint8_t *pack_zeroes(const struct snapfile *f)
{
    uint8_t *b = malloc(f->n_zeroes * ZERO_BYTES + 1), *p = b;

    for (size_t i = 0; b && i < f->n_zeroes; i++, p += ZERO_BYTES) {
        put_le(p, f->zero[i].first, 4);
        put_le(p + 4, f->zero[i].pages, 4);
    }
    return b;
}

/* A run of pages after the one before it and inside RAM. */
static bool in_order(uint64_t first, uint64_t pages, uint64_t *end, uint64_t ram_pages)
{
    bool good = pages > 0 && first >= *end && first < ram_pages && pages <= ram_pages - first;

    *end = first + pages;
    return good;
}

static void unpack_extents(struct snapfile *f, const uint8_t *b, size_t len, struct state_io *io)
{
    uint64_t end = 0, ram = f->shape.ram_bytes / MEM_PAGE;

    if (len % EXTENT_BYTES != 0 || len / EXTENT_BYTES > SNAPFILE_EXTENTS_MAX) {
        state_fail(io, "a list of extents of %zu bytes", len);
        return;
    }
    f->extent = calloc(len / EXTENT_BYTES + 1, sizeof(*f->extent));
    if (!f->extent) {
        state_fail(io, "out of memory");
        return;
    }
    for (; f->n_extents < len / EXTENT_BYTES; b += EXTENT_BYTES) {
        struct snap_extent *x = &f->extent[f->n_extents++];

        *x = (struct snap_extent){.first = (uint32_t)get_le(b, 4),
                                  .pages = (uint32_t)get_le(b + 4, 4),
                                  .crc = (uint32_t)get_le(b + 8, 4),
                                  .packed = (uint32_t)get_le(b + 12, 4),
                                  .at = get_le(b + 16, 8)};
        if (!in_order(x->first, x->pages, &end, ram) || x->pages > SNAPFILE_EXTENT_PAGES ||
            (x->packed != 0) != f->compressed || x->packed > 2 * SNAPFILE_EXTENT_PAGES * MEM_PAGE ||
            x->at > MEM_SIZE_MAX) {
            state_fail(io, "extent %zu is not one", f->n_extents - 1);
            return;
        }
    }
}

static void unpack_zeroes(struct snapfile *f, const uint8_t *b, size_t len, struct state_io *io)
{
    uint64_t end = 0, ram = f->shape.ram_bytes / MEM_PAGE;

    if (len % ZERO_BYTES != 0 || len / ZERO_BYTES > SNAPFILE_EXTENTS_MAX) {
        state_fail(io, "a list of zeroes of %zu bytes", len);
        return;
    }
    f->zero = calloc(len / ZERO_BYTES + 1, sizeof(*f->zero));
    if (!f->zero) {
        state_fail(io, "out of memory");
        return;
    }
    for (; f->n_zeroes < len / ZERO_BYTES; b += ZERO_BYTES) {
        struct snap_zero *z = &f->zero[f->n_zeroes++];

        *z = (struct snap_zero){(uint32_t)get_le(b, 4), (uint32_t)get_le(b + 4, 4)};
        if (!in_order(z->first, z->pages, &end, ram)) {
            state_fail(io, "run of zeroes %zu is not one", f->n_zeroes - 1);
            return;
        }
    }
}

static void lists_visit(struct snapfile *f, struct state_io *io)
{
    uint8_t *x = io->saving ? pack_extents(f) : NULL, *z = io->saving ? pack_zeroes(f) : NULL;
    size_t x_len = f->n_extents * EXTENT_BYTES, z_len = f->n_zeroes * ZERO_BYTES;

    if (io->saving && (!x || !z)) {
        state_fail(io, "out of memory");
    } else {
        state_blob(io, 11, &x, &x_len, SNAPFILE_BYTES_MAX);
        if (state_loading(io))
            unpack_extents(f, x, x_len, io);
        state_blob(io, 12, &z, &z_len, SNAPFILE_BYTES_MAX);
        if (state_loading(io))
            unpack_zeroes(f, z, z_len, io);
    }
    free(x);
    free(z);
}

static void check(const struct snapfile *f, struct state_io *io)
{
    if (!f->id[0])
        state_fail(io, "no identity");
    if (!f->parent_id[0] != !f->parent[0])
        state_fail(io, "half a parent");
    if (!f->parent_id[0] && f->n_zeroes > 0)
        state_fail(io, "runs of zeroes in a whole snapshot");
}

static void visit(struct snapfile *f, struct state_io *io)
{
    uint64_t created = (uint64_t)f->created_ns;

    id_visit(io, 1, f->id);
    id_visit(io, 2, f->parent_id);
    text_visit(io, 3, &f->parent, SHAPE_PATH_MAX);
    state_u64(io, 4, &created);
    text_visit(io, 5, &f->program, TEXT_MAX);
    text_visit(io, 6, &f->engine, TEXT_MAX);
    text_visit(io, 7, &f->note, SNAP_NOTE_MAX);
    state_bool(io, 8, &f->compressed);
    state_begin(io, 10, "shape");
    shape_visit(&f->shape, io);
    state_end(io);
    lists_visit(f, io);
    state_blob(io, 13, &f->machine, &f->machine_len, SNAPFILE_BYTES_MAX);
    f->created_ns = (int64_t)created;
    if (state_loading(io))
        check(f, io);
}

/* --- the envelope ----------------------------------------------------------- */

int snapfile_parse(const void *bytes, size_t len, struct snapfile *f, struct err *e)
{
    const uint8_t *b = bytes;
    struct state_io io;

    *f = (struct snapfile){0};
    if (len < sizeof(magic) || memcmp(b, magic, sizeof(magic)) != 0)
        return err_set(e, -EBADMSG, "not the state of a snapshot");
    if (len < HEADER + TRAILER)
        return err_set(e, -EBADMSG, "truncated");
    uint32_t version = (uint32_t)get_le(b + VERSION_AT, 4);
    if (version != SNAP_VERSION)
        return err_set(e, -EPROTONOSUPPORT, "a snapshot of version %u; this program reads %d",
                       version, SNAP_VERSION);
    if (get_le(b + LENGTH_AT, 8) != len - HEADER - TRAILER)
        return err_set(e, -EBADMSG, "truncated, or with something behind its end");
    if (crc32c(0, b, len - TRAILER) != (uint32_t)get_le(b + len - TRAILER, 4))
        return err_set(e, -EBADMSG, "damaged: its checksum does not match");
    state_load_init(&io, b + HEADER, len - HEADER - TRAILER);
    visit(f, &io);
    int r = state_done(&io, e);
    if (r < 0)
        snapfile_done(f);
    return r;
}

int snapfile_format(const struct snapfile *f, uint8_t **bytes, size_t *len, struct err *e)
{
    struct state_io io;
    uint8_t *fields;
    size_t n;

    state_save_init(&io);
    visit((struct snapfile *)(uintptr_t)f, &io); /* saving writes nothing through it */
    int r = state_take(&io, &fields, &n, e);
    if (r < 0)
        return r;
    uint8_t *b = n > SNAPFILE_BYTES_MAX ? NULL : calloc(1, HEADER + n + TRAILER);
    if (!b) {
        free(fields);
        return err_errno(e, n > SNAPFILE_BYTES_MAX ? -EFBIG : -ENOMEM, "state of %zu bytes", n);
    }
    memcpy(b, magic, sizeof(magic));
    put_le(b + VERSION_AT, SNAP_VERSION, 4);
    put_le(b + LENGTH_AT, n, 8);
    memcpy(b + HEADER, fields, n);
    put_le(b + HEADER + n, crc32c(0, b, HEADER + n), 4);
    free(fields);
    *bytes = b;
    *len = HEADER + n + TRAILER;
    return 0;
}

void snapfile_done(struct snapfile *f)
{
    free(f->parent);
    free(f->program);
    free(f->engine);
    free(f->note);
    shape_done(&f->shape);
    free(f->extent);
    free(f->zero);
    free(f->machine);
    *f = (struct snapfile){0};
}

uint64_t snapfile_pages(const struct snapfile *f)
{
    uint64_t n = 0;

    for (size_t i = 0; i < f->n_extents; i++)
        n += f->extent[i].pages;
    return n;
}
