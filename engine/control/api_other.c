/* api_other.c - routes of jobs, regions, services, tokens, and of the process itself. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/api_call.h"
#include "control/history.h"
#include "control/record.h"
#include "control/regions.h"
#include "control/view.h"
#include "io/loop.h"

int route_live(struct call *c, struct err *err)
{
    (void)err;
    call_answer_text(c, MHD_HTTP_OK, "text/plain", "ok\n");
    return 0;
}

/* Ready: the database answers, and somebody conducts. */
int route_ready(struct call *c, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(c->db, &rows, err,
                    "SELECT holder FROM duty WHERE name = 'conductor' AND expires > now_ms()");
    bool held = r == 0 && db_rows_count(rows) > 0;

    db_rows_free(rows);
    if (r == 0 && !held)
        return err_set(err, ERR_AGAIN, "no conductor holds its duty");
    if (r == 0)
        call_answer_text(c, MHD_HTTP_OK, "text/plain", "ready\n");
    return r;
}

/* --- jobs --- */

static enum job_status status_named(const char *name)
{
    for (int s = JOB_QUEUED; s <= JOB_CANCELLED; s++)
        if (name != NULL && strcmp(job_status_name((enum job_status)s), name) == 0)
            return (enum job_status)s;
    return JOB_NONE;
}

int route_jobs(struct call *c, struct err *err)
{
    struct job **jobs = NULL;
    json_t *list;
    size_t n = 0;
    int r = queue_list(c->db, status_named(call_query(c, "status")),
                       call_number(c, "limit", 50, 1, API_LIST_MAX), &jobs, &n, err);

    if (r < 0)
        return r;
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, job_view(jobs[i]));
        job_free(jobs[i]);
    }
    free(jobs);
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "jobs", list));
    return 0;
}

static int job_number(const struct call *c, int64_t *ret, struct err *err)
{
    char *end;

    *ret = strtoll(c->args[0], &end, 10);
    if (*end != '\0' || *ret <= 0)
        return err_set(err, ERR_INVALID, "'%s' is not a job's number", c->args[0]);
    return 0;
}

static int load_job(struct call *c, struct job **ret, struct err *err)
{
    int64_t id = 0;
    int r = job_number(c, &id, err);

    return r < 0 ? r : queue_get(c->db, id, ret, err);
}

int route_job(struct call *c, struct err *err)
{
    struct job *j = NULL;
    int r = load_job(c, &j, err);

    if (r < 0)
        return r;
    call_answer(c, MHD_HTTP_OK, job_view(j));
    job_free(j);
    return 0;
}

int route_job_log(struct call *c, struct err *err)
{
    int64_t offset = call_number(c, "offset", 0, 0, INT64_MAX);
    struct job *j = NULL;
    /* The status first: a job that has ended has written all of its log before. */
    int r = load_job(c, &j, err);

    if (r < 0)
        return r;
    buf_reset(&c->out);
    r = queue_read_log(c->db, j->id, offset, API_LOG_MAX_BYTES, &c->out, err);
    if (r == 0) {
        c->status = MHD_HTTP_OK;
        c->type = "text/plain; charset=utf-8";
        c->header_offset = mem_printf("%lld", (long long)offset + (long long)c->out.len);
        c->header_status = mem_strdup(job_status_name(j->status));
    }
    job_free(j);
    return r;
}

struct cancel {
    int64_t job;
    const char *who, *reason;
};

static int cancel_job(struct db *d, void *arg, struct err *err)
{
    const struct cancel *c = arg;
    AUTO_FREE char *text =
        mem_printf("cancelled by %s%s%s", c->who, c->reason[0] == '\0' ? "" : ": ", c->reason);
    AUTO_FREE char *object = mem_printf("job %lld", (long long)c->job);
    int r = queue_cancel(d, c->job, text, err);

    return r < 0 ? r : audit_add(d, c->who, "cancel", object, c->reason, "done", err);
}

int route_job_cancel(struct call *c, struct err *err)
{
    struct cancel cancel = { .who = buf_str(&c->who), .reason = "" };
    int r = job_number(c, &cancel.job, err);

    if (r == 0 && c->json != NULL)
        r = json_get_text_or(c->json, "reason", 1024, "", &cancel.reason, err);
    if (r == 0)
        r = db_transaction(c->db, cancel_job, &cancel, err);
    if (r == 0)
        wake_all(api_options_of(c->api)->wake);
    return r < 0 ? r : route_job(c, err);
}

/* --- regions and services --- */

