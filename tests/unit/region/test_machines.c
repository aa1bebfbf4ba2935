#include "lib/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "region/machines.h"
#include "wire/member.h"

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static struct hash hash_of(unsigned char c)
{
    struct hash h;

    memset(&h, c, sizeof(h));
    return h;
}

/* One label "rack" (NULL: none), one service (NULL: none) that runs release `runs`. */
static struct machine *hello(struct machines *ms, const char *id, const char *rack,
                             const char *service, unsigned char runs, int64_t now_ms)
{
    struct msg_label label = { text("rack"), text(rack) };
    struct msg_service v = { .service = text(service), .release = hash_of(runs) };
    struct msg_machine msg = { .labels = { &label, rack == NULL ? 0 : 1 },
                               .boot = text("boot"),
                               .host = text("h"),
                               .services = { &v, service == NULL ? 0 : 1 } };
    struct machine *m = NULL;
    struct err err = ERR_INIT;

    assert_ok(machines_hello(ms, id, &msg, now_ms, &m, &err), &err);
    return m;
}

static void plan(struct machines *ms, const char *deployment, const char *select,
                 struct msg_rule *rules, size_t nrules, uint32_t waves)
{
    struct msg_plan msg = { .deployment = text(deployment),
                            .service = text("web"),
                            .select = text(select),
                            .variant = text("{}"),
                            .release = hash_of(2),
                            .rollback_to = hash_of(1),
                            .waves = waves,
                            .rules = { rules, nrules } };
    struct err err = ERR_INIT;

    assert_ok(machines_plan(ms, &msg, &err), &err);
}

static void plan_for_all(struct machines *ms, const char *deployment)
{
    struct msg_rule rule = { 0, text("{}"), UINT64_MAX };

    plan(ms, deployment, "{}", &rule, 1, 1);
}

static int report(struct machines *ms, struct machine *m, const char *deployment,
                  unsigned char release, uint64_t generation, enum report_phase phase,
                  enum verdict verdict, const char *reason)
{
    struct msg_report msg = { .service = text("web"),
                              .deployment = text(deployment),
                              .release = hash_of(release),
                              .generation = generation,
                              .boot = text("boot"),
                              .phase = (uint8_t)phase,
                              .verdict = (uint8_t)verdict,
                              .reason = text(reason) };
    struct err err = ERR_INIT;

    return machines_report(ms, m, &msg, &err);
}

/* The counts of one wave of the newest plan. */
static struct msg_wave_counts count_wave(struct machines *ms, uint32_t wave)
{
    struct msg_counts c;
    struct msg_wave_counts w;

    machines_count(ms, ms->plans[ms->nplans - 1], 1, 0, &c);
    assert_true(wave < c.waves.count);
    w = ((struct msg_wave_counts *)c.waves.items)[wave];
    codec_release(msg_codec(MSG_COUNTS), &c);
    return w;
}

