/* The control plane's end of the links, with a region node that the test plays: real sockets, real
 * certificates; what regions say becomes rows, and rows become messages, in order and again. */
#include "unit/control/cluster.h"

#include "control/link_side.h"
#include "control/mailbox.h"
#include "control/sign.h"
#include "io/link.h"
#include "io/work.h"

enum { GOT_MAX = 256, GUARD_MS = 20000 };

struct scene {
    struct cluster *c;
    struct loop *loop;
    struct work_pool *pool;
    struct db_pool *db;
    struct link_identity *control, *region;
    struct link_side *side;
    struct link *link;
    bool open, closed, stopped;
    struct {
        enum msg_type type;
        char text[128]; /* what it is about */
    } got[GOT_MAX];
    size_t ngot;
    uint64_t ask; /* of the last question that was not the liveness one */
    enum msg_type ask_type;
    bool answer_alive;
    struct timer tick, guard;
    bool (*until)(struct scene *s);
};

static void note(struct scene *s, enum msg_type type, const char *text)
{
    assert_true(s->ngot < GOT_MAX);
    s->got[s->ngot].type = type;
    snprintf(s->got[s->ngot].text, sizeof(s->got[0].text), "%s", text);
    s->ngot++;
}

static void on_fleet_ask(struct scene *s, const struct msg_fleet_ask *m)
{
    struct msg_fleet answer = { .ask = m->ask, .total = 4, .reachable = 3 };
    struct err err = ERR_INIT;

    if (strcmp(m->select, "{}") != 0) {
        s->ask = m->ask;
        s->ask_type = MSG_FLEET_ASK;
        note(s, MSG_FLEET_ASK, m->select);
    } else if (s->answer_alive) {
        assert_ok(link_send(s->link, MSG_FLEET, &answer, &err), &err);
    }
}

static void on_opened(void *ctx, struct link *l)
{
    struct scene *s = ctx;

    s->link = l;
    s->open = true;
}

static void on_doc(struct scene *s, const struct msg_doc *m)
{
    static const char *const kinds[] = { "none", "trust", "release", "goal" };

    note(s, MSG_DOC, kinds[m->kind]);
}

static void on_message(void *ctx, struct link *l, enum msg_type type, const void *msg)
{
    struct scene *s = ctx;

    (void)l;
    if (type == MSG_DOC) {
        on_doc(s, msg);
    } else if (type == MSG_PLAN) {
        note(s, type, ((const struct msg_plan *)msg)->deployment);
    } else if (type == MSG_REPLICATE) {
        note(s, type, ((const struct msg_replicate *)msg)->deployment);
    } else if (type == MSG_FLEET_ASK) {
        on_fleet_ask(s, msg);
    } else if (type == MSG_QUANTILE_ASK) {
        s->ask = ((const struct msg_quantile_ask *)msg)->ask;
        s->ask_type = type;
        note(s, type, ((const struct msg_quantile_ask *)msg)->where);
    }
}

static void on_closed(void *ctx, struct link *l, const struct err *why)
{
    struct scene *s = ctx;

    (void)l;
    (void)why;
    s->link = NULL;
    s->open = false;
    s->closed = true;
}

static const struct link_handler handler = { on_opened, on_message, NULL, on_closed };

static void on_tick(struct timer *t)
{
    struct scene *s = CONTAINER_OF(t, struct scene, tick);

    if (s->until(s))
        loop_stop(s->loop);
}

static void on_guard(struct timer *t)
{
    (void)t;
    fail_msg("it never came");
}

static void run_until(struct scene *s, bool (*until)(struct scene *s))
{
    s->until = until;
    timer_start(s->loop, &s->guard, GUARD_MS, 0, on_guard);
    timer_start(s->loop, &s->tick, 1, 5, on_tick);
    loop_run(s->loop);
    timer_stop(&s->tick);
    timer_stop(&s->guard);
}

static void connect_region(struct scene *s)
{
    s->closed = false;
    assert_ok(link_connect(&s->link, s->loop, s->region, "127.0.0.1", link_side_port(s->side),
                           ROLE_CONTROL, "control", &handler, s, &s->c->err),
              &s->c->err);
}

