/* The parts of a description that are about isolation and storage; powers are in procpower.c. */
#include "container/procconf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/procpriv.h"
#include "process/defaults.h"
#include "process/mountopt.h"

enum { FILE_MODE = 0644 };

void procconf_done(struct procconf *p)
{
    unpacked_done(&p->unpacked);
    strv_done(&p->strings);
    filter_done(&p->filter);
    volumes_done(p->volumes, p->n_volumes);
    free(p->devices);
    free(p->masked);
    free(p->readonly);
    *p = (struct procconf){0};
}

const char *procconf_keep(struct procconf *p, const char *text)
{
    return strv_add(&p->strings, text) < 0 ? NULL : p->strings.v[p->strings.n - 1];
}

/* ---- namespaces */

/* "container:NAME": a namespace of that container's process. */
static int join(const struct task_conf *c, enum process_ns kind, const char *mode,
                struct procconf *p, struct err *e)
{
    static const char *const file[PROCESS_NS_KINDS] = {
        [PROCESS_NS_PID] = "pid", [PROCESS_NS_IPC] = "ipc", [PROCESS_NS_NET] = "net"};
    const char *name = strchr(mode, ':') + 1;
    struct record other;

    int r = record_find(c->store, name, RECORD_LOOK, &other, e);
    if (r < 0)
        return r;
    pid_t pid = other.state.pid;
    bool good = pid > 0 && record_alive(&other) && other.spec.isolation == SPEC_PROCESS;
    record_done(&other);
    if (!good)
        return err_set(e, -EINVAL, "cannot join container %s: it does not run in this class", name);
    snprintf(p->ns_path[kind], sizeof(p->ns_path[kind]), "/proc/%d/ns/%s", (int)pid, file[kind]);
    p->conf.ns[kind] = (struct process_namespace){.how = PROCESS_NS_PATH, .path = p->ns_path[kind]};
    return 0;
}

static int set_mode(const struct task_conf *c, enum process_ns kind, const char *mode,
                    struct procconf *p, struct err *e)
{
    p->conf.ns[kind].how = PROCESS_NS_NEW;
    if (!mode || strcmp(mode, "private") == 0 || strcmp(mode, "shareable") == 0 ||
        strcmp(mode, "none") == 0)
        return 0;
    if (strncmp(mode, "container:", 10) == 0)
        return join(c, kind, mode, p, e);
    p->conf.ns[kind].how = PROCESS_NS_HOST;
    return strcmp(mode, "host") == 0 ? 0 : err_set(e, -EINVAL, "'%s' is no namespace mode", mode);
}

static void set_net(const struct task_conf *c, struct procconf *p)
{
    struct process_namespace *ns = &p->conf.ns[PROCESS_NS_NET];

    ns->how = PROCESS_NS_NEW;
    if (c->net && c->net->kind == NETWORK_HOST)
        ns->how = PROCESS_NS_HOST;
    if (!c->net || c->net->kind != NETWORK_NETNS)
        return;
    ns->how = PROCESS_NS_PATH;
    ns->path = p->ns_path[PROCESS_NS_NET];
    snprintf(p->ns_path[PROCESS_NS_NET], sizeof(p->ns_path[PROCESS_NS_NET]), "/proc/self/fd/%d",
             c->net->fd[0]);
}

static int set_user_ns(const struct spec *s, struct procconf *p, struct err *e)
{
    bool asked = s->userns && strcmp(s->userns, "private") == 0;

    if (geteuid() == 0)
        return asked ? err_set(e, -EOPNOTSUPP,
                               "--userns=private is for users other than root: root's containers "
                               "have the host's ids")
                     : 0;
    int r = process_rootless_maps(&p->maps, e);
    if (r < 0)
        return r;
    p->conf.ns[PROCESS_NS_USER].how = PROCESS_NS_NEW;
    p->conf.uid_maps = p->maps.uid;
    p->conf.n_uid_maps = p->maps.n_uid;
    p->conf.gid_maps = p->maps.gid;
    p->conf.n_gid_maps = p->maps.n_gid;
    return 0;
}

static int set_namespaces(const struct task_conf *c, struct procconf *p, struct err *e)
{
    const struct spec *s = &c->rec->spec;

    p->conf.ns[PROCESS_NS_MNT].how = PROCESS_NS_NEW;
    int r = set_mode(c, PROCESS_NS_PID, s->pid_mode, p, e);
    if (r == 0)
        r = set_mode(c, PROCESS_NS_IPC, s->ipc_mode, p, e);
    if (r == 0)
        r = set_mode(c, PROCESS_NS_UTS, s->uts_mode, p, e);
    if (r == 0)
        r = set_mode(c, PROCESS_NS_CGROUP, s->cgroupns, p, e);
    if (r == 0)
        r = set_user_ns(s, p, e);
    set_net(c, p);
    if (p->conf.ns[PROCESS_NS_UTS].how == PROCESS_NS_NEW) {
        p->conf.hostname = s->hostname ? s->hostname : c->dir->id;
        p->conf.domainname = s->domainname;
    } else if (s->hostname) {
        return err_set(e, -EINVAL, "--hostname does not go with --uts=host");
    }
    return r;
}

