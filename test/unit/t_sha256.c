/* base/sha256.c: the standard's examples, and libcrypto's answer for every length around a block.
 */
#include "test/unit/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "image/digest.h"

static void check(const void *p, size_t n, const char *want)
{
    uint8_t sum[SHA256_BYTES];
    char text[2 * SHA256_BYTES + 1];

    sha256(p, n, sum);
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", sum[i]);
    assert_string_equal(text, want);
}

static void the_standards_examples_come_out(void **state)
{
    check("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void it_says_what_libcrypto_says(void **state)
{
    uint8_t bytes[300];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + 3);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        char want[DIGEST_MAX];
        struct digest *d = digest_new();

        assert_non_null(d);
        digest_add(d, bytes, n);
        digest_end(d, want);
        digest_free(d);
        check(bytes, n, digest_hex(want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_examples_come_out),
        cmocka_unit_test(it_says_what_libcrypto_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