static int start(void **state)
{
    struct scene *s = mem_alloc(sizeof(*s));
    const char *control = tmpdir_fresh(), *region = tmpdir_fresh();
    struct err *err;
    struct link_side_options o = { .listen = "127.0.0.1:0", .holder = "test" };

    s->c = cluster_new(TEST_SQLITE);
    err = &s->c->err;
    assert_ok(db_query(s->c->d, "DELETE FROM region", NULL, 0, NULL, NULL, err), err);
    assert_ok(keys_issue(s->c->keys, control, ROLE_CONTROL, "control", err), err);
    assert_ok(keys_issue(s->c->keys, region, ROLE_REGION, "r1", err), err);
    assert_ok(link_identity_load(&s->control, control, "", err), err);
    assert_ok(link_identity_load(&s->region, region, "r1", err), err);
    assert_ok(loop_new(&s->loop, err), err);
    assert_ok(work_pool_new(&s->pool, s->loop, 1, err), err);
    s->db = db_pool_new(s->c->t.url);
    s->answer_alive = true;
    o.loop = s->loop;
    o.pool = s->pool;
    o.db = s->db;
    o.wake = s->c->wake;
    o.keys = s->c->keys;
    o.identity = s->control;
    assert_ok(link_side_start(&s->side, &o, err), err);
    *state = s;
    return 0;
}

static void on_stopped(void *arg)
{
    struct scene *s = arg;

    s->stopped = true;
}

static bool is_stopped(struct scene *s)
{
    return s->stopped && s->link == NULL &&
           link_identity_links(s->control) + link_identity_links(s->region) == 0;
}

static int stop(void **state)
{
    struct scene *s = *state;

    link_side_stop(s->side, on_stopped, s);
    run_until(s, is_stopped);
    work_pool_free(s->pool);
    link_side_free(s->side);
    db_pool_free(s->db);
    link_identity_free(s->control);
    link_identity_free(s->region);
    loop_free(s->loop);
    cluster_free(s->c);
    free(s);
    return 0;
}

