#include "lib/check.h"

#include <string.h>

#include "swarm/calendar.h"

static uint32_t put(struct calendar *c, int64_t at_ns, uint32_t kind)
{
    return calendar_put(c, at_ns, &(struct calendar_event){ .kind = kind });
}

static uint32_t take(struct calendar *c, int64_t *ret_at_ns)
{
    struct calendar_event e;

    assert_true(calendar_next(c, ret_at_ns, &e));
    return e.kind;
}

static void earlier_comes_first(void **state)
{
    struct calendar *c = calendar_new();
    struct calendar_event e;
    int64_t at;

    (void)state;
    (void)put(c, 30, 3);
    (void)put(c, 10, 1);
    (void)put(c, 20, 2);
    assert_int_equal(take(c, &at), 1);
    assert_int_equal(at, 10);
    assert_int_equal(take(c, &at), 2);
    assert_int_equal(take(c, &at), 3);
    assert_int_equal(at, 30);
    assert_false(calendar_next(c, &at, &e));
    calendar_free(c);
}

static void at_the_same_time_in_the_order_of_putting(void **state)
{
    enum { COUNT = 1000 };
    struct calendar *c = calendar_new();
    int64_t at;

    (void)state;
    for (uint32_t i = 0; i < COUNT; i++)
        (void)put(c, 5, i);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(take(c, &at), i);
    calendar_free(c);
}

static void moved_and_dropped(void **state)
{
    struct calendar *c = calendar_new();
    struct calendar_event e;
    uint32_t a, b, d;
    int64_t at;

    (void)state;
    a = put(c, 10, 1);
    b = put(c, 20, 2);
    d = put(c, CALENDAR_NEVER, 3);
    calendar_move(c, a, 30); /* later */
    calendar_move(c, d, 5);  /* earlier */
    calendar_drop(c, b);
    assert_int_equal(take(c, &at), 3);
    assert_int_equal(take(c, &at), 1);
    assert_int_equal(at, 30);
    (void)put(c, CALENDAR_NEVER, 4);
    assert_false(calendar_next(c, &at, &e)); /* never is never */
    calendar_free(c);
}

/* Only what is in the same bucket is known beforehand. */
static void what_comes_next_can_be_looked_at(void **state)
{
    struct calendar *c = calendar_new();
    int64_t at;

    (void)state;
    assert_null(calendar_peek(c, 0));
    for (uint32_t i = 0; i < 3; i++)
        (void)put(c, 10 + (int64_t)i, i);
    (void)put(c, (int64_t)1 << 30, 3);
    assert_int_equal(take(c, &at), 0);
    assert_int_equal(calendar_peek(c, 0)->kind, 1);
    assert_int_equal(calendar_peek(c, 1)->kind, 2);
    assert_null(calendar_peek(c, 2));
    assert_int_equal(take(c, &at), 1);
    assert_int_equal(take(c, &at), 2);
    assert_int_equal(take(c, &at), 3);
    assert_int_equal(at, 1 << 30);
    calendar_free(c);
}

/* Against the plain rule: the least time, then the oldest. Some times are moved before they come, to
 * earlier and later ones. */
static void many_over(int bits)
{
    enum { COUNT = 2000 };
    static int64_t times[COUNT];
    static uint32_t ids[COUNT];
    static bool gone[COUNT];
    struct calendar *c = calendar_new();
    uint64_t random = 7;
    size_t left = COUNT;
    int64_t at, before = -1;

    memset(gone, 0, sizeof(gone));
    for (uint32_t i = 0; i < COUNT; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        times[i] = (int64_t)(random >> (64 - bits));
        ids[i] = put(c, times[i], i);
    }
    for (uint32_t i = 0; i < COUNT; i += 3) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        times[i] = (int64_t)(random >> (64 - bits));
        calendar_move(c, ids[i], times[i]);
    }
    for (uint32_t i = 1; i < COUNT; i += 3) {
        calendar_drop(c, ids[i]);
        gone[i] = true;
        left--;
    }
    for (; left > 0; left--) {
        uint32_t i = take(c, &at);

        assert_false(gone[i]);
        assert_int_equal(at, times[i]);
        assert_true(at >= before);
        before = at;
        gone[i] = true;
        i = (uint32_t)(random = random * 6364136223846793005u + 1) % COUNT;
        if (!gone[i]) {
            times[i] = at + (int64_t)(random >> (64 - bits));
            calendar_move(c, ids[i], times[i]);
        }
    }
    calendar_free(c);
}

/* In one bucket of the wheel, in many of them, and mostly beyond. */
static void many_in_any_order(void **state)
{
    static const int bits[] = { 8, 24, 31, 40 };

    (void)state;
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
        many_over(bits[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(earlier_comes_first),
        cmocka_unit_test(at_the_same_time_in_the_order_of_putting),
        cmocka_unit_test(moved_and_dropped),
        cmocka_unit_test(what_comes_next_can_be_looked_at),
        cmocka_unit_test(many_in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
