/* What a snapshot's files could hold: every byte of `state` flipped and every cut is refused; bytes
 * of the memory file too when it is verified; and a state that is damaged below a checksum that is
 * right ends in a sentence or in a machine, never in a crash. argv[1]: the guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "test/switch/world.h"
#include "vm/seed.h"
#include "vm/snapfile.h"
#include "vm/snapshot.h"

enum { DAMAGED = 600, STEP = 977 };

static char dir[] = "/tmp/kiln-hostile-XXXXXX";
static char snap[64], path[80];

static const char *file(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", snap, name);
    return path;
}

static uint8_t *read_file(const char *name, size_t *len)
{
    CLEANUP(fd) int fd = open(file(name), O_RDONLY);
    struct stat st;
    uint8_t *b;

    if (fd < 0 || fstat(fd, &st) < 0 || !(b = malloc((size_t)st.st_size)) ||
        read(fd, b, (size_t)st.st_size) != st.st_size)
        abort();
    *len = (size_t)st.st_size;
    return b;
}

static void write_file(const char *name, const uint8_t *b, size_t len)
{
    CLEANUP(fd) int fd = open(file(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, b, len) != (ssize_t)len)
        abort();
}

/* Neither cut nor changed anywhere. */
static int state_is_checked(uint8_t *b, size_t len)
{
    struct snapfile f;
    struct err e = {0};
    int bad = 0;

    for (size_t i = 0; i < len && !bad; i++) {
        b[i] ^= (uint8_t)(1 + i % 255);
        bad = snapfile_parse(b, len, &f, &e) == 0;
        b[i] ^= (uint8_t)(1 + i % 255);
        if (bad)
            printf("byte %zu of %zu may be changed\n", i, len);
    }
    for (size_t n = 0; n < len && !bad; n++) {
        CLEANUP(mem) uint8_t *cut = malloc(n ? n : 1); /* exact, for ASan */

        memcpy(cut, b, n);
        bad = snapfile_parse(cut, n, &f, &e) == 0;
        if (bad)
            printf("cut to %zu of %zu bytes it was taken\n", n, len);
    }
    return bad;
}

static int memory_is_verified(void)
{
    size_t len, tried = 0;
    CLEANUP(mem) uint8_t *b = read_file("memory", &len);
    CLEANUP(fd) int fd = open(file("memory"), O_RDWR);
    struct err e = {0};

    for (size_t i = 0; i < len; i += STEP * (b[i] ? 1 : 101), tried++) {
        uint8_t flipped = b[i] ^ 0x10;

        if (pwrite(fd, &flipped, 1, (off_t)i) != 1)
            abort();
        if (snapshot_verify(snap, &e) == 0)
            return printf("byte %zu of the memory may be changed\n", i);
        if (pwrite(fd, &b[i], 1, (off_t)i) != 1)
            abort();
    }
    if (snapshot_verify(snap, &e) < 0)
        die("verify", &e);
    printf("%zu changes of the memory file found\n", tried);
    return 0;
}

/* True if a machine came of it. */
static bool try_to_grow(void)
{
    struct seed *s = NULL;
    struct vm *vm = NULL;
    struct vm_conf c;
    struct err e = {0};
    int r = seed_open(snap, &s, &e);

    if (r == 0) {
        shape_conf(seed_shape(s), &c);
        c.engine = "interp";
        c.vsock_path = NULL;
        r = seed_grow(s, &c, &vm, &e);
    }
    if (r < 0 && !e.msg[0])
        abort(); /* no sentence */
    seed_free(s);
    vm_free(vm);
    return r == 0;
}

static int damage_under_a_checksum(uint8_t *b, size_t len)
{
    unsigned machines = 0;

    srand(1);
    for (unsigned i = 0; i < DAMAGED; i++) {
        size_t at = 24 + (size_t)rand() % (len - 28);
        uint8_t was = b[at];

        b[at] ^= (uint8_t)(1 + rand() % 255);
        uint32_t crc = crc32c(0, b, len - 4);
        memcpy(b + len - 4, &crc, 4);
        write_file("state", b, len);
        machines += try_to_grow();
        b[at] = was;
    }
    uint32_t crc = crc32c(0, b, len - 4);
    memcpy(b + len - 4, &crc, 4);
    write_file("state", b, len);
    printf("%d damaged states, %u of them good enough for a machine\n", DAMAGED, machines);
    return !try_to_grow();
}

int main(int argc, char **argv)
{
    struct err e = {0};
    size_t len;

    if (argc < 2 || !mkdtemp(dir))
        return 2;
    snprintf(snap, sizeof(snap), "%s/one", dir);
    struct vm *vm = world_new(argv[1], "interp");
    struct snap_opts o = {.dir = snap, .note = "hostile"};
    if (vm_start(vm, &e) < 0)
        die("start", &e);
    world_let_run(vm, 3000);
    if (snapshot_create(vm, &o, NULL, &e) < 0)
        die("create", &e);
    vm_free(vm);
    CLEANUP(mem) uint8_t *b = read_file("state", &len);
    int bad = state_is_checked(b, len) | memory_is_verified() | damage_under_a_checksum(b, len);
    if (snapshot_remove(snap, &e) < 0 || rmdir(dir) < 0)
        die("remove", &e);
    return bad != 0;
}
