#include "image/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char folder[] = "/tmp/kiln-t-initrd-XXXXXX";

static void put(const char *name, const void *bytes, size_t len)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

/* "data", then a signature as the kernel's sign-file appends it. */
static size_t signed_module(uint8_t *p)
{
    static const uint8_t info[12] = {0, 0, 2, 1, 2, 0, 0, 0, 0, 0, 0, 5};
    static const char magic[] = "~Module signature appended~\n";
    size_t n = 0;

    memcpy(p, "data", 4);
    n = 4 + 1 + 2 + 5; /* signer, key id, signature */
    memset(p + 4, 's', 8);
    memcpy(p + n, info, sizeof(info));
    n += sizeof(info);
    memcpy(p + n, magic, sizeof(magic) - 1);
    return n + sizeof(magic) - 1;
}

static int up(void **state)
{
    uint8_t ko[128];
    char path[256];

    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/modules", folder);
    if (mkdir(path, 0755) < 0)
        return -1;
    put("modules/b.ko", ko, signed_module(ko));
    put("modules/a.ko", "plain module", 12);
    put("modules/list", "b.ko\na.ko\n", 10);
    return 0;
}

static int down(void **state)
{
    char cmd[300];

    snprintf(cmd, sizeof(cmd), "rm -rf %s", folder);
    return t_sh(cmd, NULL, 0) == 0 ? 0 : -1;
}

static void cpio_lists_what_was_packed(void **state)
{
    char cmd[300], out[1024];
    struct err e = {0};
    int fd = -1;

    if (t_sh("command -v cpio", NULL, 0) != 0) {
        print_message("skipped: cpio is missing\n");
        skip();
    }
    if (initrd_build(folder, 0, &fd, &e) < 0)
        fail_msg("%s", e.msg);
    snprintf(cmd, sizeof(cmd), "cpio -t --quiet < /proc/%d/fd/%d", getpid(), fd);
    assert_int_equal(t_sh(cmd, out, sizeof(out)), 0);
    assert_string_equal(out, "dev\nproc\nsys\ntmp\nkiln\ndev/console\ninit\nmodules\nmodules/list\n"
                             "modules/b.ko\nmodules/a.ko\n");
    lseek(fd, 0, SEEK_SET);
    snprintf(cmd, sizeof(cmd),
             "cpio -i --quiet --to-stdout modules/b.ko modules/a.ko < /proc/%d/fd/%d", getpid(),
             fd);
    assert_int_equal(t_sh(cmd, out, sizeof(out)), 0);
    assert_string_equal(out, "dataplain module");
    assert_int_equal(write(fd, "x", 1), -1); /* sealed */
    close(fd);
}

static void the_agent_in_it_is_a_program(void **state)
{
    assert_true(agent_image_len > 4096 && agent_image_len < 1 << 20);
    assert_memory_equal(agent_image, "\177ELF", 4);
}

static void a_signature_longer_than_the_file_is_not_believed(void **state)
{
    uint8_t ko[128];
    size_t n = signed_module(ko);

    assert_int_equal(initrd_module_len(ko, n), 4);
    ko[12 + 8] = 0xff; /* sig_len's first byte */
    assert_int_equal(initrd_module_len(ko, n), n);
    assert_int_equal(initrd_module_len(ko + 12, 28), 28);
    assert_int_equal(initrd_module_len((const uint8_t *)"", 0), 0);
}

static void a_list_that_climbs_out_is_refused(void **state)
{
    struct err e = {0};
    int fd = -1;

    put("modules/list", "../../etc/passwd\n", 17);
    assert_int_equal(initrd_build(folder, 0, &fd, &e), -EINVAL);
    put("modules/list", "missing.ko\n", 11);
    assert_int_equal(initrd_build(folder, 0, &fd, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "missing.ko"));
    assert_int_equal(fd, -1);
}

static void modules_for_some_come_when_asked_for(void **state)
{
    static const char *const want[] = {"b.ko\n", "a.ko\nb.ko\n", "b.ko\nc.ko\n",
                                       "a.ko\nb.ko\nc.ko\n"};
    char cmd[300], out[1024];
    struct err e = {0};
    int fd = -1;

    if (t_sh("command -v cpio", NULL, 0) != 0)
        skip();
    put("modules/c.ko", "C", 1);
    put("modules/list", "a.ko share\n\nb.ko\nc.ko net", 25);
    for (unsigned with = 0; with <= (INITRD_SHARES | INITRD_NETS); with++) {
        assert_int_equal(initrd_build(folder, with, &fd, &e), 0);
        snprintf(cmd, sizeof(cmd), "cpio -i --quiet --to-stdout modules/list < /proc/%d/fd/%d",
                 getpid(), fd);
        assert_int_equal(t_sh(cmd, out, sizeof(out)), 0);
        assert_string_equal(out, want[with]);
        close(fd);
    }
}

static void a_kernel_is_found_or_the_sentence_says_what_to_do(void **state)
{
    char store[300], path[320];
    char *kernel = NULL, *dir = NULL;
    struct err e = {0};

    snprintf(store, sizeof(store), "%s/store", folder);
    assert_int_equal(kernel_find(store, NULL, &kernel, &dir, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "make kernel"));
    assert_int_equal(kernel_find(store, "/no/such", &kernel, &dir, &e), -ENOENT);
    assert_int_equal(kernel_find(store, folder, &kernel, &dir, &e), -ENOENT);
    put("vmlinuz", "z", 1);
    assert_int_equal(kernel_find(store, folder, &kernel, &dir, &e), 0);
    snprintf(path, sizeof(path), "%s/vmlinuz", folder);
    assert_string_equal(kernel, path);
    assert_string_equal(dir, folder);
    free(kernel);
    free(dir);
    assert_int_equal(kernel_find(store, path, &kernel, &dir, &e), 0);
    assert_null(dir);
    free(kernel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpio_lists_what_was_packed),
        cmocka_unit_test(the_agent_in_it_is_a_program),
        cmocka_unit_test(a_signature_longer_than_the_file_is_not_believed),
        cmocka_unit_test(modules_for_some_come_when_asked_for),
        cmocka_unit_test(a_list_that_climbs_out_is_refused),
        cmocka_unit_test(a_kernel_is_found_or_the_sentence_says_what_to_do),
    };

    return cmocka_run_group_tests(tests, up, down);
}
