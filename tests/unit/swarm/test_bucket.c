#include "lib/check.h"

#include "swarm/bucket.h"

enum { SECOND_MS = 1000, UNIT = 1000 };

static uint64_t pass(struct bucket *b, int64_t from_ms, int64_t until_ms)
{
    uint64_t passed = 0;

    for (int64_t t = from_ms; t < until_ms; t++) {
        while (passed < 100 * SECOND_MS * UNIT && bucket_wait_ms(b, t) == 0) {
            bucket_take(b, UNIT, t);
            passed += UNIT;
        }
    }
    return passed;
}

static void without_a_rate_all_passes(void **state)
{
    struct bucket b = { 0 };

    (void)state;
    bucket_take(&b, 1u << 30, 0);
    assert_int_equal(bucket_wait_ms(&b, 0), 0);
}

static void a_rate_is_kept(void **state)
{
    static const uint64_t rates[] = { 500, 10000, 1000000 };

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        struct bucket b = { 0 };
        uint64_t passed;

        bucket_set(&b, rates[i], 5);
        passed = pass(&b, 5, 5 + 10 * SECOND_MS);
        assert_in_range(passed, rates[i] * 10, rates[i] * 10 + rates[i] / 10 + UNIT);
    }
}

static void a_large_unit_is_paid_off(void **state)
{
    struct bucket b = { 0 };

    (void)state;
    bucket_set(&b, 1000, 0);
    bucket_take(&b, 5000, 0);
    assert_int_equal(bucket_wait_ms(&b, 0), 5001);
    assert_in_range(bucket_wait_ms(&b, 4000), 1, 1001);
    assert_int_equal(bucket_wait_ms(&b, 5000), 0);
}

static void idleness_saves_up_little(void **state)
{
    struct bucket b = { 0 };

    (void)state;
    bucket_set(&b, 10000, 0);
    assert_in_range(pass(&b, 3600 * SECOND_MS, 3600 * SECOND_MS + 1), UNIT, 2 * UNIT);
}

static void a_new_rate_holds_at_once(void **state)
{
    struct bucket b = { 0 };

    (void)state;
    bucket_set(&b, 1000, 0);
    bucket_take(&b, 10000, 0);
    bucket_set(&b, 10000, 0);
    assert_in_range(bucket_wait_ms(&b, 0), 1000, 1001);
    bucket_set(&b, 0, 0);
    assert_int_equal(bucket_wait_ms(&b, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rate_all_passes), cmocka_unit_test(a_rate_is_kept),
        cmocka_unit_test(a_large_unit_is_paid_off),  cmocka_unit_test(idleness_saves_up_little),
        cmocka_unit_test(a_new_rate_holds_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
