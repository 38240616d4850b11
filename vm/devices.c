#include "vm/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/block.h"
#include "dev/virtio/blk.h"
#include "dev/virtio/console.h"
#include "dev/virtio/mmio.h"
#include "dev/virtio/rng.h"
#include "dev/virtio/virtiofs.h"
#include "dev/virtio/vsock.h"
#include "dev/virtio/vublk.h"
#include "net/vsockd.h"
#include "vm/netdev.h"
#include "vm/served.h"
#include "vm/vm_private.h"

/* --- doorbells ----------------------------------------------------------- */

static void bell_ready(void *ctx, uint32_t events)
{
    struct doorbell *b = ctx;
    uint64_t n;

    (void)events;
    if (read(b->fd, &n, sizeof(n)) == sizeof(n))
        vmmio_kick(board_slot(b->vm->board, b->slot), b->queue);
}

/* What a device's notify writes reach: the bells of one slot are consecutive, ctx is the first. */
static void ring(void *ctx, unsigned queue)
{
    struct doorbell *b = (struct doorbell *)ctx + queue;
    uint64_t one = 1;
    ssize_t r = write(b->fd, &one, sizeof(one));

    (void)r; /* full: it is ringing already */
}

int devices_put(struct vm *vm, const struct virtio_ops *ops, void *dev, struct err *e)
{
    struct devices *d = &vm->dev;
    struct doorbell *first = &d->bell[d->n_bells];
    unsigned slot;

    if (d->n_bells + ops->n_queues > DOORBELLS_MAX) {
        ops->destroy(dev);
        return err_set(e, -ENOSPC, "more devices than a machine has doorbells for");
    }
    int r = board_add_virtio(vm->board, ops, dev, ring, first, &slot, e);
    if (r < 0)
        return r;
    for (unsigned q = 0; q < ops->n_queues; q++) {
        struct doorbell *b = &d->bell[d->n_bells];

        *b = (struct doorbell){.vm = vm, .slot = slot, .queue = q};
        b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (b->fd < 0)
            return err_errno(e, -errno, "make a doorbell");
        d->n_bells++;
        b->watch = (struct loop_fd){.fd = b->fd, .ready = bell_ready, .ctx = b};
        r = loop_add(vm->loop, &b->watch, EPOLLIN, e);
        if (r < 0)
            return r;
    }
    return 0;
}

static int ioeventfd(struct doorbell *b, bool add)
{
    gpa_t gpa = BOARD_VIRTIO_BASE + (gpa_t)b->slot * VMMIO_SIZE + VMMIO_NOTIFY;

    return b->vm->engine->vm_ioeventfd(b->vm->cpus, gpa, 4, true, b->queue, b->fd, add);
}

void devices_hook(struct vm *vm)
{
    for (unsigned i = 0; i < vm->dev.n_bells; i++)
        vm->dev.bell[i].hooked = ioeventfd(&vm->dev.bell[i], true) == 0;
}

void devices_unhook(struct vm *vm)
{
    for (unsigned i = 0; i < vm->dev.n_bells; i++) {
        if (vm->dev.bell[i].hooked)
            (void)ioeventfd(&vm->dev.bell[i], false);
        vm->dev.bell[i].hooked = false;
    }
}

/* --- console: one stream for the serial port and the virtio console ------ */

/* A console nobody reads must not stop the machine for long: a full pipe gets a second. */
static size_t write_all(int fd, const uint8_t *p, size_t len)
{
    size_t done = 0;

    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, p + done, len - done);
        struct pollfd w = {.fd = fd, .events = POLLOUT};

        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN && poll(&w, 1, 1000) == 1)
            continue;
        else if (errno != EINTR)
            break;
    }
    return len; /* what could not be written is dropped */
}

void devices_serial_out(void *ctx, const uint8_t *bytes, size_t len)
{
    struct devices *d = ctx;

    d->on_virtio = false;
    write_all(d->console_out, bytes, len);
}

static size_t console_out(void *ctx, const void *bytes, size_t len)
{
    struct devices *d = ctx;

    d->on_virtio = true;
    return write_all(d->console_out, bytes, len);
}

/* Input goes to the port the guest last wrote to: a driver for the other one may be there, but
 * nobody reads from it. */
static size_t input_room(struct devices *d)
{
    return d->on_virtio ? console_room(d->console) : board_serial_room(d->vm->board);
}

static void input(struct devices *d, const uint8_t *p, size_t len)
{
    if (d->on_virtio)
        console_in(d->console, p, len);
    else
        board_serial_in(d->vm->board, p, len);
}

