/* Devices that another process serves: a driver on one side, a back end on the other, both the
 * test's. */
#include "dev/virtio/vudev.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/un.h>

#include "dev/virtio/vublk.h"
#include "dev/virtio/vunet.h"
#include "test/unit/driver.h"
#include "test/unit/vupeer.h"

enum { HDR = DRV_FREE, DATA = DRV_FREE + 0x1000, STATUS = DRV_FREE + 0x100000, SECTORS = 2048 };
enum { F_FLUSH = 1 << 9, F_STATUS = 1 << 16 };
static const uint64_t features = VU_F_VERSION_1 | VU_F_PROTOCOL | F_FLUSH;

struct world {
    struct drv d;
    struct loop *loop;
    struct vupeer p;
    struct vudev *dev;
    unsigned told; /* the engine heard of a write to code */
    bool told_late;
};

static void says_config(struct vupeer *p, uint64_t sectors)
{
    uint8_t reply[12 + 60] = {0};
    uint32_t len = 60;

    memcpy(reply + 4, &len, sizeof(len));
    memcpy(reply + 12, &sectors, sizeof(sectors));
    vupeer_says(p, VU_GET_CONFIG, reply, sizeof(reply));
}

static void plug(struct world *w, struct vulink *link, bool net)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

    w->dev = net ? vunet_new(link, mac, 0, w->d.m, w->loop, NULL)
                 : vublk_new(link, w->d.m, w->loop, NULL);
    assert_non_null(w->dev);
    w->dev->stop_ms = 50;
    struct vmmio_conf c = {.mem = w->d.m,
                           .irq = {.set = drv_irq, .ctx = &w->d},
                           .ops = net ? &vunet_ops : &vublk_ops,
                           .dev = w->dev};
    w->d.t = vmmio_new(&c, NULL);
    assert_non_null(w->d.t);
}

static struct world *empty_world(void)
{
    struct world *w = calloc(1, sizeof(*w));

    w->loop = loop_new(NULL, NULL);
    w->d.m = mem_new(DRV_RAM, NULL);
    assert_int_equal(mem_share(w->d.m, NULL), 0);
    return w;
}

/* The driver begins; what vhostuser_start() asks last is answered. */
static void begin(struct world *w)
{
    vupeer_says_u64(&w->p, VU_GET_FEATURES, features);
    drv_start(&w->d, F_FLUSH);
    vupeer_listen(&w->p);
}

static struct world *disk(void)
{
    struct world *w = empty_world();
    struct vulink *link = NULL;
    int fd = vupeer_open(&w->p);

    vupeer_hello(&w->p, features, VU_P_CONFIG);
    says_config(&w->p, SECTORS);
    assert_int_equal(vulink_new(&(struct vulink_place){.fd = fd}, w->loop, &link, NULL), 0);
    plug(w, link, false);
    return w;
}

static void finish(struct world *w)
{
    drv_close(&w->d);
    vupeer_close(&w->p);
    loop_free(w->loop);
    free(w);
}

static void add_read(struct world *w, uint32_t len)
{
    drv_add(&w->d, 0, (struct drv_seg[]){{HDR, 16, false}, {DATA, len, true}, {STATUS, 1, true}},
            3);
    drv_kick(&w->d, 0);
}

/* The back end's answer to the next request: `len` bytes of `byte`. Returns the head it had. */
static int serve(struct world *w, uint8_t byte)
{
    struct vupeer_desc d[VQ_SEG_MAX];
    unsigned n;
    int head = vupeer_take(&w->p, 0, d, &n);

    if (head < 0)
        return head;
    for (unsigned i = 0; i + 1 < n; i++)
        if (d[i].flags & 2)
            memset(vupeer_at(&w->p, d[i].addr, true), byte, d[i].len);
    *vupeer_at(&w->p, d[n - 1].addr, true) = 0;
    vupeer_return(&w->p, 0, (uint32_t)head, d[n - 2].len + 1);
    return head;
}

