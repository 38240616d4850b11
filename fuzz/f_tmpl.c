/* --format templates: the text is the fuzzer's, the values are fixed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/tmpl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char values[] =
    "{\"ID\":\"sha256:0123\",\"Names\":\"one,two\",\"Labels\":\"a=1,b=2\",\"Count\":3,\"Part\":0.5,"
    "\"Yes\":true,\"None\":null,\"List\":[{\"A\":1},{\"A\":\"x\"},{}],\"Map\":{\"a\":\"b\",\"c\":"
    "\"\"}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    json_t *v = json_loads(values, 0, NULL);
    FILE *out = fopen("/dev/null", "w");
    struct tmpl *t = NULL;
    struct err e = {0};

    if (text && v && out) {
        memcpy(text, data, size);
        text[size] = '\0';
        if (tmpl_new(text, &t, &e) == 0 && tmpl_run(t, v, out, &e) < 0 && !e.msg[0])
            abort();
    }
    tmpl_free(t);
    if (out)
        fclose(out);
    json_decref(v);
    free(text);
    return 0;
}
