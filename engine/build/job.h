/* job.h - inside build/: one claimed job, from the claim to its outcome in the database. */
#ifndef BUILD_JOB_H
#define BUILD_JOB_H

#include <stdatomic.h>

#include "build/build.h"
#include "queue/queue.h"

struct job_site {
    struct store *store;
    struct sandbox sandbox;
    char *no_sandbox; /* why builds cannot be isolated here; NULL: they can */
    char *mirrors, *builds;
    const char *db_url;
    int64_t beat_ms, lost_ms;
};

/* claimed_ms: monotonic_ms() before the claim was sent. Returns when the job is finished, given
 * back, or no longer ours; trouble is logged. */
void job_build(const struct job_site *site, struct db *d, const struct job *job, int64_t claimed_ms,
               atomic_bool *stopping);

#endif
