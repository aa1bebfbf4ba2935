#include <string.h>

#include "base/mem.h"
#include "queue/queue.h"

/* Chunks read in one query. */
enum { CHUNKS_AT_ONCE = 64 };

/* The job's row is locked (PostgreSQL), so that a chunk is either before a reaper's UPDATE or sees
 * it: a late worker can never write behind the next attempt's first chunk. */
static const char insert_sql[] =
    "INSERT INTO job_log (job, attempt, seq, start_byte, size, data) "
    "SELECT id, attempt, $3, COALESCE((SELECT start_byte + size FROM job_log WHERE job = $1 "
    "ORDER BY start_byte DESC, attempt DESC, seq DESC LIMIT 1), 0), $4, $5 "
    "FROM job WHERE id = $1 AND attempt = $2 AND status = 'running' {{pg:FOR SHARE}} "
    "ON CONFLICT (job, attempt, seq) DO NOTHING";

int queue_log(struct db *d, int64_t id, int64_t attempt, int64_t seq, const void *data, size_t len,
              struct err *err)
{
    struct db_rows *rows;
    int64_t changed;
    int r;

    if (len > QUEUE_LOG_CHUNK_MAX_BYTES)
        return err_set(err, ERR_LIMIT, "log chunk of %zu bytes, at most %d", len,
                       QUEUE_LOG_CHUNK_MAX_BYTES);
    r = DB_CHANGE(d, &changed, err, insert_sql, db_int(id), db_int(attempt), db_int(seq),
                  db_int((int64_t)len), db_blob(data, len));
    if (r < 0)
        return err_wrap(err, "log of job %lld", (long long)id);
    if (changed > 0)
        return 0;
    r = DB_ROWS(d, &rows, err,
                "SELECT 1 FROM job WHERE id = $1 AND attempt = $2 AND status = 'running'",
                db_int(id), db_int(attempt));
    if (r < 0)
        return err_wrap(err, "log of job %lld", (long long)id);
    if (db_rows_count(rows) == 0)
        r = err_set(err, ERR_FENCED, "job %lld attempt %lld is no longer ours", (long long)id,
                    (long long)attempt);
    db_rows_free(rows);
    return r;
}

/* Appends what of the rows lies behind *offset; advances it. */
static void take(const struct db_rows *rows, int64_t *offset, size_t max, struct buf *out)
{
    for (size_t i = 0; i < db_rows_count(rows) && max > 0; i++) {
        int64_t start = db_get_int(rows, i, 0);
        size_t len;
        const char *data = db_get_blob(rows, i, 1, &len);
        size_t skip = *offset > start ? (size_t)(*offset - start) : 0;

        if (skip >= len)
            continue;
        len -= skip;
        if (len > max)
            len = max;
        buf_append(out, data + skip, len);
        *offset += (int64_t)len;
        max -= len;
    }
}

int queue_read_log(struct db *d, int64_t id, int64_t offset, size_t max, struct buf *out,
                   struct err *err)
{
    size_t end = out->len + max;
    bool more = true;

    while (more && out->len < end) {
        struct db_rows *rows;
        size_t before = out->len;
        int r = DB_ROWS(d, &rows, err,
                        "SELECT start_byte, data FROM job_log WHERE job = $1 AND start_byte > $2 "
                        "AND start_byte + size > $3 ORDER BY start_byte LIMIT $4",
                        db_int(id), db_int(offset - QUEUE_LOG_CHUNK_MAX_BYTES), db_int(offset),
                        db_int(CHUNKS_AT_ONCE));

        if (r < 0)
            return err_wrap(err, "log of job %lld", (long long)id);
        take(rows, &offset, end - out->len, out);
        more = db_rows_count(rows) == CHUNKS_AT_ONCE && out->len > before;
        db_rows_free(rows);
    }
    return 0;
}
