#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "db/db.h"
#include "db/driver.h"
#include "io/loop.h"

enum { BUSY_TIMEOUT_MS = 10000, WAIT_STEP_MS = 100, WAL_TRIES = 100 };

struct sqlite {
    sqlite3 *handle;
    int64_t seen;   /* data_version when we last looked */
    int64_t now_ms; /* when the running statement began: now_ms() is one instant throughout */
};

static struct sqlite *of(struct db *d)
{
    return d->conn;
}

static enum err_code code_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_AGAIN;
    case SQLITE_CONSTRAINT:
        return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
                       code == SQLITE_CONSTRAINT_FOREIGNKEY || code == SQLITE_CONSTRAINT_ROWID
                   ? ERR_CONFLICT
                   : ERR_INTERNAL;
    case SQLITE_FULL:
        return ERR_NO_SPACE;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return ERR_DENIED;
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_IOERR:
        return ERR_UNREACHABLE;
    case SQLITE_CORRUPT:
        return ERR_CORRUPT;
    default:
        return ERR_INTERNAL;
    }
}

static int fail(struct db *d, struct err *err, const char *what)
{
    sqlite3 *handle = of(d)->handle;

    return err_set(err, code_of(sqlite3_extended_errcode(handle)), "%s: %s: %s", d->url, what,
                   sqlite3_errmsg(handle));
}

static void now_ms(sqlite3_context *context, int nargs, sqlite3_value **args)
{
    const struct sqlite *s = sqlite3_user_data(context);

    (void)nargs;
    (void)args;
    sqlite3_result_int64(context, s->now_ms);
}

static int data_version(struct sqlite *s, int64_t *ret)
{
    sqlite3_stmt *stmt = NULL;
    int ok = sqlite3_prepare_v2(s->handle, "PRAGMA data_version", -1, &stmt, NULL) == SQLITE_OK &&
             sqlite3_step(stmt) == SQLITE_ROW;

    if (ok)
        *ret = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return ok ? 0 : -1;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&t, NULL);
}

/* The change to WAL ignores the busy timeout when several processes open a new file at once. */
static int set_up(struct db *d, struct err *err)
{
    struct sqlite *s = of(d);
    int code;

    sqlite3_extended_result_codes(s->handle, 1);
    sqlite3_busy_timeout(s->handle, BUSY_TIMEOUT_MS);
    for (int i = 0; i < WAL_TRIES; i++) {
        code = sqlite3_exec(s->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if ((code & 0xff) != SQLITE_BUSY)
            break;
        pause_ms(10);
    }
    if (code != SQLITE_OK ||
        sqlite3_exec(s->handle, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", NULL, NULL,
                     NULL) != SQLITE_OK ||
        sqlite3_create_function(s->handle, "now_ms", 0, SQLITE_UTF8, s, now_ms, NULL, NULL) !=
            SQLITE_OK ||
        data_version(s, &s->seen) < 0)
        return fail(d, err, "open");
    return 0;
}

static void sqlite_close(struct db *d)
{
    sqlite3_close_v2(of(d)->handle); /* waits for statements that are forgotten later */
    free(d->conn);
    d->conn = NULL;
}

static int sqlite_open(struct db *d, struct err *err)
{
    const char *path = d->url + strlen("sqlite:");
    struct sqlite *s = mem_alloc(sizeof(*s));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int r = 0;

    d->conn = s;
    if (path[0] == '\0')
        r = err_set(err, ERR_INVALID, "sqlite: names no file");
    else if (sqlite3_open_v2(path, &s->handle, flags, NULL) != SQLITE_OK)
        r = s->handle == NULL ? err_set(err, ERR_INTERNAL, "%s: out of memory", d->url)
                              : fail(d, err, "open");
    if (r == 0)
        r = set_up(d, err);
    if (r < 0)
        sqlite_close(d);
    return r;
}

static bool sqlite_alive(struct db *d)
{
    (void)d;
    return true;
}

static void sqlite_forget(struct db *d, struct db_statement *s)
{
    (void)d;
    sqlite3_finalize(s->handle);
    s->handle = NULL;
}

/* $2 is a name to SQLite, numbered by first appearance: bind by what the name says. */
static int bind_params(struct db *d, sqlite3_stmt *stmt, const struct db_value *params,
                       size_t nparams, struct err *err)
{
    int count = sqlite3_bind_parameter_count(stmt);

    for (int i = 1; i <= count; i++) {
        const char *name = sqlite3_bind_parameter_name(stmt, i);
        size_t n = name == NULL ? 0 : strtoul(name + 1, NULL, 10);
        const struct db_value *v;
        int code;

        if (n == 0 || n > nparams)
            return err_set(err, ERR_INTERNAL, "statement has %s, but %zu parameters were given",
                           name == NULL ? "?" : name, nparams);
        v = &params[n - 1];
        if (v->kind == DB_INT)
            code = sqlite3_bind_int64(stmt, i, v->i);
        else if (v->data == NULL)
            code = sqlite3_bind_null(stmt, i);
        else if (v->kind == DB_TEXT)
            code = sqlite3_bind_text64(stmt, i, v->data, v->len, SQLITE_STATIC, SQLITE_UTF8);
        else
            code = sqlite3_bind_blob64(stmt, i, v->data, v->len, SQLITE_STATIC);
        if (code != SQLITE_OK)
            return fail(d, err, "bind");
    }
    return 0;
}

static void add_cell(struct db_rows *rows, sqlite3_stmt *stmt, int col)
{
    const void *data = NULL;

    switch (sqlite3_column_type(stmt, col)) {
    case SQLITE_NULL:
        db_rows_add(rows, DB_NULL, 0, NULL, 0);
        break;
    case SQLITE_BLOB:
        data = sqlite3_column_blob(stmt, col);
        db_rows_add(rows, DB_BLOB, 0, data, (size_t)sqlite3_column_bytes(stmt, col));
        break;
    case SQLITE_INTEGER: {
        int64_t i = sqlite3_column_int64(stmt, col);

        data = sqlite3_column_text(stmt, col);
        db_rows_add(rows, DB_INT, i, data, (size_t)sqlite3_column_bytes(stmt, col));
        break;
    }
    default:
        data = sqlite3_column_text(stmt, col);
        db_rows_add(rows, DB_TEXT, 0, data, (size_t)sqlite3_column_bytes(stmt, col));
    }
}

/* A row of RETURNING is visible before its statement has committed: all steps run before the caller
 * sees any. */
static int collect(struct db *d, sqlite3_stmt *stmt, struct db_rows *rows, struct err *err)
{
    int code;

    rows->cols = sqlite3_column_count(stmt);
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (db_rows_count(rows) >= DB_ROWS_MAX)
            return err_set(err, ERR_LIMIT, "answer has more than %d rows", DB_ROWS_MAX);
        for (int col = 0; col < rows->cols; col++)
            add_cell(rows, stmt, col);
    }
    if (code != SQLITE_DONE)
        return fail(d, err, "query");
    return 0;
}

