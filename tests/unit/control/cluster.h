/* cluster.h - a control plane's innards over a fresh database, without links: keys, an origin store
 * with one artifact, a policy host, a conductor that is turned by hand; regions that live in rows.
 *
 *     struct cluster *c = cluster_new(TEST_SQLITE);      NULL: no such database here
 *     id = cluster_trigger(c, policy, commit);
 *     cluster_build(c, true);                            a worker's part
 *     cluster_turn(c, "succeeded");                      until that state, regions obeying
 *
 * The program must call cluster_main() first: it is its own policy host. */
#ifndef TESTS_CONTROL_CLUSTER_H
#define TESTS_CONTROL_CLUSTER_H

#include "lib/check.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/conductor.h"
#include "control/duty.h"
#include "control/record.h"
#include "control/trigger.h"
#include "control/view.h"
#include "io/loop.h"
#include "lib/database.h"
#include "lib/tmpdir.h"
#include "policy/policy.h"
#include "store/publish.h"
#include "wire/member.h"

enum { CLUSTER_REGIONS = 2, CLUSTER_MACHINES = 4, CLUSTER_TURNS = 600 };

struct cluster {
    struct test_database t;
    struct db *d;
    struct keys *keys;
    struct store *store;
    struct wake *wake;
    struct policy_host *host;
    struct conductor *conductor;
    int64_t fence;
    struct published artifact;
    struct err err;
    char *bad_release;
};

#define CLUSTER_POLICY                                               \
    "local s = require 'slipway'\n"                                  \
    "return { service = 'web', activate = { start = { 'run' } },\n"  \
    "  build = { steps = { s.run { 'make' } }, outputs = 'out' },\n" \
    "  waves = { { name = 'one', count = 1 }, { name = 'rest', percent = 100 } } }\n"
#define COMMIT_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define COMMIT_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static inline void cluster_main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "policy-host") == 0)
        _exit(policy_host_main());
}

static inline void cluster_sql(struct cluster *c, const char *sql, const char *a, const char *b)
{
    assert_ok(DB_EXEC(c->d, &c->err, sql, db_text(a), db_text(b)), &c->err);
}

/* The first column of the first row, or "". */
static inline char *cluster_get(struct cluster *c, const char *sql, const char *a)
{
    struct db_rows *rows = NULL;
    char *text;

    assert_ok(DB_ROWS(c->d, &rows, &c->err, sql, db_text(a)), &c->err);
    text = mem_strdup(db_rows_count(rows) == 0 ? "" : db_get_text(rows, 0, 0));
    db_rows_free(rows);
    return text;
}

static inline void cluster_conductor(struct cluster *c)
{
    struct conductor_options o = { .db = c->t.url,
                                   .engine_path = "/proc/self/exe",
                                   .holder = "test",
                                   .keys = c->keys,
                                   .store = c->store,
                                   .wake = c->wake };

    conductor_free(c->conductor);
    c->conductor = NULL;
    assert_ok(conductor_new(&c->conductor, &o, &c->err), &c->err);
    assert_ok(duty_claim(c->d, "conductor", "test", &c->fence, &c->err), &c->err);
}

static inline struct cluster *cluster_new(enum test_backend backend)
{
    struct cluster *c = mem_alloc(sizeof(*c));
    const char *tree = tmpdir_fresh();
    AUTO_FREE char *file = mem_printf("%s/run", tree);

    if (!test_database_init(&c->t, backend)) {
        free(c);
        return NULL;
    }
    c->d = test_database_open(&c->t);
    assert_ok(db_migrate(c->d, &c->err), &c->err);
    assert_ok(keys_open(&c->keys, tmpdir_fresh(), "test", &c->err), &c->err);
    assert_ok(store_open(&c->store, tmpdir_fresh(), &c->err), &c->err);
    tmpdir_write(file, "hello", 5);
    assert_ok(artifact_publish(c->store, tree, NULL, &c->artifact, &c->err), &c->err);
    assert_ok(policy_host_new(&c->host, "/proc/self/exe", &c->err), &c->err);
    c->wake = wake_new();
    cluster_conductor(c);
    for (int i = 0; i < CLUSTER_REGIONS; i++) {
        char name[] = { 'r', (char)('1' + i), '\0' };

        assert_ok(DB_EXEC(c->d, &c->err,
                          "INSERT INTO region (name, holder, connected, session_at, seen_at, "
                          "machines, reachable) VALUES ($1, 'test', 1, 0, $2, $3, $3)",
                          db_text(name), db_int(wall_ms() + 3600000), db_int(CLUSTER_MACHINES)),
                  &c->err);
    }
    return c;
}

