#include "lib/check.h"

#include <string.h>

#include "cli/curve.h"

static size_t count(const struct buf *b, const char *what)
{
    const char *at = buf_str(b);
    size_t n = 0;

    for (; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void draws_what_it_is_given(void **state)
{
    const double values[] = { 1.0, 1.1, 1.2, 1.5 };
    AUTO_BUF out = BUF_INIT;

    (void)state;
    curve_svg(&out, &(struct curve){ .title = "a < b & c",
                                     .x = "over",
                                     .y = "share",
                                     .values = values,
                                     .count = 4,
                                     .mark = 0.9,
                                     .mark_name = "bound" });
    assert_int_equal(strncmp(buf_str(&out), "<svg ", 5), 0);
    assert_int_equal(count(&out, "<polyline"), 1);
    assert_int_equal(count(&out, "a &lt; b &amp; c"), 1);
    assert_int_equal(count(&out, ">bound<"), 1);
    assert_int_equal(count(&out, "nan"), 0);
    assert_int_equal(count(&out, "x1=\"-"), 0); /* nothing to the left of the picture */
    assert_string_equal(buf_str(&out) + out.len - 7, "</svg>\n");
}

static void nothing_and_one_value_are_drawn_too(void **state)
{
    const double one = 1.25;
    AUTO_BUF none = BUF_INIT;
    AUTO_BUF single = BUF_INIT;

    (void)state;
    curve_svg(&none, &(struct curve){ .title = "", .x = "", .y = "" });
    assert_int_equal(count(&none, "<polyline"), 0);
    curve_svg(&single,
              &(struct curve){ .title = "", .x = "", .y = "", .values = &one, .count = 1 });
    assert_int_equal(count(&single, "<polyline"), 1);
    assert_int_equal(count(&single, "nan"), 0);
    assert_int_equal(count(&single, "inf"), 0);
}

static void many_values_do_not_make_it_long(void **state)
{
    static double values[100000];
    AUTO_BUF out = BUF_INIT;

    (void)state;
    for (size_t i = 0; i < 100000; i++)
        values[i] = 1 + (double)i / 100000;
    curve_svg(&out,
              &(struct curve){ .title = "", .x = "", .y = "", .values = values, .count = 100000 });
    assert_true(out.len < 32 * CURVE_POINTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_what_it_is_given),
        cmocka_unit_test(nothing_and_one_value_are_drawn_too),
        cmocka_unit_test(many_values_do_not_make_it_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
