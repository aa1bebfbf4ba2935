/* row.h - inside queue/: the columns that make a struct job, for SELECT and RETURNING. */
#ifndef QUEUE_ROW_H
#define QUEUE_ROW_H

#include "queue/queue.h"

#define JOB_COLUMNS                                                                               \
    "id, name, sha, status, attempt, created_at, started_at, finished_at, last_h, worker, spec, " \
    "result, reason, failure"

/* Gives the job of that row of an answer. */
struct job *job_from_row(const struct db_rows *rows, size_t row);

#endif
