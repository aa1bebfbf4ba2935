#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "lib/check.h"
#include "wire/member.h"
#include "wire/predicate.h"

static const struct label labels[] = {
    { "arch", "amd64" },
    { "rack", "r7" },
    { "region", "eu" },
};

static void test_match(void **state)
{
    static const struct {
        const char *json;
        bool match;
    } cases[] = {
        { "{}", true },
        { "{\"label\":\"arch\",\"is\":\"amd64\"}", true },
        { "{\"label\":\"arch\",\"is\":\"arm64\"}", false },
        { "{\"label\":\"os\",\"is\":\"linux\"}", false },
        { "{\"label\":\"arch\",\"in\":[\"x\",\"amd64\"]}", true },
        { "{\"label\":\"arch\",\"in\":[]}", false },
        { "{\"label\":\"os\",\"in\":[\"\"]}", false },
        { "{\"label\":\"rack\",\"exists\":true}", true },
        { "{\"label\":\"rack\",\"exists\":false}", false },
        { "{\"label\":\"os\",\"exists\":false}", true },
        { "{\"all\":[]}", true },
        { "{\"any\":[]}", false },
        { "{\"none\":[]}", true },
        { "{\"all\":[{\"label\":\"arch\",\"is\":\"amd64\"},{\"label\":\"rack\",\"is\":\"r7\"}]}",
          true },
        { "{\"all\":[{\"label\":\"arch\",\"is\":\"amd64\"},{\"label\":\"rack\",\"is\":\"r8\"}]}",
          false },
        { "{\"any\":[{\"label\":\"arch\",\"is\":\"x\"},{\"label\":\"rack\",\"is\":\"r7\"}]}",
          true },
        { "{\"none\":[{\"label\":\"arch\",\"is\":\"x\"},{\"label\":\"rack\",\"is\":\"r7\"}]}",
          false },
        { "{\"none\":[{\"any\":[{\"label\":\"region\",\"is\":\"us\"}]}]}", true },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct predicate *p = NULL;

        assert_ok(predicate_parse(&p, cases[i].json, &err), &err);
        if (predicate_match(p, labels, COUNT_OF(labels)) != cases[i].match)
            fail_msg("%s", cases[i].json);
        predicate_free(p);
    }
}

