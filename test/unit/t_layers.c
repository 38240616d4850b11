#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/digest.h"
#include "image/layer.h"
#include "image/merge.h"
#include "test/unit/t.h"
#include "test/unit/tar.h"

enum { LAYERS = 4 };

#define FILES (const struct tar_file[])
#define END          \
    {                \
        .path = NULL \
    }

/* The merged layers as tar_list() says them. Returns what failed, with the sentence in *e. */
static int merge(const struct tar_file *const *layers, size_t n, char *out, size_t room,
                 struct err *e)
{
    struct merge_layer ml[LAYERS] = {{.fd = -1}};
    struct tree *t = tree_new(42);
    int fd = memfd_create("merged", MFD_CLOEXEC);

    for (size_t i = 0; i < n; i++)
        ml[i].fd = tar_make(layers[i]);
    int r = merge_scan(t, ml, n, NULL, NULL, e);
    if (r == 0) {
        struct archive *a = archive_write_new();

        archive_write_set_format_pax_restricted(a);
        assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
        r = merge_write(t, ml, n, a, NULL, NULL, e);
        assert_int_equal(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
    }
    if (r == 0)
        tar_list(fd, out, room);
    for (size_t i = 0; i < n; i++)
        close(ml[i].fd);
    close(fd);
    tree_free(t);
    return r;
}

static void expect(const struct tar_file *a, const struct tar_file *b, const char *want)
{
    const struct tar_file *layers[] = {a, b};
    char got[4096];
    struct err e = {0};

    if (merge(layers, b ? 2 : 1, got, sizeof(got), &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(got, want);
}

static void refuse(const struct tar_file *a, const char *word)
{
    const struct tar_file *layers[] = {a};
    char got[4096];
    struct err e = {0};

    assert_int_equal(merge(layers, 1, got, sizeof(got), &e), -EBADMSG);
    if (!strstr(e.msg, word))
        fail_msg("'%s' does not say '%s'", e.msg, word);
}

static void a_later_layer_wins(void **state)
{
    expect(FILES{{"a", '0', "old"}, {"b", '0', "stays"}, END}, FILES{{"a", '0', "new"}, END},
           "f a new|f b stays");
}

static void a_whiteout_hides_a_file_and_a_folder(void **state)
{
    expect(FILES{{"d/x", '0', "1"}, {"d/y/z", '0', "2"}, {"k", '0', "3"}, END},
           FILES{{"d/.wh.y", '0', ""}, {".wh.k", '0', ""}, END}, "f d/x 1");
}

static void a_whiteout_spares_its_own_layer(void **state)
{
    expect(FILES{{"d/old", '0', "1"}, END}, FILES{{"d/new", '0', "2"}, {".wh.d", '0', ""}, END},
           "f d/new 2");
    expect(FILES{{"d/old", '0', "1"}, END}, FILES{{".wh.d", '0', ""}, {"d/new", '0', "2"}, END},
           "f d/new 2");
}

static void an_opaque_folder_shows_only_its_own_layer(void **state)
{
    expect(FILES{{"d/old", '0', "1"}, {"d/e/old", '0', "2"}, {"k", '0', "3"}, END},
           FILES{{"d/", '5', NULL}, {"d/new", '0', "4"}, {"d/.wh..wh..opq", '0', ""}, END},
           "f d/new 4|f k 3");
}

static void a_whiteout_without_anything_to_hide_does_nothing(void **state)
{
    expect(FILES{{"a", '0', "1"},
                 {".wh.nothing", '0', ""},
                 {".wh..wh.plnk", '0', ""},
                 {".wh.", '0', ""},
                 END},
           NULL, "f a 1");
}

static void a_folder_becomes_a_file_and_back(void **state)
{
    expect(FILES{{"d/x", '0', "1"}, END}, FILES{{"d", '0', "file"}, END}, "f d file");
    expect(FILES{{"d", '0', "file"}, END}, FILES{{"d", '5', NULL}, {"d/x", '0', "1"}, END},
           "f d/x 1");
}

static void hard_links_outlive_the_name_they_point_to(void **state)
{
    expect(FILES{{"a", '0', "data"}, {"b", '1', "a"}, {"c", '1', "b"}, END},
           FILES{{".wh.a", '0', ""}, END}, "h b c|f c data");
}

static void a_hard_link_to_a_lower_layer_keeps_its_contents(void **state)
{
    expect(FILES{{"a", '0', "data"}, END}, FILES{{"b", '1', "a"}, {"a", '0', "other"}, END},
           "f a other|f b data");
}

static void devices_and_symbolic_links_pass(void **state)
{
    expect(FILES{{"dev/null", '3', NULL}, {"l", '2', "/anywhere/../else"}, END}, NULL,
           "c dev/null|l l /anywhere/../else");
}

static void a_leading_slash_or_dot_means_the_root_of_the_image(void **state)
{
    expect(FILES{{"/etc/x", '0', "1"}, {"./y", '0', "2"}, END}, NULL, "f etc/x 1|f y 2");
}

static void a_path_through_a_link_inside_the_image_is_followed_there(void **state)
{
    expect(FILES{{"usr/lib/", '5', NULL}, {"lib", '2', "usr/lib"}, END},
           FILES{{"lib/x", '0', "1"}, END}, "l lib usr/lib|f usr/lib/x 1");
}

static void a_path_that_climbs_is_refused(void **state)
{
    refuse(FILES{{"../x", '0', "1"}, END}, "..");
    refuse(FILES{{"a/../../x", '0', "1"}, END}, "..");
    refuse(FILES{{"a", '0', "1"}, {"b", '1', "../a"}, END}, "..");
}

static void a_path_through_a_link_that_leads_out_is_refused(void **state)
{
    refuse(FILES{{"l", '2', "/etc"}, {"l/passwd", '0', "x"}, END}, "symbolic link");
    refuse(FILES{{"d/l", '2', "../../etc"}, {"etc/", '5', NULL}, {"d/l/passwd", '0', "x"}, END},
           "symbolic link");
}

static void links_in_a_circle_are_refused(void **state)
{
    const struct tar_file *layers[] = {
        FILES{{"a", '2', "b"}, {"b", '2', "a"}, {"a/x", '0', "1"}, END}};
    char got[64];
    struct err e = {0};

    assert_int_equal(merge(layers, 1, got, sizeof(got), &e), -ELOOP);
}

static void a_file_is_no_folder(void **state)
{
    refuse(FILES{{"a", '0', "1"}, {"a/b", '0', "2"}, END}, "not a folder");
}

static void a_hard_link_to_nothing_is_refused(void **state)
{
    refuse(FILES{{"b", '1', "a"}, END}, "not in the image");
    refuse(FILES{{"d/", '5', NULL}, {"b", '1', "d"}, END}, "is a folder");
}

static void an_overlong_name_is_refused(void **state)
{
    char name[TREE_NAME_MAX + 2];
    const struct tar_file *layers[] = {FILES{{name, '0', "1"}, END}};
    char got[64];
    struct err e = {0};

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(merge(layers, 1, got, sizeof(got), &e), -ENAMETOOLONG);
}

static void owners_modes_and_xattrs_are_kept(void **state)
{
    struct merge_layer ml = {
        .fd = tar_make(FILES{{"a", '0', "1", 04755, 1000, 0, "user.mine"},
                             {"b", '0', "1", 0600, 0, 0, "trusted.overlay.redirect"},
                             {"c", '0', "1", 0600, 0, 0, "system.posix_acl_access"},
                             END})};
    struct tree *t = tree_new(1);
    struct err e = {0};

    assert_int_equal(merge_scan(t, &ml, 1, NULL, NULL, &e), 0);
    const struct tree_inode *a = tree_find(t, "a")->inode;
    assert_int_equal(a->mode, S_IFREG | 04755);
    assert_int_equal(a->uid, 1000);
    assert_int_equal(a->mtime, 1000);
    assert_string_equal(a->xattrs->name, "user.mine");
    assert_memory_equal(a->xattrs->value, "v", 1);
    assert_null(tree_find(t, "b")->inode->xattrs);
    assert_null(tree_find(t, "c")->inode->xattrs);
    tree_free(t);
    close(ml.fd);
}

static void every_compression_gives_the_same_digest(void **state)
{
    static const char *const filters[] = {"gzip", "zstd", "xz", "bzip2", "lz4"};
    const struct tar_file files[] = {{"a", '0', "contents"}, END};
    char want[DIGEST_MAX], got[DIGEST_MAX];
    int plain = tar_make(files);
    struct err e = {0};

    assert_int_equal(digest_of_fd(plain, want), 0);
    close(plain);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        int fd = tar_make_compressed(files, filters[i]);
        struct archive_entry *x;
        struct layer *l;

        assert_int_equal(layer_open(fd, &l, &e), 0);
        assert_int_equal(layer_next(l, &x, &e), 1);
        assert_int_equal(layer_finish(l, want, got, &e), 0);
        assert_string_equal(want, got);
        layer_close(l);
        close(fd);
    }
}

static void a_wrong_digest_is_refused_with_both(void **state)
{
    const char *want = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    struct merge_layer ml = {.fd = tar_make(FILES{{"a", '0', "1"}, END}), .diff_id = want};
    struct tree *t = tree_new(1);
    struct err e = {0};

    assert_int_equal(merge_scan(t, &ml, 1, NULL, NULL, &e), -EBADMSG);
    assert_non_null(strstr(e.msg, "wrong digest"));
    assert_non_null(strstr(e.msg, want));
    tree_free(t);
    close(ml.fd);
}

static void a_truncated_layer_is_refused(void **state)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        struct merge_layer ml = {
            .fd = tar_make_compressed(
                FILES{{"a", '0', "some contents of a file"}, {"b", '0', "more"}, END},
                pass ? "gzip" : NULL)};
        struct tree *t = tree_new(1);
        struct stat st;
        struct err e = {0};

        assert_int_equal(fstat(ml.fd, &st), 0);
        assert_int_equal(ftruncate(ml.fd, pass ? st.st_size / 2 : 700), 0);
        assert_int_equal(merge_scan(t, &ml, 1, NULL, NULL, &e), -EBADMSG);
        assert_non_null(strstr(e.msg, "corrupt"));
        tree_free(t);
        close(ml.fd);
    }
}

