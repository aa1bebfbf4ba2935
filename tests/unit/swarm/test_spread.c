#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "swarm/spread.h"

static void buckets_lie_side_by_side(void **state)
{
    uint64_t next = 0;

    (void)state;
    for (uint64_t v = 1; v <= SPREAD_MAX; v += v / 50 + 1) {
        size_t at = spread_index(v);

        assert_in_range(at, next, SPREAD_BUCKETS - 1);
        assert_in_range(spread_value(at), v - v / 128, v + v / 128);
        next = at;
    }
    for (size_t i = 0; i < SPREAD_BUCKETS; i++)
        assert_int_equal(spread_index(spread_value(i)), i);
    assert_int_equal(spread_index(SPREAD_MAX), SPREAD_BUCKETS - 1);
    assert_int_equal(spread_index(UINT64_MAX), SPREAD_BUCKETS - 1);
}

static void quantiles_are_those_of_the_numbers(void **state)
{
    struct spread *s = mem_alloc(sizeof(*s));

    (void)state;
    assert_int_equal(spread_at(s, 500), 0);
    for (uint64_t v = 1; v <= 10000; v++)
        spread_add(s, v);
    assert_in_range(spread_at(s, 500), 5000 - 40, 5000 + 40);
    assert_in_range(spread_at(s, 990), 9900 - 78, 9900 + 78);
    assert_in_range(spread_at(s, 1000), 10000 - 79, 10000 + 79);
    assert_in_range(spread_at(s, 0), 1, 1);
    assert_in_range(spread_upto(s, 5000), 5000, 5000 + 5000 / 64);
    free(s);
}

/* One slow machine of a hundred is what p99 leaves out, of ten it is p99. */
static void a_share_rounds_up(void **state)
{
    struct spread *s = mem_alloc(sizeof(*s));

    (void)state;
    spread_put(s, spread_index(10), 99);
    spread_put(s, spread_index(100), 1);
    assert_int_equal(spread_at(s, 990), 10);
    assert_int_equal(spread_at(s, 991), 100);
    s->total -= 90;
    s->counts[spread_index(10)] -= 90;
    assert_int_equal(spread_at(s, 990), 100);
    assert_int_equal(spread_at(s, 500), 10);
    free(s);
}

static void merged_is_as_if_added_together(void **state)
{
    struct spread *all = mem_alloc(sizeof(*all)), *halves = mem_alloc(sizeof(*halves));
    struct spread *other = mem_alloc(sizeof(*other));

    (void)state;
    for (uint64_t v = 0; v < 5000; v++) {
        spread_add(all, v * v);
        spread_add(v % 3 == 0 ? halves : other, v * v);
    }
    for (size_t i = 0; i < SPREAD_BUCKETS; i++)
        spread_put(halves, i, other->counts[i]);
    assert_memory_equal(all, halves, sizeof(*all));
    free(all);
    free(halves);
    free(other);
}

static void nonsense_is_not_added(void **state)
{
    struct spread *s = mem_alloc(sizeof(*s));

    (void)state;
    spread_put(s, SPREAD_BUCKETS, 1);
    spread_put(s, SIZE_MAX, 1);
    assert_int_equal(s->total, 0);
    spread_put(s, 3, UINT64_MAX);
    spread_put(s, 5, 1);
    assert_int_equal(s->total, UINT64_MAX);
    assert_int_equal(spread_at(s, 1000), 3);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_lie_side_by_side),
        cmocka_unit_test(quantiles_are_those_of_the_numbers),
        cmocka_unit_test(a_share_rounds_up),
        cmocka_unit_test(merged_is_as_if_added_together),
        cmocka_unit_test(nonsense_is_not_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
