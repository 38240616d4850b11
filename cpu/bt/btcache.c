#include "cpu/bt/bt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "mem/mem.h"

enum { BYTES_A_BLOCK = 256 }; /* of code, on average, or less */

static size_t ram_pages(const struct bt_vm *b)
{
    return (size_t)(mem_size(b->vm->c.mem) / MEM_PAGE);
}

static void *lazy(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int btcache_init(struct bt_vm *b, size_t bytes, struct err *e)
{
    int r = btarea_init(&b->code, bytes, e);

    if (r < 0)
        return r;
    b->max_blocks = (unsigned)(bytes / BYTES_A_BLOCK);
    b->blocks = lazy(b->max_blocks * sizeof(*b->blocks));
    b->by_page = lazy(ram_pages(b) * sizeof(*b->by_page));
    b->smc = lazy(ram_pages(b) * sizeof(*b->smc));
    b->hash = lazy(sizeof(*b->hash) << BLOCK_HASH_BITS);
    if (!b->blocks || !b->by_page || !b->smc || !b->hash)
        return err_set(e, -ENOMEM, "map the code cache's tables");
    btstub_emit(b);
    /* They hold addresses of this process: a page that no file has. */
    b->code.e.p += -(b->code.e.p - b->code.rw) & (AREA_PAGE - 1);
    b->after_stubs = b->code.e.p;
    return 0;
}

void btcache_done(struct bt_vm *b)
{
    btarea_done(&b->code);
    if (b->blocks)
        munmap(b->blocks, b->max_blocks * sizeof(*b->blocks));
    if (b->by_page)
        munmap(b->by_page, ram_pages(b) * sizeof(*b->by_page));
    if (b->smc)
        munmap(b->smc, ram_pages(b) * sizeof(*b->smc));
    if (b->hash)
        munmap(b->hash, sizeof(*b->hash) << BLOCK_HASH_BITS);
}

static unsigned hash(gpa_t gpa, uint32_t mode)
{
    uint64_t h = (gpa ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

    return (unsigned)(h >> (64 - BLOCK_HASH_BITS));
}

static struct block *block_of(const struct bt_vm *b, block_ref r)
{
    return r ? &b->blocks[r - 1] : NULL;
}

static block_ref ref_of(const struct bt_vm *b, const struct block *k)
{
    return (block_ref)(k - b->blocks) + 1;
}

struct link *btcache_link_of(struct bt_vm *b, link_ref r)
{
    return r ? &b->blocks[(r - 1) >> 1].link[(r - 1) & 1] : NULL;
}

struct block *btcache_find(struct bt_vm *b, gpa_t gpa, uint32_t mode)
{
    struct block *k = block_of(b, __atomic_load_n(&b->hash[hash(gpa, mode)], __ATOMIC_ACQUIRE));

    while (k && (k->gpa != gpa || k->mode != mode))
        k = block_of(b, __atomic_load_n(&k->hash_next, __ATOMIC_ACQUIRE));
    return k;
}

struct block *btcache_new(struct bt_vm *b)
{
    if (b->n_blocks == b->max_blocks)
        return NULL;
    struct block *k = &b->blocks[b->n_blocks++];
    *k = (struct block){0};
    return k;
}

void btcache_to_page(struct bt_vm *b, struct block *k)
{
    block_ref *at = &b->by_page[mem_page(b->vm->c.mem, k->gpa)];

    k->page_next = *at;
    *at = ref_of(b, k);
}

void btcache_insert(struct bt_vm *b, struct block *k)
{
    block_ref *h = &b->hash[hash(k->gpa, k->mode)];

    k->hash_next = *h;
    __atomic_store_n(h, ref_of(b, k), __ATOMIC_RELEASE);
    btcache_to_page(b, k);
}

void btcache_insert2(struct bt_vm *b, struct block *k, gpa_t gpa2, uint64_t chunks)
{
    struct block *second = btcache_new(b);

    BUG_ON(second != k + 1);
    k->straddles = true;
    second->second = true;
    second->gpa = gpa2;
    second->chunks = chunks;
    btcache_to_page(b, second);
}

/* Other CPUs may be executing the jump: the store is one aligned write. */
static void set_rel32(struct bt_vm *b, code_ref at, code_ref to)
{
    uint32_t rel = to - (at + 4);

    btarea_own(&b->code, at);
    __atomic_store_n((uint32_t *)(void *)(b->code.rw + at), rel, __ATOMIC_RELEASE);
}

void btcache_link(struct bt_vm *b, struct link *l, struct block *to)
{
    if (!l->rel32 || l->to || to->dead || to->straddles)
        return;
    uint32_t index = (uint32_t)(((uintptr_t)l - (uintptr_t)b->blocks) / sizeof(*b->blocks));
    unsigned n = (unsigned)(l - b->blocks[index].link);
    enum link_flags flags = b->blocks[index].link_flags[n];

    l->to = ref_of(b, to);
    l->next_in = to->incoming;
    to->incoming = (index << 1 | n) + 1;
    set_rel32(b, l->rel32,
              flags == LINK_EFLAGS   ? to->entry_f
              : flags == LINK_MEMORY ? to->entry_m
                                     : to->body);
}

static void unlink_it(struct bt_vm *b, struct link *l)
{
    set_rel32(b, l->rel32, l->unlinked);
    l->to = 0;
}

/* A dead block's own links may still be executed by a CPU inside of it, but not be patched again by
 * the death of their targets. */
static void unlink_own(struct bt_vm *b, struct block *k)
{
    for (unsigned i = 0; i < BLOCK_LINKS; i++) {
        struct link *l = &k->link[i];

        if (!l->to)
            continue;
        link_ref *in = &block_of(b, l->to)->incoming;
        while (*in && btcache_link_of(b, *in) != l)
            in = &btcache_link_of(b, *in)->next_in;
        if (*in)
            *in = l->next_in;
        unlink_it(b, l);
    }
}

/* The body becomes a jump to the block's way out: 8 aligned bytes, one write. */
static void kill(struct bt_vm *b, struct block *k)
{
    if (k->dead)
        return;
    uint64_t rel = k->cold_exit - (k->body + 5);
    uint64_t jmp = 0xe9 | (rel & 0xffffffff) << 8 | 0x909090ull << 40;
    block_ref *h = &b->hash[hash(k->gpa, k->mode)];

    btarea_own(&b->code, k->body);
    __atomic_store_n((uint64_t *)(void *)(b->code.rw + k->body), jmp, __ATOMIC_RELEASE);
    k->dead = true;
    while (*h && block_of(b, *h) != k)
        h = &block_of(b, *h)->hash_next;
    if (*h)
        __atomic_store_n(h, k->hash_next, __ATOMIC_RELEASE);
    for (struct link *l = btcache_link_of(b, k->incoming); l; l = btcache_link_of(b, l->next_in))
        unlink_it(b, l);
    k->incoming = 0;
    unlink_own(b, k);
}

void btcache_kill_one(struct bt_vm *b, struct block *k)
{
    block_ref *at = &b->by_page[mem_page(b->vm->c.mem, k->gpa)];

    while (*at && block_of(b, *at) != k)
        at = &block_of(b, *at)->page_next;
    if (*at)
        *at = k->page_next;
    kill(b, k);
    __atomic_fetch_add(&b->kills, 1, __ATOMIC_RELAXED);
}

/* Kills blocks made from these chunks, and says how many of them were young and old. */
static void kill_in(struct bt_vm *b, int64_t page, uint64_t chunks, unsigned died[2])
{
    uint32_t now = (uint32_t)(__rdtsc() >> BORN_SHIFT);

    for (block_ref *at = &b->by_page[page]; *at;) {
        struct block *k = block_of(b, *at);

        if (!(k->chunks & chunks)) {
            at = &k->page_next;
            continue;
        }
        *at = k->page_next;
        if (k->second)
            k--;
        kill(b, k);
        died[now - k->born >= SMC_YOUNG]++;
    }
}

static unsigned crossed_slot(gpa_t gpa)
{
    return (unsigned)(gpa * 0x9e3779b97f4a7c15ull >> 52) & (CROSSED_SIZE - 1);
}

bool btcache_crosses(const struct bt_vm *b, gpa_t gpa)
{
    return atomic_load_explicit(&b->crossed[crossed_slot(gpa)], memory_order_relaxed) >=
           CROSSED_MAX;
}

void btcache_crossed(struct bt_vm *b, gpa_t gpa)
{
    unsigned died[2] = {0};

    if (btcache_crosses(b, gpa))
        return;
    atomic_fetch_add_explicit(&b->crossed[crossed_slot(gpa)], 1, memory_order_relaxed);
    if (!btcache_crosses(b, gpa))
        return;
    pthread_mutex_lock(&b->lock);
    kill_in(b, mem_page(b->vm->c.mem, gpa), mem_chunks(gpa & (MEM_PAGE - 1), 1), died);
    __atomic_fetch_add(&b->kills, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&b->lock);
}

void btcache_kill(struct bt_vm *b, int64_t page, uint64_t chunks)
{
    struct smc *smc = &b->smc[page];
    unsigned died[2] = {0};

    kill_in(b, page, chunks, died);
    if (!died[0] && !died[1])
        return;
    __atomic_fetch_add(&b->kills, 1, __ATOMIC_RELAXED);
    if (!died[0]) {
        smc->kills -= smc->kills > 0;
        return;
    }
    if (++smc->kills < SMC_KILLS)
        return;
    __atomic_fetch_or(&smc->hot, chunks, __ATOMIC_RELAXED);
    smc->kills = SMC_KILLS;
    atomic_store_explicit(&smc->steps, 0, memory_order_relaxed);
}

bool btcache_hot(struct bt_vm *b, int64_t page, gpa_t gpa)
{
    struct smc *smc = &b->smc[page];

    if (!(__atomic_load_n(&smc->hot, __ATOMIC_RELAXED) & mem_chunks(gpa & (MEM_PAGE - 1), 1)))
        return false;
    if (atomic_fetch_add_explicit(&smc->steps, 1, memory_order_relaxed) < SMC_STEPS)
        return true;
    pthread_mutex_lock(&b->lock);
    __atomic_store_n(&smc->hot, 0, __ATOMIC_RELAXED);
    smc->kills = SMC_KILLS - SMC_AGAIN;
    pthread_mutex_unlock(&b->lock);
    return false;
}

void btcache_flush(struct bt_vm *b)
{
    for (unsigned i = 0; i < b->n_blocks; i++)
        b->by_page[mem_page(b->vm->c.mem, b->blocks[i].gpa)] = 0;
    memset(b->hash, 0, sizeof(*b->hash) << BLOCK_HASH_BITS);
    memset(b->crossed, 0, sizeof(b->crossed));
    b->n_blocks = 0;
    btarea_own_all(&b->code, false);
    b->code.e.p = b->after_stubs;
    b->code.e.full = false;
    __atomic_fetch_add(&b->kills, 1, __ATOMIC_RELAXED);
    b->flushes++;
}
