/* The file system device against a guest made by the fuzzer: every request there is, over an empty
 * read-only folder, so that nothing of the host's is at stake. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/virtio/virtiofs.h"
#include "fuzz/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char dir[] = "/tmp/f_virtiofs.XXXXXX";
    struct fusefs *fs = NULL;

    if (!mkdtemp(dir))
        return 0;
    if (fusefs_new(dir, true, &fs, NULL) == 0)
        fz_run(&virtiofs_ops, virtiofs_new(fs, "fuzz", NULL), p, n, NULL, NULL);
    if (rmdir(dir) < 0)
        abort(); /* something was written */
    return 0;
}
