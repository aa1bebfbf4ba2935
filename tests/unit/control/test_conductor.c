/* Deployments through the database: from the trigger to the last row, on SQLite and PostgreSQL. */
#include "unit/control/cluster.h"

static int64_t count(struct cluster *c, const char *sql, const char *a)
{
    AUTO_FREE char *text = cluster_get(c, sql, a);

    return strtoll(text, NULL, 10);
}

static void expect(struct cluster *c, const char *sql, const char *a, const char *value)
{
    AUTO_FREE char *text = cluster_get(c, sql, a);

    assert_string_equal(text, value);
}

static void it_succeeds(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_JSON *view = NULL;

    cluster_one_turn(c);
    expect(c, "SELECT state FROM deployment WHERE id = $1", id, "queued");
    cluster_build(c, true);
    cluster_turn(c, id, "succeeded");
    expect(c, "SELECT good_commit FROM service WHERE name = $1", "web", COMMIT_A);
    expect(c, "SELECT last_planned FROM service WHERE name = $1", "web", id);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM goal WHERE service = $1", "web"), 2);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM ask WHERE deployment = $1", id), 0);
    assert_int_equal(count(c, "SELECT good FROM release WHERE service = $1", "web"), 1);
    assert_true(count(c, "SELECT COUNT(*) FROM decision WHERE deployment = $1", id) >= 3);
    assert_ok(view_load(c->d, id, &view, &c->err), &c->err);
    assert_int_equal(json_integer_value(json_object_get(view, "exit")), 0);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(view, "machines"), "healthy")),
        CLUSTER_REGIONS * CLUSTER_MACHINES);
    assert_int_equal(json_array_size(json_object_get(view, "waves")), 2);
}

static void the_same_again_is_nothing_to_do(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *first = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *second = NULL;

    cluster_build(c, true);
    cluster_turn(c, first, "succeeded");
    second = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    cluster_turn(c, second, "succeeded");
    assert_int_equal(count(c, "SELECT COUNT(*) FROM job WHERE sha = $1", COMMIT_A), 1);
    expect(c, "SELECT last_planned FROM service WHERE name = $1", "web", first);
    assert_int_equal(
        count(c, "SELECT COUNT(*) FROM event WHERE deployment = $1 AND text LIKE '%nothing to do%'",
              second),
        1);
}

static void a_bad_release_is_rolled_back(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *good = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *bad = NULL;
    AUTO_FREE char *release = NULL;
    AUTO_JSON *view = NULL;

    cluster_build(c, true);
    cluster_turn(c, good, "succeeded");
    bad = cluster_trigger(c, CLUSTER_POLICY, COMMIT_B);
    cluster_build(c, true);
    cluster_turn(c, bad, "replicating");
    c->bad_release = cluster_get(c, "SELECT hash FROM release WHERE sha = $1", COMMIT_B);
    cluster_turn(c, bad, "rolled_back");
    assert_ok(view_load(c->d, bad, &view, &c->err), &c->err);
    assert_int_equal(json_integer_value(json_object_get(view, "exit")), 4);
    /* The machines are on the old release by a signed goal, and it is still the last good one. */
    release = cluster_get(c, "SELECT good_release FROM service WHERE name = $1", "web");
    expect(c, "SELECT release FROM goal WHERE region = $1", "r1", release);
    expect(c, "SELECT good_commit FROM service WHERE name = $1", "web", COMMIT_A);
}

static void a_failed_build_touches_nothing(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_JSON *view = NULL;

    cluster_build(c, false);
    cluster_turn(c, id, "failed");
    assert_ok(view_load(c->d, id, &view, &c->err), &c->err);
    assert_int_equal(json_integer_value(json_object_get(view, "exit")), 11);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM goal WHERE service = $1", "web"), 0);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM relay WHERE deployment = $1", id), 0);
}

