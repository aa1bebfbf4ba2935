/* Plans: shares to ranks to thresholds, and what no policy can lift. */
#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "rollout/plan.h"

static struct plan *make(const char *waves, struct err *err)
{
    AUTO_JSON *json = json_loads(waves, 0, NULL);
    struct plan *p = NULL;

    assert_non_null(json);
    return plan_from_waves(&p, json, "{}", err) < 0 ? NULL : p;
}

static void bad_waves(void **state)
{
    static const char *const cases[][2] = {
        { "{}", "waves: there is none" },
        { "[]", "waves: there is none" },
        { "[{}]", "waves: number 1: name: missing" },
        { "[{\"name\":\"a\"}]", "neither percent nor a good count" },
        { "[{\"name\":\"a\",\"count\":0}]", "count: 0" },
        { "[{\"name\":\"a\",\"percent\":0}]", "percent: must be above 0" },
        { "[{\"name\":\"a\",\"percent\":101}]", "at most 100" },
        { "[{\"name\":\"a\",\"percent\":\"5\"}]", "percent: must be" },
        { "[{\"name\":\"a\",\"count\":1,\"bake\":-1}]", "bake: -1" },
        { "[{\"name\":\"a\",\"count\":1,\"max_failed\":-1}]", "max_failed: -1" },
        { "[{\"name\":\"a\",\"count\":1,\"max_moving\":0}]", "max_moving: must be" },
        { "[{\"name\":\"a\",\"count\":1,\"max_moving\":\"lots\"}]", "max_moving: must be" },
        { "[{\"name\":\"a\",\"count\":1,\"max_moving\":\"200%\"}]", "max_moving: must be" },
        { "[{\"name\":\"a\",\"count\":1,\"where\":{\"label\":\"x\"}}]", "where" },
        { "[{\"name\":\"a\",\"count\":1},{\"name\":\"a\",\"count\":2}]", "two have the name 'a'" },
        { "[{\"name\":\"a\",\"percent\":50},{\"name\":\"b\",\"percent\":40}]",
          "wave 'b': takes less than wave 'a'" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i][0], 0, NULL);
        struct plan *p = NULL;
        struct err err = ERR_INIT;

        assert_error(plan_from_waves(&p, json, "{}", &err), ERR_POLICY, &err, cases[i][1]);
    }
}

static void targets(void **state)
{
    static const struct {
        const char *waves;
        uint64_t regions[3], target[4];
    } cases[] = {
        { "[{\"name\":\"a\",\"count\":1},{\"name\":\"b\",\"percent\":50},{\"name\":\"c\","
          "\"percent\":100}]",
          { 4, 4, 4 },
          { 1, 6, 12 } },
        /* Each wave takes at least one machine more, while there is one. */
        { "[{\"name\":\"a\",\"percent\":1},{\"name\":\"b\",\"percent\":2},{\"name\":\"c\","
          "\"percent\":3}]",
          { 4, 4, 4 },
          { 1, 2, 3 } },
        { "[{\"name\":\"a\",\"count\":1},{\"name\":\"b\",\"percent\":50},{\"name\":\"c\","
          "\"percent\":100}]",
          { 1, 0, 0 },
          { 1, 1, 1 } },
        { "[{\"name\":\"a\",\"percent\":0.1},{\"name\":\"b\",\"percent\":100}]",
          { 50000, 30000, 20000 },
          { 100, 100000 } },
    };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct plan *p = make(cases[i].waves, &err);

        for (size_t r = 0; r < 3; r++) {
            char name[8] = { 'r', (char)('1' + r), '\0' };

            plan_add_region(p, name, cases[i].regions[r]);
        }
        assert_ok(plan_size(p, 1800000, &err), &err);
        for (size_t w = 0; w < p->nwaves; w++) {
            uint64_t sum = 0;

            for (size_t r = 0; r < 3; r++)
                sum += p->regions[r].ranks[w];
            assert_int_equal(p->waves[w].target, cases[i].target[w]);
            assert_int_equal(sum, cases[i].target[w]);
        }
        plan_free(p);
    }
}

