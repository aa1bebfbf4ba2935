/* swarm_totals.h - the figures of all deployments' swarms, as counters for GET /metrics.
 *
 * What a deployment's regions have told (swarm/figures.h) is added to the rows of table `total` once, when it
 * ends; until then it is read from its regions' counts. So the counters go on after a restart, and
 * count nothing twice. */
#ifndef CONTROL_SWARM_TOTALS_H
#define CONTROL_SWARM_TOTALS_H

#include "control/record.h"

enum { SWARM_TOTALS = 35 };

struct swarm_totals {
    int64_t n[SWARM_TOTALS];
};

void swarm_totals_add(struct swarm_totals *t, const struct world *w, const struct deploy *d);

/* In the deployment's last transaction. */
MUST_CHECK int swarm_totals_save(struct db *d, const struct swarm_totals *t, struct err *err);
/* Adds what was saved. */
MUST_CHECK int swarm_totals_load(struct db *d, struct swarm_totals *t, struct err *err);

/* Appends the families in Prometheus' text format. */
void swarm_totals_print(struct buf *out, const struct swarm_totals *t);

#endif
