/* A deployment's life: every way that it can go, in virtual time. */
#include "unit/rollout/town.h"

static void ends(struct town *t, enum deploy_state state, int code, const char *reason)
{
    if (t->d->state != state || strstr(t->d->reason, reason) == NULL)
        print_error("%s\nreason: %s\nwaiting for: %s\n", buf_str(&t->log), t->d->reason,
                    t->d->waiting_for);
    assert_string_equal(deploy_state_name(t->d->state), deploy_state_name(state));
    assert_int_equal(deploy_exit_code(t->d), code);
    assert_non_null(strstr(t->d->reason, reason));
}

static bool logged(const struct town *t, const char *text)
{
    return strstr(buf_str(&t->log), text) != NULL;
}

static void happy_path(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    town_run(t, 3600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "12 machines are healthy");
    assert_int_equal(town_running(t, RELEASE_NEW), 12);
    assert_true(logged(t, "wave 'one' opens"));
    assert_true(logged(t, "wave 'rest' is done"));
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
    ends(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(canary_has_moved);
    town_free(t);
}

static void canary_fails(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    town_run(t, 3600000);
    ends(t, DEPLOY_ROLLED_BACK, 4, "bad machines");
    assert_int_equal(town_running(t, RELEASE_OLD), 12);
    assert_true(logged(t, "\"urgent\":true"));
    assert_false(logged(t, "wave 'half' opens"));
    town_free(t);
}

static void first_deployment_fails(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    t->rollback_to = "";
    town_run(t, 3600000);
    ends(t, DEPLOY_FAILED, 5, "first deployment");
    assert_int_equal(town_running(t, RELEASE_NEW), 0);
    assert_true(logged(t, "\"action\":\"stop\""));
    town_free(t);
}

static void same_release_cannot_go_back(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->is_bad = town_everybody;
    t->rollback_to = RELEASE_NEW;
    town_run(t, 3600000);
    ends(t, DEPLOY_FAILED, 5, "nothing to go back to");
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
        ends(t, DEPLOY_FAILED, 11, cases[i].reason);
        town_free(t);
    }
}

static void packs_are_wrong(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->sign_error = "variant default: leaf 3: wrong bytes";
    town_run(t, 3600000);
    ends(t, DEPLOY_FAILED, 5, "leaf 3");
    town_free(t);
}

/* --- the deadline --- */