static void guardrails(void **state)
{
    static const struct {
        const char *waves;
        uint64_t fleet;
        const char *reason; /* NULL: allowed */
    } cases[] = {
        { "[{\"name\":\"a\",\"percent\":100}]", 4, NULL },
        { "[{\"name\":\"a\",\"percent\":100}]", 5, "5 of 5 machines, at most 4" },
        { "[{\"name\":\"a\",\"percent\":10},{\"name\":\"b\",\"percent\":100}]", 1000, NULL },
        { "[{\"name\":\"a\",\"percent\":11},{\"name\":\"b\",\"percent\":100}]", 1000,
          "110 of 1000 machines, at most 100" },
        { "[{\"name\":\"a\",\"count\":1,\"bake\":1801}]", 10, "its waves bake 1801 s" },
        { "[{\"name\":\"a\",\"count\":1,\"bake\":1800}]", 10, NULL },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        struct plan *p = make(cases[i].waves, &err);

        plan_add_region(p, "r1", cases[i].fleet);
        if (cases[i].reason == NULL)
            assert_ok(plan_size(p, 1800000, &err), &err);
        else
            assert_error(plan_size(p, 1800000, &err), ERR_POLICY, &err, cases[i].reason);
        plan_free(p);
    }
}

static void moving(void **state)
{
    static const struct {
        const char *max_moving; /* JSON; NULL: left out */
        uint64_t first, second; /* regions of 100 and 3 machines */
    } cases[] = {
        { NULL, 25, 1 }, { "\"10%\"", 10, 1 }, { "\"100%\"", 50, 1 },
        { "1", 1, 1 },   { "60", 50, 1 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct err err = ERR_INIT;
        AUTO_FREE char *text = cases[i].max_moving == NULL
                                   ? mem_strdup("[{\"name\":\"a\",\"count\":1}]")
                                   : mem_printf("[{\"name\":\"a\",\"count\":1,\"max_moving\":%s}]",
                                                cases[i].max_moving);
        struct plan *p = make(text, &err);

        plan_add_region(p, "r1", 100);
        plan_add_region(p, "r2", 3);
        assert_ok(plan_size(p, 1800000, &err), &err);
        assert_int_equal(plan_max_moving(p, 0, 0), cases[i].first);
        assert_int_equal(plan_max_moving(p, 1, 0), cases[i].second);
        assert_int_equal(plan_max_moving_back(p, 0), 50);
        plan_free(p);
    }
}

/* A region whose n-th smallest hash is n * 100. */
static void answer(struct plan *p, size_t region, size_t wave, uint64_t matching)
{
    AUTO_JSON *ranks = plan_ranks(p, region, wave);
    uint64_t thresholds[PLAN_WAVES_MAX];
    size_t n = json_array_size(ranks);

    for (size_t i = 0; i < n; i++) {
        uint64_t rank = (uint64_t)json_integer_value(json_array_get(ranks, i));

        thresholds[i] = rank >= matching ? UINT64_MAX : rank * 100 + 1;
    }
    plan_set_thresholds(p, region, wave, ranks, thresholds, n);
}

static void thresholds_rise(void **state)
{
    struct err err = ERR_INIT;
    struct plan *p = make("[{\"name\":\"a\",\"count\":2},{\"name\":\"b\",\"percent\":30},"
                          "{\"name\":\"c\",\"percent\":60},{\"name\":\"d\",\"percent\":100}]",
                          &err);
    AUTO_JSON *rules = NULL;

    (void)state;
    plan_add_region(p, "r1", 20);
    plan_add_region(p, "r2", 10);
    assert_ok(plan_size(p, 1800000, &err), &err);
    assert_false(plan_is_frozen(p, 0));
    answer(p, 0, 0, 20);
    answer(p, 1, 0, 10);
    for (size_t r = 0; r < 2; r++) {
        assert_true(plan_is_frozen(p, r));
        for (size_t w = 1; w < p->nwaves; w++)
            assert_true(p->regions[r].thresholds[w] >= p->regions[r].thresholds[w - 1]);
        assert_true(p->regions[r].thresholds[3] == UINT64_MAX);
    }
    rules = plan_goal_rules(p, 0, 1);
    assert_int_equal(json_array_size(rules), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(rules, 0), "threshold")),
                        "0000000000000065"); /* one of two machines is here: rank 1 */
    plan_free(p);
}

