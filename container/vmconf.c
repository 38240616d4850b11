#include "container/vmconf.h"

#include <errno.h>

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
    return add_mounts(s, out, e);
}