static void each_report_counts_as_what_it_says(void **state)
{
    static const struct {
        unsigned char release;
        enum report_phase phase;
        enum verdict verdict;
        const char *reason;
        bool away; /* unreachable since */
        int staged, activated, healthy, bad, unknown;
    } cases[] = {
        { 2, PHASE_STAGED, VERDICT_NONE, "", false, 1, 0, 0, 0, 0 },
        { 2, PHASE_ACTIVATED, VERDICT_NONE, "", false, 1, 1, 0, 0, 0 },
        { 2, PHASE_HEALTHY, VERDICT_GOOD, "", false, 1, 1, 1, 0, 0 },
        { 2, PHASE_HEALTHY, VERDICT_UNKNOWN, "", false, 1, 1, 0, 0, 1 },
        { 2, PHASE_FAILED, VERDICT_BAD, "health: 500", false, 1, 1, 0, 1, 0 },
        { 2, PHASE_FAILED, VERDICT_NONE, "activate: exit 1", false, 1, 1, 0, 1, 0 },
        { 2, PHASE_FAILED, VERDICT_UNKNOWN, "health: no answer", false, 1, 1, 0, 0, 1 },
        { 2, PHASE_FAILED, VERDICT_UNKNOWN, "stage: no space", false, 0, 0, 0, 1, 0 },
        { 2, PHASE_FAILED, VERDICT_BAD, "stage: corrupt", false, 0, 0, 0, 1, 0 },
        { 2, PHASE_STOPPED, VERDICT_NONE, "", false, 0, 0, 0, 0, 0 },
        { 1, PHASE_HEALTHY, VERDICT_GOOD, "", false, 0, 0, 0, 0, 0 }, /* another release */
        /* Silence is never healthy, and bad latches. */
        { 2, PHASE_STAGED, VERDICT_NONE, "", true, 0, 0, 0, 0, 0 },
        { 2, PHASE_HEALTHY, VERDICT_GOOD, "", true, 0, 1, 0, 0, 1 },
        { 2, PHASE_ACTIVATED, VERDICT_NONE, "", true, 0, 1, 0, 0, 1 },
        { 2, PHASE_FAILED, VERDICT_BAD, "health: 500", true, 0, 1, 0, 1, 0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct machines *ms = machines_new("r1");
        struct machine *m = hello(ms, "m1", "a", NULL, 0, 0);
        struct msg_wave_counts w;

        plan_for_all(ms, "d-2");
        assert_int_equal(report(ms, m, "d-2", cases[i].release, 1, cases[i].phase, cases[i].verdict,
                                cases[i].reason),
                         0);
        if (cases[i].away) {
            machines_lost(ms, m, 0);
            machines_tick(ms, REGION_REACHABLE_MS);
        }
        w = count_wave(ms, 0);
        print_message("case %zu\n", i);
        assert_int_equal(w.total, 1);
        assert_int_equal(w.reachable, !cases[i].away);
        assert_int_equal(w.staged, cases[i].staged);
        assert_int_equal(w.activated, cases[i].activated);
        assert_int_equal(w.healthy, cases[i].healthy);
        assert_int_equal(w.bad, cases[i].bad);
        assert_int_equal(w.unknown, cases[i].unknown);
        assert_int_equal(w.rolled_back, 0);
        machines_free(ms);
    }
}

static void a_machine_is_in_the_first_rule_that_takes_it(void **state)
{
    struct machines *ms = machines_new("r1");
    struct msg_rule rules[3];
    uint64_t first = UINT64_MAX;
    char id[16];
    size_t below = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        hello(ms, id, i % 2 == 0 ? "a" : "b", NULL, 0, 0);
        if (i % 2 == 0 && wave_hash("d-2", id) < first)
            first = wave_hash("d-2", id);
        below += i % 2 == 1 && wave_hash("d-2", id) < UINT64_MAX / 2;
    }
    hello(ms, "other", "c", NULL, 0, 0);
    rules[0] = (struct msg_rule){ 0, text("{\"label\":\"rack\",\"is\":\"a\"}"), first + 1 };
    rules[1] = (struct msg_rule){ 1, text("{\"label\":\"rack\",\"is\":\"b\"}"), UINT64_MAX / 2 };
    rules[2] = (struct msg_rule){ 1, text("{\"label\":\"rack\",\"is\":\"a\"}"), UINT64_MAX };
    plan(ms, "d-2", "{\"none\":[{\"label\":\"rack\",\"is\":\"c\"}]}", rules, 3, 2);
    assert_int_equal(count_wave(ms, 0).total, 1);
    assert_int_equal(count_wave(ms, 1).total, 49 + below);
    assert_int_equal(count_wave(ms, 2).total, 50 - below); /* in none */

    /* Its labels decide, as they are now. */
    hello(ms, "other", "a", NULL, 0, 0);
    assert_int_equal(count_wave(ms, 0).total + count_wave(ms, 1).total, 51 + below);
    /* One that appears later falls into its place. */
    hello(ms, "late", "a", NULL, 0, 0);
    assert_int_equal(count_wave(ms, 0).total + count_wave(ms, 1).total, 52 + below);
    machines_free(ms);
}

