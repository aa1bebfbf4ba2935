/* Deltas beside deployments: which are wanted, their jobs, and what becomes of them; on SQLite and
 * PostgreSQL. */
#include "control/bases.h"
#include "control/deltas.h"
#include "lib/trees.h"
#include "store/publish_delta.h"
#include "unit/control/cluster.h"

enum { BYTES = 5 << 20 };

/* --- artifacts --- */

/* The next builds yield BYTES random bytes, of which the last ones say which version it is. */
static struct published publish(struct cluster *c, const char *version)
{
    const char *tree = tmpdir_fresh();
    AUTO_FREE char *file = mem_printf("%s/run", tree), *data = mem_alloc(BYTES);
    struct random r = { 7 };

    for (size_t i = 0; i + 8 <= BYTES; i += 8) {
        uint64_t n = random_next(&r);

        memcpy(data + i, &n, 8);
    }
    memcpy(data + BYTES - 100, version, strlen(version));
    tmpdir_write(file, data, BYTES);
    assert_ok(artifact_publish(c->store, tree, NULL, &c->artifact, &c->err), &c->err);
    return c->artifact;
}

/* A delta job as a worker would do it; what: "good", "lie" (of the pack's bytes), "none". */
static char *delta_result(struct cluster *c, const char *spec, const char *what)
{
    AUTO_JSON *json = json_loads(spec, 0, NULL);
    const json_t *delta = json_object_get(json, "delta");
    struct delta_side base, target;
    struct published_delta p = { .dropped = DELTA_TOO_LARGE };
    char hex[HASH_HEX] = "";
    char *text;

    assert_ok(json_get_hash(delta, "base", &base.artifact, &c->err), &c->err);
    assert_ok(json_get_hash(delta, "base_pack", &base.pack, &c->err), &c->err);
    assert_ok(json_get_hash(delta, "target", &target.artifact, &c->err), &c->err);
    assert_ok(json_get_hash(delta, "target_pack", &target.pack, &c->err), &c->err);
    if (strcmp(what, "none") == 0)
        return mem_strdup("{\"v\":1,\"delta\":{\"pack\":null,\"pack_bytes\":0,\"why\":\"too much\","
                          "\"packed\":[{\"path\":\"a.gz\",\"bytes\":9}],\"npacked\":1,"
                          "\"packed_bytes\":9}}");
    assert_ok(artifact_publish_delta(c->store, &base, &target, NULL, &p, &c->err), &c->err);
    assert_int_equal(p.dropped, DELTA_KEPT);
    text = mem_printf("{\"v\":1,\"delta\":{\"pack\":\"%s\",\"pack_bytes\":%llu,\"packed\":[],"
                      "\"npacked\":0,\"packed_bytes\":0}}",
                      hash_hex(&p.pack, hex),
                      (unsigned long long)p.pack_bytes + (strcmp(what, "lie") == 0));
    published_delta_release(&p);
    return text;
}

/* Does the job that is claimed next, if it is a delta's; else it stays claimed. */
static struct job *claim(struct cluster *c)
{
    static int64_t n;
    AUTO_FREE char *token = mem_printf("token-%lld", (long long)++n);
    struct job *j = NULL;

    assert_ok(queue_claim(c->d, "w", token, &j, &c->err), &c->err);
    return j;
}

static void finish(struct cluster *c, struct job *j, enum job_status status, const char *result,
                   const char *failure, const char *reason)
{
    assert_ok(queue_finish(c->d, j->id, j->attempt, status, result, failure, reason, &c->err),
              &c->err);
    job_free(j);
}

static void work_on_delta(struct cluster *c, const char *what)
{
    struct job *j = claim(c);
    AUTO_FREE char *result = NULL;

    assert_non_null(j);
    assert_non_null(strstr(j->spec, "\"delta\""));
    result = delta_result(c, j->spec, what);
    finish(c, j, JOB_SUCCEEDED, result, "", NULL);
}

/* A deployment that succeeds without a worker for deltas. */
static struct published deploy(struct cluster *c, const char *commit, const char *version)
{
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, commit);
    struct published p = publish(c, version);

    cluster_build(c, true);
    cluster_turn(c, id, "succeeded");
    return p;
}

/* --- rows --- */

static void runs(struct cluster *c, const char *region, const char *release, int machines)
{
    assert_ok(DB_EXEC(c->d, &c->err,
                      "INSERT INTO running (region, service, release, machines) "
                      "VALUES ($1, 'web', $2, $3) ON CONFLICT (region, service, release) "
                      "DO UPDATE SET machines = $3",
                      db_text(region), db_text(release), db_int(machines)),
              &c->err);
}

