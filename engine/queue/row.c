#include "queue/row.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const status_names[] = {
    [JOB_NONE] = "none",           [JOB_QUEUED] = "queued", [JOB_RUNNING] = "running",
    [JOB_SUCCEEDED] = "succeeded", [JOB_FAILED] = "failed", [JOB_CANCELLED] = "cancelled",
};

const char *job_status_name(enum job_status s)
{
    return (size_t)s < COUNT_OF(status_names) ? status_names[s] : "unknown";
}

static enum job_status status_from(const char *name)
{
    for (size_t i = 1; i < COUNT_OF(status_names); i++) {
        if (strcmp(name, status_names[i]) == 0)
            return (enum job_status)i;
    }
    return JOB_NONE;
}

struct job *job_from_row(const struct db_rows *rows, size_t row)
{
    struct job *j = mem_alloc(sizeof(*j));
    int col = 0;

    j->id = db_get_int(rows, row, col++);
    j->name = mem_strdup(db_get_text(rows, row, col++));
    j->sha = mem_strdup(db_get_text(rows, row, col++));
    j->status = status_from(db_get_text(rows, row, col++));
    j->attempt = db_get_int(rows, row, col++);
    j->created_ms = db_get_int(rows, row, col++);
    j->started_ms = db_get_int(rows, row, col++);
    j->finished_ms = db_get_int(rows, row, col++);
    j->last_beat_ms = db_get_int(rows, row, col++);
    j->worker = mem_strdup(db_get_text(rows, row, col++));
    j->spec = mem_strdup(db_get_text(rows, row, col++));
    j->result = mem_strdup(db_get_text(rows, row, col++));
    j->reason = mem_strdup(db_get_text(rows, row, col++));
    j->failure = mem_strdup(db_get_text(rows, row, col++));
    return j;
}

void job_free(struct job *j)
{
    if (j == NULL)
        return;
    free(j->name);
    free(j->sha);
    free(j->worker);
    free(j->spec);
    free(j->result);
    free(j->reason);
    free(j->failure);
    free(j);
}

int queue_get(struct db *d, int64_t id, struct job **ret, struct err *err)
{
    struct db_rows *rows;
    int r = DB_ROWS(d, &rows, err, "SELECT " JOB_COLUMNS " FROM job WHERE id = $1", db_int(id));

    *ret = NULL;
    if (r < 0)
        return err_wrap(err, "job %lld", (long long)id);
    if (db_rows_count(rows) == 0)
        r = err_set(err, ERR_NOT_FOUND, "no job %lld", (long long)id);
    else
        *ret = job_from_row(rows, 0);
    db_rows_free(rows);
    return r;
}

int queue_list(struct db *d, enum job_status status, int64_t limit, struct job ***ret,
               size_t *ret_count, struct err *err)
{
    struct db_rows *rows;
    int r;

    *ret = NULL;
    *ret_count = 0;
    if (status == JOB_NONE)
        r = DB_ROWS(d, &rows, err, "SELECT " JOB_COLUMNS " FROM job ORDER BY id DESC LIMIT $1",
                    db_int(limit));
    else
        r = DB_ROWS(d, &rows, err,
                    "SELECT " JOB_COLUMNS " FROM job WHERE status = $1 ORDER BY id DESC LIMIT $2",
                    db_text(job_status_name(status)), db_int(limit));
    if (r < 0)
        return err_wrap(err, "list jobs");
    *ret_count = db_rows_count(rows);
    *ret = mem_calloc(*ret_count, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = job_from_row(rows, i);
    db_rows_free(rows);
    return 0;
}
