/* What users write about disks. */
#include "block/disktext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test/unit/t.h"

static const char file[] = "t_disktext.img";

static void write_file(const void *bytes, size_t len)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(ftruncate(fd, 65536), 0);
    close(fd);
}

static void the_pieces_are_found(void **state)
{
    static const struct {
        const char *text;
        enum disk_how how;
        enum disk_where where;
        const char *place, *port, *export, *user, *format;
        bool ro;
    } rows[] = {
        {"t_disktext.img", DISK_FILE, DISK_AT_FILE, file, NULL, NULL, NULL, "raw", false},
        {"t_disktext.img:ro", DISK_FILE, DISK_AT_FILE, file, NULL, NULL, NULL, "raw", true},
        {"t_disktext.img,ro", DISK_FILE, DISK_AT_FILE, file, NULL, NULL, NULL, "raw", true},
        {"t_disktext.img,format=qcow2,ro", DISK_QSD, DISK_AT_FILE, file, NULL, NULL, NULL, "qcow2",
         true},
        {"no,such,file,format=raw", DISK_FILE, DISK_AT_FILE, "no,such,file", NULL, NULL, NULL,
         "raw", false},
        {"vhost-user:/run/s", DISK_VHOST, DISK_AT_FILE, "/run/s", NULL, NULL, NULL, "raw", false},
        {"nbd:host:10809", DISK_QSD, DISK_AT_NBD, "host", "10809", NULL, NULL, "raw", false},
        {"nbd:[::1]:1,export=a/b,ro", DISK_QSD, DISK_AT_NBD, "::1", "1", "a/b", NULL, "raw", true},
        {"nbd:unix:/s,format=qcow2", DISK_QSD, DISK_AT_NBD_UNIX, "/s", NULL, NULL, NULL, "qcow2",
         false},
        {"rbd:pool/image@snap,user=me", DISK_QSD, DISK_AT_RBD, "pool/image@snap", NULL, NULL, "me",
         "raw", false},
    };

    (void)state;
    write_file("", 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disktext d;

        assert_int_equal(disktext_parse(rows[i].text, &d, NULL), 0);
        assert_int_equal(d.how, rows[i].how);
        assert_int_equal(d.where, rows[i].where);
        assert_string_equal(d.place, rows[i].place);
        assert_int_equal(d.read_only, rows[i].ro);
        assert_string_equal(d.format, rows[i].format);
        assert_string_equal(d.port ? d.port : "", rows[i].port ? rows[i].port : "");
        assert_string_equal(d.export ? d.export : "", rows[i].export ? rows[i].export : "");
        assert_string_equal(d.user ? d.user : "", rows[i].user ? rows[i].user : "");
        disktext_done(&d);
    }
    unlink(file);
}

static void nonsense_is_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "vhost-user:",
        "vhost-user:/s,ro",
        "nbd:",
        "nbd:host",
        "nbd:host:",
        "nbd::1",
        "nbd:host:http",
        "nbd:unix:",
        "rbd:image",
        "rbd:/image",
        "rbd:pool/",
        "x,format=exe",
        "x,format=",
        "x,format=raw,export=y",
        "/nonexistent",
        "nbd:h:1,user=me",
        ",ro",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct disktext d = {0};
        struct err e = {0};

        if (disktext_parse(rows[i], &d, &e) >= 0)
            fail_msg("'%s' was taken", rows[i]);
        assert_true(e.code < 0);
        assert_null(d.text);
    }
}

/* A guest may have written it into its raw disk. */
static void an_image_that_names_files_must_be_vouched_for(void **state)
{
    uint8_t h[104] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    struct disktext d;

    (void)state;
    write_file(h, sizeof(h));
    assert_int_equal(disktext_parse(file, &d, NULL), 0);
    assert_string_equal(d.format, "qcow2");
    assert_false(d.trusted);
    disktext_done(&d);

    h[15] = 0x68; /* a backing file's name lies there */
    write_file(h, sizeof(h));
    assert_int_equal(disktext_parse(file, &d, NULL), -EINVAL);
    assert_int_equal(disktext_parse("t_disktext.img,format=qcow2", &d, NULL), 0);
    assert_true(d.trusted);
    disktext_done(&d);

    h[15] = 0;
    h[79] = 4; /* an external data file */
    write_file(h, sizeof(h));
    assert_int_equal(disktext_parse(file, &d, NULL), -EINVAL);
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pieces_are_found),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(an_image_that_names_files_must_be_vouched_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
