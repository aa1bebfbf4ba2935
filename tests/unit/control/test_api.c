/* The HTTP API over real sockets: who may, what is refused and how, and what waits. */
#include "unit/control/cluster.h"

#include <pthread.h>

#include "control/api.h"
#include "control/auth.h"
#include "io/http.h"

struct web {
    struct cluster *c;
    struct db_pool *pool;
    struct api *api;
    struct buf tokens[5]; /* by role */
    int status;
    json_t *answer;
};

static int start(void **state)
{
    struct web *w = mem_alloc(sizeof(*w));
    struct api_options o = { .listen = "127.0.0.1:0",
                             .cluster = "test",
                             .engine_path = "/proc/self/exe" };

    w->c = cluster_new(TEST_SQLITE);
    w->pool = o.db = db_pool_new(w->c->t.url);
    o.wake = w->c->wake;
    for (int r = ROLE_VIEWER; r <= ROLE_ADMIN; r++)
        assert_ok(token_make(w->c->d, role_text((enum role)r), (enum role)r, 0, &w->tokens[r],
                             &w->c->err),
                  &w->c->err);
    assert_ok(api_start(&w->api, &o, &w->c->err), &w->c->err);
    *state = w;
    return 0;
}

static int stop(void **state)
{
    struct web *w = *state;

    wake_stop(w->c->wake);
    api_free(w->api);
    db_pool_free(w->pool);
    for (int r = 0; r < 5; r++)
        buf_release(&w->tokens[r]);
    json_decref(w->answer);
    cluster_free(w->c);
    free(w);
    return 0;
}

static json_t *call_as(struct web *w, const char *token, const char *method, const char *path,
                       const char *body)
{
    AUTO_FREE char *url = mem_printf("http://127.0.0.1:%d%s", api_port(w->api), path);
    AUTO_BUF out = BUF_INIT;
    struct err err = ERR_INIT;
    struct http_request q = { .method = method,
                              .url = url,
                              .token = token,
                              .body = body,
                              .timeout_ms = 30000,
                              .max_bytes = 64 << 20 };

    json_decref(w->answer);
    assert_ok(http_call(&q, &w->status, &out, &err), &err);
    w->answer = json_loadb(buf_str(&out), out.len, 0, NULL);
    return w->answer;
}

static json_t *call(struct web *w, enum role role, const char *method, const char *path,
                    const char *body)
{
    return call_as(w, role == ROLE_NOBODY ? NULL : buf_str(&w->tokens[role]), method, path, body);
}

static void expect_error(struct web *w, int status, const char *code, const char *part)
{
    const json_t *error = json_object_get(w->answer, "error");

    assert_int_equal(w->status, status);
    assert_non_null(error);
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    assert_non_null(strstr(json_string_value(json_object_get(error, "text")), part));
}

static char *body_of(const char *policy, const char *commit, const char *key)
{
    AUTO_JSON *request = cluster_request(policy, commit);

    if (key != NULL)
        json_object_set_new(request, "key", json_string(key));
    return json_text(request);
}

static const char *text(const json_t *o, const char *key)
{
    const char *value = json_string_value(json_object_get(o, key));

    return value == NULL ? "" : value;
}

/* Every route refuses who has no token, a wrong one, or too small a role; whatever is not in the
 * table is refused too. */
