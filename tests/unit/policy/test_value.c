/* Values keep their kind on the way into Lua and back; what has no place in JSON is refused. */
#include "unit/policy/asking.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static const char echo[] = "return { advance = function(x) return x end }";

static void values_come_back_as_they_were(void **state)
{
    (void)state;
    static const char *const values[] = {
        "{}",
        "{\"a\":[1,2,3],\"b\":{\"c\":\"text\",\"d\":true,\"e\":false}}",
        "{\"big\":9223372036854775807,\"small\":-9223372036854775808,\"zero\":0}",
        "{\"float\":0.5,\"whole\":2.0}",
        "{\"list\":[[1],[{\"x\":\"y\"}]]}",
        "{\"\":\"empty name\",\"ä\":\"ü😀\"}",
    };
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        struct err err = ERR_INIT;
        json_t *answer = ask(echo, "advance", json_loads(values[i], 0, NULL), &err);
        assert_non_null(answer);
        AUTO_FREE char *text = json_text(answer);
        assert_string_equal(text, values[i]);
        json_decref(answer);
    }
}

static void null_is_absent_and_an_empty_list_is_a_table(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_t *answer = ask(echo, "advance", json_loads("{\"a\":null,\"b\":[]}", 0, NULL), &err);
    assert_non_null(answer);
    AUTO_FREE char *text = json_text(answer);
    assert_string_equal(text, "{\"b\":{}}");
    json_decref(answer);
}

static void answers_are_limited(void **state)
{
    (void)state;
    static const struct {
        const char *body, *error;
    } cases[] = {
        { "local t = {} for _ = 1, 16 do t = { t } end return t",
          "web.lua: advance[1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1]: is nested deeper "
          "than" },
        { "local t = {} for i = 1, 20001 do t[i] = i end return t",
          "web.lua: advance[20000]: the answer has more than 20,000 values" },
        { "local s = ('x'):rep(65536) local t = {} for i = 1, 17 do t[i] = s end return t",
          "web.lua: advance[17]: the texts of this answer are longer than 1 MiB" },
        { "return { a = { b = { c = type } } }",
          "web.lua: advance.a.b.c: a function has no place here" },
        { "return { ['a\\0b'] = 1 }", "web.lua: advance.a: a name holds a NUL" },
        { "return { ['\\255'] = 1 }", "the name is not UTF-8" },
        { "return { [true] = 1 }", "web.lua: advance: a key is neither a text nor a whole number" },
        { "return { [0] = 1 }", "web.lua: advance: is a list with holes" },
        { "return { [-1] = 1 }", "web.lua: advance: is a list with holes" },
        { "return { [2] = 1 }", "web.lua: advance: is a list with holes" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_FREE char *text = mem_printf("return { advance = function(x) %s end }", cases[i].body);
        struct err err = ERR_INIT;
        json_t *answer = ask(text, "advance", json_object(), &err);
        assert_null(answer);
        assert_error(-(int)err.code, ERR_POLICY, &err, cases[i].error);
    }
}

/* The deepest that is allowed, to be sure that the limit is where it is said to be. */
static void the_limits_themselves_are_allowed(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "local t = {} for _ = 1, 15 do t = { t } end return t",
        "local t = {} for i = 1, 19999 do t[i] = i end return t",
        "local s = ('x'):rep(65536) local t = {} for i = 1, 16 do t[i] = s end return t",
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        AUTO_FREE char *text = mem_printf("return { advance = function(x) %s end }", bodies[i]);
        struct err err = ERR_INIT;
        json_t *answer = ask(text, "advance", json_object(), &err);
        if (answer == NULL)
            fail_msg("%s: %s", bodies[i], err.text);
        json_decref(answer);
    }
}

/* The same question has the same answer, whatever the seeds of the process are. */
static void an_answer_is_reproducible(void **state)
{
    (void)state;
    const char *text = "return { advance = function(x) local t = {} for i = 1, 200 do "
                       "t['k' .. i * 7919 % 200] = i end local s = '' for k, v in pairs(t) do "
                       "s = s .. k .. v end return { s = s } end }";
    AUTO_FREE char *first = NULL;
    for (int i = 0; i < 3; i++) {
        struct err err = ERR_INIT;
        json_t *answer = ask(text, "advance", json_object(), &err);
        assert_non_null(answer);
        AUTO_FREE char *got = json_text(answer);
        json_decref(answer);
        if (first == NULL)
            first = mem_strdup(got);
        assert_string_equal(got, first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_back_as_they_were),
        cmocka_unit_test(null_is_absent_and_an_empty_list_is_a_table),
        cmocka_unit_test(answers_are_limited),
        cmocka_unit_test(the_limits_themselves_are_allowed),
        cmocka_unit_test(an_answer_is_reproducible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
