#include "network/dnsserve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/dnsstate.h"

enum { BURST = 64 }; /* datagrams of one socket a round, so that none keeps the others waiting */

uint64_t dnsserve_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct ipaddr dnsserve_address(const union dnsaddr *a)
{
    struct ipaddr ip = {0};

    if (a->any.sa_family == AF_INET) {
        ip = (struct ipaddr){.family = AF_INET, .bits = 32};
        memcpy(ip.bytes, &a->in.sin_addr, 4);
    } else if (a->any.sa_family == AF_INET6) {
        ip = (struct ipaddr){.family = AF_INET6, .bits = 128};
        memcpy(ip.bytes, &a->in6.sin6_addr, 16);
    }
    return ip;
}

socklen_t dnsserve_fill(union dnsaddr *a, const struct ipaddr *ip, uint16_t port)
{
    memset(a, 0, sizeof(*a));
    if (ip->family == AF_INET) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(port);
        memcpy(&a->in.sin_addr, ip->bytes, 4);
        return sizeof(a->in);
    }
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons(port);
    memcpy(&a->in6.sin6_addr, ip->bytes, 16);
    return sizeof(a->in6);
}

/* --- what is known */

static void reload(struct dnsserve *s)
{
    struct leases new = {0};
    struct stat st = {0};

    /* A file that is replaced is another inode; its times are for those that get the same one. */
    if (fstatat(s->c.folder, "leases", &st, 0) == 0 && st.st_ino == s->seen.st_ino &&
        st.st_mtim.tv_sec == s->seen.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == s->seen.st_mtim.tv_nsec && st.st_size == s->seen.st_size)
        return;
    if (leases_load(s->c.folder, &new, NULL) < 0)
        return;
    leases_done(&s->leases);
    s->leases = new;
    s->seen = st;
}

bool dnsserve_admits(const struct dnsserve *s, const struct ipaddr *asker)
{
    return ipaddr_contains(&s->c.net->subnet, asker) || ipaddr_contains(&s->c.net->subnet6, asker);
}

bool dnsserve_upstream(const struct dnsserve *s, const struct ipaddr *asker, unsigned n,
                       struct ipaddr *out)
{
    const struct leases_entry *en = dnsname_owner(&s->leases, asker);

    if (en && en->dns.n > 0)
        return ipaddr_parse(en->dns.v[n % en->dns.n], 0, out, NULL) == 0;
    if (s->c.n_up == 0)
        return false;
    *out = s->c.up[n % s->c.n_up];
    return true;
}

int dnsserve_answer(struct dnsserve *s, const uint8_t *p, size_t len, bool datagram, uint8_t *out,
                    size_t size)
{
    struct dnsmsg_answer a = {0};
    struct dnsmsg_query q;
    int r = dnsmsg_parse(p, len, &q);

    if (r == -EPROTO)
        return -1;
    reload(s);
    bool ours = r == 0 && dnsname_answer(s->c.net, &s->leases, &q, s->turn++, &a);
    if (r < 0)
        a.rcode = r == -EOPNOTSUPP ? DNSMSG_NOTIMP : DNSMSG_FORMERR;
    else if (!ours && !s->c.net->internal)
        return 0;
    else if (!ours)
        a.rcode = DNSMSG_NXDOMAIN; /* nothing leaves an internal network, not by names either */
    return (int)dnsmsg_reply(p, &q, &a, out, datagram && q.udp_size < size ? q.udp_size : size);
}

/* --- datagrams passed on */

static void ask_done(struct dnsask *k)
{
    cleanup_fd(&k->fd);
    free(k->query);
    *k = (struct dnsask){.fd = -1};
}

static bool ask_one(struct dnsserve *s, struct dnsask *k, const struct ipaddr *to)
{
    union dnsaddr a;
    socklen_t len = dnsserve_fill(&a, to, s->c.up_port);

    cleanup_fd(&k->fd);
    k->fd = socket(to->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (k->fd < 0 || connect(k->fd, &a.any, len) < 0 ||
        getrandom(&k->own_id, sizeof(k->own_id), 0) != sizeof(k->own_id))
        return false;
    memcpy(k->query, &k->own_id, sizeof(k->own_id));
    k->until_ms = dnsserve_now_ms() + DNSSERVE_TRY_MS;
    return send(k->fd, k->query, k->len, MSG_NOSIGNAL) == (ssize_t)k->len;
}

/* The next server that can be reached. */
static bool ask_next(struct dnsserve *s, struct dnsask *k)
{
    struct ipaddr to;

    while (k->tries < DNSSERVE_TRIES && dnsserve_upstream(s, &k->asker, k->tries, &to)) {
        k->tries++;
        if (ask_one(s, k, &to))
            return true;
    }
    return false;
}

static struct dnsask *ask_slot(struct dnsserve *s, const struct ipaddr *asker)
{
    struct dnsask *free_one = NULL;
    unsigned own = 0;

    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++) {
        if (s->ask[i].fd < 0)
            free_one = &s->ask[i];
        else if (ipaddr_equal(&s->ask[i].asker, asker))
            own++;
    }
    return own < DNSSERVE_ASKS_EACH ? free_one : NULL;
}

