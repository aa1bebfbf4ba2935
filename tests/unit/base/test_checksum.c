#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LEN = 300 };

/* What the processor can, and what every processor can. */
static uint64_t (*const both[])(const void *data, size_t len) = { checksum_of, checksum_by_words };

static void fill(unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(i * 131 + i / 7);
}

static void every_flipped_bit_is_noticed(uint64_t (*checksum)(const void *data, size_t len))
{
    unsigned char bytes[LEN];
    uint64_t whole;

    fill(bytes, LEN);
    whole = checksum(bytes, LEN);
    for (size_t bit = 0; bit < LEN * 8; bit++) {
        bytes[bit / 8] = (unsigned char)(bytes[bit / 8] ^ 1 << bit % 8);
        assert_true(checksum(bytes, LEN) != whole);
        bytes[bit / 8] = (unsigned char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    assert_true(checksum(bytes, LEN) == whole);
}

/* Also where what is cut off or added is zero. */
static void length_counts(uint64_t (*checksum)(const void *data, size_t len))
{
    static const unsigned char zeros[LEN];
    uint64_t seen[LEN];

    for (size_t len = 0; len < LEN; len++) {
        seen[len] = checksum(zeros, len);
        for (size_t other = 0; other < len; other++)
            assert_true(seen[other] != seen[len]);
    }
}

static void order_counts(uint64_t (*checksum)(const void *data, size_t len))
{
    unsigned char a[LEN], b[LEN];

    fill(a, LEN);
    for (size_t at = 8; at + 8 <= LEN; at += 8) {
        memcpy(b, a, LEN);
        memcpy(b, a + at, 8);
        memcpy(b + at, a, 8);
        assert_true(checksum(a, LEN) != checksum(b, LEN));
    }
}

static void alignment_does_not_count(uint64_t (*checksum)(const void *data, size_t len))
{
    unsigned char bytes[LEN + 8];
    uint64_t first;

    fill(bytes, LEN);
    first = checksum(bytes, LEN);
    for (size_t at = 1; at < 8; at++) {
        memmove(bytes + at, bytes + at - 1, LEN);
        assert_true(checksum(bytes + at, LEN) == first);
    }
}

static void test_every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        every_flipped_bit_is_noticed(both[i]);
}

static void test_length_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        length_counts(both[i]);
}

static void test_order_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        order_counts(both[i]);
}

static void test_alignment_does_not_count(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++)
        alignment_does_not_count(both[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_flipped_bit_is_noticed),
        cmocka_unit_test(test_length_counts),
        cmocka_unit_test(test_order_counts),
        cmocka_unit_test(test_alignment_does_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
