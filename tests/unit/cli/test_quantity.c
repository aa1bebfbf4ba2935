#include "lib/check.h"

#include "cli/quantity.h"

static void sizes(void **state)
{
    static const struct {
        const char *text;
        double bytes;
    } cases[] = { { "10GB", 1e10 }, { "512MiB", 536870912 },
                  { "4096", 4096 }, { "1.5kB", 1500 },
                  { "0", 0 },       { "7B", 7 },
                  { ".5TB", 5e11 }, { "1TiB", 0x1p40 } };
    double n;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(quantity_bytes(cases[i].text, &n));
        assert_true(n == cases[i].bytes);
    }
}

static void rates(void **state)
{
    double n;

    (void)state;
    assert_true(quantity_rate("10Gbit", &n));
    assert_true(n == 1.25e9);
    assert_true(quantity_rate("100Mbit/s", &n));
    assert_true(n == 12.5e6);
    assert_true(quantity_rate("125MB/s", &n));
    assert_true(n == 125e6);
    assert_false(quantity_rate("100", &n)); /* of what? */
    assert_false(quantity_rate("100/s", &n));
    assert_false(quantity_rate("100mbit", &n));
}

static void shares_and_times(void **state)
{
    int64_t ns;
    double n;

    (void)state;
    assert_true(quantity_share("1%", &n));
    assert_true(n == 0.01);
    assert_true(quantity_share("0.25", &n));
    assert_true(n == 0.25);
    assert_false(quantity_share("101%", &n));
    assert_true(quantity_ns("250us", &ns));
    assert_int_equal(ns, 250000);
    assert_true(quantity_ns("2s", &ns));
    assert_int_equal(ns, 2000000000);
    assert_true(quantity_ns("2", &ns));
    assert_int_equal(ns, 2000000000);
    assert_false(quantity_ns("2x", &ns));
    assert_true(quantity_number("8", &n));
    assert_true(n == 8);
}

static void nonsense_changes_nothing(void **state)
{
    static const char *const texts[] = { "",    "GB",  "-1GB", "+1GB", " 1GB", "1 GB", "1GBB",
                                         "inf", "nan", "1e30", "1gb",  "1GB ", "GB1" };
    double n = 42;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_false(quantity_bytes(texts[i], &n));
        assert_true(n == 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(rates),
        cmocka_unit_test(shares_and_times),
        cmocka_unit_test(nonsense_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
