/* deltas.h - delta packs beside a deployment: wanted when its release is signed, made by any worker
 * as a job of its own, verified here, and then told to the regions by the deployment.
 *
 * The base is the service's last good release, which most machines run. Nothing waits for a delta
 * for longer than rollout/deploy_delta.c says; one that cannot be made is "none", with the reason. */
#ifndef CONTROL_DELTAS_H
#define CONTROL_DELTAS_H

#include "control/record.h"
#include "control/verify.h"

enum { DELTAS_JOB_S = 3600, DELTAS_TEND_MAX = 64 };

/* Enqueues what is missing of a deployment's deltas. Inside its transaction. */
MUST_CHECK int deltas_want(struct db *d, const struct deploy *deploy, struct err *err);

/* Reads what there is for the deployment's artifacts into w. */
MUST_CHECK int deltas_load(struct db *d, struct world *w, const struct deploy *deploy,
                           struct err *err);

/* Looks after jobs that have ended: verifies their packs. *ret_moved: a delta is ready, or none. */
MUST_CHECK int deltas_tend(struct db *d, struct verifier *v, int64_t now_ms, bool *ret_moved,
                           struct err *err);

#endif
