/* cmd/starttrace.h - the phases of a start, as text and as a picture. */
#ifndef CMD_STARTTRACE_H
#define CMD_STARTTRACE_H

#include <stdio.h>

#include "container/trace.h"

/* One line a phase: when it began, how long it took. */
void starttrace_text(FILE *to, const struct trace *t);
/* A self-contained SVG at `path`. `title`: what was started. -errno with a sentence. */
int starttrace_svg(const char *path, const char *title, const struct trace *t,
                   struct err *e) MUST_CHECK;

#endif