static char *release_of(struct cluster *c, const char *commit)
{
    return cluster_get(c, "SELECT hash FROM release WHERE sha = $1", commit);
}

static void row_is(struct cluster *c, const char *sql, const char *a, const char *value)
{
    AUTO_FREE char *text = cluster_get(c, sql, a);

    assert_string_equal(text, value);
}

static const char state_sql[] = "SELECT state || ': ' || COALESCE(reason, '') FROM delta "
                                "WHERE target <> $1";

static void one_turn_until(struct cluster *c, const char *id, const char *sql, const char *value)
{
    for (int i = 0; i < CLUSTER_TURNS; i++) {
        AUTO_FREE char *now = cluster_get(c, sql, "");

        if (strcmp(now, value) == 0)
            return;
        cluster_one_turn(c);
    }
    (void)id;
    fail_msg("never %s", value);
}

/* "2 of 12ab, 1 of 34cd": what could be a base, in order. */
static void bases_are(struct cluster *c, const struct deploy *d, const struct published *const p[],
                      const int machines[], size_t n)
{
    struct world w = { .in = { .now_ms = 1 } };

    assert_ok(bases_load(c->d, &w, d, &c->err), &c->err);
    assert_int_equal(w.in.nbases, n);
    for (size_t i = 0; i < n; i++) {
        char hex[HASH_HEX];

        assert_string_equal(w.in.bases[i].artifact, hash_hex(&p[i]->artifact, hex));
        assert_string_equal(w.in.bases[i].variant, "default");
        assert_int_equal(w.in.bases[i].machines, machines[i]);
    }
    for (size_t i = 0; i < w.ntexts; i++)
        free(w.texts[i]);
    free(w.texts);
    free(w.bases);
}

static void bases_are_what_machines_run(void **state)
{
    struct cluster *c = cluster_of(state);
    struct published a = deploy(c, COMMIT_A, "one"), b = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *one = release_of(c, COMMIT_A), *two = release_of(c, COMMIT_B);
    struct deploy *d = deploy_new("d-x", "test", "web", "", 0);

    bases_are(c, d, NULL, NULL, 0); /* queued: it could not ask for one */
    d->state = DEPLOY_BUILDING;
    bases_are(c, d, (const struct published *[]){ &b }, (int[]){ 0 }, 1); /* the last good */
    runs(c, "r1", one, 3);
    runs(c, "r2", one, 2);
    runs(c, "r1", two, 4);
    bases_are(c, d, (const struct published *[]){ &a, &b }, (int[]){ 5, 4 }, 2);
    runs(c, "r2", two, 4);
    runs(c, "r2", "not of ours", 100);
    bases_are(c, d, (const struct published *[]){ &b, &a }, (int[]){ 8, 5 }, 2);
    {
        char hex[HASH_HEX];

        cluster_sql(c, "DELETE FROM artifact WHERE digest = $1 OR digest = $2",
                    hash_hex(&a.artifact, hex), "");
    }
    bases_are(c, d, (const struct published *[]){ &b }, (int[]){ 8 }, 1); /* collected */
    deploy_free(d);
}

/* The second deployment of two, whose delta job is queued. */
static char *second(struct cluster *c)
{
    char *id;
    struct job *j;

    deploy(c, COMMIT_A, "one");
    id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_B);
    publish(c, "two");
    {
        AUTO_FREE char *one = release_of(c, COMMIT_A);

        runs(c, "r1", one, 3);
    }
    j = claim(c);
    {
        char artifact[HASH_HEX], pack[HASH_HEX];
        AUTO_FREE char *result = mem_printf(
            "{\"v\":1,\"artifacts\":[{\"variant\":\"default\",\"artifact\":\"%s\",\"pack\":\"%s\","
            "\"bytes\":%llu,\"pack_bytes\":%llu,\"files\":1}]}",
            hash_hex(&c->artifact.artifact, artifact), hash_hex(&c->artifact.pack, pack),
            (unsigned long long)c->artifact.stream_bytes,
            (unsigned long long)c->artifact.pack_bytes);

        finish(c, j, JOB_SUCCEEDED, result, "", NULL);
    }
    one_turn_until(c, id, "SELECT COUNT(*) FROM delta WHERE state = 'making' AND target <> $1",
                   "1");
    return id;
}

