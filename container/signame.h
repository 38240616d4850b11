/* container/signame.h - signals by their names, as kill(1) and docker have them. Thread: any. */
#ifndef CONTAINER_SIGNAME_H
#define CONTAINER_SIGNAME_H

#include "base/err.h"

/* "SIGTERM", "TERM", "term", "15", "RTMIN+3": its number. -EINVAL with a sentence. */
int signame_parse(const char *text, int *sig, struct err *e) MUST_CHECK;
/* "TERM" of SIGTERM; "?" of what is none. Static. */
const char *signame_of(int sig);

#endif