static void ours_are_the_labels_region_and_machine(void **state)
{
    struct machines *ms = machines_new("r1");
    struct msg_label said[] = { { text("machine"), text("liar") }, { text("region"), text("r9") } };
    struct msg_machine msg = { .labels = { said, 2 }, .boot = text("b"), .host = text("") };
    struct machine *m = NULL;
    struct err err = ERR_INIT;

    (void)state;
    assert_ok(machines_hello(ms, "m1", &msg, 0, &m, &err), &err);
    assert_string_equal(machine_label(m, "machine"), "m1");
    assert_string_equal(machine_label(m, "region"), "r1");
    assert_null(machine_label(m, "rack"));
    said[0].key = text("");
    assert_error(machines_hello(ms, "m1", &msg, 0, &m, &err), ERR_INVALID, &err, "no key");
    said[0].key = said[1].key = text("k");
    assert_error(machines_hello(ms, "m1", &msg, 0, &m, &err), ERR_INVALID, &err, "twice");
    machines_free(ms);
}

static void reachable_is_thirty_seconds_of_patience(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", NULL, NULL, 0, 1000);

    (void)state;
    plan_for_all(ms, "d-2");
    assert_int_equal(count_wave(ms, 0).reachable, 1);
    machines_lost(ms, m, 5000);
    machines_lost(ms, m, 6000); /* once is enough */
    machines_tick(ms, 5000 + REGION_REACHABLE_MS - 1);
    assert_int_equal(ms->nreachable, 1);
    assert_false(ms->plans[0]->dirty);
    machines_tick(ms, 5000 + REGION_REACHABLE_MS);
    assert_int_equal(ms->nreachable, 0);
    assert_true(ms->plans[0]->dirty);
    assert_int_equal(count_wave(ms, 0).total, 1);
    hello(ms, "m1", NULL, NULL, 0, 90000);
    assert_int_equal(ms->nreachable, 1);
    assert_int_equal(ms->nlinked, 1);
    machines_free(ms);
}

static void only_fresh_reports(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", NULL, NULL, 0, 0);
    struct msg_machine rebooted = { .boot = text("boot-2"), .host = text("") };
    struct err err = ERR_INIT;

    (void)state;
    plan_for_all(ms, "d-2");
    assert_int_equal(report(ms, m, "d-2", 2, 5, PHASE_HEALTHY, VERDICT_GOOD, ""), 0);
    assert_int_equal(report(ms, m, "d-2", 2, 4, PHASE_FAILED, VERDICT_BAD, ""), -(int)ERR_FENCED);
    assert_int_equal(count_wave(ms, 0).healthy, 1);
    /* After a reboot nobody can tell until it reports again; what is on disk stays on disk. */
    assert_ok(machines_hello(ms, "m1", &rebooted, 0, &m, &err), &err);
    assert_int_equal(count_wave(ms, 0).healthy, 0);
    assert_int_equal(count_wave(ms, 0).unknown, 1);
    assert_int_equal(count_wave(ms, 0).staged, 1);
    assert_int_equal(report(ms, m, "d-2", 2, 5, PHASE_HEALTHY, VERDICT_GOOD, ""),
                     -(int)ERR_FENCED); /* of the boot before */
    machines_free(ms);
}

static void only_who_has_moved_is_rolled_back(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *moved = hello(ms, "m1", NULL, "web", 1, 0);
    struct machine *stayed = hello(ms, "m2", NULL, "web", 1, 0);
    struct machine *stopped = hello(ms, "m3", NULL, "web", 1, 0);

    (void)state;
    plan_for_all(ms, "d-2");
    report(ms, moved, "d-2", 2, 1, PHASE_ACTIVATED, VERDICT_NONE, "");
    report(ms, stopped, "d-2", 2, 1, PHASE_FAILED, VERDICT_BAD, "health: 500");
    report(ms, stayed, "d-2", 2, 1, PHASE_STAGED, VERDICT_NONE, "");
    assert_int_equal(count_wave(ms, 0).rolled_back, 0);
    report(ms, stayed, "d-2", 1, 2, PHASE_HEALTHY, VERDICT_GOOD, "");
    report(ms, moved, "d-2", 1, 2, PHASE_ACTIVATED, VERDICT_NONE, "");
    assert_int_equal(count_wave(ms, 0).rolled_back, 0);
    assert_int_equal(count_wave(ms, 0).previous, 1);
    report(ms, moved, "d-2", 1, 2, PHASE_HEALTHY, VERDICT_GOOD, "");
    assert_int_equal(count_wave(ms, 0).rolled_back, 1);
    assert_int_equal(count_wave(ms, 0).previous, 2);
    report(ms, stopped, "d-2", 2, 2, PHASE_STOPPED, VERDICT_NONE, "");
    assert_int_equal(count_wave(ms, 0).rolled_back, 2);
    assert_int_equal(count_wave(ms, 0).activated, 0);
    assert_false(machine_runs(stopped, "web"));
    /* The plan comes again, as after a reconnect: who has moved is still known. */
    plan_for_all(ms, "d-2");
    assert_int_equal(count_wave(ms, 0).rolled_back, 2);
    machines_free(ms);
}

