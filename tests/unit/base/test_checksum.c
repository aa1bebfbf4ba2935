#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LEN = 300 };

static void fill(unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(i * 131 + i / 7);
}

static void every_flipped_bit_is_noticed(void **state)
{
    unsigned char bytes[LEN];
    uint64_t whole;

    (void)state;
    fill(bytes, LEN);
    whole = checksum_of(bytes, LEN);
    for (size_t bit = 0; bit < LEN * 8; bit++) {
        bytes[bit / 8] = (unsigned char)(bytes[bit / 8] ^ 1 << bit % 8);
        assert_true(checksum_of(bytes, LEN) != whole);
        bytes[bit / 8] = (unsigned char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    assert_true(checksum_of(bytes, LEN) == whole);
}

/* Also where what is cut off or added is zero. */
static void length_counts(void **state)
{
    static const unsigned char zeros[LEN];
    uint64_t seen[LEN];

    (void)state;
    for (size_t len = 0; len < LEN; len++) {
        seen[len] = checksum_of(zeros, len);
        for (size_t other = 0; other < len; other++)
            assert_true(seen[other] != seen[len]);
    }
}

static void order_counts(void **state)
{
    unsigned char a[LEN], b[LEN];

    (void)state;
    fill(a, LEN);
    for (size_t at = 8; at + 8 <= LEN; at += 8) {
        memcpy(b, a, LEN);
        memcpy(b, a + at, 8);
        memcpy(b + at, a, 8);
        assert_true(checksum_of(a, LEN) != checksum_of(b, LEN));
    }
}

static void alignment_does_not_count(void **state)
{
    unsigned char bytes[LEN + 8];
    uint64_t first;

    (void)state;
    fill(bytes, LEN);
    first = checksum_of(bytes, LEN);
    for (size_t at = 1; at < 8; at++) {
        memmove(bytes + at, bytes + at - 1, LEN);
        assert_true(checksum_of(bytes + at, LEN) == first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(length_counts),
        cmocka_unit_test(order_counts),
        cmocka_unit_test(alignment_does_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
