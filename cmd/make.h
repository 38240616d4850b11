/* cmd/make.h - a container from a command line: what kiln run and kiln create share. */
#ifndef CMD_MAKE_H
#define CMD_MAKE_H

#include "base/err.h"
#include "cmd/specflags.h"
#include "container/record.h"

/* Find or pull the image, merge its settings into *s, make the record (*s is taken over, also on
 * failure), write --cidfile. On success r is locked. */
int make_container(struct spec *s, const struct run_options *o, struct record *r,
                   struct err *e) MUST_CHECK;

#endif
