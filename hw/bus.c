#include "hw/bus.h"

#include <errno.h>
#include <string.h>

int bus_add(struct bus *b, const struct bus_region *r, struct err *e)
{
    unsigned at = 0;

    if (r->size == 0 || r->size - 1 > UINT64_MAX - r->base || !r->read || !r->write)
        return err_set(e, -EINVAL, "bus region '%s' is empty or wraps", r->name);
    if (b->n == BUS_REGIONS_MAX)
        return err_set(e, -ENOSPC, "no room for bus region '%s'", r->name);
    while (at < b->n && b->r[at].base < r->base)
        at++;
    if ((at < b->n && b->r[at].base - r->base < r->size) ||
        (at > 0 && r->base - b->r[at - 1].base < b->r[at - 1].size))
        return err_set(e, -EEXIST, "bus region '%s' overlaps another", r->name);
    memmove(&b->r[at + 1], &b->r[at], (b->n - at) * sizeof(b->r[0]));
    b->r[at] = *r;
    b->n++;
    return 0;
}

/* The region that takes this access, or NULL (counted). */
static struct bus_region *claim(struct bus *b, uint64_t addr, unsigned len)
{
    unsigned lo = 0, hi = b->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (b->r[mid].base <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo > 0) {
        struct bus_region *r = &b->r[lo - 1];
        uint64_t off = addr - r->base;

        if (off < r->size && len <= r->size - off && (len & (len - 1)) == 0 && (r->lens & len))
            return r;
    }
    b->unclaimed++;
    return NULL;
}

static uint64_t ones(unsigned len)
{
    return len >= 8 ? UINT64_MAX : (1ull << (8 * len)) - 1;
}

uint64_t bus_read(struct bus *b, uint64_t addr, unsigned len)
{
    struct bus_region *r = claim(b, addr, len);

    return r ? r->read(r->dev, addr - r->base, len) & ones(len) : ones(len);
}

void bus_write(struct bus *b, uint64_t addr, unsigned len, uint64_t val)
{
    struct bus_region *r = claim(b, addr, len);

    if (r)
        r->write(r->dev, addr - r->base, len, val & ones(len));
}
