/* What a block does with flags that the SDM leaves undefined. Some processors leave them as they
 * were, and before such an instruction bt need not have them as they were. */
#include <Zydis/Zydis.h>

#include "cpu/lockstep/lockstep.h"

uint32_t lockflags_undefined(const struct mem *m, const struct bt_piece *p, unsigned n, bool *read)
{
    ZydisDecoder d;
    ZydisDecodedInstruction z;
    uint32_t undef = 0;

    *read = false;
    if (!ZYAN_SUCCESS(ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
        return 0;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *code = mem_hva(m, p[i].gpa);

        for (unsigned at = 0; at < p[i].bytes; at += z.length) {
            if (!ZYAN_SUCCESS(
                    ZydisDecoderDecodeInstruction(&d, NULL, code + at, p[i].bytes - at, &z)))
                break;
            const ZydisAccessedFlags *f = z.cpu_flags;
            if (!f)
                continue;
            *read |= (f->tested & undef) != 0;
            undef = (undef & ~(f->modified | f->set_0 | f->set_1)) | f->undefined;
        }
    }
    return undef & FL_ARITH;
}
