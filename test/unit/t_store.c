#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/digest.h"
#include "image/names.h"
#include "image/ociconfig.h"
#include "image/store.h"
#include "image/unpacked.h"
#include "image/store_priv.h"
#include "test/unit/t.h"
#include "test/unit/tar.h"

#define FILES (const struct tar_file[])
#define END          \
    {                \
        .path = NULL \
    }
#define WRONG "sha256:0000000000000000000000000000000000000000000000000000000000000000"

struct fixture {
    char root[64], file[96];
    struct store *s;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e = {0};

    snprintf(f->root, sizeof(f->root), "/tmp/kiln-store-XXXXXX");
    if (!mkdtemp(f->root))
        return -1;
    snprintf(f->file, sizeof(f->file), "%s/in.tar", f->root);
    assert_int_equal(store_open(f->root, &f->s, &e), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    store_close(f->s);
    (void)store_remove_tree(tmp, f->root + strlen("/tmp/"));
    close(tmp);
    free(f);
    return 0;
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* The bytes of `fd`, which is closed, as the file `path`. */
static void put_fd(const char *path, int fd)
{
    char buf[4096];
    ssize_t n;
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(out >= 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    while ((n = read(fd, buf, sizeof(buf))) > 0)
        assert_int_equal(write(out, buf, (size_t)n), n);
    close(fd);
    close(out);
}

/* What a test wants wrong about an image; all zero = nothing. */
struct flaw {
    const char *diff_id, *arch, *config_name;
    size_t cut; /* bytes of the layer that are missing */
};

/* A docker-archive of one layer at f->file. */
static void put_docker(const struct fixture *f, const struct tar_file *files, struct flaw flaw)
{
    char config[512], manifest[512], sum[DIGEST_MAX];
    const char *name = flaw.config_name ? flaw.config_name : "c.json";
    int layer = tar_make(files);
    struct stat st;

    assert_int_equal(digest_of_fd(layer, sum), 0);
    assert_int_equal(fstat(layer, &st), 0);
    assert_int_equal(ftruncate(layer, st.st_size - (off_t)flaw.cut), 0);
    snprintf(config, sizeof(config),
             "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"/"
             "hello\"],\"Env\":[\"A=b\"],"
             "\"WorkingDir\":\"/"
             "w\",\"User\":\"7\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}",
             flaw.arch ? flaw.arch : "amd64", flaw.diff_id ? flaw.diff_id : sum);
    snprintf(manifest, sizeof(manifest),
             "[{\"Config\":\"%s\",\"RepoTags\":[\"hello:1\"],\"Layers\":[\"l.tar\"]}]", name);
    put_fd(f->file, tar_make(FILES{{name, '0', config},
                                   {"x/layer.tar", '0', "", .fd = layer},
                                   {"l.tar", '2', "x/layer.tar"},
                                   {"manifest.json", '0', manifest},
                                   END}));
    close(layer);
}

static const struct tar_file hello[] = {
    {"etc/", '5', NULL}, {"hello", '0', "hi", 0755}, {"etc/x", '0', "1"}, END};

/* Nothing half-made: tmp/ is empty, and rootfs/ holds `n` images. */
static void assert_tidy(const struct fixture *f, size_t n)
{
    static const char *const folders[] = {"tmp", "rootfs"};
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        size_t found = 0;

        snprintf(path, sizeof(path), "%s/%s", f->root, folders[i]);
        DIR *d = opendir(path);
        assert_non_null(d);
        for (struct dirent *x = readdir(d); x; x = readdir(d))
            found += x->d_name[0] != '.';
        closedir(d);
        assert_int_equal(found, i ? n : 0);
    }
}

static void refuse(const struct fixture *f, int code, const char *word)
{
    struct image im;
    struct err e = {0};
    int r = store_import(f->s, f->file, NULL, NULL, NULL, &im, &e);

    if (r != code || !strstr(e.msg, word))
        fail_msg("%d '%s' is not %d with '%s'", r, e.msg, code, word);
    assert_tidy(f, 0);
}

static void an_imported_image_is_found_by_name_and_digest(void **state)
{
    struct fixture *f = *state;
    struct image im, again;
    struct err e = {0};
    char prefix[16];

    put_docker(f, hello, (struct flaw){0});
    if (store_import(f->s, f->file, NULL, NULL, NULL, &im, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(im.name, "hello:1");
    assert_string_equal(im.fstype, "squashfs");
    assert_string_equal(im.config.cmd[0], "/hello");
    assert_string_equal(im.config.env[0], "A=b");
    assert_string_equal(im.config.workdir, "/w");
    assert_string_equal(im.config.user, "7");
    assert_null(im.config.entrypoint);
    assert_int_equal(access(im.rootfs, R_OK), 0);
    assert_tidy(f, 1);

    snprintf(prefix, sizeof(prefix), "%.8s", digest_hex(im.digest));
    const char *const refs[] = {"hello:1", "docker.io/library/hello:1", im.digest, im.config_digest,
                                prefix};
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        assert_int_equal(store_find(f->s, refs[i], &again, &e), 0);
        assert_string_equal(again.digest, im.digest);
        image_done(&again);
    }
    assert_int_equal(store_find(f->s, "hello:2", &again, &e), -ENOENT);
    assert_non_null(strstr(e.msg, "kiln pull"));
    image_done(&im);
}

static void one_image_under_two_names_is_made_once(void **state)
{
    struct fixture *f = *state;
    struct image im, *list;
    struct err e = {0};
    size_t n;

    put_docker(f, hello, (struct flaw){0});
    assert_int_equal(store_import(f->s, f->file, "a", NULL, NULL, &im, &e), 0);
    image_done(&im);
    assert_int_equal(store_import(f->s, f->file, "b", NULL, NULL, &im, &e), 0);
    image_done(&im);
    assert_tidy(f, 1);
    assert_int_equal(store_list(f->s, &list, &n, &e), 0);
    assert_int_equal(n, 2);
    image_done(&list[0]);
    image_done(&list[1]);
    free(list);
    assert_int_equal(store_remove(f->s, "a", &e), 0);
    assert_tidy(f, 1);
    assert_int_equal(store_remove(f->s, "b", &e), 0);
    assert_tidy(f, 0);
    assert_int_equal(store_remove(f->s, "b", &e), -ENOENT);
}

static void a_name_that_moves_leaves_an_image_for_prune(void **state)
{
    struct fixture *f = *state;
    struct image im, *list;
    struct err e = {0};
    uint64_t freed = 0;
    size_t n;

    put_docker(f, hello, (struct flaw){0});
    assert_int_equal(store_import(f->s, f->file, "a", NULL, NULL, &im, &e), 0);
    image_done(&im);
    put_docker(f, FILES{{"other", '0', "1"}, END}, (struct flaw){0});
    assert_int_equal(store_import(f->s, f->file, "a", NULL, NULL, &im, &e), 0);
    image_done(&im);
    assert_int_equal(store_list(f->s, &list, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_true((list[0].name == NULL) != (list[1].name == NULL));
    image_done(&list[0]);
    image_done(&list[1]);
    free(list);
    assert_tidy(f, 2);
    assert_int_equal(store_prune(f->s, &freed, &e), 0);
    assert_true(freed > 0);
    assert_tidy(f, 1);
}

static void an_unpacked_image_goes_when_nobody_uses_it(void **state)
{
    struct fixture *f = *state;
    struct unpacked u, again;
    struct image im;
    struct err e = {0};
    uint64_t freed = 0;

    if (geteuid() != 0)
        skip(); /* owners cannot be made */
    put_docker(f, hello, (struct flaw){0});
    assert_int_equal(store_import(f->s, f->file, "a", NULL, NULL, &im, &e), 0);
    assert_int_equal(unpacked_open(store_root(f->s), im.rootfs, &u, &e), 0);
    assert_int_equal(unpacked_open(store_root(f->s), im.rootfs, &again, &e), 0);
    assert_string_equal(u.path, again.path);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", u.path);
    unpacked_done(&again);
    image_done(&im);
    assert_int_equal(store_remove(f->s, "a", &e), 0);
    assert_int_equal(access(u.path, F_OK), 0); /* a container runs on it */
    unpacked_done(&u);
    assert_int_equal(store_prune(f->s, &freed, &e), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_tidy(f, 0);
}

static void a_bare_root_file_system_gets_a_shell_and_a_name(void **state)
{
    struct fixture *f = *state;
    struct image im;
    struct err e = {0};

    put_fd(f->file, tar_make_compressed(hello, "gzip"));
    assert_int_equal(store_import(f->s, f->file, NULL, NULL, NULL, &im, &e), 0);
    assert_string_equal(im.name, "in:latest");
    assert_string_equal(im.config.cmd[0], "/bin/sh");
    image_done(&im);
}

static void a_folder_is_a_root_file_system(void **state)
{
    struct fixture *f = *state;
    char path[128], link[160];
    struct image im;
    struct err e = {0};

    snprintf(path, sizeof(path), "%s/my root", f->root);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(link, sizeof(link), "%s/passwd", path);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    if (store_import(f->s, path, NULL, NULL, NULL, &im, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(im.name, "my-root:latest");
    /* The link, not what it leads to, and little else. */
    assert_true(im.size < 8192);
    image_done(&im);
}

/* An OCI layout as a folder, its layer's blob and its index as told. */
static void put_layout(const struct fixture *f, bool wrong_blob, bool nested)
{
    char path[160], config[512], manifest[768], index[1024], inner[512];
    char blob[DIGEST_MAX], diff[DIGEST_MAX], conf[DIGEST_MAX], mani[DIGEST_MAX], nest[DIGEST_MAX];
    int plain = tar_make(hello), packed = tar_make_compressed(hello, "gzip");

    assert_int_equal(digest_of_fd(plain, diff), 0);
    assert_int_equal(digest_of_fd(packed, blob), 0);
    close(plain);
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", f->root, digest_hex(blob));
    if (wrong_blob)
        assert_int_equal(lseek(packed, 0, SEEK_END) > 0 ? write(packed, "x", 1) : -1, 1);
    put_fd(path, packed);

    snprintf(config, sizeof(config),
             "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_"
             "ids\":[\"%s\"]}}",
             diff);
    assert_int_equal(digest_of(config, strlen(config), conf), 0);
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", f->root, digest_hex(conf));
    put(path, config);
    snprintf(manifest, sizeof(manifest),
             "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\"},\"layers\":[{\"mediaType\":"
             "\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"%s\"}]}",
             conf, blob);
    assert_int_equal(digest_of(manifest, strlen(manifest), mani), 0);
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", f->root, digest_hex(mani));
    put(path, manifest);
    snprintf(inner, sizeof(inner),
             "{\"manifests\":[{\"digest\":\"" WRONG
             "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},"
             "{\"digest\":\"%s\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
             mani);
    assert_int_equal(digest_of(inner, strlen(inner), nest), 0);
    snprintf(path, sizeof(path), "%s/blobs/sha256/%s", f->root, digest_hex(nest));
    put(path, inner);
    snprintf(index, sizeof(index),
             "{\"manifests\":[{\"mediaType\":\"application/"
             "vnd.oci.image.%s.v1+json\",\"digest\":\"%s\"}]}",
             nested ? "index" : "manifest", nested ? nest : mani);
    snprintf(path, sizeof(path), "%s/index.json", f->root);
    put(path, index);
}

static void a_configuration_says_how_to_run(void **state)
{
    static const char text[] = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":"
                               "\"layers\",\"diff_ids\":[]},"
                               "\"config\":{\"Labels\":{\"a\":\"1\",\"b=c\":\"2\",\"n\":3},"
                               "\"ExposedPorts\":{\"80\":{},\"53/udp\":{},\"70000\":{},\"1-3\":{}},"
                               "\"Volumes\":{\"/data\":{},\"/\":{},\"rel\":{}},"
                               "\"Healthcheck\":{\"Test\":[\"CMD\",\"check\"],\"Interval\":5,"
                               "\"Timeout\":-1,\"Retries\":3}}}";
    struct oci_config c;
    struct err e = {0};

    if (oci_parse_config(text, sizeof(text) - 1, &c, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.run.labels.n, 1);
    assert_string_equal(c.run.labels.v[0], "a=1");
    assert_int_equal(c.run.exposed.n, 2);
    assert_string_equal(c.run.exposed.v[0], "80/tcp");
    assert_int_equal(c.run.volumes.n, 1);
    assert_string_equal(c.run.health.v[1], "check");
    assert_int_equal(c.run.health_interval_ns, 5);
    assert_int_equal(c.run.health_timeout_ns, 0);
    assert_int_equal(c.run.health_retries, 3);
    oci_config_done(&c);
}

static void an_oci_layout_is_read_through_its_indexes(void **state)
{
    struct fixture *f = *state;
    struct image im;
    struct err e = {0};

    for (unsigned nested = 0; nested < 2; nested++) {
        put_layout(f, false, nested);
        /* The store's own folder has the right shape: a layout may lie anywhere. */
        if (store_import(f->s, f->root, "layout", NULL, NULL, &im, &e) < 0)
            fail_msg("%s", e.msg);
        assert_string_equal(im.name, "layout:latest");
        image_done(&im);
    }
}

static void a_layer_file_with_another_digest_is_refused(void **state)
{
    struct fixture *f = *state;
    struct image im;
    struct err e = {0};

    put_layout(f, true, false);
    assert_int_equal(store_import(f->s, f->root, NULL, NULL, NULL, &im, &e), -EBADMSG);
    assert_non_null(strstr(e.msg, "layer 1 of 1: wrong digest"));
    assert_tidy(f, 0);
}

static void contents_with_another_digest_are_refused(void **state)
{
    put_docker(*state, hello, (struct flaw){.diff_id = WRONG});
    refuse(*state, -EBADMSG, "wrong digest");
}

static void a_configuration_under_another_digest_is_refused(void **state)
{
    put_docker(
        *state, hello,
        (struct flaw){.config_name =
                          "0000000000000000000000000000000000000000000000000000000000000000.json"});
    refuse(*state, -EBADMSG, "wrong digest");
}

static void an_image_for_another_machine_is_refused(void **state)
{
    put_docker(*state, hello, (struct flaw){.arch = "arm64"});
    refuse(*state, -ENOEXEC, "linux/arm64");
}

static void a_cut_layer_is_refused(void **state)
{
    put_docker(*state, hello, (struct flaw){.cut = 2500});
    refuse(*state, -EBADMSG, "corrupt");
}

static void an_archive_without_its_layer_is_refused(void **state)
{
    struct fixture *f = *state;

    put_fd(f->file, tar_make(FILES{
                        {"c.json", '0', "{\"rootfs\":{\"diff_ids\":[\"" WRONG "\"]}}"},
                        {"manifest.json", '0', "[{\"Config\":\"c.json\",\"Layers\":[\"l.tar\"]}]"},
                        END}));
    refuse(f, -ENOENT, "'l.tar' is not in it");
}

static void an_archive_that_climbs_out_is_refused(void **state)
{
    struct fixture *f = *state;

    put_fd(f->file, tar_make(FILES{{"etc/", '5', NULL}, {"../../climbed", '0', "x"}, END}));
    refuse(f, -EBADMSG, "..");
    put_fd(f->file,
           tar_make(FILES{{"manifest.json", '0', "[]"}, {"../climbed.tar", '0', "x"}, END}));
    refuse(f, -EBADMSG, "..");
    put_fd(f->file, tar_make(FILES{
                        {"manifest.json", '0', "[]"}, {"l.tar", '2', "../../../etc/passwd"}, END}));
    refuse(f, -EBADMSG, "leads out");
}

static void what_is_no_image_is_refused(void **state)
{
    struct fixture *f = *state;

    put(f->file, "no archive at all\n");
    refuse(f, -EBADMSG, "corrupt");
    put(f->file, "");
    refuse(f, -EBADMSG, "empty");
    put_fd(f->file, tar_make(FILES{{"manifest.json", '0', "{"}, END}));
    refuse(f, -EBADMSG, "not JSON");
    (void)unlink(f->file);
    refuse(f, -ENOENT, "No such file");
}

static void a_killed_import_is_swept_and_a_living_one_is_not(void **state)
{
    struct fixture *f = *state;
    struct work w;
    struct err e = {0};
    char path[128];

    assert_int_equal(store_work_begin(f->s, &w, &e), 0);
    snprintf(path, sizeof(path), "%s/tmp/work.killed", f->root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/tmp/work.killed/half", f->root);
    put(path, "made");
    (void)store_sweep(f->s);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(faccessat(w.dir, ".", F_OK, 0), 0);
    snprintf(path, sizeof(path), "%s/tmp/%s", f->root, w.name);
    assert_int_equal(access(path, F_OK), 0);
    store_work_end(f->s, &w);
    assert_tidy(f, 0);
}

static void names_are_read_as_docker_reads_them(void **state)
{
    static const char *const good[][2] = {
        {"alpine", "alpine:latest"},
        {"docker.io/library/alpine", "alpine:latest"},
        {"docker://alpine:3", "alpine:3"},
        {"localhost:5000/x/y", "localhost:5000/x/y:latest"},
        {"ghcr.io/a/b:1.2", "ghcr.io/a/b:1.2"},
    };
    static const char *const bad[] = {"", "../x", "a b", "/x", "a//b", "x\n", "-x"};
    char out[OCI_NAME_MAX + 1];
    struct err e = {0};

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(names_normalise(good[i][0], out, &e), 0);
        assert_string_equal(out, good[i][1]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(names_normalise(bad[i], out, &e), -EINVAL);
    names_from_path("/x/My Root.tar.gz", out);
    assert_string_equal(out, "my-root:latest");
    names_from_path("///", out);
    assert_string_equal(out, "image:latest");
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(an_imported_image_is_found_by_name_and_digest),
        STORE_TEST(one_image_under_two_names_is_made_once),
        STORE_TEST(a_name_that_moves_leaves_an_image_for_prune),
        STORE_TEST(an_unpacked_image_goes_when_nobody_uses_it),
        STORE_TEST(a_bare_root_file_system_gets_a_shell_and_a_name),
        STORE_TEST(a_folder_is_a_root_file_system),
        cmocka_unit_test(a_configuration_says_how_to_run),
        STORE_TEST(an_oci_layout_is_read_through_its_indexes),
        STORE_TEST(a_layer_file_with_another_digest_is_refused),
        STORE_TEST(contents_with_another_digest_are_refused),
        STORE_TEST(a_configuration_under_another_digest_is_refused),
        STORE_TEST(an_image_for_another_machine_is_refused),
        STORE_TEST(a_cut_layer_is_refused),
        STORE_TEST(an_archive_without_its_layer_is_refused),
        STORE_TEST(an_archive_that_climbs_out_is_refused),
        STORE_TEST(what_is_no_image_is_refused),
        STORE_TEST(a_killed_import_is_swept_and_a_living_one_is_not),
        cmocka_unit_test(names_are_read_as_docker_reads_them),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
