/* Which artifacts are needed, on SQLite and PostgreSQL. */
#include "control/reach.h"
#include "control/regions.h"
#include "unit/control/cluster.h"

#define COMMIT_C "cccccccccccccccccccccccccccccccccccccccc"

/* The next builds yield this content. Gives the artifact's digest. */
static char *publish(struct cluster *c, const char *text)
{
    const char *tree = tmpdir_fresh();
    AUTO_FREE char *file = mem_printf("%s/run", tree);
    char hex[HASH_HEX];

    tmpdir_write(file, text, strlen(text));
    assert_ok(artifact_publish(c->store, tree, NULL, &c->artifact, &c->err), &c->err);
    return mem_strdup(hash_hex(&c->artifact.artifact, hex));
}

static char *deploy(struct cluster *c, const char *commit, const char *text)
{
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, commit);
    char *digest = publish(c, text);

    cluster_build(c, true);
    cluster_turn(c, id, "succeeded");
    return digest;
}

static json_t *load(struct cluster *c, int64_t keep)
{
    json_t *answer = NULL;

    assert_ok(reach_load(c->d, keep, &answer, &c->err), &c->err);
    return answer;
}

static const json_t *find(const json_t *answer, const char *digest)
{
    json_t *a;
    size_t i;

    json_array_foreach(json_object_get(answer, "artifacts"), i, a)
    {
        if (strcmp(json_string_value(json_object_get(a, "digest")), digest) == 0)
            return a;
    }
    return NULL;
}

static bool is_reachable(struct cluster *c, int64_t keep, const char *digest)
{
    AUTO_JSON *answer = load(c, keep);

    return json_is_true(json_object_get(find(answer, digest), "reachable"));
}

static size_t forget(struct cluster *c, const char *a, const char *b, int64_t keep)
{
    AUTO_JSON *digests = json_pack("[s,s]", a, b);
    AUTO_JSON *gone = NULL;

    assert_ok(reach_forget(c->d, digests, keep, "ann", &gone, &c->err), &c->err);
    return json_array_size(gone);
}

static void what_runs_and_what_it_goes_back_to(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *three = deploy(c, COMMIT_C, "three");
    AUTO_JSON *answer = load(c, 1);
    const json_t *a = find(answer, three);

    assert_int_equal(json_array_size(json_object_get(a, "releases")), 1);
    assert_int_equal(json_array_size(json_object_get(a, "deployments")), 1);
    assert_true(json_array_size(json_object_get(a, "reasons")) >= 3);
    assert_true(json_is_null(json_object_get(answer, "safe_before")));
    assert_true(is_reachable(c, 0, three));
    assert_true(is_reachable(c, 0, two)); /* every region would go back to it */
    assert_false(is_reachable(c, 0, one));
    assert_false(is_reachable(c, 1, one));
    assert_true(is_reachable(c, 3, one));
}

