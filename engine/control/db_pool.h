/* db_pool.h - database connections of a process, lent to one thread at a time. */
#ifndef CONTROL_DB_POOL_H
#define CONTROL_DB_POOL_H

#include "db/db.h"

struct db_pool;

struct db_pool *db_pool_new(const char *url);
void db_pool_free(struct db_pool *p); /* all are back; NULL is fine */

/* Opens one when none is free: there are as many as threads that hold one at once. */
MUST_CHECK int db_pool_take(struct db_pool *p, struct db **ret, struct err *err);
void db_pool_give(struct db_pool *p, struct db *d); /* NULL is fine */

#endif
