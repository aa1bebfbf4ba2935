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

/* The full pack of an artifact; "" if it was collected. */
static int find_pack(struct db *d, const char *artifact, struct buf *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r =
        DB_ROWS(d, &rows, err, "SELECT pack FROM artifact WHERE digest = $1", db_text(artifact));

    buf_reset(ret);
    buf_str_append(ret, r == 0 && db_rows_count(rows) > 0 ? db_get_text(rows, 0, 0) : "");
    db_rows_free(rows);
    return r;
}

static char *spec_of(const json_t *target, const char *base, const char *base_pack)
{
    AUTO_JSON *spec =
        json_pack("{s:i,s:{s:O,s:s,s:s,s:O,s:O},s:i}", "v", 1, "delta", "variant",
                  json_object_get(target, "variant"), "base", base, "base_pack", base_pack,
                  "target", json_object_get(target, "artifact"), "target_pack",
                  json_object_get(target, "pack"), "deadline", DELTAS_JOB_S);

    return spec == NULL ? NULL : json_text(spec);
}

static const json_t *find_target(const struct deploy *deploy, const char *artifact)
{
    for (size_t i = 0; i < json_array_size(deploy->artifacts); i++) {
        const json_t *a = json_array_get(deploy->artifacts, i);

        if (strcmp(text_of(a, "artifact"), artifact) == 0)
            return a;
    }
    return NULL;
}

/* A pair that came to nothing before is tried again: its job may have been lost. (One whose worker
 * has answered is found again by its dedupe key, and so is the answer.) */
static int want(struct db *d, const struct deploy *deploy, const struct deploy_want *w,
                struct err *err)
{
    AUTO_FREE char *dedupe = mem_printf("delta %s %s", w->base, w->artifact), *spec = NULL;
    AUTO_BUF base_pack = BUF_INIT;
    int64_t job = 0;
    int r = find_pack(d, w->base, &base_pack, err);

    if (r < 0 || base_pack.len == 0)
        return r;
    spec = spec_of(find_target(deploy, w->artifact), w->base, buf_str(&base_pack));
    if (spec == NULL)
        return err_set(err, ERR_INTERNAL, "an artifact without a name");
    r = queue_enqueue_late(d, deploy->service, deploy->commit, spec, dedupe,
                           (int64_t)DELTAS_JOB_S * 1000, w->late ? DELTAS_LATE : DELTAS_FIRST, &job,
                           err);
    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "INSERT INTO delta (target, base, job, state) "
                           "VALUES ($1, $2, $3, 'making') ON CONFLICT (target, base) "
                           "DO UPDATE SET job = $3, state = 'making', reason = NULL, result = NULL "
                           "WHERE delta.state = 'none'",
                           db_text(w->artifact), db_text(w->base), db_int(job));
}

int deltas_want(struct db *d, const struct deploy *deploy, const struct deploy_want *wants,
                size_t n, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = want(d, deploy, &wants[i], err);
    return r < 0 ? err_wrap(err, "want deltas") : 0;
}

static int is_wanted_elsewhere(struct db *d, const struct deploy *deploy, const char *artifact,
                               bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT 1 FROM deployment WHERE live = 1 AND id <> $1 AND detail LIKE $2",
                    db_text(deploy->id), db_text(artifact));

    *ret = r == 0 && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return r;
}

static int drop(struct db *d, const char *artifact, const char *why, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT job FROM delta WHERE target = $1 AND state = 'making'",
                    db_text(artifact));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++) {
        r = queue_cancel(d, db_get_int(rows, i, 0), why, err);
        if (r == -(int)ERR_NOT_FOUND)
            r = 0;
        if (r == 0) /* who wants it meanwhile is not given one that is about to stop */
            r = queue_forget(d, db_get_int(rows, i, 0), err);
    }
    db_rows_free(rows);
    return r;
}

