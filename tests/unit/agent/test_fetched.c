#include "lib/check.h"

#include "base/mem.h"
#include "fetched.h"
#include "swarm/figures.h"

enum { MB = 1000000 };

static void test_rates_are_read(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = { { "1", 1 }, { "500K", 512000 }, { "10M", 10485760 }, { "1.5G", 1610612736 } };
    static const char *const bad[] = { "", "M", "-1", "0", "1T", "10Mb", "1e99", "nan" };
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_int_equal(rate_parse(good[i].text, &n), 0);
        assert_int_equal(n, good[i].bytes);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_int_equal(rate_parse(bad[i], &n), -1);
}

/* What it is measured by: what is known best. */
static void test_which_rate_counts(void **state)
{
    static const struct {
        struct fetched_rates rates;
        uint64_t rate;
        enum rate_from from;
    } cases[] = {
        { { 10 * MB, 100 * MB, 9 * MB }, 10 * MB, RATE_LIMIT },
        { { 10 * MB, 0, 90 * MB }, 10 * MB, RATE_LIMIT },
        { { 200 * MB, 100 * MB, 0 }, 100 * MB, RATE_LINK }, /* a limit that cannot be reached */
        { { 0, 100 * MB, 90 * MB }, 100 * MB, RATE_LINK },
        { { 0, 0, 90 * MB }, 90 * MB, RATE_OBSERVED },
        { { 0, 0, 5 * MB }, 10 * MB, RATE_OBSERVED }, /* the average is more */
        { { 0, 0, 0 }, 10 * MB, RATE_OBSERVED },
        { { UINT64_C(1) << 60, 0, 0 }, FIGURES_RATE_MAX, RATE_LIMIT },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct fetched f = { .m = { .bytes = 20 * MB, .ms = 2000 } };

        fetched_rate(&f, &cases[i].rates);
        assert_int_equal(f.m.rate, cases[i].rate);
        assert_int_equal(f.m.rate_from, cases[i].from);
    }
}

static void test_without_bytes_there_is_no_rate(void **state)
{
    struct fetched f = { .m = { .bytes = 0, .ms = 2000 } };

    (void)state;
    fetched_rate(&f, &(struct fetched_rates){ 0, 0, 0 });
    assert_int_equal(f.m.rate, 0);
    assert_int_equal(f.m.rate_from, RATE_NONE);
    f.m.bytes = 100;
    fetched_rate(&f, &(struct fetched_rates){ 0, 0, 0 });
    assert_int_equal(f.m.rate_from, RATE_NONE);
}

/* A tally becomes a PROGRESS that a region node believes. */
static void test_what_is_tallied_is_told(void **state)
{
    struct exchange_tally t = { .bytes = 20 * MB,
                                .near_bytes = 12 * MB,
                                .far_bytes = 3 * MB,
                                .stolen = 1,
                                .doubled = 2,
                                .useless = 3,
                                .bad = 4,
                                .banned = { "m-07", "m-08" },
                                .nbanned = 2 };
    struct fetched f = { .m = { .done = 1, .ms = 2100 } };
    struct msg_progress p = { .staged_bytes = 20 * MB, .wanted_bytes = 20 * MB };
    struct fetched_room room;
    const struct msg_banned *banned;
    struct err err = ERR_INIT;

    (void)state;
    fetched_set(&f, &t);
    fetched_rate(&f, &(struct fetched_rates){ 10 * MB, 0, 0 });
    fetched_tell(&f, &room, &p);
    assert_ok(figures_check(&p, 0, &err), &err);
    assert_int_equal(p.fetch.count, 1);
    assert_int_equal(room.fetch.near_bytes, 12 * MB);
    assert_int_equal(room.fetch.bad, 4);
    assert_int_equal(figures_ratio(&room.fetch), 1050);
    banned = room.fetch.banned.items;
    assert_int_equal(room.fetch.banned.count, 2);
    assert_string_equal(banned[1].machine, "m-08");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_read),
        cmocka_unit_test(test_which_rate_counts),
        cmocka_unit_test(test_without_bytes_there_is_no_rate),
        cmocka_unit_test(test_what_is_tallied_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