static void a_plan_that_comes_late_finds_who_has_moved(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", NULL, NULL, 0, 0);

    (void)state;
    report(ms, m, "d-2", 2, 1, PHASE_HEALTHY, VERDICT_GOOD, "");
    plan_for_all(ms, "d-2");
    report(ms, m, "d-2", 1, 2, PHASE_HEALTHY, VERDICT_GOOD, "");
    assert_int_equal(count_wave(ms, 0).rolled_back, 1);
    machines_free(ms);
}

static void drift_failures_and_bytes(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", "a", NULL, 0, 0), *back;
    struct msg_rule rule = { 0, text("{}"), UINT64_MAX };
    struct msg_progress p = { .service = text("web"),
                              .deployment = text("d-2"),
                              .release = hash_of(2),
                              .staged_bytes = 10,
                              .wanted_bytes = 20,
                              .seed_bytes = 3,
                              .peer_bytes = 7,
                              .saved_bytes = 5 };
    struct msg_counts c;
    struct err err = ERR_INIT;
    char id[16];

    (void)state;
    hello(ms, "gone", "b", "web", 1, 0); /* runs it, is not selected any more */
    hello(ms, "idle", "b", NULL, 0, 0);
    back = hello(ms, "m2", "a", NULL, 0, 0);
    plan(ms, "d-2", "{\"label\":\"rack\",\"is\":\"a\"}", &rule, 1, 1);
    assert_ok(machines_progress(ms, m, &p, 0, &err), &err);
    report(ms, m, "d-2", 2, 1, PHASE_FAILED, VERDICT_BAD, "stage: no space");
    report(ms, back, "d-2", 1, 1, PHASE_FAILED, VERDICT_BAD, "health: 500");
    machines_count(ms, ms->plans[0], 3, 4, &c);
    assert_string_equal(c.deployment, "d-2");
    assert_int_equal(c.generation, 3);
    assert_int_equal(c.slots_used, 4);
    assert_int_equal(c.drift, 1);
    assert_int_equal(c.staged_bytes, 10);
    assert_int_equal(c.wanted_bytes, 20);
    assert_int_equal(c.seed_bytes, 3);
    assert_int_equal(c.peer_bytes, 7);
    assert_int_equal(c.saved_bytes, 5);
    assert_int_equal(c.failures.count, 2);
    assert_string_equal(((struct msg_failure *)c.failures.items)[0].machine, "m1");
    assert_string_equal(((struct msg_failure *)c.failures.items)[0].phase, "stage");
    assert_string_equal(((struct msg_failure *)c.failures.items)[0].reason, "stage: no space");
    assert_string_equal(((struct msg_failure *)c.failures.items)[1].phase, "rollback");
    codec_release(msg_codec(MSG_COUNTS), &c);
    for (int i = 0; i < 2 * FAILURES_MAX; i++) {
        snprintf(id, sizeof(id), "x%d", i);
        report(ms, hello(ms, id, "a", NULL, 0, 0), "d-2", 2, 1, PHASE_FAILED, VERDICT_BAD, "");
    }
    machines_count(ms, ms->plans[0], 3, 4, &c);
    assert_int_equal(c.failures.count, FAILURES_MAX);
    codec_release(msg_codec(MSG_COUNTS), &c);
    machines_free(ms);
}

