#include "cpu/bt/bt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "mem/mem.h"

enum { BYTES_A_BLOCK = 256 }; /* of code, on average, or less */

/* Shared memory without a file, and a second mapping of it (mremap(2): an old size of 0): perf
 * looks into its map of a process only for what it takes for anonymous, and a memfd is not. */
static int area_init(struct code_area *a, size_t bytes, struct err *e)
{
    void *rw = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *rx = rw == MAP_FAILED ? rw : mremap(rw, 0, bytes, MREMAP_MAYMOVE);

    a->size = bytes;
    a->rw = rw == MAP_FAILED ? NULL : rw;
    a->rx = rx == MAP_FAILED ? NULL : rx;
    if (!a->rw || !a->rx || mprotect(rx, bytes, PROT_READ | PROT_EXEC) < 0)
        return err_errno(e, -errno, "map a code cache of %zu MiB", bytes >> 20);
    a->e = (struct emit){.p = a->rw, .end = a->rw + bytes, .to_rx = a->rx - a->rw};
    return 0;
}

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
    int r = area_init(&b->code, bytes, e);

    if (r < 0)
        return r;
    b->max_blocks = (unsigned)(bytes / BYTES_A_BLOCK);
    b->blocks = lazy(b->max_blocks * sizeof(*b->blocks));
    b->by_page = lazy(ram_pages(b) * sizeof(*b->by_page));
    b->smc = lazy(ram_pages(b) * sizeof(*b->smc));
    if (!b->blocks || !b->by_page || !b->smc)
        return err_set(e, -ENOMEM, "map the code cache's tables");
    btstub_emit(b);
    b->after_stubs = b->code.e.p;
    return 0;
}

void btcache_done(struct bt_vm *b)
{
    if (b->code.rw)
        munmap(b->code.rw, b->code.size);
    if (b->code.rx)
        munmap((void *)(uintptr_t)b->code.rx, b->code.size);
    if (b->blocks)
        munmap(b->blocks, b->max_blocks * sizeof(*b->blocks));
    if (b->by_page)
        munmap(b->by_page, ram_pages(b) * sizeof(*b->by_page));
    if (b->smc)
        munmap(b->smc, ram_pages(b) * sizeof(*b->smc));
}

static unsigned hash(gpa_t gpa, uint32_t mode)
{
    uint64_t h = (gpa ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

    return (unsigned)(h >> (64 - BLOCK_HASH_BITS));
}

struct block *btcache_find(struct bt_vm *b, gpa_t gpa, uint32_t mode)
{
    struct block *k = __atomic_load_n(&b->hash[hash(gpa, mode)], __ATOMIC_ACQUIRE);

    while (k && (k->gpa != gpa || k->mode != mode))
        k = __atomic_load_n(&k->hash_next, __ATOMIC_ACQUIRE);
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

void btcache_insert(struct bt_vm *b, struct block *k)
{
    struct block **h = &b->hash[hash(k->gpa, k->mode)];

    k->page = mem_page(b->vm->c.mem, k->gpa);
    k->hash_next = *h;
    __atomic_store_n(h, k, __ATOMIC_RELEASE);
    k->page_next = b->by_page[k->page];
    b->by_page[k->page] = k;
}

void btcache_insert2(struct bt_vm *b, struct block *k, uint64_t chunks)
{
    struct block *second = btcache_new(b);

    BUG_ON(!second);
    second->of = k;
    second->chunks = chunks;
    second->page = mem_page(b->vm->c.mem, k->gpa2);
    second->page_next = b->by_page[second->page];
    b->by_page[second->page] = second;
}

/* Other CPUs may be executing the jump: the store is one aligned write. */
static void set_rel32(struct bt_vm *b, uint8_t *at, const void *to)
{
    const uint8_t *rx = at + b->code.e.to_rx;
    int32_t rel = (int32_t)((const uint8_t *)to - (rx + 4));

    __atomic_store_n((int32_t *)(void *)at, rel, __ATOMIC_RELEASE);
}

void btcache_link(struct bt_vm *b, struct link *l, struct block *to)
{
    if (!l->rel32 || l->to || to->dead || to->straddles)
        return;
    l->to = to;
    l->next_in = to->incoming;
    to->incoming = l;
    set_rel32(b, l->rel32,
              l->flags == LINK_EFLAGS   ? to->entry_f
              : l->flags == LINK_MEMORY ? to->entry_m
                                        : to->body);
}

/* The body becomes a jump to the block's way out: 8 aligned bytes, one write. */
static void kill(struct bt_vm *b, struct block *k)
{
    if (k->dead)
        return;
    const uint8_t *rx = k->patch + b->code.e.to_rx;
    uint32_t rel = (uint32_t)((const uint8_t *)k->cold_exit - (rx + 5));
    uint64_t jmp = 0xe9 | (uint64_t)rel << 8 | 0x909090ull << 40;
    struct block **h = &b->hash[hash(k->gpa, k->mode)];

    __atomic_store_n((uint64_t *)(void *)k->patch, jmp, __ATOMIC_RELEASE);
    k->dead = true;
    while (*h && *h != k)
        h = &(*h)->hash_next;
    if (*h)
        __atomic_store_n(h, k->hash_next, __ATOMIC_RELEASE);
    for (struct link *l = k->incoming; l; l = l->next_in) {
        set_rel32(b, l->rel32, l->unlinked);
        l->to = NULL;
    }
    k->incoming = NULL;
    /* Its own links may still be executed by a CPU inside of it, but not be patched again by the
     * death of their targets. */
    for (unsigned i = 0; i < BLOCK_LINKS; i++) {
        struct link *l = &k->link[i];

        if (!l->to)
            continue;
        struct link **in = &l->to->incoming;
        while (*in && *in != l)
            in = &(*in)->next_in;
        if (*in)
            *in = l->next_in;
        set_rel32(b, l->rel32, l->unlinked);
        l->to = NULL;
    }
}

void btcache_kill_one(struct bt_vm *b, struct block *k)
{
    for (struct block **at = &b->by_page[k->page]; *at; at = &(*at)->page_next) {
        if (*at == k) {
            *at = k->page_next;
            break;
        }
    }
    kill(b, k);
    b->kills++;
}

void btcache_kill(struct bt_vm *b, int64_t page, uint64_t chunks)
{
    struct smc *smc = &b->smc[page];
    uint64_t now = __rdtsc();
    unsigned young = 0, old = 0;

    for (struct block **at = &b->by_page[page]; *at;) {
        struct block *k = *at;

        if (!(k->chunks & chunks)) {
            at = &k->page_next;
            continue;
        }
        *at = k->page_next;
        if (k->of)
            k = k->of;
        kill(b, k);
        if (now - k->born < SMC_YOUNG)
            young++;
        else
            old++;
    }
    if (!young && !old)
        return;
    b->kills++;
    if (!young) {
        smc->kills -= smc->kills > 0;
        return;
    }
    if (++smc->kills < SMC_KILLS)
        return;
    smc->hot |= chunks;
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
    smc->hot = 0;
    smc->kills = SMC_KILLS - SMC_AGAIN;
    pthread_mutex_unlock(&b->lock);
    return false;
}

void btcache_flush(struct bt_vm *b)
{
    for (unsigned i = 0; i < b->n_blocks; i++)
        b->by_page[b->blocks[i].page] = NULL;
    memset(b->hash, 0, sizeof(b->hash));
    b->n_blocks = 0;
    b->code.e.p = b->after_stubs;
    b->code.e.full = false;
    b->kills++;
    b->flushes++;
}
