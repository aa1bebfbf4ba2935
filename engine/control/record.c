#include "control/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void record_free(struct record *r)
{
    if (r == NULL)
        return;
    if (r->deploy != NULL)
        deploy_free(r->deploy);
    free(r->bundle);
    free(r);
}

int record_load(struct db *d, const char *id, struct record **ret, struct err *err)
{
    struct db_rows *rows = NULL;
    AUTO_JSON *detail = NULL;
    struct record *rec;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT number, job, version, bundle, live, tending, detail FROM deployment "
                    "WHERE id = $1",
                    db_text(id));

    if (r < 0)
        return err_wrap(err, "deployment %s", id);
    if (db_rows_count(rows) == 0) {
        db_rows_free(rows);
        return err_set(err, ERR_NOT_FOUND, "there is no deployment %s", id);
    }
    rec = mem_alloc(sizeof(*rec));
    rec->number = db_get_int(rows, 0, 0);
    rec->job = db_get_int(rows, 0, 1);
    rec->version = db_get_int(rows, 0, 2);
    rec->bundle = mem_strdup(db_get_text(rows, 0, 3));
    rec->live = db_get_int(rows, 0, 4) != 0;
    rec->tending = db_get_int(rows, 0, 5) != 0;
    r = json_parse(&detail, db_get_text(rows, 0, 6), strlen(db_get_text(rows, 0, 6)), err);
    if (r == 0)
        r = deploy_from_json(&rec->deploy, detail, err);
    db_rows_free(rows);
    if (r < 0) {
        record_free(rec);
        if (err != NULL)
            err->code = ERR_CORRUPT;
        return err_wrap(err, "deployment %s", id);
    }
    *ret = rec;
    return 0;
}

/* --- by name --- */

static int pick(int r, struct db_rows *rows, const char *name, struct buf *ret_id,
                json_t *candidates, struct err *err)
{
    size_t n = r < 0 ? 0 : db_rows_count(rows);

    if (r == 0 && n == 0)
        r = err_set(err, ERR_NOT_FOUND, "there is no deployment '%s'", name);
    for (size_t i = 0; r == 0 && n > 1 && i < n; i++)
        json_array_append_new(candidates, json_string(db_get_text(rows, i, 0)));
    if (r == 0 && n > 1)
        r = err_set(err, ERR_CONFLICT, "'%s' may mean several deployments", name);
    if (r == 0)
        buf_str_append(ret_id, db_get_text(rows, 0, 0));
    db_rows_free(rows);
    return r;
}

static int find_attempt(struct db *d, const char *name, const char *at, struct buf *ret_id,
                        json_t *candidates, struct err *err)
{
    AUTO_FREE char *service = mem_strndup(name, (size_t)(at - name));
    AUTO_FREE char *upper = mem_printf("%s~", at + 1);
    struct db_rows *rows = NULL;
    int r;

    /* The latest attempt of each commit that the prefix may mean. */
    r = DB_ROWS(d, &rows, err,
                "SELECT id FROM deployment WHERE number IN (SELECT MAX(number) FROM deployment "
                "WHERE service = $1 AND sha >= $2 AND sha < $3 GROUP BY sha) "
                "ORDER BY number DESC LIMIT 10",
                db_text(service), db_text(at + 1), db_text(upper));
    return pick(r, rows, name, ret_id, candidates, err);
}

int record_find(struct db *d, const char *name, struct buf *ret_id, json_t *candidates,
                struct err *err)
{
    const char *at = strchr(name, '@');
    AUTO_FREE char *upper = mem_printf("%s~", name);
    struct db_rows *rows = NULL;
    int r;

    if (at != NULL)
        return find_attempt(d, name, at, ret_id, candidates, err);
    r = DB_ROWS(d, &rows, err,
                "SELECT id FROM deployment WHERE service = $1 ORDER BY number DESC LIMIT 1",
                db_text(name));
    if (r == 0 && db_rows_count(rows) == 0) {
        db_rows_free(rows);
        rows = NULL;
        r = DB_ROWS(d, &rows, err,
                    "SELECT id FROM deployment WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 10",
                    db_text(name), db_text(upper));
    }
    return pick(r, rows, name, ret_id, candidates, err);
}

/* --- writing --- */

int record_insert(struct db *d, const struct deploy *deploy, const char *bundle, int64_t job,
                  const char *dedupe, struct err *err)
{
    AUTO_JSON *json = deploy_to_json(deploy);
    AUTO_FREE char *detail = json_text(json);
    int r =
        DB_EXEC(d, err,
                "INSERT INTO deployment (id, service, sha, state, live, tending, recipe, "
                "bundle, job, dedupe, version, created_at, finished_at, detail) "
                "VALUES ($1, $2, $3, $4, 1, 0, $5, $6, $7, $8, 1, $9, NULL, $10)",
                db_text(deploy->id), db_text(deploy->service), db_text(deploy->commit),
                db_text(deploy_state_name(deploy->state)), db_text(deploy->recipe), db_text(bundle),
                db_int(job), db_text(dedupe), db_int(deploy->created_ms), db_text(detail));

    return r < 0 ? err_wrap(err, "insert deployment %s", deploy->id) : 0;
}

int record_save(struct db *d, const struct record *rec, const char *detail, struct err *err)
{
    const struct deploy *deploy = rec->deploy;
    int64_t changed = 0;
    int r = DB_CHANGE(
        d, &changed, err,
        "UPDATE deployment SET state = $3, live = $4, tending = $5, finished_at = "
        "$6, detail = $7, version = version + 1 WHERE id = $1 AND version = $2",
        db_text(deploy->id), db_int(rec->version), db_text(deploy_state_name(deploy->state)),
        db_int(rec->live), db_int(rec->tending),
        deploy->finished_ms == 0 ? db_null() : db_int(deploy->finished_ms), db_text(detail));

    if (r == 0 && changed == 0)
        r = err_set(err, ERR_CONFLICT, "it has changed since it was read");
    return r < 0 ? err_wrap(err, "save deployment %s", deploy->id) : 0;
}

int job_is_shared(struct db *d, int64_t job, const char *deployment, bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "SELECT id FROM deployment WHERE job = $1 AND live = 1 AND id <> $2 LIMIT 1",
                    db_int(job), db_text(deployment));

    *ret = r == 0 && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return r;
}
