/* link_side.h - the control plane's end of the links to region nodes.
 *
 * Owned by the loop thread; all SQL runs in a work pool, one round of the mailbox at a time:
 *
 *     what regions said (counts, replicas, answers)  -> rows      \  one round, again when poked
 *     rows that are new (goals, relays, questions)   -> messages  /  or after LINK_SIDE_POLL_MS
 *
 * A region node that connects is told the trust document and then everything that concerns it:
 * what to replicate, the plans, and each service's release documents and goal, in this order. All
 * of it is idempotent. What a full link refuses is sent again later, from the row. Counts are kept
 * as one row a deployment and region, overwritten. */
#ifndef CONTROL_LINK_SIDE_H
#define CONTROL_LINK_SIDE_H

#include "control/db_pool.h"
#include "control/keys.h"
#include "control/wake.h"
#include "io/link.h"
#include "io/work.h"

enum {
    LINK_SIDE_POLL_MS = 100,
    LINK_SIDE_ALIVE_MS = 2000, /* a region's row is renewed so often */
    LINK_SIDE_REGIONS_MAX = 64,
    LINK_SIDE_SAID_MAX = 65536, /* things said by regions that wait to be written */
};

struct link_side;

struct link_side_options {
    struct loop *loop;
    struct work_pool *pool;
    struct db_pool *db;
    struct wake *wake; /* its hook becomes ours */
    const struct keys *keys;
    struct link_identity *identity;
    const char *listen; /* "127.0.0.1:0" */
    const char *holder; /* our name in region rows */
};

MUST_CHECK int link_side_start(struct link_side **ret, const struct link_side_options *o,
                               struct err *err);
int link_side_port(const struct link_side *s);
/* Closes the links and marks the regions as gone; done(arg) fires on the loop when that is written. */
void link_side_stop(struct link_side *s, void (*done)(void *arg), void *arg);
void link_side_free(struct link_side *s); /* after done, and after the loop has ended */

#endif