static void what_is_no_archive_is_refused(void **state)
{
    struct merge_layer ml = {.fd = memfd_create("text", MFD_CLOEXEC)};
    struct tree *t = tree_new(1);
    struct err e = {0};

    assert_int_equal(write(ml.fd, "just some text\n", 15), 15);
    assert_int_equal(merge_scan(t, &ml, 1, NULL, NULL, &e), -EBADMSG);
    assert_int_equal(ftruncate(ml.fd, 0), 0);
    assert_int_equal(merge_scan(t, &ml, 1, NULL, NULL, &e), -EBADMSG);
    tree_free(t);
    close(ml.fd);
}

static void folders_come_before_what_is_in_them(void **state)
{
    struct tree *t = tree_new(1);
    struct err e = {0};
    static const char *const paths[] = {"a/b/c/d", "a/b/e", "a/f", "g"};
    size_t seen = 0;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct tree_inode *ino = tree_inode(t);

        ino->mode = S_IFREG | 0644;
        assert_int_equal(tree_add(t, paths[i], ino, &e), 0);
    }
    for (struct tree_node *n = tree_root(t); n; n = tree_walk(t, n)) {
        char path[TREE_PATH_MAX + 1];

        assert_true(tree_path(n, path) > 0);
        assert_ptr_equal(tree_find(t, path), n);
        seen++;
    }
    assert_int_equal(seen, 8);
    tree_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_later_layer_wins),
        cmocka_unit_test(a_whiteout_hides_a_file_and_a_folder),
        cmocka_unit_test(a_whiteout_spares_its_own_layer),
        cmocka_unit_test(an_opaque_folder_shows_only_its_own_layer),
        cmocka_unit_test(a_whiteout_without_anything_to_hide_does_nothing),
        cmocka_unit_test(a_folder_becomes_a_file_and_back),
        cmocka_unit_test(hard_links_outlive_the_name_they_point_to),
        cmocka_unit_test(a_hard_link_to_a_lower_layer_keeps_its_contents),
        cmocka_unit_test(devices_and_symbolic_links_pass),
        cmocka_unit_test(a_leading_slash_or_dot_means_the_root_of_the_image),
        cmocka_unit_test(a_path_through_a_link_inside_the_image_is_followed_there),
        cmocka_unit_test(a_path_that_climbs_is_refused),
        cmocka_unit_test(a_path_through_a_link_that_leads_out_is_refused),
        cmocka_unit_test(links_in_a_circle_are_refused),
        cmocka_unit_test(a_file_is_no_folder),
        cmocka_unit_test(a_hard_link_to_nothing_is_refused),
        cmocka_unit_test(an_overlong_name_is_refused),
        cmocka_unit_test(owners_modes_and_xattrs_are_kept),
        cmocka_unit_test(every_compression_gives_the_same_digest),
        cmocka_unit_test(a_wrong_digest_is_refused_with_both),
        cmocka_unit_test(a_truncated_layer_is_refused),
        cmocka_unit_test(what_is_no_archive_is_refused),
        cmocka_unit_test(folders_come_before_what_is_in_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
