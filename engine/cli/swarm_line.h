/* swarm_line.h - how well a deployment's swarm did, in one line for people. */
#ifndef CLI_SWARM_LINE_H
#define CLI_SWARM_LINE_H

#include <jansson.h>

#include "base/buf.h"

/* "p50 1.04, p99 1.10, max 1.31 x size/rate by limit; 2.1 copies from seeds; 6 % between racks; 12 leaves
 * stolen; 3 of 120 peers stale; 1 machine banned". Nothing if there are no figures (JSON null). */
void swarm_line(struct buf *out, const json_t *swarm);

#endif
