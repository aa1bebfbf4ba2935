/* A deployment's life: every way that it can go, in virtual time. */
#include "unit/rollout/town.h"

static void happy_path(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "12 machines are healthy");
    assert_int_equal(town_running(t, RELEASE_NEW), 12);
    assert_true(town_logged(t, "wave 'one' opens"));
    assert_true(town_logged(t, "wave 'rest' is done"));
    assert_int_equal(t->planned, 1);
    /* The bake of the first wave: 10 s after its machine was healthy. */
    assert_true(t->d->finished_ms - t->d->created_ms >= 12000);
    town_free(t);
}

static bool canary_has_moved;

static void watch_canary(struct town *t)
{
    if (t->d->state == DEPLOY_ROLLING && t->d->wave == 0) {
        assert_true(town_running(t, RELEASE_NEW) <= 1);
        canary_has_moved = canary_has_moved || town_running(t, RELEASE_NEW) == 1;
    }
}

static void canary_goes_alone(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    canary_has_moved = false;
    t->at = watch_canary;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(canary_has_moved);
    town_free(t);
}

static void canary_fails(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_ROLLED_BACK, 4, "bad machines");
    assert_int_equal(town_running(t, RELEASE_OLD), 12);
    assert_true(town_logged(t, "\"urgent\":true"));
    assert_false(town_logged(t, "wave 'half' opens"));
    town_free(t);
}

static void first_deployment_fails(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    t->rollback_to = "";
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_FAILED, 5, "first deployment");
    assert_int_equal(town_running(t, RELEASE_NEW), 0);
    assert_true(town_logged(t, "\"action\":\"stop\""));
    town_free(t);
}

static void same_release_cannot_go_back(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    t->rollback_to = RELEASE_NEW;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_FAILED, 5, "nothing to go back to");
    town_free(t);
}

static void build_fails(void **state)
{
    static const struct {
        const char *job;
        const char *reason;
    } cases[] = { { "failed", "the build failed: step make" },
                  { "cancelled", "the build cancelled: step make" } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct town *t = town_new(1, 4);

        t->job = cases[i].job;
        t->job_reason = "step make: exit status 2";
        town_run(t, 3600000);
        town_ends_as(t, DEPLOY_FAILED, 11, cases[i].reason);
        town_free(t);
    }
}

static void packs_are_wrong(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->sign_error = "variant default: leaf 3: wrong bytes";
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_FAILED, 5, "leaf 3");
    town_free(t);
}

/* --- the deadline --- */

static void job_never_ends(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->job = "running";
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_FAILED, 5, "the deadline of 1800 s passed while it was building");
    assert_int_equal(t->cancelled, 1);
    assert_int_equal(t->d->finished_ms - t->d->created_ms, 1800000);
    town_free(t);
}

static void regions_never_verify(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->verify_at_ms = INT64_MAX;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_FAILED, 5, "while it was replicating, waiting for regions");
    town_free(t);
}

static void machines_never_heal(void **state)
{
    static const struct {
        const char *how;
        enum deploy_state state;
        int code;
        const char *reason;
    } cases[] = { { "rollback", DEPLOY_ROLLED_BACK, 4, "the deadline" },
                  { "fail", DEPLOY_FAILED, 5, "the deadline" },
                  /* held, and after an hour nobody has come */
                  { "hold", DEPLOY_ROLLED_BACK, 4, "nobody resumed it" } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct town *t = town_new(2, 4);

        t->healthy_after_ms = INT64_C(1) << 40;
        town_data(t, "on_failure", json_string(cases[i].how));
        town_run(t, 1799000);
        assert_int_equal(t->d->state, DEPLOY_ROLLING);
        t->healthy_after_ms = 500;
        t->is_bad = town_nobody;
        /* The canary would heal now; only the deadline is passed before it can bake. */
        town_run(t, 5 * 3600000);
        town_ends_as(t, cases[i].state, cases[i].code, cases[i].reason);
        town_free(t);
    }
}