int deltas_drop(struct db *d, const struct deploy *deploy, struct err *err)
{
    AUTO_FREE char *why = mem_printf("nobody waits for it: deployment %s is %s", deploy->id,
                                     deploy_state_name(deploy->state));
    int r = 0;

    for (size_t i = 0; r == 0 && i < json_array_size(deploy->artifacts); i++) {
        const char *artifact = text_of(json_array_get(deploy->artifacts, i), "artifact");
        AUTO_FREE char *pattern = mem_printf("%%%s%%", artifact);
        bool elsewhere = false;

        r = is_wanted_elsewhere(d, deploy, pattern, &elsewhere, err);
        if (r == 0 && !elsewhere)
            r = drop(d, artifact, why, err);
    }
    return r < 0 ? err_wrap(err, "drop deltas") : 0;
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
                        "SELECT state, base, pack, pack_bytes, reason, result FROM delta "
                        "WHERE target = $1 ORDER BY base",
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
                .packed = world_json(w, db_get_text(rows, k, 5)),
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

static int settle(struct db *d, int64_t job, const char *state, const json_t *delta,
                  const char *reason, struct err *err)
{
    static const char *const keys[] = { "packed", "npacked", "packed_bytes" };
    const char *pack = json_string_value(json_object_get(delta, "pack"));
    AUTO_JSON *packed = json_object();
    AUTO_FREE char *text = NULL;

    for (size_t i = 0; i < COUNT_OF(keys) && delta != NULL; i++)
        json_object_set(packed, keys[i], json_object_get(delta, keys[i]));
    text = delta == NULL ? NULL : json_text(packed);
    return DB_EXEC(d, err,
                   "UPDATE delta SET state = $2, pack = $3, pack_bytes = $4, reason = $5, "
                   "result = $6 WHERE job = $1 AND state = 'making'",
                   db_int(job), db_text(state), db_text(pack),
                   db_int(json_integer_value(json_object_get(delta, "pack_bytes"))),
                   db_text(reason), db_text(text));
}

/* The job is not used again: whoever wants the delta has it made anew. */
static int settle_bad(struct db *d, int64_t job, const char *reason, struct err *err)
{
    int r = queue_forget(d, job, err);

    return r < 0 ? r : settle(d, job, "none", NULL, reason, err);
}

static enum verify_state verify(struct verifier *v, int64_t job, const json_t *spec,
                                const json_t *delta, int64_t now_ms, struct err *why)
{
    AUTO_FREE char *key = mem_printf("delta job %lld", (long long)job);
    AUTO_JSON *check = json_pack("[o]", json_deep_copy(json_object_get(spec, "delta")));

    json_object_set(json_array_get(check, 0), "pack", json_object_get(delta, "pack"));
    json_object_set(json_array_get(check, 0), "pack_bytes", json_object_get(delta, "pack_bytes"));
    return verify_ask(v, key, check, now_ms, why);
}

static int tend_result(struct db *d, struct verifier *v, const struct job *job, int64_t now_ms,
                       bool *ret_moved, struct err *err)
{
    AUTO_JSON *result = NULL, *spec = NULL;
    const json_t *delta;
    struct err why = ERR_INIT;
    enum verify_state state;

    *ret_moved = true;
    if (json_parse(&result, job->result, strlen(job->result), &why) < 0 ||
        json_parse(&spec, job->spec, strlen(job->spec), &why) < 0 ||
        !json_is_object(json_object_get(result, "delta")))
        return settle_bad(d, job->id, "the worker's result is malformed", err);
    delta = json_object_get(result, "delta");
    if (!json_is_string(json_object_get(delta, "pack")))
        return settle(d, job->id, "none", delta, text_of(delta, "why"), err);
    state = verify(v, job->id, spec, delta, now_ms, &why);
    if (state == VERIFY_GOOD)
        return settle(d, job->id, "ready", delta, NULL, err);
    if (state == VERIFY_BAD) {
        log_warn("delta job %lld: %s", (long long)job->id, why.text);
        return settle_bad(d, job->id, why.text, err);
    }
    *ret_moved = false;
    return 0;
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
        bool moved = false;

        r = tend_result(d, v, job, now_ms, &moved, err);
        *ret_moved = *ret_moved || moved;
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
    int r =
        DB_ROWS(d, &rows, err,
                "SELECT job FROM delta WHERE state = 'making' AND NOT EXISTS (SELECT 1 FROM job "
                "WHERE job.id = delta.job AND job.status IN ('queued', 'running')) "
                "ORDER BY job LIMIT $1",
                db_int(DELTAS_TEND_MAX));

    for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
        r = tend_one(d, v, db_get_int(rows, i, 0), now_ms, ret_moved, err);
    db_rows_free(rows);
    return r < 0 ? err_wrap(err, "deltas") : 0;
}
