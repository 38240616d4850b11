/* cpu/bt/btkeep.h - translated code kept for other machines that go on from the same RAM, on the
 * same processor, in the same program: its blocks point to nothing outside the code area, so the
 * area is stored as it is, with a record for each block.
 *
 * Not an exchange format: the file is of this program's own making, in a folder only its owner can
 * write, and is thrown away with the template it belongs to; or it is memory between a machine and
 * its forks. It is mapped, not read: machines that go on from the same state share what of it they
 * do not change, and one that starts pays for what it executes only. So only its head has a
 * checksum. Thread: no vCPU runs. */
#ifndef CPU_BT_BTKEEP_H
#define CPU_BT_BTKEEP_H

#include "cpu/bt/bt.h"

/* Writes what was made from pages that are as they were when the machine was grown: not those set
 * in `written` (a bit a page). Other code goes, here and in the file. `written` NULL: all of it,
 * for machines whose RAM is this one's as it is now. Errors: -ENOMEM, -ENOTSUP (code of lockstep),
 * of write(2). */
int btkeep_save(struct bt_vm *b, const uint64_t *written, int fd, struct err *e) MUST_CHECK;
/* Into a machine that has translated nothing yet. Errors: -ESTALE made with other flags or for a
 * larger cache, or blocks are to have names for perf; -EBADMSG damaged; then nothing has changed.
 */
int btkeep_load(struct bt_vm *b, int fd, struct err *e) MUST_CHECK;

#endif
