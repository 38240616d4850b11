#include "container/guestconf.h"

#include "base/cleanup.h"
#include "image/initrd.h"

/* quiet: messages cost the interpreter time and go to the log only. The other words leave out what
 * a machine of this kind has not (keyboard, further serial ports, audit) and boundaries inside it:
 * the machine is the boundary. */
static const char cmdline[] =
    "console=ttyS0 quiet panic=-1 reboot=t mitigations=off audit=0 "
    "random.trust_cpu=on cryptomgr.notests 8250.nr_uarts=1 i8042.noaux i8042.nokbd";

const char *guestconf_tag(unsigned i)
{
    static const char *const tag[] = {"volume0", "volume1", "volume2", "volume3",
                                      "volume4", "volume5", "volume6"};
    _Static_assert(ARRAY_LEN(tag) == VM_SHARES_MAX && (int)VOLUME_MAX <= (int)VM_SHARES_MAX,
                   "a tag for each volume");

    return tag[i];
}

void guestconf_fill(const struct guest_conf *c, const char *vsock, bool slots, struct vm_conf *out)
{
    *out = (struct vm_conf){
        .cpus = c->cpus,
        .ram_bytes = c->ram_bytes,
        .engine = c->engine,
        .code_cache_bytes = c->code_cache_bytes,
        .perf_map = c->perf_map,
        .count_insns = c->count_insns,
        .kernel = c->kernel,
        .initrd_fd = -1,
        .cmdline = cmdline,
        .disk = {{.path = c->rootfs, .read_only = true, .serial = "root"}},
        .n_disks = 1,
        .vsock_path = vsock,
        .vsock_cid = 3,
        .rng = true,
        .console_in = -1,
        .console_out = -1,
    };
    if (c->n_volumes > 0)
        out->n_shares = slots ? VM_SHARES_MAX : (unsigned)c->n_volumes;
    for (unsigned i = 0; i < out->n_shares; i++)
        out->share[i].tag = guestconf_tag(i);
    out->n_nets = c->n_nets < VM_NETS_MAX ? c->n_nets : VM_NETS_MAX;
    for (unsigned i = 0; i < out->n_nets; i++)
        out->net[i] = c->net ? c->net[i] : (struct vm_net){0};
    for (unsigned i = 0; i < c->n_volumes; i++) {
        out->share[i].path = c->volume[i].host;
        out->share[i].read_only = c->volume[i].read_only;
    }
}

unsigned guestconf_modules(const struct vm_conf *vc)
{
    return (vc->n_shares > 0 ? INITRD_SHARES : 0) | (vc->n_nets > 0 ? INITRD_NETS : 0);
}

void guestconf_empty(struct vm_conf *vc)
{
    vc->disk[0].path = NULL;
    for (unsigned i = 0; i < vc->n_shares; i++)
        vc->share[i].path = NULL;
    for (unsigned i = 0; i < vc->n_nets; i++)
        vc->net[i] =
            (struct vm_net){.pairs = vc->net[i].pairs, .mac = {2, 0, 0, 0, 0, (uint8_t)(i + 1)}};
}