static inline void cluster_free(struct cluster *c)
{
    conductor_free(c->conductor);
    policy_host_free(c->host);
    wake_free(c->wake);
    store_close(c->store);
    keys_free(c->keys);
    db_close(c->d);
    test_database_release(&c->t);
    free(c->bad_release);
    free(c);
}

static inline json_t *cluster_request(const char *policy, const char *commit)
{
    return json_pack("{s:{s:s,s:{s:s}},s:s,s:s,s:s,s:s}", "bundle", "main", "web.lua", "files",
                     "web.lua", policy, "repo", "/nowhere", "commit", commit, "actor", "ann",
                     "reason", "because");
}

static inline int cluster_try(struct cluster *c, json_t *request, struct buf *id, bool *is_new,
                              json_t **plan)
{
    struct trigger t = { .cluster = c->keys->cluster, .db = c->d, .host = c->host };
    int r = trigger_deployment(&t, request, "token", id, is_new, plan, &c->err);

    json_decref(request);
    return r;
}

static inline char *cluster_trigger(struct cluster *c, const char *policy, const char *commit)
{
    struct buf id = BUF_INIT;
    json_t *plan = NULL;
    bool is_new = false;

    assert_ok(cluster_try(c, cluster_request(policy, commit), &id, &is_new, &plan), &c->err);
    assert_true(is_new);
    return buf_steal(&id);
}

/* Every queued job is built: with the artifact, or fails. */
static inline void cluster_build(struct cluster *c, bool good)
{
    struct job *j = NULL;

    assert_ok(queue_claim(c->d, "w", "token", &j, &c->err), &c->err);
    while (j != NULL) {
        char artifact[HASH_HEX], pack[HASH_HEX];
        AUTO_FREE char *result = mem_printf(
            "{\"v\":1,\"artifacts\":[{\"variant\":\"default\",\"artifact\":\"%s\","
            "\"pack\":\"%s\",\"bytes\":%llu,\"pack_bytes\":%llu,\"files\":%llu}]}",
            hash_hex(&c->artifact.artifact, artifact), hash_hex(&c->artifact.pack, pack),
            (unsigned long long)c->artifact.stream_bytes,
            (unsigned long long)c->artifact.pack_bytes, (unsigned long long)c->artifact.files);

        assert_ok(queue_finish(c->d, j->id, j->attempt, good ? JOB_SUCCEEDED : JOB_FAILED,
                               good ? result : NULL, good ? "" : "build",
                               good ? NULL : "step make: exit status 2", &c->err),
                  &c->err);
        job_free(j);
        assert_ok(queue_claim(c->d, "w", "token", &j, &c->err), &c->err);
    }
}

/* --- regions in rows --- */

static inline int cluster_by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static inline uint64_t cluster_hash(const char *deployment, const char *region, int machine)
{
    AUTO_FREE char *id = mem_printf("%s-m%d", region, machine);

    return wave_hash(deployment, id);
}

