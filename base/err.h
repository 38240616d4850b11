/* base/err.h - how a failure is reported: a negative errno and one sentence.
 *
 * Contract of every function that takes a `struct err *`:
 *   success: returns >= 0 (or a non-NULL pointer); *e is untouched.
 *   failure: returns -errno (or NULL); *e holds the number and a message.
 *   e == NULL is legal: the caller wants the number only.
 * A struct err owns no memory, so reporting cannot itself fail. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stddef.h>

enum { ERR_MSG_MAX = 512 }; /* bytes, NUL included */

struct err {
    int code; /* negative errno; 0 = nothing reported */
    char msg[ERR_MSG_MAX];
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* Record a new failure. `code` is a negative errno. Returns `code`. */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);

/* As err_set, with ": strerror(-code)" behind the message. */
__attribute__((format(printf, 3, 4))) int err_errno(struct err *e, int code, const char *fmt, ...);

/* Put context in front of what the callee reported:
 * "disk 'root': open: No such file or directory". Returns `code`. */
__attribute__((format(printf, 3, 4))) int err_wrap(struct err *e, int code, const char *fmt, ...);

/* A state that only a mistake of ours can reach: says where on stderr and ends
 * this process (one machine) with SIGABRT. Never for guest or host errors. */
_Noreturn void bug_at(const char *file, int line, const char *what);
#define BUG(what) bug_at(__FILE__, __LINE__, what)
#define BUG_ON(cond) ((cond) ? bug_at(__FILE__, __LINE__, #cond) : (void)0)

#endif
