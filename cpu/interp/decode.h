/* cpu/interp/decode.h - instruction bytes to struct insn. */
#ifndef CPU_INTERP_DECODE_H
#define CPU_INTERP_DECODE_H

#include <Zydis/Zydis.h>

#include "cpu/interp/insn.h"
#include "cpu/interp/native.h"

enum { DECODE_BYTES_MAX = 15, DECODERS = 6 };

struct decode {
    ZydisDecoder dec[DECODERS]; /* by mode */
    struct native *native;      /* owned */
};

int decode_init(struct decode *d, const struct vcpu *v, struct err *e) MUST_CHECK;
void decode_done(struct decode *d);

/* Decode the instruction at p, of which `avail` bytes are at hand, `off` bytes into its block, in
 * v->mode. Never faults: what is illegal becomes an instruction that raises #UD or #GP. Returns its
 * length, 0 when it needs more bytes than avail (never with DECODE_BYTES_MAX of them), or -ENOSPC:
 * native code memory is full. */
int decode_insn(struct decode *d, struct vcpu *v, const uint8_t *p, unsigned avail, unsigned off,
                struct insn *i);

/* An instruction that raises #UD: what code outside RAM reads as. */
void decode_undefined(struct insn *i);
/* Ends a block that has no branch at its end: moves RIP past it. */
void decode_fall_through(struct insn *i, unsigned off);

#endif
