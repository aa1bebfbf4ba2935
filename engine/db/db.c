#include "db/db.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "db/driver.h"
#include "io/loop.h"

enum { TRANSACTION_TRIES = 10, BACKOFF_MIN_MS = 5, BACKOFF_MAX_MS = 1000 };

int db_open(struct db **ret, const char *url, struct err *err)
{
    struct db *d;
    int r;

    *ret = NULL;
    if (url == NULL || url[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "no database is named: use sqlite:PATH or postgres://HOST/NAME");
    d = mem_alloc(sizeof(*d));
    d->driver = strncmp(url, "sqlite:", 7) == 0 ? &db_sqlite : &db_postgres;
    if (d->driver == &db_postgres && strncmp(url, "postgres://", 11) != 0 &&
        strncmp(url, "postgresql://", 13) != 0 &&
        (strstr(url, "://") != NULL || strchr(url, '=') == NULL)) {
        free(d);
        return err_set(err, ERR_INVALID,
                       "'%s' names no database: use sqlite:PATH or postgres://HOST/NAME", url);
    }
    d->url = mem_strdup(url);
    r = d->driver->open(d, err);
    if (r < 0) {
        db_close(d);
        return r;
    }
    *ret = d;
    return 0;
}

static void forget_statements(struct db *d, bool free_them)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&d->statements, &i)) != NULL;) {
        struct db_statement *s = e->value;

        if (s->handle != NULL)
            d->driver->forget(d, s);
        s->handle = NULL;
        if (free_them) {
            free(s->sql);
            free(s);
        }
    }
    if (free_them)
        map_release(&d->statements);
}

void db_close(struct db *d)
{
    if (d == NULL)
        return;
    if (d->conn != NULL)
        d->driver->close(d);
    forget_statements(d, true);
    free(d->url);
    free(d);
}

bool db_is_sqlite(const struct db *d)
{
    return d->driver->sqlite;
}

/* Prepared statements die with their connection. */
static void drop_connection(struct db *d)
{
    if (d->conn != NULL)
        d->driver->close(d);
    forget_statements(d, false);
}

static int make_usable(struct db *d, struct err *err)
{
    if (d->in_transaction) {
        if (d->lost)
            return err_set(err, ERR_UNREACHABLE, "the connection broke in this transaction");
        return 0;
    }
    if (d->conn != NULL && d->driver->alive(d))
        return 0;
    drop_connection(d);
    return d->driver->open(d, err);
}

/* A broken connection must not be used again; its number of retries is the caller's business. */
static int note_outcome(struct db *d, int r)
{
    if (r != -(int)ERR_UNREACHABLE)
        return r;
    if (d->in_transaction)
        d->lost = true;
    else
        drop_connection(d);
    return r;
}

/* The cache is keyed by text and parameter kinds, since PostgreSQL fixes types when it prepares. */
static int find_statement(struct db *d, const char *sql, const struct db_value *params,
                          size_t nparams, struct db_statement **ret, bool *ret_cached,
                          struct err *err)
{
    AUTO_BUF key = BUF_INIT;
    AUTO_BUF text = BUF_INIT;
    struct db_statement *s;

    if (nparams > DB_PARAMS_MAX)
        return err_set(err, ERR_INTERNAL, "%zu parameters, at most %d are possible", nparams,
                       DB_PARAMS_MAX);
    for (size_t i = 0; i < nparams; i++)
        buf_char(&key, (char)('0' + (int)params[i].kind));
    buf_printf(&key, ":%s", sql);
    s = map_get(&d->statements, key.data);
    *ret_cached = true;
    if (s == NULL) {
        int r = db_expand(&text, sql, d->driver->sqlite, err);

        if (r < 0)
            return r;
        s = mem_alloc(sizeof(*s));
        s->sql = buf_steal(&text);
        s->number = ++d->next_number;
        *ret_cached = d->statements.count < DB_STATEMENTS_MAX;
        if (*ret_cached)
            map_put(&d->statements, key.data, s);
    }
    *ret = s;
    return 0;
}