static void test_malformed(void **state)
{
    static const struct {
        const char *json;
        const char *part;
    } cases[] = {
        { "", "not JSON" },
        { "[]", "not an object" },
        { "{\"label\":\"a\"}", "label a: needs exactly one of is, in, exists" },
        { "{\"label\":\"a\",\"is\":\"x\",\"in\":[]}", "needs exactly one of is, in, exists" },
        { "{\"label\":\"\",\"is\":\"x\"}", "label: empty" },
        { "{\"label\":7,\"is\":\"x\"}", "label: not a text" },
        { "{\"label\":\"a\",\"is\":7}", "value must be a text" },
        { "{\"label\":\"a\",\"in\":[7]}", "value must be a text" },
        { "{\"label\":\"a\",\"in\":\"x\"}", "in: not an array" },
        { "{\"label\":\"a\",\"exists\":1}", "exists: not true or false" },
        { "{\"label\":\"a\",\"isnt\":\"x\"}", "did you mean 'is'" },
        { "{\"lable\":\"a\",\"is\":\"x\"}", "did you mean 'label'" },
        { "{\"all\":{}}", "all: not an array" },
        { "{\"all\":[],\"any\":[]}", "needs exactly one of all, any, none" },
        { "{\"any\":[{},{\"all\":[7]}]}", "any[2]: all[1]: not an object" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct predicate *p = NULL;

        assert_error(predicate_parse(&p, cases[i].json, &err), ERR_INVALID, &err, cases[i].part);
        assert_null(p);
    }
}

static char *nested(size_t depth)
{
    struct buf b = BUF_INIT;

    for (size_t i = 1; i < depth; i++)
        buf_str_append(&b, "{\"all\":[");
    buf_str_append(&b, "{}");
    for (size_t i = 1; i < depth; i++)
        buf_str_append(&b, "]}");
    return buf_steal(&b);
}

static char *wide(size_t nodes)
{
    struct buf b = BUF_INIT;

    buf_str_append(&b, "{\"any\":[");
    for (size_t i = 1; i < nodes; i++)
        buf_str_append(&b, i == 1 ? "{}" : ",{}");
    buf_str_append(&b, "]}");
    return buf_steal(&b);
}

static void test_limits(void **state)
{
    struct {
        char *json;
        const char *part; /* NULL: fits */
    } cases[] = {
        { nested(8), NULL },
        { nested(9), "nested deeper than 8" },
        { wide(256), NULL },
        { wide(257), "more than 256 predicates" },
        { mem_printf("{\"label\":\"%0129d\",\"exists\":true}", 7), "label: longer than 128" },
        { mem_printf("{\"label\":\"a\",\"is\":\"%0257d\"}", 7), "longer than 256 bytes" },
        { mem_printf("{}%70000s", ""), "longer than 65536 bytes" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct predicate *p = NULL;

        if (cases[i].part == NULL)
            assert_ok(predicate_parse(&p, cases[i].json, &err), &err);
        else
            assert_error(predicate_parse(&p, cases[i].json, &err), ERR_LIMIT, &err, cases[i].part);
        predicate_free(p);
        free(cases[i].json);
    }
}

static void test_variant(void **state)
{
    static const struct {
        const char *rule;
        const char *variant; /* NULL: none */
        const char *error;   /* of variant_check(); NULL: sound */
    } cases[] = {
        { "{}", "default", NULL },
        { "{\"by_label\":\"arch\"}", "amd64", NULL },
        { "{\"by_label\":\"os\"}", NULL, NULL },
        { "{\"by_label\":\"arch\",\"map\":{\"amd64\":\"x86-64\"}}", "x86-64", NULL },
        { "{\"by_label\":\"arch\",\"map\":{}}", NULL, NULL },
        { "[]", NULL, "not an object" },
        { "{\"map\":{}}", NULL, "by_label: missing" },
        { "{\"by_label\":7}", NULL, "by_label: not a text" },
        { "{\"by_label\":\"rack\",\"map\":7}", NULL, "map: not an object" },
        { "{\"by_label\":\"rack\",\"map\":{\"a\":7}}", NULL, "map: a: not a variant's name" },
        { "{\"by_label\":\"rack\",\"map\":{\"a\":\"\"}}", NULL, "map: a: not a variant's name" },
        { "{\"label\":\"rack\"}", NULL, "unknown field 'label'" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO_JSON *rule = NULL;
        const char *got;

        assert_ok(json_parse(&rule, cases[i].rule, strlen(cases[i].rule), &err), &err);
        got = variant_of(rule, labels, COUNT_OF(labels));
        if (cases[i].variant == NULL)
            assert_null(got);
        else
            assert_string_equal(got, cases[i].variant);
        if (cases[i].error == NULL)
            assert_ok(variant_check(rule, &err), &err);
        else
            assert_error(variant_check(rule, &err), ERR_INVALID, &err, cases[i].error);
    }
}

/* The value is part of the format: it was computed with sha256sum. */
static void test_wave_hash(void **state)
{
    (void)state;
    assert_int_equal(wave_hash("d-1", "m-1"), 0x01dc73e627c53e43ULL);
    assert_true(wave_hash("d-1", "m-2") != wave_hash("d-1", "m-1"));
    assert_true(wave_hash("d-2", "m-1") != wave_hash("d-1", "m-1"));
    assert_true(wave_hash("d", "-1m-1") != wave_hash("d-1", "m-1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),     cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_variant),
        cmocka_unit_test(test_wave_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
