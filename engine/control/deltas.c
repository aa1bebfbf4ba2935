#include "control/deltas.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

/* --- wanting --- */

/* The artifacts of the service's last good release: those of a deployment that brought it. */
static int load_base(struct db *d, const struct deploy *deploy, json_t **ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT d.detail FROM deployment d JOIN service s ON s.name = d.service "
                    "WHERE d.service = $1 AND d.state = 'succeeded' AND d.sha = s.good_commit "
                    "AND d.id <> $2 ORDER BY d.number DESC LIMIT 1",
                    db_text(deploy->service), db_text(deploy->id));

    *ret = NULL;
    if (r == 0 && db_rows_count(rows) > 0) {
        const char *detail = db_get_text(rows, 0, 0);
        AUTO_JSON *json = NULL;

        r = json_parse(&json, detail, strlen(detail), err);
        if (r == 0)
            *ret = json_deep_copy(json_object_get(json, "artifacts"));
    }
    db_rows_free(rows);
    return r;
}

static const json_t *find_variant(const json_t *artifacts, const char *variant)
{
    for (size_t i = 0; i < json_array_size(artifacts); i++) {
        const json_t *a = json_array_get(artifacts, i);

        if (strcmp(text_of(a, "variant"), variant) == 0)
            return a;
    }
    return NULL;
}

static int want(struct db *d, const struct deploy *deploy, const json_t *base, const json_t *target,
                struct err *err)
{
    AUTO_JSON *spec = json_pack(
        "{s:i,s:{s:O,s:O,s:O,s:O,s:O},s:i}", "v", 1, "delta", "variant",
        json_object_get(target, "variant"), "base", json_object_get(base, "artifact"), "base_pack",
        json_object_get(base, "pack"), "target", json_object_get(target, "artifact"), "target_pack",
        json_object_get(target, "pack"), "deadline", DELTAS_JOB_S);
    AUTO_FREE char *dedupe =
        mem_printf("delta %s %s", text_of(base, "artifact"), text_of(target, "artifact"));
    AUTO_FREE char *text = spec == NULL ? NULL : json_text(spec);
    int64_t job = 0;
    int r;

    if (spec == NULL)
        return err_set(err, ERR_INTERNAL, "artifacts without a name");
    r = queue_enqueue_late(d, deploy->service, deploy->commit, text, dedupe,
                           (int64_t)DELTAS_JOB_S * 1000, &job, err);
    /* One that came to nothing before is tried again: its job may have been lost. */
    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "INSERT INTO delta (target, base, job, state) "
                           "VALUES ($1, $2, $3, 'making') ON CONFLICT (target, base) "
                           "DO UPDATE SET job = $3, state = 'making', reason = NULL "
                           "WHERE delta.state = 'none'",
                           db_text(text_of(target, "artifact")), db_text(text_of(base, "artifact")),
                           db_int(job));
}

int deltas_want(struct db *d, const struct deploy *deploy, struct err *err)
{
    AUTO_JSON *bases = NULL;
    json_t *a;
    size_t i;
    int r = load_base(d, deploy, &bases, err);

    json_array_foreach(deploy->artifacts, i, a)
    {
        const json_t *base = find_variant(bases, text_of(a, "variant"));

        if (r == 0 && base != NULL && deploy_wants_delta(a) &&
            strcmp(text_of(base, "artifact"), text_of(a, "artifact")) != 0)
            r = want(d, deploy, base, a, err);
    }
    return r < 0 ? err_wrap(err, "want deltas") : 0;
}

/* --- loading --- */

int deltas_load(struct db *d, struct world *w, const struct deploy *deploy, struct err *err)
{
    json_t *a;
    size_t i;

    json_array_foreach(deploy->artifacts, i, a)
    {
        struct db_rows *rows = NULL;
        int r = DB_ROWS(d, &rows, err,
                        "SELECT state, base, pack, pack_bytes, reason FROM delta WHERE target = $1",
                        db_text(text_of(a, "artifact")));

        for (size_t k = 0; r == 0 && k < db_rows_count(rows); k++) {
            w->deltas = mem_realloc(w->deltas, (w->in.ndeltas + 1) * sizeof(*w->deltas));
            w->deltas[w->in.ndeltas++] = (struct deploy_delta){
                .artifact = world_keep(w, text_of(a, "artifact")),
                .state = world_keep(w, db_get_text(rows, k, 0)),
                .base = world_keep(w, db_get_text(rows, k, 1)),
                .pack = world_keep(w, db_get_text(rows, k, 2)),
                .bytes = db_get_int(rows, k, 3),
                .reason = world_keep(w, db_get_text(rows, k, 4)),
            };
        }
        db_rows_free(rows);
        if (r < 0)
            return err_wrap(err, "load deltas");
    }
    w->in.deltas = w->deltas;
    return 0;
}

