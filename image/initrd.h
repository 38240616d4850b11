/* image/initrd.h - the initramfs kiln makes: the agent as /init, the kernel modules it must load
 * and the list of them in order (/modules/list). Format: Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst (newc).
 *
 * A kernel is a folder: `vmlinux` or `vmlinuz`, and for a modular kernel `modules/` with .ko files
 * and `modules/list` (one file name a line, dependencies first). Appended module signatures are
 * left out: the guest would spend seconds on RSA and trusts this file anyway. */
#ifndef IMAGE_INITRD_H
#define IMAGE_INITRD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The agent, embedded in this program. */
extern const uint8_t agent_image[];
extern const size_t agent_image_len;

/* Modules that not every machine needs: their lines of the list end in " share" and " net". */
enum { INITRD_SHARES = 1, INITRD_NETS = 2 };

/* A sealed memfd with the archive. `kernel_dir` may be NULL (no modules). `with`: bits of which
 * modules to add. */
int initrd_build(const char *kernel_dir, unsigned with, int *fd, struct err *e) MUST_CHECK;

/* Length of a kernel module without the signature appended to it (Linux
 * Documentation/admin-guide/module-signing.rst). */
size_t initrd_module_len(const uint8_t *ko, size_t len);

/* Which kernel: `name` a path to a kernel file or folder, or NULL: kernels/kiln in the store, then
 * kernels/debian, then $PREFIX/share/kiln. *dir NULL when it is a bare file. Both owned by the
 * caller. -ENOENT tells what to run. */
int kernel_find(const char *store_root, const char *name, char **kernel, char **dir,
                struct err *e) MUST_CHECK;

#endif
