/* swarm_json.h - the figures of a deployment's swarm as JSON: in a row, and for people.
 *
 * A region's COUNTS are kept as a row each (control/mailbox.h), replaced by the next; what is told to people
 * is made of the rows anew each time. What the figures mean: swarm/figures.h. */
#ifndef ROLLOUT_SWARM_JSON_H
#define ROLLOUT_SWARM_JSON_H

#include "swarm/figures.h"
#include "wire/json.h"

#define SWARM_NUMBER_MAX (INT64_C(1) << 50) /* what is told above is cut, so that sums stay sums */

/* A row; new. */
json_t *swarm_to_row(const struct msg_swarm *m);
/* And back, as far as it is one; NULL is nothing. Its lists are released with swarm_release(). */
void swarm_from_row(struct msg_swarm *ret, const json_t *row);
void swarm_release(struct msg_swarm *m);

/* One region's, or several regions' together, for people (README.md, the API's "swarm"); new. null if no
 * machine has told anything and nothing was sent. */
struct swarm_region {
    const char *name;
    const json_t *row;
};
json_t *swarm_view(const struct swarm_region *regions, size_t n);

#endif
