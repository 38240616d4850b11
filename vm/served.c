#include "vm/served.h"

#include <errno.h>
#include <fcntl.h>

#include "vhost/vulink.h"
#include "vm/vm_private.h"

int served_link(struct vm *vm, const char *socket, int fd, struct vulink **ret, struct err *e)
{
    int own = -1;

    if (socket && !vm->no_sockets)
        return vulink_new(socket, -1, vm->loop, ret, e);
    if (socket) {
        own = vhostuser_connect(socket, e);
        if (own < 0)
            return own;
    } else {
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (own < 0)
            return err_errno(e, -errno, "descriptor %d", fd);
    }
    return vulink_new(NULL, own, vm->loop, ret, e);
}
