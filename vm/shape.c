#include "vm/shape.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "mem/mem.h"
#include "state/state.h"

/* A path that still means the same from another folder. */
static char *absolute(const char *path)
{
    char *full = path ? realpath(path, NULL) : NULL;

    return full || !path ? full : strdup(path);
}

static int add_disk(struct shape *s, const struct vm_disk *d)
{
    struct shape_disk *to = &s->disk[s->n_disks++];

    *to = (struct shape_disk){.path = absolute(d->path), .read_only = d->read_only};
    if (d->serial)
        to->serial = strndup(d->serial, SHAPE_SERIAL_MAX);
    return !to->path == !d->path && !to->serial == !d->serial ? 0 : -ENOMEM;
}

static int add_share(struct shape *s, const struct vm_share *h)
{
    struct shape_share *to = &s->share[s->n_shares++];

    *to = (struct shape_share){
        .path = absolute(h->path), .tag = strdup(h->tag), .read_only = h->read_only};
    return !to->path == !h->path && to->tag ? 0 : -ENOMEM;
}

static void add_net(struct shape *s, const struct vm_net *n)
{
    struct shape_net *to = &s->net[s->n_nets++];

    *to = (struct shape_net){.mtu = n->mtu, .pairs = n->pairs ? n->pairs : 1};
    memcpy(to->mac, n->mac, sizeof(to->mac));
}

int shape_init(struct shape *s, const struct vm_conf *c, struct err *e)
{
    int r = 0;

    *s = (struct shape){.cpus = c->cpus,
                        .ram_bytes = c->ram_bytes,
                        .vsock = c->vsock_path != NULL,
                        .console = c->console,
                        .rng = c->rng,
                        .vsock_cid = c->vsock_cid};
    for (unsigned i = 0; r == 0 && i < c->n_disks; i++)
        r = add_disk(s, &c->disk[i]);
    for (unsigned i = 0; r == 0 && i < c->n_shares; i++)
        r = add_share(s, &c->share[i]);
    for (unsigned i = 0; i < c->n_nets; i++)
        add_net(s, &c->net[i]);
    if (r < 0) {
        shape_done(s);
        return err_set(e, r, "out of memory");
    }
    return 0;
}

void shape_done(struct shape *s)
{
    for (unsigned i = 0; i < s->n_disks; i++) {
        free(s->disk[i].path);
        free(s->disk[i].serial);
    }
    for (unsigned i = 0; i < s->n_shares; i++) {
        free(s->share[i].path);
        free(s->share[i].tag);
    }
    *s = (struct shape){0};
}

static bool copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

int shape_copy(struct shape *to, const struct shape *from, struct err *e)
{
    bool good = true;

    *to = *from;
    for (unsigned i = 0; i < from->n_disks; i++) {
        const struct shape_disk *d = &from->disk[i];

        good &= copy_text(&to->disk[i].path, d->path);
        good &= copy_text(&to->disk[i].serial, d->serial);
    }
    for (unsigned i = 0; i < from->n_shares; i++) {
        good &= copy_text(&to->share[i].path, from->share[i].path);
        good &= copy_text(&to->share[i].tag, from->share[i].tag);
    }
    if (good)
        return 0;
    shape_done(to);
    return err_set(e, -ENOMEM, "out of memory");
}

/* Text without a NUL inside; loading allocates it. An empty one is NULL where that is allowed. */
static void text_visit(struct state_io *io, uint16_t id, char **text, size_t max, bool optional)
{
    uint8_t *p = (uint8_t *)*text;
    size_t len = *text ? strlen(*text) : 0;

    state_blob(io, id, &p, &len, max);
    if (!state_loading(io))
        return;
    if (memchr(p, 0, len) || (len == 0 && !optional)) {
        state_fail(io, "a name with a NUL inside, or none");
    } else if (len > 0) {
        *text = strndup((char *)p, len);
        if (!*text)
            state_fail(io, "out of memory");
    }
    free(p);
}

static void disk_visit(struct shape_disk *d, struct state_io *io)
{
    text_visit(io, 1, &d->path, SHAPE_PATH_MAX, true);
    text_visit(io, 2, &d->serial, SHAPE_SERIAL_MAX, true);
    state_u64(io, 3, &d->size);
    state_bool(io, 4, &d->read_only);
    if (state_loading(io) && !d->path && d->size != 0)
        state_fail(io, "an empty drive of %llu bytes", (unsigned long long)d->size);
}

