/* The policy host: killed past its deadline, started again, and never fooled into an answer. This
 * program is its own child: it is started again with the argument "policy-host". */
#include "unit/policy/asking.h"

#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "wire/utf8.h"

static int setup(void **state)
{
    struct policy_host *h;
    struct err err = ERR_INIT;
    assert_ok(policy_host_new(&h, "/proc/self/exe", &err), &err);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    policy_host_free(*state);
    return 0;
}

/* A sound policy with this advance. */
static struct bundle *advancing(const char *body)
{
    AUTO_FREE char *text =
        mem_printf("local s = require 'slipway' return { service = 'web', activate = { start = { "
                   "'x' } }, build = function(ctx) return { steps = { { sh = ctx.ref } }, outputs "
                   "= 'o' } end, advance = function(x) %s end }",
                   body);
    return bundle_of(text);
}

static int advance(struct policy_host *h, const char *body, json_t **ret, struct err *err)
{
    struct bundle *b = advancing(body);
    json_t *input = json_pack("{s:{s:s},s:{}}", "wave", "name", "one", "memo");
    int rc = policy_call(h, b, POLICY_ADVANCE, input, ret, err);
    json_decref(input);
    bundle_free(b);
    return rc;
}

static void a_question_is_answered(void **state)
{
    struct err err = ERR_INIT;
    json_t *answer;
    assert_ok(advance(*state, "return s.wait(x.wave.name)", &answer, &err), &err);
    assert_string_equal(json_string_value(json_object_get(answer, "reason")), "one");
    json_decref(answer);
}

static void data_is_checked(void **state)
{
    struct err err = ERR_INIT;
    struct bundle *b = advancing("");
    json_t *data;
    assert_ok(policy_data(*state, b, &data, &err), &err);
    assert_true(json_is_true(json_object_get(json_object_get(data, "functions"), "advance")));
    json_decref(data);
    bundle_free(b);

    b = bundle_of("return { service = 'web' }");
    assert_error(policy_data(*state, b, &data, &err), ERR_POLICY, &err,
                 "web.lua: activate: missing");
    assert_null(data);
    bundle_free(b);
}

static void the_other_questions_have_defaults(void **state)
{
    struct err err = ERR_INIT;
    struct bundle *b = advancing("");
    json_t *answer, *input = json_pack("{s:s}", "ref", "true");
    assert_ok(policy_call(*state, b, POLICY_BUILD, input, &answer, &err), &err);
    json_decref(answer);
    json_decref(input);
    input = json_pack("{s:i,s:i,s:i,s:{}}", "total", 3, "verified", 3, "failed", 0, "region");
    assert_ok(policy_call(*state, b, POLICY_REPLICATE, input, &answer, &err), &err);
    assert_string_equal(json_string_value(json_object_get(answer, "action")), "go");
    json_decref(answer);
    json_decref(input);
    input = json_pack("{s:i}", "total", 12);
    assert_ok(policy_call(*state, b, POLICY_WAVES, input, &answer, &err), &err);
    assert_int_equal(json_array_size(answer), 3);
    json_decref(answer);
    json_decref(input);
    bundle_free(b);
}

static void an_error_is_the_policys(void **state)
{
    struct err err = ERR_INIT;
    json_t *answer;
    assert_error(advance(*state, "\n\nreturn x.no.field", &answer, &err), ERR_POLICY, &err,
                 "web.lua:3: attempt to index a nil value (field 'no')");
    assert_null(answer);
    assert_error(advance(*state, "return { action = 'go', go = 1 }", &answer, &err), ERR_POLICY,
                 &err, "web.lua: advance: unknown field 'go'");
    assert_error(advance(*state, "error('a\\255b ä\\240')", &answer, &err), ERR_POLICY, &err,
                 "web.lua:1: a?b ä?");
    assert_error(
        advance(*state, "return { action = 'go', [('ä'):rep(32) .. 'äx'] = 1 }", &answer, &err),
        ERR_POLICY, &err, "web.lua: advance: unknown field");
    assert_true(utf8_valid(err.text, strlen(err.text)));
}

/* Comparing two long texts takes long and is one step, so that only the deadline can end it. */
static const char endless[] = "local a = ('x'):rep(65536) for _ = 1, 5 do a = a .. a end "
                              "local b = a:sub(1, -2) .. 'x' while a == b do end";

static void past_the_deadline_it_is_killed_and_comes_back(void **state)
{
    struct err err = ERR_INIT;
    json_t *answer;
    for (int i = 0; i < 2; i++) {
        assert_error(advance(*state, endless, &answer, &err), ERR_TIMEOUT, &err,
                     "web.lua: advance: ran longer than 200 ms");
        assert_null(answer);
        assert_ok(advance(*state, "return s.go()", &answer, &err), &err);
        json_decref(answer);
    }
}

static void endless_steps_end(void **state)
{
    struct err err = ERR_INIT;
    json_t *answer;
    int rc = advance(*state, "while true do end", &answer, &err);
    assert_true(rc == -ERR_POLICY || rc == -ERR_TIMEOUT); /* by fuel, or by a slow machine's kill */
    assert_null(answer);
}

static void an_input_has_a_limit(void **state)
{
    struct err err = ERR_INIT;
    AUTO_BUF text = BUF_INIT;
    for (int i = 0; i < POLICY_INPUT_MAX_BYTES; i++)
        buf_char(&text, 'x');
    struct bundle *b = advancing("return s.go()");
    json_t *input = json_pack("{s:s}", "x", text.data), *answer;
    assert_error(policy_call(*state, b, POLICY_ADVANCE, input, &answer, &err), ERR_LIMIT, &err,
                 "web.lua: advance: the input is longer than 1 MiB");
    json_decref(input);
    bundle_free(b);
}

static void a_program_that_is_no_host_is_an_error(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct policy_host *h;
    assert_error(policy_host_new(&h, "/nonexistent/engine", &err), ERR_NOT_FOUND, &err,
                 "policy host: /nonexistent/engine: no such program");
    assert_null(h);
    assert_ok(policy_host_new(&h, "/bin/true", &err), &err);
    json_t *answer;
    assert_error(advance(h, "return s.go()", &answer, &err), ERR_INTERNAL, &err,
                 "policy host: /bin/true does not start");
    policy_host_free(h);
    policy_host_free(NULL);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "policy-host") == 0)
        _exit(
            policy_host_main()); /* without the leak check, which a child without rights cannot do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_question_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(data_is_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(the_other_questions_have_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_is_the_policys, setup, teardown),
        cmocka_unit_test_setup_teardown(past_the_deadline_it_is_killed_and_comes_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(endless_steps_end, setup, teardown),
        cmocka_unit_test_setup_teardown(an_input_has_a_limit, setup, teardown),
        cmocka_unit_test(a_program_that_is_no_host_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
