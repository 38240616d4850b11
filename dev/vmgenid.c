#include "dev/vmgenid.h"

#include <string.h>

#include "state/state.h"

void vmgenid_init(struct vmgenid *g, struct mem *mem, gpa_t gpa, struct irq_line irq)
{
    *g = (struct vmgenid){.mem = mem, .gpa = gpa, .irq = irq};
}

int vmgenid_set(struct vmgenid *g, const uint8_t id[VMGENID_BYTES], bool tell, struct err *e)
{
    int r = mem_write(g->mem, g->gpa, id, VMGENID_BYTES);

    if (r < 0)
        return err_errno(e, r, "generation ID at 0x%llx", (unsigned long long)g->gpa);
    memcpy(g->id, id, VMGENID_BYTES);
    if (tell) { /* an edge */
        irq_set(&g->irq, true);
        irq_set(&g->irq, false);
    }
    return 0;
}

void vmgenid_visit(struct vmgenid *g, struct state_io *io)
{
    state_bytes(io, 1, g->id, sizeof(g->id));
}