static void deadline_stands_still_while_held(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->command = DEPLOY_PAUSE;
    t->verify_at_ms = t->now + 5000;
    town_run(t, 1000);
    t->command = DEPLOY_PAUSE;
    town_run(t, 1000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    town_run(t, 1900000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    t->command = DEPLOY_RESUME;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

/* --- holds --- */

static const char *holds(const struct town *t, const json_t *snapshot)
{
    (void)t;
    (void)snapshot;
    return "{\"action\":\"hold\",\"reason\":\"look at this\"}";
}

static void policy_holds(void **state)
{
    static const struct {
        bool no_input;
        const char *expired;
        enum deploy_state state;
        int code;
        int64_t least_ms, most_ms;
    } cases[] = { { false, "rollback", DEPLOY_ROLLED_BACK, 4, 3600000, 3660000 },
                  { false, "fail", DEPLOY_FAILED, 5, 3600000, 3660000 },
                  { true, "rollback", DEPLOY_ROLLED_BACK, 7, 0, 60000 },
                  { true, "fail", DEPLOY_FAILED, 7, 0, 60000 } };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct town *t = town_new(2, 4);
        int64_t took;

        t->advance = holds;
        t->d->no_input = cases[i].no_input;
        town_data(t, "on_hold_expired", json_string(cases[i].expired));
        town_run(t, 24 * 3600000);
        town_ends_as(t, cases[i].state, cases[i].code, "look at this");
        took = t->d->finished_ms - t->d->created_ms;
        assert_in_range(took, cases[i].least_ms, cases[i].most_ms);
        town_free(t);
    }
}

static void promoting_passes_a_hold(void **state)
{
    struct town *t = town_new(2, 4);
    int promoted = 0;

    (void)state;
    t->advance = holds;
    while (!deploy_state_is_final(t->d->state) && promoted < 10) {
        town_run(t, 20000);
        if (t->d->state != DEPLOY_HELD)
            break;
        t->command = DEPLOY_PROMOTE;
        promoted++;
        town_run(t, 2000);
    }
    town_run(t, 10000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_int_equal(promoted, 3);
    assert_int_equal(town_running(t, RELEASE_NEW), 8);
    town_free(t);
}

static void policy_errs(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->policy_error = "web.lua:12: attempt to index a nil value";
    town_run(t, 60000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    assert_string_equal(t->d->reason, "web.lua:12: attempt to index a nil value");
    assert_int_equal(deploy_exit_code(t->d), -1);
    /* A broken policy never blocks a person. */
    t->command = DEPLOY_ROLLBACK;
    town_run(t, 60000);
    town_ends_as(t, DEPLOY_ROLLED_BACK, 4, "rollback by bob: because");
    town_free(t);
}

static const char *nonsense(const struct town *t, const json_t *snapshot)
{
    (void)t;
    (void)snapshot;
    return "{\"action\":\"maybe\",\"reason\":\"x\"}";
}

static void policy_answers_nonsense(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->advance = nonsense;
    town_run(t, 60000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    assert_non_null(strstr(t->d->reason, "'maybe' is none of go"));
    town_free(t);
}

static const char *always_go(const struct town *t, const json_t *snapshot)
{
    (void)t;
    (void)snapshot;
    return "{\"action\":\"go\"}";
}

static void silence_is_never_healthy(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->advance = always_go;
    t->healthy_after_ms = INT64_C(1) << 40;
    town_run(t, 600000);
    assert_int_equal(t->d->state, DEPLOY_ROLLING);
    assert_int_equal(t->d->wave, 0);
    assert_non_null(strstr(t->d->waiting_for, "to be healthy"));
    town_free(t);
}

/* From the second wave on every second machine is bad, which this policy does not mind. */
static bool every_second_is_bad(const struct town *t, const struct town_machine *m)
{
    return t->d->wave >= 1 && m->id[strlen(m->id) - 1] % 2 == 0;
}

static void too_many_broken(void **state)
{
    struct town *t = town_new(2, 30);

    (void)state;
    t->advance = always_go;
    t->is_bad = every_second_is_bad;
    t->waves = "[{\"name\":\"few\",\"count\":6},{\"name\":\"half\",\"percent\":50},"
               "{\"name\":\"rest\",\"percent\":100}]";
    town_run(t, 600000);
    /* 6 of 60 may be broken at a time; about 15 are. */
    town_ends_as(t, DEPLOY_ROLLED_BACK, 4, "too many machines are broken");
    assert_int_equal(town_running(t, RELEASE_OLD), 60);
    town_free(t);
}

/* --- people --- */

static void abort_leaves_machines(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    while (t->d->wave == 0)
        town_run(t, 100);
    t->command = DEPLOY_ABORT;
    town_run(t, 100);
    town_ends_as(t, DEPLOY_ABORTED, 6, "abort by bob: because");
    for (int i = 0; i < 20; i++) {
        town_live(t);
        t->now += 100;
    }
    /* Those of the waves that had opened, and no other. */
    assert_in_range(town_running(t, RELEASE_NEW), 1, 6);
    town_free(t);
}

static void commands_are_refused(void **state)
{
    static const enum deploy_verb verbs[] = { DEPLOY_PAUSE, DEPLOY_RESUME, DEPLOY_PROMOTE,
                                              DEPLOY_ROLLBACK, DEPLOY_SKIP_BAKE };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        struct town *t = town_new(1, 4);

        t->job = "running";
        town_run(t, 500);
        t->command = verbs[i];
        town_run(t, 500);
        assert_true(t->refused);
        assert_int_equal(t->d->state, DEPLOY_BUILDING);
        town_free(t);
    }
}

static void skipping_the_bake(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->waves = "[{\"name\":\"one\",\"count\":1,\"bake\":1000},{\"name\":\"rest\",\"percent\":100}]";
    while (!t->d->wave_open)
        town_run(t, 100);
    t->command = DEPLOY_SKIP_BAKE;
    town_run(t, 30000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(happy_path),
        cmocka_unit_test(canary_goes_alone),
        cmocka_unit_test(canary_fails),
        cmocka_unit_test(first_deployment_fails),
        cmocka_unit_test(same_release_cannot_go_back),
        cmocka_unit_test(build_fails),
        cmocka_unit_test(packs_are_wrong),
        cmocka_unit_test(job_never_ends),
        cmocka_unit_test(regions_never_verify),
        cmocka_unit_test(machines_never_heal),
        cmocka_unit_test(deadline_stands_still_while_held),
        cmocka_unit_test(policy_holds),
        cmocka_unit_test(promoting_passes_a_hold),
        cmocka_unit_test(policy_errs),
        cmocka_unit_test(policy_answers_nonsense),
        cmocka_unit_test(silence_is_never_healthy),
        cmocka_unit_test(too_many_broken),
        cmocka_unit_test(abort_leaves_machines),
        cmocka_unit_test(commands_are_refused),
        cmocka_unit_test(skipping_the_bake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
