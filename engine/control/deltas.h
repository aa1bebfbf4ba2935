/* deltas.h - delta packs beside a deployment: made by any worker, as jobs of their own that let builds
 * go first, verified here, and then told to the regions by the deployment.
 *
 * Which ones are wanted, and when, is rollout/deploy_delta.c's to say. A row of the table stands for
 * each pair of artifacts: "making" as long as its job lives, then "ready", or "none" with the reason.
 * A job that fails, or whose worker dies too often, ends as "none"; no deployment ever fails by it. */
#ifndef CONTROL_DELTAS_H
#define CONTROL_DELTAS_H

#include "control/record.h"
#include "control/verify.h"

enum {
    DELTAS_JOB_S = 3600,
    DELTAS_TEND_MAX = 64,
    DELTAS_FIRST = 1, /* priorities of jobs: the first base of an artifact, */
    DELTAS_LATE = 2,  /* and the others */
};

/* Enqueues what a step wants. Inside of its transaction. */
MUST_CHECK int deltas_want(struct db *d, const struct deploy *deploy,
                           const struct deploy_want *wants, size_t n, struct err *err);

/* Cancels the jobs of the deployment's deltas, unless another live deployment has the same artifact. */
MUST_CHECK int deltas_drop(struct db *d, const struct deploy *deploy, struct err *err);

/* Reads what there is for the deployment's artifacts into w. */
MUST_CHECK int deltas_load(struct db *d, struct world *w, const struct deploy *deploy,
                           struct err *err);

/* Looks after jobs that have ended: verifies their packs. *ret_moved: a delta is ready, or none. */
MUST_CHECK int deltas_tend(struct db *d, struct verifier *v, int64_t now_ms, bool *ret_moved,
                           struct err *err);

#endif
