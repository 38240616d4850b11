/* Libraries that few verbs need are loaded when one of their functions is called for the first
 * time: libarchive with what it brings along, libcrypto and libseccomp cost each start of kiln more
 * than a container's namespaces do (docs/architecture.md has the figures). Their callers include
 * the libraries' headers and notice nothing: tools/lazystubs.py writes a stub for each function
 * that is used, which jumps through a table, and lazy_resolve() fills the table in.
 *
 * What this keeps is what the dynamic linker would keep for the whole process. A library that is
 * not there ends the process as it would have at its start. Thread: any. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

extern void *lazy_slot[];
extern const char lazy_symbol[]; /* a byte: which library; a name with its NUL; ... 255 */
extern const char lazy_soname[]; /* names; an empty one */
extern const uint32_t lazy_count;

void *lazy_resolve(uint64_t index);

static const char *nth_library(unsigned n)
{
    const char *s = lazy_soname;

    while (n-- > 0)
        s += strlen(s) + 1;
    return s;
}

/* Called by the stubs. Two threads may both do it: they find the same. */
void *lazy_resolve(uint64_t index)
{
    const char *s = lazy_symbol;
    char why[256];

    BUG_ON(index >= lazy_count);
    for (uint64_t i = 0; i < index; i++)
        s += 1 + strlen(s + 1) + 1;
    void *library = dlopen(nth_library((unsigned char)s[0]), RTLD_NOW | RTLD_LOCAL);
    void *found = library ? dlsym(library, s + 1) : NULL;
    if (!found) {
        snprintf(why, sizeof(why), "%s", dlerror());
        BUG(why);
    }
    __atomic_store_n(&lazy_slot[index], found, __ATOMIC_RELAXED);
    return found;
}