static void in_ready(void *ctx, uint32_t events)
{
    struct devices *d = ctx;
    uint8_t buf[256];
    size_t room = input_room(d);

    (void)events;
    if (room == 0) {
        loop_del(d->vm->loop, &d->in_watch); /* until the guest takes some: console_has_room() */
        d->in_held = true;
        return;
    }
    ssize_t n = read(d->console_in, buf, room < sizeof(buf) ? room : sizeof(buf));
    if (n > 0)
        input(d, buf, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        loop_del(d->vm->loop, &d->in_watch);
}

static void console_has_room(void *ctx)
{
    struct devices *d = ctx;

    if (d->in_held && loop_add(d->vm->loop, &d->in_watch, EPOLLIN, NULL) == 0)
        d->in_held = false;
}

void devices_serial_room(void *ctx)
{
    console_has_room(ctx);
}

static int add_console(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    struct devices *d = &vm->dev;
    struct console_conf cc = {.out = console_out, .room = console_has_room, .ctx = d};

    if (c->console) {
        d->console = console_new(&cc, e);
        if (!d->console)
            return -ENOMEM;
        int r = devices_put(vm, &console_ops, d->console, e);
        if (r < 0) {
            d->console = NULL;
            return r;
        }
    }
    if (d->console_in < 0)
        return 0;
    d->in_watch = (struct loop_fd){.fd = d->console_in, .ready = in_ready, .ctx = d};
    int r = loop_add(vm->loop, &d->in_watch, EPOLLIN, e);
    if (r == -EPERM)
        return 0; /* a file as input is not watchable: nothing to read from it */
    return r;
}

/* --- the others ---------------------------------------------------------- */

static int fill_random(void *ctx, void *buf, size_t len)
{
    (void)ctx;
    while (len > 0) {
        ssize_t n = getrandom(buf, len, 0);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            buf = (uint8_t *)buf + n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int add_rng(struct vm *vm, struct err *e)
{
    struct rng *r = rng_new((struct rng_source){.fill = fill_random}, e);

    return r ? devices_put(vm, &rng_ops, r, e) : -ENOMEM;
}

/* O_NONBLOCK: a FIFO must not hold us before it is refused. */
static int open_disk(const struct vm_disk *c)
{
    if (c->opened)
        return fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
    return open(c->path, (c->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
}

static int add_served_disk(struct vm *vm, const struct vm_disk *c, unsigned n, struct err *e)
{
    struct vulink *link = NULL;
    struct served_place p = {.socket = c->vhost_socket, .fd = c->vhost_fd};
    int r = served_link(vm, &p, &link, e);
    struct vudev *d = r == 0 ? vublk_new(link, vm->mem, vm->loop, e) : NULL;
    if (!d)
        return err_wrap(e, r < 0 ? r : -EPROTO, "disk '%s'", c->path);
    vm->shape.disk[n].size = vublk_size(d);
    vm->shape.disk[n].read_only = vublk_read_only(d);
    return devices_put(vm, &vublk_ops, d, e);
}

static int add_disk(struct vm *vm, const struct vm_disk *c, unsigned n, struct err *e)
{
    struct block *b = NULL;

    if (c->vhost)
        return add_served_disk(vm, c, n, e);
    int fd = c->path ? open_disk(c) : -1;
    int r;

    if (c->path && fd < 0)
        return err_errno(e, -errno, "disk '%s': open", c->path);
    if (c->path) {
        vm->disk_fd[n] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        r = raw_open_fd(fd, c->read_only, vm->loop, &b, e);
    } else {
        r = empty_open(c->read_only ? EMPTY_READ_ONLY : c->any ? EMPTY_ANY : EMPTY_WRITABLE, &b, e);
    }
    if (r < 0)
        return err_wrap(e, r, "disk '%s'", c->path ? c->path : "");
    vm->shape.disk[n].size = b->info.size;
    struct blk *d = blk_new(b, c->serial, e);
    return d ? devices_put(vm, &blk_ops, d, e) : -ENOMEM;
}

/* Each file the guest holds open is one of ours: as many as this process may have. */
static void raise_file_limit(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &l); /* without it the guest meets EMFILE sooner */
    }
}

static int add_share(struct vm *vm, const struct vm_share *c, unsigned n, struct err *e)
{
    struct fusefs *fs = NULL;

    raise_file_limit();
    int r = c->opened ? fusefs_new_fds(c->fd, c->proc_fd, c->only, c->read_only, &fs, e)
                      : fusefs_new(c->path, c->read_only, &fs, e);

    if (r < 0)
        return err_wrap(e, r, "share '%s'", c->path ? c->path : c->tag);
    vm->share[n] = fs;
    struct virtiofs *d = virtiofs_new(fs, c->tag, e);
    return d ? devices_put(vm, &virtiofs_ops, d, e) : -EINVAL;
}

static int add_vsock(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    struct vsock_host host;
    int r = c->vsock_listen > 0
                ? vsockd_new_fd(c->vsock_listen, c->vsock_path, c->vsock_dial, vm->loop, &host, e)
                : vsockd_new(c->vsock_path, vm->loop, &host, e);

    if (r >= 0 && c->vsock_client > 0) {
        r = vsockd_adopt(&host, c->vsock_client, e);
        if (r < 0)
            host.destroy(host.ctx);
    }
    if (r < 0)
        return err_wrap(e, r, "vsock '%s'", c->vsock_path);
    struct vsock *d = vsock_new(c->vsock_cid, &host, e);
    return d ? devices_put(vm, &vsock_ops, d, e) : -EINVAL;
}

int devices_add(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    int r = 0;

    vm->dev.vm = vm;
    vm->dev.console_in = c->console_in;
    vm->dev.console_out = c->console_out;
    for (unsigned i = 0; r >= 0 && i < c->n_disks; i++)
        r = add_disk(vm, &c->disk[i], i, e);
    for (unsigned i = 0; r >= 0 && i < c->n_shares; i++)
        r = add_share(vm, &c->share[i], i, e);
    if (r >= 0 && c->rng)
        r = add_rng(vm, e);
    if (r >= 0)
        r = add_console(vm, c, e);
    if (r >= 0 && c->vsock_path)
        r = add_vsock(vm, c, e);
    for (unsigned i = 0; r >= 0 && i < c->n_nets; i++)
        r = netdev_add(vm, &c->net[i], e);
    if (r >= 0)
        devices_hook(vm);
    return r;
}

void devices_remove(struct vm *vm)
{
    devices_unhook(vm);
    if (vm->loop)
        loop_del(vm->loop, &vm->dev.in_watch);
}

void devices_done(struct vm *vm)
{
    for (unsigned i = 0; i < vm->dev.n_bells; i++) {
        struct doorbell *b = &vm->dev.bell[i];

        if (vm->loop)
            loop_del(vm->loop, &b->watch);
        close(b->fd);
    }
    vm->dev.n_bells = 0;
}