static int sqlite_run(struct db *d, struct db_statement *s, const struct db_value *params,
                      size_t nparams, struct db_rows *rows, int64_t *changed, struct err *err)
{
    struct sqlite *lite = of(d);
    sqlite3 *handle = lite->handle;
    sqlite3_stmt *stmt = s->handle;
    int64_t before = sqlite3_total_changes64(handle);
    int r;

    if (stmt == NULL) {
        if (sqlite3_prepare_v3(handle, s->sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
            SQLITE_OK)
            return fail(d, err, s->sql);
        s->handle = stmt;
    }
    lite->now_ms = wall_ms();
    r = bind_params(d, stmt, params, nparams, err);
    if (r == 0)
        r = collect(d, stmt, rows, err);
    if (sqlite3_reset(stmt) != SQLITE_OK && r == 0)
        r = fail(d, err, "query");
    sqlite3_clear_bindings(stmt);
    *changed = sqlite3_total_changes64(handle) - before;
    return r;
}

static int sqlite_script(struct db *d, const char *sql, struct err *err)
{
    of(d)->now_ms = wall_ms();
    if (sqlite3_exec(of(d)->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(d, err, strlen(sql) < 80 ? sql : "script");
    return 0;
}

static void sqlite_notify(struct db *d, const char *channel)
{
    (void)d; /* the data version of the file is the hint */
    (void)channel;
}

static bool sqlite_wait(struct db *d, const char *channel, int64_t max_ms)
{
    struct sqlite *s = of(d);

    (void)channel;
    for (int64_t left = max_ms;; left -= WAIT_STEP_MS) {
        int64_t version = s->seen;

        if (data_version(s, &version) == 0 && version != s->seen) {
            s->seen = version;
            return true;
        }
        if (left <= 0)
            return false;
        pause_ms(left < WAIT_STEP_MS ? left : WAIT_STEP_MS);
    }
}

const struct db_driver db_sqlite = {
    .sqlite = true,
    .open = sqlite_open,
    .close = sqlite_close,
    .alive = sqlite_alive,
    .run = sqlite_run,
    .forget = sqlite_forget,
    .script = sqlite_script,
    .notify = sqlite_notify,
    .wait = sqlite_wait,
};
