/* container/packtar.h - between a stream of entries (proto/pack.h) and a tar: kiln cp's "-", and
 * layers of images. Source: POSIX.1-2017 pax. The bytes
 * of both are hostile; libarchive parses the tar. Thread: the caller's. */
#ifndef CONTAINER_PACKTAR_H
#define CONTAINER_PACKTAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/pack.h"

/* The rest of `in`, after `first` (NULL = none was read), as a tar on `fd`. `name` is the tree's
 * root; "" = its entries stand alone, without one. `image`: a container's root becomes an
 * image's: without what kiln itself puts there.
 * Errors: those of pack_next(); -EIO with what libarchive says. */
int packtar_write(struct pack_in *in, const struct pack_record *first, const char *name, bool image,
                  int fd, struct err *e) MUST_CHECK;

/* A tar (any compression) from `fd`, without the end of the stream. Errors: -EBADMSG; a name that
 * climbs out; those of writing. */
int packtar_read(int fd, struct pack_out *o, struct err *e) MUST_CHECK;

#endif
