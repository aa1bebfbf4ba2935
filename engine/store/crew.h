/* crew.h - threads for delta/search.h: as many as the pool has workers, for the time of one call.
 *
 *     struct delta_pool pool = { 4, crew_each, &pool };
 *
 * A thread that cannot be started is done without. */
#ifndef STORE_CREW_H
#define STORE_CREW_H

#include "delta/search.h"

enum { CREW_MAX = 64 };

/* pool: the struct delta_pool itself, of 1 to CREW_MAX workers. */
void crew_each(void *pool, size_t n, void (*job)(void *arg, size_t i, unsigned worker), void *arg);

#endif
