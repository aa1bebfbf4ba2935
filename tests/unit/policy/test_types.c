/* What policies may say: each mistake has its own text, and what is left out gets its default. */
#include "unit/policy/asking.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "policy/shape.h"

/* A sound policy, to which `more` is added or which it overrides. */
#define POLICY_WITH(more)                                                                       \
    "local p = { service = 'web', build = { steps = { { run = { 'make' } } }, outputs = 'o' }," \
    " activate = { start = { 'bin/web' } } } " more " return p"

static int policy_of(const char *text, json_t **ret, struct err *err)
{
    json_t *raw = ask(text, "data", NULL, err);
    *ret = NULL;
    if (raw == NULL)
        return -(int)err->code;
    int rc = types_policy(ret, "web.lua", raw, err);
    json_decref(raw);
    return rc;
}

struct mistake {
    const char *code, *error;
};

static const struct mistake mistakes[] = {
    { "p.service = nil", "web.lua: service: missing" },
    { "p.service = 7", "web.lua: service: must be a text" },
    { "p.service = ''", "web.lua: service: must not be empty" },
    { "p.service = 'a/b'", "web.lua: service: must be letters, digits, \"-\", \"_\" and \".\", and "
                           "begin with a letter or digit" },
    { "p.service = '..'", "web.lua: service: must be letters, digits, \"-\", \"_\" and \".\", and "
                          "begin with a letter or digit" },
    { "p.service = ('x'):rep(65)", "web.lua: service: must be at most 64 bytes" },
    { "p.servise = 'x'", "web.lua: unknown field 'servise' (did you mean 'service'?)" },
    { "p.xyzzy_plugh = 'x'", "web.lua: unknown field 'xyzzy_plugh'" },
    { "p.repo = {}", "web.lua: repo: must be a text" },
    { "p.build = nil", "web.lua: build: missing" },
    { "p.build = 'make'", "web.lua: build: must be a function or a table" },
    { "p.build = {}", "web.lua: build.steps: missing" },
    { "p.build.steps = {}", "web.lua: build.steps: must not be empty" },
    { "p.build.steps = 'make'", "web.lua: build.steps: must be a list" },
    { "p.build.steps = { run = { 'make' } }", "web.lua: build.steps: must be a list" },
    { "for i = 1, 65 do p.build.steps[i] = { sh = 'x' } end",
      "web.lua: build.steps: must have at most 64 elements" },
    { "p.build.steps[1] = 'make'", "web.lua: build.steps[1]: must be a table with named fields" },
    { "p.build.steps[1] = {}", "web.lua: build.steps[1]: needs exactly one of run and sh" },
    { "p.build.steps[1].sh = 'x'", "web.lua: build.steps[1]: needs exactly one of run and sh" },
    { "p.build.steps[1].run = 'make'", "web.lua: build.steps[1].run: must be a list of texts" },
    { "p.build.steps[1].run = { 1 }", "web.lua: build.steps[1].run: must be a list of texts" },
    { "p.build.steps[1].run = {}", "web.lua: build.steps[1].run: must not be empty" },
    { "p.build.steps[1].run = { '' }", "web.lua: build.steps[1]: run[1]: must not be empty" },
    { "p.build.steps[1].runn = {}",
      "web.lua: build.steps[1]: unknown field 'runn' (did you mean 'run'?)" },
    { "p.build.steps[1].timeout = '5 minutes'",
      "web.lua: build.steps[1].timeout: must be a duration such as \"90s\", \"2m\" or whole "
      "seconds" },
    { "p.build.steps[1].timeout = 0",
      "web.lua: build.steps[1].timeout: must be between 1 and 86400 seconds" },
    { "p.build.steps[1].timeout = '1500ms'",
      "web.lua: build.steps[1].timeout: must be whole seconds" },
    { "p.build.steps[1].timeout = 10 / 2",
      "web.lua: build.steps[1].timeout: must be whole seconds, or a text such as \"90s\" (this is "
      "a float; // divides without rest)" },
    { "p.build.steps[1].network = 'yes'",
      "web.lua: build.steps[1].network: must be true or false" },
    { "p.build.steps[1].dir = '../x'",
      "web.lua: build.steps[1]: dir: must lie below the checkout" },
    { "p.build.steps[1].env = { 1 }",
      "web.lua: build.steps[1].env: must be a table of texts by name" },
    { "p.build.steps[1].env = { A = 1 }", "web.lua: build.steps[1].env.A: must be a text" },
    { "p.build.steps[1].needs = { 'x' }",
      "web.lua: build.steps[1]: needs: no step above it is named \"x\"" },
    { "p.build.steps[1].name = 'a' p.build.steps[2] = { name = 'a', sh = 'x' }",
      "web.lua: build.steps[2]: name: \"a\" is already the name of another step" },
    { "p.build.steps[1].max_log_bytes = 1.5",
      "web.lua: build.steps[1].max_log_bytes: must be a whole number (this is a float; // divides "
      "without rest)" },
    { "p.build.outputs = nil", "web.lua: build.outputs: missing" },
    { "p.build.outputs = {}",
      "web.lua: build.outputs: must be a path, or a table of paths by variant" },
    { "p.build.outputs = { 'x' }",
      "web.lua: build.outputs: must be a path, or a table of paths by variant" },
    { "p.build.outputs = '/etc'", "web.lua: build.outputs.default: must be a path below the "
                                  "checkout" },
    { "p.build.outputs = { arm = 'a/../../b' }",
      "web.lua: build.outputs.arm: must be a path below the checkout" },
    { "p.build.deadline = 'soon'",
      "web.lua: build.deadline: must be a duration such as \"90s\", \"2m\" or whole seconds" },
    { "p.activate = nil", "web.lua: activate: missing" },
    { "p.activate = 'bin/web'", "web.lua: activate: must be a table with named fields" },
    { "p.activate.start = 'bin/web'", "web.lua: activate.start: must be a list of texts" },
    { "p.activate.start = nil", "web.lua: activate.start: missing" },
    { "p.activate.start = { '' }", "web.lua: activate: start[1]: must not be empty" },
    { "p.activate.strat = {}", "web.lua: activate: unknown field 'strat' (did you mean 'start'?)" },
    { "p.activate.mode = 'daemon'", "web.lua: activate.mode: must be \"process\" or \"command\"" },
    { "p.activate.stop = {}", "web.lua: activate.stop: must not be empty" },
    { "p.activate.start = { 'x', p.activate }", "web.lua: activate.start[2].start[2].start[2]" },
    { "p.health = {}", "web.lua: health: needs exactly one of http and exec" },
    { "p.health = { http = 'http://x', exec = { 'x' } }",
      "web.lua: health: needs exactly one of http and exec" },
    { "p.health = { http = 'ftp://x' }", "web.lua: health: http: must begin with http://" },
    { "p.health = { exec = { 'x' }, interval = '1ms' }",
      "web.lua: health.interval: must be between 20 and 3600000 ms" },
    { "p.health = { exec = { 'x' }, passes = 0 }",
      "web.lua: health.passes: must be between 1 and 1000" },
    { "p.select = 'web'", "web.lua: select: " },
    { "p.select = { lable = 'x', is = 'y' }", "web.lua: select: " },
    { "p.select = { label = 'x', is = 1 }", "web.lua: select: " },
    { "p.variant = 'arch'", "web.lua: variant: must be a table with named fields" },
    { "p.variant = { by_lable = 'x' }",
      "web.lua: variant: unknown field 'by_lable' (did you mean 'by_label'?)" },
    { "p.variant = { map = {} }", "web.lua: variant: map: needs by_label" },
    { "p.replicate = {}", "web.lua: replicate: must be a function" },
    { "p.advance = 'go'", "web.lua: advance: must be a function" },
    { "p.waves = 3", "web.lua: waves: must be a function or a table" },
    { "p.waves = {}", "web.lua: waves: must not be empty" },
    { "p.waves = { { count = 1 } }", "web.lua: waves[1].name: missing" },
    { "p.waves = { { name = 'a' } }", "web.lua: waves[1]: needs exactly one of count and percent" },
    { "p.waves = { { name = 'a', count = 1, percent = 5 } }",
      "web.lua: waves[1]: needs exactly one of count and percent" },
    { "p.waves = { { name = 'a', count = 0 } }",
      "web.lua: waves[1].count: must be between 1 and 10000000" },
    { "p.waves = { { name = 'a', percent = 101 } }",
      "web.lua: waves[1]: percent: must be a number above 0 and at most 100" },
    { "p.waves = { { name = 'a', percent = '50%' } }",
      "web.lua: waves[1]: percent: must be a number above 0 and at most 100" },
    { "p.waves = { { name = 'a', count = 1 }, { name = 'a', percent = 9 } }",
      "web.lua: waves[2]: name: is already the name of another wave" },
    { "p.waves = { { name = 'a', count = 1, bake = 'x' } }",
      "web.lua: waves[1].bake: must be a duration such as \"90s\", \"2m\" or whole seconds" },
    { "p.waves = { { name = 'a', count = 1, max_moving = '0%' } }",
      "web.lua: waves[1]: max_moving: must be a count of at least 1, or \"1%\" to \"100%\"" },
    { "p.waves = { { name = 'a', count = 1, max_moving = 0 } }",
      "web.lua: waves[1]: max_moving: must be a count of at least 1, or \"1%\" to \"100%\"" },
    { "p.waves = { { name = 'a', count = 1, where = { label = 1 } } }",
      "web.lua: waves[1].where: " },
    { "p.deadline = '40d'", "web.lua: deadline: must be between 1 and 2592000 seconds" },
    { "p.on_failure = 'panic'", "web.lua: on_failure: must be \"rollback\", \"hold\" or \"fail\"" },
    { "p.on_hold_expired = 'hold'", "web.lua: on_hold_expired: must be \"rollback\" or \"fail\"" },
};

