/* api_deploy.c - routes of deployments: trigger, look, follow, act. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/api_call.h"
#include "control/history.h"
#include "control/trigger.h"
#include "control/view.h"
#include "io/loop.h"

/* The id that the path's name stands for. Several: 409 with the candidates. */
static int find(struct call *c, struct buf *id, struct err *err)
{
    AUTO_JSON *candidates = json_array();
    int r = record_find(c->db, c->args[0], id, candidates, err);

    if (r == -ERR_CONFLICT) {
        AUTO_FREE char *list = json_text(candidates);

        return err_set(err, ERR_CONFLICT, "'%s' may mean several deployments: candidates %s",
                       c->args[0], list);
    }
    return r;
}

static int answer_view(struct call *c, int status, const char *id, struct err *err)
{
    json_t *view = NULL;
    int r = view_load(c->db, id, &view, err);

    if (r == 0)
        call_answer(c, status, view);
    return r;
}

int route_trigger(struct call *c, struct err *err)
{
    struct trigger t = { .cluster = api_options_of(c->api)->cluster, .db = c->db };
    AUTO_BUF id = BUF_INIT;
    json_t *plan = NULL;
    bool is_new = false;
    int r;

    if (c->json == NULL)
        return err_set(err, ERR_INVALID, "a body is needed");
    t.host = api_host_take(c->api);
    r = trigger_deployment(&t, c->json, buf_str(&c->who), &id, &is_new, &plan, err);
    api_host_give(c->api);
    if (r < 0)
        return r;
    if (plan != NULL) {
        call_answer(c, MHD_HTTP_OK, plan);
        return 0;
    }
    wake_all(api_options_of(c->api)->wake);
    return answer_view(c, is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK, buf_str(&id), err);
}

int route_deployments(struct call *c, struct err *err)
{
    const char *service = call_query(c, "service");
    int64_t limit = call_number(c, "limit", 50, 1, API_LIST_MAX);
    int64_t live = call_number(c, "live", 0, 0, 1);
    struct db_rows *rows = NULL;
    json_t *list = json_array();
    int r = DB_ROWS(c->db, &rows, err,
                    "SELECT id FROM deployment WHERE ($1 = '' OR service = $1) "
                    "AND ($2 = 0 OR live = 1) ORDER BY number DESC LIMIT $3",
                    db_text(service == NULL ? "" : service), db_int(live), db_int(limit));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        json_t *view = NULL;

        r = view_load(c->db, db_get_text(rows, i, 0), &view, err);
        if (r == 0)
            json_array_append_new(list, view);
    }
    db_rows_free(rows);
    if (r < 0) {
        json_decref(list);
        return r;
    }
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "deployments", list));
    return 0;
}

int route_deployment(struct call *c, struct err *err)
{
    AUTO_BUF id = BUF_INIT;
    int r = find(c, &id, err);

    return r < 0 ? r : answer_view(c, MHD_HTTP_OK, buf_str(&id), err);
}

/* --- events --- */

/* deployment: NULL for all. Gives *ret. */
static int read_events(struct call *c, const char *deployment, int64_t after, json_t **ret,
                       struct err *err)
{
    struct db_rows *rows = NULL;
    int r = deployment == NULL
                ? DB_ROWS(c->db, &rows, err,
                          "SELECT seq, at, deployment, kind, text, data FROM event WHERE seq > $1 "
                          "ORDER BY seq LIMIT $2",
                          db_int(after), db_int(API_EVENTS_MAX))
                : DB_ROWS(c->db, &rows, err,
                          "SELECT seq, at, deployment, kind, text, data FROM event "
                          "WHERE deployment = $3 AND seq > $1 ORDER BY seq LIMIT $2",
                          db_int(after), db_int(API_EVENTS_MAX), db_text(deployment));

    if (r < 0)
        return r;
    *ret = json_array();
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        json_t *data = json_loads(db_get_text(rows, i, 5), 0, NULL);

