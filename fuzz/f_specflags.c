/* The command line of kiln run: words, a line each, are the fuzzer's. Files are not read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/specflags.h"

enum { WORDS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *rest = text, *words[WORDS + 1] = {(char *)"run"};
    struct run_options o;
    struct err e = {0};
    struct spec s;
    int n = 1;

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    while (rest && n < WORDS) {
        char *word = strsep(&rest, "\n");

        if (!strstr(word, "-file") && strcmp(word, "--help") != 0)
            words[n++] = word;
    }
    words[n] = NULL;
    spec_init(&s);
    int r = specflags_parse(n, words, &s, &o, &e);
    if (r < 0 && !e.msg[0])
        abort();
    if (r > 0) { /* what was taken can be written down and read again */
        json_t *j = spec_to_json(&s);
        struct spec again;

        if (j && spec_from_json(j, &again, &e) == 0)
            spec_done(&again);
        json_decref(j);
    }
    spec_done(&s);
    free(text);
    return 0;
}
