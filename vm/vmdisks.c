#include "vm/vmdisks.h"

#include <errno.h>

int vmdisks_add(struct vmdisks *d, const char *text, struct vm_conf *c, struct err *e)
{
    struct disktext *t = &d->text[d->n];

    if (c->n_disks == VM_DISKS_MAX)
        return err_set(e, -EINVAL, "more than %d disks", VM_DISKS_MAX);
    int r = disktext_parse(text, t, e);
    if (r < 0)
        return r;
    d->qsd[d->n] = QSD_NONE;
    d->slot[d->n++] = c->n_disks;
    c->disk[c->n_disks++] = (struct vm_disk){.path = t->place,
                                             .read_only = t->read_only,
                                             .vhost = t->how != DISK_FILE,
                                             .vhost_socket = t->how == DISK_VHOST ? t->place : NULL,
                                             .vhost_fd = -1};
    return 0;
}

int vmdisks_start(struct vmdisks *d, struct vm_conf *c, struct err *e)
{
    for (unsigned i = 0; i < d->n; i++) {
        if (d->text[i].how != DISK_QSD)
            continue;
        int r = qsd_start(&d->text[i], &d->qsd[i], e);
        if (r < 0)
            return r;
        c->disk[d->slot[i]].vhost_fd = d->qsd[i].fd;
    }
    return 0;
}

void vmdisks_done(struct vmdisks *d)
{
    for (unsigned i = 0; i < d->n; i++) {
        qsd_stop(&d->qsd[i]);
        disktext_done(&d->text[i]);
    }
    d->n = 0;
}
