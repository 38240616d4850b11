#include "dev/rtc.h"

#include "state/state.h"

enum { /* registers, data sheet figure 11 */
       SECONDS = 0,
       SECONDS_ALARM = 1,
       MINUTES = 2,
       MINUTES_ALARM = 3,
       HOURS = 4,
       HOURS_ALARM = 5,
       WEEKDAY = 6,
       DAY = 7,
       MONTH = 8,
       YEAR = 9,
       REG_A = 10,
       REG_B = 11,
       REG_C = 12,
       REG_D = 13,
       CMOS_EQUIPMENT = 0x14,
       CMOS_BASE_KIB = 0x15,
       CMOS_EXT_KIB = 0x17,
       CMOS_EXT_KIB_2 = 0x30,
       CMOS_ABOVE_16M = 0x34, /* 64 KiB units, two bytes */
       CMOS_ABOVE_4G = 0x5b,  /* 64 KiB units, three bytes */
};

enum {
    A_UIP = 0x80,
    A_RATE = 0x0f,
    A_POWER_UP = 0x26, /* 32768 Hz time base, 1024 Hz rate */
    B_SET = 0x80,
    B_PIE = 0x40,
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_BINARY = 0x04,
    B_24H = 0x02,
    C_IRQF = 0x80,
    C_PF = 0x40,
    C_AF = 0x20,
    C_UF = 0x10,
    D_VALID = 0x80,
    ALARM_ANY = 0xc0, /* an alarm byte from here up matches everything */
    HOUR_PM = 0x80,
};

enum { DAY_S = 86400, UIP_NS = 244 * 1000 /* an update follows within this time */ };
#define SECOND_NS 1000000000ull
#define OFFSET_MAX (1ll << 40) /* seconds */

static uint64_t wall(const struct rtc *r)
{
    return clock_wall_ns(r->conf.clock);
}

static int64_t seconds(const struct rtc *r, uint64_t wall_ns)
{
    return (int64_t)(wall_ns / SECOND_NS) + r->offset_s;
}

/* --- calendar ------------------------------------------------------------ */

struct date {
    int64_t year;
    unsigned month, day; /* 1.. */
};

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; month 1..12, any day. Years
 * begin in March here, so that the leap day is the last one. */
static int64_t days_of(int64_t year, unsigned month, int64_t day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct date date_of(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);

    return (struct date){
        .year = yoe + era * 400 + (month <= 2),
        .month = month,
        .day = (unsigned)(doy - (153 * mp + 2) / 5 + 1),
    };
}

/* Floor division, for times before 1970. */
static int64_t day_number(int64_t s)
{
    return s >= 0 ? s / DAY_S : -((DAY_S - 1 - s) / DAY_S);
}

/* --- register formats ---------------------------------------------------- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->cmos[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->cmos[REG_B] & B_24H)
        return encode(r, h);
    return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->cmos[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static bool is_time(unsigned i)
{
    return i == SECONDS || i == MINUTES || i == HOURS || (i >= WEEKDAY && i <= YEAR) ||
           i == RTC_CENTURY;
}

/* Put the time of now into the time registers. */
static void fill_time(struct rtc *r)
{
    int64_t s = seconds(r, wall(r));
    int64_t day = day_number(s);
    unsigned tod = (unsigned)(s - day * DAY_S);
    struct date d = date_of(day);
    unsigned year = (unsigned)(((d.year % 10000) + 10000) % 10000);

    r->cmos[SECONDS] = encode(r, tod % 60);
    r->cmos[MINUTES] = encode(r, tod / 60 % 60);
    r->cmos[HOURS] = encode_hour(r, tod / 3600);
    r->cmos[WEEKDAY] = encode(r, (unsigned)(((day + 4) % 7 + 7) % 7) + 1); /* Sunday is 1 */
    r->cmos[DAY] = encode(r, d.day);
    r->cmos[MONTH] = encode(r, d.month);
    r->cmos[YEAR] = encode(r, year % 100);
    r->cmos[RTC_CENTURY] = encode(r, year / 100);
}

