/* os/role.h - what a thread of a machine's process is for. Each tells it to a hook before it does
 * anything, and the hook takes from it what its role does not need (jail/jail.h).
 * Thread: the hook is called on the thread itself; its owner keeps it until the last has ended. */
#ifndef OS_ROLE_H
#define OS_ROLE_H

enum thread_role {
    THREAD_MAIN,    /* waits for the machine's end; saves a template */
    THREAD_VCPU,    /* runs the guest */
    THREAD_IO,      /* the event loop: devices, sockets, timers */
    THREAD_BLOCK,   /* a disk's holes and flushes, or all of it where there is no io_uring */
    THREAD_MEMORY,  /* fills memory from a snapshot as it is touched */
    THREAD_LOG,     /* the console's log */
    THREAD_CONTROL, /* answers the control socket; forked machines begin as it */
    THREAD_WRITER,  /* a forked process that writes a snapshot */
    THREAD_ROLES
};

struct thread_hook { /* borrowed */
    void (*enter)(void *ctx, enum thread_role role);
    void *ctx;
};

static inline void thread_enter(const struct thread_hook *h, enum thread_role role)
{
    if (h && h->enter)
        h->enter(h->ctx, role);
}

#endif
