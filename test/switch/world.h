/* test/switch/world.h - the guest with a sum, from outside: shared by the tests that move it. */
#ifndef TEST_SWITCH_WORLD_H
#define TEST_SWITCH_WORLD_H

#include "test/switch/sum.h"
#include "vm/vm.h"

enum { WORLD_END_MS = 60000 };

_Noreturn void die(const char *what, const struct err *e);
/* What the guest says of itself. */
struct mailbox world_peek(struct vm *vm);
/* A machine with `guest` as its kernel; NULL: one to be loaded. Not started. */
struct vm *world_new(const char *guest, const char *engine);
/* Wait until the guest got on, so that the engine at work really ran some of it. */
void world_let_run(struct vm *vm, unsigned us);
/* Tell it to stop, wait for it, compare its sum with the host's own: 0 = equal. Frees the machine.
 */
int world_verdict(struct vm *vm);

#endif