static void routes_are_guarded(void **state)
{
    static const struct {
        const char *method, *path;
        enum role role;
    } routes[] = {
        { "GET", "/metrics", ROLE_VIEWER },
        { "POST", "/v1/deployments", ROLE_RELEASER },
        { "GET", "/v1/deployments", ROLE_VIEWER },
        { "GET", "/v1/deployments/web", ROLE_VIEWER },
        { "GET", "/v1/deployments/web/events", ROLE_VIEWER },
        { "GET", "/v1/deployments/web/decisions", ROLE_VIEWER },
        { "POST", "/v1/deployments/web/abort", ROLE_RELEASER },
        { "GET", "/v1/events", ROLE_VIEWER },
        { "GET", "/v1/jobs", ROLE_VIEWER },
        { "GET", "/v1/jobs/1", ROLE_VIEWER },
        { "GET", "/v1/jobs/1/log", ROLE_VIEWER },
        { "POST", "/v1/jobs/1/cancel", ROLE_RELEASER },
        { "GET", "/v1/regions", ROLE_VIEWER },
        { "POST", "/v1/regions/r9/forget", ROLE_ADMIN },
        { "GET", "/v1/services", ROLE_VIEWER },
        { "POST", "/v1/tokens", ROLE_ADMIN },
        { "GET", "/v1/audit", ROLE_ADMIN },
    };
    struct web *w = *state;

    for (size_t i = 0; i < COUNT_OF(routes); i++) {
        call(w, ROLE_NOBODY, routes[i].method, routes[i].path, NULL);
        expect_error(w, 401, "denied", "bearer token");
        call_as(w, "dk_wrong", routes[i].method, routes[i].path, NULL);
        expect_error(w, 401, "denied", "no such token");
        for (int r = ROLE_VIEWER; r <= ROLE_ADMIN; r++) {
            call(w, (enum role)r, routes[i].method, routes[i].path, NULL);
            if (r < (int)routes[i].role)
                expect_error(w, 403, "denied", "needs the role");
            else
                assert_true(w->status != 401 && w->status != 403);
        }
    }
    call(w, ROLE_ADMIN, "GET", "/v1/secrets", NULL);
    expect_error(w, 404, "not_found", "no such route");
    call(w, ROLE_ADMIN, "DELETE", "/v1/deployments", NULL);
    expect_error(w, 405, "invalid", "no such route");
    call(w, ROLE_ADMIN, "GET", "/v1/deployments/", NULL);
    expect_error(w, 404, "not_found", "");
    call(w, ROLE_NOBODY, "GET", "/livez", NULL);
    assert_int_equal(w->status, 200);
    call(w, ROLE_NOBODY, "GET", "/readyz", NULL);
    assert_int_equal(w->status, 200);
}

