#include "control/history.h"

#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

int counter_next(struct db *d, const char *name, int64_t *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err,
                    "UPDATE counter SET value = value + 1 WHERE name = $1 RETURNING value",
                    db_text(name));

    if (r == 0 && db_rows_count(rows) != 1)
        r = err_set(err, ERR_INTERNAL, "there is no counter %s", name);
    if (r == 0)
        *ret = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return r;
}

int event_add(struct db *d, const char *deployment, const char *kind, const char *text,
              const json_t *data, struct err *err)
{
    AUTO_FREE char *json = data == NULL ? mem_strdup("{}") : json_text(data);
    int64_t seq = 0;
    int r = counter_next(d, "event", &seq, err);

    if (r == 0)
        r = DB_EXEC(d, err,
                    "INSERT INTO event (seq, at, deployment, kind, text, data) "
                    "VALUES ($1, now_ms(), $2, $3, $4, $5)",
                    db_int(seq), db_text(deployment), db_text(kind), db_text(text), db_text(json));
    return r < 0 ? err_wrap(err, "log event %s", kind) : 0;
}

int decision_add(struct db *d, const char *deployment, const char *question, const char *action,
                 const char *reason, const char *bundle, const char *input, const char *output,
                 struct err *err)
{
    int64_t changed = 0;
    int r = DB_CHANGE(d, &changed, err,
                      "UPDATE decision SET last_at = now_ms(), times = times + 1, input = $5, "
                      "output = $6 WHERE number = (SELECT MAX(number) FROM decision "
                      "WHERE deployment = $1) AND question = $2 AND action = $3 AND reason = $4",
                      db_text(deployment), db_text(question), db_text(action), db_text(reason),
                      db_text(input), db_text(output));

    if (r == 0 && changed == 0)
        r = DB_EXEC(d, err,
                    "INSERT INTO decision (deployment, question, action, reason, first_at, "
                    "last_at, times, bundle, input, output) "
                    "VALUES ($1, $2, $3, $4, now_ms(), now_ms(), 1, $5, $6, $7)",
                    db_text(deployment), db_text(question), db_text(action), db_text(reason),
                    db_text(bundle), db_text(input), db_text(output));
    return r < 0 ? err_wrap(err, "log a decision") : 0;
}

/* Texts are joined with their lengths, so that no two rows give the same bytes. */
static void chain(char out[HASH_HEX], const char *prev, int64_t seq, int64_t at,
                  const char *const texts[], size_t n)
{
    AUTO_BUF row = BUF_INIT;
    struct hash h;

    buf_printf(&row, "%s %lld %lld", prev, (long long)seq, (long long)at);
    for (size_t i = 0; i < n; i++)
        buf_printf(&row, " %zu:%s", strlen(texts[i]), texts[i]);
    h = sha256_of(row.data, row.len);
    hash_hex(&h, out);
}

static int last_audit(struct db *d, struct buf *hash, int64_t *ret_now, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT hash FROM audit ORDER BY seq DESC LIMIT 1");

    if (r == 0)
        buf_str_append(hash, db_rows_count(rows) == 0 ? "" : db_get_text(rows, 0, 0));
    db_rows_free(rows);
    rows = NULL;
    if (r == 0)
        r = DB_ROWS(d, &rows, err, "SELECT now_ms()");
    if (r == 0)
        *ret_now = db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return r;
}

int audit_add(struct db *d, const char *actor, const char *verb, const char *object,
              const char *reason, const char *outcome, struct err *err)
{
    const char *const texts[] = { actor, verb, object, reason, outcome };
    AUTO_BUF prev = BUF_INIT;
    char hash[HASH_HEX];
    int64_t seq = 0, now = 0;
    int r = counter_next(d, "audit", &seq, err);

    if (r == 0)
        r = last_audit(d, &prev, &now, err);
    if (r == 0) {
        chain(hash, buf_str(&prev), seq, now, texts, COUNT_OF(texts));
        r = DB_EXEC(d, err,
                    "INSERT INTO audit (seq, at, actor, verb, object, reason, outcome, prev, hash) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                    db_int(seq), db_int(now), db_text(actor), db_text(verb), db_text(object),
                    db_text(reason), db_text(outcome), db_text(buf_str(&prev)), db_text(hash));
    }
    return r < 0 ? err_wrap(err, "audit %s", verb) : 0;
}

static int audit_written(struct db *d, int64_t *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT value FROM counter WHERE name = 'audit'");

    *ret = r == 0 && db_rows_count(rows) > 0 ? db_get_int(rows, 0, 0) : 0;
    db_rows_free(rows);
    return r;
}

static int verify_rows(struct db *d, int64_t *ret_count, int64_t *ret_bad, struct err *err)
{
    struct db_rows *rows = NULL;
    AUTO_BUF prev = BUF_INIT;
    char hash[HASH_HEX];
    int r = DB_ROWS(d, &rows, err,
                    "SELECT seq, at, actor, verb, object, reason, outcome, prev, hash FROM audit "
                    "ORDER BY seq");

    *ret_bad = 0;
    for (size_t i = 0; r == 0 && *ret_bad == 0 && i < db_rows_count(rows); i++) {
        const char *texts[5];

        for (int k = 0; k < 5; k++)
            texts[k] = db_get_text(rows, i, 2 + k);
        chain(hash, buf_str(&prev), db_get_int(rows, i, 0), db_get_int(rows, i, 1), texts, 5);
        if (strcmp(hash, db_get_text(rows, i, 8)) != 0 ||
            strcmp(buf_str(&prev), db_get_text(rows, i, 7)) != 0 ||
            db_get_int(rows, i, 0) != (int64_t)i + 1)
            *ret_bad = db_get_int(rows, i, 0);
        buf_reset(&prev);
        buf_str_append(&prev, hash);
    }
    *ret_count = r < 0 ? 0 : (int64_t)db_rows_count(rows);
    db_rows_free(rows);
    return r;
}

int audit_verify(struct db *d, int64_t *ret_bad, struct err *err)
{
    int64_t written = 0, count = 0;
    int r = audit_written(d, &written, err); /* first: rows may be added meanwhile */

    if (r == 0)
        r = verify_rows(d, &count, ret_bad, err);
    if (r == 0 && *ret_bad == 0 && count < written)
        *ret_bad = count + 1; /* the last ones are gone */
    return r;
}
