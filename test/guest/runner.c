/* test/guest/runner.c - runs one tiny bare guest on every engine of this host.
 *
 * The machine is as small as can be: RAM, the two 8259A, a PIT, an IOAPIC, a page of plain MMIO
 * registers, a few plain ports, a debug port and an exit port. The guest ends by writing the exit
 * port: 0 = pass, else the number of the check that failed. guest.h (lib/) tells the guest's side.
 *
 *   runner GUEST.elf [ENGINE]      exit status 0 pass, 1 fail, 77 skipped on every engine */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "dev/ioapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "hw/bus.h"

enum {
    RAM_BYTES = 16 << 20,
    GUEST_BASE = 0x10000,     /* where every guest is linked; its header comes first */
    GUEST_MAGIC = 0x54534754, /* "TGST" */
    TABLES = 0x2000,          /* page tables: PML4, PDPT, 4 PDs */
    GDT = 0x1000,
    PORT_DEBUG = 0x402,
    PORT_SCRATCH = 0x510, /* 8 bytes that read back, then accesses so far */
    PORT_EXIT = 0x501,
    TIMEOUT_S = 20,
    SKIP = 77,
    CPUS_TEST_MAX = 8,
};
#define SCRATCH_BASE                                                                         \
    0xd0000000ull /* 256 bytes that read back; +0x100 accesses so far, +0x108 the last one's \
                     length */

struct guest_header {
    uint32_t magic, cpus,
        bits; /* bits: 16 = real mode, 64 = long mode, flat, identity-mapped 4 GiB */
    uint32_t entry;
    uint32_t exact; /* 1: needs a CPU that follows the SDM in ring 0: not a KVM that emulates it */
};

struct machine {
    const struct cpu_engine *eng;
    struct cpu_vm *vm;
    struct vcpu *cpu[CPUS_TEST_MAX];
    pthread_t thread[CPUS_TEST_MAX];
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct guest_header header;
    struct bus pio, mmio;
    struct pic pic;
    struct pit pit;
    struct ioapic ioapic;
    uint8_t scratch[256], ports[8];
    uint64_t scratch_accesses, scratch_len, port_accesses;
    pthread_mutex_t board;
    pthread_cond_t wake; /* timers got sooner, or the end */
    bool ended;
    int status; /* exit port's value, or -1 */
    char why[256];
};

/* --- devices --- */

static void end(struct machine *m, int status, const char *why)
{
    if (!m->ended) {
        m->ended = true;
        m->status = status;
        snprintf(m->why, sizeof(m->why), "%s", why);
    }
    pthread_cond_broadcast(&m->wake);
    for (unsigned i = 0; i < CPUS_TEST_MAX; i++)
        if (m->cpu[i])
            m->eng->kick(m->cpu[i]);
}

static uint64_t scratch_read(void *dev, uint64_t off, unsigned len)
{
    struct machine *m = dev;
    uint64_t v = 0;

    if (off >= 0x100)
        return off == 0x100 ? m->scratch_accesses : off == 0x108 ? m->scratch_len : 0;
    m->scratch_accesses++;
    m->scratch_len = len;
    memcpy(&v, m->scratch + off, off + len <= 256 ? len : 256 - off);
    return v;
}

static void scratch_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct machine *m = dev;

    m->scratch_accesses++;
    m->scratch_len = len;
    if (off + len <= 256)
        memcpy(m->scratch + off, &val, len);
}

static uint64_t port_read(void *dev, uint64_t off, unsigned len)
{
    struct machine *m = dev;
    uint64_t v = 0;

    if (off == 8)
        return m->port_accesses;
    m->port_accesses++;
    memcpy(&v, m->ports + off, off + len <= 8 ? len : 8 - off);
    return v;
}

static void port_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    struct machine *m = dev;

    m->port_accesses++;
    if (off + len <= 8)
        memcpy(m->ports + off, &val, len);
}

static uint64_t nothing(void *dev, uint64_t off, unsigned len)
{
    return 0;
}

static void debug_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    fputc((int)(val & 0x7f), stderr);
}

static void exit_write(void *dev, uint64_t off, unsigned len, uint64_t val)
{
    end(dev, (int)(val & 0xffff), "the guest's check failed");
}

static void extint(void *ctx, unsigned n, bool level)
{
    struct machine *m = ctx;

    m->eng->vm_extint(m->vm, level);
}

static int ack(void *ctx)
{
    struct machine *m = ctx;

    pthread_mutex_lock(&m->board);
    int v = pic_ack(&m->pic);
    pthread_mutex_unlock(&m->board);
    return v;
}

static void irq0(void *ctx, unsigned n, bool level)
{
    struct machine *m = ctx;

    pic_set(&m->pic, 0, level);
    ioapic_set(&m->ioapic, 2, level);
}

