#include "cmd/suggest.h"

#include <string.h>

enum { WORD_MAX = 32 }; /* longer words are not compared */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* Edits between two words, two letters swapped being one (Damerau and Levenshtein, each place
 * edited once). */
static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned row[3][WORD_MAX + 1];

    for (size_t j = 0; j <= m; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = least(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                earlier[j - 2] + 1 < now[j])
                now[j] = earlier[j - 2] + 1;
        }
    }
    return row[n % 3][m];
}

void suggest_init(struct suggest *s, const char *typed, size_t len)
{
    *s = (struct suggest){.typed = typed, .len = len};
}

void suggest_try(struct suggest *s, const char *word)
{
    size_t m = strlen(word);

    if (s->len > WORD_MAX || m > WORD_MAX)
        return;
    unsigned d = distance(s->typed, s->len, word, m);
    /* The beginning of a word is a sure sign. */
    if (d > 1 && s->len >= 3 && m > s->len && strncmp(word, s->typed, s->len) == 0)
        d = 1;
    if (!s->best || d < s->distance) {
        s->best = word;
        s->distance = d;
    }
}

const char *suggest_best(const struct suggest *s)
{
    size_t allowed = s->len <= 2 ? 1 : (s->len + 1) / 3;

    return s->best && s->distance <= allowed && s->distance < s->len ? s->best : NULL;
}
