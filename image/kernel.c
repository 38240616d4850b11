/* Which kernel a machine gets: kernel_find() of image/initrd.h. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/initrd.h"

/* A folder's kernel: the unpacked one starts sooner. */
static int in_folder(const char *folder, char **kernel, char **dir)
{
    static const char *const file[] = {"vmlinux", "vmlinuz"};

    for (unsigned i = 0; i < ARRAY_LEN(file); i++) {
        CLEANUP(mem) char *path = NULL;

        if (asprintf(&path, "%s/%s", folder, file[i]) < 0)
            return -ENOMEM;
        if (access(path, R_OK) < 0)
            continue;
        *dir = strdup(folder);
        if (!*dir)
            return -ENOMEM;
        *kernel = take_ptr(&path);
        return 0;
    }
    return -ENOENT;
}

static int by_name(const char *name, char **kernel, char **dir, struct err *e)
{
    struct stat st;

    if (stat(name, &st) < 0)
        return err_errno(e, -errno, "kernel %s", name);
    if (S_ISDIR(st.st_mode)) {
        int r = in_folder(name, kernel, dir);

        return r == -ENOENT
                   ? err_set(e, r, "kernel %s: the folder has neither vmlinux nor vmlinuz", name)
               : r < 0 ? err_errno(e, r, "kernel %s", name)
                       : 0;
    }
    if (!S_ISREG(st.st_mode) || access(name, R_OK) < 0)
        return err_errno(e, -EACCES, "kernel %s", name);
    *kernel = strdup(name);
    *dir = NULL;
    return *kernel ? 0 : err_errno(e, -ENOMEM, "kernel %s", name);
}

/* PREFIX/share/kiln, where this program is PREFIX/bin/kiln. */
static int installed(char **folder)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (n <= 0)
        return -ENOENT;
    exe[n] = '\0';
    for (unsigned i = 0; i < 2; i++) {
        char *slash = strrchr(exe, '/');

        if (!slash)
            return -ENOENT;
        *slash = '\0';
    }
    return asprintf(folder, "%s/share/kiln", exe) < 0 ? -ENOMEM : 0;
}

int kernel_find(const char *store_root, const char *name, char **kernel, char **dir, struct err *e)
{
    static const char *const known[] = {"kiln", "debian"};

    if (name)
        return by_name(name, kernel, dir, e);
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        CLEANUP(mem) char *folder = NULL;

        if (asprintf(&folder, "%s/kernels/%s", store_root, known[i]) < 0)
            return err_errno(e, -ENOMEM, "kernel");
        int r = in_folder(folder, kernel, dir);
        if (r != -ENOENT)
            return r < 0 ? err_errno(e, r, "kernel") : 0;
    }
    CLEANUP(mem) char *folder = NULL;
    if (installed(&folder) == 0 && in_folder(folder, kernel, dir) == 0)
        return 0;
    return err_set(
        e, -ENOENT,
        "no guest kernel in %s/kernels: 'make kernel-debian' fetches one, or give --kernel",
        store_root);
}
