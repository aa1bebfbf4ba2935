/* Deltas beside a deployment, in virtual time: from what they are made, who waits for them, and what
 * becomes of them. */
#include "unit/rollout/town.h"

enum { FULL = 200 << 20 }; /* at 4 MiB/s 50 s */

static int64_t ready_at_ms, gone_at_ms; /* of the first delta; 0: never. Since the start. */

/* Bases "a", "b" … with so many machines; the default is the last good release's. */
static struct town *delta_town(const char *const names[], const int machines[], size_t n)
{
    struct town *t = town_new(2, 4);

    t->pack_bytes = FULL;
    t->region_bytes = FULL;
    for (size_t i = 0; i < n; i++)
        t->bases[t->nbases++] = (struct deploy_base){ "default", names[i], machines[i] };
    ready_at_ms = gone_at_ms = 0;
    return t;
}

static int64_t since_start(const struct town *t)
{
    return t->now - TOWN_START_MS;
}

static struct deploy_delta *delta_of(struct town *t, const char *base)
{
    for (size_t i = 0; i < t->ndeltas; i++)
        if (strcmp(t->deltas[i].base, base) == 0)
            return &t->deltas[i];
    return NULL;
}

static void finish_delta(struct town *t, const char *base, const char *state, const char *reason)
{
    struct deploy_delta *delta = delta_of(t, base);

    assert_non_null(delta);
    delta->state = state;
    delta->reason = reason;
    if (strcmp(state, "ready") == 0) {
        delta->pack = base;
        delta->bytes = 1000;
        t->region_bytes += 1000;
    }
}

/* What was wanted is a row in the making at the next step. */
static void make_rows(struct town *t)
{
    for (size_t i = 0; i < t->nbases; i++) {
        const char *base = t->bases[i].artifact;

        if (strstr(buf_str(&t->wants), base) != NULL && delta_of(t, base) == NULL)
            t->deltas[t->ndeltas++] =
                (struct deploy_delta){ ARTIFACT, base, "", "making", "", 0, NULL };
    }
}

static void first_comes_and_goes(struct town *t)
{
    make_rows(t);
    if (ready_at_ms != 0 && since_start(t) == ready_at_ms)
        finish_delta(t, t->bases[0].artifact, "ready", "");
    if (gone_at_ms != 0 && since_start(t) == gone_at_ms)
        finish_delta(t, t->bases[0].artifact, "none", "worker lost");
}

static const char *const abcdef[] = { "base-a", "base-b", "base-c", "base-d", "base-e", "base-f" };

/* When the first goal was published, since the start. */
static int64_t goal_ms(const struct town *t)
{
    return t->d->planned_ms - TOWN_START_MS;
}

static void what_most_machines_run_comes_first(void **state)
{
    const int machines[] = { 6, 2 };
    struct town *t = delta_town(abcdef, machines, 2);

    (void)state;
    t->at = first_comes_and_goes;
    ready_at_ms = 5000;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(town_logged(t, "a delta of variant default from artifact base-a is ready: 1000 "
                               "bytes instead of 209715200"));
    assert_string_equal(buf_str(&t->wants), "base-a base-b(late) ");
    assert_string_equal(buf_str(&t->packs), "[\"" PACK "\",\"base-a\"]");
    /* The goal waited for it, and not for the second one. */
    assert_true(goal_ms(t) >= 5000);
    assert_true(goal_ms(t) < 7000);
    assert_int_equal(t->deltas_dropped, 1); /* the second was never made */
    town_free(t);
}

static void tried_again(struct town *t)
{
    if (t->wants.len > 0 && strcmp(t->deltas[0].state, "none") == 0) {
        int64_t now = t->now;

        /* One more step of the turn that has asked: its input is what was read before. */
        t->now =
            (int64_t)json_integer_value(json_object_get(json_array_get(t->d->deltas, 0), "at"));
        town_step(t);
        t->now = now;
        t->deltas[0].state = "making";
    }
    if (since_start(t) == 5000)
        finish_delta(t, "base-a", "ready", "");
}