        json_array_append_new(
            *ret, json_pack("{s:I,s:I,s:s,s:s,s:s,s:o}", "seq", (json_int_t)db_get_int(rows, i, 0),
                            "at", (json_int_t)db_get_int(rows, i, 1), "deployment",
                            db_get_text(rows, i, 2), "kind", db_get_text(rows, i, 3), "text",
                            db_get_text(rows, i, 4), "data", data == NULL ? json_object() : data));
    }
    db_rows_free(rows);
    return 0;
}

static bool waited(const struct call *c)
{
    int64_t wait = call_number(c, "wait", 0, 0, API_WAIT_MAX_MS);

    return monotonic_ms() - c->started_ms >= wait;
}

int route_events(struct call *c, struct err *err)
{
    json_t *events = NULL;
    int r = read_events(c, NULL, call_number(c, "after", 0, 0, INT64_MAX), &events, err);

    if (r < 0)
        return r;
    if (json_array_size(events) == 0 && !waited(c)) {
        c->wait = true;
        json_decref(events);
        return 0;
    }
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "events", events));
    return 0;
}

/* A view without what only time changes. */
static char *essence(const json_t *view)
{
    AUTO_JSON *copy = json_copy((json_t *)(uintptr_t)view);

    json_object_del(copy, "seconds");
    json_object_del(copy, "now");
    json_object_del(copy, "deadline_left");
    return json_text(copy);
}

int route_deployment_events(struct call *c, struct err *err)
{
    AUTO_BUF id = BUF_INIT;
    AUTO_FREE char *now = NULL;
    json_t *events = NULL, *view = NULL;
    int r = find(c, &id, err);

    if (r == 0)
        r = read_events(c, buf_str(&id), call_number(c, "after", 0, 0, INT64_MAX), &events, err);
    if (r == 0)
        r = view_load(c->db, buf_str(&id), &view, err);
    if (r < 0) {
        json_decref(events);
        return r;
    }
    now = essence(view);
    if (json_array_size(events) == 0 && !waited(c) &&
        (c->seen == NULL || strcmp(c->seen, now) == 0)) {
        c->wait = true;
        if (c->seen == NULL)
            c->seen = mem_strdup(now);
        json_decref(events);
        json_decref(view);
        return 0;
    }
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o,s:o}", "events", events, "deployment", view));
    return 0;
}

int route_decisions(struct call *c, struct err *err)
{
    AUTO_BUF id = BUF_INIT;
    struct db_rows *rows = NULL;
    json_t *list;
    int r = find(c, &id, err);

    if (r == 0)
        r = DB_ROWS(c->db, &rows, err,
                    "SELECT number, question, action, reason, first_at, last_at, times, bundle, "
                    "input, output FROM decision WHERE deployment = $1 ORDER BY number LIMIT $2",
                    db_text(buf_str(&id)), db_int(API_EVENTS_MAX));
    if (r < 0)
        return r;
    list = json_array();
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        json_t *input = json_loads(db_get_text(rows, i, 8), JSON_DECODE_ANY, NULL);
        json_t *output = json_loads(db_get_text(rows, i, 9), JSON_DECODE_ANY, NULL);

        json_array_append_new(
            list, json_pack("{s:I,s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:o,s:o}", "number",
                            (json_int_t)db_get_int(rows, i, 0), "question", db_get_text(rows, i, 1),
                            "action", db_get_text(rows, i, 2), "reason", db_get_text(rows, i, 3),
                            "first_at", (json_int_t)db_get_int(rows, i, 4), "last_at",
                            (json_int_t)db_get_int(rows, i, 5), "times",
                            (json_int_t)db_get_int(rows, i, 6), "bundle", db_get_text(rows, i, 7),
                            "input", input == NULL ? json_null() : input, "output",
                            output == NULL ? json_null() : output));
    }
    db_rows_free(rows);
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "decisions", list));
    return 0;
}

/* --- acts --- */

struct act {
    const char *id, *verb, *actor, *reason;
    int64_t number;
};

