/* cmd/volverb.h - a volume as `kiln volume inspect` and `kiln inspect` show it. */
#ifndef CMD_VOLVERB_H
#define CMD_VOLVERB_H

#include <jansson.h>

#include "container/volstore.h"

/* docker's members; owned by the caller, NULL = no memory. */
json_t *volverb_inspect(const struct volstore *v);

#endif
