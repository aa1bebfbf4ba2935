/* bases.h - the artifacts that a service's deltas could be made from: those of the releases that
 * machines run, as the region nodes say (RUNS), and of the last good release. */
#ifndef CONTROL_BASES_H
#define CONTROL_BASES_H

#include "control/record.h"

enum { BASES_RELEASES = 32 }; /* looked at, those that most machines run */

/* Reads them into w->in.bases, as rollout/deploy.h orders them, unless the deployment cannot use
 * them. An artifact that was collected is none. */
MUST_CHECK int bases_load(struct db *d, struct world *w, const struct deploy *deploy,
                          struct err *err);

#endif