static void job_never_ends(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->job = "running";
    town_run(t, 3600000);
    ends(t, DEPLOY_FAILED, 5, "the deadline of 1800 s passed while it was building");
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
    ends(t, DEPLOY_FAILED, 5, "while it was replicating, waiting for regions");
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
        ends(t, cases[i].state, cases[i].code, cases[i].reason);
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
    ends(t, DEPLOY_SUCCEEDED, 0, "");
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
        ends(t, cases[i].state, cases[i].code, "look at this");
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
    ends(t, DEPLOY_SUCCEEDED, 0, "");
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
    ends(t, DEPLOY_ROLLED_BACK, 4, "rollback by bob: because");
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

static bool most_are_bad(const struct town *t, const struct town_machine *m)
{
    (void)t;
    return strcmp(m->id, "r1-m1") != 0;
}

static void too_many_broken(void **state)
{
    struct town *t = town_new(2, 30);

    (void)state;
    t->advance = always_go;
    t->is_bad = most_are_bad;
    t->waves = "[{\"name\":\"few\",\"count\":6},{\"name\":\"half\",\"percent\":50},"
               "{\"name\":\"rest\",\"percent\":100}]";
    town_run(t, 600000);
    /* 6 of 60 may be broken; the policy would go on for ever. */
    if (t->d->wave > 0)
        ends(t, DEPLOY_ROLLED_BACK, 4, "too many machines are broken");
    else
        assert_int_equal(t->d->state, DEPLOY_ROLLING);
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
    ends(t, DEPLOY_ABORTED, 6, "abort by bob: because");
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
    ends(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

/* --- several deployments --- */

static void waits_behind_another(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->ahead = "d-first";
    town_run(t, 4000000); /* longer than the deadline, which does not run meanwhile */
    assert_int_equal(t->d->state, DEPLOY_QUEUED);
    assert_non_null(strstr(t->d->waiting_for, "d-first"));
    t->ahead = NULL;
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

static void is_superseded(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    t->ahead = "d-first";
    t->job = "queued";
    town_run(t, 1000);
    t->newer = "d-third";
    town_run(t, 1000);
    ends(t, DEPLOY_SUPERSEDED, 6, "superseded by d-third");
    assert_int_equal(t->cancelled, 1);
    town_free(t);
}

static void is_not_superseded_once_it_goes(void **state)
{
    struct town *t = town_new(1, 4);

    (void)state;
    town_run(t, 1000);
    t->newer = "d-third";
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

static void nothing_to_do(void **state)
{
    struct town *t = town_new(1, 12);

    (void)state;
    t->same_as_last = true;
    t->last_healthy = 12;
    town_run(t, 60000);
    ends(t, DEPLOY_SUCCEEDED, 0, "nothing to do: commit");
    assert_true(t->d->nothing_to_do);
    assert_int_equal(t->planned, 0);
    town_free(t);

    /* One machine does not run it: it is deployed again, once the counts had time to settle. */
    t = town_new(1, 12);
    t->same_as_last = true;
    t->last_healthy = 11;
    town_run(t, 10000);
    assert_int_equal(t->d->state, DEPLOY_QUEUED);
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "12 machines are healthy");
    assert_false(t->d->nothing_to_do);
    town_free(t);
}

/* --- plans --- */

static void plans_are_refused(void **state)
{
    static const struct {
        const char *waves, *reason;
        size_t machines;
    } cases[] = {
        { "[{\"name\":\"all\",\"percent\":100}]", "the first wave 'all' is too large: 60 of 60",
          30 },
        { "[{\"name\":\"one\",\"count\":1,\"bake\":2000}]", "longer than the deadline", 4 },
        { "[]", "waves: there is none", 4 },
        { "[{\"name\":\"a\",\"count\":2},{\"name\":\"b\",\"count\":1}]", "takes less than", 4 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct town *t = town_new(2, cases[i].machines);

        t->waves = cases[i].waves;
        town_run(t, 60000);
        ends(t, DEPLOY_FAILED, 5, cases[i].reason);
        assert_int_equal(town_running(t, RELEASE_NEW), 0);
        town_free(t);
    }
}

static void empty_wave_holds(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->waves = "[{\"name\":\"one\",\"count\":1},{\"name\":\"gone\",\"percent\":50,\"where\":"
               "{\"label\":\"region\",\"is\":\"mars\"}},{\"name\":\"rest\",\"percent\":100}]";
    town_run(t, 60000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    assert_non_null(strstr(t->d->reason, "wave 'gone' is empty"));
    t->command = DEPLOY_PROMOTE;
    town_run(t, 60000);
    ends(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

static void region_by_region(void **state)
{
    struct town *t = town_new(3, 5);

    (void)state;
    t->waves = "[{\"name\":\"one\",\"count\":3},"
               "{\"name\":\"r1\",\"percent\":100,\"where\":{\"label\":\"region\",\"is\":\"r1\"}},"
               "{\"name\":\"r2\",\"percent\":50,\"where\":{\"label\":\"region\",\"is\":\"r2\"}},"
               "{\"name\":\"rest\",\"percent\":100}]";
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "15 machines");
    assert_true(logged(t, "wave 'r1' opens"));
    town_free(t);
}

static void nobody_is_selected(void **state)
{
    struct town *t = town_new(2, 0);

    (void)state;
    town_run(t, 60000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    assert_non_null(strstr(t->d->reason, "selects no machine"));
    town_free(t);
}

/* --- regions and machines that are away --- */

static void away_machines_do_not_count(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->regions[0].machines[0].away = true;
    t->regions[1].machines[2].away = true;
    town_run(t, 600000);
    if (t->d->state == DEPLOY_HELD) { /* the canary itself was away */
        assert_non_null(strstr(t->d->reason, "reachable"));
        t->command = DEPLOY_PROMOTE;
        town_run(t, 600000);
    }
    ends(t, DEPLOY_SUCCEEDED, 0, "6 of 8 machines are healthy");
    town_free(t);
}

static void leave_and_return(struct town *t)
{
    if (t->d->state == DEPLOY_ROLLING && t->d->wave == 1 && t->now - t->d->wave_ms == 200)
        t->regions[1].connected = false;
    if (!t->regions[1].connected && t->now - t->regions[1].seen_ms > 20000)
        t->regions[1].connected = true;
}

static void region_is_away_for_a_moment(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->at = leave_and_return;
    t->healthy_after_ms = 1000;
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "12 machines");
    assert_true(t->d->finished_ms - t->d->created_ms > 30000);
    town_free(t);
}

static void third_is_away(struct town *t)
{
    t->regions[2].connected = t->d->state == DEPLOY_ROLLING && t->d->wave >= 1;
}

static void region_joins_late(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->at = third_is_away;
    t->regions[2].connected = false;
    t->regions[2].verified = true; /* from another time: the gate passes */
    town_run(t, 600000);
    ends(t, DEPLOY_SUCCEEDED, 0, "12 machines");
    assert_true(logged(t, "region r3 is late"));
    town_free(t);
}

static void staging_fails(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->stage_fails = true;
    town_run(t, 600000);
    ends(t, DEPLOY_ROLLED_BACK, 4, "bad machines");
    assert_int_equal(town_running(t, RELEASE_OLD), 8);
    town_free(t);
}

static void old_release_is_broken_too(struct town *t)
{
    /* From the rollback on nothing settles: it cannot be finished. */
    if (t->d->state == DEPLOY_ROLLING_BACK)
        t->healthy_after_ms = INT64_C(1) << 40;
}

static void rollback_does_not_finish(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->is_bad = town_everybody;
    t->at = old_release_is_broken_too;
    town_run(t, 2000000);
    assert_int_equal(t->d->state, DEPLOY_HELD);
    assert_non_null(strstr(t->d->reason, "the rollback does not finish"));
    town_run(t, 24 * 3600000);
    ends(t, DEPLOY_FAILED, 5, "nobody resumed it");
    town_free(t);
}

/* --- a restart at every step changes nothing --- */

static bool half_are_bad(const struct town *t, const struct town_machine *m)
{
    return t->d->wave >= 1 && m->id[strlen(m->id) - 1] % 2 == 0;
}

static void commands_in_between(struct town *t)
{
    int64_t at = t->now - TOWN_START_MS;

    if (at == 3000)
        t->command = DEPLOY_PAUSE;
    if (at == 9000)
        t->command = DEPLOY_RESUME;
    if (at == 11000)
        t->command = DEPLOY_SKIP_BAKE;
}

static void restarts_change_nothing(void **state)
{
    static const struct {
        bool (*is_bad)(const struct town *t, const struct town_machine *m);
        void (*at)(struct town *t);
        const char *(*advance)(const struct town *t, const json_t *snapshot);
        const char *rollback_to;
    } cases[] = {
        { town_nobody, NULL, NULL, RELEASE_OLD },
        { town_everybody, NULL, NULL, RELEASE_OLD },
        { town_everybody, NULL, NULL, "" },
        { half_are_bad, NULL, NULL, RELEASE_OLD },
        { town_nobody, commands_in_between, NULL, RELEASE_OLD },
        { town_nobody, leave_and_return, NULL, RELEASE_OLD },
        { town_nobody, NULL, holds, RELEASE_OLD },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct town *t[2];

        for (int k = 0; k < 2; k++) {
            t[k] = town_new(3, 4);
            t[k]->is_bad = cases[i].is_bad;
            t[k]->at = cases[i].at;
            t[k]->advance = cases[i].advance;
            t[k]->rollback_to = cases[i].rollback_to;
            t[k]->restart = k == 1;
            town_run(t[k], 2 * 3600000);
        }
        assert_true(deploy_state_is_final(t[0]->d->state));
        assert_string_equal(buf_str(&t[0]->log), buf_str(&t[1]->log));
        town_free(t[0]);
        town_free(t[1]);
    }
}

static void bad_json_is_refused(void **state)
{
    static const char *const cases[][2] = {
        { "{}", "regions: missing" },
        { "{\"id\":5,\"regions\":[],\"pending\":[]}", "id: not a text" },
        { "{\"state\":99,\"regions\":[],\"pending\":[]}", "state: 99" },
        { "{\"regions\":[],\"pending\":[],\"plan\":{}}", "plan: select: missing" },
    };
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i][0], 0, NULL);
        struct deploy *d = NULL;

        assert_error(deploy_from_json(&d, json, &err), ERR_INVALID, &err, cases[i][1]);
    }
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
        cmocka_unit_test(waits_behind_another),
        cmocka_unit_test(is_superseded),
        cmocka_unit_test(is_not_superseded_once_it_goes),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(plans_are_refused),
        cmocka_unit_test(empty_wave_holds),
        cmocka_unit_test(region_by_region),
        cmocka_unit_test(nobody_is_selected),
        cmocka_unit_test(away_machines_do_not_count),
        cmocka_unit_test(region_is_away_for_a_moment),
        cmocka_unit_test(region_joins_late),
        cmocka_unit_test(staging_fails),
        cmocka_unit_test(rollback_does_not_finish),
        cmocka_unit_test(restarts_change_nothing),
        cmocka_unit_test(bad_json_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