/* After a rollback it tells what the release before had cost, in its own deployment: that takes nothing from
 * what this one has cost. */
static void a_rollback_costs_no_figures(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", "a", NULL, 0, 0);
    struct msg_fetch f = { .done = 1, .ms = 5 };
    struct msg_progress p = { .service = text("web"),
                              .staged_bytes = 9,
                              .wanted_bytes = 9,
                              .peer_bytes = 9,
                              .fetch = { &f, 1 } };
    static const char *const told[] = { "d-1", "d-2", "d-1", "d-1" };
    struct msg_counts c;
    struct err err = ERR_INIT;

    (void)state;
    plan_for_all(ms, "d-2");
    for (size_t i = 0; i < COUNT_OF(told); i++) {
        p.deployment = text(told[i]);
        assert_ok(machines_progress(ms, m, &p, 0, &err), &err);
    }
    machines_count(ms, ms->plans[0], 1, 0, &c);
    assert_int_equal(c.peer_bytes, 9);
    assert_int_equal(((const struct msg_swarm *)c.swarm.items)->done, 1);
    codec_release(msg_codec(MSG_COUNTS), &c);
    machines_free(ms);
}

/* A machine that lies harms nobody's figures, and its own of before stand. */
static void what_cannot_be_is_not_counted(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *m = hello(ms, "m1", "a", NULL, 0, 0), *liar = hello(ms, "m2", "a", NULL, 0, 0);
    struct msg_fetch f = {
        .done = 1, .rate_from = RATE_LIMIT, .rate = 1000000, .ms = 5500, .bytes = 5000000
    };
    struct msg_progress p = { .service = text("web"),
                              .deployment = text("d-2"),
                              .release = hash_of(2),
                              .staged_bytes = 5000000,
                              .wanted_bytes = 5000000,
                              .peer_bytes = 5000000,
                              .fetch = { &f, 1 } };
    const struct msg_swarm *s;
    struct msg_counts c;
    struct err err = ERR_INIT;

    (void)state;
    plan_for_all(ms, "d-2");
    assert_ok(machines_progress(ms, m, &p, 6000000, &err), &err);
    assert_ok(machines_progress(ms, liar, &p, 6000000, &err), &err);
    p.peer_bytes = UINT64_MAX;
    for (int i = 0; i < 3; i++)
        assert_int_equal(machines_progress(ms, liar, &p, 6000000, &err), -ERR_INVALID);
    p.peer_bytes = 7000000; /* more than the packs have */
    assert_int_equal(machines_progress(ms, liar, &p, 6000000, &err), -ERR_INVALID);
    machines_count(ms, ms->plans[0], 1, 0, &c);
    s = c.swarm.items;
    assert_int_equal(c.peer_bytes, 10000000);
    assert_int_equal(s->machines, 2);
    assert_int_equal(s->ratio_max, 1100);
    assert_int_equal(s->refused, 4);
    codec_release(msg_codec(MSG_COUNTS), &c);
    p.peer_bytes = 0;
    p.deployment = text("d-3"); /* of the next deployment it told nothing absurd yet */
    assert_ok(machines_progress(ms, liar, &p, 6000000, &err), &err);
    machines_count(ms, ms->plans[0], 1, 0, &c);
    s = c.swarm.items;
    assert_int_equal(s->machines, 2); /* what it said before it lied stands */
    assert_int_equal(s->refused, 0);
    codec_release(msg_codec(MSG_COUNTS), &c);
    machines_free(ms);
}