static void a_request_goes_there_and_comes_back(void **state)
{
    struct world *w = disk();
    uint8_t got[512], want[512];
    uint32_t id, len;

    (void)state;
    begin(w);
    assert_true(w->p.features == (VU_F_VERSION_1 | VU_F_PROTOCOL | F_FLUSH));
    assert_int_equal(drv_reg(&w->d, 0x100), SECTORS);
    add_read(w, 512);
    assert_true(serve(w, 0x5a) >= 0);
    assert_false(drv_used(&w->d, 0, NULL, NULL)); /* not before it was looked at */
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, &id, &len));
    assert_int_equal(id, 0);
    assert_int_equal(len, 513);
    assert_int_equal(w->d.raised, 1);
    memset(want, 0x5a, sizeof(want));
    drv_get(&w->d, DATA, got, sizeof(got));
    assert_memory_equal(got, want, sizeof(got));
    vupeer_base(&w->p, 0, 1);
    finish(w);
}

static void code_written(void *ctx, gpa_t gpa, size_t len)
{
    struct world *w = ctx;

    if (gpa <= DATA && gpa + len > DATA)
        w->told++;
    w->told_late |= drv_used(&w->d, 0, NULL, NULL);
}

static void an_engine_hears_of_written_code_before_the_guest_does(void **state)
{
    struct world *w = disk();
    uint64_t dirty[DRV_RAM / 4096 / 64] = {0};

    (void)state;
    begin(w);
    w->d.m->code_written = code_written;
    w->d.m->code_ctx = w;
    atomic_store(&w->d.m->code[DATA >> 12], 1);
    assert_int_equal(mem_dirty_start(w->d.m, NULL), 0);
    add_read(w, 512);
    (void)mem_dirty_fetch(w->d.m, dirty);
    memset(dirty, 0, sizeof(dirty));
    serve(w, 0x90);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_int_equal(w->told, 1);
    assert_false(w->told_late);
    (void)mem_dirty_fetch(w->d.m, dirty);
    assert_true(dirty[(DATA >> 12) / 64] & 1ull << (DATA >> 12) % 64);
    vupeer_base(&w->p, 0, 1);
    finish(w);
}

static void what_the_back_end_never_had_breaks_the_device(void **state)
{
    static const struct {
        uint32_t head;
        unsigned times;
    } rows[] = {{1, 1}, {VUQUEUE_SIZE, 1}, {UINT32_MAX, 1}, {0, 2}, {0, 40000}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world *w = disk();

        begin(w);
        add_read(w, 512);
        for (unsigned k = 0; k < rows[i].times; k++)
            vupeer_return(&w->p, 0, rows[i].head, 1);
        vupeer_call(&w->p, 0);
        loop_once(w->loop, 0);
        assert_true(drv_broken(&w->d));
        assert_int_equal(drv_reg(&w->d, 0x60) & 2, 2); /* the driver is told */
        drv_kick(&w->d, 0);
        drv_set(&w->d, 0x70, 0);
        finish(w);
    }
}

static void a_length_that_is_too_long_is_cut(void **state)
{
    struct world *w = disk();
    struct vupeer_desc d[VQ_SEG_MAX];
    uint32_t len;
    unsigned n;

    (void)state;
    begin(w);
    add_read(w, 512);
    vupeer_return(&w->p, 0, (uint32_t)vupeer_take(&w->p, 0, d, &n), UINT32_MAX);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 513);
    vupeer_base(&w->p, 0, 1);
    finish(w);
}

static void the_guest_does_not_reach_the_rings(void **state)
{
    struct world *w = disk();

    (void)state;
    begin(w);
    drv_add(&w->d, 0, &(struct drv_seg){VUQUEUE_GPA, 16, true}, 1);
    drv_kick(&w->d, 0);
    assert_true(drv_broken(&w->d));
    vupeer_base(&w->p, 0, 0);
    finish(w);
}

