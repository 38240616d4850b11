#include "container/template.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/guestconf.h"
#include "vm/snapshot.h"

/* ---- the note */

struct note {
    char *text;
    size_t cap, len;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void add(struct note *n, const char *fmt, ...)
{
    size_t room = n->cap - n->len;
    va_list ap;

    va_start(ap, fmt);
    int k = vsnprintf(n->text + n->len, room, fmt, ap);
    va_end(ap);
    if (k < 0 || (size_t)k >= room)
        n->full = true;
    else
        n->len += (size_t)k;
}

/* Numbers first: a path may hold blanks. */
static int add_file(struct note *n, const char *what, const char *path, struct err *e)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_errno(e, -errno, "%s", path);
    if (strchr(path, '\n'))
        return err_set(e, -EINVAL, "%s: a name with a line's end in it", path);
    add(n, "%s %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 ".%09ld %" PRIx64 ".%09ld %s\n", what,
        (uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
        st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, path);
    return 0;
}

static int add_program(struct note *n, struct err *e)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (len < 0)
        return err_errno(e, -errno, "/proc/self/exe");
    path[len] = '\0';
    return add_file(n, "program", path, e);
}

/* The modules an initramfs would get: image/initrd.h. */
static int add_modules(struct note *n, const char *kernel_dir, struct err *e)
{
    char path[PATH_MAX], line[256];

    if ((size_t)snprintf(path, sizeof(path), "%s/modules/list", kernel_dir) >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "%s", kernel_dir);
    CLEANUP(file) FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "%s", path);
    int r = add_file(n, "modules", path, e);
    while (r == 0 && fgets(line, sizeof(line), f)) {
        line[strcspn(line, " \n")] = '\0';
        if (!line[0] || line[0] == '#')
            continue;
        if ((size_t)snprintf(path, sizeof(path), "%s/modules/%s", kernel_dir, line) >= sizeof(path))
            return err_errno(e, -ENAMETOOLONG, "%s", kernel_dir);
        r = add_file(n, "module", path, e);
    }
    return r;
}

static void add_cpu(struct note *n)
{
    uint32_t a = 0, b = 0, c = 0, d = 0, model = 0, x;

    (void)__get_cpuid(1, &model, &x, &c, &d);
    (void)__get_cpuid_count(7, 0, &a, &b, &x, &x);
    add(n, "cpu %08x %08x %08x %08x\n", model, b, c, d);
}

static int write_note(const struct guest_conf *c, struct note *n, struct err *e)
{
    struct vm_conf vc;

    guestconf_fill(c, "", true, &vc);
    int r = add_program(n, e);
    if (r == 0)
        r = add_file(n, "kernel", c->kernel, e);
    if (r == 0 && c->kernel_dir)
        r = add_modules(n, c->kernel_dir, e);
    add_cpu(n);
    add(n, "shape %u %" PRIu64 " %u %u %u\n", vc.cpus, vc.ram_bytes, vc.n_shares, vc.n_nets,
        vc.n_disks);
    for (unsigned i = 0; i < vc.n_nets; i++)
        add(n, "net %u\n", vc.net[i].pairs);
    add(n, "cmdline %s\n", vc.cmdline);
    if (r == 0 && n->full)
        r = err_set(e, -ENAMETOOLONG, "the names of the kernel's files are too long");
    return r;
}

/* FNV-1a: names a folder; what lies in it is checked against the whole note. */
static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

int template_find(const struct guest_conf *c, struct template *t, struct err *e)
{
    struct note n = {.text = t->note, .cap = sizeof(t->note)};
    int r = write_note(c, &n, e);

    if (r < 0)
        return r;
    snprintf(t->key, sizeof(t->key), "%016" PRIx64, hash(t->note));
    if ((size_t)snprintf(t->dir, sizeof(t->dir), "%s/templates/%s", c->store, t->key) >=
        sizeof(t->dir))
        return err_errno(e, -ENAMETOOLONG, "%s", c->store);
    /* Code that counts is other code. */
    snprintf(t->code, sizeof(t->code), "%s.code%s", t->dir, c->count_insns ? "-counting" : "");
    return access(t->dir, F_OK) == 0;
}

/* ---- their times */

void template_used(const struct template *t)
{
    char path[PATH_MAX + 8];

    snprintf(path, sizeof(path), "%s.lock", t->dir);
    (void)utimensat(AT_FDCWD, path, NULL, 0); /* without it the template is only pruned sooner */
}

void template_discard(const struct template *t)
{
    (void)!snapshot_remove(t->dir, NULL);
    (void)unlink(t->code);
}

/* ---- is it still good? */

/* The path at the end of a file's line, which has five numbers in front of it. */
static bool path_of(const char *line, char path[PATH_MAX])
{
    const char *p = line;

    for (unsigned i = 0; p && i < 6; i++) { /* what it is, and the numbers */
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    return p && snprintf(path, PATH_MAX, "%.*s", (int)strcspn(p, "\n"), p) < PATH_MAX;
}

static bool starts_with(const char *text, const char *word)
{
    return strncmp(text, word, strlen(word)) == 0;
}

/* Would this line be written today? */
static bool line_holds(const char *line)
{
    static const char *const files[] = {"program", "kernel", "modules", "module"};
    char now[PATH_MAX + 128], path[PATH_MAX];
    struct note n = {.text = now, .cap = sizeof(now)};

    now[0] = '\0';
    if (starts_with(line, "cpu "))
        add_cpu(&n);
    for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
        size_t len = strlen(files[i]);

        if (starts_with(line, files[i]) && line[len] == ' ' &&
            (!path_of(line, path) || add_file(&n, files[i], path, NULL) < 0))
            return false;
    }
    return !n.full && starts_with(line, now); /* what is not checked has nothing in `now` */
}

bool template_note_read(const char *note, struct template_info *t)
{
    const char *next;
    char path[PATH_MAX];
    bool shape = false;

    t->stale = false;
    for (const char *p = note; *p; p = next) {
        unsigned shares = 0;

        next = strchr(p, '\n');
        if (!next)
            return false;
        next++;
        t->stale |= !line_holds(p);
        if (starts_with(p, "kernel ") && path_of(p, path))
            snprintf(t->kernel, sizeof(t->kernel), "%s", path);
        if (starts_with(p, "shape "))
            shape = sscanf(p, "shape %u %" SCNu64 " %u", &t->cpus, &t->ram_bytes, &shares) == 3;
        t->shares |= shares > 0;
    }
    return shape && t->kernel[0];
}
