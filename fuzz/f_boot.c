/* Kernel files: the first byte chooses the initrd, the rest is the file. */
#include "machine/boot.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const uint8_t initrd[9000];
    struct boot_machine m = {.cpus = 2, .n_virtio = 1, .virtio = {{0xd0000000, 0x1000, 5}}};
    struct cpu_state *s;

    if (n == 0)
        return 0;
    m.mem = mem_new(20 << 20, NULL);
    s = aligned_alloc(64, (sizeof(*s) + 63) / 64 * 64);
    if (m.mem && s) {
        struct boot_conf c = {.kernel = p + 1,
                              .kernel_len = n - 1,
                              .initrd = initrd,
                              .initrd_len = p[0] & 1 ? sizeof(initrd) : 0,
                              .cmdline = "a=b",
                              .mmio_on_cmdline = p[0] & 2};
        struct err e;

        cpu_state_reset(s, 0, false);
        (void)!boot_load(&m, &c, s, &e);
    }
    free(s);
    mem_free(m.mem);
    return 0;
}