static void bad_bodies(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *huge = mem_alloc(API_BODY_MAX_BYTES + 1000);
    AUTO_FREE char *policy = body_of("return {", COMMIT_A, NULL);
    AUTO_FREE char *endless = body_of("while true do end", COMMIT_A, NULL);

    call(w, ROLE_RELEASER, "POST", "/v1/deployments", NULL);
    expect_error(w, 400, "invalid", "a body is needed");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments", "{");
    expect_error(w, 400, "invalid", "not JSON");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments", "[]");
    expect_error(w, 400, "invalid", "not an object");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments", policy);
    expect_error(w, 422, "policy", "web.lua:1:");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments", endless);
    assert_int_equal(w->status, 422);
    memset(huge, ' ', API_BODY_MAX_BYTES + 999);
    call(w, ROLE_RELEASER, "POST", "/v1/deployments", huge);
    expect_error(w, 413, "limit", "longer than");
}

static void a_deployment(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *body = body_of(CLUSTER_POLICY, COMMIT_A, "key-1");
    AUTO_FREE char *id = NULL, *path = NULL;
    const json_t *view = call(w, ROLE_RELEASER, "POST", "/v1/deployments", body);

    assert_int_equal(w->status, 201);
    id = mem_strdup(text(view, "id"));
    assert_string_equal(text(view, "state"), "queued");
    assert_true(json_is_null(json_object_get(view, "exit")));
    view = call(w, ROLE_RELEASER, "POST", "/v1/deployments", body);
    assert_int_equal(w->status, 200);
    assert_string_equal(text(view, "id"), id);

    call(w, ROLE_VIEWER, "GET", "/v1/deployments?live=1&limit=5", NULL);
    assert_int_equal(json_array_size(json_object_get(w->answer, "deployments")), 1);
    call(w, ROLE_VIEWER, "GET", "/v1/deployments?service=other", NULL);
    assert_int_equal(json_array_size(json_object_get(w->answer, "deployments")), 0);

    cluster_build(w->c, true);
    cluster_turn(w->c, id, "succeeded");
    path = mem_printf("/v1/deployments/%s", id);
    view = call(w, ROLE_VIEWER, "GET", path, NULL);
    assert_int_equal(json_integer_value(json_object_get(view, "exit")), 0);
    view = call(w, ROLE_VIEWER, "GET", "/v1/deployments/web@aaaaaaa", NULL);
    assert_string_equal(text(view, "id"), id);
    call(w, ROLE_VIEWER, "GET", "/v1/deployments/d-", NULL);
    assert_int_equal(w->status, 200);
    call(w, ROLE_VIEWER, "GET", "/v1/deployments/nothing", NULL);
    expect_error(w, 404, "not_found", "'nothing'");
    call(w, ROLE_VIEWER, "GET", "/v1/deployments/web/decisions", NULL);
    assert_true(json_array_size(json_object_get(w->answer, "decisions")) >= 3);
    call(w, ROLE_VIEWER, "GET", "/v1/jobs?status=succeeded", NULL);
    assert_int_equal(json_array_size(json_object_get(w->answer, "jobs")), 1);
    call(w, ROLE_VIEWER, "GET", "/v1/jobs/1", NULL);
    assert_string_equal(text(w->answer, "status"), "succeeded");
    call(w, ROLE_VIEWER, "GET", "/v1/jobs/99", NULL);
    assert_int_equal(w->status, 404);
    call(w, ROLE_VIEWER, "GET", "/v1/jobs/one", NULL);
    expect_error(w, 400, "invalid", "not a job's number");
    call(w, ROLE_VIEWER, "GET", "/v1/services", NULL);
    assert_int_equal(json_array_size(json_object_get(w->answer, "services")), 1);
    call(w, ROLE_VIEWER, "GET", "/v1/regions", NULL);
    assert_int_equal(json_array_size(json_object_get(w->answer, "regions")), CLUSTER_REGIONS);
}

/* --- metrics --- */

static char *get_metrics(struct web *w)
{
    AUTO_FREE char *url = mem_printf("http://127.0.0.1:%d/metrics", api_port(w->api));
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    struct http_request q = { .method = "GET",
                              .url = url,
                              .token = buf_str(&w->tokens[ROLE_VIEWER]),
                              .timeout_ms = 30000,
                              .max_bytes = 1 << 20 };

    assert_ok(http_call(&q, &w->status, &out, &err), &err);
    assert_int_equal(w->status, 200);
    return buf_steal(&out);
}

static bool has(const char *text, const char *line)
{
    const char *at = strstr(text, line);

    return at != NULL && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n';
}

/* Every sample belongs to a family that was described just before it. */
static void check_form(char *text)
{
    char *save = NULL, family[128] = "";
    size_t described = 0;
    bool histogram = false;

    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            snprintf(family, sizeof(family), "%.*s", (int)strcspn(line + 7, " "), line + 7);
            assert_true(strlen(line + 7) > strlen(family) + 1);
            described = 1;
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(line + 7, family, strlen(family)), 0);
            histogram = strstr(line, " histogram") != NULL;
            assert_true(histogram || strstr(line, " counter") != NULL ||
                        strstr(line, " gauge") != NULL);
            assert_int_equal(described, 1);
            described = 2;
        } else {
            assert_int_equal(described, 2);
            assert_true(histogram || strcspn(line, "{ ") == strlen(family));
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            assert_true(strtoll(strrchr(line, ' '), NULL, 10) >= 0);
        }
    }
}

/* Both regions' figures, live or ended. */
static void has_swarm(const char *metrics)
{
    static const char *const lines[] = {
        "slipway_swarm_ratio_bucket{le=\"1.05\"} 6",
        "slipway_swarm_ratio_bucket{le=\"+Inf\"} 6",
        "slipway_swarm_ratio_count 6",
        "slipway_swarm_fetch_seconds_bucket{le=\"1\"} 0",
        "slipway_swarm_fetch_seconds_bucket{le=\"5\"} 6",
        "slipway_swarm_rack_bytes_total{rack=\"same\"} 140",
        "slipway_swarm_rack_bytes_total{rack=\"other\"} 60",
        "slipway_swarm_leaves_asked_again_total{why=\"overdue\"} 8",
        "slipway_swarm_edges_total 18",
        "slipway_swarm_edges_stale_total 2",
        "slipway_swarm_banned_total 2",
        "slipway_swarm_refused_total 0",
        "slipway_swarm_measured_total{by=\"limit\"} 6",
    };

    for (size_t i = 0; i < COUNT_OF(lines); i++)
        if (!has(metrics, lines[i]))
            fail_msg("no line %s in:\n%s", lines[i], metrics);
}

