/* hw/irq.h - how a device asks for attention: a line, or a message.
 * Both are plain values, safe to copy. The target outlives the device. */
#ifndef HW_IRQ_H
#define HW_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irq_line {
    void (*set)(void *ctx, unsigned n, bool level); /* any thread */
    void *ctx;                                      /* borrowed */
    unsigned n;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l->set)
        l->set(l->ctx, l->n, level);
}

/* Edge: assert, then release. */
static inline void irq_pulse(const struct irq_line *l)
{
    irq_set(l, true);
    irq_set(l, false);
}

/* Message signalled interrupt. SDM vol 3A, 10.11 "Message Signalled Interrupts". */
struct msi {
    uint64_t addr;
    uint32_t data;
};

struct msi_sink {
    void (*send)(void *ctx, struct msi m); /* any thread */
    void *ctx;                             /* borrowed */
};

#endif