static void wheres_are_counted_apart(void **state)
{
    struct err err = ERR_INIT;
    struct plan *p =
        make("[{\"name\":\"a\",\"count\":1},"
             "{\"name\":\"b\",\"percent\":50,\"where\":{\"label\":\"rack\",\"is\":\"1\"}},"
             "{\"name\":\"c\",\"percent\":100,\"where\":{\"label\":\"rack\",\"is\":\"1\"}}]",
             &err);
    AUTO_BUF where = BUF_INIT;

    (void)state;
    plan_add_region(p, "r1", 20);
    assert_false(plan_is_matched(p, 0));
    plan_set_matching(p, 0, 1, 6);
    assert_true(plan_is_matched(p, 0));
    assert_ok(plan_size(p, 1800000, &err), &err);
    assert_int_equal(p->waves[1].group, 1);
    assert_int_equal(p->waves[2].group, 1);
    assert_int_equal(p->waves[1].target, 3);
    assert_int_equal(p->waves[2].target, 6);
    assert_true(plan_wave_adds(p, 2));
    plan_where(p, 1, &where);
    assert_string_equal(buf_str(&where), "{\"is\":\"1\",\"label\":\"rack\"}");
    plan_free(p);
}

static void late_regions_take_their_share(void **state)
{
    struct err err = ERR_INIT;
    struct plan *p = make("[{\"name\":\"a\",\"percent\":10},{\"name\":\"b\",\"percent\":50},"
                          "{\"name\":\"c\",\"percent\":100}]",
                          &err);
    size_t late;

    (void)state;
    plan_add_region(p, "r1", 100);
    assert_ok(plan_size(p, 1800000, &err), &err);
    late = plan_add_region(p, "r2", 40);
    assert_int_equal(plan_find_region(p, "r2"), late);
    assert_int_equal(plan_find_region(p, "r3"), p->nregions);
    plan_size_late(p, late);
    assert_int_equal(p->regions[late].ranks[0], 4);
    assert_int_equal(p->regions[late].ranks[1], 20);
    assert_true(p->regions[late].thresholds[2] == UINT64_MAX);
    plan_free(p);
}

static void survives_json(void **state)
{
    struct err err = ERR_INIT;
    struct plan *p = make("[{\"name\":\"a\",\"count\":2,\"bake\":3,\"max_failed\":1},"
                          "{\"name\":\"b\",\"percent\":33.3,\"max_moving\":\"10%\"},"
                          "{\"name\":\"d\",\"percent\":100,\"max_moving\":7}]",
                          &err);
    struct plan *again = NULL;
    AUTO_JSON *json = NULL, *back = NULL, *parsed = NULL;
    AUTO_FREE char *text = NULL, *text_again = NULL;

    (void)state;
    for (int r = 0; r < 5; r++) { /* growing the list of regions moves it */
        char name[8] = { 'r', (char)('1' + r), '\0' };

        plan_add_region(p, name, 10);
    }
    assert_ok(plan_size(p, 1800000, &err), &err);
    answer(p, 0, 0, 10);
    json = plan_to_json(p);
    text = json_text(json);
    parsed = json_loads(text, 0, NULL);
    assert_ok(plan_from_json(&again, parsed, &err), &err);
    back = plan_to_json(again);
    text_again = json_text(back);
    assert_string_equal(text, text_again);
    plan_free(p);
    plan_free(again);
}

static void bad_json(void **state)
{
    static const char *const cases[][2] = {
        { "{}", "plan: select: missing" },
        { "{\"select\":\"{}\"}", "waves: missing" },
        { "{\"select\":\"{}\",\"waves\":[],\"regions\":[{}]}", "name: missing" },
        { "{\"select\":\"{}\",\"waves\":[{}],\"regions\":[]}", "name: missing" },
        { "{\"select\":\"{}\",\"waves\":[],\"regions\":[{\"name\":\"r\",\"total\":1,\"waves\":[{}]}"
          "]}",
          "not as many" },
    };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i][0], 0, NULL);
        struct plan *p = NULL;

        assert_error(plan_from_json(&p, json, &err), ERR_INVALID, &err, cases[i][1]);
    }
}

static void threshold_texts(void **state)
{
    char text[17];
    uint64_t n = 0;

    (void)state;
    threshold_text(text, UINT64_MAX);
    assert_string_equal(text, "ffffffffffffffff");
    assert_true(threshold_parse(&n, text));
    assert_true(n == UINT64_MAX);
    assert_false(threshold_parse(&n, "fff"));
    assert_false(threshold_parse(&n, "fffffffffffffffg"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_waves),
        cmocka_unit_test(targets),
        cmocka_unit_test(guardrails),
        cmocka_unit_test(moving),
        cmocka_unit_test(thresholds_rise),
        cmocka_unit_test(wheres_are_counted_apart),
        cmocka_unit_test(late_regions_take_their_share),
        cmocka_unit_test(survives_json),
        cmocka_unit_test(bad_json),
        cmocka_unit_test(threshold_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
