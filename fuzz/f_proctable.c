/* A line of a table of processes from a hostile guest, and what an image's instructions are. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/commit.h"
#include "proto/proctable.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(mem) char *text = malloc(size + 1);
    struct proctable_row row;
    char line[PROCTABLE_LINE_MAX];

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (proctable_parse(text, &row))
        (void)proctable_format(&row, line);
    json_t *config = json_object();
    (void)!commit_change(config, text, NULL);
    json_decref(config);
    return 0;
}
