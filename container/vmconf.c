#include "container/vmconf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "container/upper.h"

enum { SECOND = 1000000000 };
#define TMPFS_OPTIONS "nosuid,nodev,noexec,mode=1777" /* docker's */

void vmconf_done(struct vmconf *v)
{
    vmdisks_done(&v->disks);
    volumes_done(v->volumes, v->n_volumes);
    for (unsigned i = 0; i < v->n_mounts; i++)
        free(v->mount[i]);
    *v = (struct vmconf){.n_mounts = 0};
}

/* ---- what the guest mounts */

/* The four fields of PF_MOUNT. */
static int add_mount(struct vmconf *v, const char *type, const char *source, const char *target,
                     const char *options, struct err *e)
{
    const char *const part[] = {type, source, target, options};
    size_t len = 0, at = 0;

    if (v->n_mounts == VMCONF_MOUNTS_MAX)
        return err_set(e, -E2BIG, "a machine takes at most %d mounts", VMCONF_MOUNTS_MAX);
    for (unsigned i = 0; i < ARRAY_LEN(part); i++)
        len += strlen(part[i]) + 1;
    char *text = malloc(len);
    if (!text)
        return err_errno(e, -ENOMEM, "%s", target);
    for (unsigned i = 0; i < ARRAY_LEN(part); i++) {
        memcpy(text + at, part[i], strlen(part[i]) + 1);
        at += strlen(part[i]) + 1;
    }
    v->mount[v->n_mounts] = text;
    v->mount_len[v->n_mounts++] = len - 1;
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

static int add_tmpfs(struct vmconf *v, const struct volume *vol, struct err *e)
{
    char options[1024];

    snprintf(options, sizeof(options), TMPFS_OPTIONS "%s%s%s", vol->options ? "," : "",
             vol->options ? vol->options : "", vol->read_only ? ",ro" : "");
    return add_mount(v, "tmpfs", "tmpfs", vol->guest, options, e);
}

static int add_share(struct vmconf *v, const struct volume *vol, struct err *e)
{
    const char *name = strrchr(vol->host, '/');
    char options[300] = "";
    unsigned i = v->guest.n_shares;
    struct stat st;

    if (i == VOLUME_MAX)
        return err_set(e, -E2BIG, "a machine has places for %d folders and volumes", VOLUME_MAX);
    if (vol->file && (stat(vol->host, &st) < 0 || !S_ISREG(st.st_mode)))
        return err_set(
            e, -ENOTSUP,
            "%s: a machine shares folders and regular files; for sockets and devices use "
            "--isolation=process",
            vol->host);
    if (vol->file && strchr(vol->host, ','))
        return err_set(e, -EINVAL, "%s: a file's name with a comma cannot be shared", vol->host);
    snprintf(options, sizeof(options), "%s%s%s%s", vol->read_only ? "ro" : "",
             vol->read_only && vol->file ? "," : "", vol->file ? "file=" : "",
             vol->file ? name + 1 : "");
    v->share[i] = (struct vm_share){.path = vol->host, .read_only = vol->read_only};
    v->guest.n_shares++;
    return add_mount(v, "virtiofs", guestconf_tag(i), vol->guest, options, e);
}

static int add_volumes(const struct task_conf *c, struct vmconf *v, struct err *e)
{
    const struct spec *s = &c->rec->spec;
    char size[64];
    int r = volume_prepare(c->store, s, c->rootfs, c->fstype, &v->volumes, &v->n_volumes, e);

    if (r == 0 && s->shm_size > 0) {
        snprintf(size, sizeof(size), "nosuid,nodev,noexec,mode=1777,size=%lld",
                 (long long)s->shm_size);
        r = add_mount(v, "tmpfs", "shm", "/dev/shm", size, e);
    }
    for (size_t i = 0; r == 0 && i < v->n_volumes; i++)
        r = v->volumes[i].host ? add_share(v, &v->volumes[i], e) : add_tmpfs(v, &v->volumes[i], e);
    v->guest.share = v->share;
    return r;
}

/* ---- disks */

int vmconf_check_device(const struct spec_device *d, struct err *e)
{
    struct stat st;

    if (stat(d->host, &st) < 0)
        return err_errno(e, -errno, "--device %s", d->host);
    if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
        return err_set(
            e, -ENOTSUP,
            "--device %s: a machine takes block devices and files with a disk's content; "
            "for character devices use --isolation=process",
            d->host);
    return 0;
}

static int add_device(struct vmconf *v, const struct spec_device *d, struct err *e)
{
    unsigned i = v->guest.n_disks;
    bool write = !d->access || strchr(d->access, 'w');
    char text[PATH_MAX + 8];
    int r = vmconf_check_device(d, e);

    if (r < 0)
        return r;
    if (i == GUESTCONF_DISKS_MAX)
        return err_set(e, -E2BIG, "a machine takes at most %d devices", GUESTCONF_DISKS_MAX);
    snprintf(text, sizeof(text), "%s%s", d->host, write ? "" : ":ro");
    r = vmdisks_add(&v->disks, text, &v->disk_conf, e);
    if (r < 0)
        return err_wrap(e, r, "--device");
    v->guest.n_disks++;
    return add_mount(v, "device", guestconf_disk(i), d->guest ? d->guest : d->host,
                     write ? "" : "ro", e);
}

static int add_disks(const struct task_conf *c, struct vmconf *v, struct err *e)
{
    const struct spec *s = &c->rec->spec;
    int r = 0;

    if (upper_on_disk(s)) {
        r = upper_disk(c->store, c->rec, v->upper, e);
        v->guest.upper = v->upper;
    }
    for (size_t i = 0; r == 0 && i < s->n_devices; i++)
        r = add_device(v, &s->devices[i], e);
    if (r == 0 && s->n_devices > 0)
        r = vmdisks_start(&v->disks, &v->disk_conf, e);
    v->guest.disk = v->disk_conf.disk;
    /* Memory that a daemon shares cannot lie over a template's. */
    for (unsigned i = 0; i < v->disk_conf.n_disks; i++)
        if (v->disk_conf.disk[i].vhost)
            v->guest.store = NULL;
    return r;
}

int vmconf_fill(const struct task_conf *c, struct vmconf *out, struct err *e)
{
    const struct spec *s = &c->rec->spec;

    *out = (struct vmconf){.n_mounts = 0};
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
    int r = add_volumes(c, out, e);
    return r < 0 ? r : add_disks(c, out, e);
}
