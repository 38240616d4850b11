#include "dev/acpipm.h"

#include "state/state.h"

enum { SLP_TYP_SHIFT = 2, SLP_TYP_MASK = 7 << SLP_TYP_SHIFT, SLP_EN = 1 << 5 };

static uint64_t acpipm_read(void *dev, uint64_t off, unsigned len)
{
    struct acpipm *a = dev;

    (void)len;
    /* SLP_EN reads as zero; WAK_STS is never set, for S5 does not resume. */
    return off == ACPIPM_SLEEP_CONTROL - ACPIPM_BASE ? a->slp_typ : 0;
}

static void acpipm_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct acpipm *a = dev;

    (void)len;
    switch (off + ACPIPM_BASE) {
    case ACPIPM_SLEEP_CONTROL:
        a->slp_typ = (uint8_t)(val & SLP_TYP_MASK);
        if ((val & SLP_EN) && a->slp_typ >> SLP_TYP_SHIFT == ACPIPM_S5_TYPE && a->conf.poweroff)
            a->conf.poweroff(a->conf.ctx);
        break;
    case ACPIPM_RESET:
        if (val == ACPIPM_RESET_VALUE && a->conf.reset)
            a->conf.reset(a->conf.ctx);
        break;
    default:
        break;
    }
}

void acpipm_init(struct acpipm *a, const struct acpipm_conf *c)
{
    *a = (struct acpipm){.conf = *c};
}

int acpipm_map(struct acpipm *a, struct bus *pio, struct err *e)
{
    struct bus_region r = {"ACPI sleep", ACPIPM_BASE, 3, BUS_1, acpipm_read, acpipm_write, a};

    return bus_add(pio, &r, e);
}

void acpipm_visit(struct acpipm *a, struct state_io *io)
{
    state_u8(io, 1, &a->slp_typ);
    if (state_loading(io))
        a->slp_typ &= SLP_TYP_MASK;
}