static void metrics_count_bytes(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *id = cluster_trigger(w->c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *before = get_metrics(w), *live = NULL, *after = NULL, *body = NULL;
    AUTO_FREE char *path = NULL, *told = NULL;
    const json_t *shown;

    assert_true(has(before, "slipway_bytes_total{source=\"peer\"} 0"));
    assert_true(has(before, "slipway_delta_saved_bytes_total 0"));
    assert_true(has(before, "slipway_deployments{state=\"queued\"} 1"));
    body = mem_strdup("{\"generation\":0,\"waves\":[],\"seed_bytes\":10,\"peer_bytes\":20,"
                      "\"saved_bytes\":300,\"swarm\":{\"machines\":3,\"done\":3,\"rated\":3,"
                      "\"by_limit\":3,\"ratio_max\":1040,\"ms_max\":4000,\"ratios\":[[320,3]],"
                      "\"times\":[[448,3]],\"near_bytes\":70,\"far_bytes\":30,\"stolen\":4,"
                      "\"edges\":9,\"stale\":1,\"packs\":[[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                      "aaaaaaaaaaaaaaaaaaaaaaaaaa\",100,150]],\"offenders\":[[\"m7\",2]]}}");
    cluster_build(w->c, true);
    cluster_turn(w->c, id, "rolling");
    for (int i = 0; i < CLUSTER_REGIONS; i++)
        cluster_sql(w->c,
                    i == 0 ? "INSERT INTO counts (deployment, region, at, body) VALUES ($1, 'r1', "
                             "0, $2) ON CONFLICT (deployment, region) DO UPDATE SET body = $2"
                           : "INSERT INTO counts (deployment, region, at, body) VALUES ($1, 'r2', "
                             "0, $2) ON CONFLICT (deployment, region) DO UPDATE SET body = $2",
                    id, body);
    live = get_metrics(w);
    assert_true(has(live, "slipway_bytes_total{source=\"origin\"} 10")); /* 5 a region */
    assert_true(has(live, "slipway_bytes_total{source=\"seed\"} 20"));
    assert_true(has(live, "slipway_bytes_total{source=\"peer\"} 40"));
    assert_true(has(live, "slipway_delta_saved_bytes_total 600"));
    has_swarm(live);
    path = mem_printf("/v1/deployments/%s", id);
    shown = json_object_get(call(w, ROLE_VIEWER, "GET", path, NULL), "swarm");
    assert_int_equal(json_integer_value(json_object_get(shown, "fetched")), 6);
    assert_int_equal(json_array_size(json_object_get(shown, "offenders")), 2);
    assert_true(has(live, "slipway_swarm_seed_copies{region=\"r1\"} 1.500"));
    check_form(live);
    /* Once it has ended they stay, and are not counted twice. */
    cluster_sql(w->c,
                "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                "VALUES ($1, $2, 'ann', '', 0)",
                id, "abort");
    {
        bool moved = false;

        assert_ok(conductor_turn(w->c->conductor, w->c->d, w->c->fence, &moved, &w->c->err),
                  &w->c->err);
    }
    after = get_metrics(w);
    assert_true(has(after, "slipway_deployments{state=\"aborted\"} 1"));
    assert_true(has(after, "slipway_bytes_total{source=\"origin\"} 10"));
    assert_true(has(after, "slipway_bytes_total{source=\"peer\"} 40"));
    assert_true(has(after, "slipway_delta_saved_bytes_total 600"));
    has_swarm(after);
    told = cluster_get(
        w->c, "SELECT COUNT(*) FROM event WHERE deployment = $1 AND kind = 'swarm_banned'", id);
    assert_string_equal(told, "2"); /* one a region */
    assert_null(strstr(after, "slipway_swarm_seed_copies{"));
    assert_true(has(after, "slipway_scrub_objects_total{verdict=\"rotten\"} 0"));
    check_form(after);
}

/* The same artifact once more: the regions have it, and nothing comes from the origin. */
static void metrics_count_the_origin_once(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *first = cluster_trigger(w->c, CLUSTER_POLICY, COMMIT_A);
    AUTO_FREE char *second = NULL, *live = NULL, *after = NULL;
    bool moved = false;

    cluster_build(w->c, true);
    cluster_turn(w->c, first, "rolling");
    cluster_sql(w->c,
                "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                "VALUES ($1, $2, 'ann', '', 0)",
                first, "abort");
    assert_ok(conductor_turn(w->c->conductor, w->c->d, w->c->fence, &moved, &w->c->err),
              &w->c->err);
    second = cluster_trigger(w->c, CLUSTER_POLICY, COMMIT_A);
    cluster_turn(w->c, second, "rolling");
    live = get_metrics(w);
    assert_true(has(live, "slipway_bytes_total{source=\"origin\"} 10"));
    cluster_turn(w->c, second, "succeeded");
    after = get_metrics(w);
    assert_true(has(after, "slipway_bytes_total{source=\"origin\"} 10"));
}

/* --- what waits --- */

static void *turn_for_a_while(void *arg)
{
    struct web *w = arg;
    uint64_t seen = 0;

    wake_wait(w->c->wake, &seen, 50);
    for (int i = 0; i < 10; i++) {
        cluster_one_turn(w->c);
        wake_all(w->c->wake);
    }
    return NULL;
}

static void long_polls(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *body = body_of(CLUSTER_POLICY, COMMIT_A, NULL);
    AUTO_FREE char *path = NULL;
    const json_t *events;
    int64_t began, seq;
    pthread_t thread;

    call(w, ROLE_RELEASER, "POST", "/v1/deployments", body);
    path = mem_printf("/v1/deployments/%s/events", text(w->answer, "id"));
    events = json_object_get(call(w, ROLE_VIEWER, "GET", path, NULL), "events");
    assert_int_equal(json_array_size(events), 1);
    assert_string_equal(text(json_array_get(events, 0), "kind"), "created");
    seq = json_integer_value(json_object_get(json_array_get(events, 0), "seq"));

    /* Nothing happens: it answers when its time has passed, with nothing. */
    {
        AUTO_FREE char *more = mem_printf("%s?after=%lld&wait=300", path, (long long)seq);

        began = monotonic_ms();
        events = json_object_get(call(w, ROLE_VIEWER, "GET", more, NULL), "events");
        assert_int_equal(json_array_size(events), 0);
        assert_true(monotonic_ms() - began >= 300);
    }
    /* Something happens: it answers then, long before its time. */
    cluster_build(w->c, true);
    assert_int_equal(pthread_create(&thread, NULL, turn_for_a_while, w), 0);
    {
        AUTO_FREE char *more = mem_printf("%s?after=%lld&wait=20000", path, (long long)seq);

        began = monotonic_ms();
        events = json_object_get(call(w, ROLE_VIEWER, "GET", more, NULL), "events");
        assert_true(monotonic_ms() - began < 15000);
        assert_true(json_array_size(events) > 0 ||
                    strcmp(text(json_object_get(w->answer, "deployment"), "state"), "queued") != 0);
    }
    pthread_join(thread, NULL);
    events =
        json_object_get(call(w, ROLE_VIEWER, "GET", "/v1/events?after=0&wait=0", NULL), "events");
    for (size_t i = 0; i < json_array_size(events); i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(events, i), "seq")),
                         i + 1);
}