/* Make the time registers the time of now. Values out of range carry over. */
static void take_time(struct rtc *r)
{
    unsigned month = decode(r, r->cmos[MONTH]);
    int64_t year = 100 * (int64_t)decode(r, r->cmos[RTC_CENTURY]) + decode(r, r->cmos[YEAR]);
    uint64_t now = wall(r);

    if (month < 1 || month > 12)
        month = 1;
    int64_t s = days_of(year, month, decode(r, r->cmos[DAY])) * DAY_S +
                decode_hour(r, r->cmos[HOURS]) * 3600 + decode(r, r->cmos[MINUTES]) * 60 +
                decode(r, r->cmos[SECONDS]);
    r->offset_s = s - (int64_t)(now / SECOND_NS);
    r->seen_ns = now;
}

/* --- events --------------------------------------------------------------- */

/* Period of the periodic interrupt in ns, 0 = off (data sheet table 5). */
static uint64_t period_ns(const struct rtc *r)
{
    unsigned rate = r->cmos[REG_A] & A_RATE;

    if (rate == 0)
        return 0;
    if (rate <= 2)
        rate += 7; /* 256 and 128 Hz */
    return (SECOND_NS << (rate - 1)) / 32768;
}

/* First second after `s` that the alarm bytes match. They repeat daily. INT64_MAX: never, a byte
 * that no time has. */
static int64_t next_alarm(const struct rtc *r, int64_t s)
{
    uint8_t rs = r->cmos[SECONDS_ALARM], rm = r->cmos[MINUTES_ALARM], rh = r->cmos[HOURS_ALARM];
    unsigned want_s = decode(r, rs), want_m = decode(r, rm), want_h = decode_hour(r, rh);
    int64_t t = s + 1;

    while (t <= s + DAY_S) {
        unsigned tod = (unsigned)(t - day_number(t) * DAY_S);

        if (rh < ALARM_ANY && tod / 3600 != want_h)
            t += 3600 - tod % 3600;
        else if (rm < ALARM_ANY && tod / 60 % 60 != want_m)
            t += 60 - tod % 60;
        else if (rs < ALARM_ANY && tod % 60 != want_s)
            t++;
        else
            return t;
    }
    return INT64_MAX;
}

static void update_irq(struct rtc *r)
{
    uint8_t *c = &r->cmos[REG_C];

    if (*c & r->cmos[REG_B] & (C_PF | C_AF | C_UF))
        *c |= C_IRQF;
    else
        *c &= (uint8_t)~C_IRQF;
    irq_set(&r->conf.irq, *c & C_IRQF);
}

/* Bring register C's flags up to now. */
static void catch_up(struct rtc *r)
{
    uint64_t now = wall(r), then = r->seen_ns, period = period_ns(r);

    r->seen_ns = now;
    if (now > then) {
        if (period && now / period != then / period)
            r->cmos[REG_C] |= C_PF;
        if (!(r->cmos[REG_B] & B_SET) && now / SECOND_NS != then / SECOND_NS) {
            r->cmos[REG_C] |= C_UF;
            if (next_alarm(r, seconds(r, then)) <= seconds(r, now))
                r->cmos[REG_C] |= C_AF;
        }
    }
    update_irq(r);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Arm for the first event that would interrupt and has not yet. */
static void schedule(struct rtc *r)
{
    uint8_t want = r->cmos[REG_B] & (uint8_t)~r->cmos[REG_C];
    uint64_t now = wall(r), period = period_ns(r), at = UINT64_MAX;

    timer_cancel(r->conf.timers, &r->timer);
    if ((want & B_PIE) && period)
        at = sooner(at, (now / period + 1) * period);
    if (!(r->cmos[REG_B] & B_SET)) {
        if (want & B_UIE)
            at = sooner(at, (now / SECOND_NS + 1) * SECOND_NS);
        int64_t s = seconds(r, now);
        int64_t alarm = want & B_AIE ? next_alarm(r, s) : INT64_MAX;
        if (alarm != INT64_MAX)
            at = sooner(at, (now / SECOND_NS + (uint64_t)(alarm - s)) * SECOND_NS);
    }
    if (at != UINT64_MAX)
        timer_arm(r->conf.timers, &r->timer, clock_ns(r->conf.clock) + (at - now));
}

static void fire(void *ctx)
{
    struct rtc *r = ctx;

    catch_up(r);
    schedule(r);
}

/* --- ports ---------------------------------------------------------------- */

static uint8_t read_reg(struct rtc *r)
{
    unsigned i = r->index;

    if (is_time(i)) {
        if (!(r->cmos[REG_B] & B_SET))
            fill_time(r);
        return r->cmos[i];
    }
    if (i == REG_A) {
        bool soon = wall(r) % SECOND_NS >= SECOND_NS - UIP_NS;

        return r->cmos[REG_A] | (soon && !(r->cmos[REG_B] & B_SET) ? A_UIP : 0);
    }
    if (i == REG_C) {
        catch_up(r);
        uint8_t v = r->cmos[REG_C];
        r->cmos[REG_C] = 0;
        update_irq(r);
        schedule(r);
        return v;
    }
    return r->cmos[i];
}

static void write_reg(struct rtc *r, uint8_t v)
{
    unsigned i = r->index;
    bool set = r->cmos[REG_B] & B_SET;

    if (i == REG_C || i == REG_D)
        return;
    catch_up(r);
    if (is_time(i)) {
        if (!set)
            fill_time(r);
        r->cmos[i] = v;
        if (!set)
            take_time(r);
    } else if (i == REG_A) {
        r->cmos[i] = v & (uint8_t)~A_UIP;
    } else if (i == REG_B) {
        if ((v & B_SET) && !set)
            fill_time(r);
        r->cmos[i] = v & B_SET ? v & (uint8_t)~B_UIE : v; /* SET clears UIE */
        if (set && !(v & B_SET))
            take_time(r);
    } else {
        r->cmos[i] = v;
    }
    update_irq(r);
    schedule(r);
}

static uint64_t rtc_read(void *dev, uint64_t off, unsigned len)
{
    struct rtc *r = dev;

    (void)len;
    return off == 0 ? r->index : read_reg(r);
}

static void rtc_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct rtc *r = dev;

    (void)len;
    if (off == 0)
        r->index = val & (RTC_CMOS - 1); /* bit 7 masks NMI, which nothing here raises */
    else
        write_reg(r, (uint8_t)val);
}