int route_regions(struct call *c, struct err *err)
{
    struct db_rows *rows = NULL;
    json_t *list;
    int r = DB_ROWS(c->db, &rows, err,
                    "SELECT name, connected, seen_at, machines, reachable FROM region "
                    "ORDER BY name");

    if (r < 0)
        return r;
    list = json_array();
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        int64_t seen = db_get_int(rows, i, 2);
        bool connected = db_get_int(rows, i, 1) != 0 && wall_ms() - seen < REGION_SILENT_MS;

        json_array_append_new(
            list, json_pack("{s:s,s:b,s:I,s:{s:I,s:I}}", "name", db_get_text(rows, i, 0),
                            "connected", connected, "last_seen", (json_int_t)seen, "machines",
                            "total", (json_int_t)db_get_int(rows, i, 3), "reachable",
                            (json_int_t)(connected ? db_get_int(rows, i, 4) : 0)));
    }
    db_rows_free(rows);
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "regions", list));
    return 0;
}

int route_region_forget(struct call *c, struct err *err)
{
    const char *reason = "";
    int r = c->json == NULL ? 0 : json_get_text_or(c->json, "reason", 1024, "", &reason, err);

    if (r == 0)
        r = region_forget(c->db, c->args[0], buf_str(&c->who), reason, wall_ms(), err);
    if (r == 0)
        wake_all(api_options_of(c->api)->wake);
    return r < 0 ? r : route_regions(c, err);
}

int route_services(struct call *c, struct err *err)
{
    struct db_rows *rows = NULL;
    json_t *list;
    int r = DB_ROWS(c->db, &rows, err,
                    "SELECT name, good_release, good_commit, last_planned FROM service "
                    "ORDER BY name");

    if (r < 0)
        return r;
    list = json_array();
    for (size_t i = 0; i < db_rows_count(rows); i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "name", db_get_text(rows, i, 0),
                                              "release", db_get_text(rows, i, 1), "commit",
                                              db_get_text(rows, i, 2), "deployment",
                                              db_get_text(rows, i, 3)));
    db_rows_free(rows);
    call_answer(c, MHD_HTTP_OK, json_pack("{s:o}", "services", list));
    return 0;
}

/* --- tokens and audit --- */

struct new_token {
    struct call *call;
    const char *name, *role_name;
    enum role role;
    int64_t expires_ms;
    struct buf token;
};

static int insert_token(struct db *d, void *arg, struct err *err)
{
    struct new_token *t = arg;
    int r;

    buf_reset(&t->token);
    r = token_make(d, t->name, t->role, t->expires_ms, &t->token, err);
    return r < 0
               ? r
               : audit_add(d, buf_str(&t->call->who), "token", t->name, t->role_name, "done", err);
}

int route_tokens(struct call *c, struct err *err)
{
    struct new_token t = { .call = c };
    int64_t days = 0;
    int r = c->json == NULL ? err_set(err, ERR_INVALID, "a body is needed")
                            : json_get_text(c->json, "name", TOKEN_NAME_MAX_BYTES, &t.name, err);

    if (r == 0)
        r = json_get_text(c->json, "role", 16, &t.role_name, err);
    if (r == 0)
        r = json_get_int_or(c->json, "days", 1, 3650, 90, &days, err);
    if (r == 0 && !role_parse(&t.role, t.role_name))
        r = err_set(err, ERR_INVALID, "role: none of viewer, developer, releaser, admin");
    t.expires_ms = wall_ms() + days * 86400000;
    if (r == 0)
        r = db_transaction(c->db, insert_token, &t, err);
    if (r == 0)
        call_answer(c, MHD_HTTP_CREATED,
                    json_pack("{s:s,s:s,s:s,s:I}", "token", buf_str(&t.token), "name", t.name,
                              "role", t.role_name, "expires", (json_int_t)t.expires_ms));
    buf_release(&t.token);
    return r;
}

int route_audit(struct call *c, struct err *err)
{
    struct db_rows *rows = NULL;
    json_t *list;
    int64_t bad = 0;
    int r = audit_verify(c->db, &bad, err);

    if (r == 0)
        r = DB_ROWS(c->db, &rows, err,
                    "SELECT seq, at, actor, verb, object, reason, outcome FROM audit "
                    "ORDER BY seq DESC LIMIT $1",
                    db_int(call_number(c, "limit", 100, 1, API_EVENTS_MAX)));
    if (r < 0)
        return r;
    list = json_array();
    for (size_t i = 0; i < db_rows_count(rows); i++)
        json_array_append_new(
            list,
            json_pack("{s:I,s:I,s:s,s:s,s:s,s:s,s:s}", "seq", (json_int_t)db_get_int(rows, i, 0),
                      "at", (json_int_t)db_get_int(rows, i, 1), "actor", db_get_text(rows, i, 2),
                      "verb", db_get_text(rows, i, 3), "object", db_get_text(rows, i, 4), "reason",
                      db_get_text(rows, i, 5), "outcome", db_get_text(rows, i, 6)));
    db_rows_free(rows);
    call_answer(
        c, MHD_HTTP_OK,
        json_pack("{s:o,s:b,s:I}", "audit", list, "intact", bad == 0, "bad_seq", (json_int_t)bad));
    return 0;
}
