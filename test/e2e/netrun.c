/* A container's machine with a network card that is given, as its keeper starts it: what the
 * machine and its agent make of a lease.
 *
 * netrun [-i IMAGE] [-k KERNEL] [-c CPUS] [-C] CARD -- COMMAND...
 *   CARD: as kiln boot --net has it, or "-" for none, then what the guest is told, each after '@':
 *         ip=A/N ip6=A/N gw=A gw6=A mtu=N dns=A
 *   -C: boot, do not start from a template */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/netflag.h"
#include "cmd/verb.h"
#include "container/task.h"
#include "container/wire.h"
#include "image/initrd.h"
#include "image/store.h"

enum { START_MS = 300000 };

struct world {
    struct loop *loop;
    struct netflag flag;
    struct network_lease lease;
    char resolv[256];
    struct image image;
    char *kernel, *kernel_dir, *store;
    int status;
};

static void output(void *ctx, enum task_stream stream, const void *bytes, size_t len)
{
    (void)!write(stream == TASK_STDERR ? 2 : 1, bytes, len);
}

static void input_ready(void *ctx)
{
}

static void ended(void *ctx, int status, bool oom, const struct err *e)
{
    struct world *w = ctx;

    if (e && e->code)
        fprintf(stderr, "netrun: %s\n", e->msg);
    w->status = e && e->code        ? EXIT_KILN
                : WIFEXITED(status) ? WEXITSTATUS(status)
                                    : 128 + WTERMSIG(status);
    loop_stop(w->loop);
}

static int address(const char *text, char *ip, size_t len, unsigned *bits, struct err *e)
{
    const char *slash = strchr(text, '/');
    uint64_t n;

    if (!slash)
        return err_set(e, -EINVAL, "'%s': write ADDRESS/BITS", text);
    snprintf(ip, len, "%.*s", (int)(slash - text), text);
    int r = parse_uint("bits", slash + 1, 0, 128, &n, e);
    *bits = r == 0 ? (unsigned)n : 0;
    return r;
}

static int told(struct world *w, const char *key, struct err *e)
{
    struct network_lease *l = &w->lease;
    const char *value = strchr(key, '=');
    uint64_t n = 0;
    int r = 0;

    if (!value)
        return err_set(e, -EINVAL, "'%s': write KEY=VALUE", key);
    value++;
    if (strncmp(key, "ip=", 3) == 0)
        return address(value, l->ip, sizeof(l->ip), &l->prefix, e);
    if (strncmp(key, "ip6=", 4) == 0)
        return address(value, l->ip6, sizeof(l->ip6), &l->prefix6, e);
    if (strncmp(key, "gw=", 3) == 0)
        snprintf(l->gateway, sizeof(l->gateway), "%s", value);
    if (strncmp(key, "gw6=", 4) == 0)
        snprintf(l->gateway6, sizeof(l->gateway6), "%s", value);
    if (strncmp(key, "dns=", 4) == 0) {
        snprintf(w->resolv, sizeof(w->resolv), "nameserver %s\n", value);
        l->resolv = w->resolv;
    }
    if (strncmp(key, "mtu=", 4) == 0)
        r = parse_uint("mtu", value, NET_MTU_MIN, NET_MTU_MAX, &n, e);
    l->mtu = n ? (unsigned)n : l->mtu;
    return r;
}

static int take_card(struct world *w, struct record *rec, char *text, struct err *e)
{
    char *save = NULL, *word = strtok_r(text, "@", &save);
    struct network_lease *l = &w->lease;
    int r;

    if (strcmp(word, "-") == 0)
        return 0;
    r = netflag_parse(word, &w->flag, e);
    if (r == 0)
        r = netflag_open(&w->flag, e);
    l->kind = w->flag.user ? NETWORK_STREAM : NETWORK_TAP;
    l->n_fds = w->flag.card.pairs;
    for (unsigned i = 0; i < l->n_fds; i++)
        l->fd[i] = w->flag.card.fd[i];
    if (w->flag.card.rx.bytes)
        rec->spec.net_rate = (int64_t)w->flag.card.rx.bytes;
    memcpy(l->mac, w->flag.card.mac, sizeof(l->mac));
    while (r == 0 && (word = strtok_r(NULL, "@", &save)))
        r = told(w, word, e);
    return r;
}

