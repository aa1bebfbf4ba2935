#include "queue/queue.h"

#include <string.h>

#include "queue/row.h"

/* Each act is one UPDATE that tests what it relies on, so that it is right whatever runs beside it,
 * and that can be repeated after a lost connection. Of an UPDATE that changed nothing the row tells
 * why. Statuses stand in the text, not in parameters: else the partial indexes are not used. */

enum { ENQUEUE_TRIES = 10, RETRY_AFTER_MS = 5000 };

static int check_spec(const char *name, const char *spec, int64_t deadline_ms, struct err *err)
{
    if (name[0] == '\0')
        return err_set(err, ERR_INVALID, "a job needs a name");
    if (strlen(spec) > QUEUE_SPEC_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "spec of %zu bytes, at most %d", strlen(spec),
                       QUEUE_SPEC_MAX_BYTES);
    if (deadline_ms <= 0)
        return err_set(err, ERR_INVALID, "a job needs a deadline above 0");
    return 0;
}

/* Reads the first column of the first row. *ret = 0 if there is no row. Takes rows. */
static int first_int(int r, struct db_rows *rows, int64_t *ret)
{
    *ret = 0;
    if (r < 0)
        return r;
    *ret = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return 0;
}

static const char enqueue_sql[] =
    "INSERT INTO job (name, sha, created_at, status, attempt, max_attempts, not_before, max_ms, "
    "dedupe, spec, priority) VALUES ($1, $2, now_ms(), 'queued', 0, $3, now_ms(), $4, $5, $6, $7) "
    "ON CONFLICT (dedupe) WHERE status IN ('queued', 'running', 'succeeded') DO NOTHING "
    "RETURNING id";

static const char duplicate_sql[] = "SELECT id FROM job WHERE dedupe = $1 "
                                    "AND status IN ('queued', 'running', 'succeeded')";

static int enqueue(struct db *d, const char *name, const char *sha, const char *spec,
                   const char *dedupe, int64_t deadline_ms, int64_t priority, int64_t *ret_id,
                   struct err *err)
{
    int r = check_spec(name, spec, deadline_ms, err);

    *ret_id = 0;
    /* The one in our way may end as failed between the two statements: then ours can be inserted.
     */
    for (int i = 0; i < ENQUEUE_TRIES && r == 0 && *ret_id == 0; i++) {
        struct db_rows *rows = NULL;

        r = DB_ROWS(d, &rows, err, enqueue_sql, db_text(name), db_text(sha), db_int(QUEUE_ATTEMPTS),
                    db_int(deadline_ms), db_text(dedupe), db_text(spec), db_int(priority));
        r = first_int(r, rows, ret_id);
        if (r == 0 && *ret_id != 0) {
            db_notify(d, QUEUE_CHANNEL);
        } else if (r == 0) {
            r = DB_ROWS(d, &rows, err, duplicate_sql, db_text(dedupe));
            r = first_int(r, rows, ret_id);
        }
    }
    if (r == 0 && *ret_id == 0)
        r = err_set(err, ERR_AGAIN, "its duplicates come and go");
    return r < 0 ? err_wrap(err, "enqueue %s", name) : 0;
}

int queue_enqueue(struct db *d, const char *name, const char *sha, const char *spec,
                  const char *dedupe, int64_t deadline_ms, int64_t *ret_id, struct err *err)
{
    return enqueue(d, name, sha, spec, dedupe, deadline_ms, 0, ret_id, err);
}

int queue_enqueue_late(struct db *d, const char *name, const char *sha, const char *spec,
                       const char *dedupe, int64_t deadline_ms, int64_t priority, int64_t *ret_id,
                       struct err *err)
{
    return enqueue(d, name, sha, spec, dedupe, deadline_ms, priority, ret_id, err);
}

static const char claim_sql[] =
    "UPDATE job SET status = 'running', attempt = attempt + 1, worker = $1, claim_token = $2, "
    "last_h = now_ms(), started_at = now_ms(), deadline = COALESCE(deadline, now_ms() + max_ms), "
    "result = NULL, failure = NULL, reason = NULL "
    "WHERE status = 'queued' AND id = (SELECT id FROM job WHERE status = 'queued' AND "
    "not_before <= now_ms() ORDER BY priority, id LIMIT 1 {{lock}}) "
    "AND NOT EXISTS (SELECT 1 FROM job WHERE status = 'running' AND claim_token = $2) "
    "RETURNING " JOB_COLUMNS;

static const char claimed_sql[] =
    "SELECT " JOB_COLUMNS " FROM job WHERE status = 'running' AND claim_token = $1";

int queue_claim(struct db *d, const char *worker, const char *token, struct job **ret,
                struct err *err)
{
    struct db_rows *rows;
    int r = DB_ROWS(d, &rows, err, claim_sql, db_text(worker), db_text(token));