static void requests_wait_for_room(void **state)
{
    struct world *w = disk();
    enum { N = 128, TABLE = DRV_FREE + 0x200000 };
    unsigned done = 0, most = 0;

    (void)state;
    begin(w);
    for (unsigned i = 0; i < N; i++)
        drv_desc(&w->d, TABLE, i, DATA + 512u * i, 512,
                 (uint16_t)((i ? DRV_WRITE : 0) | (i + 1 < N ? DRV_NEXT : 0)), (uint16_t)(i + 1));
    for (unsigned i = 0; i < DRV_SIZE; i++) {
        drv_desc(&w->d, drv_ring(0), i, TABLE, 16 * N, DRV_INDIRECT, 0);
        drv_offer(&w->d, 0, (uint16_t)i);
    }
    drv_kick(&w->d, 0);
    while (done < DRV_SIZE) {
        unsigned k = 0;

        while (serve(w, 1) >= 0)
            k++;
        assert_true(k > 0);
        most = k > most ? k : most;
        vupeer_call(&w->p, 0);
        loop_once(w->loop, 0);
        while (drv_used(&w->d, 0, NULL, NULL))
            done++;
    }
    assert_int_equal(most, VUQUEUE_SIZE / N);
    vupeer_base(&w->p, 0, DRV_SIZE);
    finish(w);
}

static void a_drained_device_has_nothing_under_way_and_goes_on(void **state)
{
    struct world *w = disk();
    struct vupeer_desc d[VQ_SEG_MAX];
    unsigned n;

    (void)state;
    begin(w);
    add_read(w, 512);
    add_read(w, 512);
    add_read(w, 512);
    uint32_t head = (uint32_t)vupeer_take(&w->p, 0, d, &n);
    vupeer_return(&w->p, 0, head, 1);
    vupeer_base(&w->p, 0, 1); /* one it took, two it did not */
    vmmio_drain(w->d.t);
    assert_true(drv_used(&w->d, 0, NULL, NULL));
    assert_false(drv_used(&w->d, 0, NULL, NULL));
    assert_int_equal(vuqueue_pending(w->dev->queue, 0), 0);
    vupeer_says_u64(&w->p, VU_GET_FEATURES, features);
    drv_kick(&w->d, 0);
    vupeer_listen(&w->p);
    assert_true(serve(w, 1) >= 0 && serve(w, 2) >= 0 && serve(w, 3) < 0);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, NULL, NULL) && drv_used(&w->d, 0, NULL, NULL));
    vupeer_base(&w->p, 0, 2);
    finish(w);
}

static void one_that_does_not_finish_breaks_the_device(void **state)
{
    struct world *w = disk();
    struct vupeer_desc d[VQ_SEG_MAX];
    unsigned n;

    (void)state;
    begin(w);
    add_read(w, 512);
    vupeer_take(&w->p, 0, d, &n);
    vupeer_base(&w->p, 0, 1);
    vmmio_drain(w->d.t);
    assert_true(drv_broken(&w->d));
    finish(w);
}

static void a_base_that_cannot_be_breaks_the_device(void **state)
{
    static const uint32_t bases[] = {3, 0xfff0, 0xffff};

    (void)state;
    for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        struct world *w = disk();

        begin(w);
        add_read(w, 512);
        add_read(w, 512);
        serve(w, 1); /* so 0 is too low */
        vupeer_base(&w->p, 0, i == 0 ? 0 : bases[i]);
        vmmio_drain(w->d.t);
        assert_true(drv_broken(&w->d));
        finish(w);
    }
}

static void unasked_bytes_break_the_device(void **state)
{
    struct world *w = disk();

    (void)state;
    begin(w);
    vupeer_says_u64(&w->p, VU_GET_FEATURES, features);
    loop_once(w->loop, 0);
    assert_true(drv_broken(&w->d));
    finish(w);
}

