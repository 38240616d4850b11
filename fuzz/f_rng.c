/* The entropy device, and with it queues and transport, against a guest made by the fuzzer. */
#include "dev/virtio/rng.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int fill(void *ctx, void *buf, size_t len)
{
    memset(buf, 0x5a, len);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fz_run(&rng_ops, rng_new((struct rng_source){fill, NULL}, NULL), p, n, NULL, NULL);
    return 0;
}
