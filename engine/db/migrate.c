#include <stdlib.h>
#include <string.h>

#include "base/embedded.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"
#include "db/driver.h"

/* Files engine/db/migrations/NNN_name.sql run in the order of their numbers, all in one
 * transaction. On PostgreSQL an advisory lock of that transaction keeps a second process out; on
 * SQLite BEGIN IMMEDIATE does. */

static const char folder[] = "engine/db/migrations/";

enum { MIGRATION_LOCK = 0x51199A7 }; /* any number that nobody else uses in this database */

static int version_of(const struct embedded *file)
{
    if (strncmp(file->path, folder, sizeof(folder) - 1) != 0)
        return 0;
    return (int)strtol(file->path + sizeof(folder) - 1, NULL, 10);
}

static int newest(void)
{
    int version = 0;

    for (const struct embedded *f = embedded_files; f->path != NULL; f++) {
        if (version_of(f) > version)
            version = version_of(f);
    }
    return version;
}

static int read_version(struct db *d, int *ret, struct err *err)
{
    struct db_rows *rows;
    int r = DB_ROWS(d, &rows, err, "SELECT COALESCE(MAX(version), 0) FROM schema_version");

    if (r < 0)
        return r;
    *ret = (int)db_get_int(rows, 0, 0);
    db_rows_free(rows);
    return 0;
}

static int apply(struct db *d, const struct embedded *file, struct err *err)
{
    AUTO_FREE char *source = mem_strndup((const char *)file->data, file->len);
    AUTO_BUF sql = BUF_INIT;
    int r = db_expand(&sql, source, d->driver->sqlite, err);

    if (r == 0)
        r = d->driver->script(d, buf_str(&sql), err);
    if (r == 0)
        r = DB_EXEC(d, err, "INSERT INTO schema_version (version, name) VALUES ($1, $2)",
                    db_int(version_of(file)), db_text(file->path + sizeof(folder) - 1));
    if (r < 0)
        return err_wrap(err, "%s", file->path);
    return 0;
}

static int take_lock(struct db *d, struct err *err)
{
    if (d->driver->sqlite)
        return 0;
    return DB_EXEC(d, err, "SELECT pg_advisory_xact_lock($1)", db_int(MIGRATION_LOCK));
}

static int migrate(struct db *d, void *arg, struct err *err)
{
    int version = 0;
    int r = take_lock(d, err);

    (void)arg;
    if (r == 0)
        r = d->driver->script(d,
                              "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL "
                              "PRIMARY KEY, name TEXT NOT NULL)",
                              err);
    if (r == 0)
        r = read_version(d, &version, err);
    if (r < 0)
        return r;
    if (version > newest())
        return err_set(err, ERR_INVALID,
                       "the database has schema version %d, this program knows up to %d: it was "
                       "made by a newer one",
                       version, newest());
    for (const struct embedded *f = embedded_files; f->path != NULL && r == 0; f++) {
        if (version_of(f) > version)
            r = apply(d, f, err);
    }
    return r;
}

int db_migrate(struct db *d, struct err *err)
{
    int r = db_transaction(d, migrate, NULL, err);

    return r < 0 ? err_wrap(err, "migrate the database") : 0;
}