static int insert_command(struct db *d, void *arg, struct err *err)
{
    struct act *a = arg;
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "INSERT INTO command (deployment, verb, actor, reason, created_at) "
                    "VALUES ($1, $2, $3, $4, now_ms()) RETURNING number",
                    db_text(a->id), db_text(a->verb), db_text(a->actor), db_text(a->reason));

    if (r == 0)
        a->number = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return r;
}

static int check_allowed(struct call *c, const char *id, enum deploy_verb verb, struct err *err)
{
    struct record *rec = NULL;
    const char *why = NULL;
    int r = record_load(c->db, id, &rec, err);

    if (r == 0 && !deploy_allows(rec->deploy, verb, &why))
        r = err_set(err, ERR_CONFLICT, "cannot %s %s, which is %s: %s", deploy_verb_name(verb), id,
                    deploy_state_name(rec->deploy->state), why);
    record_free(rec);
    return r;
}

static int start_act(struct call *c, const char *id, struct err *err)
{
    struct act a = { .id = id, .verb = c->args[1], .reason = "" };
    AUTO_FREE char *actor = NULL;
    const char *claimed = NULL;
    enum deploy_verb verb = DEPLOY_VERB_NONE;
    int r = 0;

    if (!deploy_verb_parse(&verb, a.verb))
        return err_set(err, ERR_NOT_FOUND, "there is no act '%s'", a.verb);
    if (c->json != NULL) {
        r = json_get_text_or(c->json, "reason", 1024, "", &a.reason, err);
        if (r == 0)
            r = json_get_text_or(c->json, "actor", 128, NULL, &claimed, err);
    }
    a.actor = actor = actor_text(claimed, buf_str(&c->who));
    if (r == 0)
        r = check_allowed(c, id, verb, err);
    if (r == 0)
        r = db_transaction(c->db, insert_command, &a, err);
    if (r < 0)
        return r;
    c->command = a.number;
    wake_all(api_options_of(c->api)->wake);
    return 0;
}

/* "" while the conductor has not yet taken it up. */
static int command_result(struct call *c, struct buf *result, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(c->db, &rows, err, "SELECT result FROM command WHERE number = $1",
                    db_int(c->command));

    if (r == 0 && db_rows_count(rows) > 0)
        buf_str_append(result, db_get_text(rows, 0, 0));
    db_rows_free(rows);
    return r;
}

/* Nobody took the command up: the deployment has ended meanwhile, or nobody conducts. */
static int not_obeyed(struct call *c, const char *id, struct err *err)
{
    struct record *rec = NULL;
    int r = record_load(c->db, id, &rec, err);

    if (r == 0 && deploy_state_is_final(rec->deploy->state))
        r = err_set(err, ERR_CONFLICT, "cannot %s %s: it has ended meanwhile, as %s", c->args[1],
                    id, deploy_state_name(rec->deploy->state));
    else if (r == 0)
        r = err_set(err, ERR_AGAIN,
                    "%s is written down, but no control plane has obeyed it yet: see engine status",
                    c->args[1]);
    record_free(rec);
    return r;
}

int route_act(struct call *c, struct err *err)
{
    AUTO_BUF id = BUF_INIT;
    AUTO_BUF result = BUF_INIT;
    int r = find(c, &id, err);

    if (r == 0 && c->command == 0)
        r = start_act(c, buf_str(&id), err);
    if (r == 0)
        r = command_result(c, &result, err);
    if (r < 0)
        return r;
    if (result.len == 0 && monotonic_ms() - c->started_ms < API_COMMAND_MS) {
        c->wait = true;
        return 0;
    }
    if (result.len == 0)
        return not_obeyed(c, buf_str(&id), err);
    if (strcmp(buf_str(&result), "done") != 0)
        return err_set(err, ERR_CONFLICT, "%s", buf_str(&result));
    return answer_view(c, MHD_HTTP_OK, buf_str(&id), err);
}
