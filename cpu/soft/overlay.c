#include "cpu/soft/overlay.h"

#include <string.h>

/* The word of hva, or the free place where it belongs. Never full: n stays below half. */
static unsigned slot_of(const struct overlay *o, const uint8_t *hva)
{
    uint64_t h = ((uint64_t)(uintptr_t)hva >> 3) * 0x9e3779b97f4a7c15ull;
    unsigned i = (unsigned)(h >> (64 - OVERLAY_BITS));

    while (o->word[i].hva && o->word[i].hva != hva)
        i = (i + 1) & (OVERLAY_SLOTS - 1);
    return i;
}

static uint8_t *word_start(const uint8_t *hva, unsigned *off)
{
    *off = (uintptr_t)hva & 7;
    return (uint8_t *)(uintptr_t)hva - *off;
}

static void clear(struct overlay *o)
{
    for (unsigned i = 0; i < o->n; i++)
        o->word[o->used[i]] = (struct overlay_word){0};
    o->n = 0;
}

void overlay_begin(struct overlay *o, struct vcpu *v)
{
    clear(o);
    o->n_log = 0;
    o->refused = false;
    v->overlay = o;
    soft_mode_update(v); /* no fast path */
}

void overlay_end(struct vcpu *v)
{
    v->overlay = NULL;
    soft_mode_update(v);
}

/* The bytes of `s` that are set, over what the word holds. */
static void put(struct overlay *o, const struct overlay_word *s)
{
    unsigned slot = slot_of(o, s->hva);
    struct overlay_word *w = &o->word[slot];

    if (!w->hva) {
        w->hva = s->hva;
        o->used[o->n++] = (uint16_t)slot;
    }
    for (unsigned i = 0; i < 8; i++)
        if (s->set >> i & 1)
            w->bytes[i] = s->bytes[i];
    w->set |= s->set;
}

int overlay_store(struct overlay *o, uint8_t *hva, const void *src, unsigned len)
{
    const uint8_t *from = src;

    if (o->n + len / 8 + 2 > OVERLAY_WORDS || o->n_log + len / 8 + 2 > OVERLAY_LOG)
        return overlay_refuse(o);
    while (len) {
        struct overlay_word *s = &o->log[o->n_log++];
        unsigned off, n;

        *s = (struct overlay_word){.hva = word_start(hva, &off)};
        n = 8 - off < len ? 8 - off : len;
        memcpy(s->bytes + off, from, n);
        s->set = (uint8_t)(((1u << n) - 1) << off);
        put(o, s);
        hva += n;
        from += n;
        len -= n;
    }
    return SOFT_OK;
}

void overlay_rewind(struct overlay *o, unsigned n_log)
{
    clear(o);
    o->n_log = n_log;
    for (unsigned i = 0; i < n_log; i++)
        put(o, &o->log[i]);
}

void overlay_load(const struct overlay *o, const uint8_t *hva, void *dst, unsigned len)
{
    uint8_t *to = dst;

    if (!o->n)
        return;
    while (len) {
        unsigned off;
        uint8_t *start = word_start(hva, &off);
        const struct overlay_word *w = &o->word[slot_of(o, start)];
        unsigned n = 8 - off < len ? 8 - off : len;

        for (unsigned i = 0; w->hva && i < n; i++)
            if (w->set >> (off + i) & 1)
                to[i] = w->bytes[off + i];
        hva += n;
        to += n;
        len -= n;
    }
}

const struct overlay_word *overlay_differs(const struct overlay *o)
{
    for (unsigned k = 0; k < o->n; k++) {
        const struct overlay_word *w = &o->word[o->used[k]];
        const volatile uint8_t *now = w->hva;

        for (unsigned i = 0; i < 8; i++)
            if ((w->set >> i & 1) && now[i] != w->bytes[i])
                return w;
    }
    return NULL;
}
