/* cmd/complete.h - what shells ask while somebody types: kiln __complete WORD...
 *
 * The words are those behind `kiln`, the last one being the one under the cursor, perhaps empty.
 * Answer: candidates, a line each, "WORD<tab>what it is"; then one line that begins with ':', of
 * words:
 *   files, dirs   names of files or folders are wanted too
 *   nospace       no space behind a candidate
 * Candidates come from the tables of flags (struct flag.values, struct command.values) and from the
 * store. Kinds of values: @image @container @container: (a place in one) @running @object (all that
 * kiln inspect knows) @network (what --network takes) @networks @volume @volume: (the source of -v)
 * @snapshot @template @file @dir @command @signal @capability @env @psfilter. */
#ifndef CMD_COMPLETE_H
#define CMD_COMPLETE_H

#include <stdbool.h>
#include <stdio.h>

struct complete { /* an answer as it is written */
    FILE *out;
    const char *prefix; /* what candidates must begin with */
    const char *before; /* stands in front of each: "--flag=" */
    bool files, dirs, nospace;
};

/* One candidate, written where it fits; what = "" or a few words. */
void complete_word(struct complete *c, const char *word, const char *what);
/* All of a kind, or words with spaces between them. */
void complete_kind(struct complete *c, const char *kind, size_t len);
int complete_main(int argc, char **argv);

#endif