static inline json_t *cluster_answer(const char *kind, const char *region, const json_t *request)
{
    const char *deployment = json_string_value(json_object_get(request, "deployment"));
    json_t *thresholds = json_array(), *rank;
    uint64_t hashes[CLUSTER_MACHINES];
    size_t i;

    if (strcmp(kind, "fleet") == 0) {
        json_decref(thresholds);
        return json_pack("{s:i,s:i,s:{s:i}}", "total", CLUSTER_MACHINES, "reachable",
                         CLUSTER_MACHINES, "variants", "default", CLUSTER_MACHINES);
    }
    for (int m = 0; m < CLUSTER_MACHINES; m++)
        hashes[m] = cluster_hash(deployment, region, m);
    qsort(hashes, CLUSTER_MACHINES, sizeof(hashes[0]), cluster_by_hash);
    json_array_foreach(json_object_get(request, "ranks"), i, rank)
    {
        size_t n = (size_t)json_integer_value(rank);
        char text[17];

        threshold_text(text, n >= CLUSTER_MACHINES ? UINT64_MAX : hashes[n - 1] + 1);
        json_array_append_new(thresholds, json_string(text));
    }
    return json_pack("{s:i,s:o}", "matching", CLUSTER_MACHINES, "thresholds", thresholds);
}

static inline void cluster_answers(struct cluster *c)
{
    struct db_rows *rows = NULL;

    assert_ok(
        DB_ROWS(c->d, &rows, &c->err,
                "SELECT deployment, key, region, kind, request FROM ask WHERE answer IS NULL"),
        &c->err);
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        AUTO_JSON *request = json_loads(db_get_text(rows, i, 4), 0, NULL);
        AUTO_JSON *answer =
            cluster_answer(db_get_text(rows, i, 3), db_get_text(rows, i, 2), request);
        AUTO_FREE char *text = json_text(answer);

        assert_ok(DB_EXEC(c->d, &c->err,
                          "UPDATE ask SET answer = $3 WHERE deployment = $1 AND key = $2",
                          db_text(db_get_text(rows, i, 0)), db_text(db_get_text(rows, i, 1)),
                          db_text(text)),
                  &c->err);
    }
    db_rows_free(rows);
}

/* Regions verify whatever they are asked for, at once. */
static inline void cluster_replicates(struct cluster *c)
{
    char hex[HASH_HEX];

    hash_hex(&c->artifact.artifact, hex);
    for (int i = 0; i < CLUSTER_REGIONS; i++) {
        char name[] = { 'r', (char)('1' + i), '\0' };

        cluster_sql(
            c,
            "INSERT INTO replica (artifact, region, state, bytes, total, origin_bytes, "
            "reason, at) SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), 'verified', 5, 5, 5, '', "
            "0 FROM relay WHERE kind = 'replicate' "
            "AND body LIKE '%' || CAST($1 AS TEXT) || '%' "
            "ON CONFLICT (artifact, region) DO NOTHING",
            hex, name);
    }
}

/* Machines do what the goal says at once; counts are what they then are. */
static inline json_t *cluster_counts(struct cluster *c, const struct goal *g, const json_t *plan,
                                     bool *ret_moves)
{
    const json_t *rules = json_object_get(plan, "rules");
    json_int_t n = json_integer_value(json_object_get(plan, "waves"));
    int64_t waves[8][9] = { { 0 } };
    json_t *list = json_array();
    char release[HASH_HEX];
    const char *mine = json_string_value(json_object_get(plan, "release"));
    bool forward = strcmp(hash_hex(&g->release, release), mine) == 0 && g->action == GOAL_RUN;

    *ret_moves = forward;
    for (int m = 0; m < CLUSTER_MACHINES; m++) {
        AUTO_FREE char *id = mem_printf("%s-m%d", g->region, m);
        struct label labels[] = { { "machine", id }, { "region", g->region } };
        bool active = goal_activates(g, id, labels, 2) && forward;
        bool bad = active && c->bad_release != NULL && strcmp(c->bad_release, mine) == 0;
        size_t k, wave = (size_t)n;
        json_t *rule;

        json_array_foreach(rules, k, rule)
        {
            uint64_t threshold = 0;

            assert_true(
                threshold_parse(&threshold, json_string_value(json_object_get(rule, "threshold"))));
            if (wave_hash(g->deployment, id) < threshold) {
                wave = (size_t)json_integer_value(json_object_get(rule, "wave"));
                break;
            }
        }
        waves[wave][0]++;
        waves[wave][1]++;
        waves[wave][2] += forward;
        waves[wave][3] += active;
        waves[wave][4] += active && !bad;
        waves[wave][5] += bad;
        waves[wave][7] += !forward;
        waves[wave][8] += !forward;
    }
    for (json_int_t w = 0; w <= n; w++) {
        json_t *one = json_array();

        for (int k = 0; k < 9; k++)
            json_array_append_new(one, json_integer(waves[w][k]));
        json_array_append_new(list, one);
    }
    return json_pack("{s:I,s:o,s:[]}", "generation", (json_int_t)g->generation, "waves", list,
                     "failures");
}

