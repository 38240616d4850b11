/* The JSON documents of an image, and names as a user or an archive gives them. The first byte
 * chooses. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/names.h"
#include "image/ociconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void name(const uint8_t *p, size_t n)
{
    char out[OCI_NAME_MAX + 1], again[OCI_NAME_MAX + 1];
    char *s = strndup((const char *)p, n);

    /* A normal name is its own normal form, unless another registry's prefix came to light. */
    if (s && names_normalise(s, out, NULL) == 0)
        assert(strlen(out) <= OCI_NAME_MAX);
    if (s) {
        names_from_path(s, out);
        assert(names_normalise(out, again, NULL) == 0);
    }
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct oci_choice choice;
    struct oci_manifest m;
    struct oci_docker d;
    struct oci_config c;
    const char *tag = n > 1 && p[1] == '!' ? "latest" : NULL;

    if (n == 0)
        return 0;
    switch (*p++) {
    case 'i':
        if (oci_parse_index(p, n - 1, tag, &choice, NULL) == 0)
            assert(digest_is_valid(choice.digest));
        break;
    case 'm':
        if (oci_parse_manifest(p, n - 1, &m, NULL) == 0) {
            assert(digest_is_valid(m.config) && m.n_layers <= OCI_LAYERS_MAX);
            oci_manifest_done(&m);
        }
        break;
    case 'd':
        if (oci_parse_docker(p, n - 1, tag, &d, NULL) == 0) {
            assert(d.n_layers <= OCI_LAYERS_MAX);
            oci_docker_done(&d);
        }
        break;
    case 'c':
        if (oci_parse_config(p, n - 1, &c, NULL) == 0) {
            assert(c.n_diff_ids <= OCI_LAYERS_MAX);
            oci_config_done(&c);
        }
        break;
    default:
        name(p, n - 1);
    }
    return 0;
}