int db_query(struct db *d, const char *sql, const struct db_value *params, size_t nparams,
             struct db_rows **ret_rows, int64_t *ret_changed, struct err *err)
{
    struct db_rows *rows = mem_alloc(sizeof(*rows));
    struct db_statement *s = NULL;
    bool cached = true;
    int64_t changed = 0;
    int r = make_usable(d, err);

    if (r == 0)
        r = find_statement(d, sql, params, nparams, &s, &cached, err);
    if (r == 0)
        r = note_outcome(d, d->driver->run(d, s, params, nparams, rows, &changed, err));
    if (!cached) {
        if (s->handle != NULL)
            d->driver->forget(d, s);
        free(s->sql);
        free(s);
    }
    if (ret_changed != NULL)
        *ret_changed = r == 0 ? changed : 0;
    if (r == 0 && ret_rows != NULL) {
        *ret_rows = rows;
        return 0;
    }
    if (ret_rows != NULL)
        *ret_rows = NULL;
    db_rows_free(rows);
    return r;
}

static void wait_with_jitter(int tries)
{
    int64_t most = BACKOFF_MIN_MS;
    uint32_t random = 0;
    struct timespec t;

    while (tries-- > 0 && most < BACKOFF_MAX_MS)
        most *= 2;
    random_bytes(&random, sizeof(random));
    most = 1 + (int64_t)(random % (uint32_t)most);
    t.tv_sec = most / 1000;
    t.tv_nsec = most % 1000 * 1000000;
    nanosleep(&t, NULL);
}

static int begin(struct db *d, struct err *err)
{
    int r = make_usable(d, err);

    if (r < 0)
        return r;
    r = note_outcome(d, d->driver->script(d, d->driver->sqlite ? "BEGIN IMMEDIATE" : "BEGIN", err));
    if (r == 0)
        d->in_transaction = true;
    return r;
}

static void leave(struct db *d)
{
    d->in_transaction = false;
    if (d->lost)
        drop_connection(d);
    d->lost = false;
}

static int commit(struct db *d, struct err *err)
{
    int r = d->driver->script(d, "COMMIT", err);

    if (r == -(int)ERR_UNREACHABLE)
        d->lost = true;
    else if (r < 0 && d->driver->sqlite)
        (void)d->driver->script(d, "ROLLBACK", NULL); /* PostgreSQL has ended it by itself */
    leave(d);
    return r;
}

static void rollback(struct db *d)
{
    if (!d->lost && d->driver->script(d, "ROLLBACK", NULL) == -(int)ERR_UNREACHABLE)
        d->lost = true;
    leave(d);
}

int db_transaction(struct db *d, db_body *body, void *arg, struct err *err)
{
    struct err unused = ERR_INIT;
    int r = 0;

    if (err == NULL)
        err = &unused;
    if (d->in_transaction)
        return err_set(err, ERR_INTERNAL, "a transaction inside a transaction");
    for (int tries = 0; tries < TRANSACTION_TRIES; tries++) {
        if (tries > 0)
            wait_with_jitter(tries);
        r = begin(d, err);
        if (r == 0) {
            r = body(d, arg, err);
            if (r == 0)
                r = commit(d, err);
            else
                rollback(d);
        }
        if (r != -(int)ERR_AGAIN)
            break;
    }
    return r;
}

void db_notify(struct db *d, const char *channel)
{
    if (d->conn != NULL && !d->lost)
        d->driver->notify(d, channel);
}

bool db_wait(struct db *d, const char *channel, int64_t max_ms)
{
    struct err err = ERR_INIT;
    struct timespec t = { max_ms / 1000, max_ms % 1000 * 1000000 };

    if (!d->in_transaction && make_usable(d, &err) == 0)
        return d->driver->wait(d, channel, max_ms);
    nanosleep(&t, NULL);
    return false;
}