static void one_is_made_and_told_to_the_regions(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = second(c);

    row_is(c, "SELECT priority FROM job WHERE status = 'queued' AND spec <> $1", "", "1");
    work_on_delta(c, "good");
    one_turn_until(c, id, state_sql, "ready: ");
    cluster_turn(c, id, "succeeded");
    row_is(c, "SELECT COUNT(*) FROM event WHERE kind = 'delta' AND deployment = $1", id, "1");
    {
        AUTO_FREE char *pack = cluster_get(c, "SELECT pack FROM delta WHERE target <> $1", "");
        AUTO_FREE char *body = cluster_get(
            c, "SELECT body FROM relay WHERE kind = 'replicate' AND deployment = $1", id);

        assert_non_null(strstr(body, pack));
    }
    /* A newer deployment of the same commit uses what there is. */
    row_is(c, "SELECT COUNT(*) FROM job WHERE status = 'queued' AND spec <> $1", "", "0");
}

static void what_goes_wrong_holds_nothing_up(void **state)
{
    static const struct {
        const char *what, *state;
        bool again; /* another deployment would have it made anew */
    } cases[] = {
        { "none", "none: too much", false },
        { "malformed", "none: the worker's result is malformed", true },
        { "no object", "none: the worker's result is malformed", true },
        { "fail", "none: step: broken", true },
        { "gone", "none: its job is gone", true },
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct cluster *c = cluster_of(state);
        AUTO_FREE char *id = second(c), *dedupe = NULL;

        print_message("%s\n", cases[i].what);
        if (strcmp(cases[i].what, "none") == 0)
            work_on_delta(c, "none");
        else if (strcmp(cases[i].what, "malformed") == 0)
            finish(c, claim(c), JOB_SUCCEEDED, "{", "", NULL);
        else if (strcmp(cases[i].what, "no object") == 0)
            finish(c, claim(c), JOB_SUCCEEDED, "{\"delta\":[]}", "", NULL);
        else if (strcmp(cases[i].what, "fail") == 0)
            finish(c, claim(c), JOB_FAILED, NULL, "build", "step: broken");
        else
            cluster_sql(c, "DELETE FROM job WHERE status = 'queued' AND spec <> $1 AND spec <> $2",
                        "", "x");
        one_turn_until(c, id, state_sql, cases[i].state);
        cluster_turn(c, id, "succeeded");
        dedupe = cluster_get(c,
                             "SELECT COUNT(*) FROM job WHERE dedupe LIKE 'delta%' "
                             "AND status IN ('queued', 'running', 'succeeded') AND spec <> $1",
                             "");
        assert_string_equal(dedupe, cases[i].again ? "0" : "1");
        if (i + 1 < COUNT_OF(cases)) { /* a fresh one */
            cluster_free(c);
            *state = cluster_new(TEST_SQLITE);
        }
    }
}

static void a_lie_is_found_out(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = second(c);
    AUTO_FREE char *why = NULL;

    work_on_delta(c, "lie");
    one_turn_until(c, id, "SELECT state FROM delta WHERE target <> $1", "none");
    why = cluster_get(c, "SELECT reason FROM delta WHERE target <> $1", "");
    assert_non_null(strstr(why, "not as large as the worker said"));
    row_is(c, "SELECT COUNT(*) FROM job WHERE dedupe LIKE 'delta%' AND spec <> $1", "", "0");
    cluster_turn(c, id, "succeeded");
}

/* Its worker is silent three times. */
static void a_dead_worker_ends_it(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = second(c);

    for (int i = 0; i < QUEUE_ATTEMPTS; i++) {
        int64_t requeued = 0, failed = 0;
        struct job *j = claim(c);

        assert_non_null(j);
        job_free(j);
        cluster_sql(c,
                    "UPDATE job SET last_h = 0 WHERE status = 'running' AND spec <> $1 "
                    "AND spec <> $2",
                    "", "x");
        assert_ok(queue_reap(c->d, QUEUE_LOST_MS, &requeued, &failed, &c->err), &c->err);
        assert_int_equal(requeued + failed, 1);
        cluster_sql(c, "UPDATE job SET not_before = 0 WHERE spec <> $1 AND spec <> $2", "", "x");
        cluster_one_turn(c);
        row_is(c, "SELECT COUNT(*) FROM delta WHERE state = 'making' AND target <> $1", "",
               failed == 1 ? "0" : "1");
    }
    row_is(c, "SELECT state FROM delta WHERE target <> $1", "", "none");
    cluster_turn(c, id, "succeeded");
}

static void give_command(struct cluster *c, const char *id, const char *verb)
{
    cluster_sql(c,
                "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                "VALUES ($1, $2, 'ann', '', 0)",
                id, verb);
}