    *ret = NULL;
    /* Nothing queued, or this token has claimed before its connection broke (a conflict: it is
     * just about to). */
    if (r == -(int)ERR_CONFLICT || (r == 0 && db_rows_count(rows) == 0)) {
        if (r == 0)
            db_rows_free(rows);
        r = DB_ROWS(d, &rows, err, claimed_sql, db_text(token));
    }
    if (r < 0)
        return err_wrap(err, "claim a job");
    if (db_rows_count(rows) > 0)
        *ret = job_from_row(rows, 0);
    db_rows_free(rows);
    return 0;
}

static int fenced(int64_t id, int64_t attempt, struct err *err)
{
    return err_set(err, ERR_FENCED, "job %lld attempt %lld is no longer ours", (long long)id,
                   (long long)attempt);
}

int queue_beat(struct db *d, int64_t id, int64_t attempt, bool *ret_cancel, struct err *err)
{
    struct db_rows *rows;
    int r = DB_ROWS(d, &rows, err,
                    "UPDATE job SET last_h = now_ms() WHERE id = $1 AND attempt = $2 "
                    "AND status = 'running' RETURNING CASE WHEN cancel IS NULL THEN 0 ELSE 1 END",
                    db_int(id), db_int(attempt));

    *ret_cancel = false;
    if (r < 0)
        return err_wrap(err, "beat of job %lld", (long long)id);
    if (db_rows_count(rows) == 0)
        r = fenced(id, attempt, err);
    else
        *ret_cancel = db_get_int(rows, 0, 0) != 0;
    db_rows_free(rows);
    return r;
}

/* An infrastructure failure is tried again, later each time: 5 s, 15 s, 45 s. */
#define TRIES_AGAIN "$5 = 'infra' AND cancel IS NULL AND attempt < max_attempts"

static const char finish_sql[] =
    "UPDATE job SET status = CASE WHEN " TRIES_AGAIN " THEN 'queued' "
    "WHEN $5 = 'infra' AND cancel IS NOT NULL THEN 'cancelled' ELSE $3 END, "
    "not_before = CASE WHEN " TRIES_AGAIN " THEN now_ms() + $7 * (CASE attempt WHEN 1 THEN 1 "
    "WHEN 2 THEN 3 ELSE 9 END) ELSE not_before END, "
    "finished_at = CASE WHEN " TRIES_AGAIN " THEN NULL ELSE now_ms() END, "
    "result = $4, failure = $5, "
    "reason = CASE $3 WHEN 'cancelled' THEN COALESCE(cancel, $6) ELSE $6 END "
    "WHERE id = $1 AND attempt = $2 AND status = 'running'";

/* Was it this very outcome that somebody, probably we, has written already? */
static int same_outcome(struct db *d, int64_t id, int64_t attempt, enum job_status status,
                        const char *failure, struct err *err)
{
    struct job *j;
    int r = queue_get(d, id, &j, err);
    bool same;

    if (r < 0)
        return r == -(int)ERR_NOT_FOUND ? fenced(id, attempt, err) : r;
    same = j->attempt == attempt && strcmp(j->failure, failure) == 0 &&
           (j->status == status || (strcmp(failure, "infra") == 0 &&
                                    (j->status == JOB_QUEUED || j->status == JOB_CANCELLED)));
    job_free(j);
    return same ? 0 : fenced(id, attempt, err);
}

int queue_finish(struct db *d, int64_t id, int64_t attempt, enum job_status status,
                 const char *result, const char *failure, const char *reason, struct err *err)
{
    int64_t changed;
    int r;

    if (status != JOB_SUCCEEDED && status != JOB_FAILED && status != JOB_CANCELLED)
        return err_set(err, ERR_INVALID, "a job does not finish as %s", job_status_name(status));
    if (failure == NULL)
        failure = "";
    r = DB_CHANGE(d, &changed, err, finish_sql, db_int(id), db_int(attempt),
                  db_text(job_status_name(status)), db_text(result), db_text(failure),
                  db_text(reason), db_int(RETRY_AFTER_MS));
    if (r == 0 && changed == 0)
        return same_outcome(d, id, attempt, status, failure, err);
    if (r < 0)
        return err_wrap(err, "finish job %lld", (long long)id);
    db_notify(d, QUEUE_CHANNEL);
    return 0;
}

/* The attempt's number is not used again: it is the fence. One more is allowed instead. */
static const char release_sql[] =
    "UPDATE job SET status = CASE WHEN cancel IS NULL THEN 'queued' ELSE 'cancelled' END, "
    "finished_at = CASE WHEN cancel IS NULL THEN NULL ELSE now_ms() END, "
    "reason = cancel, failure = CASE WHEN cancel IS NULL THEN 'released' ELSE 'cancelled' END, "
    "max_attempts = max_attempts + 1, not_before = now_ms() "
    "WHERE id = $1 AND attempt = $2 AND status = 'running'";