struct poller {
    struct web *w;
    pthread_t thread;
    int status;
};

static void *poll_events(void *arg)
{
    struct poller *p = arg;
    AUTO_FREE char *url =
        mem_printf("http://127.0.0.1:%d/v1/events?after=999999&wait=2000", api_port(p->w->api));
    AUTO_BUF out = BUF_INIT;
    struct err err = ERR_INIT;
    struct http_request q = { .method = "GET",
                              .url = url,
                              .token = buf_str(&p->w->tokens[ROLE_VIEWER]),
                              .timeout_ms = 20000,
                              .max_bytes = 1 << 20 };

    if (http_call(&q, &p->status, &out, &err) < 0)
        p->status = -1;
    return NULL;
}

/* More long polls than there are threads: others are still served. */
static void waiting_holds_no_thread(void **state)
{
    struct web *w = *state;
    struct poller pollers[3 * API_THREADS];
    int64_t began;

    for (size_t i = 0; i < COUNT_OF(pollers); i++) {
        pollers[i] = (struct poller){ .w = w };
        assert_int_equal(pthread_create(&pollers[i].thread, NULL, poll_events, &pollers[i]), 0);
    }
    began = monotonic_ms();
    for (int i = 0; i < 20; i++) {
        call(w, ROLE_VIEWER, "GET", "/v1/regions", NULL);
        assert_int_equal(w->status, 200);
    }
    for (size_t i = 0; i < COUNT_OF(pollers); i++) {
        pthread_join(pollers[i].thread, NULL);
        assert_int_equal(pollers[i].status, 200);
    }
    assert_true(monotonic_ms() - began >= 1000); /* they did wait */
}