static inline void cluster_obeys(struct cluster *c)
{
    struct db_rows *rows = NULL;

    assert_ok(DB_ROWS(c->d, &rows, &c->err,
                      "SELECT g.region, g.deployment, g.doc, r.body FROM goal g JOIN relay r "
                      "ON r.deployment = g.deployment AND r.region = g.region AND r.kind = 'plan'"),
              &c->err);
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        AUTO_JSON *plan = json_loads(db_get_text(rows, i, 3), 0, NULL);
        AUTO_JSON *counts = NULL;
        AUTO_FREE char *text = NULL;
        struct goal *g = NULL;
        size_t len = 0;
        const void *doc = db_get_blob(rows, i, 2, &len);
        bool moves;

        /* As an agent would: only a signed goal counts. */
        assert_ok(goal_open(&g, c->keys->trust, doc, len, &c->err), &c->err);
        counts = cluster_counts(c, g, plan, &moves);
        text = json_text(counts);
        assert_ok(DB_EXEC(c->d, &c->err,
                          "INSERT INTO counts (deployment, region, at, body) VALUES ($1, $2, $3, "
                          "$4) ON CONFLICT (deployment, region) DO UPDATE SET at = $3, body = $4",
                          db_text(db_get_text(rows, i, 1)), db_text(db_get_text(rows, i, 0)),
                          db_int(wall_ms()), db_text(text)),
                  &c->err);
        goal_free(g);
    }
    db_rows_free(rows);
}

static inline void cluster_one_turn(struct cluster *c)
{
    const struct timespec step = { 0, 5 * 1000000 };
    uint64_t seen = 0;
    bool moved = false;

    assert_ok(conductor_turn(c->conductor, c->d, c->fence, &moved, &c->err), &c->err);
    cluster_answers(c);
    cluster_replicates(c);
    cluster_obeys(c);
    if (!moved)
        nanosleep(&step, NULL); /* a verification runs on its own thread */
    (void)seen;
}

static inline char *cluster_state(struct cluster *c, const char *id)
{
    return cluster_get(c, "SELECT state FROM deployment WHERE id = $1", id);
}

/* Turns until the deployment is in that state; the test fails if that does not come. */
static inline void cluster_turn(struct cluster *c, const char *id, const char *state)
{
    for (int i = 0; i < CLUSTER_TURNS; i++) {
        AUTO_FREE char *now = cluster_state(c, id);

        if (strcmp(now, state) == 0)
            return;
        cluster_one_turn(c);
    }
    {
        AUTO_FREE char *detail = cluster_get(c, "SELECT detail FROM deployment WHERE id = $1", id);

        print_error("%s\n", detail);
        fail_msg("never %s", state);
    }
}

/* For cmocka: the same test on either database; cluster_of() skips where there is none. */
static inline int cluster_on_sqlite(void **state)
{
    *state = cluster_new(TEST_SQLITE);
    return 0;
}

static inline int cluster_on_postgres(void **state)
{
    *state = cluster_new(TEST_POSTGRES);
    return 0;
}

static inline int cluster_tear_down(void **state)
{
    if (*state != NULL)
        cluster_free(*state);
    return 0;
}

static inline struct cluster *cluster_of(void **state)
{
    if (*state == NULL)
        skip();
    return *state;
}

#endif
