#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/pid1.h"
#include "proto/filework.h"

static int take_str(const struct proto_field_view *v, char **out)
{
    char *s = proto_field_str(v);

    if (!s)
        return -errno;
    free(*out);
    *out = s;
    return 0;
}

static int take_bool(const struct proto_field_view *v, bool *out)
{
    uint64_t n;
    int r = proto_field_u64(v, &n);

    if (r == 0)
        *out = n != 0;
    return r;
}

static int take_u16(const struct proto_field_view *v, uint16_t *out)
{
    uint64_t n;
    int r = proto_field_u64(v, &n);

    if (r == 0)
        *out = (uint16_t)n;
    return r;
}

static int take_u32(const struct proto_field_view *v, uint32_t *out)
{
    uint64_t n;
    int r = proto_field_u64(v, &n);

    if (r == 0)
        *out = (uint32_t)n;
    return r;
}

static int take_entropy(const struct proto_field_view *v, struct setup_req *r)
{
    uint8_t *p = malloc(v->len ? v->len : 1);

    if (!p)
        return -ENOMEM;
    memcpy(p, v->p, v->len);
    free(r->entropy);
    r->entropy = p;
    r->entropy_len = v->len;
    return 0;
}

/* "type\0source\0target\0options": four strings, the last ended by the field. */
static int take_mount(const struct proto_field_view *v, struct setup_req *r)
{
    if (r->n_mounts == AGENT_MOUNTS_MAX)
        return -E2BIG;

    char *bytes = malloc((size_t)v->len + 1);
    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, v->p, v->len);
    bytes[v->len] = '\0';

    struct setup_mount *m = &r->mount[r->n_mounts++];
    char **part[] = {&m->type, &m->source, &m->target, &m->options};
    char *end = bytes + v->len, *p = bytes;

    m->bytes = bytes;
    for (unsigned i = 0; i < 4; i++) {
        if (p > end)
            return -EBADMSG;
        *part[i] = p;
        p += strlen(p) + 1;
    }
    return p == end + 1 ? 0 : -EBADMSG;
}

/* u8 bits, then `n` addresses of one family. */
static int take_addresses(const struct proto_field_view *v, unsigned n, struct setup_route *a)
{
    size_t len = v->len < 1 ? 0 : (v->len - 1) / n;

    if (v->len < 1 || len * n != v->len - 1 || (len != 4 && len != 16) || v->p[0] > 8 * len)
        return -EBADMSG;
    *a = (struct setup_route){.family = len == 4 ? AF_INET : AF_INET6, .prefix = v->p[0]};
    memcpy(a->to, v->p + 1, len);
    if (n > 1)
        memcpy(a->via, v->p + 1 + len, len);
    a->linked = memcmp(a->via, (uint8_t[16]){0}, sizeof(a->via)) == 0;
    return 0;
}

static int net_field(const struct proto_field_view *v, struct setup_net *n)
{
    uint64_t mtu;
    int r;

    switch (v->id) {
    case PN_MAC:
        if (v->len != sizeof(n->mac))
            return -EBADMSG;
        memcpy(n->mac, v->p, sizeof(n->mac));
        n->has_mac = true;
        return 0;
    case PN_MTU:
        r = proto_field_u64(v, &mtu);
        n->mtu = r == 0 ? (uint32_t)mtu : 0;
        return r;
    case PN_ADDR:
        return n->n_addrs == AGENT_ADDRS_MAX ? -E2BIG
                                             : take_addresses(v, 1, &n->addr[n->n_addrs++]);
    case PN_ROUTE:
        return n->n_routes == AGENT_ROUTES_MAX ? -E2BIG
                                               : take_addresses(v, 2, &n->route[n->n_routes++]);
    default:
        return 0;
    }
}

static int take_net(const struct proto_field_view *v, struct setup_req *r)
{
    struct proto_frame inner = {.p = v->p, .len = v->len};
    struct proto_field_view f;
    size_t pos = 0;
    int got;

    if (r->n_nets == AGENT_NETS_MAX)
        return -E2BIG;
    struct setup_net *more = reallocarray(r->net, r->n_nets + 1, sizeof(*more));
    if (!more)
        return -ENOMEM;
    r->net = more;
    struct setup_net *n = &more[r->n_nets++];
    *n = (struct setup_net){0};
    while ((got = proto_field_next(&inner, &pos, &f)) == 1) {
        got = net_field(&f, n);
        if (got < 0)
            return got;
    }
    return got;
}