static void one_that_cannot_come_back_breaks_the_device(void **state)
{
    struct world *w = disk();

    (void)state;
    begin(w);
    close(w->p.fd);
    w->p.fd = -1;
    loop_once(w->loop, 0);
    assert_true(drv_broken(&w->d));
    finish(w);
}

static void a_saved_one_goes_on(void **state)
{
    struct world *w = disk(), *x = disk();

    (void)state;
    begin(w);
    add_read(w, 512);
    vupeer_base(&w->p, 0, 0);
    vmmio_drain(w->d.t);
    vupeer_says_u64(&x->p, VU_GET_FEATURES, features);
    drv_move(&w->d, &x->d);
    drv_kick(&x->d, 0);
    vupeer_listen(&x->p);
    assert_true(serve(x, 3) >= 0);
    vupeer_call(&x->p, 0);
    loop_once(x->loop, 0);
    assert_true(drv_used(&x->d, 0, NULL, NULL));
    vupeer_base(&x->p, 0, 1);
    finish(w);
    finish(x);
}

static void private_ram_is_refused(void **state)
{
    struct vupeer p;
    struct loop *l = loop_new(NULL, NULL);
    struct mem *m = mem_new(DRV_RAM, NULL);
    struct vulink *link = NULL;
    struct err e = {0};
    int fd = vupeer_open(&p);

    (void)state;
    vupeer_hello(&p, features, VU_P_CONFIG);
    assert_int_equal(vulink_new(&(struct vulink_place){.fd = fd}, l, &link, NULL), 0);
    assert_null(vublk_new(link, m, l, &e));
    assert_int_equal(e.code, -EINVAL);
    vupeer_close(&p);
    mem_free(m);
    loop_free(l);
}

static void no_disk_is_no_disk(void **state)
{
    struct world *w = empty_world();
    struct vulink *link = NULL;
    int fd = vupeer_open(&w->p);
    struct err e = {0};

    (void)state;
    vupeer_hello(&w->p, features, VU_P_CONFIG);
    says_config(&w->p, UINT64_MAX);
    assert_int_equal(vulink_new(&(struct vulink_place){.fd = fd}, w->loop, &link, NULL), 0);
    assert_null(vublk_new(link, w->d.m, w->loop, &e));
    assert_int_equal(e.code, -EPROTO);
    vupeer_close(&w->p);
    mem_free(w->d.m);
    loop_free(w->loop);
    free(w);
}

/* --- on a path: the back end comes back ------------------------------------------------------ */

struct again {
    char path[64];
    int listening;
    struct vupeer p;
    bool start;
    uint64_t sectors;
};

/* Accept, and say at once what will be asked. */
static void *accept_one(void *arg)
{
    struct again *a = arg;

    a->p = (struct vupeer){.q = {{.kick = -1, .call = -1}, {.kick = -1, .call = -1}}};
    a->p.fd = accept4(a->listening, NULL, NULL, SOCK_CLOEXEC);
    vupeer_hello(&a->p, features, VU_P_CONFIG);
    if (a->sectors)
        says_config(&a->p, a->sectors);
    if (a->start)
        vupeer_says_u64(&a->p, VU_GET_FEATURES, features);
    return NULL;
}

static struct world *by_path(struct again *a, struct sockaddr_un *at, bool net)
{
    struct world *w = empty_world();
    struct vulink *link = NULL;
    pthread_t t;

    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(at->sun_path, sizeof(at->sun_path), "/tmp/t_vudev.%d", (int)getpid());
    unlink(at->sun_path);
    *a = (struct again){.listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                        .sectors = net ? 0 : SECTORS};
    assert_int_equal(bind(a->listening, (struct sockaddr *)at, sizeof(*at)), 0);
    assert_int_equal(listen(a->listening, 1), 0);
    pthread_create(&t, NULL, accept_one, a);
    assert_int_equal(vulink_new(&(struct vulink_place){.path = at->sun_path}, w->loop, &link, NULL),
                     0);
    pthread_join(t, NULL);
    w->p = a->p;
    plug(w, link, net);
    return w;
}

