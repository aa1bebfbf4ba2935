/* driver.h - inside db/: what PostgreSQL and SQLite each answer for the port in db.h.
 *
 * db.c owns the statement texts, the cache and transactions; a driver owns its connection. A driver
 * fills the struct err with a code as listed in db.h. */
#ifndef DB_DRIVER_H
#define DB_DRIVER_H

#include "base/buf.h"
#include "base/map.h"
#include "db/db.h"

enum { DB_STATEMENTS_MAX = 256, DB_PARAMS_MAX = 64 };

/* One statement text, prepared on the current connection. */
struct db_statement {
    char *sql;    /* expanded for this database */
    void *handle; /* the driver's; NULL: not prepared on this connection yet */
    int number;   /* unique within the connection's life */
};

struct db_driver {
    bool sqlite;
    /* Connects, or connects again. */
    int (*open)(struct db *d, struct err *err);
    void (*close)(struct db *d);
    /* Is the connection usable? Outside a transaction only; false makes db.c open it again. */
    bool (*alive)(struct db *d);
    int (*run)(struct db *d, struct db_statement *s, const struct db_value *params, size_t nparams,
               struct db_rows *rows, int64_t *changed, struct err *err);
    /* Frees s->handle; may come after close(). */
    void (*forget)(struct db *d, struct db_statement *s);
    /* Several statements without parameters. */
    int (*script)(struct db *d, const char *sql, struct err *err);
    void (*notify)(struct db *d, const char *channel);
    bool (*wait)(struct db *d, const char *channel, int64_t max_ms);
};

extern const struct db_driver db_sqlite, db_postgres;

struct db {
    const struct db_driver *driver;
    char *url;
    void *conn; /* the driver's; NULL: not connected */
    struct map statements;
    int next_number;
    bool in_transaction;
    bool lost; /* the connection broke inside the transaction */
};

/* Text of one statement for this database: the tokens of db.h replaced. -ERR_INTERNAL for an
 * unknown token. */
MUST_CHECK int db_expand(struct buf *out, const char *sql, bool sqlite, struct err *err);

/* Filling an answer, cell by cell, row by row. Each cell keeps a text form as well. */
struct db_cell {
    enum db_kind kind;
    int64_t i;
    size_t offset, len; /* of the bytes in db_rows.bytes, a NUL behind them */
};

struct db_rows {
    struct db_cell *cells;
    size_t ncells, cells_cap;
    int cols;
    struct buf bytes;
};

void db_rows_add(struct db_rows *r, enum db_kind kind, int64_t i, const void *data, size_t len);

#endif
