/* /sys/fs/cgroup of a container: OCI's mount of type "cgroup". On v2 one file system; else a tmpfs
 * with one per v1 hierarchy, as programs expect them (hybrid: "unified", too, when it is used). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

static int attach_new(int root, const char *path, const char *type, const char *source,
                      const char *data, unsigned long flags, struct err *e)
{
    CLEANUP(fd) int tree = fsmount_new(type, source, data, fsmount_attrs(flags), e);

    if (tree < 0)
        return tree;
    CLEANUP(fd) int target = inroot_make(root, path, true, false);
    if (target < 0)
        return err_errno(e, target, "mount point %s", path);
    int r = mounts_attach(tree, target);
    return r < 0 ? err_errno(e, r, "mount %s", path) : 0;
}

/* The container's own group, without a namespace that begins there. */
static int attach_group(int root, const char *path, const char *group, unsigned long flags,
                        struct err *e)
{
    CLEANUP(fd) int tree = open_tree(AT_FDCWD, group, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return err_errno(e, -errno, "%s", group);
    CLEANUP(fd) int target = inroot_make(root, path, true, false);
    if (target < 0)
        return err_errno(e, target, "mount point %s", path);
    int r = fsmount_change(tree, flags, 0, 0, false);
    if (r == 0)
        r = mounts_attach(tree, target);
    return r < 0 ? err_errno(e, r, "mount %s", path) : 0;
}

/* One v1 hierarchy at DIR/cpu,cpuacct, with links cpu and cpuacct to it. */
static int v1_hierarchy(const struct plan *p, int root, const struct process_mount *m,
                        enum cgroup_controller k, bool ns, struct err *e)
{
    const char *own = p->host.own[k];
    char names[128] = "", path[PROCESS_TARGET_MAX];
    size_t len = 0;
    unsigned n = 0;

    for (unsigned j = 0; j < CGROUP_CONTROLLERS; j++) {
        if (strcmp(p->host.own[j], own) != 0)
            continue;
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", n++ ? "," : "",
                                cgroup_controller_name(j));
    }
    int got = snprintf(path, sizeof(path), "%s/%s", m->target, names);
    if (got < 0 || (size_t)got >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "%s", m->target);
    int r = ns ? attach_new(root, path, "cgroup", "cgroup", names, m->flags, e)
               : attach_group(root, path, p->cgroup.path[k], m->flags, e);
    if (r < 0 || n < 2)
        return r;
    CLEANUP(fd) int dir = inroot_open(root, m->target, false);
    for (unsigned j = 0; dir >= 0 && j < CGROUP_CONTROLLERS; j++)
        if (strcmp(p->host.own[j], own) == 0)
            (void)!symlinkat(names, dir, cgroup_controller_name(j));
    return 0;
}

static int v1_all(const struct plan *p, int root, const struct process_mount *m, bool ns,
                  struct err *e)
{
    const char *unified = p->host.own[CGROUP_UNIFIED];
    int r = attach_new(root, m->target, "tmpfs", "cgroup", "mode=755,size=64k",
                       m->flags & ~(unsigned long)MS_RDONLY, e);

    for (unsigned k = 0; r == 0 && k < CGROUP_CONTROLLERS; k++) {
        /* freezer, devices and blkio say nothing that programs look for. */
        bool again = !p->cgroup.path[k][0] || strcmp(p->host.own[k], unified) == 0 ||
                     k == CGROUP_FREEZER || k == CGROUP_DEVICES || k == CGROUP_IO;

        for (unsigned j = 0; !again && j < k; j++)
            again = strcmp(p->host.own[j], p->host.own[k]) == 0;
        if (!again)
            r = v1_hierarchy(p, root, m, k, ns, e);
    }
    if (r < 0)
        return r;
    CLEANUP(fd) int dir = inroot_open(root, m->target, false);
    if (dir >= 0)
        r = fsmount_change(dir, m->flags & MS_RDONLY, 0, 0, false);
    return r < 0 ? err_errno(e, r, "mount %s", m->target) : 0;
}

int mountcg_make(const struct plan *p, int root, const struct process_mount *m, struct err *e)
{
    bool ns = p->conf->ns[PROCESS_NS_CGROUP].how == PROCESS_NS_NEW;

    if (p->cgroup.layout == CGROUP_NONE)
        return err_set(e, -EOPNOTSUPP, "mount %s: the container has no control group", m->target);
    if (p->host.layout != CGROUP_V2)
        return v1_all(p, root, m, ns, e);
    return ns ? attach_new(root, m->target, "cgroup2", "cgroup", NULL, m->flags, e)
              : attach_group(root, m->target, p->cgroup.path[CGROUP_UNIFIED], m->flags, e);
}