static int setup_field(const struct proto_field_view *v, struct setup_req *r)
{
    switch (v->id) {
    case PF_HOSTNAME:
        return take_str(v, &r->hostname);
    case PF_MACHINE_ID:
        return take_str(v, &r->machine_id);
    case PF_ENTROPY:
        return take_entropy(v, r);
    case PF_WALL_NS:
        return proto_field_u64(v, &r->wall_ns);
    case PF_ROOT_DEV:
        return take_str(v, &r->root_dev);
    case PF_ROOT_FSTYPE:
        return take_str(v, &r->root_fstype);
    case PF_ROOT_RO:
        return take_bool(v, &r->root_ro);
    case PF_OVERLAY_DEV:
        return take_str(v, &r->overlay_dev);
    case PF_OVERLAY_BYTES:
        return proto_field_u64(v, &r->overlay_bytes);
    case PF_MOUNT:
        return take_mount(v, r);
    case PF_HOSTS:
        return take_str(v, &r->hosts);
    case PF_RESOLV:
        return take_str(v, &r->resolv);
    case PF_NET:
        return take_net(v, r);
    default:
        return 0; /* from a later version */
    }
}

int setup_parse(const struct proto_frame *f, struct setup_req *r, struct err *e)
{
    struct proto_field_view v;
    size_t pos = 0;
    int got;

    while ((got = proto_field_next(f, &pos, &v)) == 1) {
        got = setup_field(&v, r);
        if (got < 0)
            return err_errno(e, got, "SETUP, IDENTITY: field %u", v.id);
    }
    if (got < 0)
        return err_set(e, got, "SETUP or IDENTITY is malformed");
    if (f->type == PROTO_SETUP && (!r->root_dev || !r->root_fstype))
        return err_set(e, -EBADMSG, "SETUP names no root");
    return 0;
}

void setup_done(struct setup_req *r)
{
    free(r->hostname);
    free(r->machine_id);
    free(r->root_dev);
    free(r->root_fstype);
    free(r->overlay_dev);
    free(r->hosts);
    free(r->resolv);
    free(r->entropy);
    free(r->net);
    for (unsigned i = 0; i < r->n_mounts; i++)
        free(r->mount[i].bytes);
    *r = (struct setup_req){0};
}

static int start_field(const struct proto_field_view *v, struct start_req *r)
{
    switch (v->id) {
    case PF_ARG:
        return strv_take(&r->argv, proto_field_str(v));
    case PF_ENV:
        return strv_take(&r->env, proto_field_str(v));
    case PF_CWD:
        return take_str(v, &r->cwd);
    case PF_USER:
        return take_str(v, &r->user);
    case PF_TTY:
        return take_bool(v, &r->tty);
    case PF_STDIN:
        return take_bool(v, &r->with_stdin);
    case PF_WORK:
        return take_u32(v, &r->work);
    case PF_FLAGS:
        return take_u32(v, &r->flags);
    case PF_DETACH:
        return take_bool(v, &r->detach);
    case PF_BESIDE:
        return take_bool(v, &r->beside);
    case PF_ROWS:
        return take_u16(v, &r->rows);
    case PF_COLS:
        return take_u16(v, &r->cols);
    default:
        return 0;
    }
}

int start_parse(const struct proto_frame *f, struct start_req *r, struct err *e)
{
    struct proto_field_view v;
    size_t pos = 0;
    int got;

    if (f->len > PROTO_START_MAX - r->bytes)
        return err_set(e, -E2BIG, "arguments and environment exceed %d bytes", PROTO_START_MAX);
    r->bytes += f->len;
    while ((got = proto_field_next(f, &pos, &v)) == 1) {
        got = start_field(&v, r);
        if (got < 0)
            return err_errno(e, got, "START: field %u", v.id);
    }
    if (got < 0)
        return err_set(e, got, "START is malformed");
    if (f->type == PROTO_START && r->argv.n == 0)
        return err_set(e, -EBADMSG, "START names no command");
    if ((f->type == PROTO_WORK) != (r->work != 0) ||
        (r->work && (r->work >= FILEWORK_KINDS || r->argv.n != 2 || r->tty || r->detach)))
        return err_set(e, -EBADMSG, "WORK is malformed");
    return 0;
}

void start_done(struct start_req *r)
{
    strv_done(&r->argv);
    strv_done(&r->env);
    free(r->cwd);
    free(r->user);
    *r = (struct start_req){0};
}
