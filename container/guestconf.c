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

const char *guestconf_disk(unsigned i)
{
    static const char *const name[] = {"/dev/vdc", "/dev/vdd", "/dev/vde",
                                       "/dev/vdf", "/dev/vdg", "/dev/vdh"};
    _Static_assert(ARRAY_LEN(name) == GUESTCONF_DISKS_MAX, "a name for each disk");

    return name[i];
}

/* The image, the writable layer, then what was asked for: each has its place, so that its name in
 * the guest is known. */
static void fill_disks(const struct guest_conf *c, bool slots, struct vm_conf *out)
{
    out->n_disks = c->n_disks > 0 ? (slots ? (unsigned)VM_DISKS_MAX : 2 + c->n_disks)
                   : c->upper     ? 2
                                  : 1;
    out->disk[1] = (struct vm_disk){.path = c->upper, .serial = "upper"};
    for (unsigned i = 2; i < out->n_disks; i++) {
        out->disk[i] = i - 2 < c->n_disks ? c->disk[i - 2] : (struct vm_disk){0};
        out->disk[i].any = true;
    }
}

static void fill_shares(const struct guest_conf *c, bool slots, struct vm_conf *out)
{
    if (c->n_shares > 0)
        out->n_shares = slots ? (unsigned)VM_SHARES_MAX : c->n_shares;
    for (unsigned i = 0; i < out->n_shares; i++) {
        out->share[i] = c->share && i < c->n_shares ? c->share[i] : (struct vm_share){0};
        out->share[i].tag = guestconf_tag(i);
    }
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
        .vsock_path = vsock,
        .vsock_cid = 3,
        .rng = true,
        .console_in = -1,
        .console_out = -1,
    };
    fill_disks(c, slots, out);
    fill_shares(c, slots, out);
    out->n_nets = c->n_nets < VM_NETS_MAX ? c->n_nets : VM_NETS_MAX;
    for (unsigned i = 0; i < out->n_nets; i++)
        out->net[i] = c->net ? c->net[i] : (struct vm_net){0};
}

unsigned guestconf_modules(const struct vm_conf *vc)
{
    return (vc->n_shares > 0 ? INITRD_SHARES : 0) | (vc->n_nets > 0 ? INITRD_NETS : 0);
}

void guestconf_empty(struct vm_conf *vc)
{
    for (unsigned i = 0; i < vc->n_disks; i++)
        vc->disk[i] =
            (struct vm_disk){.read_only = i == 0, .any = i >= 2, .serial = vc->disk[i].serial};
    for (unsigned i = 0; i < vc->n_shares; i++)
        vc->share[i] = (struct vm_share){.tag = vc->share[i].tag};
    for (unsigned i = 0; i < vc->n_nets; i++)
        vc->net[i] =
            (struct vm_net){.pairs = vc->net[i].pairs, .mac = {2, 0, 0, 0, 0, (uint8_t)(i + 1)}};
}
