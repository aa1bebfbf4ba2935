#include "control/regions.h"

#include "base/mem.h"
#include "control/history.h"
#include "control/record.h"

/* --- what machines run --- */

static int64_t machines_in(const json_t *releases)
{
    int64_t n = 0;
    json_t *one;
    size_t i;

    json_array_foreach(releases, i, one) n += json_integer_value(json_array_get(one, 1));
    return n;
}

/* Told last, and before that. */
static int count_known(struct db *d, const char *region, const char *service, int64_t *ret_last,
                       int64_t *ret_before, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT (SELECT CAST(COALESCE(SUM(machines), 0) AS BIGINT) FROM running "
                    "WHERE region = $1 AND service = $2), "
                    "(SELECT CAST(COALESCE(SUM(machines), 0) AS BIGINT) FROM running_before "
                    "WHERE region = $1 AND service = $2)",
                    db_text(region), db_text(service));

    if (r == 0) {
        *ret_last = db_get_int(rows, 0, 0);
        *ret_before = db_get_int(rows, 0, 1);
    }
    db_rows_free(rows);
    return r;
}

/* Of a release that is kept already the larger number stays. */
static int keep_last(struct db *d, const char *region, const char *service, int64_t now_ms,
                     struct err *err)
{
    return DB_EXEC(d, err,
                   "INSERT INTO running_before (region, service, release, machines, at) "
                   "SELECT region, service, release, machines, $3 FROM running "
                   "WHERE region = $1 AND service = $2 AND machines > 0 "
                   "ON CONFLICT (region, service, release) DO UPDATE SET at = excluded.at, "
                   "machines = CASE WHEN excluded.machines > running_before.machines "
                   "THEN excluded.machines ELSE running_before.machines END",
                   db_text(region), db_text(service), db_int(now_ms));
}

static int compare_with_before(struct db *d, const char *region, const char *service, int64_t told,
                               int64_t now_ms, struct err *err)
{
    int64_t last = 0, before = 0;
    int r =
        DB_EXEC(d, err, "DELETE FROM running_before WHERE region = $1 AND service = $2 AND at < $3",
                db_text(region), db_text(service), db_int(now_ms - REGION_LOST_MS));

    if (r == 0)
        r = count_known(d, region, service, &last, &before, err);
    if (r == 0 && told < last)
        return keep_last(d, region, service, now_ms, err);
    if (r == 0 && before > 0 && told >= before)
        return DB_EXEC(d, err, "DELETE FROM running_before WHERE region = $1 AND service = $2",
                       db_text(region), db_text(service));
    return r;
}

int region_runs(struct db *d, const char *region, const char *service, const json_t *releases,
                int64_t now_ms, struct err *err)
{
    int r = compare_with_before(d, region, service, machines_in(releases), now_ms, err);

    if (r == 0)
        r = DB_EXEC(d, err, "DELETE FROM running WHERE region = $1 AND service = $2",
                    db_text(region), db_text(service));
    for (size_t i = 0; r == 0 && i < json_array_size(releases); i++) {
        const json_t *one = json_array_get(releases, i);

        r = DB_EXEC(d, err,
                    "INSERT INTO running (region, service, release, machines) "
                    "VALUES ($1, $2, $3, $4) ON CONFLICT (region, service, release) "
                    "DO UPDATE SET machines = $4",
                    db_text(region), db_text(service),
                    db_text(json_string_value(json_array_get(one, 0))),
                    db_int(json_integer_value(json_array_get(one, 1))));
    }
    return r;
}

/* --- gone for good --- */

struct forgetting_region {
    const char *name, *actor, *reason;
    int64_t now_ms;
};

static int check_away(struct db *d, const struct forgetting_region *f, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT connected, seen_at FROM region WHERE name = $1",
                    db_text(f->name));

    if (r == 0 && db_rows_count(rows) == 0)
        r = err_set(err, ERR_NOT_FOUND, "there is no region %s", f->name);
    else if (r == 0 && db_get_int(rows, 0, 0) != 0 &&
             f->now_ms - db_get_int(rows, 0, 1) < REGION_SILENT_MS)
        r = err_set(err, ERR_CONFLICT, "region %s is connected: stop its nodes first", f->name);
    db_rows_free(rows);
    return r;
}

static int forget(struct db *d, void *arg, struct err *err)
{
    static const char *const sql[] = {
        "DELETE FROM goal WHERE region = $1",    "DELETE FROM running WHERE region = $1",
        "DELETE FROM replica WHERE region = $1", "DELETE FROM running_before WHERE region = $1",
        "DELETE FROM region WHERE name = $1",
    };
    const struct forgetting_region *f = arg;
    int r = check_away(d, f, err);

    for (size_t i = 0; r == 0 && i < COUNT_OF(sql); i++)
        r = DB_EXEC(d, err, sql[i], db_text(f->name));
    return r < 0 ? r : audit_add(d, f->actor, "forget-region", f->name, f->reason, "done", err);
}

int region_forget(struct db *d, const char *name, const char *actor, const char *reason,
                  int64_t now_ms, struct err *err)
{
    struct forgetting_region f = { name, actor, reason, now_ms };

    return db_transaction(d, forget, &f, err);
}