static bool told(const struct scene *s, enum msg_type type, const char *text, size_t *at)
{
    for (size_t i = 0; i < s->ngot; i++) {
        if (s->got[i].type == type && strcmp(s->got[i].text, text) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

static bool row_is(struct scene *s, const char *sql, const char *a, const char *value)
{
    AUTO_FREE char *text = cluster_get(s->c, sql, a);

    return strcmp(text, value) == 0;
}

static bool is_known(struct scene *s)
{
    return row_is(s, "SELECT connected FROM region WHERE name = $1", "r1", "1") &&
           row_is(s, "SELECT machines FROM region WHERE name = $1", "r1", "4");
}

static bool is_gone(struct scene *s)
{
    return s->closed && row_is(s, "SELECT connected FROM region WHERE name = $1", "r1", "0");
}

static void a_region_comes_and_goes(void **state)
{
    struct scene *s = *state;
    size_t at;

    connect_region(s);
    run_until(s, is_known);
    assert_true(row_is(s, "SELECT reachable FROM region WHERE name = $1", "r1", "3"));
    assert_true(told(s, MSG_DOC, "trust", &at));
    assert_int_equal(at, 0);
    link_close(s->link, ERR_CANCELLED, "bye");
    run_until(s, is_gone);
    /* What was known of it stays. */
    assert_true(row_is(s, "SELECT machines FROM region WHERE name = $1", "r1", "4"));
}

/* --- what regions say --- */

static bool replica_is_verified(struct scene *s)
{
    return row_is(s, "SELECT state FROM replica WHERE region = $1", "r1", "verified");
}

static bool counts_are_newest(struct scene *s)
{
    AUTO_FREE char *body =
        cluster_get(s->c, "SELECT body FROM counts WHERE deployment = $1", "d-1");

    return strstr(body, "\"generation\":50") != NULL;
}

static void sayings_become_rows(void **state)
{
    struct scene *s = *state;
    struct msg_replica replica = { .state = REPLICA_FETCHING, .bytes = 5, .total = 10 };
    struct msg_wave_counts wave = { .wave = 1, .total = 4, .healthy = 2 };
    struct msg_counts counts = { .deployment = mem_strdup("d-1"), .waves = { &wave, 1 } };

    connect_region(s);
    run_until(s, is_known);
    memset(replica.artifact.b, 0x33, HASH_BYTES);
    assert_ok(link_send(s->link, MSG_REPLICA, &replica, &s->c->err), &s->c->err);
    replica.state = REPLICA_VERIFIED;
    assert_ok(link_send(s->link, MSG_REPLICA, &replica, &s->c->err), &s->c->err);
    for (uint64_t i = 1; i <= 50; i++) { /* one row, the newest */
        counts.generation = i;
        assert_ok(link_send(s->link, MSG_COUNTS, &counts, &s->c->err), &s->c->err);
    }
    run_until(s, replica_is_verified);
    run_until(s, counts_are_newest);
    assert_true(row_is(s, "SELECT COUNT(*) FROM counts WHERE deployment = $1", "d-1", "1"));
    free(counts.deployment);
}

static bool second_runs_are_known(struct scene *s)
{
    return row_is(s, "SELECT SUM(machines) FROM running WHERE service = $1", "web", "7");
}

static bool too_many_run(struct scene *s)
{
    AUTO_FREE char *twice = mem_printf("%lld", 2 * (long long)MAILBOX_NUMBER_MAX);

    return row_is(s, "SELECT SUM(machines) FROM running WHERE service = $1", "web", twice);
}

static bool nothing_runs(struct scene *s)
{
    return row_is(s, "SELECT COUNT(*) FROM running WHERE service = $1", "web", "0");
}

static void what_runs_replaces_what_ran(void **state)
{
    struct scene *s = *state;
    struct msg_running releases[] = { { .machines = 4 }, { .machines = 3 } };
    struct msg_runs runs = { mem_strdup("web"), { releases, 2 } };

    connect_region(s);
    run_until(s, is_known);
    cluster_sql(s->c,
                "INSERT INTO running (region, service, release, machines) "
                "VALUES ($1, $2, 'old', 100)",
                "r1", "web");
    memset(releases[0].release.b, 0x11, HASH_BYTES);
    memset(releases[1].release.b, 0x22, HASH_BYTES);
    assert_ok(link_send(s->link, MSG_RUNS, &runs, &s->c->err), &s->c->err);
    run_until(s, second_runs_are_known);
    releases[0].machines = releases[1].machines = UINT64_MAX; /* nobody has so many: cut */
    assert_ok(link_send(s->link, MSG_RUNS, &runs, &s->c->err), &s->c->err);
    run_until(s, too_many_run);
    runs.releases = (struct list_of){ NULL, 0 };
    assert_ok(link_send(s->link, MSG_RUNS, &runs, &s->c->err), &s->c->err);
    run_until(s, nothing_runs);
    free(runs.service);
}

static bool link_is_closed(struct scene *s)
{
    return s->closed;
}

static void other_sayings_end_the_link(void **state)
{
    struct scene *s = *state;
    struct msg_leave leave = { { { 0 } } };

    connect_region(s);
    run_until(s, is_known);
    assert_ok(link_send(s->link, MSG_LEAVE, &leave, &s->c->err), &s->c->err);
    run_until(s, link_is_closed);
}

static void what_runs_has_a_name_that_a_service_can_have(void **state)
{
    struct scene *s = *state;
    struct msg_runs runs = { mem_strdup("web\"} 1\n"), { NULL, 0 } };

    connect_region(s);
    run_until(s, is_known);
    assert_ok(link_send(s->link, MSG_RUNS, &runs, &s->c->err), &s->c->err);
    run_until(s, link_is_closed);
    free(runs.service);
}

/* --- what they are told --- */

static void add_release(struct scene *s, const char *hash)
{
    assert_ok(DB_EXEC(s->c->d, &s->c->err,
                      "INSERT INTO release (hash, service, sha, recipe, doc, good, created_at) "
                      "VALUES ($1, 'web', '', '', $2, 0, 0)",
                      db_text(hash), db_blob("doc", 3)),
              &s->c->err);
}

static void add_goal(struct scene *s, const char *region, int64_t seq)
{
    assert_ok(DB_EXEC(s->c->d, &s->c->err,
                      "INSERT INTO goal (service, region, generation, seq, deployment, release, "
                      "rollback_to, doc) VALUES ('web', $1, $2, $2, 'd-1', 'new', 'old', $3) "
                      "ON CONFLICT (service, region) DO UPDATE SET generation = $2, seq = $2",
                      db_text(region), db_int(seq), db_blob("goal", 4)),
              &s->c->err);
}

static void add_relay(struct scene *s, const char *region, const char *kind, const char *body,
                      int64_t seq)
{
    assert_ok(DB_EXEC(s->c->d, &s->c->err,
                      "INSERT INTO relay (deployment, region, kind, seq, body) "
                      "VALUES ('d-1', $1, $2, $3, $4)",
                      db_text(region), db_text(kind), db_int(seq), db_text(body)),
              &s->c->err);
}

static void set_counter(struct scene *s, int64_t value)
{
    assert_ok(DB_EXEC(s->c->d, &s->c->err, "UPDATE counter SET value = $1 WHERE name = 'relay'",
                      db_int(value)),
              &s->c->err);
}

static void fill(struct scene *s)
{
    AUTO_FREE char *plan =
        mem_printf("{\"deployment\":\"d-1\",\"service\":\"web\",\"release\":\"%064d"
                   "\",\"waves\":1,\"rules\":[{\"wave\":0,\"where\":{},"
                   "\"threshold\":\"ffffffffffffffff\"}]}",
                   1);

    add_release(s, "new");
    add_release(s, "old");
    add_relay(s, "*", "replicate", "{\"deployment\":\"d-1\",\"artifacts\":[]}", 1);
    add_relay(s, "r1", "plan", plan, 2);
    add_relay(s, "r2", "plan", "nonsense", 3);
    add_goal(s, "r1", 4);
    add_goal(s, "r2", 5);
    set_counter(s, 5);
}

static bool has_goal(struct scene *s)
{
    size_t at;

    return told(s, MSG_DOC, "goal", &at);
}

static void rows_become_messages_in_order(void **state)
{
    static const struct {
        enum msg_type type;
        const char *text;
    } order[] = { { MSG_DOC, "trust" },   { MSG_REPLICATE, "d-1" }, { MSG_PLAN, "d-1" },
                  { MSG_DOC, "release" }, { MSG_DOC, "release" },   { MSG_DOC, "goal" } };
    struct scene *s = *state;

    fill(s);
    connect_region(s);
    run_until(s, has_goal);
    assert_int_equal(s->ngot, COUNT_OF(order));
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        assert_int_equal(s->got[i].type, order[i].type);
        assert_string_equal(s->got[i].text, order[i].text);
    }
    /* A new goal comes alone, and nothing comes twice. */
    s->ngot = 0;
    add_goal(s, "r1", 6);
    set_counter(s, 6);
    wake_all(s->c->wake);
    run_until(s, has_goal);
    assert_int_equal(s->ngot, 3);
    /* After a reconnect everything comes again. */
    s->ngot = 0;
    link_close(s->link, ERR_CANCELLED, "again");
    run_until(s, is_gone);
    connect_region(s);
    run_until(s, has_goal);
    assert_int_equal(s->ngot, COUNT_OF(order));
}

/* What is committed behind the counter is not told yet: the counter's order is the commits'. */
static void nothing_is_skipped(void **state)
{
    struct scene *s = *state;

    fill(s);
    set_counter(s, 3);
    connect_region(s);
    run_until(s, is_known);
    assert_false(has_goal(s));
    set_counter(s, 5);
    wake_all(s->c->wake);
    run_until(s, has_goal);
}

/* --- questions --- */

static void ask(struct scene *s, const char *key, const char *kind, const char *request)
{
    assert_ok(DB_EXEC(s->c->d, &s->c->err,
                      "INSERT INTO ask (deployment, key, region, kind, request, created_at) "
                      "VALUES ('d-1', $1, 'r1', $2, $3, 0)",
                      db_text(key), db_text(kind), db_text(request)),
              &s->c->err);
    wake_all(s->c->wake);
}

static bool is_asked(struct scene *s)
{
    return s->ask != 0;
}

static bool is_answered(struct scene *s)
{
    AUTO_FREE char *answer = cluster_get(s->c, "SELECT answer FROM ask WHERE key = $1", "fleet-1");

    return strstr(answer, "\"total\":9") != NULL;
}

static bool is_answered_too(struct scene *s)
{
    AUTO_FREE char *answer = cluster_get(s->c, "SELECT answer FROM ask WHERE key = $1", "ranks-2");

    return strstr(answer, "ffffffffffffffff") != NULL;
}

static void questions_are_answered(void **state)
{
    struct scene *s = *state;
    struct msg_tally tally = { .name = mem_strdup("arm"), .count = 9 };
    struct msg_fleet fleet = { .total = 9, .reachable = 9, .variants = { &tally, 1 } };
    struct msg_number threshold = { UINT64_MAX };
    struct msg_quantile quantile = { .matching = 9, .thresholds = { &threshold, 1 } };

    connect_region(s);
    run_until(s, is_known);
    ask(s, "fleet-1", "fleet", "{\"select\":{\"label\":\"a\",\"is\":\"b\"},\"variant\":{}}");
    run_until(s, is_asked);
    /* The link breaks before the answer: it is asked again. */
    link_close(s->link, ERR_CANCELLED, "again");
    run_until(s, is_gone);
    s->ask = 0;
    connect_region(s);
    run_until(s, is_asked);
    fleet.ask = s->ask;
    assert_ok(link_send(s->link, MSG_FLEET, &fleet, &s->c->err), &s->c->err);
    run_until(s, is_answered);

    s->ask = 0;
    ask(s, "ranks-2", "quantile", "{\"deployment\":\"d-1\",\"where\":{},\"ranks\":[3]}");
    run_until(s, is_asked);
    assert_int_equal(s->ask_type, MSG_QUANTILE_ASK);
    quantile.ask = s->ask + 1000; /* to a question that nobody asked */
    assert_ok(link_send(s->link, MSG_QUANTILE, &quantile, &s->c->err), &s->c->err);
    quantile.ask = s->ask;
    assert_ok(link_send(s->link, MSG_QUANTILE, &quantile, &s->c->err), &s->c->err);
    run_until(s, is_answered_too);
    free(tally.name);
}

/* --- rows that do not parse --- */

static void malformed_rows(void **state)
{
    static const struct {
        const char *kind, *json, *part;
    } cases[] = {
        { "replicate", "{}", "replicate: deployment: missing" },
        { "replicate", "{\"deployment\":\"d\",\"artifacts\":[{}]}", "variant: missing" },
        { "plan", "{\"deployment\":\"d\"}", "plan: service: missing" },
        { "fleet", "[]", "not an object" },
        { "quantile", "{\"deployment\":\"d\"}", "ranks: missing" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_JSON *json = json_loads(cases[i].json, 0, NULL);
        struct err err = ERR_INIT;
        int r;

        if (strcmp(cases[i].kind, "replicate") == 0)
            r = msg_from_replicate(&(struct msg_replicate *){ NULL }, json, &err);
        else if (strcmp(cases[i].kind, "plan") == 0)
            r = msg_from_plan(&(struct msg_plan *){ NULL }, json, &err);
        else if (strcmp(cases[i].kind, "fleet") == 0)
            r = msg_from_fleet_ask(&(struct msg_fleet_ask *){ NULL }, json, &err);
        else
            r = msg_from_quantile_ask(&(struct msg_quantile_ask *){ NULL }, json, &err);
        assert_error(r, ERR_INVALID, &err, cases[i].part);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_region_comes_and_goes, start, stop),
        cmocka_unit_test_setup_teardown(sayings_become_rows, start, stop),
        cmocka_unit_test_setup_teardown(what_runs_replaces_what_ran, start, stop),
        cmocka_unit_test_setup_teardown(what_runs_has_a_name_that_a_service_can_have, start, stop),
        cmocka_unit_test_setup_teardown(other_sayings_end_the_link, start, stop),
        cmocka_unit_test_setup_teardown(rows_become_messages_in_order, start, stop),
        cmocka_unit_test_setup_teardown(nothing_is_skipped, start, stop),
        cmocka_unit_test_setup_teardown(questions_are_answered, start, stop),
        cmocka_unit_test(malformed_rows),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