/* ---- mounts */

static int add_mount(struct procconf *p, const struct process_mount *m, struct err *e)
{
    if (p->conf.n_mounts == PROCCONF_MOUNTS_MAX)
        return err_set(e, -E2BIG, "more than %d mounts", PROCCONF_MOUNTS_MAX);
    p->mounts[p->conf.n_mounts++] = *m;
    return 0;
}

static int system_mounts(const struct spec *s, struct procconf *p, struct err *e)
{
    char data[64];

    memcpy(p->mounts, defaults_mounts, defaults_n_mounts * sizeof(p->mounts[0]));
    p->conf.mounts = p->mounts;
    p->conf.n_mounts = defaults_n_mounts;
    if (p->conf.n_gid_maps == 1 && p->maps.gid[0].count == 1)
        p->mounts[DEFAULTS_DEVPTS].data = DEFAULTS_DEVPTS_PLAIN;
    if (s->privileged) {
        p->mounts[DEFAULTS_SYSFS].flags &= ~(unsigned long)MS_RDONLY;
        p->mounts[DEFAULTS_CGROUP].flags &= ~(unsigned long)MS_RDONLY;
    }
    if (s->shm_size > 0) {
        snprintf(data, sizeof(data), "mode=1777,size=%" PRId64, s->shm_size);
        p->mounts[DEFAULTS_SHM].data = procconf_keep(p, data);
        if (!p->mounts[DEFAULTS_SHM].data)
            return err_errno(e, -ENOMEM, "mounts");
    }
    return 0;
}

static int add_tmpfs(struct procconf *p, const struct volume *v, struct err *e)
{
    struct mountopt o = {.flags = MS_NOSUID | MS_NODEV | MS_NOEXEC};
    int r = v->options ? mountopt_words(v->options, &o, e) : 0;

    if (r < 0)
        return r;
    struct process_mount m = {.target = v->guest,
                              .type = "tmpfs",
                              .source = "tmpfs",
                              .flags = o.flags | (v->read_only ? MS_RDONLY : 0)};
    if (o.data[0] && !(m.data = procconf_keep(p, o.data)))
        return err_errno(e, -ENOMEM, "mounts");
    return add_mount(p, &m, e);
}

static int add_volume(struct procconf *p, const struct volume *v, struct err *e)
{
    struct mountopt o = {0};
    int r = v->propagation ? mountopt_words(v->propagation, &o, e) : 0;

    if (r < 0)
        return r;
    struct process_mount m = {.target = v->guest,
                              .type = "bind",
                              .source = v->host,
                              .propagation = o.propagation,
                              .flags = v->read_only ? MS_RDONLY : 0};
    return add_mount(p, &m, e);
}

/* /etc/resolv.conf and the like are files of the container's run folder. */
static int etc_file(const struct task_conf *c, struct procconf *p, const char *name,
                    const char *text, struct err *e)
{
    char path[RUNDIR_PATH_MAX + 32], target[32];
    size_t len = strlen(text);

    CLEANUP(fd)
    int fd = openat(c->dir->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0 || fchmod(fd, FILE_MODE) < 0 || write(fd, text, len) != (ssize_t)len)
        return err_errno(e, -errno, "/etc/%s", name);
    snprintf(path, sizeof(path), "%s/%s", c->dir->path, name);
    snprintf(target, sizeof(target), "/etc/%s", name);
    struct process_mount m = {
        .type = "bind", .source = procconf_keep(p, path), .target = procconf_keep(p, target)};
    return !m.source || !m.target ? err_errno(e, -ENOMEM, "mounts") : add_mount(p, &m, e);
}

static int etc_files(const struct task_conf *c, struct procconf *p, struct err *e)
{
    char text[256];
    int r = 0;

    if (c->net && c->net->resolv)
        r = etc_file(c, p, "resolv.conf", c->net->resolv, e);
    if (r == 0 && c->net && c->net->hosts)
        r = etc_file(c, p, "hosts", c->net->hosts, e);
    if (r < 0 || !p->conf.hostname)
        return r;
    snprintf(text, sizeof(text), "%s\n", p->conf.hostname);
    return etc_file(c, p, "hostname", text, e);
}

static int set_mounts(const struct task_conf *c, struct procconf *p, struct err *e)
{
    const struct spec *s = &c->rec->spec;
    int r = system_mounts(s, p, e);

    if (r == 0)
        r = etc_files(c, p, e);
    if (r == 0)
        r = volume_prepare(c->store, s, c->rootfs, c->fstype, &p->volumes, &p->n_volumes, e);
    for (size_t i = 0; r == 0 && i < p->n_volumes; i++)
        r = p->volumes[i].host ? add_volume(p, &p->volumes[i], e) : add_tmpfs(p, &p->volumes[i], e);
    return r;
}

