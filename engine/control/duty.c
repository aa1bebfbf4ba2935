#include "control/duty.h"

int duty_claim(struct db *d, const char *name, const char *holder, int64_t *ret_fence,
               struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_EXEC(d, err,
                    "INSERT INTO duty (name, holder, fence, expires) VALUES ($1, '', 0, 0) "
                    "ON CONFLICT (name) DO NOTHING",
                    db_text(name));

    *ret_fence = 0;
    if (r == 0)
        r = DB_ROWS(d, &rows, err,
                    "UPDATE duty SET holder = $2, fence = fence + 1, expires = now_ms() + $3 "
                    "WHERE name = $1 AND (expires < now_ms() OR holder = $2) RETURNING fence",
                    db_text(name), db_text(holder), db_int(DUTY_MS));
    if (r == 0 && db_rows_count(rows) > 0)
        *ret_fence = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return r < 0 ? err_wrap(err, "claim duty %s", name) : 0;
}

int duty_check(struct db *d, const char *name, int64_t fence, struct err *err)
{
    int64_t changed = 0;
    int r = DB_CHANGE(d, &changed, err,
                      "UPDATE duty SET expires = now_ms() + $3 WHERE name = $1 AND fence = $2",
                      db_text(name), db_int(fence), db_int(DUTY_MS));

    if (r == 0 && changed == 0)
        return err_set(err, ERR_FENCED, "duty %s is somebody else's now", name);
    return r;
}

void duty_leave(struct db *d, const char *name, int64_t fence)
{
    struct err err = ERR_INIT;

    (void)!DB_EXEC(d, &err, "UPDATE duty SET expires = 0 WHERE name = $1 AND fence = $2",
                   db_text(name), db_int(fence));
}
