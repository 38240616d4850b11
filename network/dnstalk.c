#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/dnsstate.h"

void dnstalk_close(struct dnstalk *t)
{
    cleanup_fd(&t->client);
    cleanup_fd(&t->up);
    free(t->out);
    t->out = NULL;
    t->client = t->up = -1;
}

void dnstalk_accept(struct dnsserve *s, int listener)
{
    union dnsaddr from = {0};
    socklen_t len = sizeof(from);
    CLEANUP(fd) int fd = accept4(listener, &from.any, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ipaddr asker = dnsserve_address(&from);
    struct dnstalk *t = NULL;
    unsigned own = 0;

    for (unsigned i = 0; i < DNSSERVE_TALKS_MAX; i++) {
        if (s->talk[i].client < 0)
            t = &s->talk[i];
        else if (ipaddr_equal(&s->talk[i].asker, &asker))
            own++;
    }
    if (fd < 0 || !t || own >= DNSSERVE_TALKS_EACH || !dnsserve_admits(s, &asker))
        return;
    *t = (struct dnstalk){.up = -1, .asker = asker};
    t->out = malloc(2 + DNSMSG_MAX);
    t->until_ms = dnsserve_now_ms() + DNSSERVE_TALK_MS;
    t->client = t->out ? take_fd(&fd) : -1;
}

void dnstalk_want(const struct dnstalk *t, struct pollfd *client, struct pollfd *up)
{
    bool reading = t->state == DNSTALK_READING, sending = t->state == DNSTALK_SENDING;

    *client = (struct pollfd){-1, 0, 0};
    *up = (struct pollfd){-1, 0, 0};
    if (t->client >= 0 && (reading || sending))
        *client = (struct pollfd){t->client, reading ? POLLIN : POLLOUT, 0};
    else if (t->client >= 0)
        *up = (struct pollfd){t->up, t->state == DNSTALK_CONNECTING ? POLLOUT : POLLIN, 0};
}

/* Bytes of the question that is whole at the front, or 0. */
static size_t whole(const struct dnstalk *t)
{
    size_t len = t->have >= 2 ? (size_t)(t->in[0] << 8 | t->in[1]) : 0;

    return len > 0 && t->have >= 2 + len ? len : 0;
}

static bool connect_up(struct dnsserve *s, struct dnstalk *t)
{
    struct ipaddr to;
    union dnsaddr a;

    if (!dnsserve_upstream(s, &t->asker, 0, &to))
        return false;
    socklen_t len = dnsserve_fill(&a, &to, s->c.up_port);
    t->up = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (t->up < 0 || (connect(t->up, &a.any, len) < 0 && errno != EINPROGRESS))
        return false;
    t->state = DNSTALK_CONNECTING;
    return true;
}

static void answer_is(struct dnstalk *t, size_t len)
{
    t->out[0] = (uint8_t)(len >> 8);
    t->out[1] = (uint8_t)len;
    t->out_len = 2 + len;
    t->out_at = 0;
    t->state = DNSTALK_SENDING;
}

/* The question at the front: answered, or passed on. */
static bool begin(struct dnsserve *s, struct dnstalk *t, size_t len)
{
    int r = dnsserve_answer(s, t->in + 2, len, false, t->out + 2, DNSMSG_MAX);

    if (r > 0)
        answer_is(t, (size_t)r);
    return r > 0 || (r == 0 && connect_up(s, t));
}

static bool read_question(struct dnsserve *s, struct dnstalk *t)
{
    ssize_t n = recv(t->client, t->in + t->have, sizeof(t->in) - t->have, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    t->have += (size_t)n;
    size_t len = whole(t);
    if (len > 0)
        return begin(s, t, len);
    /* one that will never fit, or of no bytes */
    return t->have < 2 ||
           ((size_t)(t->in[0] << 8 | t->in[1]) <= DNSSERVE_QUERY_MAX && (t->in[0] || t->in[1]));
}

static bool send_question(struct dnstalk *t)
{
    size_t len = 2 + whole(t);
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(t->up, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
        return false;
    t->out_at = 0;
    t->state = DNSTALK_WAITING;
    return send(t->up, t->in, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool read_answer(struct dnstalk *t)
{
    size_t want = t->out_at < 2 ? 2 : 2 + (size_t)(t->out[0] << 8 | t->out[1]);
    ssize_t n = recv(t->up, t->out + t->out_at, want - t->out_at, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0)
        return false;
    t->out_at += (size_t)n;
    if (t->out_at < 2 || t->out_at < 2 + (size_t)(t->out[0] << 8 | t->out[1]))
        return true;
    close(t->up);
    t->up = -1;
    answer_is(t, t->out_at - 2);
    return true;
}

static bool send_answer(struct dnsserve *s, struct dnstalk *t)
{
    ssize_t n = send(t->client, t->out + t->out_at, t->out_len - t->out_at, MSG_NOSIGNAL);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        return false;
    t->out_at += (size_t)n;
    if (t->out_at < t->out_len)
        return true;
    /* The next one may be there already: resolvers send two at once. */
    size_t done = 2 + whole(t);
    memmove(t->in, t->in + done, t->have - done);
    t->have -= done;
    t->state = DNSTALK_READING;
    size_t len = whole(t);
    return len == 0 || begin(s, t, len);
}

/* The server asked has no TCP, or went away. */
static bool say_failed(struct dnstalk *t)
{
    const struct dnsmsg_answer a = {.rcode = DNSMSG_SERVFAIL};
    struct dnsmsg_query q;

    cleanup_fd(&t->up);
    t->up = -1;
    if (dnsmsg_parse(t->in + 2, whole(t), &q) < 0)
        return false;
    answer_is(t, dnsmsg_reply(t->in + 2, &q, &a, t->out + 2, DNSMSG_MAX));
    return true;
}

void dnstalk_event(struct dnsserve *s, struct dnstalk *t, bool client, bool up)
{
    bool good = true;

    if (t->client < 0)
        return;
    if (client && t->state == DNSTALK_READING)
        good = read_question(s, t);
    else if (client && t->state == DNSTALK_SENDING)
        good = send_answer(s, t);
    else if (up && t->state == DNSTALK_CONNECTING)
        good = send_question(t);
    else if (up && t->state == DNSTALK_WAITING)
        good = read_answer(t);
    t->until_ms = dnsserve_now_ms() + DNSSERVE_TALK_MS;
    if (!good && (t->state == DNSTALK_CONNECTING || t->state == DNSTALK_WAITING))
        good = say_failed(t);
    if (!good)
        dnstalk_close(t);
}