static int set_root(const struct task_conf *c, struct procconf *p, struct err *e)
{
    const struct spec *s = &c->rec->spec;

    p->conf.root =
        (struct process_root){.image = c->rootfs, .fstype = c->fstype, .readonly = s->read_only};
    /* Where it cannot be unpacked (the disk is full), it can still be mounted. Others than root
     * have it served, which keeps its owners, or where FUSE is not for them unpacked as their own.
     */
    if ((geteuid() == 0 || access("/dev/fuse", R_OK | W_OK) < 0) &&
        strcmp(c->fstype, "squashfs") == 0 &&
        unpacked_open(c->store, c->rootfs, &p->unpacked, NULL) == 0) {
        p->conf.root.image = NULL;
        p->conf.root.path = p->unpacked.path;
    }
    if (s->storage_memory) {
        p->conf.root.tmpfs = true;
        p->conf.root.tmpfs_bytes = s->storage_size > 0 ? (uint64_t)s->storage_size : 0;
        return 0;
    }
    if (s->storage_size > 0)
        return err_set(e, -EOPNOTSUPP,
                       "--storage-size: in this class the writable layer is a folder of the host, "
                       "which has no limit; with --storage-memory it has");
    p->conf.root.upper = c->rec->path;
    p->conf.root.volatile_upper = s->auto_remove;
    return 0;
}

int procconf_fill(const struct task_conf *c, struct procconf *out, struct err *e)
{
    const struct spec *s = &c->rec->spec;

    *out = (struct procconf){.conf = {.id = c->dir->id, .dir = c->dir->path, .own_start = true}};
    out->conf.start_now = !c->net || c->net->kind != NETWORK_PLUG;
    int r = set_namespaces(c, out, e);
    if (r == 0)
        r = set_root(c, out, e);
    if (r == 0)
        r = set_mounts(c, out, e);
    if (r == 0)
        r = procconf_process(s, false, out, e);
    if (r == 0)
        r = procconf_powers(c, out, e);
    out->conf.process.args = (const char *const *)s->argv.v;
    out->conf.process.env = (const char *const *)s->env.v;
    out->conf.process.terminal = s->tty;
    out->conf.process.rows = c->rows ? c->rows : 24;
    out->conf.process.cols = c->cols ? c->cols : 80;
    return r;
}

/* ---- a container that runs */

static int group_path(const struct spec *s, const char *id, char *out, size_t len)
{
    int n = snprintf(out, len, "%s/kiln-%.*s", s->cgroup_parent, RUNDIR_ID_LEN, id);

    return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

int procconf_group_path(const struct spec *s, const char *id, struct procconf *p, struct err *e)
{
    char path[CGROUP_PATH_MAX];

    if (!s->cgroup_parent)
        return 0;
    if (group_path(s, id, path, sizeof(path)) < 0)
        return err_errno(e, -ENAMETOOLONG, "--cgroup-parent");
    p->conf.cgroup_path = procconf_keep(p, path);
    return p->conf.cgroup_path ? 0 : err_errno(e, -ENOMEM, "--cgroup-parent");
}

int procconf_group(const struct record *r, struct cgroup *out, struct err *e)
{
    char path[CGROUP_PATH_MAX], id[RUNDIR_ID_LEN + 1];
    struct cgroup_host h;
    int rc = cgroup_host_find("", &h, e);

    if (rc < 0)
        return rc;
    if (!r->spec.cgroup_parent) {
        snprintf(id, sizeof(id), "%.*s", RUNDIR_ID_LEN, r->id);
        return cgroup_find(&h, id, out, e);
    }
    rc = group_path(&r->spec, r->id, path, sizeof(path));
    return rc < 0 ? err_errno(e, rc, "control group") : cgroup_find_at(&h, path, out, e);
}

static bool other_ns(pid_t pid, const char *name)
{
    char path[48];
    struct stat a, b;

    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
    if (stat(path, &a) < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
    return stat(path, &b) == 0 && a.st_ino != b.st_ino;
}

int procconf_state(const struct record *r, struct process_state *st, struct err *e)
{
    const struct record_state *s = &r->state;

    if (s->pid <= 0 || s->pid_start == 0)
        return err_set(e, -ESRCH, "container %s is not running", r->name);
    *st = (struct process_state){.pid = s->pid,
                                 .start_time = s->pid_start,
                                 .user_ns = other_ns(s->pid, "user"),
                                 .pid_ns = other_ns(s->pid, "pid")};
    snprintf(st->boot_id, sizeof(st->boot_id), "%s", s->boot_id);
    snprintf(st->dir, sizeof(st->dir), "%s", s->run);
    int rc = procconf_group(r, &st->cgroup, NULL);
    return rc == -ENOENT ? 0 : rc < 0 ? err_errno(e, rc, "control group of %s", r->name) : 0;
}
