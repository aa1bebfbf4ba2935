#include "lib/check.h"

#include <stdlib.h>

#include "base/mem.h"
#include "expand.h"

static const struct variable vars[] = { { "PORT", "8080" }, { "MACHINE", "${PORT}" } };

static void test_expand(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { "plain", "plain" },
        { "${PORT}", "8080" },
        { "http://127.0.0.1:${PORT}/x?${PORT}", "http://127.0.0.1:8080/x?8080" },
        { "${MACHINE}", "${PORT}" }, /* not looked at again */
        { "${OTHER} ${PORT", "${OTHER} ${PORT" },
        { "$$ $PORT $", "$$ $PORT $" },
        { "$${PORT}", "$8080" },
        { "${}", "${}" },
        { "${PORTS}${POR}", "${PORTS}${POR}" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF out = BUF_INIT;
        struct err err = ERR_INIT;

        assert_ok(expand(&out, cases[i].text, vars, COUNT_OF(vars), &err), &err);
        assert_string_equal(out.data, cases[i].want);
    }
}

static void test_limit(void **state)
{
    char *text = mem_alloc(EXPAND_MAX_BYTES + 2);
    char *argv[] = { text, NULL };
    char **out = NULL;
    AUTO_BUF b = BUF_INIT;
    struct err err = ERR_INIT;

    (void)state;
    memset(text, 'x', EXPAND_MAX_BYTES + 1);
    assert_error(expand(&b, text, vars, 1, &err), ERR_LIMIT, &err, "longer");
    assert_error(expand_argv(&out, argv, vars, 1, &err), ERR_LIMIT, &err, "argument 0");
    free(text);
}

static void test_argv(void **state)
{
    char *argv[] = { (char *)(uintptr_t) "a${PORT}", (char *)(uintptr_t) "", NULL };
    char **out;
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(expand_argv(&out, argv, vars, COUNT_OF(vars), &err), &err);
    assert_string_equal(out[0], "a8080");
    assert_string_equal(out[1], "");
    assert_null(out[2]);
    argv_free(out);
    argv_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_argv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
