#include "network/leases.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/netlock.h"

enum { FIELDS = 11 };

static const char names[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

static bool set_word(char *to, size_t size, const char *text)
{
    size_t n = strlen(text);

    if (strcmp(text, "-") == 0)
        n = 0;
    if (n >= size || strspn(text, names) < n)
        return false;
    memcpy(to, text, n);
    to[n] = '\0';
    return true;
}

static bool set_number(uint64_t *to, const char *text, uint64_t max)
{
    char *end;

    errno = 0;
    *to = strtoull(text, &end, 10);
    return !*end && !errno && text[0] >= '0' && text[0] <= '9' && *to <= max;
}

/* With its prefix, or "-". */
static bool set_address(struct ipaddr *to, const char *text, uint8_t family)
{
    *to = (struct ipaddr){0};
    return strcmp(text, "-") == 0 ||
           (ipaddr_parse_cidr(text, to, NULL) == 0 && to->family == family);
}

static bool set_list(struct strv *to, char *text, size_t max)
{
    char *save;

    if (strcmp(text, "-") == 0)
        return true;
    for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save))
        if (to->n == max || strv_add(to, w) < 0)
            return false;
    return true;
}

/* "tcp/8080/80/0.0.0.0" */
static bool set_port(struct network_port *p, char *text)
{
    char *proto = strsep(&text, "/"), *host = strsep(&text, "/"), *ctr = strsep(&text, "/");
    uint64_t h, c;

    if (!text || !set_number(&h, host, 65535) || !set_number(&c, ctr, 65535) ||
        strlen(text) >= sizeof(p->host_ip))
        return false;
    p->udp = strcmp(proto, "udp") == 0;
    p->host_port = (uint16_t)h;
    p->ctr_port = (uint16_t)c;
    snprintf(p->host_ip, sizeof(p->host_ip), "%s", text);
    return (p->udp || strcmp(proto, "tcp") == 0) &&
           (!text[0] || ipaddr_parse(text, 0, &(struct ipaddr){0}, NULL) == 0);
}

static bool set_ports(struct leases_entry *en, char *text)
{
    char *save;

    if (strcmp(text, "-") == 0)
        return true;
    en->port = calloc(LEASES_LINE_PORTS_MAX, sizeof(*en->port));
    for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save))
        if (!en->port || en->n_ports == LEASES_LINE_PORTS_MAX ||
            !set_port(&en->port[en->n_ports++], w))
            return false;
    return true;
}

static bool parse_line(char *line, struct leases_entry *en)
{
    char *f[FIELDS];
    uint64_t helper;

    for (unsigned i = 0; i < FIELDS; i++) {
        f[i] = strsep(&line, " ");
        if (!f[i] || !f[i][0])
            return false;
    }
    if (line || !set_word(en->id, sizeof(en->id), f[0]) || !en->id[0] ||
        !set_word(en->name, sizeof(en->name), f[1]) ||
        !set_word(en->interface, sizeof(en->interface), f[2]) ||
        leases_parse_mac(f[3], en->mac, NULL) < 0 || !set_address(&en->ip, f[4], AF_INET) ||
        !set_address(&en->ip6, f[5], AF_INET6) || !set_number(&helper, f[6], INT32_MAX) ||
        !set_number(&en->helper_start, f[7], UINT64_MAX))
        return false;
    en->helper = (pid_t)helper;
    return set_list(&en->alias, f[8], NETWORK_ALIASES_MAX) &&
           set_list(&en->dns, f[9], NETWORK_DNS_MAX) && set_ports(en, f[10]);
}

int leases_parse(char *text, size_t len, struct leases *l, struct err *e)
{
    struct leases new = {0};
    unsigned number = 0;
    char *line;
    int r = 0;

    if (memchr(text, '\0', len))
        return err_set(e, -EBADMSG, "leases: not a text");
    while (r == 0 && text && *text) {
        struct leases_entry en = {0};

        line = strsep(&text, "\n");
        number++;
        if (parse_line(line, &en))
            r = leases_add(&new, &en, e);
        else
            r = err_set(e, -EBADMSG, "leases: line %u is damaged", number);
        leases_entry_done(&en);
    }
    if (r < 0) {
        leases_done(&new);
        return r;
    }
    *l = new;
    return 0;
}

static void put_list(FILE *f, const struct strv *s)
{
    if (s->n == 0)
        fputs(" -", f);
    for (size_t i = 0; i < s->n; i++)
        fprintf(f, "%c%s", i ? ',' : ' ', s->v[i]);
}

static void put_entry(FILE *f, const struct leases_entry *en)
{
    char ip[IPADDR_CIDR_TEXT], ip6[IPADDR_CIDR_TEXT];

    fprintf(f, "%s %s %s %02x:%02x:%02x:%02x:%02x:%02x %s %s %d %" PRIu64, en->id,
            en->name[0] ? en->name : "-", en->interface[0] ? en->interface : "-", en->mac[0],
            en->mac[1], en->mac[2], en->mac[3], en->mac[4], en->mac[5],
            en->ip.family ? ipaddr_cidr(&en->ip, ip) : "-",
            en->ip6.family ? ipaddr_cidr(&en->ip6, ip6) : "-", (int)en->helper, en->helper_start);
    put_list(f, &en->alias);
    put_list(f, &en->dns);
    if (en->n_ports == 0)
        fputs(" -", f);
    for (unsigned i = 0; i < en->n_ports; i++) {
        const struct network_port *p = &en->port[i];

        fprintf(f, "%c%s/%u/%u/%s", i ? ',' : ' ', p->udp ? "udp" : "tcp", p->host_port,
                p->ctr_port, p->host_ip);
    }
    putc('\n', f);
}

char *leases_format(const struct leases *l, size_t *len)
{
    CLEANUP(mem) char *text = NULL;
    FILE *f = open_memstream(&text, len);

    if (!f)
        return NULL;
    for (size_t i = 0; i < l->n; i++)
        put_entry(f, &l->v[i]);
    bool failed = ferror(f);
    return fclose(f) == 0 && !failed ? take_ptr(&text) : NULL;
}

int leases_load(int dir, struct leases *l, struct err *e)
{
    CLEANUP(mem) char *text = NULL;
    struct err why;
    size_t len;
    int r = netlock_read(dir, "leases", LEASES_BYTES_MAX, &text, &len, &why);

    if (r == -ENOENT) {
        *l = (struct leases){0};
        return 0;
    }
    return r < 0 ? err_set(e, r, "%s", why.msg) : leases_parse(text, len, l, e);
}

int leases_save(int dir, const struct leases *l, struct err *e)
{
    size_t len;

    if (l->n == 0)
        return unlinkat(dir, "leases", 0) < 0 && errno != ENOENT ? err_errno(e, -errno, "leases")
                                                                 : 0;
    CLEANUP(mem) char *text = leases_format(l, &len);
    return text ? netlock_write(dir, "leases", text, len, e) : err_errno(e, -ENOMEM, "leases");
}
