/* database.h - a fresh database for a test: a SQLite file, or a schema of its own in the PostgreSQL
 * that ENGINE_TEST_PG (a postgres:// URL) names.
 *
 *     struct test_database t;
 *     if (!test_database_init(&t, TEST_POSTGRES)) skip();
 *     ... db_open(&d, t.url, &err) ...
 *     test_database_release(&t);
 *
 * Failing to make one ends the test program. */
#ifndef TESTS_LIB_DATABASE_H
#define TESTS_LIB_DATABASE_H

#include <stdbool.h>

#include "db/db.h"

enum test_backend { TEST_NO_BACKEND = 0, TEST_SQLITE, TEST_POSTGRES };

struct test_database {
    char *url;    /* for db_open(); another connection may be opened at any time */
    char *folder; /* of the SQLite file; NULL: PostgreSQL */
    char *schema;
};

/* False: there is no such server here (ENGINE_TEST_PG is not set). The schema is not migrated. */
bool test_database_init(struct test_database *t, enum test_backend backend);
void test_database_release(struct test_database *t);

/* Opens t, or fails the test program. */
struct db *test_database_open(const struct test_database *t);

#endif