static void put_le(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void fill_memory_sizes(struct rtc *r)
{
    uint64_t low = r->conf.ram_low, mib = 1 << 20;
    uint64_t ext_kib = low > mib ? (low - mib) >> 10 : 0;
    uint64_t above_16m = low > 16 * mib ? (low - 16 * mib) >> 16 : 0;

    if (ext_kib > 0xffff)
        ext_kib = 0xffff;
    put_le(&r->cmos[CMOS_BASE_KIB], 640, 2);
    put_le(&r->cmos[CMOS_EXT_KIB], ext_kib, 2);
    put_le(&r->cmos[CMOS_EXT_KIB_2], ext_kib, 2);
    put_le(&r->cmos[CMOS_ABOVE_16M], above_16m, 2);
    put_le(&r->cmos[CMOS_ABOVE_4G], r->conf.ram_high >> 16, 3);
    r->cmos[CMOS_EQUIPMENT] = 0x02; /* coprocessor */
}

void rtc_init(struct rtc *r, const struct rtc_conf *c)
{
    *r = (struct rtc){.conf = *c, .timer = {.fire = fire}};
    r->timer.ctx = r;
    r->cmos[REG_A] = A_POWER_UP;
    r->cmos[REG_B] = B_24H;
    r->cmos[REG_D] = D_VALID;
    r->seen_ns = wall(r);
    fill_memory_sizes(r);
}

void rtc_done(struct rtc *r)
{
    if (r->conf.timers)
        timer_cancel(r->conf.timers, &r->timer);
}

int rtc_map(struct rtc *r, struct bus *pio, struct err *e)
{
    struct bus_region b = {"RTC", RTC_PORT, 2, BUS_1, rtc_read, rtc_write, r};

    return bus_add(pio, &b, e);
}

void rtc_visit(struct rtc *r, struct state_io *io)
{
    struct rtc was = *r;
    uint64_t offset = (uint64_t)r->offset_s;

    state_u8(io, 1, &r->index);
    state_bytes(io, 2, r->cmos, sizeof(r->cmos));
    state_u64(io, 3, &offset);
    if (io->saving)
        return;
    r->index &= RTC_CMOS - 1;
    r->cmos[REG_A] &= (uint8_t)~A_UIP;
    r->cmos[REG_D] = D_VALID;
    r->offset_s = (int64_t)offset;
    /* Wall time went on while the machine was saved: what happened since is not made up for. */
    r->seen_ns = wall(r);
    if (r->offset_s > OFFSET_MAX || r->offset_s < -OFFSET_MAX)
        state_fail(io, "RTC: a time beyond all calendars");
    if (io->failed)
        *r = was;
    else
        schedule(r);
}
