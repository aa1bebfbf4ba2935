#include <stdlib.h>

#include "lib/check.h"
#include "wire/json.h"

static json_t *parse(const char *text)
{
    struct err err = ERR_INIT;
    json_t *json = NULL;

    assert_ok(json_parse(&json, text, strlen(text), &err), &err);
    return json;
}

static void test_parse_refuses(void **state)
{
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        { "", "line 1" },
        { "{", "line 1" },
        { "{} {}", "end of file expected" },
        { "{\"a\":1,\"a\":2}", "duplicate" },
        { "\"\\u0000\"", "\\u0000" },
        { "\"\xff\"", "unable to decode byte" },
        { "{\"a\":\n1,}", "line 2" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = ERR_INIT;
        json_t *json = NULL;

        assert_error(json_parse(&json, cases[i].text, strlen(cases[i].text), &err), ERR_INVALID,
                     &err, cases[i].part);
        assert_null(json);
    }
}

static void test_text_is_canonical(void **state)
{
    AUTO_JSON *json = parse("{ \"b\" : [1, true, null], \"a\": \"x\" }");
    char *text = json_text(json);

    (void)state;
    assert_string_equal(text, "{\"a\":\"x\",\"b\":[1,true,null]}");
    free(text);
}

static void test_text_getters(void **state)
{
    AUTO_JSON *json = parse("{\"s\":\"abc\",\"n\":1,\"z\":null}");
    struct err err = ERR_INIT;
    const char *s = NULL;

    (void)state;
    assert_ok(json_get_text(json, "s", 3, &s, &err), &err);
    assert_string_equal(s, "abc");
    assert_error(json_get_text(json, "s", 2, &s, &err), ERR_LIMIT, &err, "s: longer than 2");
    assert_error(json_get_text(json, "n", 9, &s, &err), ERR_INVALID, &err, "n: not a text");
    assert_error(json_get_text(json, "q", 9, &s, &err), ERR_INVALID, &err, "q: missing");
    assert_error(json_get_text(json, "z", 9, &s, &err), ERR_INVALID, &err, "z: missing");
    assert_ok(json_get_text_or(json, "z", 9, "def", &s, &err), &err);
    assert_string_equal(s, "def");
    assert_ok(json_get_text_or(json, "s", 9, "def", &s, &err), &err);
    assert_string_equal(s, "abc");
    assert_error(json_get_text_or(json, "n", 9, "def", &s, &err), ERR_INVALID, &err, "n: not a");
}

static void test_number_getters(void **state)
{
    AUTO_JSON *json = parse("{\"n\":5,\"r\":1.5,\"b\":true,\"z\":null}");
    struct err err = ERR_INIT;
    int64_t n = 0;
    bool b = false;

    (void)state;
    assert_ok(json_get_int(json, "n", 5, 5, &n, &err), &err);
    assert_int_equal(n, 5);
    assert_error(json_get_int(json, "n", 6, 9, &n, &err), ERR_INVALID, &err, "n: 5 is not in 6..9");
    assert_error(json_get_int(json, "n", 0, 4, &n, &err), ERR_INVALID, &err, "n: 5 is not in 0..4");
    assert_error(json_get_int(json, "r", 0, 9, &n, &err), ERR_INVALID, &err, "r: not an integer");
    assert_error(json_get_int(json, "q", 0, 9, &n, &err), ERR_INVALID, &err, "q: missing");
    assert_ok(json_get_int_or(json, "q", 0, 9, 7, &n, &err), &err);
    assert_int_equal(n, 7);
    assert_error(json_get_int_or(json, "b", 0, 9, 7, &n, &err), ERR_INVALID, &err, "b: not an");
    assert_ok(json_get_bool_or(json, "b", false, &b, &err), &err);
    assert_true(b);
    assert_ok(json_get_bool_or(json, "z", false, &b, &err), &err);
    assert_false(b);
    assert_error(json_get_bool_or(json, "n", false, &b, &err), ERR_INVALID, &err, "n: not true");
}

static void test_hash_getters(void **state)
{
    struct hash want = sha256_of("x", 1);
    json_t *json = json_object();
    struct err err = ERR_INIT;
    struct hash h;

    (void)state;
    json_object_set_new(json, "h", json_hash(&want));
    json_object_set_new(json, "short", json_string("abcd"));
    assert_ok(json_get_hash(json, "h", &h, &err), &err);
    assert_memory_equal(&h, &want, sizeof(h));
    assert_error(json_get_hash(json, "short", &h, &err), ERR_INVALID, &err, "short: not a digest");
    assert_error(json_get_hash(json, "q", &h, &err), ERR_INVALID, &err, "q: missing");
    assert_ok(json_get_hash_or_zero(json, "q", &h, &err), &err);
    assert_true(hash_is_zero(&h));
    assert_error(json_get_hash_or_zero(json, "short", &h, &err), ERR_INVALID, &err, "short");
    json_decref(json);
}

static void test_container_getters(void **state)
{
    AUTO_JSON *json = parse("{\"o\":{},\"a\":[1,2,3]}");
    struct err err = ERR_INIT;
    const json_t *v = NULL;

    (void)state;
    assert_ok(json_get_object(json, "o", &v, &err), &err);
    assert_error(json_get_object(json, "a", &v, &err), ERR_INVALID, &err, "a: not an object");
    assert_error(json_get_object(json, "q", &v, &err), ERR_INVALID, &err, "q: missing");
    assert_ok(json_get_array(json, "a", 3, &v, &err), &err);
    assert_error(json_get_array(json, "a", 2, &v, &err), ERR_LIMIT, &err, "a: more than 2");
    assert_error(json_get_array(json, "o", 2, &v, &err), ERR_INVALID, &err, "o: not an array");
    assert_error(json_get_array(json, "q", 2, &v, &err), ERR_INVALID, &err, "q: missing");
}

static void test_only(void **state)
{
    static const char *const known[] = { "interval", "timeout", NULL };
    AUTO_JSON *good = parse("{\"timeout\":1}");
    AUTO_JSON *typo = parse("{\"intervall\":1}");
    AUTO_JSON *far = parse("{\"something\":1}");
    AUTO_JSON *list = parse("[]");
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(json_only(good, known, &err), &err);
    assert_error(json_only(typo, known, &err), ERR_INVALID, &err,
                 "unknown field 'intervall' (did you mean 'interval'?)");
    assert_error(json_only(far, known, &err), ERR_INVALID, &err, "unknown field 'something'");
    assert_null(strstr(err.text, "did you mean"));
    assert_error(json_only(list, known, &err), ERR_INVALID, &err, "not an object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_refuses), cmocka_unit_test(test_text_is_canonical),
        cmocka_unit_test(test_text_getters),  cmocka_unit_test(test_number_getters),
        cmocka_unit_test(test_hash_getters),  cmocka_unit_test(test_container_getters),
        cmocka_unit_test(test_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