/* The row of an earlier deployment of the same commit is still what the turn that asks has read. */
static void what_came_to_nothing_before_is_tried_again(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->deltas[t->ndeltas++] =
        (struct deploy_delta){ ARTIFACT, "base-a", "", "none", "nobody waits for it", 0, NULL };
    t->at = tried_again;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_false(town_logged(t, "nobody waits for it"));
    assert_string_equal(buf_str(&t->packs), "[\"" PACK "\",\"base-a\"]");
    town_free(t);
}

static void an_unready_delta_does_not_hold_it_up_and_joins_live(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->pack_bytes = t->region_bytes = INT64_C(8) << 30; /* at 4 MiB/s longer than two minutes */
    t->at = first_comes_and_goes;
    t->healthy_after_ms = 60000;
    ready_at_ms = 150000;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(goal_ms(t) >= DEPLOY_DELTA_WAIT_MS);
    assert_true(goal_ms(t) < DEPLOY_DELTA_WAIT_MS + 2000);
    assert_true(town_logged(t, "150000 delta: a delta of variant default")); /* while it rolls */
    assert_string_equal(buf_str(&t->packs), "[\"" PACK "\",\"base-a\"]");
    town_free(t);
}

static void no_longer_than_the_full_pack_would_take(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->at = first_comes_and_goes; /* never ready */
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(goal_ms(t) >= 50000);
    assert_true(goal_ms(t) < 52000);
    assert_string_equal(buf_str(&t->packs), "[\"" PACK "\"]");
    assert_int_equal(t->deltas_dropped, 1);
    town_free(t);
}

static void one_that_comes_to_nothing_is_not_waited_for(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->at = first_comes_and_goes;
    gone_at_ms = 4000;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(goal_ms(t) < 6000);
    assert_true(town_logged(t, "no delta of variant default from artifact base-a: worker lost"));
    town_free(t);
}

static void a_row_that_vanishes_is_not_waited_for(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    town_run(t, 3600000); /* nobody makes rows */
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(goal_ms(t) < 6000);
    assert_true(
        town_logged(t, "no delta of variant default from artifact base-a: its job is gone"));
    town_free(t);
}

static void all_ready_at_once(struct town *t)
{
    make_rows(t);
    for (size_t i = 0; i < t->ndeltas; i++)
        if (strcmp(t->deltas[i].state, "making") == 0)
            finish_delta(t, t->deltas[i].base, "ready", "");
}

static void more_follow_by_how_many_run_them(void **state)
{
    const int machines[] = { 1, 9, 3, 0, 2, 5 };
    struct town *t = delta_town(abcdef, machines, 6);

    (void)state;
    t->at = all_ready_at_once;
    t->restart = true;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    /* None for a version that nobody runs. */
    assert_string_equal(buf_str(&t->wants),
                        "base-b base-f(late) base-c(late) base-e(late) base-a(late) ");
    assert_string_equal(buf_str(&t->packs),
                        "[\"" PACK "\",\"base-b\",\"base-f\",\"base-c\",\"base-e\",\"base-a\"]");
    town_free(t);
}

static void no_more_than_the_first_and_four(void **state)
{
    static const char *const names[] = { "b1", "b2", "b3", "b4", "b5", "b6", "b7" };
    const int machines[] = { 70, 60, 50, 40, 30, 20, 10 };
    struct town *t = delta_town(names, machines, 7);

    (void)state;
    t->at = all_ready_at_once;
    town_run(t, 3600000);
    assert_string_equal(buf_str(&t->wants), "b1 b2(late) b3(late) b4(late) b5(late) ");
    town_free(t);
}

