/* A deployment among others, and in a world where regions and machines come and go. */
#include "unit/rollout/town.h"

static const char *holds(const struct town *t, const json_t *snapshot)
{
    (void)t;
    (void)snapshot;
    return "{\"action\":\"hold\",\"reason\":\"look at this\"}";
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
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
    town_ends_as(t, DEPLOY_SUPERSEDED, 6, "superseded by d-third");
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    town_free(t);
}

static void nothing_to_do(void **state)
{
    struct town *t = town_new(1, 12);

    (void)state;
    t->same_as_last = true;
    t->last_healthy = 12;
    town_run(t, 60000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "nothing to do: commit");
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "12 machines are healthy");
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
        town_ends_as(t, DEPLOY_FAILED, 5, cases[i].reason);
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "15 machines");
    assert_true(town_logged(t, "wave 'r1' opens"));
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "6 of 8 machines are healthy");
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "12 machines");
    assert_true(t->d->finished_ms - t->d->created_ms > 30000);
    town_free(t);
}

/* Everything stands still for five minutes; then the regions connect one after the other. */
static void all_is_killed(struct town *t)
{
    if (t->watching_ms == 0 && t->d->wave == 1 && t->d->wave_open) {
        t->now += 300000;
        t->watching_ms = t->quiet_ms = t->now;
    }
    for (size_t i = 0; t->watching_ms != 0 && i < t->nregions; i++)
        t->regions[i].connected = t->now - t->watching_ms >= 1000 + 5000 * (int64_t)i;
}

static void a_pause_of_everything_is_nobodys_absence(void **state)
{
    struct town *t = town_new(3, 4);

    (void)state;
    t->at = all_is_killed;
    t->healthy_after_ms = 2000;
    town_run(t, 900000);
    assert_true(t->watching_ms != 0);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "12 machines");
    assert_false(town_logged(t, "held"));
    assert_true(t->d->finished_ms - t->watching_ms > 11000);
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
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "12 machines");
    assert_true(town_logged(t, "region r3 is late"));
    town_free(t);
}

static void staging_fails(void **state)
{
    struct town *t = town_new(2, 4);

    (void)state;
    t->stage_fails = true;
    town_run(t, 600000);
    town_ends_as(t, DEPLOY_ROLLED_BACK, 4, "bad machines");
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
    town_ends_as(t, DEPLOY_FAILED, 5, "nobody resumed it");
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
        cmocka_unit_test(a_pause_of_everything_is_nobodys_absence),
        cmocka_unit_test(region_joins_late),
        cmocka_unit_test(staging_fails),
        cmocka_unit_test(rollback_does_not_finish),
        cmocka_unit_test(restarts_change_nothing),
        cmocka_unit_test(bad_json_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
