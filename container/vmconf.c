#include "container/vmconf.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

enum { SECOND = 1000000000 };

static int add_mounts(const struct spec *s, struct vmconf *out, struct err *e)
{
    for (size_t i = 0; i < s->n_mounts; i++) {
        const struct spec_mount *m = &s->mounts[i];

        if (m->kind != SPEC_BIND)
            return err_set(e, -EINVAL, "%s: a machine shares folders of this host only", m->target);
        if (out->guest.n_volumes == VOLUME_MAX)
            return err_set(e, -EINVAL, "a machine has at most %d volumes", VOLUME_MAX);
        out->volume[out->guest.n_volumes++] =
            (struct volume){.host = m->source, .guest = m->target, .read_only = m->read_only};
    }
    out->guest.volume = out->volume;
    return 0;
}

/* The lease's card: what the machine is connected to, and what the guest makes of it. */
static void add_card(const struct network_lease *l, const struct spec *s, struct vmconf *out)
{
    static const enum vm_net_kind kinds[] = {[NETWORK_TAP] = VM_NET_TAP,
                                             [NETWORK_STREAM] = VM_NET_STREAM,
                                             [NETWORK_VHOST_USER] = VM_NET_VHOST};

    if (!l || (size_t)l->kind >= ARRAY_LEN(kinds) || kinds[l->kind] == VM_NET_NONE)
        return;
    out->net = (struct vm_net){.kind = kinds[l->kind], .pairs = 1, .vhost_socket = l->path};
    if (l->kind == NETWORK_TAP)
        out->net.pairs = l->n_fds < NET_PAIRS_MAX ? l->n_fds : NET_PAIRS_MAX;
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
        out->net.fd[i] = i < l->n_fds ? l->fd[i] : -1;
    if (s->net_rate > 0)
        out->net.rx.bytes = out->net.tx.bytes = (uint64_t)s->net_rate;
    out->net_set = (struct session_net){.mtu = l->mtu,
                                        .ip = l->ip,
                                        .prefix = l->prefix,
                                        .gateway = l->gateway,
                                        .ip6 = l->ip6,
                                        .prefix6 = l->prefix6,
                                        .gateway6 = l->gateway6};
    memcpy(out->net.mac, l->mac, sizeof(out->net.mac));
    memcpy(out->net_set.mac, l->mac, sizeof(out->net_set.mac));
    out->guest.net = &out->net;
    out->guest.net_set = &out->net_set;
    out->guest.n_nets = 1;
    if (l->kind == NETWORK_VHOST_USER)
        out->guest.store = NULL; /* its memory is shared, so it cannot lie over a template's */
}

int vmconf_fill(const struct task_conf *c, struct vmconf *out, struct err *e)
{
    const struct spec *s = &c->rec->spec;

    out->guest = (struct guest_conf){
        .store = s->no_template ? NULL : c->store,
        .kernel = c->kernel,
        .kernel_dir = c->kernel_dir,
        .rootfs = c->rootfs,
        .fstype = c->fstype,
        .engine = s->engine ? s->engine : "auto",
        .cpus = s->nano_cpus > 0 ? (unsigned)((s->nano_cpus + SECOND - 1) / SECOND) : 1,
        .ram_bytes = s->memory > 0 ? (uint64_t)s->memory : VMCONF_RAM_DEFAULT,
        .code_cache_bytes = s->code_cache_bytes,
        .perf_map = s->perf_map,
        .count_insns = s->count_insns,
    };
    if (c->net) {
        out->guest.hosts = c->net->hosts;
        out->guest.resolv = c->net->resolv;
    }
    add_card(c->net, s, out);
    return add_mounts(s, out, e);
}
