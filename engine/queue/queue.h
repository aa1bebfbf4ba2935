/* queue.h - jobs in a SQL table: each is claimed by exactly one worker and ends in a terminal
 * state.
 *
 * A job is claimed with an attempt number. Every later write names (id, attempt): beat, log,
 * finish. If it changes no row, somebody else owns the job now (-ERR_FENCED): stop the build at
 * once. One UPDATE on the database's clock takes back the jobs whose worker is silent; there are at
 * most `max_attempts`, then it is failed with reason "lost". A second, absolute deadline ends a job
 * that beats for ever ("deadline").
 *
 *     queued -> running -> succeeded | failed | cancelled        running -> queued  (reaped,
 * attempt + 1)
 *
 * Rows: job(id, name, sha, created_at, status, last_h, attempt, max_attempts, not_before, deadline,
 * worker, claim_token, dedupe, spec, result, reason, cancel, started_at, finished_at, priority), job_log(job,
 * attempt, seq, data). */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include "base/buf.h"
#include "db/db.h"

enum {
    QUEUE_BEAT_MS = 10000,
    QUEUE_LOST_MS = 60000,
    QUEUE_ATTEMPTS = 3,
    QUEUE_SPEC_MAX_BYTES = 1 << 20,
    QUEUE_LOG_CHUNK_MAX_BYTES = 64 * 1024,
};

/* Of db_notify() and db_wait(): a job was queued or has changed its state. */
#define QUEUE_CHANNEL "slipway_job"

enum job_status { JOB_NONE = 0, JOB_QUEUED, JOB_RUNNING, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED };
const char *job_status_name(enum job_status s);

struct job {
    int64_t id;
    char *name; /* service */
    char *sha;
    enum job_status status;
    int64_t attempt;
    int64_t created_ms, started_ms, finished_ms, last_beat_ms; /* 0: not yet */
    char *worker;
    char *spec;    /* JSON for the worker: engine/build/recipe.h */
    char *result;  /* JSON of a succeeded job, "" before */
    char *reason;  /* of a failed or cancelled one: "step compile: exit status 2" */
    char *failure; /* kind: "build" (the build's fault), "infra", "lost", "deadline", "cancelled",
                      "" */
};

void job_free(struct job *j);

/* Inserts a job, or finds the queued, running or succeeded one with the same dedupe key: *ret_id is
 * its id either way. Run inside the caller's transaction if it has one. deadline_ms: from the first
 * claim. */
MUST_CHECK int queue_enqueue(struct db *d, const char *name, const char *sha, const char *spec,
                             const char *dedupe, int64_t deadline_ms, int64_t *ret_id,
                             struct err *err);

/* The same for a job that others go before: it is claimed when none with a smaller priority is
 * queued; those of queue_enqueue() have 0. */
MUST_CHECK int queue_enqueue_late(struct db *d, const char *name, const char *sha, const char *spec,
                                  const char *dedupe, int64_t deadline_ms, int64_t priority,
                                  int64_t *ret_id, struct err *err);

/* Claims the oldest queued job. *ret = NULL if there is none. Safe to repeat after a lost
 * connection: the token (random, of this claim) finds what the lost one claimed. */
MUST_CHECK int queue_claim(struct db *d, const char *worker, const char *token, struct job **ret,
                           struct err *err);

/* *ret_cancel: somebody asked for the job to be cancelled. */
MUST_CHECK int queue_beat(struct db *d, int64_t id, int64_t attempt, bool *ret_cancel,
                          struct err *err);
/* seq counts up from 0 within an attempt; repeating one is harmless. */
MUST_CHECK int queue_log(struct db *d, int64_t id, int64_t attempt, int64_t seq, const void *data,
                         size_t len, struct err *err);
/* Idempotent: saying the same again succeeds. failure as in struct job. An "infra" failure is
 * queued again while attempts are left. */
MUST_CHECK int queue_finish(struct db *d, int64_t id, int64_t attempt, enum job_status status,
                            const char *result, const char *failure, const char *reason,
                            struct err *err);
/* Gives a claimed job back without spending the attempt (the worker is stopping). */
MUST_CHECK int queue_release(struct db *d, int64_t id, int64_t attempt, struct err *err);

/* A queued job is cancelled at once, a running one at its next beat; a finished one stays as it is.
 * -ERR_NOT_FOUND. */
MUST_CHECK int queue_cancel(struct db *d, int64_t id, const char *reason, struct err *err);

/* What the job has made is gone: the next queue_enqueue() with its dedupe key makes a new job. */
MUST_CHECK int queue_forget(struct db *d, int64_t id, struct err *err);

/* The monitor's act: takes back or ends the jobs of silent workers and those past their deadline.
 * *ret_failed counts the cancelled ones too. lost_ms: QUEUE_LOST_MS. */
MUST_CHECK int queue_reap(struct db *d, int64_t lost_ms, int64_t *ret_requeued, int64_t *ret_failed,
                          struct err *err);

MUST_CHECK int queue_get(struct db *d, int64_t id, struct job **ret, struct err *err);
/* Newest first; status JOB_NONE: any. */
MUST_CHECK int queue_list(struct db *d, enum job_status status, int64_t limit, struct job ***ret,
                          size_t *ret_count, struct err *err);
/* The log of the job's attempts from a byte offset (over all attempts, in order), at most max
 * bytes. */
MUST_CHECK int queue_read_log(struct db *d, int64_t id, int64_t offset, size_t max, struct buf *out,
                              struct err *err);

#endif
