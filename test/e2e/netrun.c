/* One container with network cards that are given, as the keeper of a container would: for tests of
 * what the machine and its agent make of them.
 *
 * netrun [-i IMAGE] [-k KERNEL] [-c CPUS] [-C] CARD... -- COMMAND...
 *   CARD: KIND[,KEY=VALUE]... as kiln boot --net has it, then what the guest is told, each after
 * '@': ip=A/N ip6=A/N gw=A gw6=A mtu=N dns=A -C: boot, do not start from a template */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/netflag.h"
#include "container/run.h"
#include "container/session.h"
#include "image/initrd.h"
#include "image/store.h"

struct cards {
    struct netflag flag[VM_NETS_MAX];
    struct vm_net net[VM_NETS_MAX];
    struct session_net set[VM_NETS_MAX];
    unsigned n;
    char resolv[256];
};

static void slash(char *text, unsigned *prefix)
{
    char *at = strchr(text, '/');

    if (at) {
        *at = '\0';
        *prefix = (unsigned)atoi(at + 1);
    }
}

static void told(struct cards *c, struct session_net *n, char *key)
{
    char *value = strchr(key, '=');

    if (!value)
        return;
    *value++ = '\0';
    if (strcmp(key, "ip") == 0) {
        slash(value, &n->prefix);
        n->ip = value;
    } else if (strcmp(key, "ip6") == 0) {
        slash(value, &n->prefix6);
        n->ip6 = value;
    } else if (strcmp(key, "gw") == 0) {
        n->gateway = value;
    } else if (strcmp(key, "gw6") == 0) {
        n->gateway6 = value;
    } else if (strcmp(key, "mtu") == 0) {
        n->mtu = (unsigned)atoi(value);
    } else if (strcmp(key, "dns") == 0) {
        snprintf(c->resolv, sizeof(c->resolv), "nameserver %s\n", value);
    }
}

static int add_card(struct cards *c, char *text, struct err *e)
{
    char *save = NULL, *word = strtok_r(text, "@", &save);
    struct netflag *f = &c->flag[c->n];
    int r = c->n == VM_NETS_MAX ? err_set(e, -EINVAL, "too many cards") : netflag_parse(word, f, e);

    if (r == 0)
        r = netflag_open(f, e);
    if (r < 0)
        return r;
    c->net[c->n] = f->card;
    memcpy(c->set[c->n].mac, f->card.mac, sizeof(f->card.mac));
    while ((word = strtok_r(NULL, "@", &save)))
        told(c, &c->set[c->n], word);
    c->n++;
    return 0;
}

static int go(struct run_conf *c, const char *image, const char *kernel, bool cold, struct err *e)
{
    CLEANUP(mem) char *file = NULL;
    CLEANUP(mem) char *dir = NULL;
    struct image im = {0};
    struct store *s = NULL;
    int r = store_open(NULL, &s, e);

    if (r == 0)
        r = kernel_find(store_root(s), kernel, &file, &dir, e);
    if (r == 0)
        r = store_find(s, image, &im, e);
    CLEANUP(mem) char *templates = r == 0 && !cold ? strdup(store_root(s)) : NULL;
    store_close(s);
    if (r == 0) {
        c->store = templates;
        c->kernel = file;
        c->kernel_dir = dir;
        c->rootfs = im.rootfs;
        c->fstype = im.fstype;
        c->env = (const char *const *)im.config.env;
        r = run_container(c, e);
    }
    image_done(&im);
    return r < 0 ? RUN_KILN : r;
}

int main(int argc, char **argv)
{
    struct cards cards = {0};
    struct err e = {0};
    const char *image = "kiln-test", *kernel = NULL;
    bool cold = false;
    unsigned cpus = 1;
    int o, r = 0;

    while ((o = getopt(argc, argv, "+i:k:c:C")) != -1) {
        if (o == 'i')
            image = optarg;
        if (o == 'k')
            kernel = optarg;
        if (o == 'c')
            cpus = (unsigned)atoi(optarg);
        cold |= o == 'C';
    }
    /* getopt() takes a "--" that comes at once. */
    bool none = optind > 1 && strcmp(argv[optind - 1], "--") == 0;
    optind -= none;
    for (; r == 0 && optind < argc && strcmp(argv[optind], "--") != 0; optind++)
        r = add_card(&cards, argv[optind], &e);
    struct run_conf c = {.engine = "auto",
                         .cpus = cpus,
                         .ram_bytes = 512 << 20,
                         .argv = (const char *const *)argv + optind + 1,
                         .interactive = true,
                         .timeout_ms = 300000,
                         .net = cards.net,
                         .net_set = cards.set,
                         .n_nets = cards.n,
                         .resolv = cards.resolv[0] ? cards.resolv : NULL};
    if (r == 0 && optind + 1 < argc)
        r = go(&c, image, kernel, cold, &e);
    if (e.code)
        fprintf(stderr, "netrun: %s\n", e.msg);
    for (unsigned i = 0; i < VM_NETS_MAX; i++)
        netflag_done(&cards.flag[i]);
    return r < 0 ? RUN_KILN : r;
}
