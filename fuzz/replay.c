/* Replays a corpus folder (or files) through a fuzz target without libFuzzer. A missing folder is
 * an empty corpus: one empty input is always tried. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { INPUT_MAX = 4 << 20 };

static int replay(const char *path)
{
    CLEANUP(file) FILE *f = fopen(path, "rb");
    CLEANUP(mem) uint8_t *buf = malloc(INPUT_MAX);

    if (!f || !buf) {
        fprintf(stderr, "%s: cannot read\n", path);
        return 1;
    }
    size_t n = fread(buf, 1, INPUT_MAX, f);
    /* A buffer of the exact size lets ASan see an overread of one byte. */
    CLEANUP(mem) uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        return 1;
    memcpy(exact, buf, n);
    LLVMFuzzerTestOneInput(exact, n);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned n = 1;

    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        CLEANUP(dir) DIR *d = opendir(argv[i]);
        struct dirent *de;

        if (!d)
            continue;
        while ((de = readdir(d))) {
            char path[4096];

            if (de->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], de->d_name);
            if (replay(path))
                return 1;
            n++;
        }
    }
    printf("%u inputs replayed\n", n);
    return 0;
}