static void where_nobody_knows_the_last_good_release_is_the_base(void **state)
{
    const int machines[] = { 0 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->at = all_ready_at_once;
    town_run(t, 3600000);
    assert_string_equal(buf_str(&t->wants), "base-a ");
    town_free(t);
}

static void what_needs_none(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->pack_bytes = DEPLOY_DELTA_MIN_BYTES - 1; /* too small */
    t->at = all_ready_at_once;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_string_equal(buf_str(&t->wants), "");
    assert_int_equal(t->deltas_dropped, 0);
    town_free(t);

    t = delta_town(abcdef, machines, 1);
    t->bases[0].artifact = ARTIFACT; /* the machines run the same artifact already */
    town_run(t, 3600000);
    assert_string_equal(buf_str(&t->wants), "");
    town_free(t);

    t = delta_town(abcdef, machines, 1);
    t->bases[0].variant = "arm64"; /* of another variant */
    town_run(t, 3600000);
    assert_string_equal(buf_str(&t->wants), "");
    town_free(t);
}

static void one_of_another_deployment_is_told_too(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->deltas[t->ndeltas++] =
        (struct deploy_delta){ ARTIFACT, "base-z", "pack-z", "ready", "", 7, NULL };
    t->deltas[t->ndeltas++] = /* of another artifact: not ours */
        (struct deploy_delta){ RELEASE_OLD, "base-y", "pack-y", "ready", "", 7, NULL };
    t->region_bytes += 7;
    t->at = all_ready_at_once;
    town_run(t, 3600000);
    assert_string_equal(buf_str(&t->packs), "[\"" PACK "\",\"base-a\",\"pack-z\"]");
    town_free(t);
}

static void what_is_packed_is_named(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);
    AUTO_JSON *packed = json_loads("{\"packed\":[{\"path\":\"lib/foo.so.gz\",\"bytes\":12345}],"
                                   "\"npacked\":3,\"packed_bytes\":20000}",
                                   0, NULL);

    (void)state;
    t->deltas[t->ndeltas++] =
        (struct deploy_delta){ ARTIFACT, "base-a", "pack-a", "ready", "", 7, packed };
    t->region_bytes += 7;
    town_run(t, 3600000);
    assert_true(town_logged(t, "; lib/foo.so.gz (12345 bytes) and 2 more are compressed: a delta "
                               "can't help there"));
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(t->d->deltas, 0), "packed_bytes")),
        20000);
    town_free(t);
}

static void abort_after_5s(struct town *t)
{
    make_rows(t);
    if (since_start(t) == 5000)
        t->command = DEPLOY_ABORT;
}

static void rollback_after_5s(struct town *t)
{
    make_rows(t);
    if (t->d->state == DEPLOY_ROLLING && t->d->rollback_ms == 0)
        t->command = DEPLOY_ROLLBACK;
}

static void an_end_drops_what_is_being_made(void **state)
{
    const int machines[] = { 8, 4 };
    struct town *t = delta_town(abcdef, machines, 2);

    (void)state;
    t->at = abort_after_5s;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_ABORTED, 6, "");
    assert_int_equal(t->deltas_dropped, 1);
    assert_string_equal(buf_str(&t->wants), "base-a "); /* and nothing is asked for any more */
    town_free(t);

    t = delta_town(abcdef, machines, 2);
    t->at = rollback_after_5s;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_ROLLED_BACK, 4, "");
    assert_int_equal(t->deltas_dropped, 2); /* when it turns, and again at its end */
    assert_string_equal(buf_str(&t->wants), "base-a ");
    town_free(t);
}

static void promoted_after_5s(struct town *t)
{
    make_rows(t);
    if (since_start(t) == 5000)
        t->command = DEPLOY_PROMOTE;
}

static void a_person_does_not_wait(void **state)
{
    const int machines[] = { 8 };
    struct town *t = delta_town(abcdef, machines, 1);

    (void)state;
    t->at = promoted_after_5s;
    town_run(t, 3600000);
    town_ends_as(t, DEPLOY_SUCCEEDED, 0, "");
    assert_true(goal_ms(t) >= 5000);
    assert_true(goal_ms(t) < 7000);
    town_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_most_machines_run_comes_first),
        cmocka_unit_test(what_came_to_nothing_before_is_tried_again),
        cmocka_unit_test(an_unready_delta_does_not_hold_it_up_and_joins_live),
        cmocka_unit_test(no_longer_than_the_full_pack_would_take),
        cmocka_unit_test(one_that_comes_to_nothing_is_not_waited_for),
        cmocka_unit_test(a_row_that_vanishes_is_not_waited_for),
        cmocka_unit_test(more_follow_by_how_many_run_them),
        cmocka_unit_test(no_more_than_the_first_and_four),
        cmocka_unit_test(where_nobody_knows_the_last_good_release_is_the_base),
        cmocka_unit_test(what_needs_none),
        cmocka_unit_test(one_of_another_deployment_is_told_too),
        cmocka_unit_test(what_is_packed_is_named),
        cmocka_unit_test(an_end_drops_what_is_being_made),
        cmocka_unit_test(a_person_does_not_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