static void unbind(struct again *a, struct sockaddr_un *at)
{
    close(a->listening);
    unlink(at->sun_path);
}

static void a_dead_back_ends_requests_are_offered_to_the_next(void **state)
{
    struct again a;
    struct sockaddr_un at;
    struct world *w = by_path(&a, &at, false);
    struct vupeer_desc d[VQ_SEG_MAX];
    pthread_t t;
    unsigned n;

    (void)state;
    begin(w);
    add_read(w, 512);
    add_read(w, 512);
    add_read(w, 512);
    vupeer_take(&w->p, 0, d, &n);
    serve(w, 1); /* the second is answered, the first is not */
    vupeer_close(&w->p);
    loop_once(w->loop, 0);
    assert_false(drv_broken(&w->d));
    assert_true(drv_used(&w->d, 0, NULL, NULL));
    assert_false(drv_used(&w->d, 0, NULL, NULL));

    a.start = true;
    pthread_create(&t, NULL, accept_one, &a);
    for (int i = 0; i < 100 && !w->dev->started; i++)
        loop_once(w->loop, 100);
    pthread_join(t, NULL);
    w->p = a.p;
    vupeer_listen(&w->p);
    assert_true(vupeer_kicked(&w->p, 0));
    assert_int_equal(serve(w, 1), 0); /* in the order they were made */
    assert_true(serve(w, 2) > 0 && serve(w, 3) < 0);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, NULL, NULL) && drv_used(&w->d, 0, NULL, NULL));
    vupeer_base(&w->p, 0, 2);
    unbind(&a, &at);
    finish(w);
}

/* The back end connects, when it can, and says at once what it will be asked. */
static void *connect_one(void *arg)
{
    struct again *a = arg;

    a->p = (struct vupeer){.fd = -1, .q = {{.kick = -1, .call = -1}, {.kick = -1, .call = -1}}};
    while ((a->p.fd = vhostuser_connect(a->path, NULL)) < 0)
        usleep(1000);
    fcntl(a->p.fd, F_SETFL, 0);
    vupeer_hello(&a->p, features, VU_P_CONFIG);
    says_config(&a->p, SECTORS);
    if (a->start)
        vupeer_says_u64(&a->p, VU_GET_FEATURES, features);
    return NULL;
}

static void a_back_end_may_connect_and_do_so_again(void **state)
{
    struct world *w = empty_world();
    struct vulink *link = NULL;
    struct again a = {0};
    struct err e = {0};
    pthread_t t;

    (void)state;
    snprintf(a.path, sizeof(a.path), "/tmp/t_vudev.%d.l", (int)getpid());
    struct vulink_place here = {.path = a.path, .listen = true};
    pthread_create(&t, NULL, connect_one, &a);
    assert_int_equal(vulink_new(&here, w->loop, &link, NULL), 0);
    pthread_join(t, NULL);
    w->p = a.p;
    plug(w, link, false);
    begin(w);
    add_read(w, 512);
    struct vulink *second = NULL;
    assert_int_equal(vulink_new(&here, w->loop, &second, &e), -EADDRINUSE);

    vupeer_close(&w->p);
    loop_once(w->loop, 0);
    assert_false(drv_broken(&w->d));
    a.start = true;
    pthread_create(&t, NULL, connect_one, &a);
    for (int i = 0; i < 100 && !w->dev->started; i++)
        loop_once(w->loop, 100);
    pthread_join(t, NULL);
    w->p = a.p;
    vupeer_listen(&w->p);
    assert_true(serve(w, 1) >= 0);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, NULL, NULL));
    vupeer_base(&w->p, 0, 1);
    finish(w);
    assert_int_equal(access(a.path, F_OK), -1);
}

