/* cmd/suggest.h - "did you mean": the word of a list that is closest to a mistyped one. */
#ifndef CMD_SUGGEST_H
#define CMD_SUGGEST_H

#include <stddef.h>

struct suggest { /* owns nothing; borrows words */
    const char *typed, *best;
    size_t len; /* of typed */
    unsigned distance;
};

void suggest_init(struct suggest *s, const char *typed, size_t len);
void suggest_try(struct suggest *s, const char *word);
/* The closest word, or NULL where nothing is close enough to be meant. */
const char *suggest_best(const struct suggest *s);

#endif