static void a_mistake_is_named_with_its_place(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        AUTO_FREE char *text = mem_printf(POLICY_WITH("%s"), mistakes[i].code);
        struct err err = ERR_INIT;
        json_t *data;
        const char *want = mistakes[i].error;
        size_t len = strlen(want);
        bool whole = want[len - 1] != ' ' && want[len - 1] != ']'; /* else only how it begins */
        if (policy_of(text, &data, &err) == -ERR_POLICY && strncmp(err.text, want, len) == 0 &&
            (!whole || err.text[len] == 0))
            continue;
        print_error("%s\n  gives    %s\n  expected %s\n", mistakes[i].code,
                    data ? "no error" : err.text, want);
        json_decref(data);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void assert_json(json_t *value, const char *expected)
{
    assert_non_null(value);
    AUTO_FREE char *text = json_text(value);
    assert_string_equal(text, expected);
    json_decref(value);
}

static void what_is_left_out_has_a_default(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_t *data;
    assert_ok(policy_of(POLICY_WITH(""), &data, &err), &err);
    assert_json(data,
                "{\"activate\":{\"env\":{},\"mode\":\"process\",\"start\":[\"bin/web\"],"
                "\"stop\":null},\"deadline\":1800,\"functions\":{\"advance\":false,\"build\":false,"
                "\"replicate\":false,\"waves\":false},\"health\":null,\"hold_for\":86400,"
                "\"on_failure\":\"rollback\",\"on_hold_expired\":\"rollback\",\"repo\":null,"
                "\"select\":{},\"service\":\"web\",\"variant\":{}}");
}

static void what_is_said_arrives(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_t *data;
    const char *text = "local s = require 'slipway' return { service = 'w', repo = '/r', "
                       "build = function() end, deadline = '1h30m', hold_for = 5, "
                       "select = s.all { s.label('role').is 'web', s.none { s.label 'old':exists() "
                       "}, s.label('rack').one_of { 'a', 'b' } }, "
                       "variant = s.by_label('arch', { x = 'y' }), "
                       "activate = { mode = 'command', start = { 'a', 'b' }, stop = { 'c' }, "
                       "env = { K = 'v' } }, health = { exec = { 'x' }, interval = '200ms', "
                       "timeout = 1, passes = 3, within = '1m' }, on_failure = 'hold', "
                       "on_hold_expired = 'fail', waves = function() end }";
    assert_ok(policy_of(text, &data, &err), &err);
    assert_json(data, "{\"activate\":{\"env\":{\"K\":\"v\"},\"mode\":\"command\",\"start\":[\"a\","
                      "\"b\"],\"stop\":[\"c\"]},\"deadline\":5400,\"functions\":{\"advance\":false,"
                      "\"build\":true,\"replicate\":false,\"waves\":true},\"health\":{\"exec\":["
                      "\"x\"],\"interval_ms\":200,\"passes\":3,\"timeout_ms\":1000,\"within\":60},"
                      "\"hold_for\":5,\"on_failure\":\"hold\",\"on_hold_expired\":\"fail\","
                      "\"repo\":\"/r\",\"select\":{\"all\":[{\"is\":\"web\",\"label\":\"role\"},{"
                      "\"none\":[{\"exists\":true,\"label\":\"old\"}]},{\"in\":[\"a\",\"b\"],"
                      "\"label\":\"rack\"}]},\"service\":\"w\",\"variant\":{\"by_label\":\"arch\","
                      "\"map\":{\"x\":\"y\"}}}");
}

/* Asks a policy whose function `name` has this body. */
static int answer_of(enum policy_question q, const char *name, const char *body, json_t **ret,
                     struct err *err)
{
    AUTO_FREE char *text =
        mem_printf("local s = require 'slipway' return { %s = function(x) %s end }", name, body);
    json_t *raw = ask(text, name, json_pack("{s:{}}", "memo"), err);
    *ret = NULL;
    if (raw == NULL)
        return -(int)err->code;
    int rc = types_answer(ret, "web.lua", q, raw, err);
    json_decref(raw);
    return rc;
}

static void steps_are_filled_in(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_t *build;
    assert_ok(answer_of(POLICY_BUILD, "build",
                        "return { steps = { s.run { '/usr/bin/make', 'all' }, s.sh 'make x', "
                        "s.sh { 'true', name = 'last', needs = { 'make' }, env = { A = 'b' } } }, "
                        "outputs = { x = 'a', y = 'b/c' } }",
                        &build, &err),
              &err);
    const char *rest = "\"max_log_bytes\":16777216,";
    AUTO_FREE char *expected = mem_printf(
        "{\"deadline\":900,\"outputs\":{\"x\":\"a\",\"y\":\"b/c\"},\"steps\":["
        "{\"dir\":\".\",\"env\":{},%s\"name\":\"make\",\"needs\":[],\"network\":false,"
        "\"run\":[\"/usr/bin/make\",\"all\"],\"silence\":300,\"timeout\":600},"
        "{\"dir\":\".\",\"env\":{},%s\"name\":\"make-2\",\"needs\":[\"make\"],\"network\":false,"
        "\"run\":[\"/bin/sh\",\"-eu\",\"-c\",\"make x\"],\"silence\":300,\"timeout\":600},"
        "{\"dir\":\".\",\"env\":{\"A\":\"b\"},%s\"name\":\"last\",\"needs\":[\"make\"],"
        "\"network\":false,\"run\":[\"/bin/sh\",\"-eu\",\"-c\",\"true\"],\"silence\":300,"
        "\"timeout\":600}]}",
        rest, rest, rest);
    assert_json(build, expected);
}

static void waves_are_filled_in(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    json_t *waves;
    assert_ok(answer_of(POLICY_WAVES, "waves",
                        "return { { name = 'a', count = 4, bake = '2m', max_moving = 3 }, "
                        "{ name = 'b', percent = 12.5, where = s.everything(), max_failed = 2 } }",
                        &waves, &err),
              &err);
    assert_json(waves,
                "[{\"bake\":120,\"count\":4,\"max_failed\":0,\"max_moving\":3,\"name\":\"a\","
                "\"where\":{}},{\"bake\":0,\"max_failed\":2,\"max_moving\":\"25%\",\"name\":\"b\","
                "\"percent\":12.5,\"where\":{}}]");
}

static const struct {
    const char *body, *decision; /* decision: JSON, or an error */
} decisions[] = {
    { "return s.go()", "{\"action\":\"go\",\"after\":5,\"memo\":{},\"reason\":\"\"}" },
    { "return s.wait('x', '1m')",
      "{\"action\":\"wait\",\"after\":60,\"memo\":{},\"reason\":\"x\"}" },
    { "return s.hold('x', { memo = { n = 1, l = { 1, 2 } } })",
      "{\"action\":\"hold\",\"after\":5,\"memo\":{\"l\":[1,2],\"n\":1},\"reason\":\"x\"}" },
    { "return s.rollback('x', 0)",
      "{\"action\":\"rollback\",\"after\":1,\"memo\":{},\"reason\":\"x\"}" },
    { "return { action = 'fail', reason = 'x', memo = x.memo }",
      "{\"action\":\"fail\",\"after\":5,\"memo\":{},\"reason\":\"x\"}" },
    { "return nil", "web.lua: advance: must return a decision: go(), wait(reason), hold(reason), "
                    "rollback(reason) or fail(reason)" },
    { "return 'go'", "web.lua: advance: must return a decision: go(), wait(reason), hold(reason), "
                     "rollback(reason) or fail(reason)" },
    { "return true", "web.lua: advance: must return a decision: go(), wait(reason), hold(reason), "
                     "rollback(reason) or fail(reason)" },
    { "return s.go", "web.lua: advance: a function has no place here" },
    { "return {}", "web.lua: advance: must return a decision: go(), wait(reason), hold(reason), "
                   "rollback(reason) or fail(reason)" },
    { "return { reason = 'x' }", "web.lua: advance.action: missing" },
    { "return { action = 'GO' }", "web.lua: advance.action: must be \"go\", \"wait\", \"hold\", "
                                  "\"rollback\" or \"fail\"" },
    { "return { action = 'wait' }",
      "web.lua: advance: reason: missing (a sentence for the people who wait)" },
    { "return { action = 'go', resaon = 'x' }",
      "web.lua: advance: unknown field 'resaon' (did you mean 'reason'?)" },
    { "return { action = 'wait', reason = 'x', after = 1.5 }",
      "web.lua: advance.after: must be whole seconds, or a text such as \"90s\" (this is a float; "
      "// divides without rest)" },
    { "return { action = 'wait', reason = 'x', after = -1 }",
      "web.lua: advance.after: must be a duration such as \"90s\", \"2m\" or whole seconds" },
    { "return { action = 'wait', reason = ('x'):rep(1025) }",
      "web.lua: advance.reason: must be at most 1024 bytes" },
    { "return { action = 'go', memo = 1 }", "web.lua: advance: memo: must be a table" },
    { "return { action = 'go', memo = { x = ('x'):rep(20000) } }",
      "web.lua: advance: memo: longer than 16 KiB as JSON" },
    { "return s.wait()", "web.lua: advance: wait: takes a reason" },
    { "return x.wave.healthy", "web.lua:1: attempt to index a nil value (field 'wave')" },
};

static void decisions_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(decisions); i++) {
        struct err err = ERR_INIT;
        json_t *decision;
        int rc = answer_of(POLICY_ADVANCE, "advance", decisions[i].body, &decision, &err);
        if (rc == 0) {
            assert_json(decision, decisions[i].decision);
            continue;
        }
        assert_int_equal(rc, -ERR_POLICY);
        assert_string_equal(err.text, decisions[i].decision);
    }
}