static void lying_workers_are_found_out(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_JSON *view = NULL;
    const char *reason;

    c->artifact.stream_bytes++; /* what the worker says */
    cluster_build(c, true);
    cluster_turn(c, id, "failed");
    assert_ok(view_load(c->d, id, &view, &c->err), &c->err);
    reason = json_string_value(json_object_get(view, "reason"));
    assert_non_null(strstr(reason, "not as large as the worker said"));
    assert_int_equal(count(c, "SELECT COUNT(*) FROM release WHERE service = $1", "web"), 0);
}

static void a_second_waits_and_a_third_supersedes(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *a = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *b = NULL, *third = NULL;

    cluster_build(c, true);
    cluster_turn(c, a, "replicating");
    b = cluster_trigger(c, CLUSTER_POLICY, COMMIT_B);
    cluster_one_turn(c);
    expect(c, "SELECT state FROM deployment WHERE id = $1", b, "queued");
    third = cluster_trigger(c, CLUSTER_POLICY, "cccccccccccccccccccccccccccccccccccccccc");
    cluster_turn(c, b, "superseded");
    assert_int_equal(
        count(c, "SELECT COUNT(*) FROM job WHERE status = 'cancelled' AND sha = $1", COMMIT_B), 1);
    cluster_build(c, true);
    cluster_turn(c, a, "succeeded");
    cluster_turn(c, third, "succeeded");
}

/* A conductor that is started anew before every turn: nothing that matters is in its memory. */
static void restarts_in_between(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);

    cluster_build(c, true);
    for (int i = 0; i < 60; i++) {
        AUTO_FREE char *now = cluster_state(c, id);

        if (strcmp(now, "succeeded") == 0)
            break;
        if (i % 3 == 2)
            cluster_conductor(c);
        cluster_one_turn(c);
    }
    cluster_turn(c, id, "succeeded");
}

static void an_old_fence_writes_nothing(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    int64_t old = c->fence;
    bool moved = false;

    cluster_build(c, true);
    cluster_conductor(c); /* raises the fence */
    assert_error(conductor_turn(c->conductor, c->d, old, &moved, &c->err), ERR_FENCED, &c->err,
                 "somebody else");
    expect(c, "SELECT state FROM deployment WHERE id = $1", id, "queued");
    assert_int_equal(count(c, "SELECT version FROM deployment WHERE id = $1", id), 1);
}

static void a_command_is_obeyed_once(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);

    cluster_sql(c,
                "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                "VALUES ($1, 'resume', 'bob', '', 0)",
                id, NULL);
    cluster_sql(c,
                "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                "VALUES ($1, 'abort', $2, 'enough', 0)",
                id, "bob");
    cluster_turn(c, id, "aborted");
    expect(c, "SELECT result FROM command WHERE verb = $1", "resume",
           "cannot resume: it is not held");
    expect(c, "SELECT result FROM command WHERE verb = $1", "abort", "done");
    assert_int_equal(count(c, "SELECT COUNT(*) FROM audit WHERE object = $1", id), 3);
    expect(c, "SELECT outcome FROM audit WHERE verb = $1", "abort", "done");
}

static void policy_errors_hold(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id =
        cluster_trigger(c,
                        "return { service = 'web', activate = { start = { 'run' } },\n"
                        "  build = { steps = { { run = { 'make' } } }, outputs = 'out' },\n"
                        "  advance = function(s) return s.nothing.at.all end }\n",
                        COMMIT_A);

    cluster_build(c, true);
    cluster_turn(c, id, "held");
    assert_int_equal(
        count(c,
              "SELECT COUNT(*) FROM decision WHERE deployment = $1 AND action = 'error' AND "
              "reason LIKE 'web.lua:3:%'",
              id),
        1);
}

/* --- after the end --- */

