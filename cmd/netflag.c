#include "cmd/netflag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/verb.h"

static int parse_mac(const char *text, uint8_t mac[6], struct err *e)
{
    for (unsigned i = 0; i < 6; i++) {
        char *end;
        unsigned long v = strtoul(text, &end, 16);

        if (end != text + 2 || *end != (i < 5 ? ':' : '\0'))
            return err_set(e, -EINVAL, "a MAC address has six bytes, as in 02:00:00:00:00:01");
        mac[i] = (uint8_t)v;
        text = end + 1;
    }
    if (mac[0] & 1)
        return err_set(e, -EINVAL, "that is a group's MAC address (its first byte is odd)");
    return 0;
}

/* [IP/]HOST[:GUEST][/udp] */
static int parse_publish(char *text, struct netflag *n, struct err *e)
{
    struct passt_port *p = &n->port[n->n_ports];
    char *slash = strrchr(text, '/'), *colon;
    uint64_t host, guest;

    if (n->n_ports == NETFLAG_PORTS_MAX)
        return err_set(e, -EINVAL, "more than %d published ports", NETFLAG_PORTS_MAX);
    *p = (struct passt_port){0};
    if (slash && strcmp(slash, "/udp") == 0) {
        p->udp = true;
        *slash = '\0';
        slash = strrchr(text, '/');
    }
    if (slash) {
        *slash = '\0';
        p->ip = text;
        text = slash + 1;
    }
    colon = strchr(text, ':');
    if (colon)
        *colon = '\0';
    int r = parse_uint("publish", text, 1, 65535, &host, e);
    guest = host;
    if (r == 0 && colon)
        r = parse_uint("publish", colon + 1, 1, 65535, &guest, e);
    p->host = (uint16_t)host;
    p->guest = (uint16_t)guest;
    n->n_ports += r == 0;
    return r;
}

static int one_key(struct netflag *n, char *key, char *value, struct err *e)
{
    uint64_t v = 0;
    int r;

    if (strcmp(key, "mac") == 0)
        return parse_mac(value, n->card.mac, e);
    if (strcmp(key, "publish") == 0)
        return n->user ? parse_publish(value, n, e)
                       : err_set(e, -EINVAL, "ports are published by 'user' only");
    if (strcmp(key, "rx-rate") == 0)
        return parse_size(value, &n->card.rx.bytes, e);
    if (strcmp(key, "tx-rate") == 0)
        return parse_size(value, &n->card.tx.bytes, e);
    if (strcmp(key, "mtu") == 0) {
        r = parse_uint("mtu", value, NET_MTU_MIN, NET_MTU_MAX, &v, e);
        n->card.mtu = (uint16_t)v;
        return r;
    }
    if (strcmp(key, "queues") == 0) {
        r = parse_uint("queues", value, 1, n->user ? 1 : NET_PAIRS_MAX, &v, e);
        n->card.pairs = (unsigned)v;
        return r;
    }
    return err_set(e, -EINVAL, "unknown key '%s'", key);
}

static int parse_kind(struct netflag *n, char *kind, struct err *e)
{
    if (strncmp(kind, "tap:", 4) == 0) {
        n->tap = kind + 4;
        n->card.kind = VM_NET_TAP;
    } else if (strcmp(kind, "user") == 0) {
        n->user = true;
        n->card.kind = VM_NET_STREAM;
    } else if (strncmp(kind, "vhost-user:", 11) == 0 && kind[11]) {
        n->card.vhost_socket = kind + 11;
        n->card.kind = VM_NET_VHOST;
    } else if (strncmp(kind, "vhost-user-server:", 18) == 0 && kind[18]) {
        n->card.vhost_socket = kind + 18;
        n->card.vhost_listen = true;
        n->card.kind = VM_NET_VHOST;
    } else if (strcmp(kind, "none") != 0) {
        return err_set(e, -EINVAL,
                       "'%s' is neither tap:NAME, user, vhost-user:SOCKET, "
                       "vhost-user-server:SOCKET nor none",
                       kind);
    }
    return 0;
}

int netflag_parse(const char *text, struct netflag *n, struct err *e)
{
    char *save = NULL, *word;

    *n = (struct netflag){.text = strdup(text), .passt = PASST_NONE};
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++)
        n->card.fd[i] = -1;
    n->card.pairs = 1;
    if (!n->text)
        return err_set(e, -ENOMEM, "out of memory");
    if (getrandom(n->card.mac, sizeof(n->card.mac), 0) != sizeof(n->card.mac))
        return err_errno(e, -errno, "getrandom");
    n->card.mac[0] = (uint8_t)((n->card.mac[0] & 0xfc) | 2); /* locally administered, one's own */
    word = strtok_r(n->text, ",", &save);
    int r = word ? parse_kind(n, word, e) : err_set(e, -EINVAL, "it is empty");
    while (r == 0 && (word = strtok_r(NULL, ",", &save))) {
        char *eq = strchr(word, '=');

        if (!eq)
            r = err_set(e, -EINVAL, "'%s': write KEY=VALUE", word);
        else
            *eq = '\0';
        if (r == 0)
            r = one_key(n, word, eq + 1, e);
    }
    if (r == 0 && n->card.kind == VM_NET_VHOST &&
        (n->card.pairs > 1 || n->card.rx.bytes || n->card.tx.bytes))
        r = err_set(e, -EINVAL, "queues and rates of a vhost-user card are its back end's");
    return r < 0 ? err_wrap(e, r, "'%s'", text) : 0;
}

int netflag_open(struct netflag *n, struct err *e)
{
    struct passt_conf c = {.port = n->port, .n_ports = n->n_ports, .mtu = n->card.mtu};
    int r = 0;

    if (n->tap)
        r = tap_open(n->tap, n->card.pairs, n->card.fd, e);
    if (n->user)
        r = passt_start(&c, &n->passt, e);
    if (r < 0)
        return err_wrap(e, r, "network");
    if (n->user)
        n->card.fd[0] = n->passt.fd;
    return 0;
}

void netflag_handed(struct netflag *n)
{
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
        cleanup_fd(&n->card.fd[i]);
        n->card.fd[i] = -1;
    }
    n->passt.fd = -1; /* it was the card's */
}

void netflag_done(struct netflag *n)
{
    if (n->text) {
        netflag_handed(n);
        passt_stop(&n->passt);
    }
    free(n->text);
    *n = (struct netflag){0};
}