/* --- tending --- */

/* Why it does not save more: what is compressed already changes as a whole. */
static void describe(const json_t *delta, struct buf *out)
{
    const json_t *names = json_object_get(delta, "compressed");
    long long n = (long long)json_integer_value(json_object_get(delta, "ncompressed"));
    size_t named = json_array_size(names);

    for (size_t i = 0; i < named; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : ", ", json_string_value(json_array_get(names, i)));
    if (n > (long long)named)
        buf_printf(out, " and %lld more", n - (long long)named);
    if (n > 0)
        buf_printf(out, " %s compressed: a delta can't help there", n == 1 ? "is" : "are");
}

static int settle(struct db *d, int64_t job, const char *state, const json_t *delta,
                  const char *reason, struct err *err)
{
    const char *pack = json_string_value(json_object_get(delta, "pack"));

    return DB_EXEC(d, err,
                   "UPDATE delta SET state = $2, pack = $3, pack_bytes = $4, reason = $5 "
                   "WHERE job = $1 AND state = 'making'",
                   db_int(job), db_text(state), db_text(pack),
                   db_int(json_integer_value(json_object_get(delta, "pack_bytes"))),
                   db_text(reason));
}

static int tend_result(struct db *d, struct verifier *v, const struct job *job, int64_t now_ms,
                       bool *ret_moved, struct err *err)
{
    AUTO_JSON *result = NULL, *spec = NULL, *check = NULL;
    AUTO_FREE char *key = mem_printf("delta job %lld", (long long)job->id);
    AUTO_BUF reason = BUF_INIT;
    const json_t *delta;
    struct err why = ERR_INIT;
    enum verify_state state;

    if (json_parse(&result, job->result, strlen(job->result), &why) < 0 ||
        json_parse(&spec, job->spec, strlen(job->spec), &why) < 0) {
        *ret_moved = true;
        return settle(d, job->id, "none", NULL, "the worker's result is malformed", err);
    }
    delta = json_object_get(result, "delta");
    describe(delta, &reason);
    if (!json_is_string(json_object_get(delta, "pack"))) {
        buf_printf(&reason, "%sit is no smaller than the full pack", reason.len > 0 ? "; " : "");
        *ret_moved = true;
        return settle(d, job->id, "none", NULL, buf_str(&reason), err);
    }
    check = json_array();
    json_array_append(check, json_object_get(spec, "delta"));
    json_object_set(json_array_get(check, 0), "pack", json_object_get(delta, "pack"));
    json_object_set(json_array_get(check, 0), "pack_bytes", json_object_get(delta, "pack_bytes"));
    state = verify_ask(v, key, check, now_ms, &why);
    if (state != VERIFY_GOOD && state != VERIFY_BAD)
        return 0;
    *ret_moved = true;
    if (state == VERIFY_GOOD)
        return settle(d, job->id, "ready", delta, buf_str(&reason), err);
    log_warn("%s: %s", key, why.text);
    return settle(d, job->id, "none", NULL, why.text, err);
}

static int tend_one(struct db *d, struct verifier *v, int64_t id, int64_t now_ms, bool *ret_moved,
                    struct err *err)
{
    struct job *job = NULL;
    int r = queue_get(d, id, &job, err);

    if (r == -ERR_NOT_FOUND) {
        *ret_moved = true;
        return settle(d, id, "none", NULL, "its job is gone", err);
    }
    if (r < 0)
        return r;
    if (job->status == JOB_SUCCEEDED) {
        r = tend_result(d, v, job, now_ms, ret_moved, err);
    } else if (job->status == JOB_FAILED || job->status == JOB_CANCELLED) {
        *ret_moved = true;
        r = settle(d, id, "none", NULL, job->reason, err);
    }
    job_free(job);
    return r;
}

int deltas_tend(struct db *d, struct verifier *v, int64_t now_ms, bool *ret_moved, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT job FROM delta WHERE state = 'making' LIMIT $1",
                    db_int(DELTAS_TEND_MAX));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        r = tend_one(d, v, db_get_int(rows, i, 0), now_ms, ret_moved, err);
    db_rows_free(rows);
    return r < 0 ? err_wrap(err, "deltas") : 0;
}