static void fleet_and_quantile(void **state)
{
    struct machines *ms = machines_new("r1");
    struct msg_number ranks[] = { { 0 }, { 1 }, { 7 }, { 10 }, { 99 } };
    struct msg_fleet_ask fleet = { 1, text("{\"label\":\"rack\",\"in\":[\"a\",\"b\"]}"),
                                   text("{\"by_label\":\"rack\",\"map\":{\"a\":\"va\"}}") };
    struct msg_quantile_ask ask = {
        2, text("d-2"), text("{\"label\":\"rack\",\"is\":\"a\"}"), { ranks, COUNT_OF(ranks) }
    };
    struct msg_fleet f;
    struct msg_quantile q;
    struct msg_number *t;
    struct err err = ERR_INIT;
    char id[16];

    (void)state;
    for (int i = 0; i < 30; i++) {
        static const char *const racks[] = { "a", "b", "c" };

        snprintf(id, sizeof(id), "m%d", i);
        hello(ms, id, racks[i % 3], NULL, 0, 0);
    }
    machines_lost(ms, machines_find(ms, "m0"), 0);
    machines_tick(ms, REGION_REACHABLE_MS);
    assert_ok(machines_fleet(ms, &fleet, &f, &err), &err);
    assert_int_equal(f.total, 20);
    assert_int_equal(f.reachable, 19);
    assert_int_equal(f.variants.count, 2);
    assert_string_equal(((struct msg_tally *)f.variants.items)[0].name, "va");
    assert_int_equal(((struct msg_tally *)f.variants.items)[0].count, 10);
    assert_string_equal(((struct msg_tally *)f.variants.items)[1].name, "");
    codec_release(msg_codec(MSG_FLEET), &f);

    assert_ok(machines_quantile(ms, &ask, &q, &err), &err);
    assert_int_equal(q.matching, 10);
    t = q.thresholds.items;
    assert_true(t[0].value == 0);
    assert_true(t[3].value == UINT64_MAX && t[4].value == UINT64_MAX);
    for (size_t i = 1; i <= 2; i++) {
        uint64_t taken = 0;

        for (int k = 0; k < 30; k += 3) {
            snprintf(id, sizeof(id), "m%d", k);
            taken += wave_hash("d-2", id) < t[i].value;
        }
        assert_int_equal(taken, ranks[i].value);
    }
    codec_release(msg_codec(MSG_QUANTILE), &q);

    fleet.select = text("{\"what\":1}");
    assert_error(machines_fleet(ms, &fleet, &f, &err), ERR_INVALID, &err, "fleet");
    fleet.select = text("{}");
    fleet.variant = text("{\"by\":1}");
    assert_error(machines_fleet(ms, &fleet, &f, &err), ERR_INVALID, &err, "variant");
    ask.where = text("[]");
    assert_error(machines_quantile(ms, &ask, &q, &err), ERR_INVALID, &err, "quantile");
    machines_free(ms);
}

static uint64_t runs(const struct machines *ms, unsigned char release)
{
    struct hash h = hash_of(release);

    return running_count(&ms->running, "web", &h);
}

static void what_runs_is_counted_beside_all_plans(void **state)
{
    struct machines *ms = machines_new("r1");
    struct machine *a = hello(ms, "a", NULL, "web", 1, 0), *b = hello(ms, "b", NULL, "web", 1, 0);
    struct machine *c = NULL;
    struct msg_machine self = { .boot = text("old"), .host = text("h") };
    struct hash old = hash_of(1);
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(runs(ms, 1), 2);
    assert_int_equal(report(ms, a, "d-1", 2, 1, PHASE_STAGED, VERDICT_NONE, ""), 0);
    assert_int_equal(runs(ms, 1), 2); /* on disk is not running */
    assert_int_equal(report(ms, a, "d-1", 2, 1, PHASE_ACTIVATED, VERDICT_NONE, ""), 0);
    assert_int_equal(runs(ms, 1), 1);
    assert_int_equal(runs(ms, 2), 1);
    machines_lost(ms, b, 1000);
    machines_tick(ms, 1000 + REGION_REACHABLE_MS);
    assert_int_equal(runs(ms, 1), 1); /* who is away still has it */
    assert_int_equal(report(ms, a, "d-1", 2, 1, PHASE_STOPPED, VERDICT_NONE, ""), 0);
    assert_int_equal(runs(ms, 2), 0);
    hello(ms, "b", NULL, NULL, 0, 2000); /* it comes back without */
    assert_int_equal(runs(ms, 1), 0);
    assert_ok(machines_restore(ms, "c", &self, 0, 3000, &c, &err), &err);
    machines_restore_report(ms, c, "web", &old, NULL, NULL);
    assert_int_equal(runs(ms, 1), 1);
    hello(ms, "c", NULL, "web", 3, 3000);
    assert_int_equal(runs(ms, 1), 0);
    assert_int_equal(runs(ms, 3), 1);
    machines_free(ms);
}