static void pass_on(struct dnsserve *s, int reply_fd, const union dnsaddr *from, socklen_t from_len,
                    const uint8_t *p, size_t len)
{
    struct ipaddr asker = dnsserve_address(from);
    struct dnsask *k = ask_slot(s, &asker);

    if (!k)
        return;
    *k = (struct dnsask){.fd = -1,
                         .reply_fd = reply_fd,
                         .from = *from,
                         .from_len = from_len,
                         .asker = asker,
                         .len = len};
    memcpy(&k->id, p, sizeof(k->id));
    k->query = malloc(len);
    if (k->query)
        memcpy(k->query, p, len);
    if (!k->query || !ask_next(s, k))
        ask_done(k);
}

static void ask_answered(struct dnsask *k)
{
    uint8_t buf[DNSSERVE_QUERY_MAX];
    ssize_t n = recv(k->fd, buf, sizeof(buf), 0);
    uint16_t id;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        k->until_ms = 0; /* refused: the next server, at once */
        return;
    }
    if (n < DNSMSG_HEADER || !(buf[2] & 0x80))
        return;
    memcpy(&id, buf, sizeof(id));
    if (id != k->own_id)
        return; /* guessed by somebody */
    memcpy(buf, &k->id, sizeof(k->id));
    (void)sendto(k->reply_fd, buf, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL, &k->from.any,
                 k->from_len);
    ask_done(k);
}

static void asked(struct dnsserve *s, int fd)
{
    uint8_t in[DNSSERVE_QUERY_MAX], out[DNSMSG_UDP_MAX];

    for (unsigned i = 0; i < BURST; i++) {
        union dnsaddr from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(fd, in, sizeof(in), MSG_DONTWAIT, &from.any, &from_len);

        if (n < 0)
            return;
        struct ipaddr asker = dnsserve_address(&from);
        if (!dnsserve_admits(s, &asker))
            continue;
        int r = dnsserve_answer(s, in, (size_t)n, true, out, sizeof(out));
        if (r > 0)
            (void)sendto(fd, out, (size_t)r, MSG_DONTWAIT | MSG_NOSIGNAL, &from.any, from_len);
        else if (r == 0)
            pass_on(s, fd, &from, from_len, in, (size_t)n);
    }
}

/* --- the round */

struct dnsserve *dnsserve_new(const struct dnsserve_conf *c)
{
    struct dnsserve *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->c = *c;
    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++)
        s->ask[i].fd = -1;
    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++)
        s->talk[i].client = s->talk[i].up = -1;
    reload(s);
    return s;
}

void dnsserve_free(struct dnsserve *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++)
        ask_done(&s->ask[i]);
    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++)
        dnstalk_close(&s->talk[i]);
    leases_done(&s->leases);
    free(s);
}

/* Those whose time is over go on or end; returns ms until the next one's is. */
static int expire(struct dnsserve *s, int timeout_ms)
{
    uint64_t now = dnsserve_now_ms(), next = UINT64_MAX;

    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++) {
        struct dnsask *k = &s->ask[i];

        if (k->fd >= 0 && k->until_ms <= now && !ask_next(s, k))
            ask_done(k);
        if (k->fd >= 0 && k->until_ms < next)
            next = k->until_ms;
    }
    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++) {
        struct dnstalk *t = &s->talk[i];

        if (t->client >= 0 && t->until_ms <= now)
            dnstalk_close(t);
        if (t->client >= 0 && t->until_ms < next)
            next = t->until_ms;
    }
    if (next == UINT64_MAX)
        return timeout_ms;
    int wait = next > now ? (int)(next - now) : 0;
    return timeout_ms >= 0 && timeout_ms < wait ? timeout_ms : wait;
}

void dnsserve_once(struct dnsserve *s, int timeout_ms)
{
    struct pollfd *p = s->poll, *asks = p + 2 * DNSSERVE_LISTEN_MAX,
                  *talks = asks + DNSSERVE_ASKS_MAX;

    timeout_ms = expire(s, timeout_ms);
    for (unsigned i = 0; i < DNSSERVE_LISTEN_MAX; i++) {
        p[2 * i] = (struct pollfd){s->c.udp[i], POLLIN, 0};
        p[2 * i + 1] = (struct pollfd){s->c.tcp[i], POLLIN, 0};
    }
    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++)
        asks[i] = (struct pollfd){s->ask[i].fd, POLLIN, 0};
    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++)
        dnstalk_want(&s->talk[i], &talks[2 * i], &talks[2 * i + 1]);
    if (poll(p, ARRAY_LEN(s->poll), timeout_ms) <= 0)
        return;
    for (unsigned i = 0; i < DNSSERVE_ASKS_MAX; i++)
        if (asks[i].revents)
            ask_answered(&s->ask[i]);
    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++)
        if (talks[2 * i].revents || talks[2 * i + 1].revents)
            dnstalk_event(s, &s->talk[i], talks[2 * i].revents != 0, talks[2 * i + 1].revents != 0);
    for (unsigned i = 0; i < DNSSERVE_LISTEN_MAX; i++) {
        if (p[2 * i].revents)
            asked(s, p[2 * i].fd);
        if (p[2 * i + 1].revents)
            dnstalk_accept(s, p[2 * i + 1].fd);
    }
}
