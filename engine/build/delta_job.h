/* delta_job.h - a job that makes a delta pack between two artifacts that are in the store already.
 *
 * Its spec:
 *   {"v":1,"delta":{"variant","base":HASH,"base_pack":HASH,"target":HASH,"target_pack":HASH},
 *    "deadline":s}                                       (the packs are the full ones)
 * and its result:
 *   {"v":1,"delta":{"pack":HASH or null,"pack_bytes":n,"full_bytes":n,"why":TEXT,
 *    "packed":[{"path","bytes","kind"}…],"npacked":n,"packed_bytes":n},"seconds":x}
 * pack null: it was dropped, and why says why. packed: changed files that are compressed already, the
 * largest first, of npacked with packed_bytes in all. */
#ifndef BUILD_DELTA_JOB_H
#define BUILD_DELTA_JOB_H

#include "build/courier.h"
#include "build/lease.h"
#include "store/store.h"

bool delta_job_is(const char *spec);

/* Gives *ret_result. -ERR_BUILD: the spec is not one, or an artifact cannot be used; what
 * lease_check() says; anything else: try again. Blocks. */
MUST_CHECK int delta_job_run(struct store *s, const char *spec, struct lease *lease,
                             struct courier *courier, char **ret_result, struct err *err);

#endif
