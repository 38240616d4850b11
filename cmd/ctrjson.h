/* cmd/ctrjson.h - a container and an image as docker's inspect shows them. Members have docker's
 * names; what is kiln's own is in "Kiln". */
#ifndef CMD_CTRJSON_H
#define CMD_CTRJSON_H

#include <jansson.h>

#include "container/record.h"
#include "image/store.h"

/* Owned by the caller, NULL = no memory. root: the store's, NULL = default. `size`: also what it
 * takes on the disk. */
json_t *ctrjson_container(const char *root, const struct record *r, bool size);
json_t *ctrjson_image(const struct image *im);

#endif