static void share_visit(struct shape_share *h, struct state_io *io)
{
    text_visit(io, 1, &h->path, SHAPE_PATH_MAX, true);
    text_visit(io, 2, &h->tag, SHAPE_TAG_MAX, false);
    state_bool(io, 3, &h->read_only);
}

static void net_visit(struct shape_net *n, struct state_io *io)
{
    state_bytes(io, 1, n->mac, sizeof(n->mac));
    state_u16(io, 2, &n->mtu);
    state_u32(io, 3, &n->pairs);
    if (state_loading(io) && (n->pairs < 1 || n->pairs > NET_PAIRS_MAX))
        state_fail(io, "a network card of %u queue pairs", n->pairs);
}

static void check(const struct shape *s, struct state_io *io)
{
    if (s->cpus < 1 || s->cpus > VM_CPUS_MAX)
        state_fail(io, "a machine of %u CPUs; one has 1 to %d", s->cpus, VM_CPUS_MAX);
    if (s->ram_bytes < (uint64_t)VM_RAM_MIN_MIB << 20 || s->ram_bytes > MEM_SIZE_MAX ||
        s->ram_bytes % MEM_PAGE != 0)
        state_fail(io, "a machine of %llu bytes of memory", (unsigned long long)s->ram_bytes);
    if (s->tsc_khz < 1000 || s->tsc_khz > 100000000) /* 1 MHz .. 100 GHz */
        state_fail(io, "the TSC rate of %llu kHz is not one of any CPU",
                   (unsigned long long)s->tsc_khz);
}

void shape_visit(struct shape *s, struct state_io *io)
{
    uint32_t cpus = s->cpus, disks = s->n_disks, shares = s->n_shares, nets = s->n_nets;

    state_u32(io, 1, &cpus);
    state_u64(io, 2, &s->ram_bytes);
    state_u64(io, 3, &s->tsc_khz);
    state_u32s(io, 4, s->features.word, CPU_FEATURE_WORDS);
    state_bool(io, 5, &s->vsock);
    state_bool(io, 6, &s->console);
    state_bool(io, 7, &s->rng);
    state_u32(io, 8, &s->vsock_cid);
    state_u32(io, 9, &disks);
    state_u32(io, 10, &shares);
    state_u32(io, 13, &nets);
    s->cpus = cpus;
    if (state_loading(io))
        check(s, io);
    if (state_loading(io) && (disks > VM_DISKS_MAX || shares > VM_SHARES_MAX || nets > VM_NETS_MAX))
        state_fail(io, "a machine with %u disks, %u shares and %u network cards", disks, shares,
                   nets);
    for (unsigned i = 0; !io->failed && i < disks; i++) {
        s->n_disks = i + 1; /* so that shape_done() frees half a disk too */
        state_begin(io, 11, "disk");
        disk_visit(&s->disk[i], io);
        state_end(io);
    }
    for (unsigned i = 0; !io->failed && i < shares; i++) {
        s->n_shares = i + 1;
        state_begin(io, 12, "share");
        share_visit(&s->share[i], io);
        state_end(io);
    }
    for (unsigned i = 0; !io->failed && i < nets; i++) {
        s->n_nets = i + 1;
        state_begin(io, 14, "network card");
        net_visit(&s->net[i], io);
        state_end(io);
    }
}

void shape_conf(const struct shape *s, struct vm_conf *c)
{
    *c = (struct vm_conf){.cpus = s->cpus,
                          .ram_bytes = s->ram_bytes,
                          .engine = "auto",
                          .initrd_fd = -1,
                          .n_disks = s->n_disks,
                          .n_shares = s->n_shares,
                          .n_nets = s->n_nets,
                          .vsock_cid = s->vsock_cid,
                          .console = s->console,
                          .rng = s->rng,
                          .console_in = -1,
                          .console_out = -1};
    for (unsigned i = 0; i < s->n_disks; i++)
        c->disk[i] = (struct vm_disk){.path = s->disk[i].path,
                                      .read_only = s->disk[i].read_only,
                                      .serial = s->disk[i].serial};
    for (unsigned i = 0; i < s->n_shares; i++)
        c->share[i] = (struct vm_share){
            .path = s->share[i].path, .tag = s->share[i].tag, .read_only = s->share[i].read_only};
    for (unsigned i = 0; i < s->n_nets; i++) {
        c->net[i] = (struct vm_net){.mtu = s->net[i].mtu, .pairs = s->net[i].pairs};
        memcpy(c->net[i].mac, s->net[i].mac, sizeof(c->net[i].mac));
    }
}
