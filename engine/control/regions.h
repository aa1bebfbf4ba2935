/* regions.h - which releases a region's machines run, and regions that are gone for good.
 *
 * A region node tells, service by service, how many of its machines run which release (RUNS); that
 * replaces what it told before. But one that has begun anew, or another node that took over with less,
 * only knows the machines that have come to it since: that it tells of fewer does not mean that
 * nobody runs the rest. So what it told before is kept beside it (table running_before) until it tells
 * of as many machines again, or for REGION_LOST_MS; garbage collection goes by both (reach.h).
 *
 * A region that is gone keeps what it ran for ever, and its replication gates wait for it, until
 * somebody says that it will not come back: region_forget(). If it does after all, it is a new region,
 * and gets the goals of that time (a generation is a time, so its machines obey them). */
#ifndef CONTROL_REGIONS_H
#define CONTROL_REGIONS_H

#include "db/db.h"
#include "wire/json.h"

#define REGION_LOST_MS (INT64_C(7) * 86400 * 1000)

/* releases: [[HASH, machines]…]. Inside of a transaction. */
MUST_CHECK int region_runs(struct db *d, const char *region, const char *service,
                           const json_t *releases, int64_t now_ms, struct err *err);

/* Takes away all that is known of it: machines, goals, replicas. One transaction, logged for audit.
 * -ERR_NOT_FOUND; -ERR_CONFLICT: it is connected. */
MUST_CHECK int region_forget(struct db *d, const char *name, const char *actor, const char *reason,
                             int64_t now_ms, struct err *err);

#endif