static void a_new_region_gets_its_goal(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);

    cluster_build(c, true);
    cluster_turn(c, id, "succeeded");
    assert_ok(DB_EXEC(c->d, &c->err,
                      "INSERT INTO region (name, holder, connected, session_at, seen_at, machines, "
                      "reachable) VALUES ('r9', 'test', 1, 0, $1, 4, 4)",
                      db_int(wall_ms() + 3600000)),
              &c->err);
    cluster_conductor(c);
    for (int i = 0; i < 20; i++) {
        char hex[HASH_HEX];

        cluster_one_turn(c);
        cluster_sql(c,
                    "INSERT INTO replica (artifact, region, state, bytes, total, origin_bytes, "
                    "reason, at) VALUES ($1, $2, 'verified', 5, 5, 5, '', 0) "
                    "ON CONFLICT (artifact, region) DO NOTHING",
                    hash_hex(&c->artifact.artifact, hex), "r9");
    }
    expect(c, "SELECT deployment FROM goal WHERE region = $1", "r9", id);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM relay WHERE region = $1", "r9"), 1);
    expect(c, "SELECT state FROM deployment WHERE id = $1", id, "succeeded");
    expect(c, "SELECT tending FROM deployment WHERE id = $1", id, "0");
}

static void old_goals_are_renewed(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    int64_t before;

    cluster_build(c, true);
    cluster_turn(c, id, "succeeded");
    cluster_conductor(c);
    cluster_one_turn(c);
    before = count(c, "SELECT MAX(seq) FROM goal WHERE deployment = $1", id);
    cluster_conductor(c);
    cluster_one_turn(c); /* they are young: nothing happens */
    assert_int_equal(count(c, "SELECT MAX(seq) FROM goal WHERE deployment = $1", id), before);
    cluster_sql(c, "UPDATE goal SET generation = 1000 WHERE deployment = $1", id, NULL);
    cluster_conductor(c);
    cluster_one_turn(c);
    assert_true(count(c, "SELECT MIN(seq) FROM goal WHERE deployment = $1", id) > before);
    assert_true(count(c, "SELECT MIN(generation) FROM goal WHERE deployment = $1", id) > 1000);
}

/* --- triggers --- */

