/* The vhost-user protocol against back ends that say what they should, and others. */
#include "vhost/vhostuser.h"

#include <fcntl.h>

#include "test/unit/vupeer.h"

static const uint64_t features = VU_F_VERSION_1 | VU_F_PROTOCOL | 1 << 9;

static int open_with(struct vupeer *p, struct vhostuser *v, struct err *e)
{
    int fd = vupeer_open(p);

    vupeer_hello(p, features, VU_P_CONFIG);
    return vhostuser_open(fd, 1000, v, e);
}

static void a_connection_begins(void **state)
{
    struct vhostuser v;
    struct vupeer p;

    (void)state;
    assert_int_equal(open_with(&p, &v, NULL), 0);
    assert_true(v.features == features);
    vupeer_listen(&p);
    assert_int_equal(p.heard[3], 1);  /* SET_OWNER */
    assert_int_equal(p.heard[16], 1); /* SET_PROTOCOL_FEATURES */
    vhostuser_close(&v);
    vupeer_close(&p);
}

static void one_without_protocol_features_is_fine(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    int fd = vupeer_open(&p);
    uint8_t config[8];

    (void)state;
    vupeer_hello(&p, VU_F_VERSION_1, 0);
    assert_int_equal(vhostuser_open(fd, 1000, &v, NULL), 0);
    assert_int_equal(vhostuser_config(&v, config, sizeof(config), NULL), -ENOTSUP);
    vhostuser_close(&v);
    vupeer_close(&p);
}

