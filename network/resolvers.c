#include "network/resolvers.h"

#include <string.h>

enum { LINES_MAX = 4096, LINE_BYTES = 512 };

unsigned resolvers_read(FILE *f, struct ipaddr *out, unsigned max)
{
    static const char word[] = "nameserver";
    char line[LINE_BYTES];
    unsigned n = 0;

    for (unsigned i = 0; i < LINES_MAX && n < max && fgets(line, sizeof(line), f); i++) {
        char *p = line + strspn(line, " \t");

        if (strncmp(p, word, sizeof(word) - 1) != 0)
            continue;
        p += sizeof(word) - 1;
        if (*p != ' ' && *p != '\t')
            continue;
        p += strspn(p, " \t");
        p[strcspn(p, " \t\r\n#;%")] = '\0'; /* a zone is of no use in another process */
        n += ipaddr_parse(p, 0, &out[n], NULL) == 0;
    }
    return n;
}