static void send_msi(void *ctx, struct msi msi)
{
    struct machine *m = ctx;

    m->eng->vm_msi(m->vm, msi);
}

static void sooner(void *ctx)
{
    struct machine *m = ctx;

    pthread_cond_broadcast(&m->wake);
}

static int board_init(struct machine *m, struct err *e)
{
    const struct bus_region ports[] = {
        {.name = "debug",
         .base = PORT_DEBUG,
         .size = 1,
         .lens = BUS_1,
         .read = nothing,
         .write = debug_write,
         .dev = m},
        {.name = "scratch",
         .base = PORT_SCRATCH,
         .size = 12,
         .lens = 7,
         .read = port_read,
         .write = port_write,
         .dev = m},
        {.name = "exit",
         .base = PORT_EXIT,
         .size = 4,
         .lens = 7,
         .read = nothing,
         .write = exit_write,
         .dev = m},
    };
    const struct bus_region page = {.name = "scratch",
                                    .base = SCRATCH_BASE,
                                    .size = 0x1000,
                                    .lens = 15,
                                    .read = scratch_read,
                                    .write = scratch_write,
                                    .dev = m};
    struct irq_line out = {extint, m, 0};
    int r = 0;

    for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]) && !r; i++)
        r = bus_add(&m->pio, &ports[i], e);
    if (!r)
        r = bus_add(&m->mmio, &page, e);
    pic_init(&m->pic, &out);
    pit_init(&m->pit, &(struct pit_conf){&m->clock, &m->timers, {irq0, m, 0}});
    ioapic_init(&m->ioapic, &(struct ioapic_conf){.msi = {send_msi, m}});
    if (!r)
        r = pic_map(&m->pic, &m->pio, e);
    if (!r)
        r = pit_map(&m->pit, &m->pio, e);
    if (!r)
        r = ioapic_map(&m->ioapic, &m->mmio, e);
    return r;
}

/* --- loading --- */

static int load(struct machine *m, const char *path)
{
    static uint8_t file[1 << 20];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(file, 1, sizeof(file), f) : 0;
    Elf64_Ehdr eh;

    if (f)
        fclose(f);
    if (n < sizeof(eh))
        return -1;
    memcpy(&eh, file, sizeof(eh));
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;

        if (eh.e_phoff + (i + 1) * sizeof(ph) > n)
            return -1;
        memcpy(&ph, file + eh.e_phoff + i * sizeof(ph), sizeof(ph));
        if (ph.p_type != PT_LOAD)
            continue;
        if (ph.p_offset + ph.p_filesz > n ||
            mem_write(m->mem, ph.p_paddr, file + ph.p_offset, ph.p_filesz) < 0)
            return -1;
    }
    if (mem_read(m->mem, GUEST_BASE, &m->header, sizeof(m->header)) < 0)
        return -1;
    return m->header.magic == GUEST_MAGIC && m->header.cpus <= CPUS_TEST_MAX ? 0 : -1;
}

/* As lib/guest.h names the selectors. */
static const uint64_t gdt[] = {
    0,
    0x00af9b000000ffff, /* 0x08 64-bit code, ring 0 */
    0x00cf93000000ffff, /* 0x10 data, ring 0 */
    0x00cf9b000000ffff, /* 0x18 32-bit code, ring 0 */
    0x00cffb000000ffff, /* 0x20 32-bit code, ring 3 */
    0x00cff3000000ffff, /* 0x28 data, ring 3 */
    0x00affb000000ffff, /* 0x30 64-bit code, ring 3 */
    0x00009b010000ffff, /* 0x38 16-bit code, ring 0, base 0x10000 */
    0x000093010000ffff, /* 0x40 16-bit data, ring 0, base 0x10000 */
};

static void put64(struct machine *m, gpa_t at, uint64_t v)
{
    if (mem_write(m->mem, at, &v, 8) < 0)
        abort();
}

static void long_mode(struct machine *m, struct cpu_state *s)
{
    struct x86_seg code = {
        .sel = 8, .limit = UINT32_MAX, .attr = SEG_P | SEG_S | 0xb | SEG_L | SEG_G};
    struct x86_seg data = {
        .sel = 16, .limit = UINT32_MAX, .attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_G};

    for (unsigned i = 0; i < sizeof(gdt) / 8; i++)
        put64(m, GDT + i * 8, gdt[i]);
    put64(m, TABLES, (TABLES + 0x1000) | 7);
    for (uint64_t i = 0; i < 4; i++)
        put64(m, TABLES + 0x1000 + i * 8, (TABLES + 0x2000 + i * 0x1000) | 7);
    for (uint64_t i = 0; i < 4 * 512; i++) /* supervisor pages of 2 MiB */
        put64(m, TABLES + 0x2000 + i * 8, i << 21 | 0x83);
    s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP;
    s->cr3 = TABLES;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s->seg[SEG_CS] = code;
    for (unsigned i = 0; i < SEGS; i++)
        if (i != SEG_CS)
            s->seg[i] = data;
    s->gdtr = (struct x86_table){GDT, 0xfff};
    s->idtr = (struct x86_table){0, 0};
    s->gpr[RSP] = GUEST_BASE - 16; /* the library changes to its own */
    s->rip = m->header.entry;
}