static int find(struct world *w, const char *image, const char *kernel, struct err *e)
{
    struct store *s = NULL;
    int r = store_open(NULL, &s, e);

    if (r == 0)
        r = kernel_find(store_root(s), kernel, &w->kernel, &w->kernel_dir, e);
    if (r == 0)
        r = store_find(s, image, &w->image, e);
    w->store = r == 0 ? strdup(store_root(s)) : NULL;
    store_close(s);
    return r;
}

static int run(struct world *w, struct record *rec, struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    struct rundir dir = RUNDIR_NONE;
    struct task *task = NULL;
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_new(base, NULL, &dir, e);
    struct task_conf c = {
        .rec = rec,
        .dir = &dir,
        .loop = w->loop,
        .store = w->store,
        .rootfs = w->image.rootfs,
        .fstype = w->image.fstype,
        .kernel = w->kernel,
        .kernel_dir = w->kernel_dir,
        .net = &w->lease,
        .cancel_fd = -1,
        .deadline_ms = wire_now_ms() + START_MS,
        .events = {.output = output, .input_ready = input_ready, .ended = ended, .ctx = w}};
    if (r == 0)
        r = task_vm.start(&c, &task, e);
    netflag_handed(&w->flag);
    if (r == 0) {
        loop_run(w->loop);
        task_vm.free(task);
    }
    rundir_remove(&dir);
    return r;
}

static int options(int argc, char **argv, struct world *w, struct record *rec, struct err *e)
{
    const char *image = "kiln-test", *kernel = NULL;
    uint64_t cpus;
    int o, r = 0;

    while (r == 0 && (o = getopt(argc, argv, "+i:k:c:C")) != -1) {
        if (o == 'i')
            image = optarg;
        if (o == 'k')
            kernel = optarg;
        if (o == 'c') {
            r = parse_uint("-c", optarg, 1, VM_CPUS_MAX, &cpus, e);
            rec->spec.nano_cpus = (int64_t)cpus * 1000000000;
        }
        rec->spec.no_template |= o == 'C';
    }
    if (r == 0 && optind + 2 >= argc)
        r = err_set(e, -EINVAL, "CARD -- COMMAND");
    if (r == 0)
        r = find(w, image, kernel, e);
    for (char **v = w->image.config.env; r == 0 && v && *v; v++)
        r = strv_add(&rec->spec.env, *v);
    for (int i = optind + 2; r == 0 && i < argc; i++)
        r = strv_add(&rec->spec.argv, argv[i]);
    return r == 0 ? take_card(w, rec, argv[optind], e) : r;
}

int main(int argc, char **argv)
{
    struct world w = {.lease = NETWORK_LEASE_NONE};
    struct record rec = {.dir = -1, .lock = -1};
    struct err e = {0};

    signal(SIGPIPE, SIG_IGN);
    spec_init(&rec.spec);
    rec.spec.storage_memory = true; /* it has no folder of its own */
    w.loop = loop_new(NULL, &e);
    int r = w.loop ? options(argc, argv, &w, &rec, &e) : -ENOMEM;
    if (r == 0)
        r = run(&w, &rec, &e);
    if (r < 0)
        fprintf(stderr, "netrun: %s\n", e.msg);
    netflag_done(&w.flag);
    loop_free(w.loop);
    spec_done(&rec.spec);
    image_done(&w.image);
    free(w.kernel);
    free(w.kernel_dir);
    free(w.store);
    return r < 0 ? EXIT_KILN : w.status;
}
