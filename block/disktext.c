#include "block/disktext.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { /* QEMU docs/interop/qcow2.txt, "Header"; big-endian */
       QCOW2_MAGIC = 0x514649fb,
       QCOW2_HEADER = 104,
       Q_VERSION = 4,
       Q_BACKING_OFFSET = 8,
       Q_INCOMPATIBLE = 72,
       Q_EXTERNAL_DATA = 1 << 2,
};

static const char *const formats[] = {"raw", "qcow2", "vdi", "vhdx", "vmdk"};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* --- options behind the place ------------------------------------------------------------- */

static int take_format(struct disktext *d, const char *name, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (strcmp(name, formats[i]) == 0) {
            d->format = formats[i];
            d->trusted = true;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "format '%s' is none of raw, qcow2, vdi, vhdx, vmdk", name);
}

/* One option; 0 where it is none, and so part of a file's name. */
static int take_option(struct disktext *d, const char *o, struct err *e)
{
    int r = 0;

    if (strcmp(o, "ro") == 0)
        d->read_only = true;
    else if (begins(o, "format="))
        r = take_format(d, o + 7, e);
    else if (begins(o, "export="))
        d->export = o + 7;
    else if (begins(o, "user="))
        d->user = o + 5;
    else
        return 0;
    return r < 0 ? r : 1;
}

static int take_options(struct disktext *d, struct err *e)
{
    size_t len = strlen(d->text);
    char *comma;

    if (len > 3 && strcmp(d->text + len - 3, ":ro") == 0) {
        d->read_only = true;
        d->text[len - 3] = '\0';
    }
    while ((comma = strrchr(d->text, ','))) {
        int r = take_option(d, comma + 1, e);

        if (r < 0)
            return r;
        if (r == 0)
            break;
        *comma = '\0';
    }
    return 0;
}

/* --- places -------------------------------------------------------------------------------- */

static uint64_t be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    while (n--)
        v = v << 8 | *p++;
    return v;
}

/* A file whose format nobody said: by its first bytes. */
static int look_inside(struct disktext *d, struct err *e)
{
    uint8_t h[QCOW2_HEADER] = {0};
    /* O_NONBLOCK: a FIFO must not hold us before it is refused. */
    CLEANUP(fd) int fd = open(d->place, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return err_errno(e, -errno, "open");
    d->format = "raw";
    ssize_t n = pread(fd, h, sizeof(h), 0);
    if (n < Q_BACKING_OFFSET || be(h, 4) != QCOW2_MAGIC)
        return 0; /* what cannot be read is refused where it is used */
    d->format = "qcow2";
    if (be(h + Q_BACKING_OFFSET, 8) ||
        (be(h + Q_VERSION, 4) >= 3 && (be(h + Q_INCOMPATIBLE, 8) & Q_EXTERNAL_DATA)))
        return err_set(e, -EINVAL,
                       "the image names another file, which kiln opens only for images it is told "
                       "to trust: say ,format=qcow2");
    return 0;
}

static int parse_nbd(struct disktext *d, struct err *e)
{
    char *place = d->text + 4, *colon;

    d->how = DISK_QSD;
    if (begins(place, "unix:")) {
        d->where = DISK_AT_NBD_UNIX;
        d->place = place + 5;
        return *d->place ? 0 : err_set(e, -EINVAL, "write nbd:unix:SOCKET");
    }
    d->where = DISK_AT_NBD;
    colon = strrchr(place, ':');
    if (!colon || colon == place || !colon[1] ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return err_set(e, -EINVAL, "write nbd:HOST:PORT or nbd:unix:SOCKET");
    *colon = '\0';
    d->port = colon + 1;
    if (*place == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        place++;
    }
    d->place = place;
    return 0;
}

static int parse_place(struct disktext *d, struct err *e)
{
    d->place = d->text;
    if (begins(d->text, "vhost-user:")) {
        d->how = DISK_VHOST;
        d->place = d->text + strlen("vhost-user:");
        if (d->format || d->read_only)
            return err_set(e, -EINVAL, "what a vhost-user disk is, its back end says");
        return *d->place ? 0 : err_set(e, -EINVAL, "write vhost-user:SOCKET");
    }
    if (begins(d->text, "nbd:"))
        return parse_nbd(d, e);
    if (begins(d->text, "rbd:")) {
        d->how = DISK_QSD;
        d->where = DISK_AT_RBD;
        d->place = d->text + 4;
        const char *slash = strchr(d->place, '/');
        return slash && slash != d->place && slash[1] ? 0
                                                      : err_set(e, -EINVAL, "write rbd:POOL/IMAGE");
    }
    int r = d->format ? 0 : look_inside(d, e);
    d->how = r == 0 && strcmp(d->format, "raw") == 0 ? DISK_FILE : DISK_QSD;
    return r;
}

int disktext_parse(const char *text, struct disktext *ret, struct err *e)
{
    struct disktext d = {.text = strdup(text)};
    int r = d.text ? take_options(&d, e) : err_set(e, -ENOMEM, "out of memory");

    if (r == 0)
        r = parse_place(&d, e);
    if (r == 0 && d.export && d.where != DISK_AT_NBD && d.where != DISK_AT_NBD_UNIX)
        r = err_set(e, -EINVAL, "export= is for nbd: disks");
    if (r == 0 && d.user && d.where != DISK_AT_RBD)
        r = err_set(e, -EINVAL, "user= is for rbd: disks");
    if (r < 0) {
        disktext_done(&d);
        return err_wrap(e, r, "disk '%s'", text);
    }
    if (!d.format)
        d.format = "raw";
    *ret = d;
    return 0;
}

void disktext_done(struct disktext *d)
{
    free(d->text);
    *d = (struct disktext){0};
}
