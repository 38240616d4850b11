/* hw/bus.h - guest-visible address spaces: MMIO and port I/O.
 *
 * A region states its base, size and legal access sizes; the bus checks them
 * before a device sees an access, so a device's read/write gets only offsets
 * inside its region and lengths it declared. What no region claims reads as all
 * ones and swallows writes, as on a PC.
 *
 * Threads: add and remove while no vCPU runs; accesses under the board's lock. */
#ifndef HW_BUS_H
#define HW_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { BUS_REGIONS_MAX = 128 };
enum bus_len { BUS_1 = 1, BUS_2 = 2, BUS_4 = 4, BUS_8 = 8 }; /* mask of legal lengths, bytes */

struct bus_region {
    const char *name;
    uint64_t base, size; /* bytes (or ports) */
    unsigned lens;       /* mask of enum bus_len */
    /* `off` from the region's base, `len` in bytes. Values are zero-extended. */
    uint64_t (*read)(void *dev, uint64_t off, unsigned len);
    void (*write)(void *dev, uint64_t off, unsigned len, uint64_t val);
    void *dev; /* borrowed */
};

struct bus {
    struct bus_region r[BUS_REGIONS_MAX]; /* sorted by base */
    unsigned n;
    uint64_t unclaimed; /* accesses no region took or whose length was illegal */
};

/* Errors: -EEXIST overlap, -ENOSPC, -EINVAL empty or wrapping. Copies *r. */
int bus_add(struct bus *b, const struct bus_region *r, struct err *e) MUST_CHECK;

/* A legal-length access inside one region reaches it; an illegal length, an
 * access that leaves its region, or no region: read gives all ones. */
uint64_t bus_read(struct bus *b, uint64_t addr, unsigned len);
void bus_write(struct bus *b, uint64_t addr, unsigned len, uint64_t val);

#endif
