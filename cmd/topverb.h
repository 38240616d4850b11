/* cmd/topverb.h - kiln top CONTAINER. */
#ifndef CMD_TOPVERB_H
#define CMD_TOPVERB_H

/* Prints the processes of a container; `words`: n options of ps(1), of which -o counts. Returns the
 * exit status. */
int topverb(const char *name, int n, char **words);

#endif