static void bad_requests(void **state)
{
    struct cluster *c = cluster_of(state);
    static const struct {
        const char *field, *value, *part;
    } cases[] = {
        { "commit", "\"abc\"", "commit: not 40" },
        { "commit", "null", "commit: missing" },
        { "bundle", "null", "" },
        { "params", "[]", "params: not an object" },
        { "params", "{\"a\":1}", "params: a: not a text" },
        { "no_input", "5", "no_input: not true or false" },
        { "colour", "\"red\"", "colour" },
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *request = cluster_request(CLUSTER_POLICY, COMMIT_A), *plan = NULL;
        AUTO_BUF id = BUF_INIT;
        bool is_new;

        json_object_set_new(request, cases[i].field,
                            json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        assert_error(cluster_try(c, request, &id, &is_new, &plan), ERR_INVALID, &c->err,
                     cases[i].part);
    }
    assert_int_equal(count(c, "SELECT COUNT(*) FROM deployment WHERE service = $1", "web"), 0);
}

static void bad_policies(void **state)
{
    struct cluster *c = cluster_of(state);
    static const char *const cases[][2] = {
        { "return {", "web.lua:1:" },
        { "return { service = 'web' }", "web.lua" },
        { "while true do end", "web.lua" },
        { "return { service = 'web', activate = { start = { 'x' } }, build = { steps = { { run = { "
          "'a' } } }, outputs = 'o' }, waves = {} }",
          "web.lua" },
        { "return { service = 'web', activate = { start = { 'x' } }, build = { steps = { { run = { "
          "'a' } } }, outputs = 'o' }, waves = function() return { { name = 'a', count = 2 }, { "
          "name "
          "= 'b', count = 1 } } end }",
          "takes less than wave" },
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        json_t *plan = NULL;
        AUTO_BUF id = BUF_INIT;
        bool is_new;
        int r = cluster_try(c, cluster_request(cases[i][0], COMMIT_A), &id, &is_new, &plan);

        assert_true(r == -(int)ERR_POLICY || r == -(int)ERR_TIMEOUT);
        assert_non_null(strstr(c->err.text, cases[i][1]));
    }
    assert_int_equal(count(c, "SELECT COUNT(*) FROM job WHERE name = $1", "web"), 0);
}

static void a_key_makes_it_once(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_BUF first = BUF_INIT, second = BUF_INIT;
    json_t *plan = NULL;
    bool is_new = false;

    for (int i = 0; i < 2; i++) {
        json_t *request = cluster_request(CLUSTER_POLICY, COMMIT_A);

        json_object_set_new(request, "key", json_string("k-1"));
        assert_ok(cluster_try(c, request, i == 0 ? &first : &second, &is_new, &plan), &c->err);
        assert_int_equal(is_new, i == 0);
    }
    assert_string_equal(buf_str(&first), buf_str(&second));
    assert_int_equal(count(c, "SELECT COUNT(*) FROM deployment WHERE service = $1", "web"), 1);
}

static void a_dry_run_writes_nothing(void **state)
{
    struct cluster *c = cluster_of(state);
    json_t *request = cluster_request(CLUSTER_POLICY, COMMIT_A), *plan = NULL;
    AUTO_BUF id = BUF_INIT;
    bool is_new = false;

    json_object_set_new(request, "dry_run", json_true());
    assert_ok(cluster_try(c, request, &id, &is_new, &plan), &c->err);
    assert_string_equal(json_string_value(json_object_get(plan, "service")), "web");
    json_decref(plan);
    assert_int_equal(count(c, "SELECT COUNT(*) FROM deployment WHERE service = $1", "web"), 0);
}

/* --- by name --- */

static void found_by_name(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *a = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *b = cluster_trigger(c, CLUSTER_POLICY, COMMIT_B);
    AUTO_FREE char *again = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *prefix = mem_strndup(b, 9);
    const char *const cases[][2] = {
        { a, a },          { prefix, b },         { "web", again },
        { "web@bbbb", b }, { "web@aaaa", again }, /* the latest attempt of that commit */
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF id = BUF_INIT;
        AUTO_JSON *candidates = json_array();

        assert_ok(record_find(c->d, cases[i][0], &id, candidates, &c->err), &c->err);
        assert_string_equal(buf_str(&id), cases[i][1]);
    }
    {
        AUTO_BUF id = BUF_INIT;
        AUTO_JSON *candidates = json_array();

        assert_error(record_find(c->d, "web@", &id, candidates, &c->err), ERR_CONFLICT, &c->err,
                     "several");
        assert_int_equal(json_array_size(candidates), 2);
        assert_error(record_find(c->d, "nobody", &id, candidates, &c->err), ERR_NOT_FOUND, &c->err,
                     "'nobody'");
    }
}

#define ON_BOTH(test)                                                           \
    { #test, test, cluster_on_sqlite, cluster_tear_down, NULL },                \
    {                                                                           \
#test " (postgres)", test, cluster_on_postgres, cluster_tear_down, NULL \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(it_succeeds),
        ON_BOTH(the_same_again_is_nothing_to_do),
        ON_BOTH(a_bad_release_is_rolled_back),
        ON_BOTH(a_failed_build_touches_nothing),
        ON_BOTH(lying_workers_are_found_out),
        ON_BOTH(a_second_waits_and_a_third_supersedes),
        ON_BOTH(restarts_in_between),
        ON_BOTH(an_old_fence_writes_nothing),
        ON_BOTH(a_command_is_obeyed_once),
        ON_BOTH(policy_errors_hold),
        ON_BOTH(a_new_region_gets_its_goal),
        ON_BOTH(old_goals_are_renewed),
        ON_BOTH(bad_requests),
        ON_BOTH(bad_policies),
        ON_BOTH(a_key_makes_it_once),
        ON_BOTH(a_dry_run_writes_nothing),
        ON_BOTH(found_by_name),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
