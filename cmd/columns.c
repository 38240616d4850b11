#include "cmd/columns.h"

#include <string.h>

enum { COLUMNS_MAX = 64, GAP = 3, LEAST = 10 };

int columns_width(const char *text, size_t bytes)
{
    int n = 0;

    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80; /* not the rest of a character */
    return n;
}

/* Length of the cell at s. */
static size_t cell(const char *s)
{
    return strcspn(s, "\t\n");
}

/* Names and commands come from images: what would steer the terminal is shown as a question mark.
 */
static void put(FILE *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fputc((unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : s[i], out);
}

void columns_print(FILE *out, const char *text)
{
    int width[COLUMNS_MAX] = {0};
    unsigned column = 0;

    for (const char *s = text; *s; s++) {
        size_t n = cell(s);

        if (s[n] == '\t' && column < COLUMNS_MAX) {
            int w = columns_width(s, n) + GAP;

            if (w > width[column])
                width[column] = w > LEAST ? w : LEAST;
        }
        column = s[n] == '\t' ? column + 1 : 0;
        s += n;
        if (!*s)
            break;
    }
    column = 0;
    for (const char *s = text; *s;) {
        size_t n = cell(s);

        put(out, s, n);
        if (s[n] == '\t') {
            int w = column < COLUMNS_MAX ? width[column] : GAP;
            int fill = w - columns_width(s, n);

            fprintf(out, "%*s", fill > 0 ? fill : GAP, "");
            column++;
        } else if (s[n] == '\n') {
            fputc('\n', out);
            column = 0;
        }
        s += n + (s[n] != '\0');
    }
}
