/* vm/devices.h - the virtio devices of one machine and what they need from the host: disks,
 * console, entropy, vsock, and the wiring of their doorbells to the I/O loop. Thread: made and
 * freed by the VM's owner; handlers on the I/O loop. */
#ifndef VM_DEVICES_H
#define VM_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "dev/virtio/device.h"
#include "os/loop.h"

struct vm;
struct vm_conf;
struct console;

enum { DOORBELLS_MAX = 96 };

struct doorbell { /* one queue's notification, an eventfd */
    struct vm *vm;
    unsigned slot, queue;
    int fd; /* owned */
    struct loop_fd watch;
    bool hooked; /* the engine signals fd by itself (ioeventfd) */
};

struct devices {
    struct vm *vm;
    struct doorbell bell[DOORBELLS_MAX];
    unsigned n_bells;
    struct console *console;     /* owned by the board */
    int console_in, console_out; /* borrowed */
    struct loop_fd in_watch;
    bool in_held;   /* the guest has no room: input is not watched */
    bool on_virtio; /* the guest wrote to the virtio console last, not to the serial port */
};

int devices_add(struct vm *vm, const struct vm_conf *c, struct err *e) MUST_CHECK;
/* Put a device (owned from here, also on failure) in the next slot, with doorbells. */
int devices_put(struct vm *vm, const struct virtio_ops *ops, void *dev, struct err *e) MUST_CHECK;
void devices_remove(struct vm *vm); /* before the board goes */
void devices_done(struct vm *vm);   /* after it */
/* Tell the engine about the doorbells (ioeventfd), or stop telling. */
void devices_hook(struct vm *vm);
void devices_unhook(struct vm *vm);
/* The board's serial port: its output, and that its receive queue has room again. */
void devices_serial_room(void *ctx);
void devices_serial_out(void *ctx, const uint8_t *bytes, size_t len);

#endif
