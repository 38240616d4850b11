/* dev/acpipm.h - the fixed registers that hardware-reduced ACPI keeps: sleep control, sleep status
 * and reset. Source: ACPI 6.4, 4.8.3.7 "Sleep Control and Status Registers", 4.8.3.6 "Reset
 * Register".
 *
 * The only sleep state offered is S5, soft off. Owns no memory. Thread: under the board's lock. */
#ifndef DEV_ACPIPM_H
#define DEV_ACPIPM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"

struct state_io;

enum {
    ACPIPM_BASE = 0x600,
    ACPIPM_SLEEP_CONTROL = ACPIPM_BASE,
    ACPIPM_SLEEP_STATUS = ACPIPM_BASE + 1,
    ACPIPM_RESET = ACPIPM_BASE + 2,
    ACPIPM_S5_TYPE = 5,     /* SLP_TYP of \_S5 */
    ACPIPM_RESET_VALUE = 1, /* what the FADT tells to write */
};

struct acpipm_conf {
    void (*poweroff)(void *ctx); /* S5 */
    void (*reset)(void *ctx);
    void *ctx; /* borrowed */
};

struct acpipm { /* private */
    struct acpipm_conf conf;
    uint8_t slp_typ; /* 4:2 of sleep control, in place */
};

void acpipm_init(struct acpipm *a, const struct acpipm_conf *c);
int acpipm_map(struct acpipm *a, struct bus *pio, struct err *e) MUST_CHECK;
void acpipm_visit(struct acpipm *a, struct state_io *io);

#endif