static void entry_state(struct machine *m, unsigned cpu, struct cpu_state *s)
{
    if (cpu)
        return; /* waits for SIPI */
    if (m->header.bits == 64) {
        long_mode(m, s);
        return;
    }
    s->seg[SEG_CS].sel = GUEST_BASE >> 4;
    s->seg[SEG_CS].base = GUEST_BASE;
    s->rip = m->header.entry - GUEST_BASE;
    s->cr0 = CR0_ET;
    s->gpr[RSP] = 0xfff0;
}

/* --- running --- */

static bool answer(struct machine *m, struct cpu_exit *x)
{
    pthread_mutex_lock(&m->board);
    switch (x->kind) {
    case CPU_EXIT_MMIO:
        if (x->u.mmio.write)
            bus_write(&m->mmio, x->u.mmio.gpa, x->u.mmio.len, x->u.mmio.val);
        else
            x->u.mmio.val = bus_read(&m->mmio, x->u.mmio.gpa, x->u.mmio.len);
        break;
    case CPU_EXIT_PIO: {
        uint8_t *p = x->u.pio.data;

        for (uint32_t i = 0; i < x->u.pio.count; i++, p += x->u.pio.len) {
            uint64_t v = 0;

            if (x->u.pio.write) {
                memcpy(&v, p, x->u.pio.len);
                bus_write(&m->pio, x->u.pio.port, x->u.pio.len, v);
            } else {
                v = bus_read(&m->pio, x->u.pio.port, x->u.pio.len);
                memcpy(p, &v, x->u.pio.len);
            }
        }
        break;
    }
    case CPU_EXIT_EOI:
        ioapic_eoi(&m->ioapic, x->u.eoi.vector);
        break;
    case CPU_EXIT_SHUTDOWN:
        end(m, -1, "triple fault");
        break;
    case CPU_EXIT_STUCK:
        end(m, -1, x->u.stuck.why);
        break;
    case CPU_EXIT_KICKED:
        break;
    }
    bool on = !m->ended;
    pthread_mutex_unlock(&m->board);
    return on;
}

struct thread_arg {
    struct machine *m;
    unsigned cpu;
};

static void *vcpu_thread(void *p)
{
    struct thread_arg *a = p;
    struct machine *m = a->m;
    struct vcpu *v = m->cpu[a->cpu];
    struct cpu_exit x = {0};
    struct err e = {0};

    do {
        if (m->eng->run(v, &x, &e) < 0) {
            pthread_mutex_lock(&m->board);
            end(m, -1, e.msg);
            pthread_mutex_unlock(&m->board);
            break;
        }
    } while (answer(m, &x));
    return NULL;
}

/* The I/O thread: timers, until the end or the time limit. */
static void run_timers(struct machine *m)
{
    ns_t limit = clock_ns(&m->clock) + TIMEOUT_S * 1000000000ull;

    pthread_mutex_lock(&m->board);
    while (!m->ended) {
        ns_t now = clock_ns(&m->clock);
        struct timespec ts;

        timerq_run(&m->timers, now);
        if (now >= limit) {
            end(m, -1, "time is up");
            break;
        }
        ns_t next = timerq_next(&m->timers);
        uint64_t wait = next <= now ? 0 : next - now;
        if (wait > 10000000) /* sooner() comes without the lock: never sleep long */
            wait = 10000000;
        clock_gettime(CLOCK_REALTIME, &ts);
        uint64_t t = (uint64_t)ts.tv_nsec + wait;
        ts.tv_sec += (time_t)(t / 1000000000);
        ts.tv_nsec = (long)(t % 1000000000);
        if (wait)
            pthread_cond_timedwait(&m->wake, &m->board, &ts);
    }
    pthread_mutex_unlock(&m->board);
}