static void an_abort_cancels_the_job(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = second(c);
    AUTO_FREE char *why = NULL;
    struct job *j = claim(c);
    bool cancel = false;

    give_command(c, id, "abort");
    cluster_turn(c, id, "aborted");
    assert_ok(queue_beat(c->d, j->id, j->attempt, &cancel, &c->err), &c->err);
    assert_true(cancel);
    finish(c, j, JOB_CANCELLED, NULL, "cancelled", "nobody waits for it");
    one_turn_until(c, id, "SELECT state FROM delta WHERE target <> $1", "none");
    why = cluster_get(c, "SELECT reason FROM delta WHERE target <> $1", "");
    assert_non_null(strstr(why, "nobody waits for it: deployment d-"));
}

static void but_not_one_that_another_deployment_waits_for(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = second(c), *digest = NULL, *detail = NULL;
    struct job *j = claim(c);
    bool cancel = false;

    digest = cluster_get(c, "SELECT target FROM delta WHERE target <> $1", "");
    detail = mem_printf("{\"artifacts\":[{\"artifact\":\"%s\"}]}", digest);
    /* Of another service; the conductor does not look at it here. */
    cluster_sql(c,
                "INSERT INTO deployment (id, service, sha, state, live, tending, recipe, bundle, "
                "job, version, created_at, detail) VALUES ($1, 'db', '', 'rolling', 1, 0, '', '', "
                "0, 0, 0, $2)",
                "d-other", detail);
    give_command(c, id, "abort");
    cluster_turn(c, id, "aborted");
    assert_ok(queue_beat(c->d, j->id, j->attempt, &cancel, &c->err), &c->err);
    assert_false(cancel);
    job_free(j);
}

static void a_base_that_was_collected_is_not_wanted(void **state)
{
    struct cluster *c = cluster_of(state);
    struct deploy *d = deploy_new("d-x", "test", "web", COMMIT_B, 0);
    char target[] = "aa", base[] = "bb";
    struct deploy_want want = { target, base, false };

    json_decref(d->artifacts);
    d->artifacts =
        json_pack("[{s:s,s:s,s:s}]", "variant", "default", "artifact", "aa", "pack", "cc");
    assert_ok(deltas_want(c->d, d, &want, 1, &c->err), &c->err);
    row_is(c, "SELECT COUNT(*) FROM delta WHERE target = $1", "aa", "0");
    cluster_sql(c,
                "INSERT INTO artifact (digest, pack, bytes, pack_bytes, files, service, "
                "created_at) VALUES ($1, $2, 1, 1, 1, 'web', 0)",
                "bb", "dd");
    assert_ok(deltas_want(c->d, d, &want, 1, &c->err), &c->err);
    row_is(c, "SELECT state FROM delta WHERE target = $1", "aa", "making");
    row_is(c, "SELECT priority FROM job WHERE dedupe = $1", "delta bb aa", "1");
    /* What is ready stays so; what came to nothing is tried again, here by the same job. */
    cluster_sql(c, "UPDATE delta SET state = 'ready' WHERE target = $1 AND base = $2", "aa", "bb");
    want.late = true;
    assert_ok(deltas_want(c->d, d, &want, 1, &c->err), &c->err);
    row_is(c, "SELECT state FROM delta WHERE target = $1", "aa", "ready");
    cluster_sql(c, "UPDATE delta SET state = 'none' WHERE target = $1 AND base = $2", "aa", "bb");
    cluster_sql(c, "DELETE FROM job WHERE dedupe = $1 OR dedupe = $2", "delta bb aa", "");
    assert_ok(deltas_want(c->d, d, &want, 1, &c->err), &c->err);
    row_is(c, "SELECT state FROM delta WHERE target = $1", "aa", "making");
    row_is(c, "SELECT priority FROM job WHERE dedupe = $1", "delta bb aa", "2");
    deploy_free(d);
}

#define ON_BOTH(f)                                                            \
    cmocka_unit_test_setup_teardown(f, cluster_on_sqlite, cluster_tear_down), \
    {                                                                         \
#f " on PostgreSQL", f, cluster_on_postgres, cluster_tear_down, NULL  \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(bases_are_what_machines_run),
        ON_BOTH(one_is_made_and_told_to_the_regions),
        cmocka_unit_test_setup_teardown(what_goes_wrong_holds_nothing_up, cluster_on_sqlite,
                                        cluster_tear_down),
        ON_BOTH(a_lie_is_found_out),
        ON_BOTH(a_dead_worker_ends_it),
        ON_BOTH(an_abort_cancels_the_job),
        ON_BOTH(but_not_one_that_another_deployment_waits_for),
        ON_BOTH(a_base_that_was_collected_is_not_wanted),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