static void answers_to_other_questions_are_refused(void **state)
{
    static const struct {
        uint32_t request, flags, size;
    } rows[] = {
        {VU_GET_QUEUE_NUM, VU_REPLY, 8}, {VU_GET_FEATURES, 1, 8},
        {VU_GET_FEATURES, 4, 8},         {VU_GET_FEATURES, 6, 8},
        {VU_GET_FEATURES, 0, 8},         {VU_GET_FEATURES, VU_REPLY, 0},
        {VU_GET_FEATURES, VU_REPLY, 7},  {VU_GET_FEATURES, VU_REPLY, UINT32_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct vhostuser v;
        struct vupeer p;
        uint8_t zero[8] = {0};
        int fd = vupeer_open(&p);

        vupeer_raw(&p, rows[i].request, rows[i].flags, rows[i].size, zero, sizeof(zero));
        assert_int_equal(vhostuser_open(fd, 1000, &v, NULL), -EPROTO);
        vupeer_close(&p);
    }
}

static void silence_and_hanging_up_are_told_apart(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    int fd = vupeer_open(&p);

    (void)state;
    assert_int_equal(vhostuser_open(fd, 50, &v, NULL), -ETIMEDOUT);
    vupeer_close(&p);
    fd = vupeer_open(&p);
    vupeer_raw(&p, VU_GET_FEATURES, VU_REPLY, 8, "half", 4); /* and never the rest */
    assert_int_equal(vhostuser_open(fd, 50, &v, NULL), -ETIMEDOUT);
    vupeer_close(&p);
    fd = vupeer_open(&p);
    vupeer_raw(&p, VU_GET_FEATURES, VU_REPLY, 8, "half", 4);
    close(p.fd);
    p.fd = -1;
    assert_int_equal(vhostuser_open(fd, 1000, &v, NULL), -ECONNRESET);
    vupeer_close(&p);
}

static void descriptors_that_nobody_asked_for_are_dropped(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    int fd = vupeer_open(&p), before = fcntl(0, F_DUPFD, 0), after;
    uint32_t h[5] = {VU_GET_FEATURES, VU_REPLY, 8, 0, 1};
    char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec iov = {h, sizeof(h)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int sent[2] = {0, 1};

    (void)state;
    close(before);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(sent));
    memcpy(CMSG_DATA(c), sent, sizeof(sent));
    assert_int_equal(sendmsg(p.fd, &m, 0), sizeof(h));
    assert_int_equal(vhostuser_open(fd, 1000, &v, NULL), 0);
    assert_true(v.features == VU_F_VERSION_1);
    vhostuser_close(&v);
    after = fcntl(0, F_DUPFD, 0);
    assert_int_equal(after, fd); /* the lowest free one is the socket's that was closed */
    close(after);
    vupeer_close(&p);
}

static void a_refusal_is_an_error(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    int fd = vupeer_open(&p);
    struct vhostuser_region r = {.gpa = 0, .size = 4096, .hva = &v, .fd = 0};

    (void)state;
    vupeer_hello(&p, features, VU_P_REPLY_ACK);
    vupeer_says_u64(&p, 3, 0); /* SET_OWNER */
    vupeer_says_u64(&p, VU_SET_FEATURES, 0);
    vupeer_says_u64(&p, VU_SET_MEM_TABLE, 1);
    assert_int_equal(vhostuser_open(fd, 1000, &v, NULL), 0);
    assert_int_equal(vhostuser_start(&v, VU_F_VERSION_1, &r, 1, NULL, 0, NULL), -EREMOTEIO);
    vhostuser_close(&v);
    vupeer_close(&p);
}

static void features_it_does_not_have_are_not_asked_of_it(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    struct vhostuser_region r = {.size = 4096, .fd = 0};

    (void)state;
    assert_int_equal(open_with(&p, &v, NULL), 0);
    assert_int_equal(vhostuser_start(&v, 1 << 10, &r, 1, NULL, 0, NULL), -ENOTSUP);
    vhostuser_close(&v);
    vupeer_close(&p);
}

static void a_configuration_has_the_size_that_was_asked_for(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    uint8_t config[16];
    uint32_t reply[3 + 4] = {0, 16, 0, 0xa, 0xb, 0xc, 0xd};

    (void)state;
    assert_int_equal(open_with(&p, &v, NULL), 0);
    vupeer_says(&p, VU_GET_CONFIG, reply, sizeof(reply));
    assert_int_equal(vhostuser_config(&v, config, sizeof(config), NULL), 0);
    assert_memory_equal(config, reply + 3, sizeof(config));
    reply[0] = 1;
    vupeer_says(&p, VU_GET_CONFIG, reply, sizeof(reply));
    assert_int_equal(vhostuser_config(&v, config, sizeof(config), NULL), -EPROTO);
    vhostuser_close(&v);
    vupeer_close(&p);
    assert_int_equal(open_with(&p, &v, NULL), 0);
    vupeer_raw(&p, VU_GET_CONFIG, VU_REPLY, 0, NULL, 0); /* how a refusal looks */
    assert_int_equal(vhostuser_config(&v, config, sizeof(config), NULL), -EPROTO);
    vhostuser_close(&v);
    vupeer_close(&p);
}

static void a_ring_is_stopped_by_its_number(void **state)
{
    struct vhostuser v;
    struct vupeer p;
    uint16_t base = 7;

    (void)state;
    assert_int_equal(open_with(&p, &v, NULL), 0);
    vupeer_base(&p, 1, 99);
    assert_int_equal(vhostuser_stop(&v, 1, &base, NULL), 0);
    assert_int_equal(base, 99);
    vupeer_base(&p, 0, 99);
    assert_int_equal(vhostuser_stop(&v, 1, &base, NULL), -EPROTO);
    vupeer_base(&p, 1, 0x10000);
    assert_int_equal(vhostuser_stop(&v, 1, &base, NULL), -EPROTO);
    assert_int_equal(base, 99);
    vhostuser_close(&v);
    vupeer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_begins),
        cmocka_unit_test(one_without_protocol_features_is_fine),
        cmocka_unit_test(answers_to_other_questions_are_refused),
        cmocka_unit_test(silence_and_hanging_up_are_told_apart),
        cmocka_unit_test(descriptors_that_nobody_asked_for_are_dropped),
        cmocka_unit_test(a_refusal_is_an_error),
        cmocka_unit_test(features_it_does_not_have_are_not_asked_of_it),
        cmocka_unit_test(a_configuration_has_the_size_that_was_asked_for),
        cmocka_unit_test(a_ring_is_stopped_by_its_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