static void what_is_being_built(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *id = cluster_trigger(c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *digest = publish(c, "one");
    AUTO_JSON *answer = NULL;
    struct job *j = NULL;

    assert_ok(queue_claim(c->d, "w", "token", &j, &c->err), &c->err);
    answer = load(c, 5);
    assert_true(json_integer_value(json_object_get(answer, "safe_before")) > 0);
    assert_null(find(answer, digest));
    cluster_sql(c, "UPDATE job SET status = $1, started_at = NULL, claim_token = $2", "queued",
                NULL);
    job_free(j);
    /* Built, and the conductor has not looked yet. */
    cluster_build(c, true);
    assert_true(is_reachable(c, 0, digest));
    assert_int_equal(forget(c, digest, digest, 0), 0);
}

static void what_is_forgotten_is_built_again(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *three = deploy(c, COMMIT_C, "three");
    AUTO_FREE char *again = NULL, *releases = NULL;

    assert_int_equal(forget(c, one, three, 1), 1);
    {
        AUTO_JSON *answer = load(c, 5);

        assert_null(find(answer, one)); /* a release that lost its artifact is not one to keep */
        assert_non_null(find(answer, two));
    }
    /* Other bytes from the same sources: a release of its own, not the one of the bytes that went. */
    again = deploy(c, COMMIT_A, "one, built at another time");
    assert_true(is_reachable(c, 0, again));
    assert_false(is_reachable(c, 0, one));
    releases = cluster_get(c, "SELECT COUNT(*) FROM release WHERE sha = $1", COMMIT_A);
    assert_string_equal(releases, "2");
    assert_int_equal(forget(c, again, again, 0), 0);
}

static const char *reason(const json_t *answer, const char *digest)
{
    return json_string_value(json_array_get(json_object_get(find(answer, digest), "reasons"), 0));
}

static void what_some_machine_runs(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *three = deploy(c, COMMIT_C, "three");
    AUTO_FREE char *release = cluster_get(c, "SELECT hash FROM release WHERE sha = $1", COMMIT_A);

    assert_false(is_reachable(c, 0, one));
    cluster_sql(c,
                "INSERT INTO running (region, service, release, machines) VALUES ($1, 'web', $2, "
                "2)",
                "r1", release);
    {
        AUTO_JSON *answer = load(c, 0);

        assert_string_equal(reason(answer, one), "2 machines run it for web");
    }
    assert_int_equal(forget(c, one, two, 0), 0);
    cluster_sql(c, "UPDATE running SET machines = 0 WHERE region = $1 AND release = $2", "r1",
                release);
    assert_int_equal(forget(c, one, two, 0), 1);
    /* It is gone: that a machine has it after all brings nothing back. */
    cluster_sql(c, "UPDATE running SET machines = 9 WHERE region = $1 AND release = $2", "r1",
                release);
    assert_false(is_reachable(c, 0, one));
    assert_true(is_reachable(c, 0, three));
}

/* {RELEASE: machines, …} as a region tells it. */
static void tell(struct cluster *c, const char *region, const char *one, int64_t n,
                 const char *other, int64_t m, int64_t now_ms)
{
    AUTO_JSON *list = json_pack("[[s,I],[s,I]]", one, (json_int_t)n, other, (json_int_t)m);

    if (m == 0)
        json_array_remove(list, 1);
    if (n == 0)
        json_array_remove(list, 0);
    assert_ok(region_runs(c->d, region, "web", list, now_ms, &c->err), &c->err);
}

/* A region node that has begun anew knows those machines that have come back to it, and no more. */
static void what_a_region_told_before(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *three = deploy(c, COMMIT_C, "three");
    AUTO_FREE char *a = cluster_get(c, "SELECT hash FROM release WHERE sha = $1", COMMIT_A);
    AUTO_FREE char *b = cluster_get(c, "SELECT hash FROM release WHERE sha = $1", COMMIT_C);
    int64_t now = wall_ms();

    tell(c, "r1", a, 2, b, 2, now);
    assert_true(is_reachable(c, 0, one));
    tell(c, "r1", a, 0, b, 0, now); /* nobody has come yet */
    {
        AUTO_JSON *answer = load(c, 0);

        assert_string_equal(reason(answer, one),
                            "2 machines of r1 ran it for web, and r1 has told of fewer since");
    }
    tell(c, "r1", a, 0, b, 1, now);
    tell(c, "r1", a, 0, b, 3, now); /* more than on that release before, and fewer in all */
    assert_true(is_reachable(c, 0, one));
    assert_int_equal(forget(c, one, two, 0), 0); /* two is what three would go back to */
    tell(c, "r2", a, 0, b, 4, now);              /* another region's are not these */
    assert_true(is_reachable(c, 0, one));
    tell(c, "r1", a, 0, b, 4, now); /* all are back, and have moved meanwhile */
    assert_false(is_reachable(c, 0, one));
    assert_true(is_reachable(c, 0, three));

    tell(c, "r1", a, 1, b, 3, now - REGION_LOST_MS - 1000);
    tell(c, "r1", a, 0, b, 3, now - REGION_LOST_MS - 1000); /* the one has never come again */
    assert_false(is_reachable(c, 0, one));
    tell(c, "r1", a, 0, b, 3, now);
    AUTO_FREE char *left = cluster_get(c,
                                       "SELECT COUNT(*) FROM running_before "
                                       "WHERE region = $1",
                                       "r1");
    assert_string_equal(left, "0");
}

/* It keeps what it ran until it is forgotten; and if it comes back it is a new one. */
static void a_region_that_is_gone(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *release = cluster_get(c, "SELECT hash FROM release WHERE sha = $1", COMMIT_A);
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two"), *three = NULL, *audit = NULL;
    int64_t now = wall_ms();

    assert_ok(DB_EXEC(c->d, &c->err,
                      "INSERT INTO region (name, holder, connected, session_at, seen_at, machines, "
                      "reachable) VALUES ('r3', 'test', 0, 0, 1, 3, 0)"),
              &c->err);
    cluster_sql(c,
                "INSERT INTO goal (service, region, generation, seq, deployment, release, "
                "rollback_to, doc) SELECT service, $1, generation, seq, deployment, $2, "
                "rollback_to, doc FROM goal "
                "WHERE region = 'r1'",
                "r3", release);
    tell(c, "r3", release, 3, release, 0, now);
    tell(c, "r3", release, 1, release, 0, now);
    assert_int_equal(region_forget(c->d, "r9", "ann", "", now, &c->err), -ERR_NOT_FOUND);
    assert_int_equal(region_forget(c->d, "r1", "ann", "", now, &c->err), -ERR_CONFLICT);
    assert_ok(region_forget(c->d, "r3", "ann", "burnt down", now, &c->err), &c->err);
    audit = cluster_get(c,
                        "SELECT actor || ' ' || verb || ' ' || object || ' ' || reason FROM audit "
                        "WHERE object = $1",
                        "r3");
    assert_string_equal(audit, "ann forget-region r3 burnt down");
    three = deploy(c, COMMIT_C, "three"); /* nothing waits for r3 */
    assert_false(is_reachable(c, 0, one));
    assert_true(is_reachable(c, 0, two));
    assert_true(is_reachable(c, 0, three));
}

static void add_delta(struct cluster *c, const char *base, const char *target, const char *state)
{
    int64_t job = 0;

    assert_ok(queue_enqueue_late(c->d, "web", COMMIT_A, "{}", base, 1000, 1, &job, &c->err),
              &c->err);
    assert_ok(DB_EXEC(c->d, &c->err,
                      "INSERT INTO delta (target, base, job, state, pack, pack_bytes) "
                      "VALUES ($1, $2, $3, $4, 'pack', 7)",
                      db_text(target), db_text(base), db_int(job), db_text(state)),
              &c->err);
}

static void deltas_in_the_making_and_made(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_FREE char *two = deploy(c, COMMIT_B, "two");
    AUTO_FREE char *three = deploy(c, COMMIT_C, "three");
    AUTO_FREE char *left = NULL, *dedupe = NULL;

    add_delta(c, one, three, "making");
    {
        AUTO_JSON *answer = load(c, 0);
        const json_t *deltas = json_object_get(find(answer, three), "deltas");

        assert_string_equal(reason(answer, one), "a delta from it is being made");
        assert_int_equal(json_array_size(deltas), 1);
        assert_string_equal(json_string_value(json_object_get(json_array_get(deltas, 0), "base")),
                            one);
    }
    assert_int_equal(forget(c, one, one, 0), 0); /* not under the job */
    cluster_sql(c, "UPDATE delta SET state = 'ready' WHERE base = $1 AND target = $2", one, three);
    assert_false(is_reachable(c, 0, one));
    add_delta(c, two, three, "ready");
    assert_int_equal(forget(c, one, two, 0), 1);
    left = cluster_get(c, "SELECT base FROM delta WHERE target = $1", three);
    assert_string_equal(left, two); /* the other one is forgotten, */
    dedupe = cluster_get(c, "SELECT COUNT(*) FROM job WHERE dedupe = $1", one);
    assert_string_equal(dedupe, "0"); /* and would be made anew */
}

static void what_makes_no_sense(void **state)
{
    struct cluster *c = cluster_of(state);
    AUTO_FREE char *one = deploy(c, COMMIT_A, "one");
    AUTO_JSON *digests = json_pack("[s]", "abc");
    AUTO_JSON *gone = NULL, *answer = NULL;

    assert_error(reach_forget(c->d, digests, 1, "ann", &gone, &c->err), ERR_INVALID, &c->err,
                 "digests");
    assert_error(reach_forget(c->d, NULL, 1, "ann", &gone, &c->err), ERR_INVALID, &c->err,
                 "digests");
    assert_ok(DB_EXEC(c->d, &c->err, "UPDATE release SET doc = $1 WHERE sha = $2",
                      db_blob("nonsense", 8), db_text(COMMIT_A)),
              &c->err);
    assert_true(reach_load(c->d, 5, &answer, &c->err) < 0);
    assert_non_null(strstr(c->err.text, "release"));
}

#define BOTH(test)                                                               \
    cmocka_unit_test_setup_teardown(test, cluster_on_sqlite, cluster_tear_down), \
        cmocka_unit_test_setup_teardown(test, cluster_on_postgres, cluster_tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BOTH(what_runs_and_what_it_goes_back_to),
        BOTH(what_is_being_built),
        BOTH(what_some_machine_runs),
        BOTH(what_a_region_told_before),
        BOTH(a_region_that_is_gone),
        BOTH(deltas_in_the_making_and_made),
        BOTH(what_is_forgotten_is_built_again),
        BOTH(what_makes_no_sense),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