static void acts(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *body = body_of(CLUSTER_POLICY, COMMIT_A, NULL);
    pthread_t thread;

    call(w, ROLE_RELEASER, "POST", "/v1/deployments", body);
    call(w, ROLE_RELEASER, "POST", "/v1/deployments/web/resume", "{}");
    expect_error(w, 409, "conflict", "it is not held");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments/web/explode", "{}");
    expect_error(w, 404, "not_found", "no act 'explode'");
    assert_int_equal(pthread_create(&thread, NULL, turn_for_a_while, w), 0);
    call(w, ROLE_RELEASER, "POST", "/v1/deployments/web/abort",
         "{\"reason\":\"enough\",\"actor\":\"bob\"}");
    pthread_join(thread, NULL);
    assert_int_equal(w->status, 200);
    assert_string_equal(text(w->answer, "state"), "aborted");
    assert_string_equal(text(w->answer, "reason"), "abort by bob via releaser: enough");
    call(w, ROLE_RELEASER, "POST", "/v1/deployments/web/abort", "{}");
    expect_error(w, 409, "conflict", "it has ended");
    call(w, ROLE_ADMIN, "GET", "/v1/audit", NULL);
    assert_true(json_is_true(json_object_get(w->answer, "intact")));
    assert_int_equal(json_array_size(json_object_get(w->answer, "audit")), 2);
}

static void new_tokens(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *token = NULL;

    call(w, ROLE_ADMIN, "POST", "/v1/tokens", "{\"name\":\"ci\",\"role\":\"king\"}");
    expect_error(w, 400, "invalid", "role: none of");
    call(w, ROLE_ADMIN, "POST", "/v1/tokens", "{\"role\":\"viewer\"}");
    expect_error(w, 400, "invalid", "name: missing");
    call(w, ROLE_ADMIN, "POST", "/v1/tokens", "{\"name\":\"ci\",\"role\":\"viewer\",\"days\":1}");
    assert_int_equal(w->status, 201);
    token = mem_strdup(text(w->answer, "token"));
    call_as(w, token, "GET", "/v1/regions", NULL);
    assert_int_equal(w->status, 200);
    call_as(w, token, "GET", "/v1/audit", NULL);
    assert_int_equal(w->status, 403);
}

static void a_jobs_log(void **state)
{
    struct web *w = *state;
    AUTO_FREE char *body = body_of(CLUSTER_POLICY, COMMIT_A, NULL);
    struct job *j = NULL;
    AUTO_JSON *view = NULL;

    call(w, ROLE_RELEASER, "POST", "/v1/deployments", body);
    assert_ok(queue_claim(w->c->d, "w", "t", &j, &w->c->err), &w->c->err);
    assert_ok(queue_log(w->c->d, j->id, j->attempt, 0, "one\ntwo\xff\n", 9, &w->c->err),
              &w->c->err);
    call(w, ROLE_VIEWER, "GET", "/v1/jobs/1/log?offset=4", NULL);
    assert_int_equal(w->status, 200);
    assert_ok(queue_finish(w->c->d, j->id, j->attempt, JOB_FAILED, NULL, "build",
                           "step make: exit status 2", &w->c->err),
              &w->c->err);
    job_free(j);
    cluster_turn(w->c, text(call(w, ROLE_VIEWER, "GET", "/v1/deployments/web", NULL), "id"),
                 "failed");
    view = json_deep_copy(call(w, ROLE_VIEWER, "GET", "/v1/deployments/web", NULL));
    assert_int_equal(json_integer_value(json_object_get(view, "exit")), 11);
    assert_string_equal(text(view, "failed_step_log"), "one\ntwo?\n");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metrics_count_bytes, start, stop),
        cmocka_unit_test_setup_teardown(metrics_count_the_origin_once, start, stop),
        cmocka_unit_test_setup_teardown(routes_are_guarded, start, stop),
        cmocka_unit_test_setup_teardown(bad_bodies, start, stop),
        cmocka_unit_test_setup_teardown(a_deployment, start, stop),
        cmocka_unit_test_setup_teardown(long_polls, start, stop),
        cmocka_unit_test_setup_teardown(waiting_holds_no_thread, start, stop),
        cmocka_unit_test_setup_teardown(acts, start, stop),
        cmocka_unit_test_setup_teardown(new_tokens, start, stop),
        cmocka_unit_test_setup_teardown(a_jobs_log, start, stop),
    };

    cluster_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
