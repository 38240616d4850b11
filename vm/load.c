/* From files to a machine ready to run: kernel and initrd are mapped, handed to the board,
 * unmapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "vm/vm_private.h"

struct image_map {
    void *p; /* NULL = nothing */
    size_t len;
};

static void unmap(struct image_map *m)
{
    if (m->p)
        munmap(m->p, m->len);
}

static int map_fd(int fd, struct image_map *m, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "stat");
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "not a regular file");
    if (st.st_size == 0)
        return err_set(e, -ENOEXEC, "the file is empty");
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, -errno, "map");
    *m = (struct image_map){p, (size_t)st.st_size};
    return 0;
}

static int map_file(const char *path, struct image_map *m, struct err *e)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, -errno, "open");
    return map_fd(fd, m, e);
}

static int set_generation(struct vm *vm, bool tell, struct err *e)
{
    uint8_t id[16];

    if (getrandom(id, sizeof(id), 0) != sizeof(id))
        return err_errno(e, -errno, "getrandom");
    pthread_mutex_lock(&vm->lock);
    int r = board_set_generation(vm->board, id, tell, e);
    pthread_mutex_unlock(&vm->lock);
    return r;
}

int vm_renew(struct vm *vm, struct err *e)
{
    return set_generation(vm, true, e);
}

int vm_boot(struct vm *vm, const struct vm_conf *c, struct err *e)
{
    struct image_map kernel = {0}, initrd = {0};
    struct cpu_state *bsp;
    int r;

    if (!c->kernel)
        return 0; /* a machine to be loaded from a snapshot */
    r = map_file(c->kernel, &kernel, e);
    if (r < 0)
        return err_wrap(e, r, "kernel '%s'", c->kernel);
    if (c->initrd)
        r = map_file(c->initrd, &initrd, e);
    else if (c->initrd_fd >= 0)
        r = map_fd(c->initrd_fd, &initrd, e);
    if (r < 0) {
        unmap(&kernel);
        return err_wrap(e, r, "initrd '%s'", c->initrd ? c->initrd : "(built in)");
    }
    bsp = aligned_alloc(64, (sizeof(*bsp) + 63) / 64 * 64);
    if (!bsp) {
        r = err_set(e, -ENOMEM, "out of memory");
    } else {
        struct boot_conf bc = {.kernel = kernel.p,
                               .kernel_len = kernel.len,
                               .initrd = initrd.p,
                               .initrd_len = initrd.len,
                               .cmdline = c->cmdline ? c->cmdline : ""};

        cpu_state_reset(bsp, 0, false);
        r = board_boot(vm->board, &bc, bsp, e);
        if (r < 0)
            err_wrap(e, r, "kernel '%s'", c->kernel);
        else
            r = vm->engine->set(vm->cpu[0].v, bsp, e);
        if (r >= 0)
            r = set_generation(vm, false, e);
    }
    free(bsp);
    unmap(&kernel);
    unmap(&initrd);
    return r;
}
