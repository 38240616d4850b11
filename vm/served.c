#include "vm/served.h"

#include <errno.h>
#include <fcntl.h>

#include "vhost/vulink.h"
#include "vm/vm_private.h"

int served_link(struct vm *vm, const struct served_place *p, struct vulink **ret, struct err *e)
{
    struct vulink_place to = {
        .path = p->socket, .listen = p->listen, .fd = -1, .dial = vm->vhost_dial};

    if (p->socket && !p->listen && vm->no_sockets && !vm->vhost_dial) {
        to.path = NULL;
        to.fd = vhostuser_connect(p->socket, e);
        if (to.fd < 0)
            return to.fd;
    } else if (!p->socket) {
        to.fd = fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
        if (to.fd < 0)
            return err_errno(e, -errno, "descriptor %d", p->fd);
    }
    return vulink_new(&to, vm->loop, ret, e);
}
