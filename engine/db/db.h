/* db.h - one small port over PostgreSQL (libpq) and SQLite: open, query, return.
 *
 * One text of SQL runs on both. What differs is hidden here:
 *   - parameters are $1, $2, … on both;
 *   - now_ms() is the database's clock, ms since 1970, in any expression; all times are BIGINT ms;
 *   - {{lock}} becomes FOR UPDATE SKIP LOCKED, or nothing on SQLite; {{id}} in DDL becomes the type
 * of an auto-numbered primary key, {{blob}} that of bytes; {{pg:…}} and {{sqlite:…}} are kept on
 * that database only;
 *   - writes use no table alias; no data-modifying CTE; no ::type, arrays, ILIKE; booleans are 0/1.
 *
 * A struct db is one connection, used by one thread at a time; calls block. A lost connection is
 * opened again by the next call outside a transaction (PostgreSQL: multi-host strings with
 * target_session_attrs=read-write are respected, and read-only servers count as lost).
 *
 * Errors: -ERR_UNREACHABLE no connection, or lost (the outcome of a write is then unknown:
 * re-check); -ERR_AGAIN busy or serialization failure: run the transaction again; -ERR_CONFLICT
 * unique or foreign key violation; -ERR_DENIED no permission; -ERR_NO_SPACE; -ERR_INTERNAL wrong
 * SQL. */
#ifndef DB_DB_H
#define DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct db;

/* url: "sqlite:PATH" (made if missing, WAL, synchronous=FULL), or "postgres://…", "postgresql://…"
 * or a libpq key=value string; PG* variables fill what it leaves out. Opens and checks the
 * connection. */
MUST_CHECK int db_open(struct db **ret, const char *url, struct err *err);
void db_close(struct db *d); /* NULL is fine */
bool db_is_sqlite(const struct db *d);

/* Brings the schema to this program's version, under a lock; -ERR_INVALID if the database is newer.
 */
MUST_CHECK int db_migrate(struct db *d, struct err *err);

enum db_kind { DB_NULL = 0, DB_INT, DB_TEXT, DB_BLOB };

struct db_value {
    enum db_kind kind;
    int64_t i;
    const void *data; /* text or blob; borrowed for the call */
    size_t len;
};

struct db_value db_int(int64_t i);
struct db_value db_text(const char *s); /* NULL: SQL NULL */
struct db_value db_blob(const void *data, size_t len);
struct db_value db_null(void);

/* Rows of an answer, all in memory (DB_ROWS_MAX). */
struct db_rows;
enum { DB_ROWS_MAX = 1000000 };

/* Runs one statement with its parameters. ret_rows may be NULL. *ret_changed (may be NULL): rows
 * written. */
MUST_CHECK int db_query(struct db *d, const char *sql, const struct db_value *params,
                        size_t nparams, struct db_rows **ret_rows, int64_t *ret_changed,
                        struct err *err);

/* DB_EXEC(d, err, "UPDATE … WHERE id = $1", db_int(id)); DB_ROWS(d, &rows, err, sql, …) likewise;
 * DB_CHANGE(d, &changed, err, sql, …). */
#define DB_EXEC(d, err, ...) db_query((d), DB_CALL_(__VA_ARGS__), NULL, NULL, (err))
#define DB_CHANGE(d, changed, err, ...) db_query((d), DB_CALL_(__VA_ARGS__), NULL, (changed), (err))
#define DB_ROWS(d, rows, err, ...) db_query((d), DB_CALL_(__VA_ARGS__), (rows), NULL, (err))

/* Text, parameters and their number out of (sql, parameter…); one NULL too many keeps lists from
 * being empty. */
#define DB_CALL_(...) DB_SQL_(__VA_ARGS__, 0), DB_PARAMS_(__VA_ARGS__, db_null())
#define DB_SQL_(sql, ...) sql
#define DB_PARAMS_(sql, ...)                  \
    (const struct db_value[]){ __VA_ARGS__ }, \
        sizeof((const struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value) - 1

size_t db_rows_count(const struct db_rows *r);
bool db_is_null(const struct db_rows *r, size_t row, int col);
int64_t db_get_int(const struct db_rows *r, size_t row, int col);      /* NULL: 0 */
const char *db_get_text(const struct db_rows *r, size_t row, int col); /* NULL: ""; borrowed */
const void *db_get_blob(const struct db_rows *r, size_t row, int col, size_t *ret_len);
void db_rows_free(struct db_rows *r); /* NULL is fine */

/* Runs body inside a transaction and commits; on -ERR_AGAIN (also of the commit) rolls back, waits
 * with jitter and runs it again, at most 10 times. Any other failure of body rolls back and is
 * returned. */
typedef int db_body(struct db *d, void *arg, struct err *err);
MUST_CHECK int db_transaction(struct db *d, db_body *body, void *arg, struct err *err);

/* Hints that something changed: NOTIFY on PostgreSQL, the data version on SQLite. Polling is the
 * truth: a waiter may miss a hint. db_wait() returns true early when one came, else false after at
 * most max_ms. On SQLite it looks every 100 ms at most. Uses the connection: not inside a
 * transaction. */
void db_notify(struct db *d, const char *channel);
bool db_wait(struct db *d, const char *channel, int64_t max_ms);

#endif
