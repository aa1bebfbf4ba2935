/* Decisions are taken only if they are exactly what a policy may return. */
#include "lib/check.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "rollout/decision.h"

static void good_ones(void **state)
{
    static const struct {
        const char *json;
        enum decision_action action;
        const char *reason;
        int64_t after_ms;
    } cases[] = {
        { "{\"action\":\"go\"}", DECISION_GO, "", 5000 },
        { "{\"action\":\"wait\",\"reason\":\"r\",\"after\":60}", DECISION_WAIT, "r", 60000 },
        { "{\"action\":\"hold\",\"reason\":\"r\",\"memo\":{\"n\":1}}", DECISION_HOLD, "r", 5000 },
        { "{\"action\":\"rollback\",\"reason\":\"r\",\"memo\":[]}", DECISION_ROLLBACK, "r", 5000 },
        { "{\"action\":\"fail\",\"reason\":\"r\",\"after\":0}", DECISION_FAIL, "r", 0 },
    };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i].json, 0, NULL);
        struct decision d;

        assert_ok(decision_parse(&d, json, &err), &err);
        assert_int_equal(d.action, cases[i].action);
        assert_string_equal(d.reason, cases[i].reason);
        assert_int_equal(d.after_ms, cases[i].after_ms);
    }
}

static void bad_ones(void **state)
{
    static const char *const cases[][2] = {
        { "[]", "not a table" },
        { "{}", "action: missing" },
        { "{\"action\":1}", "action: not a text" },
        { "{\"action\":\"maybe\"}", "none of go, wait, hold, rollback, fail" },
        { "{\"action\":\"hold\"}", "reason: needed with 'hold'" },
        { "{\"action\":\"wait\",\"reason\":7}", "reason: not a text" },
        { "{\"action\":\"wait\",\"reason\":\"r\",\"after\":-1}", "after: -1" },
        { "{\"action\":\"wait\",\"reason\":\"r\",\"after\":1.5}", "after: not an integer" },
        { "{\"action\":\"wait\",\"reason\":\"r\",\"after\":99999}", "after: 99999" },
        { "{\"action\":\"go\",\"memo\":[1]}", "memo: not a table" },
        { "{\"action\":\"go\",\"memo\":5}", "memo: not a table" },
        { "{\"action\":\"go\",\"reasons\":\"r\"}", "reasons" },
    };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i][0], 0, NULL);
        struct decision d;

        assert_error(decision_parse(&d, json, &err), ERR_POLICY, &err, cases[i][1]);
        assert_memory_equal(err.text, "decision: ", 10);
    }
}

static void memo_has_a_limit(void **state)
{
    AUTO_FREE char *big = mem_alloc(DECISION_MEMO_MAX_BYTES + 1);
    AUTO_JSON *json = NULL;
    struct decision d;
    struct err err = ERR_INIT;

    (void)state;
    memset(big, 'x', DECISION_MEMO_MAX_BYTES);
    json = json_pack("{s:s,s:{s:s}}", "action", "go", "memo", "k", big);
    assert_error(decision_parse(&d, json, &err), ERR_POLICY, &err, "16384 are kept");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones),
        cmocka_unit_test(bad_ones),
        cmocka_unit_test(memo_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