static void one_that_lied_is_tried_again_after_a_reset(void **state)
{
    struct again a;
    struct sockaddr_un at;
    struct world *w = by_path(&a, &at, false);
    pthread_t t;

    (void)state;
    begin(w);
    vupeer_return(&w->p, 0, 5, 1);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_broken(&w->d));
    vupeer_close(&w->p);
    a.start = true;
    pthread_create(&t, NULL, accept_one, &a);
    drv_start(&w->d, F_FLUSH); /* resets, and its first kick connects */
    pthread_join(t, NULL);
    w->p = a.p;
    vupeer_listen(&w->p);
    add_read(w, 512);
    assert_true(serve(w, 1) >= 0);
    vupeer_base(&w->p, 0, 1);
    unbind(&a, &at);
    finish(w);
}

static void a_cards_link_follows_its_back_end(void **state)
{
    struct again a;
    struct sockaddr_un at;
    struct world *w = by_path(&a, &at, true);
    struct vupeer_desc d[VQ_SEG_MAX];
    uint32_t len;
    unsigned n;

    (void)state;
    assert_int_equal(vmmio_read(w->d.t, 0x100, 1), 2); /* the address' first byte */
    vupeer_says_u64(&w->p, VU_GET_FEATURES, features);
    drv_start(&w->d, F_STATUS);
    vupeer_listen(&w->p);
    assert_true(w->p.features == (VU_F_VERSION_1 | VU_F_PROTOCOL)); /* the status is ours */
    assert_int_equal(vmmio_read(w->d.t, 0x106, 2), 1);
    drv_add(&w->d, 0, &(struct drv_seg){DATA, 1526, true}, 1);
    drv_kick(&w->d, 0);
    drv_add(&w->d, 1, &(struct drv_seg){HDR, 72, false}, 1);
    drv_kick(&w->d, 1);
    assert_int_equal(vupeer_take(&w->p, 1, d, &n), 0);
    assert_int_equal(d[0].len, 72);
    vupeer_return(&w->p, 0, (uint32_t)vupeer_take(&w->p, 0, d, &n), 72);
    vupeer_call(&w->p, 0);
    loop_once(w->loop, 0);
    assert_true(drv_used(&w->d, 0, NULL, &len));
    assert_int_equal(len, 72);
    drv_ack(&w->d);
    vupeer_close(&w->p);
    w->p.fd = -1;
    loop_once(w->loop, 0);
    assert_int_equal(vmmio_read(w->d.t, 0x106, 2), 0);
    assert_int_equal(drv_reg(&w->d, 0x60) & 2, 2);
    w->p = (struct vupeer){.fd = -1, .q = {{.kick = -1, .call = -1}, {.kick = -1, .call = -1}}};
    unbind(&a, &at);
    finish(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_there_and_comes_back),
        cmocka_unit_test(an_engine_hears_of_written_code_before_the_guest_does),
        cmocka_unit_test(what_the_back_end_never_had_breaks_the_device),
        cmocka_unit_test(a_length_that_is_too_long_is_cut),
        cmocka_unit_test(the_guest_does_not_reach_the_rings),
        cmocka_unit_test(requests_wait_for_room),
        cmocka_unit_test(a_drained_device_has_nothing_under_way_and_goes_on),
        cmocka_unit_test(one_that_does_not_finish_breaks_the_device),
        cmocka_unit_test(a_base_that_cannot_be_breaks_the_device),
        cmocka_unit_test(unasked_bytes_break_the_device),
        cmocka_unit_test(one_that_cannot_come_back_breaks_the_device),
        cmocka_unit_test(a_saved_one_goes_on),
        cmocka_unit_test(private_ram_is_refused),
        cmocka_unit_test(no_disk_is_no_disk),
        cmocka_unit_test(a_dead_back_ends_requests_are_offered_to_the_next),
        cmocka_unit_test(a_back_end_may_connect_and_do_so_again),
        cmocka_unit_test(one_that_lied_is_tried_again_after_a_reset),
        cmocka_unit_test(a_cards_link_follows_its_back_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