static void durations_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } cases[] = { { "\"90s\"", 90000 },
                  { "\"2m\"", 120000 },
                  { "\"1h30m\"", 5400000 },
                  { "\"200ms\"", 200 },
                  { "\"1d\"", 86400000 },
                  { "\"1s500ms\"", 1500 },
                  { "0", 0 },
                  { "7", 7000 },
                  { "\"0s\"", 0 },
                  { "\"\"", -1 },
                  { "\"90\"", -1 },
                  { "\"s\"", -1 },
                  { "\"-1s\"", -1 },
                  { "\"1m1h\"", -1 },
                  { "\"1s1s\"", -1 },
                  { "\" 1s\"", -1 },
                  { "\"1s \"", -1 },
                  { "\"1.5s\"", -1 },
                  { "\"1x\"", -1 },
                  { "\"1mm\"", -1 },
                  { "\"99999999999s\"", -1 },
                  { "-1", -1 },
                  { "1.0", -1 },
                  { "true", -1 },
                  { "null", -1 },
                  { "[]", -1 },
                  { "99999999999999999", -1 },
                  { "\"5s\\u0000\"", -1 } };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *value = json_loads(cases[i].text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        int64_t ms = -1;
        assert_non_null(value);
        if (duration_ms(value, &ms) != (cases[i].ms >= 0))
            fail_msg("%s", cases[i].text);
        if (cases[i].ms >= 0)
            assert_int_equal(ms, cases[i].ms);
        json_decref(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mistake_is_named_with_its_place),
        cmocka_unit_test(what_is_left_out_has_a_default),
        cmocka_unit_test(what_is_said_arrives),
        cmocka_unit_test(steps_are_filled_in),
        cmocka_unit_test(waves_are_filled_in),
        cmocka_unit_test(decisions_are_checked),
        cmocka_unit_test(durations_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
