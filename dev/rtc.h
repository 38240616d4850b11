/* dev/rtc.h - an MC146818A real-time clock with 128 bytes of CMOS memory.
 * Source: Motorola MC146818A data sheet; the century byte at 0x32 and memory sizes as PC firmware
 * leaves them.
 *
 * The time is the clock's wall time plus what the guest set it off by, in whole seconds. Registers
 * are computed when read; a timer runs only for enabled interrupts.
 * Owns no memory; rtc_done() disarms. Thread: under the board's lock. */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hw/bus.h"
#include "hw/clock.h"
#include "hw/irq.h"
#include "hw/timer.h"

struct state_io;

enum { RTC_PORT = 0x70, RTC_CMOS = 128, RTC_CENTURY = 0x32 };

struct rtc_conf { /* borrowed */
    struct clock *clock;
    struct timerq *timers;
    struct irq_line irq;        /* IRQ 8 */
    uint64_t ram_low, ram_high; /* bytes below and above 4 GiB, for the CMOS memory sizes */
};

struct rtc { /* private */
    struct rtc_conf conf;
    uint8_t index;
    uint8_t cmos[RTC_CMOS]; /* time registers: valid only while SET holds them */
    int64_t offset_s;       /* guest's time - wall time */
    uint64_t seen_ns;       /* wall time up to which events are in register C */
    struct timer timer;
};

void rtc_init(struct rtc *r, const struct rtc_conf *c);
void rtc_done(struct rtc *r);
int rtc_map(struct rtc *r, struct bus *pio, struct err *e) MUST_CHECK;
void rtc_visit(struct rtc *r, struct state_io *io);

#endif