int queue_release(struct db *d, int64_t id, int64_t attempt, struct err *err)
{
    int64_t changed;
    int r = DB_CHANGE(d, &changed, err, release_sql, db_int(id), db_int(attempt));

    if (r < 0)
        return err_wrap(err, "release job %lld", (long long)id);
    if (changed == 0)
        return same_outcome(d, id, attempt, JOB_QUEUED, "released", err);
    db_notify(d, QUEUE_CHANNEL);
    return 0;
}

static const char cancel_sql[] =
    "UPDATE job SET cancel = COALESCE(cancel, $2), "
    "reason = CASE status WHEN 'queued' THEN $2 ELSE reason END, "
    "failure = CASE status WHEN 'queued' THEN 'cancelled' ELSE failure END, "
    "finished_at = CASE status WHEN 'queued' THEN now_ms() ELSE finished_at END, "
    "status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END "
    "WHERE id = $1 AND status IN ('queued', 'running')";

int queue_cancel(struct db *d, int64_t id, const char *reason, struct err *err)
{
    struct job *j;
    int64_t changed;
    int r = DB_CHANGE(d, &changed, err, cancel_sql, db_int(id),
                      db_text(reason == NULL ? "cancelled" : reason));

    if (r < 0)
        return err_wrap(err, "cancel job %lld", (long long)id);
    if (changed > 0) {
        db_notify(d, QUEUE_CHANNEL);
        return 0;
    }
    r = queue_get(d, id, &j, err); /* finished already: nothing to do */
    job_free(j);
    return r;
}

#define REAPED_TO                                                                            \
    "CASE WHEN cancel IS NOT NULL THEN 'cancelled' WHEN deadline <= now_ms() THEN 'failed' " \
    "WHEN attempt >= max_attempts THEN 'failed' ELSE 'queued' END"

/* No fetch and update by id: a beat or finish that comes in between must win. */
static const char reap_running_sql[] =
    "UPDATE job SET status = " REAPED_TO ", "
    "failure = CASE WHEN cancel IS NOT NULL THEN 'cancelled' "
    "WHEN deadline <= now_ms() THEN 'deadline' ELSE 'lost' END, "
    "reason = CASE WHEN cancel IS NOT NULL THEN cancel "
    "WHEN deadline <= now_ms() THEN 'not done within ' || CAST(max_ms / 1000 AS TEXT) || ' s' "
    "ELSE 'no sign of worker ' || worker || ' (attempt ' || CAST(attempt AS TEXT) || ' of ' || "
    "CAST(max_attempts AS TEXT) || ')' END, "
    "finished_at = CASE WHEN " REAPED_TO " = 'queued' THEN NULL ELSE now_ms() END, "
    "not_before = now_ms() "
    "WHERE status = 'running' AND (last_h < now_ms() - $1 OR deadline <= now_ms()) "
    "RETURNING status";

static const char reap_queued_sql[] =
    "UPDATE job SET status = 'failed', failure = 'deadline', finished_at = now_ms(), "
    "reason = 'not done within ' || CAST(max_ms / 1000 AS TEXT) || ' s' "
    "WHERE status = 'queued' AND deadline <= now_ms() RETURNING status";

static int reap(struct db *d, struct db_rows *rows, int64_t *requeued, int64_t *ended)
{
    for (size_t i = 0; i < db_rows_count(rows); i++) {
        if (strcmp(db_get_text(rows, i, 0), "queued") == 0)
            ++*requeued;
        else
            ++*ended;
    }
    if (db_rows_count(rows) > 0)
        db_notify(d, QUEUE_CHANNEL);
    db_rows_free(rows);
    return 0;
}

int queue_forget(struct db *d, int64_t id, struct err *err)
{
    int r = DB_EXEC(d, err, "UPDATE job SET dedupe = NULL WHERE id = $1", db_int(id));

    return r < 0 ? err_wrap(err, "forget job %lld", (long long)id) : 0;
}

int queue_reap(struct db *d, int64_t lost_ms, int64_t *ret_requeued, int64_t *ret_failed,
               struct err *err)
{
    struct db_rows *rows;
    int r = DB_ROWS(d, &rows, err, reap_running_sql, db_int(lost_ms));

    *ret_requeued = *ret_failed = 0;
    if (r == 0)
        r = reap(d, rows, ret_requeued, ret_failed);
    if (r == 0)
        r = DB_ROWS(d, &rows, err, reap_queued_sql);
    if (r == 0)
        r = reap(d, rows, ret_requeued, ret_failed);
    return r < 0 ? err_wrap(err, "reap jobs") : 0;
}