static void a_machine_cannot_name_services_without_end(void **state)
{
    struct machines *ms = machines_new("r1");
    struct msg_service odd = { .service = text("web\"} 1\n") };
    struct msg_machine bad = { .boot = text("b"), .host = text(""), .services = { &odd, 1 } };
    struct machine *m = NULL;
    struct err err = ERR_INIT;

    (void)state;
    for (int i = 0; i < MACHINE_SERVICES_MAX + 5; i++) {
        char name[16];

        snprintf(name, sizeof(name), "s-%d", i);
        m = hello(ms, "m1", NULL, name, 1, 0);
    }
    assert_int_equal(m->nservices, MACHINE_SERVICES_MAX);
    assert_error(machines_hello(ms, "m2", &bad, 0, &m, &err), ERR_INVALID, &err, "service");
    m = hello(ms, "m1", NULL, "s-0", 7, 0); /* those that it has are still heard of */
    assert_true(machine_runs(m, "s-0"));
    machines_free(ms);
}

static void plans_that_make_no_sense(void **state)
{
    struct machines *ms = machines_new("r1");
    struct msg_rule rule = { 1, text("{}"), 1 };
    struct msg_plan msg = { .deployment = text("d-1"),
                            .service = text("web"),
                            .select = text("{}"),
                            .variant = text("{}"),
                            .waves = 1,
                            .rules = { &rule, 1 } };
    struct err err = ERR_INIT;

    (void)state;
    assert_error(machines_plan(ms, &msg, &err), ERR_INVALID, &err, "wave 1 of 1");
    rule = (struct msg_rule){ 0, text("{\"label\":1}"), 1 };
    assert_error(machines_plan(ms, &msg, &err), ERR_INVALID, &err, "rule 0");
    rule.where = text("{}");
    msg.select = text("no");
    assert_error(machines_plan(ms, &msg, &err), ERR_INVALID, &err, "select");
    msg.select = text("{}");
    msg.variant = text("{\"x\":1}");
    assert_error(machines_plan(ms, &msg, &err), ERR_INVALID, &err, "variant");
    msg.variant = text("{}");
    msg.waves = WAVES_MAX + 1;
    assert_error(machines_plan(ms, &msg, &err), ERR_LIMIT, &err, "waves");
    msg.waves = 1;
    msg.service = text("../x");
    assert_error(machines_plan(ms, &msg, &err), ERR_INVALID, &err, "service");
    assert_int_equal(ms->nplans, 0);
    msg.service = text("web");
    for (int i = 0; i < 10; i++) { /* only the newest of a service are kept */
        char id[16];

        snprintf(id, sizeof(id), "d-%d", i);
        msg.deployment = id;
        assert_ok(machines_plan(ms, &msg, &err), &err);
    }
    assert_int_equal(ms->nplans, REGION_SERVICE_PLANS_MAX);
    assert_string_equal(ms->plans[0]->deployment, "d-6");
    machines_free(ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_report_counts_as_what_it_says),
        cmocka_unit_test(a_machine_is_in_the_first_rule_that_takes_it),
        cmocka_unit_test(ours_are_the_labels_region_and_machine),
        cmocka_unit_test(reachable_is_thirty_seconds_of_patience),
        cmocka_unit_test(only_fresh_reports),
        cmocka_unit_test(only_who_has_moved_is_rolled_back),
        cmocka_unit_test(a_plan_that_comes_late_finds_who_has_moved),
        cmocka_unit_test(drift_failures_and_bytes),
        cmocka_unit_test(a_rollback_costs_no_figures),
        cmocka_unit_test(what_cannot_be_is_not_counted),
        cmocka_unit_test(fleet_and_quantile),
        cmocka_unit_test(what_runs_is_counted_beside_all_plans),
        cmocka_unit_test(a_machine_cannot_name_services_without_end),
        cmocka_unit_test(plans_that_make_no_sense),
    };

    return cmocka_run_group_tests_name("machines", tests, NULL, NULL);
}