static void print_state(struct machine *m, unsigned cpu)
{
    struct cpu_state s;
    struct cpu_exit x = {0};
    struct err e;

    m->eng->kick(m->cpu[cpu]);
    for (int i = 0; i < 100 && (m->eng->run(m->cpu[cpu], &x, &e) < 0 || x.kind != CPU_EXIT_KICKED);
         i++)
        ;
    if (m->eng->get(m->cpu[cpu], &s, &e) < 0)
        return;
    fprintf(
        stderr,
        "  cpu %u: cs %x rip %llx rsp %llx rax %llx cr2 %llx cr0 %llx efer %llx mp %d flags %llx\n",
        cpu, s.seg[SEG_CS].sel, (unsigned long long)s.rip, (unsigned long long)s.gpr[RSP],
        (unsigned long long)s.gpr[RAX], (unsigned long long)s.cr2, (unsigned long long)s.cr0,
        (unsigned long long)s.efer, (int)s.mp, (unsigned long long)s.rflags);
}

static int run(struct machine *m, struct err *e)
{
    struct thread_arg arg[CPUS_TEST_MAX];
    struct cpu_state s;
    int r;

    m->eng->vm_set_pic_ack(m->vm, ack, m);
    for (unsigned i = 0; i < m->header.cpus; i++) {
        r = m->eng->vcpu_new(m->vm, i, &m->cpu[i], e);
        if (r < 0)
            return r;
        r = m->eng->get(m->cpu[i], &s, e);
        if (r < 0)
            return r;
        entry_state(m, i, &s);
        r = m->eng->set(m->cpu[i], &s, e);
        if (r < 0)
            return r;
    }
    for (unsigned i = 0; i < m->header.cpus; i++) {
        arg[i] = (struct thread_arg){m, i};
        if (pthread_create(&m->thread[i], NULL, vcpu_thread, &arg[i]))
            abort();
    }
    run_timers(m);
    for (unsigned i = 0; i < m->header.cpus; i++)
        pthread_join(m->thread[i], NULL);
    if (m->status)
        for (unsigned i = 0; i < m->header.cpus; i++)
            print_state(m, i);
    return 0;
}

static void print_difference(void *ctx, const char *text)
{
    printf("%s", text);
}

/* 0 pass, 1 fail, SKIP */
static int on_engine(const char *path, const struct cpu_engine *eng)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct cpu_vm_conf conf = {0};
    struct err e = {0};
    bool hw;
    int r = 1;

    if (eng->probe(&hw, &e) < 0) {
        printf("%s: skipped: %s\n", eng->name, e.msg);
        free(m);
        return SKIP;
    }
    m->eng = eng;
    pthread_mutex_init(&m->board, NULL);
    pthread_cond_init(&m->wake, NULL);
    m->mem = mem_new(RAM_BYTES, &e);
    if (!m->mem || load(m, path) < 0) {
        printf("%s: not a guest\n", path);
        exit(1);
    }
    if (m->header.cpus > 1 && eng == &cpu_lockstep) {
        printf("lockstep: skipped: it runs one CPU\n");
        r = SKIP;
        goto out;
    }
    if (m->header.exact && !strcmp(eng->name, "kvm") && !hw) {
        printf("kvm: skipped: this host's KVM emulates ring 0 and does not follow the SDM there\n");
        r = SKIP;
        goto out;
    }
    clock_init(&m->clock, clock_host(), 0);
    timerq_init(&m->timers, sooner, m);
    if (cpu_model_init(&m->model, m->header.cpus, m->clock.tsc_khz, &e) < 0 ||
        board_init(m, &e) < 0)
        goto fail;
    conf.mem = m->mem;
    conf.clock = &m->clock;
    conf.timers = &m->timers;
    conf.model = &m->model;
    conf.differs = print_difference;
    if (eng->vm_new(&conf, &m->vm, &e) < 0 || run(m, &e) < 0)
        goto fail;
    r = m->status != 0;
    if (r)
        printf("%s: FAILED: %s, check %d\n", eng->name, m->why, m->status);
    else
        printf("%s: passed\n", eng->name);
    goto out;
fail:
    printf("%s: FAILED: %s\n", eng->name, e.msg);
out:
    for (unsigned i = 0; i < CPUS_TEST_MAX; i++)
        if (m->cpu[i])
            eng->vcpu_free(m->cpu[i]);
    eng->vm_free(m->vm);
    mem_free(m->mem);
    free(m);
    return r;
}

int main(int argc, char **argv)
{
    int failed = 0, passed = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: runner GUEST.elf [ENGINE]\n");
        return 2;
    }
    if (argc > 2 && !strcmp(argv[2], cpu_lockstep.name))
        return on_engine(argv[1], &cpu_lockstep);
    for (const struct cpu_engine *const *p = cpu_engines(); *p; p++) {
        if (argc > 2 && strcmp(argv[2], (*p)->name))
            continue;
        int r = on_engine(argv[1], *p);
        failed += r == 1;
        passed += r == 0;
        fflush(stdout);
    }
    return failed ? 1 : passed ? 0 : SKIP;
}
